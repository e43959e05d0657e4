"""The Beam job: tokenize, plan, assemble, finish (design.md section 2).

Payload never crosses a shuffle; references, columns and sums do. Side inputs hold one
verdict a data set and one number a split, whatever the number of episodes.
"""

from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsList

from gato.pipelines import stages
from gato.pipelines.build_job import BuildJob


class BuildShards(beam.PTransform):
    """Source paths to finished data sets."""

    def __init__(self, job: BuildJob) -> None:
        super().__init__()
        self._job = job

    def expand(self, input_or_inputs: Any) -> Any:
        """Composes the three stages."""
        job = self._job
        fragments = (
            input_or_inputs
            | "ListPaths"
            >> beam.Create([p for d in job.datasets.values() for p in d.paths])
            | "SpreadPaths" >> beam.Reshuffle()
            | "SplitPaths" >> beam.ParDo(stages.SplitPath(job))
            | "SpreadPartitions" >> beam.Reshuffle()
            | "TokenizePartitions" >> beam.ParDo(stages.TokenizePartition(job))
        )
        decisions = (
            fragments
            | "ReadColumns" >> beam.ParDo(stages.ReadColumns(job))
            | "GroupByTask" >> beam.GroupByKey()
            | "DecideTasks" >> beam.ParDo(stages.DecideTasks(job))
        )
        # A data set of which nothing was read gets its verdict too.
        named = input_or_inputs | "NameDatasets" >> beam.Create(
            [(n, None) for n in job.datasets]
        )
        verdicts = (
            (decisions, named)
            | "JoinDecisions" >> beam.Flatten()
            | "GroupDecisions" >> beam.GroupByKey()
            | "JudgeDatasets" >> beam.ParDo(stages.JudgeDataset(job))
        )
        planned = fragments | "PlanFragments" >> beam.ParDo(
            stages.PlanFragment(job), AsList(verdicts)
        ).with_outputs("windows", main="episodes")
        control = (
            planned["episodes"]
            | "GroupByBucket" >> beam.GroupByKey()
            | "PlanBuckets" >> beam.ParDo(stages.PlanBucket(job))
        )
        windows = (control, planned["windows"]) | "JoinWindows" >> beam.Flatten()
        totals = (
            windows
            | "MeasureWindows" >> beam.FlatMap(stages.measure_windows)
            | "SumBytes" >> beam.CombinePerKey(sum)
        )
        assigned = windows | "AssignShards" >> beam.ParDo(
            stages.AssignShards(job), AsList(totals)
        )
        empty = verdicts | "NameShards" >> beam.ParDo(
            stages.NameShards(job), AsList(totals)
        )
        finished = (
            (assigned, empty)
            | "JoinShards" >> beam.Flatten()
            | "GroupByShard" >> beam.GroupByKey()
            | "AssembleShards" >> beam.ParDo(stages.AssembleShard(job))
            | "GroupSummaries" >> beam.GroupByKey()
            | "FinishDatasets"
            >> beam.ParDo(stages.FinishDataset(job), AsList(verdicts))
        )
        return (
            input_or_inputs
            | "Once" >> beam.Create([None])
            | "FinishBuild" >> beam.ParDo(stages.FinishBuild(job), AsList(finished))
        )

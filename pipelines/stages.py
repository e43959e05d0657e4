"""The DoFns of a build: each unpacks, calls a pure function, and yields."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import TaggedOutput

from gato.pipelines import columns, decide, finish, plan
from gato.pipelines.assemble import ShardAssembler
from gato.pipelines.build_job import BuildJob
from gato.pipelines.close import close_build
from gato.pipelines.demonstrations import write_demonstrations
from gato.pipelines.discover import SourcePath, check_unchanged
from gato.pipelines.fragment import FragmentRef, read_footer
from gato.pipelines.fragment_data import FragmentData
from gato.pipelines.progress import Reporter
from gato.pipelines.sources.base import Partition
from gato.pipelines.sources.registry import source_for
from gato.pipelines.tokenize import PartitionTokenizer, fragment_name
from gato.schemas import files, manifest, object_store
from gato.schemas.config import BuildConfig, Dataset
from gato.schemas.record import token_dtype
from gato.schemas.shards import SPLITS, ShardName
from gato.tokenizers.text import TextTokenizer


class SplitPath(beam.DoFn):
    """A source path to its partitions."""

    def __init__(self, job: BuildJob) -> None:
        self._job = job

    def process(self, path: SourcePath) -> Iterator[tuple[SourcePath, int, Partition]]:
        """Yields (path, place, partition)."""
        dataset = self._job.datasets[path.dataset].resolved
        source = source_for(dataset.format)
        with object_store.insist():
            parts = source.partition(path.path, path.relative_path, dataset)
        for place, partition in enumerate(parts):
            yield path, place, partition


class TokenizePartition(beam.DoFn):
    """A partition to a complete fragment."""

    def __init__(self, job: BuildJob) -> None:
        self._job = job
        self._made = Metrics.counter(self.__class__, "fragments_made")
        self._reused = Metrics.counter(self.__class__, "fragments_reused")

    def setup(self) -> None:
        """Loads the tokenizer once a worker."""
        self._reporter = Reporter(self._job.progress_port)
        self._text = TextTokenizer.load(self._job.tokenizer_path)

    def _count(self, tokens: int) -> None:
        self._reporter.add(items=1, tokens=tokens)

    def process(
        self, element: tuple[SourcePath, int, Partition]
    ) -> Iterator[FragmentRef]:
        """Yields the fragment's reference."""
        path, place, partition = element
        entry = self._job.datasets[path.dataset]
        dataset = entry.resolved
        read_limit = self._job.read_limit(dataset)
        name = fragment_name(
            partition,
            path.identity,
            entry.dataset,
            self._job.vocabulary.sentencepiece_sha256,
            read_limit,
        )
        ref = FragmentRef(
            dataset=path.dataset,
            file_index=path.index,
            part=place,
            path=files.join(self._job.fragments_folder(path.dataset), name),
        )
        tokenizer = PartitionTokenizer(
            source_for(dataset.format), dataset, self._text, read_limit, self._count
        )
        made = tokenizer.run(
            partition, ref.path, lambda: check_unchanged(path, dataset)
        )
        (self._made if made else self._reused).inc()
        done = "raw_bytes" if made else "reused_bytes"
        self._reporter.add(**{done: partition.num_bytes})
        self._reporter.flush()
        yield ref


class ReadColumns(beam.DoFn):
    """A fragment's footer to the columns that decide its items' accounts."""

    def __init__(self, job: BuildJob) -> None:
        self._job = job

    def process(
        self, ref: FragmentRef
    ) -> Iterator[tuple[tuple[str, str], columns.ItemBlock]]:
        """Yields ((data set, what is decided together), columns)."""
        entry = self._job.datasets[ref.dataset]
        footer = read_footer(ref.path)
        limited = self._job.limit is not None
        for block in columns.item_blocks(ref, footer, entry.dataset, self._job.config):
            if entry.control:
                together = "" if limited else f"task {block.task}"
            else:
                limited |= entry.dataset.max_episodes is not None
                together = "" if limited else ref.name
            yield (ref.dataset, together), block


class DecideTasks(beam.DoFn):
    """The columns of what is decided together to decisions and quarantine rows."""

    def __init__(self, job: BuildJob) -> None:
        self._job = job

    def process(
        self, element: tuple[tuple[str, str], Iterable[columns.ItemBlock]]
    ) -> Iterator[tuple[str, tuple[decide.TaskDecision, list[Any]]]]:
        """Yields (data set, (decision, quarantine rows)) of each task."""
        (name, _), grouped = element
        dataset = self._job.datasets[name].dataset
        blocks = list(grouped)
        last = None
        if self._job.limit is not None:
            last = decide.limit_cut(blocks, dataset, self._job.limit)
        for task in sorted({block.task for block in blocks}):
            mine = [block for block in blocks if block.task == task]
            yield name, decide.decide_task(mine, dataset, self._job.config, last)


class JudgeDataset(beam.DoFn):
    """Every decision of a data set to its verdict, once the reasons are written."""

    def __init__(self, job: BuildJob) -> None:
        self._job = job

    def process(
        self,
        element: tuple[str, Iterable[tuple[decide.TaskDecision, list[Any]] | None]],
    ) -> Iterator[finish.Verdict]:
        """Yields the verdict; None among the decisions only names the data set."""
        name, grouped = element
        entry = self._job.datasets[name]
        decided = sorted((d for d in grouped if d is not None), key=_decision_order)
        folder = self._job.folder(name)
        finish.write_quarantine(folder, (row for _, rows in decided for row in rows))
        verdict = finish.judge(
            entry.dataset, self._job.config, [d for d, _ in decided], entry.control
        )
        if verdict.failure is not None:
            files.write_atomic(
                files.join(folder, finish.FAILURE_NAME),
                json.dumps({"failure": verdict.failure}).encode(),
            )
        yield verdict


def _decision_order(entry: tuple[decide.TaskDecision, list[Any]]) -> tuple[Any, ...]:
    decision, rows = entry
    return decision.task, rows[0][0] if rows else ("", 0, 0, 0)


class PlanFragment(beam.DoFn):
    """A fragment's kept items to episodes by bucket, or to windows of documents."""

    def __init__(self, job: BuildJob) -> None:
        self._job = job

    def setup(self) -> None:
        """Opens the way to the display."""
        self._reporter = Reporter(self._job.progress_port)

    def process(
        self, ref: FragmentRef, verdicts: list[finish.Verdict]
    ) -> Iterator[Any]:
        """Yields (bucket key, episodes), and (data set, windows) under "windows"."""
        self._reporter.add(planned_fragments=1)
        entry = self._job.datasets[ref.dataset]
        verdict = next(v for v in verdicts if v.dataset == ref.dataset)
        if verdict.failure is not None:
            return
        config = self._job.config
        footer = read_footer(ref.path)
        for block in columns.item_blocks(ref, footer, entry.dataset, config):
            decision = verdict.tasks[block.task]
            if not entry.control:
                for windows in plan.plan_documents(block, footer, decision, config):
                    yield TaggedOutput("windows", (ref.dataset, windows))
                continue
            for bucket, episodes in plan.kept_episodes(block, footer, decision, config):
                yield (ref.dataset, block.task, block.agent, bucket), episodes


class PlanBucket(beam.DoFn):
    """The episodes of a bucket to windows with prompts."""

    def __init__(self, job: BuildJob) -> None:
        self._job = job

    def process(
        self,
        element: tuple[tuple[str, str, str, int], Iterable[plan.EpisodeBlock]],
    ) -> Iterator[tuple[str, plan.WindowBlock]]:
        """Yields (data set, windows)."""
        (name, *_), blocks = element
        for windows in plan.plan_bucket(list(blocks), self._job.config):
            yield name, windows


class AssignShards(beam.DoFn):
    """Windows to shards."""

    def __init__(self, job: BuildJob) -> None:
        self._job = job

    def setup(self) -> None:
        """Opens the way to the display."""
        self._reporter = Reporter(self._job.progress_port)

    def process(
        self,
        element: tuple[str, plan.WindowBlock],
        totals: list[tuple[tuple[str, str], int]],
    ) -> Iterator[tuple[tuple[str, str, int, int], plan.WindowBlock]]:
        """Yields ((data set, split, shard, shards), windows)."""
        name, block = element
        self._reporter.add(planned_windows=len(block.windows))
        shards = _num_shards(self._job, name, totals)
        for split, index, windows in plan.assign_shards(block, shards):
            yield (name, split, index, shards[split]), windows

    def finish_bundle(self) -> None:
        """Sends what is planned before the next stage begins."""
        self._reporter.flush()


class NameShards(beam.DoFn):
    """A verdict to every shard that must exist, even if no window falls into it."""

    def __init__(self, job: BuildJob) -> None:
        self._job = job

    def process(
        self,
        verdict: finish.Verdict,
        totals: list[tuple[tuple[str, str], int]],
    ) -> Iterator[tuple[tuple[str, str, int, int], plan.WindowBlock]]:
        """Yields ((data set, split, shard, shards), no windows)."""
        if verdict.failure is not None:
            return
        shards = _num_shards(self._job, verdict.dataset, totals)
        for split, count in shards.items():
            for index in range(count):
                yield (verdict.dataset, split, index, count), plan.NO_WINDOWS


def _num_shards(
    job: BuildJob, name: str, totals: list[tuple[tuple[str, str], int]]
) -> dict[str, int]:
    sizes = dict(totals)
    return {
        split: plan.num_shards(
            split, sizes.get((name, split), 0), job.datasets[name].dataset, job.config
        )
        for split in SPLITS
    }


class AssembleShard(beam.DoFn):
    """The windows of a shard to its files."""

    def __init__(self, job: BuildJob) -> None:
        self._job = job
        self._rows = Metrics.counter(self.__class__, "rows_written")

    def setup(self) -> None:
        """Opens the way to the display, and a worker's one reader of fragments."""
        self._reporter = Reporter(self._job.progress_port)
        self._data = FragmentData(token_dtype(self._job.vocabulary.size))

    def _count(self, rows: int, size: int, windows: int) -> None:
        self._rows.inc(rows)
        self._reporter.add(rows=rows, row_bytes=size, windows=windows)

    def process(
        self,
        element: tuple[tuple[str, str, int, int], Iterable[plan.WindowBlock]],
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields (data set, the shard's summary)."""
        (name, split, index, count), blocks = element
        assembler = ShardAssembler(
            self._job.folder(name), self._job.layout(name), self._count, self._data
        )
        shard = ShardName(split=split, index=index, count=count)
        yield name, assembler.assemble(shard, list(blocks))
        self._reporter.flush()


class FinishDataset(beam.DoFn):
    """The summaries of all shards to demonstrations and manifest."""

    def __init__(self, job: BuildJob) -> None:
        self._job = job

    def process(
        self,
        element: tuple[str, Iterable[dict[str, Any]]],
        verdicts: list[finish.Verdict],
    ) -> Iterator[str]:
        """Yields the data set's name."""
        name, grouped = element
        job, entry, folder = self._job, self._job.datasets[name], self._job.folder(name)
        verdict = next(v for v in verdicts if v.dataset == name)
        summaries = sorted(grouped, key=lambda summary: summary["name"])
        written = finish.dataset_manifest(
            dataset=entry.dataset,
            config=job.config,
            written_config=_written_config(job.config, entry.dataset, job.limit),
            fingerprint=entry.fingerprint,
            vocabulary=job.vocabulary,
            token_dtype=token_dtype(job.vocabulary.size),
            control=entry.control,
            verdict=verdict,
            summaries=summaries,
        )
        job.check_attempt()
        if entry.control:
            chosen = [
                (ref.path, row)
                for _, decision in sorted(verdict.tasks.items())
                for ref, row in decision.demonstrations
            ]
            path = files.join(folder, manifest.DEMONSTRATIONS_NAME)
            write_demonstrations(path, job.layout(name), chosen)
        _remove_strays(folder, written)
        path = files.join(folder, manifest.MANIFEST_NAME)
        files.write_atomic(path, manifest.dump_manifest(written))
        yield name


def _written_config(
    config: BuildConfig, dataset: Dataset, limit: int | None
) -> dict[str, Any]:
    shared = config.model_dump(mode="json", exclude={"datasets"})
    return shared | {"limit": limit, "dataset": dataset.model_dump(mode="json")}


def _remove_strays(folder: str, written: manifest.DatasetManifest) -> None:
    """Removes what earlier attempts left: temporary files and shards of other plans."""
    ours = {shard.name for split in written.splits.values() for shard in split.shards}
    for name in files.list_folder(folder):
        shard = name.removesuffix(".idx").removesuffix(".json")
        stray = ShardName.parse(shard) is not None and shard not in ours
        if stray or files.TEMPORARY_SUFFIX in name:
            files.remove(files.join(folder, name))


class FinishBuild(beam.DoFn):
    """Finished data sets to the root manifest; then fragments go."""

    def __init__(self, job: BuildJob) -> None:
        self._job = job

    def process(self, _: Any, finished: list[str]) -> Iterator[str]:
        """Yields the names of the data sets that were finished now."""
        self._job.check_attempt()
        close_build(self._job, [*finished, *self._job.finished])
        yield from finished


def measure_windows(
    element: tuple[str, plan.WindowBlock],
) -> Iterator[tuple[tuple[str, str], int]]:
    """Yields ((data set, split), estimated bytes) of a block of windows."""
    name, block = element
    for split, size in plan.split_bytes(block):
        yield (name, split), size

"""Does recorders' jobs on an engine that Beam knows, in place of processes here.

A job writes files where this machine reads them; nothing else comes back. Workers must
not import TensorFlow, which cannot share a process with MuJoCo's rendering; neither
Beam nor anything here does.
"""

import argparse
import functools
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import rich.console

from gato.pipelines import engine
from gato.pipelines.recorders import pool
from gato.schemas.errors import UsageError

_ADVICE = " Run the same command again to go on where it stopped."


class _DoJob(beam.DoFn):
    """Does a job, which writes what comes of it."""

    def __init__(self, work: pool.Work[Any, None]) -> None:
        self._work = work

    def process(self, element: Any) -> None:
        """Does one."""
        self._work(element, _count_nothing)


def _count_nothing() -> None:
    pass


def choose(
    own: argparse.ArgumentParser,
    runner: str,
    argv: Sequence[str],
    rest: Sequence[str],
    output: str,
) -> pool.RunAll:
    """Returns what does jobs on an engine.

    Args:
        own: The command's parser.
        runner: Beam's name of the engine.
        argv: The command line.
        rest: What of it is Beam's.
        output: Where workers write.

    Raises:
        UsageError: If there is no such runner or option, or no job can run so.
    """
    engine.check_names(own, argv)
    chosen = engine.choose_engine(runner, rest)
    if chosen.template_location:
        raise UsageError(
            "--template_location: a template cannot write data sets of what its job"
            " plays. Run the job from here."
        )
    chosen.check_paths([output])
    chosen.check_options()
    return functools.partial(_run_all, chosen)


def _run_all(
    chosen: engine.Engine,
    work: pool.Work[Any, None],
    jobs: Sequence[Any],
    *,
    title: str,
    items: str,
    expected: int,
) -> None:
    """Does all jobs; arguments as of `pool.RunAll`."""
    rich.console.Console(stderr=True).print(
        f"{title}: {expected:,} {items} in {len(jobs):,} chunks on {chosen.runner}"
    )
    pipeline = beam.Pipeline(runner=chosen.runner, options=chosen.options)
    _ = (
        pipeline
        | "ListJobs" >> beam.Create(jobs)
        | "SpreadJobs" >> beam.Reshuffle()
        | "DoJobs" >> beam.ParDo(_DoJob(work))
    )
    if chosen.is_local:
        with engine.quiet_workers():
            pipeline.run().wait_until_finish()
        return
    with chosen.failing_in_words(_ADVICE):
        chosen.check_done(pipeline.run().wait_until_finish(), _ADVICE)

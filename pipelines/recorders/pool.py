"""Runs jobs in worker processes, with a progress bar that counts what they make."""

import concurrent.futures
import concurrent.futures.process
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import rich.console
import rich.progress

from gato.schemas.errors import GatoError

Job = TypeVar("Job", contravariant=True)
Outcome = TypeVar("Outcome", covariant=True)


class Work(Protocol[Job, Outcome]):
    """A module-level function: does one job and reports each item it made."""

    def __call__(self, job: Job, advance: Callable[[], None]) -> Outcome:
        """Does a job."""
        ...


class RunAll(Protocol):
    """Does all jobs, whose outcomes are what they wrote: here, or on an engine."""

    def __call__(
        self,
        work: Work[Job, Any],
        jobs: Sequence[Job],
        *,
        title: str,
        items: str,
        expected: int,
    ) -> None:
        """Does the jobs; arguments as of `run`."""
        ...


_made: Any = None


def _start_worker(made: Any) -> None:
    """Prepares a worker: it counts into `made`, and ends with the command."""
    global _made
    _made = made
    # Ctrl-C reaches all processes: die at once, without each one's traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A killed command would leave its workers behind, waiting for jobs or writing.
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _count() -> None:
    with _made.get_lock():
        _made.value += 1


def _do(work: Work[Any, Any], job: Any) -> Any:
    return work(job, _count)


@contextlib.contextmanager
def _progress(title: str, items: str, expected: int) -> Iterator[Callable[[int], None]]:
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn(items),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    console = rich.console.Console(stderr=True)
    with rich.progress.Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=expected)
        yield lambda made: progress.update(task, completed=made)


def run(
    work: Work[Job, Outcome],
    jobs: Sequence[Job],
    *,
    workers: int,
    title: str,
    items: str,
    expected: int,
) -> Iterator[tuple[Job, Outcome | GatoError]]:
    """Yields each job with its outcome, or the error it ended in, as they end.

    Args:
        work: Does one job.
        jobs: What to do, hashable.
        workers: How many processes; 1 does all in this one.
        title: Stands before the progress bar.
        items: What is counted, in the plural.
        expected: How many of these all jobs make.

    Raises:
        GatoError: If a worker process died.
    """
    if not jobs:
        return
    with _progress(title, items, expected) as show:
        if min(workers, len(jobs)) == 1:
            yield from _run_here(work, jobs, show)
        else:
            yield from _run_processes(work, jobs, min(workers, len(jobs)), show)


def run_all(
    work: Work[Job, Any],
    jobs: Sequence[Job],
    *,
    workers: int,
    title: str,
    items: str,
    expected: int,
) -> None:
    """Does all jobs, whose outcomes are what they wrote; arguments as of `run`.

    Raises:
        GatoError: If a job ended in one, or a worker process died.
    """
    outcomes = run(
        work, jobs, workers=workers, title=title, items=items, expected=expected
    )
    for _, outcome in outcomes:
        if isinstance(outcome, GatoError):
            raise outcome


def _run_here(
    work: Work[Job, Outcome], jobs: Sequence[Job], show: Callable[[int], None]
) -> Iterator[tuple[Job, Outcome | GatoError]]:
    made = 0

    def advance() -> None:
        nonlocal made
        made += 1
        show(made)

    for job in jobs:
        try:
            outcome = work(job, advance)
        except GatoError as error:
            yield job, error
        else:
            yield job, outcome


def _run_processes(
    work: Work[Job, Outcome],
    jobs: Sequence[Job],
    workers: int,
    show: Callable[[int], None],
) -> Iterator[tuple[Job, Outcome | GatoError]]:
    # Not fork: the progress bar has a thread, whose locks a fork would copy as held.
    context = multiprocessing.get_context("spawn")
    made = context.Value("q", 0)
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(made,)
    )
    try:
        running = {pool.submit(_do, work, job): job for job in jobs}
        while running:
            done, _ = concurrent.futures.wait(
                running,
                timeout=0.2,
                return_when=concurrent.futures.FIRST_COMPLETED,
            )
            show(made.value)
            for future in done:
                yield running.pop(future), _outcome(future)
    except concurrent.futures.process.BrokenProcessPool as error:
        raise GatoError(
            "A worker process died (of memory, or killed). What was finished stays;"
            " the same command goes on from there. Fewer --workers take less memory."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _outcome(future: "concurrent.futures.Future[Outcome]") -> Outcome | GatoError:
    try:
        return future.result()
    except GatoError as error:
        return error

"""Records tasks as Minari data sets: what is missing, in parallel, with their returns.

Workers, processes of this machine or of an engine elsewhere, play chunks of episodes.
When all chunks of a task are there, this machine writes its data sets from them, so
they are the same whoever played.

A task's expert and random returns are the means of its expert and its random episodes;
where one of these is not asked for, up to 200 of its episodes are played all the same,
and not stored. A task without an expert has its random return only.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
import pathlib
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence

import rich.box
import rich.console
import rich.table

from gato.pipelines.recorders import chunks, pool, takes, workplace
from gato.pipelines.recorders.chunks import Chunk
from gato.pipelines.recorders.domain import (
    POLICIES,
    Domain,
    Policy,
    Recipe,
)
from gato.pipelines.recorders.minari_writer import (
    Finished,
    MinariWriter,
    Result,
    publish,
    read_finished,
)
from gato.pipelines.recorders.takes import Take
from gato.schemas import files
from gato.schemas.errors import GatoError, UsageError

_WORKPLACE, _CHUNKS = ".recording", "chunks"
# Of a policy that is played for its mean return alone: random episodes are the longest.
_REFERENCE_EPISODES = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to record.

    Attributes:
        output: The folder of all Minari data sets (`MINARI_DATASETS_PATH`), a path or
            URL.
        domain: What the tasks belong to.
        tasks: Names that the domain knows.
        policies: Who acts.
        episodes: How many episodes a task and policy.
        noise: Strengths of the noisy policy's noise; its episodes take them in turn.
        seed: Decides every episode.
        data_format: hdf5 or arrow.
        workers: How many processes.
        run_all: What plays, in place of processes of this machine.
    """

    output: str
    domain: Domain
    tasks: tuple[str, ...]
    policies: tuple[Policy, ...] = POLICIES
    episodes: int = 100
    noise: tuple[float, ...] = (0.1, 0.3)
    seed: int = 0
    data_format: str = "hdf5"
    workers: int = 1
    run_all: pool.RunAll | None = None

    def __post_init__(self) -> None:
        for task in self.tasks:
            self.domain.check_task(task)
        named = ((self.domain.option, self.tasks), ("policies", self.policies))
        for name, values in named:
            if not values or len(set(values)) < len(values):
                raise UsageError(
                    f"--{name} takes names, each once, got {','.join(values)!r}"
                )
        for policy in self.policies:
            if policy not in POLICIES:
                raise UsageError(
                    f"--policies are {', '.join(POLICIES)}, got {policy!r}"
                )
        if set(self.policies) != {"random"}:
            for task in self.tasks:
                if not self.domain.has_expert(task):
                    raise UsageError(
                        f"--{self.domain.option}: there is no expert for {task}. Give"
                        " --policies random, or leave the task out."
                    )
        self.domain.check_noise(self.noise)
        for name in ("episodes", "workers"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} is at least 1, got {getattr(self, name)}")
        if not 0 <= self.seed < 1 << 64:
            raise UsageError(f"--seed is in [0, 2**64), got {self.seed}")
        if files.is_local(self.output):
            # Minari joins a relative root twice, and workers may start elsewhere.
            absolute = os.path.abspath(files.local_path(self.output))
            object.__setattr__(self, "output", absolute)

    def recipe(self, task: str, policy: Policy) -> Recipe:
        """Returns what decides one data set."""
        noise = self.noise if policy == "noisy" else ()
        return Recipe(
            task=task,
            policy=policy,
            episodes=self.episodes,
            seed=self.seed,
            noise=noise,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
    """A played recipe to write as a data set."""

    domain: Domain
    recipe: Recipe
    root: pathlib.Path
    data_format: str
    chunks: tuple[Chunk, ...]
    result: Result


def _write(job: _Job, advance: Callable[[], None]) -> None:
    """Writes a recipe's episodes: the first of its chunks' that are enough."""
    writer = MinariWriter(job.root, job.domain, job.recipe, job.data_format)
    played = itertools.chain.from_iterable(map(chunks.read_episodes, job.chunks))
    for rollout in itertools.islice(played, job.recipe.episodes):
        writer.add(rollout)
        advance()
    writer.close(job.result)


@contextlib.contextmanager
def _workplace(output: str) -> Iterator[pathlib.Path]:
    """Makes the folder of unfinished data sets, and removes it with what is left.

    Minari does not see hidden folders. What a killed run left is removed first, but for
    the chunks that it played.
    """
    if not files.is_local(output):
        with tempfile.TemporaryDirectory(prefix="gato-record-") as name:
            yield pathlib.Path(name)
        files.remove_folder(files.join(output, _WORKPLACE))
        return
    folder = pathlib.Path(output, _WORKPLACE)
    with workplace.locked(folder):
        for left in folder.iterdir():
            if left.name != _CHUNKS:
                shutil.rmtree(left)
        # A name of its own: a worker of a killed run may still be writing.
        attempt = folder / uuid.uuid4().hex
        attempt.mkdir()
        yield attempt
        shutil.rmtree(folder)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Task:
    """A task's recording: what is there, and what is to be played."""

    finished: dict[Policy, Finished]
    takes: dict[Policy, Take]

    @property
    def is_played(self) -> bool:
        """Whether all that was to be played is."""
        return all(take.is_done for take in self.takes.values())

    def kept(self) -> list[Take]:
        """Returns what becomes data sets."""
        return [take for take in self.takes.values() if take.is_kept]

    def results(self) -> dict[Policy, Result]:
        """Returns the result of each stored data set."""
        results: dict[Policy, Result] = {
            policy: found.result for policy, found in self.finished.items()
        }
        results.update((take.recipe.policy, take.result()) for take in self.kept())
        return results

    def returns(self) -> tuple[float, float | None]:
        """Returns the random and the expert policy's mean return."""
        for known in self.finished.values():
            return known.random_return, known.expert_return
        expert = self.takes.get("expert")
        return (
            self.takes["random"].result().mean_return,
            expert and expert.result().mean_return,
        )


def _plan_task(options: Options, task: str) -> _Task:
    """Looks for what is there of a task, and says what has to be played.

    Raises:
        UsageError: If a data set of another recipe is in the way.
    """
    finished: dict[Policy, Finished] = {}
    for policy in options.policies:
        found = read_finished(
            options.output,
            options.domain,
            options.recipe(task, policy),
            options.data_format,
        )
        if found is not None:
            finished[policy] = found
    missing = set(options.policies) - set(finished)
    takes: dict[Policy, Take] = {}
    for policy in POLICIES:
        stored = policy in missing
        reference = missing and not finished and policy != "noisy"
        if policy == "expert" and not options.domain.has_expert(task):
            continue
        if not stored and not reference:
            continue
        recipe = options.recipe(task, policy)
        if not stored:
            most = min(recipe.episodes, _REFERENCE_EPISODES)
            recipe = dataclasses.replace(recipe, episodes=most)
        folder = files.join(options.output, _WORKPLACE, _CHUNKS)
        takes[policy] = Take(options.domain, recipe, folder, is_kept=stored)
    return _Task(finished=finished, takes=takes)


def _write_jobs(options: Options, task: _Task, folder: pathlib.Path) -> list[_Job]:
    """Returns what is to be written of a played task, below a folder."""
    return [
        _Job(
            domain=options.domain,
            recipe=take.recipe,
            root=folder / options.domain.dataset_id(take.recipe).replace("/", "_"),
            data_format=options.data_format,
            chunks=tuple(take.chunks),
            result=take.result(),
        )
        for take in task.kept()
    ]


def _publish_task(options: Options, task: _Task, jobs: Sequence[_Job]) -> None:
    """Moves a task's new data sets to their place, with the task's returns."""
    random_return, expert_return = task.returns()
    for job in jobs:
        publish(
            job.root / job.domain.dataset_id(job.recipe),
            options.output,
            job.domain,
            job.recipe,
            random_return=random_return,
            expert_return=expert_return,
        )
    for take in task.takes.values():
        files.remove_folder(take.folder)


def _write_tasks(
    options: Options, tasks: Mapping[str, _Task], folder: pathlib.Path
) -> tuple[list[str], list[GatoError]]:
    """Writes the data sets of played tasks, and publishes each task that is whole.

    Returns:
        The tasks of which everything is there, and why others are not.
    """
    played = {name: task for name, task in tasks.items() if task.is_played}
    jobs = {name: _write_jobs(options, played[name], folder) for name in played}
    whole = [name for name in played if not jobs[name]]
    errors: list[GatoError] = []
    waiting = {name: len(of_task) for name, of_task in jobs.items()}
    every = [job for of_task in jobs.values() for job in of_task]
    written = pool.run(
        _write,
        every,
        workers=options.workers,
        title="Writing data sets",
        items="episodes",
        expected=sum(job.recipe.episodes for job in every),
    )
    for job, error in written:
        if error is not None:
            errors.append(error)
            continue
        name = job.recipe.task
        waiting[name] -= 1
        if not waiting[name]:
            _publish_task(options, played[name], jobs[name])
            whole.append(name)
    return whole, errors


def record(options: Options) -> None:
    """Records what is not there yet, and prints a table of everything asked for.

    Raises:
        UsageError: If a data set of another recipe is in the way.
        GatoError: If the expert does not solve a task; the others are recorded.
    """
    run_all = options.run_all or functools.partial(
        pool.run_all, workers=options.workers
    )
    with _workplace(options.output) as folder:
        tasks = {name: _plan_task(options, name) for name in options.tasks}
        every = [take for task in tasks.values() for take in task.takes.values()]
        errors = takes.play(every, run_all, f"Recording {options.domain.title}")
        whole, unwritten = _write_tasks(options, tasks, folder)
    _show(options, {name: task for name, task in tasks.items() if name in whole})
    if errors or unwritten:
        raise GatoError("\n".join(map(str, [*errors, *unwritten])))


def _show(options: Options, tasks: Mapping[str, _Task]) -> None:
    domain = options.domain
    table = rich.table.Table(
        title=f"Minari data sets in {options.output}",
        box=rich.box.SIMPLE,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column(f"{domain.namespace}/", overflow="fold")
    for column in ("episodes", "solved", "return", "steps", "failed", "made"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, task in tasks.items():
        for policy, result in sorted(task.results().items()):
            dataset_id = domain.dataset_id(options.recipe(name, policy))
            solved = result.solved
            table.add_row(
                dataset_id.removeprefix(f"{domain.namespace}/").removesuffix("-v0"),
                f"{result.episodes:,}",
                "-" if solved is None else f"{solved / result.episodes:.0%}",
                f"{result.mean_return:,.4g}",
                f"{result.steps:,}",
                f"{result.failed_seeds:,}",
                "before" if policy in task.finished else "now",
            )
    rich.console.Console().print(table)

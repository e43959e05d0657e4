"""Records tasks as Minari data sets: what is missing, in parallel, with their returns.

A task's expert and random returns are the means of its expert and its random episodes;
where one of these is not asked for, up to 200 of its episodes are played all the same,
and not stored. A task without an expert has its random return only.
"""

import contextlib
import dataclasses
import math
import pathlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterator

import rich.box
import rich.console
import rich.table

from gato.pipelines.recorders import pool, workplace
from gato.pipelines.recorders.domain import (
    POLICIES,
    Domain,
    ExpertFailedError,
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
from gato.schemas.errors import GatoError, UsageError

_WORKPLACE = ".recording"
# Of a policy that is played for its mean return alone: random episodes are the longest.
_REFERENCE_EPISODES = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to record.

    Attributes:
        output: The folder of all Minari data sets (`MINARI_DATASETS_PATH`).
        domain: What the tasks belong to.
        tasks: Names that the domain knows.
        policies: Who acts.
        episodes: How many episodes a task and policy.
        noise: Strengths of the noisy policy's noise; its episodes take them in turn.
        seed: Decides every episode.
        data_format: hdf5 or arrow.
        workers: How many processes.
    """

    output: pathlib.Path
    domain: Domain
    tasks: tuple[str, ...]
    policies: tuple[Policy, ...] = POLICIES
    episodes: int = 100
    noise: tuple[float, ...] = (0.1, 0.3)
    seed: int = 0
    data_format: str = "hdf5"
    workers: int = 1

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
    """One recipe to play; `root` is where to write it, or None for its returns only."""

    domain: Domain
    recipe: Recipe
    root: pathlib.Path | None
    data_format: str


def _play(job: _Job, advance: Callable[[], None]) -> Result:
    """Plays a recipe's episodes, writing them if the job says where."""
    began = time.monotonic()
    writer = None
    if job.root is not None:
        writer = MinariWriter(job.root, job.domain, job.recipe, job.data_format)
    returns: list[float] = []
    solved: list[bool] = []
    steps = failed = 0
    for rollout in job.domain.rollouts(job.recipe):
        if isinstance(rollout, ExpertFailedError):
            failed += 1
            continue
        if writer is not None:
            writer.add(rollout)
        returns.append(float(rollout.rewards.sum()))
        if rollout.success is not None:
            solved.append(bool(rollout.success[-1, 0]))
        steps += len(rollout.actions)
        advance()
    result = Result(
        episodes=len(returns),
        solved=sum(solved) if solved else None,
        steps=steps,
        mean_return=math.fsum(returns) / len(returns),
        failed_seeds=failed,
        seconds=time.monotonic() - began,
    )
    if writer is not None:
        writer.close(result)
    return result


@contextlib.contextmanager
def _workplace(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """Makes the folder of unfinished data sets, and removes it with what is left.

    Minari does not see hidden folders. What a killed run left is removed first.
    """
    # Minari joins a relative root twice.
    folder = (output / _WORKPLACE).absolute()
    with workplace.locked(folder):
        for left in folder.iterdir():
            shutil.rmtree(left)
        # A name of its own: a worker of a killed run may still be writing.
        attempt = folder / uuid.uuid4().hex
        attempt.mkdir()
        yield attempt
        shutil.rmtree(folder)


@dataclasses.dataclass(kw_only=True)
class _Task:
    """A task's recording: what is there, what is to be played, and what came of it."""

    finished: dict[Policy, Finished]
    jobs: list[_Job]
    played: dict[Policy, Result] = dataclasses.field(default_factory=dict)

    def results(self) -> dict[Policy, Result]:
        """Returns the result of each stored data set."""
        stored = {job.recipe.policy for job in self.jobs if job.root is not None}
        results: dict[Policy, Result] = {
            policy: found.result for policy, found in self.finished.items()
        }
        results.update((p, r) for p, r in self.played.items() if p in stored)
        return results

    def returns(self) -> tuple[float, float | None]:
        """Returns the random and the expert policy's mean return."""
        for known in self.finished.values():
            return known.random_return, known.expert_return
        expert = self.played.get("expert")
        return self.played["random"].mean_return, expert and expert.mean_return


def _plan_task(options: Options, task: str, folder: pathlib.Path) -> _Task:
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
    jobs = []
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
        name = options.domain.dataset_id(recipe).replace("/", "_")
        jobs.append(
            _Job(
                domain=options.domain,
                recipe=recipe,
                root=folder / name if stored else None,
                data_format=options.data_format,
            )
        )
    return _Task(finished=finished, jobs=jobs)


def _publish_task(output: pathlib.Path, task: _Task) -> None:
    """Moves a task's new data sets to their place, with the task's returns."""
    random_return, expert_return = task.returns()
    for job in task.jobs:
        if job.root is not None:
            publish(
                job.root / job.domain.dataset_id(job.recipe),
                output,
                job.domain,
                job.recipe,
                random_return=random_return,
                expert_return=expert_return,
            )


def record(options: Options) -> None:
    """Records what is not there yet, and prints a table of everything asked for.

    Raises:
        UsageError: If a data set of another recipe is in the way.
        GatoError: If the expert does not solve a task; the others are recorded.
    """
    errors: list[GatoError] = []
    with _workplace(options.output) as folder:
        tasks = {name: _plan_task(options, name, folder) for name in options.tasks}
        jobs = [job for task in tasks.values() for job in task.jobs]
        outcomes = pool.run(
            _play,
            jobs,
            workers=options.workers,
            title=f"Recording {options.domain.title}",
            items="episodes",
            expected=sum(job.recipe.episodes for job in jobs),
        )
        for job, outcome in outcomes:
            task = tasks[job.recipe.task]
            if isinstance(outcome, GatoError):
                errors.append(outcome)
                continue
            task.played[job.recipe.policy] = outcome
            if len(task.played) == len(task.jobs):
                _publish_task(options.output, task)
    recorded = [
        (options.recipe(name, policy), result)
        for name, task in tasks.items()
        if len(task.played) == len(task.jobs)
        for policy, result in sorted(task.results().items())
    ]
    _show(options, recorded)
    if errors:
        raise GatoError("\n".join(map(str, errors)))


def _show(options: Options, recorded: list[tuple[Recipe, Result]]) -> None:
    domain = options.domain
    table = rich.table.Table(
        title=f"Minari data sets in {options.output}",
        box=rich.box.SIMPLE,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column(f"{domain.namespace}/", overflow="fold")
    for column in ("episodes", "solved", "return", "steps", "failed", "steps/s"):
        table.add_column(column, justify="right", no_wrap=True)
    for recipe, result in recorded:
        speed = "ready"
        if result.seconds:
            speed = f"{result.steps / result.seconds:,.0f}"
        table.add_row(
            domain.dataset_id(recipe)
            .removeprefix(f"{domain.namespace}/")
            .removesuffix("-v0"),
            f"{result.episodes:,}",
            "-" if result.solved is None else f"{result.solved / result.episodes:.0%}",
            f"{result.mean_return:,.4g}",
            f"{result.steps:,}",
            f"{result.failed_seeds:,}",
            speed,
        )
    rich.console.Console().print(table)

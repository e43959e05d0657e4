"""What decides a recorded data set, and what a family of environments has to offer.

Everything random follows from the recipe and the number of the episode, so the same
command records the same data whatever the number of workers.
"""

import abc
import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from gato.schemas.errors import GatoError, UsageError
from gato.schemas.hashing import keyed_hash

Policy = Literal["expert", "noisy", "random"]
POLICIES: tuple[Policy, ...] = ("expert", "noisy", "random")
Outcome = TypeVar("Outcome")
# Evaluation draws its seeds from here on, so no evaluated episode was ever recorded.
FIRST_EVALUATION_SEED = 1 << 30


class ExpertFailedError(Exception):
    """The expert gave up on an episode; another seed is tried."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What decides a data set's content.

    Attributes:
        task: A name that the domain knows.
        policy: Who acts.
        episodes: How many episodes.
        seed: The command's seed.
        noise: Strengths of the noisy policy's noise; episodes take them in turn.
    """

    task: str
    policy: Policy
    episodes: int
    seed: int = 0
    noise: tuple[float, ...] = ()

    def episode_noise(self, attempt: int) -> float:
        """Returns the strength of the noise on one episode's actions."""
        return self.noise[attempt % len(self.noise)] if self.policy == "noisy" else 0.0

    def generator(self, seed: int) -> np.random.Generator:
        """Returns what draws the random part of one episode's actions."""
        return np.random.default_rng(
            keyed_hash(self.seed, "action", self.task, self.policy, seed)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rollout:
    """One episode of T steps, with the last observation, as Minari stores it.

    Attributes:
        seed: What the environment was reset with.
        observations: [T+1, ...], or these by key; T+1 texts are a list.
        actions: [T, ...].
        rewards: float64 [T].
        terminations: bool [T].
        truncations: bool [T].
        success: bool [T+1, 1]; whether the task was achieved by then. None where a
            task is not achieved or missed, only done well or badly.
        about: What else is stored of the episode: numbers and arrays by name.
    """

    seed: int
    observations: NDArray[Any] | dict[str, NDArray[Any] | list[str]]
    actions: NDArray[Any]
    rewards: NDArray[np.float64]
    terminations: NDArray[np.bool_]
    truncations: NDArray[np.bool_]
    success: NDArray[np.bool_] | None
    about: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """What a data set says of itself.

    Attributes:
        environment: Rebuilds the environment; its id is the task's name in a build.
        observation_space: Holds every stored observation.
        action_space: Holds every stored action.
        algorithm: Who acts.
        content: What an observation is.
        requirements: The packages that rebuild the environment, as pip takes them.
    """

    environment: EnvSpec
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    algorithm: str
    content: str
    requirements: list[str]


def seeds(recipe: Recipe) -> Iterator[int]:
    """Yields the seeds to try, each once: [0, 2**30), disjoint between policies."""
    used = set()
    draw = 0
    while True:
        number = keyed_hash(recipe.seed, "episode", recipe.task, recipe.policy, draw)
        draw += 1
        # The low bits say the policy, so that no two policies see the same episode.
        seed = number % (FIRST_EVALUATION_SEED // 4) * 4 + POLICIES.index(recipe.policy)
        if seed not in used:
            used.add(seed)
            yield seed


def check_max_steps(given: int, most: int, ended: str = "the environments end") -> None:
    """Refuses a length of episodes that is not from 1 to `most`.

    Args:
        given: Of `--max_steps`.
        most: Where episodes end by themselves.
        ended: What ends there.

    Raises:
        UsageError: If it is not.
    """
    if not 1 <= given <= most:
        raise UsageError(f"--max_steps is from 1 to {most}, where {ended}, got {given}")


class Domain(abc.ABC):
    """A family of environments that is recorded alike; worker processes get a copy.

    Attributes:
        namespace: The first part of its data sets' ids.
        title: Its name for people.
        option: The command's option that names tasks.
        episodes_per_chunk: How many one worker plays before it writes them: many where
            they are short, few where each takes long or is large.
    """

    namespace: ClassVar[str]
    title: ClassVar[str]
    option: ClassVar[str]
    episodes_per_chunk: ClassVar[int] = 10

    @abc.abstractmethod
    def tasks(self) -> list[str]:
        """Returns the names of all tasks, sorted."""

    def short_name(self, task: str) -> str:
        """Returns a task's name in data set ids."""
        return task

    def check_noise(self, noise: Sequence[float]) -> None:
        """Refuses noise that is no fraction of random actions between 0 and 1.

        Raises:
            UsageError: If it is none.
        """
        if not noise or not all(0 < fraction < 1 for fraction in noise):
            raise UsageError(
                "--noise takes fractions between 0 and 1 (the policies expert and"
                f" random are these ends), got {list(noise)}"
            )

    @abc.abstractmethod
    def conditions(self) -> dict[str, Any]:
        """Returns what decides the data beside the recipe: versions and settings."""

    @abc.abstractmethod
    def describe(self, recipe: Recipe) -> Description:
        """Returns what a recipe's data set says of itself."""

    @abc.abstractmethod
    def make_environment(self, task: str) -> Any:
        """Returns an environment that plays a task's episodes one after the other."""

    @abc.abstractmethod
    def roll_out(
        self, environment: Any, recipe: Recipe, seed: int, attempt: int
    ) -> Rollout:
        """Plays one episode to its end; what came before it does not show in it.

        Args:
            environment: From `make_environment(recipe.task)`.
            recipe: Who acts.
            seed: The episode's seed.
            attempt: How many seeds were tried before; chooses the noise.

        Raises:
            ExpertFailedError: If the expert does not know what to do.
        """

    def has_expert(self, task: str) -> bool:
        """Returns whether there is an expert; else only random actions are played."""
        return True

    def playable(self, policies: Iterable[str]) -> tuple[str, ...]:
        """Returns the names of all tasks that all of these policies can play."""
        anything = set(policies) == {"random"}
        return tuple(t for t in self.tasks() if anything or self.has_expert(t))

    def groups(self) -> Mapping[str, Sequence[str]]:
        """Returns the names that stand for many tasks on the command line."""
        return {"all": self.tasks()}

    def chosen(self, names: Iterable[str], policies: Iterable[str]) -> tuple[str, ...]:
        """Returns the tasks named: of a group all that these policies can play.

        Raises:
            UsageError: If the policies can play none of a group.
        """
        groups, playable = self.groups(), set(self.playable(policies))
        tasks = [name for name in names if name not in groups]
        for name in names:
            members = [task for task in groups.get(name, ()) if task in playable]
            if name in groups and not members:
                raise UsageError(
                    f"--{self.option}: there is no expert for any task of {name}. Give"
                    " --policies random."
                )
            tasks.extend(task for task in members if task not in tasks)
        return tuple(tasks)

    def dataset_id(self, recipe: Recipe) -> str:
        """Returns the Minari id, such as `babyai/GoToLocal/expert-v0`."""
        return f"{self.namespace}/{self.short_name(recipe.task)}/{recipe.policy}-v0"

    def check_task(self, task: str) -> None:
        """Raises a UsageError that names the nearest task if there is no such one."""
        known = self.tasks()
        if task not in known:
            near = difflib.get_close_matches(task, known, n=1, cutoff=0.0)
            raise UsageError(
                f"--{self.option} takes names of {self.title} tasks, got {task!r}; did"
                f" you mean {near[0]!r}? The installed release has {len(known)} of"
                " them."
            )

    def attempts(
        self, environment: Any, recipe: Recipe, seeds: Iterable[int], first: int = 0
    ) -> Iterator[Rollout | ExpertFailedError]:
        """Plays an episode of each seed; yields it, or why the expert gave up.

        Args:
            environment: From `make_environment(recipe.task)`.
            recipe: Who acts.
            seeds: Some of `seeds(recipe)`, one after the other.
            first: How many seeds of the recipe come before these.
        """
        for attempt, seed in enumerate(seeds, first):
            try:
                yield self.roll_out(environment, recipe, seed, attempt)
            except ExpertFailedError as error:
                yield error

    def accepted(
        self, recipe: Recipe, outcomes: Iterable[Outcome | ExpertFailedError]
    ) -> Iterator[Outcome | ExpertFailedError]:
        """Yields what came of attempts, in order, until there are enough episodes.

        Raises:
            GatoError: If the expert fails on nearly every seed of the task.
        """
        recorded = failed = 0
        for outcome in outcomes:
            if not isinstance(outcome, ExpertFailedError):
                recorded += 1
            else:
                failed += 1
                if failed > 50 + 9 * recorded:
                    raise GatoError(
                        f"{recipe.task}, {recipe.policy}: the expert gave up on"
                        f" {failed} of {recorded + failed} seeds (last: {outcome}). It"
                        f" does not solve this task; leave it out of --{self.option}."
                    ) from outcome
            yield outcome
            if recorded == recipe.episodes:
                return

    def rollouts(self, recipe: Recipe) -> Iterator[Rollout | ExpertFailedError]:
        """Yields `recipe.episodes` rollouts, and each failure of the expert between.

        Raises:
            GatoError: If the expert fails on nearly every seed of the task.
        """
        environment = self.make_environment(recipe.task)
        return self.accepted(recipe, self.attempts(environment, recipe, seeds(recipe)))

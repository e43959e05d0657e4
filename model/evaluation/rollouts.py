"""Episodes of many tasks at a time, each environment a row of the policy's batch.

A row takes the next episode when its last one ends, whatever its task, so that short
episodes do not wait for long ones. Seeds begin at 2**30; recorded ones lie below, so no
episode is played that a model was trained on or is prompted with.
"""

import collections
import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gato.model.evaluation.observing import Observer, as_it_is
from gato.model.evaluation.processes import (
    ANSWER_SECONDS,
    CrashedError,
    EnvironmentProcess,
)
from gato.model.evaluation.suite import Contest
from gato.model.prefix import Prefix
from gato.schemas.errors import QuarantineError, UsageError

# gato-record draws its seeds below it.
FIRST_SEED = 1 << 30
_SEED_LIMIT = 1 << 31


@dataclasses.dataclass(frozen=True, kw_only=True)
class Episode:
    """One rollout.

    Attributes:
        task: Number of its task in the suite.
        seed: Of the environment's reset.
        steps: Actions taken.
        reward: Sum of its rewards; None if it crashed.
        success: Whether the task was solved; None where the environment does not say.
        prompt_tokens: Slots of its prompt.
        failure: Why it has no return; None if it has one.
        video: Its file, if one was asked for and could be written.
        no_video: Why it could not.
    """

    task: int
    seed: int
    steps: int
    reward: float | None
    success: bool | None
    prompt_tokens: int = 0
    failure: str | None = None
    video: str | None = None
    no_video: str | None = None


def evaluation_seeds(first: int, episodes: int) -> range:
    """Returns a task's seeds.

    Args:
        first: How far from 2**30 they begin.
        episodes: How many.

    Raises:
        UsageError: If one could be a recorded seed, or is none for a simulator.
    """
    seeds = range(FIRST_SEED + first, FIRST_SEED + first + episodes)
    if first < 0 or seeds.stop > _SEED_LIMIT:
        raise UsageError(
            f"--first_seed and the episodes after it lie in [0, {FIRST_SEED}), since"
            " evaluation's seeds are those from 2**30, which are never recorded; got"
            f" {first} and {episodes} episodes"
        )
    return seeds


@dataclasses.dataclass
class _Playing:
    """The episode of one row."""

    task: int
    seed: int
    observation: Any = None
    prompt_tokens: int = 0
    rewards: list[float] = dataclasses.field(default_factory=list)
    success: bool | None = None
    video: str | None = None
    no_video: str | None = None

    def finished(self, failure: str | None = None) -> Episode:
        missing = self.no_video or failure if self.video else None
        return Episode(
            task=self.task,
            seed=self.seed,
            steps=len(self.rewards),
            prompt_tokens=self.prompt_tokens,
            reward=None if failure else math.fsum(self.rewards),
            success=None if failure else self.success,
            failure=failure,
            video=None if missing else self.video,
            no_video=missing,
        )


class Actor(Protocol):
    """Who acts: `Policy`, or a baseline.

    Attributes:
        rows: Environments at a time.
    """

    rows: int

    def start(self, prefixes: Mapping[int, Prefix | None]) -> None:
        """Begins episodes in rows, each after its prompt."""
        ...

    def act(
        self, observations: Mapping[int, tuple[Prefix, NDArray[np.int32]]]
    ) -> Mapping[int, NDArray[np.int32]]:
        """Returns each row's action tokens, within the ranges beside what it sees."""
        ...


class Arena:
    """Plays the episodes of a suite.

    Args:
        contests: The suite's tasks.
        policy: Who acts; it has one row for each environment.
        prompt_tokens: Of each task's prompt at most; 0 for none.
        answer_seconds: After so long an environment counts as hanging.
        observer: Makes slots of what an environment gives.
        videos: Where to write the videos of episodes, by number of task and seed.
        prompters: For each task the one whose demonstrations it is prompted with; its
            own if None.
    """

    def __init__(
        self,
        contests: Sequence[Contest],
        policy: Actor,
        prompt_tokens: Sequence[int],
        answer_seconds: float = ANSWER_SECONDS,
        observer: Observer = as_it_is,
        videos: Mapping[tuple[int, int], str] | None = None,
        prompters: Sequence[Contest] | None = None,
    ) -> None:
        self._observer = observer
        self._prompters = contests if prompters is None else prompters
        self._videos = videos or {}
        self._contests = contests
        self._policy = policy
        self._prompt_tokens = prompt_tokens
        self._processes = [
            EnvironmentProcess(answer_seconds) for _ in range(policy.rows)
        ]
        self._playing: dict[int, _Playing] = {}

    def close(self) -> None:
        """Ends the environments' processes."""
        for process in self._processes:
            process.close()

    def play(
        self, seeds: range, on_step: Callable[[int], None] = lambda steps: None
    ) -> Iterator[Episode]:
        """Yields each task's episodes as they end, one for each seed.

        Args:
            seeds: Of `evaluation_seeds`.
            on_step: Called with the number of environments that were stepped.
        """
        waiting = collections.deque(
            (task, seed) for task in range(len(self._contests)) for seed in seeds
        )
        while waiting or self._playing:
            yield from self._begin(waiting, seeds)
            yield from self._step()
            on_step(len(self._playing))

    def _begin(
        self, waiting: collections.deque[tuple[int, int]], seeds: range
    ) -> Iterator[Episode]:
        """Fills the idle rows."""
        begun = {}
        for row in range(self._policy.rows):
            if row in self._playing or not waiting:
                continue
            task, seed = waiting.popleft()
            video = self._videos.get((task, seed))
            begun[row] = _Playing(task, seed, video=video)
        for row, playing in begun.items():
            entry = self._contests[playing.task].entry
            with self._costing_the_episode(row, playing) as failures:
                self._processes[row].ask(
                    "reset",
                    entry.environment,
                    entry.options,
                    entry.max_steps,
                    playing.seed,
                    playing.video,
                )
            yield from failures
        prompts = {}
        for row, playing in begun.items():
            if row not in self._playing:
                continue
            control = self._prompters[playing.task].control
            number = playing.seed - seeds.start
            prompt = control.prompt(self._prompt_tokens[playing.task], number)
            playing.prompt_tokens = 0 if prompt is None else len(prompt)
            prompts[row] = prompt
            with self._costing_the_episode(row, playing) as failures:
                playing.observation = self._processes[row].answer()
            yield from failures
        if prompts:
            self._policy.start(prompts)

    def _step(self) -> Iterator[Episode]:
        """Takes one step in every environment."""
        observed = {}
        for row, playing in list(self._playing.items()):
            contest = self._contests[playing.task]
            seen = playing.seed, len(playing.rewards), playing.observation
            with self._costing_the_episode(row, playing) as failures:
                observed[row] = self._observer(contest, *seen), contest.control.ranges
            yield from failures
        if not observed:
            return
        for row, tokens in self._policy.act(observed).items():
            playing = self._playing[row]
            action = self._contests[playing.task].control.decode(tokens)
            with self._costing_the_episode(row, playing) as failures:
                self._processes[row].ask("step", action)
            yield from failures
        for row in [row for row in observed if row in self._playing]:
            playing = self._playing[row]
            with self._costing_the_episode(row, playing) as failures:
                (playing.observation, reward, ended, success, playing.no_video) = (
                    self._processes[row].answer()
                )
                playing.rewards.append(reward)
                if success is not None:
                    playing.success = success or bool(playing.success)
                if ended:
                    del self._playing[row]
                    failures.append(playing.finished())
            yield from failures

    @contextlib.contextmanager
    def _costing_the_episode(
        self, row: int, playing: _Playing
    ) -> Iterator[list[Episode]]:
        """Ends an episode that goes wrong, and says so in the list it gives."""
        ended: list[Episode] = []
        self._playing[row] = playing
        try:
            yield ended
        except (CrashedError, QuarantineError) as error:
            del self._playing[row]
            ended.append(playing.finished(str(error) or type(error).__name__))

"""Atari games: two experts written by hand, these with noise, or random actions.

Games are those of ale-py (GPL-2.0, with its ROMs). It comes without experts. Freeway's
here walks up; Breakout's reads from memory where the ball and the paddle are. They
stand in for trained agents; the other games are played at random.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import ale_py
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from gato.pipelines.recorders import ale_world as world
from gato.pipelines.recorders.domain import (
    Description,
    Domain,
    Recipe,
    Rollout,
    check_fractions,
)
from gato.schemas.errors import UsageError

Player = Callable[[NDArray[np.uint8]], int]

# Places in memory, and numbers among the game's actions.
_BALL_X, _BALL_Y, _PADDLE = 99, 101, 72
_FIRE, _RIGHT, _LEFT = 1, 2, 3
# Of the paddle's middle from where it is said to be, and how far off is near enough.
_MIDDLE, _NEAR = 8, 5
_UP = 1


def _freeway() -> Player:
    return lambda memory: _UP


def _breakout() -> Player:
    last = None

    def act(memory: NDArray[np.uint8]) -> int:
        nonlocal last
        ball, paddle = int(memory[_BALL_X]), int(memory[_PADDLE])
        ahead = ball if last is None else 2 * ball - last
        last = ball
        if memory[_BALL_Y] == 0:  # No ball is in play.
            return _FIRE
        if abs(ahead - paddle - _MIDDLE) <= _NEAR:
            return 0
        return _RIGHT if ahead > paddle + _MIDDLE else _LEFT

    return act


_EXPERTS: dict[str, tuple[str, Callable[[], Player]]] = {
    "Breakout": ("follows the ball, which it reads from memory", _breakout),
    "Freeway": ("walks up", _freeway),
}


def _actor(
    environment: Any, recipe: Recipe, seed: int, noise: float
) -> Callable[[], int]:
    """Returns what gives the next action."""
    generator = recipe.generator(seed)
    num_actions = int(environment.action_space.n)
    if recipe.policy == "random":
        return lambda: int(generator.integers(num_actions))
    expert = _EXPERTS[recipe.task][1]()

    def act() -> int:
        # Asked even when noise acts: it follows the ball.
        advice = expert(environment.unwrapped.ale.getRAM())
        if generator.random() < noise:
            return int(generator.integers(num_actions))
        return advice

    return act


@dataclasses.dataclass(frozen=True, kw_only=True)
class Atari(Domain):
    """All games in grey; noise is the fraction of random actions.

    Attributes:
        max_steps: Where an episode is cut, if it has not ended.
    """

    namespace: ClassVar[str] = "atari"
    title: ClassVar[str] = "Atari"
    option: ClassVar[str] = "games"
    rgb: ClassVar[bool] = False

    max_steps: int = world.MAX_STEPS

    def __post_init__(self) -> None:
        if not 1 <= self.max_steps <= world.MAX_STEPS:
            raise UsageError(
                f"--max_steps is from 1 to {world.MAX_STEPS}, where all games end, got"
                f" {self.max_steps}"
            )

    def tasks(self) -> list[str]:
        """Returns the names of all games, sorted."""
        return list(world.GAMES)

    def short_name(self, task: str) -> str:
        """Returns the game's name."""
        return task

    def has_expert(self, task: str) -> bool:
        """Returns whether an expert is written for the game."""
        return task in _EXPERTS

    def check_noise(self, noise: Sequence[float]) -> None:
        """Refuses what is no fraction between 0 and 1."""
        check_fractions(noise)

    def conditions(self) -> dict[str, Any]:
        """Returns the limit, and the version of the emulator."""
        return {"max_steps": self.max_steps, "ale-py": ale_py.__version__}

    def describe(self, recipe: Recipe) -> Description:
        """Returns the game's spaces, and what rebuilds it."""
        environment = self.make_environment(recipe.task)
        expert = _EXPERTS[recipe.task][0] if self.has_expert(recipe.task) else ""
        algorithms = {
            "expert": expert,
            "noisy": f"{expert}; random actions in fractions of {recipe.noise}",
            "random": "uniformly random actions",
        }
        return Description(
            environment=EnvSpec(
                id=f"{self.namespace}/{recipe.task}",
                entry_point=f"{world.__name__}:{world.make_game.__name__}",
                kwargs={"game": recipe.task, "rgb": self.rgb},
                max_episode_steps=self.max_steps,
                disable_env_checker=True,
            ),
            observation_space=environment.observation_space,
            action_space=environment.action_space,
            algorithm=algorithms[recipe.policy],
            content=f"a frame of 84x84, {'RGB' if self.rgb else 'grey'}",
            requirements=[f"ale-py=={ale_py.__version__}"],
        )

    def make_environment(self, task: str) -> Any:
        """Returns the game."""
        return world.make_game(task, self.rgb)

    def roll_out(
        self, environment: Any, recipe: Recipe, seed: int, attempt: int
    ) -> Rollout:
        """Plays one episode to its end, or to `max_steps`."""
        observation, _ = environment.reset(seed=seed)
        act = _actor(environment, recipe, seed, recipe.episode_noise(attempt))
        observations, actions, outcomes = [observation], [], []
        ended = False
        while not ended:
            action = act()
            observation, reward, terminated, truncated, _ = environment.step(action)
            observations.append(observation)
            actions.append(action)
            truncated |= len(actions) == self.max_steps and not terminated
            outcomes.append((float(reward), terminated, truncated))
            ended = terminated or truncated
        rewards, terminations, truncations = zip(*outcomes, strict=True)
        return Rollout(
            seed=seed,
            observations=np.stack(observations),
            actions=np.array(actions, np.int64),
            rewards=np.array(rewards, np.float64),
            terminations=np.array(terminations, bool),
            truncations=np.array(truncations, bool),
            success=None,
        )


class AtariRGB(Atari):
    """The same games in colour."""

    namespace: ClassVar[str] = "atari_rgb"
    rgb: ClassVar[bool] = True

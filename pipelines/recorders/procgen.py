"""Procgen games: plans by search on saved states, these with noise, or random actions.

Games are those of procgen-mirror (MIT), each level by its number, played by another
interpreter (`procgen_world.py`). The expert sees a game's numbers and tries what comes
of actions (`procgen_search.py`): it stands in for a trained agent. Games that it was
not seen to solve are played at random.

Easy levels completed of those tried: maze 28 of 28, coinrun and caveflyer 23 of 23,
leaper 18 of 18, climber 6 of 6, ninja and miner 22 of 23, heist 19 of 22, chaser 12 of
14, jumper 10 of 13 (some of its levels begin on spikes). Hard levels were not measured.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

from gymnasium.envs.registration import EnvSpec

from gato.pipelines.recorders import playing
from gato.pipelines.recorders import procgen_world as world
from gato.pipelines.recorders.domain import (
    Description,
    Domain,
    ExpertFailedError,
    Recipe,
    Rollout,
)
from gato.pipelines.recorders.procgen_search import Rules, search
from gato.pipelines.sources.procgen_games import GAMES

# Of actions: the eight ways to move, and none of them.
_LEFT_DOWN, _LEFT, _LEFT_UP, _DOWN, _STAY, _UP, _, _RIGHT, _RIGHT_UP, _FIRE = range(10)
_FOUR = (_LEFT, _DOWN, _UP, _RIGHT)
_JUMPS = (_LEFT, _STAY, _RIGHT, _UP, _RIGHT_UP, _LEFT_UP)

# Kinds are those of procgen/src/games.
_RULES = {
    "caveflyer": Rules(
        actions=(_UP, _LEFT, _RIGHT, _STAY, _FIRE),
        repeat=4,
        cell=0.5,
        speed=3,
        kinds=(1,),
        pull=6,
    ),
    "chaser": Rules(actions=_FOUR, repeat=2, cell=0.5, clock=True),
    "climber": Rules(
        actions=_JUMPS,
        repeat=3,
        cell=0.5,
        speed=6,
        kinds=(1,),
        pull=3,
        places=2000,
    ),
    "coinrun": Rules(actions=_JUMPS, repeat=3, cell=0.5, speed=6, toward=(4, 0)),
    "heist": Rules(actions=_FOUR, repeat=2, cell=0.25, rest=True),
    "jumper": Rules(actions=_JUMPS, repeat=3, cell=0.5, speed=6, kinds=(1,), pull=6),
    "leaper": Rules(
        actions=(_UP, _LEFT, _RIGHT, _STAY),
        repeat=5,
        cell=0.5,
        clock=True,
        toward=(0, 5),
    ),
    "maze": Rules(actions=_FOUR),
    "miner": Rules(actions=_FOUR, kinds=(2, 4, 6), pull=1),
    "ninja": Rules(
        actions=_JUMPS, repeat=4, cell=0.5, speed=4, rest=True, kinds=(1,), pull=6
    ),
}


class _Plan:
    """The search's actions, found anew after each that was not its own."""

    def __init__(self, game: world.Procgen, rules: Rules) -> None:
        self._game = game
        self._rules = rules
        self._left: list[int] = []
        self._lost = False

    def advice(self) -> int | None:
        """Returns the next action; None once no reward was found."""
        if not self._left and not self._lost:
            found = search(self._game, self._rules)
            self._lost = found is None
            self._left = found or []
        return self._left[0] if self._left else None

    def done(self, action: int) -> None:
        """Notes the action that was taken."""
        followed = self._left[:1] == [action]
        self._left = self._left[1:] if followed else []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Procgen(Domain):
    """Easy levels; noise is the fraction of random actions.

    Attributes:
        python: The interpreter that has Procgen; None for what the environment names.
    """

    namespace: ClassVar[str] = "procgen"
    title: ClassVar[str] = "Procgen"
    option: ClassVar[str] = "games"
    hard: ClassVar[bool] = False

    python: str | None = None

    def __post_init__(self) -> None:
        world.release(self.python)

    def tasks(self) -> list[str]:
        """Returns the names of all games, sorted."""
        return list(GAMES)

    def has_expert(self, task: str) -> bool:
        """Returns whether the search was seen to solve the game."""
        return task in _RULES

    def conditions(self) -> dict[str, Any]:
        """Returns the release, and whether levels are hard."""
        return {"release": world.release(self.python), "hard": self.hard}

    def describe(self, recipe: Recipe) -> Description:
        """Returns the spaces, and what rebuilds the game."""
        algorithms = {
            "expert": "best-first search on saved states",
            "noisy": f"the same search; random actions in fractions of {recipe.noise}",
            "random": "uniformly random actions",
        }
        return Description(
            environment=EnvSpec(
                id=f"{self.namespace}/{recipe.task}",
                entry_point=f"{world.__name__}:{world.Procgen.__name__}",
                kwargs={"game": recipe.task, "hard": self.hard},
                disable_env_checker=True,
            ),
            observation_space=world.OBSERVATIONS,
            action_space=world.ACTIONS,
            algorithm=algorithms[recipe.policy],
            content="a frame of 64x64; the last repeats the one before",
            requirements=["gato-pipelines"],
        )

    def make_environment(self, task: str) -> world.Procgen:
        """Returns the game."""
        return world.Procgen(task, self.hard, self.python)

    def roll_out(
        self, environment: Any, recipe: Recipe, seed: int, attempt: int
    ) -> Rollout:
        """Plays one episode to its end.

        Raises:
            ExpertFailedError: If the expert does not complete the level.
        """
        observation, _ = environment.reset(seed=seed)
        act = _actor(environment, recipe, seed, recipe.episode_noise(attempt))

        def take_step(observation: Any) -> tuple[int, Any]:
            action = act()
            return action, environment.step(action)

        played = playing.play(observation, take_step, seed=seed, success_key="success")
        solved = played.success is not None and played.success[-1]
        if recipe.policy == "expert" and not solved:
            actions = len(played.actions)
            raise ExpertFailedError(f"level {seed} ended after {actions} actions")
        return played


class ProcgenHard(Procgen):
    """Hard levels of the same games."""

    namespace: ClassVar[str] = "procgen_hard"
    hard: ClassVar[bool] = True


def _actor(
    environment: world.Procgen, recipe: Recipe, seed: int, noise: float
) -> Callable[[], int]:
    """Returns what gives the next action."""
    generator = recipe.generator(seed)

    def explore() -> int:
        return int(generator.integers(world.ACTIONS.n))

    if recipe.policy == "random":
        return explore
    plan = _Plan(environment, _RULES[recipe.task])

    def act() -> int:
        action = None if generator.random() < noise else plan.advice()
        if action is None:
            if recipe.policy == "expert":
                raise ExpertFailedError("the search ended without a plan")
            action = explore()
        plan.done(action)
        return action

    return act

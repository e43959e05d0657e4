"""Sokoban: a solver's plan, this with noise, or random actions.

Rooms and rules are our own (`sokoban_world.py`), made after those of Racanière et al.
2017, whose environment needs a Gym of before 2023. The expert plans by search
(`sokoban_solver.py`) and stands in for a trained agent.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from gymnasium.envs.registration import EnvSpec

from gato.pipelines.recorders import playing
from gato.pipelines.recorders import sokoban_world as world
from gato.pipelines.recorders.domain import (
    Description,
    Domain,
    ExpertFailedError,
    Recipe,
    Rollout,
)
from gato.pipelines.recorders.sokoban_solver import solve

# Of rooms, rules and pictures: data of others is not mixed with this.
_VERSION = 1


class _Plan:
    """The solver's actions, found anew after each that was not its own."""

    def __init__(self, environment: world.Sokoban) -> None:
        self._environment = environment
        actions = solve(environment.room)
        if actions is None:
            raise ExpertFailedError("the search ended without a plan")
        if len(actions) > world.MAX_STEPS:
            raise ExpertFailedError(f"the plan has {len(actions)} actions")
        self._left: list[int] | None = actions

    def advice(self) -> int | None:
        """Returns the next action; None in a room that can no longer be solved."""
        return self._left[0] if self._left else None

    def done(self, action: int, before: world.Room) -> None:
        """Notes the action that was taken in a room."""
        if self._left is None:
            return
        if self._left[0] == action:
            self._left = self._left[1:]
        elif self._environment.room is not before:
            self._left = solve(self._environment.room)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sokoban(Domain):
    """Rooms seen as pictures; noise is the fraction of random actions."""

    namespace: ClassVar[str] = "sokoban"
    title: ClassVar[str] = "Sokoban"
    option: ClassVar[str] = "rooms"
    symbolic: ClassVar[bool] = False

    def tasks(self) -> list[str]:
        """Returns the sizes of rooms, sorted."""
        return sorted(world.ROOMS)

    def conditions(self) -> dict[str, Any]:
        """Returns the version of the rooms."""
        return {"sokoban_version": _VERSION}

    def describe(self, recipe: Recipe) -> Description:
        """Returns the spaces of a size of rooms, and what rebuilds it."""
        environment = self.make_environment(recipe.task)
        algorithms = {
            "expert": "weighted A* over pushes",
            "noisy": f"weighted A*; random actions in fractions of {recipe.noise}",
            "random": "uniformly random actions",
        }
        return Description(
            environment=EnvSpec(
                id=f"{self.namespace}/{recipe.task}",
                entry_point=f"{world.__name__}:{world.Sokoban.__name__}",
                kwargs=self._options(recipe.task),
                disable_env_checker=True,
            ),
            observation_space=environment.observation_space,
            action_space=environment.action_space,
            algorithm=algorithms[recipe.policy],
            content=(
                "a number for each cell"
                if self.symbolic
                else "a picture with 16 pixels a cell"
            ),
            requirements=["gato-pipelines"],
        )

    def _options(self, task: str) -> dict[str, Any]:
        size, num_boxes = world.ROOMS[task]
        return {"size": size, "num_boxes": num_boxes, "symbolic": self.symbolic}

    def make_environment(self, task: str) -> Any:
        """Returns the environment."""
        return world.Sokoban(**self._options(task))

    def roll_out(
        self, environment: Any, recipe: Recipe, seed: int, attempt: int
    ) -> Rollout:
        """Plays one episode to its end.

        Raises:
            ExpertFailedError: If the solver finds no plan that is short enough.
        """
        observation, _ = environment.reset(seed=seed)
        act = _actor(environment, recipe, seed, recipe.episode_noise(attempt))
        played = playing.play(observation, lambda observation: act(), seed=seed)
        # It ends when it is solved.
        success = np.array([False, *played.terminations])[:, None]
        return dataclasses.replace(played, success=success)


class SokobanGrid(Sokoban):
    """The same rooms seen as a number for each cell."""

    namespace: ClassVar[str] = "sokoban_grid"
    symbolic: ClassVar[bool] = True


def _actor(
    environment: world.Sokoban, recipe: Recipe, seed: int, noise: float
) -> Callable[[], tuple[int, Any]]:
    """Returns what takes a step, and gives the action and what came of it."""
    generator = recipe.generator(seed)
    plan = None if recipe.policy == "random" else _Plan(environment)

    def act() -> tuple[int, Any]:
        advice = plan.advice() if plan else None
        if advice is None or generator.random() < noise:
            advice = int(generator.integers(len(world.ACTIONS)))
        before = environment.room
        step = environment.step(advice)
        if plan:
            plan.done(advice, before)
        return advice, step

    return act

"""DM Control's tasks: controllers, these with noise, or random actions.

Environments are those of dm-control 1.0.28 (Apache-2.0; its pin of mujoco matters). It
comes without experts, so those here are written by hand (`dm_control_experts.py`), for
11 tasks; the others are played at random. Observations are the suite's numbers, or
frames and nothing beside them. Nothing is achieved or missed in these tasks: all is
told by rewards in [0, 1].
"""

import dataclasses
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from gato.pipelines.recorders import dm_control_world as world
from gato.pipelines.recorders.dm_control_experts import EXPERTS, make_expert
from gato.pipelines.recorders.domain import (
    Description,
    Domain,
    Recipe,
    Rollout,
    check_deviations,
)
from gato.schemas.errors import UsageError

_PACKAGES = ("dm-control", "mujoco")


def _actor(
    environment: world.SuiteTask, recipe: Recipe, seed: int, noise: float
) -> Callable[[], NDArray[np.float64]]:
    """Returns what gives the next action, not yet clipped."""
    generator = recipe.generator(seed)
    size = environment.action_space.shape
    physics = environment.physics
    expert = make_expert(recipe.task, generator, physics)
    if recipe.policy == "random" or expert is None:
        return lambda: generator.uniform(-1, 1, size)

    def act() -> NDArray[np.float64]:
        # Clipped first: noise on a wish far out of reach would change nothing.
        advice = np.clip(expert(physics), -1, 1)
        return advice + noise * generator.standard_normal(size)

    return act


def _stacked(observations: Sequence[Any]) -> Any:
    if isinstance(observations[0], dict):
        return {
            key: np.stack([one[key] for one in observations]) for key in observations[0]
        }
    return np.stack(observations)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DMControl(Domain):
    """All tasks; noise is the standard deviation of what is added to each action.

    Attributes:
        max_steps: Steps of each episode.
    """

    namespace: ClassVar[str] = "dm_control"
    title: ClassVar[str] = "DM Control"
    option: ClassVar[str] = "tasks"

    max_steps: int = world.MAX_STEPS

    def __post_init__(self) -> None:
        if not 1 <= self.max_steps <= world.MAX_STEPS:
            raise UsageError(
                f"--max_steps is from 1 to {world.MAX_STEPS}, where the environments"
                f" end, got {self.max_steps}"
            )

    def tasks(self) -> list[str]:
        """Returns the names of all tasks, sorted."""
        return list(world.TASKS)

    def short_name(self, task: str) -> str:
        """Returns the task's name."""
        return task

    def has_expert(self, task: str) -> bool:
        """Returns whether a controller is written for the task."""
        return task in EXPERTS

    def check_noise(self, noise: Sequence[float]) -> None:
        """Refuses what is no standard deviation above 0 and below the range's 2."""
        check_deviations(noise)

    def conditions(self) -> dict[str, Any]:
        """Returns the horizon and the versions that decide what happens."""
        versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
        return {"max_steps": self.max_steps, **versions}

    def describe(self, recipe: Recipe) -> Description:
        """Returns the task's spaces, and what rebuilds it."""
        environment = self.make_environment(recipe.task)
        expert = EXPERTS.get(recipe.task, "")
        algorithms = {
            "expert": f"{expert}, clipped",
            "noisy": f"{expert}, clipped; normal noise of deviation {recipe.noise}",
            "random": "uniformly random actions",
        }
        described = Description(
            environment=EnvSpec(
                id=f"{self.namespace}/{recipe.task}",
                entry_point=f"{world.__name__}:{world.SuiteTask.__name__}",
                kwargs=self._options(recipe.task),
                max_episode_steps=self.max_steps,
                disable_env_checker=True,
            ),
            observation_space=environment.observation_space,
            action_space=environment.action_space,
            algorithm=algorithms[recipe.policy],
            content=self._content(),
            requirements=[
                f"{name}=={importlib.metadata.version(name)}" for name in _PACKAGES
            ],
        )
        environment.close()
        return described

    def _options(self, task: str) -> dict[str, Any]:
        return {"task": task}

    def _content(self) -> str:
        return "the suite's numbers, by name"

    def make_environment(self, task: str) -> Any:
        """Returns the environment."""
        return world.SuiteTask(**self._options(task))

    def roll_out(
        self, environment: Any, recipe: Recipe, seed: int, attempt: int
    ) -> Rollout:
        """Plays one episode of `max_steps`."""
        observation, _ = environment.reset(seed=seed)
        act = _actor(environment, recipe, seed, recipe.episode_noise(attempt))
        observations = [observation]
        actions = np.empty((self.max_steps, *environment.action_space.shape), "f4")
        rewards = np.empty(self.max_steps)
        for step in range(self.max_steps):
            actions[step] = np.clip(act(), -1, 1)
            observation, rewards[step], *_ = environment.step(actions[step])
            observations.append(observation)
        truncations = np.zeros(self.max_steps, bool)
        truncations[-1] = True
        return Rollout(
            seed=seed,
            observations=_stacked(observations),
            actions=actions,
            rewards=rewards,
            terminations=np.zeros(self.max_steps, bool),
            truncations=truncations,
            success=None,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DMControlPixels(DMControl):
    """The same tasks seen as frames.

    Attributes:
        pixels: Side of the frames.
    """

    namespace: ClassVar[str] = "dm_control_pixels"

    pixels: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 16 <= self.pixels <= 480:
            raise UsageError(
                "--pixels is from 16, the side of a patch, to 480, the height the"
                f" suite draws at most, got {self.pixels}"
            )
        world.load_renderer()

    def conditions(self) -> dict[str, Any]:
        """Returns these, and what the frames depend on."""
        return {
            "pixels": self.pixels,
            "renderer": world.load_renderer(),
            **super().conditions(),
        }

    def _options(self, task: str) -> dict[str, Any]:
        return {"task": task, "pixels": self.pixels}

    def _content(self) -> str:
        return f"a frame of {self.pixels}x{self.pixels}"

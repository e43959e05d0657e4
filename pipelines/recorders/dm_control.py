"""DM Control's tasks: controllers, these with noise, or random actions.

Environments are those of dm-control 1.0.28 (Apache-2.0; its pin of mujoco matters). It
comes without experts, so those here are written by hand (`dm_control_experts.py`), for
11 tasks; the others are played at random. Observations are the suite's numbers, or
frames and nothing beside them. Nothing is achieved or missed in these tasks: all is
told by rewards in [0, 1]. Bodies are the suite's, or another in each episode
(`dm_control_bodies.py`). Beside the suite's tasks there are four of point_mass that
nothing observed tells apart (`dm_control_goals.py`).
"""

import dataclasses
import importlib.metadata
from typing import Any, ClassVar

from dm_control.rl.control import PhysicsError
from gymnasium.envs.registration import EnvSpec

from gato.pipelines.recorders import continuous
from gato.pipelines.recorders import dm_control_bodies as random_bodies
from gato.pipelines.recorders import dm_control_goals as goals
from gato.pipelines.recorders import dm_control_world as world
from gato.pipelines.recorders.dm_control_experts import EXPERTS, make_expert
from gato.pipelines.recorders.domain import (
    Description,
    ExpertFailedError,
    Recipe,
    Rollout,
    check_max_steps,
)
from gato.schemas.errors import UsageError

_PACKAGES = ("dm-control", "mujoco")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DMControl(continuous.ContinuousDomain):
    """All tasks; noise is the standard deviation of what is added to each action.

    Attributes:
        max_steps: Steps of each episode.
    """

    namespace: ClassVar[str] = "dm_control"
    title: ClassVar[str] = "DM Control"
    option: ClassVar[str] = "tasks"
    _made: ClassVar[type[world.SuiteTask]] = world.SuiteTask

    max_steps: int = world.MAX_STEPS

    def __post_init__(self) -> None:
        check_max_steps(self.max_steps, world.MAX_STEPS)

    def tasks(self) -> list[str]:
        """Returns the names of all tasks, sorted."""
        return list(world.TASKS)

    def has_expert(self, task: str) -> bool:
        """Returns whether a controller is written for the task."""
        return task in EXPERTS

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
                entry_point=f"{self._made.__module__}:{self._made.__name__}",
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
        return self._made(**self._options(task))

    def roll_out(
        self, environment: Any, recipe: Recipe, seed: int, attempt: int
    ) -> Rollout:
        """Plays one episode of `max_steps`."""
        observation, _ = environment.reset(seed=seed)
        generator = recipe.generator(seed)
        expert = make_expert(recipe.task, generator, environment.physics)
        act = continuous.actor(
            expert and (lambda observation: expert(environment.physics)),
            recipe,
            environment.action_space.shape,
            generator,
            recipe.episode_noise(attempt),
        )
        return continuous.play(
            environment, observation, act, seed=seed, max_steps=self.max_steps
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class DMControlRandomSmall(DMControl):
    """The same tasks; each episode's body is its own, a little off the suite's."""

    namespace: ClassVar[str] = "dm_control_random_small"
    bodies: ClassVar[str] = "small"
    _made = random_bodies.RandomBody

    def conditions(self) -> dict[str, Any]:
        """Returns these, and the intervals that bodies are drawn from."""
        return {"factors": random_bodies.FACTORS[self.bodies], **super().conditions()}

    def _options(self, task: str) -> dict[str, Any]:
        return {"task": task, "bodies": self.bodies}

    def _content(self) -> str:
        return f"{super()._content()}, of a body drawn for the episode"

    def roll_out(
        self, environment: Any, recipe: Recipe, seed: int, attempt: int
    ) -> Rollout:
        """Plays one episode of `max_steps`.

        Raises:
            ExpertFailedError: If the simulation of this body breaks down.
        """
        try:
            return super().roll_out(environment, recipe, seed, attempt)
        except PhysicsError as error:
            raise ExpertFailedError(f"seed {seed}: {error}") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class DMControlRandomLarge(DMControlRandomSmall):
    """The same tasks; each episode's body is its own, far off the suite's."""

    namespace: ClassVar[str] = "dm_control_random_large"
    bodies: ClassVar[str] = "large"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DMControlGoals(DMControl):
    """Tasks that differ in their goal alone, which is not observed."""

    namespace: ClassVar[str] = "dm_control_goals"
    _made = goals.CornerTask

    def tasks(self) -> list[str]:
        """Returns the names of the goals, sorted."""
        return sorted(goals.GOALS)


RANDOM_BODIES = {
    one.bodies: one for one in (DMControlRandomSmall, DMControlRandomLarge)
}

"""Tasks of the Fetch arm: scripted experts, these with noise, or random actions.

Environments are those of Gymnasium-Robotics 1.4 (MIT). Nothing public has the paper's
DM Manipulation Playground, RGB Stacking or Playroom: an arm that pushes, picks up and
places one block stands in for the first and, more weakly, for the second (it stacks
nothing) and for Playroom (no room, no language).

Rewards are the sparse ones: -1 for each step at which the goal is not reached.
"""

import contextlib
import dataclasses
import importlib
import importlib.metadata
import io
from typing import Any, ClassVar

import gymnasium
from gymnasium.envs.registration import EnvSpec

from gato.pipelines.recorders import continuous
from gato.pipelines.recorders.domain import (
    Description,
    Recipe,
    Rollout,
)
from gato.pipelines.recorders.robotics_experts import EXPERTS
from gato.schemas.errors import UsageError

# That of the environments: time enough for their goals.
MAX_STEPS = 50
_TASKS = ("FetchPickAndPlace-v4", "FetchPush-v4", "FetchReach-v4", "FetchSlide-v4")
_PACKAGES = ("gymnasium-robotics", "mujoco")
_PIN = "gymnasium-robotics==1.4.2"


def _load_environments() -> None:
    """Registers the environments.

    Raises:
        UsageError: If their package is not installed.
    """
    try:
        # It tells each process how hands that are not used here have changed.
        with contextlib.redirect_stderr(io.StringIO()):
            gymnasium.register_envs(importlib.import_module("gymnasium_robotics"))
    except ImportError as error:
        raise UsageError(
            "the Fetch arm's tasks are those of Gymnasium-Robotics, which is not"
            f" installed. Run: pip install '{_PIN}'"
        ) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Robotics(continuous.ContinuousDomain):
    """All tasks; noise is the standard deviation of what is added to each action.

    Attributes:
        max_steps: Steps of each episode; it goes on after success.
    """

    namespace: ClassVar[str] = "robotics"
    title: ClassVar[str] = "Gymnasium-Robotics"
    option: ClassVar[str] = "tasks"

    max_steps: int = MAX_STEPS

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise UsageError(f"--max_steps is at least 1, got {self.max_steps}")
        _load_environments()

    def tasks(self) -> list[str]:
        """Returns the names of all tasks, sorted."""
        return list(_TASKS)

    def has_expert(self, task: str) -> bool:
        """Returns whether a script is written for the task."""
        return task in EXPERTS

    def conditions(self) -> dict[str, Any]:
        """Returns the horizon and the versions that decide what happens."""
        versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
        return {"max_steps": self.max_steps, **versions}

    def describe(self, recipe: Recipe) -> Description:
        """Returns the task's spaces, and what rebuilds it without this project."""
        environment = self.make_environment(recipe.task)
        made = gymnasium.spec(recipe.task)
        expert = EXPERTS[recipe.task][0] if self.has_expert(recipe.task) else ""
        algorithms = {
            "expert": f"a script that {expert}, clipped",
            "noisy": (
                f"a script that {expert}, clipped; normal noise of deviation"
                f" {recipe.noise}"
            ),
            "random": "uniformly random actions",
        }
        return Description(
            environment=EnvSpec(
                id=f"{self.namespace}/{recipe.task}",
                entry_point=made.entry_point,
                kwargs=dict(made.kwargs),
                max_episode_steps=self.max_steps,
                disable_env_checker=True,
            ),
            observation_space=environment.observation_space,
            action_space=environment.action_space,
            algorithm=algorithms[recipe.policy],
            content="hand and block, what is achieved and the goal, by name",
            requirements=[
                f"{name}=={importlib.metadata.version(name)}" for name in _PACKAGES
            ],
        )

    def make_environment(self, task: str) -> Any:
        """Returns the environment, which renders nothing."""
        _load_environments()  # Worker processes have not.
        return gymnasium.make(
            task, max_episode_steps=self.max_steps, disable_env_checker=True
        )

    def roll_out(
        self, environment: Any, recipe: Recipe, seed: int, attempt: int
    ) -> Rollout:
        """Plays one episode of `max_steps`."""
        expert = EXPERTS[recipe.task][1] if self.has_expert(recipe.task) else None
        act = continuous.actor(
            expert,
            recipe,
            environment.action_space.shape,
            recipe.generator(seed),
            recipe.episode_noise(attempt),
        )
        observation, _ = environment.reset(seed=seed)
        return continuous.play(
            environment,
            observation,
            act,
            seed=seed,
            max_steps=self.max_steps,
            success_key="is_success",
        )

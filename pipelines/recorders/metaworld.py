"""Meta-World's 50 tasks: scripted policies, these with noise, or random actions.

Environments and experts are those of metaworld 3 (MIT; its pins of mujoco matter). The
goal is part of the observation, as the scripted policies need it. Positions of objects
and goal are drawn anew for each episode, from its seed alone. Episodes are played to
`max_steps` whether solved or not: rewards are dense and positive, so an episode that
stopped at success would return less than one that failed.

Scripted policies ask for more than the arm can do on most steps; what is stored, and
what was done, is their action clipped to [-1, 1].
"""

import dataclasses
import importlib.metadata
import warnings
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
from metaworld.policies import ENV_POLICY_MAP

from gato.pipelines.recorders import continuous
from gato.pipelines.recorders.domain import (
    Description,
    Recipe,
    Rollout,
    check_max_steps,
)

# The environments' own horizon: they refuse to step on.
MAX_STEPS = 500
_ACTION_SIZE = 4
# Of each policy, on most steps: it knows that environments clip.
_LOUD = r"Constant\(s\) may be too high"


class SeededTask(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A task whose reset obeys its seed, which Meta-World's own ignores.

    Recorded data sets name this class, so that Minari rebuilds their environment.

    Args:
        task: A name such as `assembly-v3`.
    """

    def __init__(self, task: str) -> None:
        made: Any = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task}-goal-observable"]
        environment = made(seed=0)
        # Made, it keeps one goal; now each reset draws another from the seed.
        environment._freeze_rand_vec = False
        environment.seeded_rand_vec = True
        super().__init__(environment)
        self._seed = environment.seed
        # Its own space leaves out where the hand rests at reset, and the goal.
        self.observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (39,), np.float64
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; without a seed the last one's numbers go on."""
        if seed is not None:
            self._seed(seed)
        return self.env.reset(options=options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaWorld(continuous.ContinuousDomain):
    """All tasks; noise is the standard deviation of what is added to each action.

    Attributes:
        max_steps: Steps of each episode.
    """

    namespace: ClassVar[str] = "metaworld"
    title: ClassVar[str] = "Meta-World"
    option: ClassVar[str] = "tasks"

    max_steps: int = MAX_STEPS

    def __post_init__(self) -> None:
        check_max_steps(self.max_steps, MAX_STEPS)

    def tasks(self) -> list[str]:
        """Returns the names of all tasks, sorted."""
        return sorted(ENV_POLICY_MAP)

    def conditions(self) -> dict[str, Any]:
        """Returns the horizon and the versions that decide what happens."""
        versions = {
            name: importlib.metadata.version(name) for name in ("metaworld", "mujoco")
        }
        return {"max_steps": self.max_steps, **versions}

    def describe(self, recipe: Recipe) -> Description:
        """Returns the task's spaces, and what rebuilds it."""
        environment = self.make_environment(recipe.task)
        policy = ENV_POLICY_MAP[recipe.task].__name__
        algorithms = {
            "expert": f"metaworld.policies.{policy}, clipped",
            "noisy": f"{policy}, clipped; normal noise of deviation {recipe.noise}",
            "random": "uniformly random actions",
        }
        return Description(
            environment=EnvSpec(
                id=f"{self.namespace}/{recipe.task}",
                entry_point=f"{SeededTask.__module__}:{SeededTask.__name__}",
                kwargs={"task": recipe.task},
                max_episode_steps=self.max_steps,
                disable_env_checker=True,
            ),
            observation_space=environment.observation_space,
            action_space=environment.action_space,
            algorithm=algorithms[recipe.policy],
            content="hand and objects, now and a step before, and the goal",
            requirements=[
                f"{name}=={version}"
                for name, version in self.conditions().items()
                if name != "max_steps"
            ],
        )

    def make_environment(self, task: str) -> Any:
        """Returns the environment, which renders nothing."""
        return SeededTask(task)

    def roll_out(
        self, environment: Any, recipe: Recipe, seed: int, attempt: int
    ) -> Rollout:
        """Plays one episode of `max_steps`."""
        act = continuous.actor(
            ENV_POLICY_MAP[recipe.task]().get_action,
            recipe,
            _ACTION_SIZE,
            recipe.generator(seed),
            recipe.episode_noise(attempt),
        )
        observation, _ = environment.reset(seed=seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=_LOUD)
            return continuous.play(
                environment,
                observation,
                act,
                seed=seed,
                max_steps=self.max_steps,
                success_key="success",
            )

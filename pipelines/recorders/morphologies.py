"""Bodies with few or many limbs that run: a planner, it with noise, or random actions.

Modular RL (Huang et al. 2020) has 38 bodies and trained agents; its environments need a
MuJoCo of before 2021. Bodies made here by a few rules (`morphologies_bodies.py`) stand
in for its own, with its reward, and planning (`planner.py`) for its agents. Nothing is
achieved or missed: all is told by rewards.

In 200 steps (one seed each) the planner got 39 with worm-2, 202 with worm-5, 178 with
cheetah-1-1, 400 with cheetah-3-3 and 577 with walker-3-3; random actions -18 to 15. It
is no agent that was trained: cheetahs run on their backs, hoppers and walkers of
unequal legs fall after 70 steps or some hundred, and cheetah-0-1 hardly moves.
"""

import dataclasses
import functools
import importlib.metadata
from typing import Any, ClassVar

import numpy as np
from gymnasium.envs.registration import EnvSpec

from gato.pipelines.recorders import continuous
from gato.pipelines.recorders import morphologies_world as world
from gato.pipelines.recorders.domain import (
    Description,
    Recipe,
    Rollout,
    check_max_steps,
)
from gato.pipelines.recorders.morphologies_bodies import BODIES, Body
from gato.pipelines.recorders.planner import Planner, Problem, Values

# Of bodies, rules and rewards: data of others is not mixed with this.
_VERSION = 1
# Of a plan's step. A body that dives is fast and falls only beyond the plan's end.
_LEANING, _FALLEN = 3.0, 2.0


def _worth(body: Body, qpos: Values, speed: Values) -> Values:
    """Returns what plans are compared by; of upright bodies more than the reward."""
    if not body.upright:
        return speed
    alive = np.logical_and.accumulate(world.stands(body, qpos), axis=-1)
    leaning = 1 - np.cos(qpos[..., 2])
    return np.where(alive, world.ALIVE + speed - _LEANING * leaning, -_FALLEN)


def _problem(body: Body) -> Problem:
    return Problem(
        reward=functools.partial(_worth, body),
        control_step=world.CONTROL_STEP,
        physics_step=0.01,  # Twice the world's: half the time.
        samples=32,
        horizon=40 if body.upright else 30,
        spacing=5,
        deviation=0.8,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Morphologies(continuous.ContinuousDomain):
    """All bodies; noise is the standard deviation of what is added to each action.

    Attributes:
        max_steps: Where an episode is cut, if the body has not fallen.
    """

    namespace: ClassVar[str] = "morphologies"
    title: ClassVar[str] = "morphology"
    option: ClassVar[str] = "bodies"
    # Planning takes some 15 seconds an episode.
    episodes_per_chunk: ClassVar[int] = 2

    max_steps: int = world.MAX_STEPS

    def __post_init__(self) -> None:
        check_max_steps(self.max_steps, world.MAX_STEPS)

    def tasks(self) -> list[str]:
        """Returns the names of all bodies, sorted."""
        return list(BODIES)

    def conditions(self) -> dict[str, Any]:
        """Returns the horizon, and the versions of bodies and simulator."""
        return {
            "max_steps": self.max_steps,
            "morphologies_version": _VERSION,
            "mujoco": importlib.metadata.version("mujoco"),
        }

    def describe(self, recipe: Recipe) -> Description:
        """Returns the body's spaces, and what rebuilds it."""
        environment = self.make_environment(recipe.task)
        expert = "planning by predictive sampling, which knows model and reward"
        algorithms = {
            "expert": expert,
            "noisy": f"{expert}; normal noise of deviation {recipe.noise}",
            "random": "uniformly random actions",
        }
        return Description(
            environment=EnvSpec(
                id=f"{self.namespace}/{recipe.task}",
                entry_point=f"{world.__name__}:{world.Morphology.__name__}",
                kwargs={"body": recipe.task},
                max_episode_steps=self.max_steps,
                disable_env_checker=True,
            ),
            observation_space=environment.observation_space,
            action_space=environment.action_space,
            algorithm=algorithms[recipe.policy],
            content="positions and velocities of all joints",
            requirements=[
                "gato-pipelines",
                f"mujoco=={importlib.metadata.version('mujoco')}",
            ],
        )

    def make_environment(self, task: str) -> Any:
        """Returns the environment, which renders nothing."""
        return world.Morphology(task)

    def roll_out(
        self, environment: Any, recipe: Recipe, seed: int, attempt: int
    ) -> Rollout:
        """Plays one episode, to the body's fall or to `max_steps`."""
        observation, _ = environment.reset(seed=seed)
        generator = recipe.generator(seed)
        planner = Planner(_problem(environment.body), generator, environment.model)
        act = continuous.actor(
            lambda observation: planner(environment.data),
            recipe,
            environment.action_space.shape,
            generator,
            recipe.episode_noise(attempt),
        )
        return continuous.play(
            environment, observation, act, seed=seed, max_steps=self.max_steps
        )

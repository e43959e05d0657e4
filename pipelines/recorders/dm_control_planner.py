"""Planning for walker and cheetah: of many wiggled plans, the best one's first action.

Predictive sampling (Howell et al. 2022, https://arxiv.org/abs/2212.00541): the last
plan, moved on by a step, and copies of it with noise are played in MuJoCo from the
state as it is, and the best is kept. It knows the model and the reward, so it stands in
for a trained agent; it is slow, and gets less than one at running.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from dm_control.utils.rewards import tolerance
from mujoco import rollout
from numpy.typing import NDArray

Values = NDArray[np.float64]

# Its names are those of compiled modules, which type checkers do not see.
_mujoco: Any = mujoco
_STATE = _mujoco.mjtState.mjSTATE_FULLPHYSICS
_WALKER_STEP, _CHEETAH_STEP = 0.025, 0.01  # of control, in seconds
_STAND_HEIGHT = 1.2
_TORSO_HEIGHT = 1.3  # of walker where its first joint is at 0
_CHEETAH_SPEED = 10.0
# Noise is drawn in three sizes, so that some plans are nearly the last one.
_SIZES = (0.25, 0.5, 1.0)


def _run(qpos: Values, speed: Values) -> Values:
    return np.asarray(
        tolerance(
            speed,
            bounds=(_CHEETAH_SPEED, np.inf),
            margin=_CHEETAH_SPEED,
            value_at_margin=0,
            sigmoid="linear",
        )
    )


def _stand(qpos: Values, speed: Values) -> Values:
    standing = tolerance(
        _TORSO_HEIGHT + qpos[..., 0],
        bounds=(_STAND_HEIGHT, np.inf),
        margin=_STAND_HEIGHT / 2,
    )
    return (3 * standing + (1 + np.cos(qpos[..., 2])) / 2) / 4


def _move(wanted: float) -> Callable[[Values, Values], Values]:
    def reward(qpos: Values, speed: Values) -> Values:
        moving = tolerance(
            speed,
            bounds=(wanted, np.inf),
            margin=wanted / 2,
            value_at_margin=0.5,
            sigmoid="linear",
        )
        return _stand(qpos, speed) * (5 * moving + 1) / 6

    return reward


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """What is planned for, and how.

    Attributes:
        reward: The suite's, of joint positions [..., joints] and forward speeds [...].
        control_step: Seconds between actions.
        physics_step: Seconds of a step of simulation in plans.
        samples: How many plans are compared.
        horizon: Actions of a plan.
        spacing: Actions between the knots at which noise is drawn.
        deviation: Of the noise.
    """

    reward: Callable[[Values, Values], Values]
    control_step: float
    physics_step: float
    samples: int
    horizon: int
    spacing: int
    deviation: float


def _walker(
    reward: Callable[[Values, Values], Values], samples: int, deviation: float
) -> Problem:
    return Problem(
        reward=reward,
        control_step=_WALKER_STEP,
        physics_step=0.005,  # Twice the suite's: half the time, and as good.
        samples=samples,
        horizon=24,
        spacing=4,
        deviation=deviation,
    )


PROBLEMS = {
    "cheetah-run": Problem(
        reward=_run,
        control_step=_CHEETAH_STEP,
        physics_step=_CHEETAH_STEP,
        samples=48,
        horizon=50,
        spacing=5,
        deviation=0.8,
    ),
    "walker-run": _walker(_move(8.0), 32, 0.8),
    "walker-stand": _walker(_stand, 16, 0.5),
    "walker-walk": _walker(_move(1.0), 16, 0.5),
}


class Planner:
    """Plans one episode; the simulation it looks into is left as it was.

    Args:
        problem: What for.
        generator: Draws the noise.
        physics: The simulation of the episode, of dm_control.
    """

    def __init__(
        self, problem: Problem, generator: np.random.Generator, physics: Any
    ) -> None:
        self._problem = problem
        self._generator = generator
        self._model = copy.copy(physics.model.ptr)
        self._model.opt.timestep = problem.physics_step
        self._data = _mujoco.MjData(self._model)
        self._repeats = round(problem.control_step / problem.physics_step)
        self._plan = np.zeros((problem.horizon, self._model.nu))
        # [horizon, knots]: each action lies between the knots beside it.
        places = np.arange(problem.horizon) / problem.spacing
        knots = np.arange(np.floor(places[-1]) + 2)
        self._between = np.maximum(0, 1 - np.abs(places[:, None] - knots))

    def __call__(self, physics: Any) -> Values:
        """Returns the action to take."""
        plans = self._wiggled(np.concatenate([self._plan[1:], self._plan[-1:]]))
        self._plan = plans[self._scores(physics, plans).argmax()]
        return self._plan[0]

    def _wiggled(self, plan: Values) -> Values:
        """Returns the plan and copies of it with noise, [samples, horizon, actions]."""
        samples, knots = self._problem.samples, self._between.shape[1]
        sizes = self._generator.choice(_SIZES, (samples, 1, 1))
        noise = self._generator.standard_normal((samples, knots, plan.shape[1]))
        noise *= sizes * self._problem.deviation
        noise[0] = 0
        return np.clip(plan + self._between @ noise, -1, 1)

    def _scores(self, physics: Any, plans: Values) -> Values:
        """Returns the sum of rewards of each plan."""
        state = np.empty(_mujoco.mj_stateSize(self._model, _STATE))
        _mujoco.mj_getState(physics.model.ptr, physics.data.ptr, state, _STATE)
        played: Any = rollout.rollout(
            self._model,
            self._data,
            np.tile(state, (len(plans), 1)),
            plans.repeat(self._repeats, axis=1),
            initial_warmstart=np.tile(physics.data.qacc_warmstart, (len(plans), 1)),
        )
        states, sensors = played
        after = slice(self._repeats - 1, None, self._repeats)
        # A state is the time, then positions; the only sensor is the torso's velocity.
        qpos = states[:, after, 1 : 1 + self._model.nq]
        return self._problem.reward(qpos, sensors[:, after, 0]).sum(axis=1)

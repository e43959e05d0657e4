"""Planning by looking ahead: of many wiggled plans, the best one's first action.

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
from mujoco import rollout
from numpy.typing import NDArray

Values = NDArray[np.float64]

# Its names are those of compiled modules, which type checkers do not see.
_mujoco: Any = mujoco
_STATE = _mujoco.mjtState.mjSTATE_FULLPHYSICS
# Noise is drawn in three sizes, so that some plans are nearly the last one.
_SIZES = (0.25, 0.5, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """What is planned for, and how.

    Attributes:
        reward: Of each step of plans, of joint positions [plans, steps, joints] and of
            what the first sensor reads, the forward speed [plans, steps].
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


class Planner:
    """Plans one episode; the simulation it looks into is left as it was.

    Args:
        problem: What for.
        generator: Draws the noise.
        model: MuJoCo's model of the episode's body.
    """

    def __init__(
        self, problem: Problem, generator: np.random.Generator, model: Any
    ) -> None:
        self._problem = problem
        self._generator = generator
        self._model = copy.copy(model)
        self._model.opt.timestep = problem.physics_step
        self._data = _mujoco.MjData(self._model)
        self._repeats = round(problem.control_step / problem.physics_step)
        self._plan = np.zeros((problem.horizon, self._model.nu))
        # [horizon, knots]: each action lies between the knots beside it.
        places = np.arange(problem.horizon) / problem.spacing
        knots = np.arange(np.floor(places[-1]) + 2)
        self._between = np.maximum(0, 1 - np.abs(places[:, None] - knots))

    def __call__(self, data: Any) -> Values:
        """Returns the action to take in the state that MuJoCo's data is in."""
        plans = self._wiggled(np.concatenate([self._plan[1:], self._plan[-1:]]))
        self._plan = plans[self._scores(data, plans).argmax()]
        return self._plan[0]

    def _wiggled(self, plan: Values) -> Values:
        """Returns the plan and copies of it with noise, [samples, horizon, actions]."""
        samples, knots = self._problem.samples, self._between.shape[1]
        sizes = self._generator.choice(_SIZES, (samples, 1, 1))
        noise = self._generator.standard_normal((samples, knots, plan.shape[1]))
        noise *= sizes * self._problem.deviation
        noise[0] = 0
        return np.clip(plan + self._between @ noise, -1, 1)

    def _scores(self, data: Any, plans: Values) -> Values:
        """Returns the sum of rewards of each plan."""
        state = np.empty(_mujoco.mj_stateSize(self._model, _STATE))
        _mujoco.mj_getState(self._model, data, state, _STATE)
        played: Any = rollout.rollout(
            self._model,
            self._data,
            np.tile(state, (len(plans), 1)),
            plans.repeat(self._repeats, axis=1),
            initial_warmstart=np.tile(data.qacc_warmstart, (len(plans), 1)),
        )
        states, sensors = played
        after = slice(self._repeats - 1, None, self._repeats)
        # A state is the time, then positions.
        qpos = states[:, after, 1 : 1 + self._model.nq]
        return self._problem.reward(qpos, sensors[:, after, 0]).sum(axis=1)

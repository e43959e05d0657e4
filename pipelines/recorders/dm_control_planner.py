"""Rewards of walker and cheetah, and how their actions are planned."""

from collections.abc import Callable

import numpy as np
from dm_control.utils.rewards import tolerance

from gato.pipelines.recorders.planner import Problem, Values

_WALKER_STEP, _CHEETAH_STEP = 0.025, 0.01  # of control, in seconds
_STAND_HEIGHT = 1.2
_TORSO_HEIGHT = 1.3  # of walker where its first joint is at 0
_CHEETAH_SPEED = 10.0


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

"""Controllers of DM Control tasks, written by hand: they stand in for trained agents.

Each looks into the simulation and returns an action, not yet clipped:

- cartpole: a linear regulator near the top; to swing up, energy is pumped in while the
  cart is drawn to the middle;
- reacher: the angles that reach the target, and a spring and damper on each joint;
- point_mass: a spring and damper to the target, wherever that lies;
- cheetah and walker: planning (`planner.py`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.recorders.dm_control_goals import GOALS
from gato.pipelines.recorders.dm_control_planner import PROBLEMS
from gato.pipelines.recorders.planner import Planner

Controller = Callable[[Any], NDArray[np.float64]]

# For the cart's place, the pole's angle and both velocities: the discrete regulator of
# costs 1, 10, 1 and 1, and of 10 for the action, at the top.
_BALANCE = np.array([0.2966, 4.7826, 0.557, 1.2351])
_CATCH_ANGLE, _CATCH_SPEED = 0.56, 5.8
# The pole about its end: inertia, and mass times gravity times half its length.
_INERTIA, _WEIGHT = 0.0344, 0.1 * 9.81 * 0.5
_PUMP, _PLACE, _SLOW = 10.0, 0.3, 0.3
_REACH, _REACH_DAMPING = 4.0, 0.6
_LINK = 0.12  # from joint to joint, and on to the finger
_WRIST = 0.04  # how far it stays within its range
_APPROACH, _APPROACH_DAMPING = 40.0, 3.0


def _half_turn(angle: float) -> float:
    """Returns the same direction in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _balance(physics: Any) -> NDArray[np.float64]:
    place, angle = physics.data.qpos
    return np.array([_BALANCE @ [place, _half_turn(angle), *physics.data.qvel]])


def _swing_up(physics: Any) -> NDArray[np.float64]:
    place, angle = physics.data.qpos
    speed, spin = physics.data.qvel
    if abs(_half_turn(angle)) < _CATCH_ANGLE and abs(spin) < _CATCH_SPEED:
        return _balance(physics)
    # 0 is what the pole has at rest at the top.
    energy = _INERTIA / 2 * spin**2 + _WEIGHT * (np.cos(angle) - 1)
    push = np.clip(_PUMP * energy * np.sign(spin * np.cos(angle)), -1, 1)
    return np.array([push - _PLACE * place - _SLOW * speed])


def _reach(physics: Any) -> NDArray[np.float64]:
    x, y = physics.named.model.geom_pos["target", :2]
    shoulder, wrist = physics.data.qpos
    bend = np.arccos(np.clip((x**2 + y**2) / (2 * _LINK**2) - 1, -1, 1))
    farthest = physics.named.model.jnt_range["wrist", 1] - _WRIST
    # Of the two ways to bend, the one the wrist is bent already.
    bend = np.copysign(min(bend, farthest), wrist)
    aim = np.arctan2(y, x) - bend / 2
    error = np.array([_half_turn(aim - shoulder), bend - wrist])
    return _REACH * error - _REACH_DAMPING * physics.data.qvel


def _approach(physics: Any) -> NDArray[np.float64]:
    away = physics.data.qpos - physics.named.model.geom_pos["target", :2]
    return -_APPROACH * away - _APPROACH_DAMPING * physics.data.qvel


_CONTROLLERS: dict[str, tuple[str, Controller]] = {
    "cartpole-balance": ("linear regulator", _balance),
    "cartpole-balance_sparse": ("linear regulator", _balance),
    "cartpole-swingup": ("energy pump and linear regulator", _swing_up),
    "cartpole-swingup_sparse": ("energy pump and linear regulator", _swing_up),
    "point_mass-easy": ("spring and damper", _approach),
    "reacher-easy": ("inverse kinematics, spring and damper", _reach),
    "reacher-hard": ("inverse kinematics, spring and damper", _reach),
    **{goal: ("spring and damper", _approach) for goal in GOALS},
}
EXPERTS = {name: said for name, (said, _) in _CONTROLLERS.items()} | {
    name: "planning by predictive sampling, which knows model and reward"
    for name in PROBLEMS
}


def make_expert(
    task: str, generator: np.random.Generator, physics: Any
) -> Controller | None:
    """Returns a controller for one episode, or None if there is none for the task.

    Args:
        task: A name such as `cartpole-swingup`.
        generator: Draws what a planner tries.
        physics: The simulation of the episode, which stays as it is.
    """
    if task in PROBLEMS:
        planner = Planner(PROBLEMS[task], generator, physics.model.ptr)
        return lambda physics: planner(physics.data.ptr)
    return _CONTROLLERS[task][1] if task in _CONTROLLERS else None

"""Controllers of the Fetch arm's tasks, written by hand: they stand in for agents.

Each maps what is observed, a dict with the goal, to an action, not yet clipped: where
the hand is to go, and whether its fingers open (1) or close (-1). They decide anew at
each step from what they see, so that noise does not lead them astray.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Observation = Mapping[str, Values]

# Of the hand's way in metres; a whole action is a wish of 5 cm.
_GAIN = 15.0
_OPEN, _CLOSE = 1.0, -1.0
# Metres: of the hand's point behind or above a block of 5 cm.
_BEHIND, _ABOVE = 0.09, 0.08
_NEAR, _HELD = 0.02, 0.015
# Apart from this the fingers (0.1 m when open) hold nothing.
_WIDTH = 0.055


def _go(way: Values, fingers: float = 0.0) -> Values:
    return np.append(_GAIN * way, fingers)


def _seen(observation: Observation) -> tuple[Values, Values, Values]:
    """Returns where hand, block and goal are."""
    numbers = observation["observation"]
    return numbers[:3], numbers[3:6], observation["desired_goal"]


def _reach(observation: Observation) -> Values:
    return _go(observation["desired_goal"] - observation["achieved_goal"])


def _push(observation: Observation) -> Values:
    """Comes down behind the block and drives it to the goal, keeping to the line."""
    hand, block, goal = _seen(observation)
    distance = float(np.linalg.norm((goal - block)[:2]))
    if distance < _NEAR / 2:
        return _go(np.zeros(3))
    way = (goal - block)[:2] / distance
    beside = (hand - block)[:2]
    aside = beside - beside @ way * way
    low = hand[2] < block[2] + _NEAR
    if low and beside @ way < -_NEAR and np.linalg.norm(aside) < _NEAR:
        onward = way * min(distance, 0.05) - 2 * aside
        return _go(np.append(onward, block[2] - hand[2]))
    to_start = (block[:2] - _BEHIND * way) - hand[:2]
    if np.linalg.norm(to_start) < _NEAR:
        return _go(np.append(to_start, block[2] - hand[2]))
    up = block[2] + _ABOVE - hand[2]
    return _go(np.append(np.zeros(2) if low else to_start, up))


def _pick_and_place(observation: Observation) -> Values:
    """Comes down on the block, closes the fingers and carries it to the goal."""
    hand, block, goal = _seen(observation)
    to_block = block - hand
    width = observation["observation"][9:11].sum()
    if np.linalg.norm(to_block) < _NEAR and width < _WIDTH:
        return _go(goal - block, _CLOSE)
    if np.linalg.norm(to_block) < _HELD:
        return _go(to_block, _CLOSE)
    if np.linalg.norm(to_block[:2]) < _NEAR:
        return _go(to_block, _OPEN)
    up = max(to_block[2] + _ABOVE, 0.0)
    return _go(np.append(to_block[:2], up), _OPEN)


EXPERTS: dict[str, tuple[str, Callable[[Observation], Values]]] = {
    "FetchPickAndPlace-v4": ("grasps the block and carries it", _pick_and_place),
    "FetchPush-v4": ("comes behind the block and pushes it", _push),
    "FetchReach-v4": ("goes straight to the goal", _reach),
}

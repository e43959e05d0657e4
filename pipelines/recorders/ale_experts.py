"""Players of Atari games, written by hand: they stand in for trained agents.

Each reads the console's memory of 128 bytes and returns the number of an action among
those that do something in the game. Places in memory are those of Anand et al. 2019
(mila-iqia/atari-representation-learning).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Player = Callable[[NDArray[np.uint8]], int]


class Expert(NamedTuple):
    """Who plays a game.

    Attributes:
        says: What it does.
        make: Returns a player for one episode.
        any_setting: Whether it plays the game in all its modes and difficulties.
    """

    says: str
    make: Callable[[], Player]
    any_setting: bool = False


def _held(action: int) -> Callable[[], Player]:
    """Returns what makes a player that never does anything else."""
    return lambda: lambda memory: action


class _Breakout:
    """Moves the paddle to where the ball will be."""

    BALL_X, BALL_Y, PADDLE = 99, 101, 72
    FIRE, RIGHT, LEFT = 1, 2, 3
    # Of the paddle's middle from where it is said to be, and how far off is near.
    MIDDLE, NEAR = 8, 5

    def __init__(self) -> None:
        self._last: int | None = None

    def __call__(self, memory: NDArray[np.uint8]) -> int:
        ball, paddle = int(memory[self.BALL_X]), int(memory[self.PADDLE])
        ahead = ball if self._last is None else 2 * ball - self._last
        self._last = ball
        if memory[self.BALL_Y] == 0:  # No ball is in play.
            return self.FIRE
        off = ahead - paddle - self.MIDDLE
        if abs(off) <= self.NEAR:
            return 0
        return self.RIGHT if off > 0 else self.LEFT


EXPERTS = {
    "Breakout": Expert("follows the ball, which it reads from memory", _Breakout),
    "Freeway": Expert("walks up", _held(1)),
}

"""Players of Atari games, by hand or by looking ahead: in place of trained agents.

Each returns the number of an action among those that do something in the game. Those
written by hand read the console's memory of 128 bytes. Places in memory are those of
Anand et al. 2019 (mila-iqia/atari-representation-learning).
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.recorders import ale_search as search
from gato.pipelines.recorders import ale_world as world

Player = Callable[[NDArray[np.uint8]], int]
# Of an environment after its reset, and what draws the random part of its actions.
MakePlayer = Callable[[Any, np.random.Generator], Player]


class Expert(NamedTuple):
    """Who plays a game.

    Attributes:
        says: What it does.
        make: Returns a player for one episode.
        any_setting: Whether it plays the game in all its modes and difficulties.
    """

    says: str
    make: MakePlayer
    any_setting: bool = False


def _by_memory(make: Callable[[], Player]) -> MakePlayer:
    """Returns what makes a player that needs nothing but the memory."""
    return lambda environment, generator: make()


def _planned(effort: search.Effort) -> Expert:
    """Returns an expert that looks ahead, in any setting of its game."""

    def make(environment: Any, generator: np.random.Generator) -> Player:
        game = environment.unwrapped
        copy = world.make_copy(environment)
        planner = search.Planner(game.ale, copy, game._action_set, generator, effort)
        return lambda memory: planner()

    return Expert("plays plans ahead on saved states", make, any_setting=True)


def _held(action: int) -> Callable[[], Player]:
    """Returns what makes a player that never does anything else."""
    return lambda: lambda memory: action


def _swept(*actions: int) -> Callable[[], Player]:
    """Returns what makes a player that does these over and over."""

    def make() -> Player:
        endless = itertools.cycle(actions)
        return lambda memory: next(endless)

    return make


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


class _Pong:
    """Moves the paddle to where the ball will be two steps ahead, if it comes."""

    BALL_X, BALL_Y, PADDLE = 49, 54, 51
    FIRE, UP, DOWN = 1, 2, 3
    MIDDLE, NEAR, AHEAD = 8, 4, 2

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None

    def __call__(self, memory: NDArray[np.uint8]) -> int:
        x, y, paddle = (int(memory[i]) for i in (self.BALL_X, self.BALL_Y, self.PADDLE))
        if y == 0:  # No ball is in play.
            self._last = None
            return self.FIRE
        last_x, last_y = self._last or (x, y)
        self._last = x, y
        ahead = y + self.AHEAD * (y - last_y) if x > last_x else y
        off = ahead - paddle - self.MIDDLE
        if abs(off) <= self.NEAR:
            return 0
        return self.DOWN if off > 0 else self.UP


# Of Boxing, by where to go, across and down; a punch is eight further on.
_MOVES = {
    (0, 0): 0,
    (0, -1): 2,
    (1, 0): 3,
    (-1, 0): 4,
    (0, 1): 5,
    (1, -1): 6,
    (-1, -1): 7,
    (1, 1): 8,
    (-1, 1): 9,
}


class _Boxing:
    """Stays a little above or below the other and hits: level, few blows land."""

    # Of both across, then down; ours is first.
    PLACES = (32, 33, 34, 35)
    FAR, CLOSE = 14, 6
    OFF_LEVEL, NEAR = 10, 2

    def __init__(self) -> None:
        self._punches = False

    def __call__(self, memory: NDArray[np.uint8]) -> int:
        x, other_x, y, other_y = (int(memory[place]) for place in self.PLACES)
        side = self.OFF_LEVEL if other_y < y else -self.OFF_LEVEL
        across, down = other_x - x, other_y + side - y
        if self.CLOSE <= abs(across) <= self.FAR:
            towards = 0
        else:
            towards = int(np.sign(across)) * (1 if abs(across) > self.FAR else -1)
        move = towards, int(np.sign(down)) if abs(down) > self.NEAR else 0
        # A fist is drawn back before it hits again.
        self._punches = not self._punches
        if not self._punches:
            return _MOVES[move]
        return 1 if move == (0, 0) else _MOVES[move] + 8


class _Skiing:
    """Turns towards the nearest gate below."""

    PLACE, DIRECTION = 25, 15
    # Of what is on the slope: how far across, what, and how far up the screen.
    ACROSS, KIND, UP = slice(62, 70), slice(70, 78), slice(86, 94)
    GATE, SKIER_UP = 2, 150
    RIGHT, LEFT = 1, 2
    DOWNHILL, MOST = 8, 3
    # Of a gate's middle from its left pole; how much across is worth one turn.
    MIDDLE, TURN = 16, 8

    def __call__(self, memory: NDArray[np.uint8]) -> int:
        kind, up = memory[self.KIND], memory[self.UP].astype(int)
        below = np.flatnonzero((kind == self.GATE) & (up < self.SKIER_UP))
        direction = self.DOWNHILL
        if len(below):
            gate = int(memory[self.ACROSS][below[np.argmax(up[below])]])
            off = gate + self.MIDDLE - int(memory[self.PLACE])
            direction += min(max(round(off / self.TURN), -self.MOST), self.MOST)
        now = int(memory[self.DIRECTION])
        if now == direction:
            return 0
        return self.RIGHT if now < direction else self.LEFT


# Turmoil's lanes lie above each other; in each it shoots to the right and the left.
_LANES, _SHOTS = 7, [10] * 3 + [11] * 3
_UP, _DOWN = 2, 5
_turmoil = _swept(*[_UP, *_SHOTS] * _LANES, *[_DOWN, *_SHOTS] * _LANES)
_NEAR = _planned(search.Effort())
_FAR = _planned(search.FAR)

EXPERTS = {
    "AirRaid": _NEAR,
    "Boxing": Expert(
        "goes for the other and hits, by both places in memory", _by_memory(_Boxing)
    ),
    "Breakout": Expert(
        "follows the ball, which it reads from memory", _by_memory(_Breakout)
    ),
    "Freeway": Expert("walks up", _by_memory(_held(1))),
    "Galaxian": _NEAR,
    "LostLuggage": _FAR,
    "MrDo": _NEAR,
    "Pacman": _NEAR,
    "Pong": Expert("follows the ball, which it reads from memory", _by_memory(_Pong)),
    "Pooyan": _NEAR,
    "Skiing": Expert(
        "turns to the next gate, which it reads from memory", _by_memory(_Skiing)
    ),
    "Turmoil": Expert(
        "goes up and down the lanes, shooting to both sides",
        _by_memory(_turmoil),
        any_setting=True,
    ),
}

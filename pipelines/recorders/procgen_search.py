"""Plans to the next reward of a Procgen game by a best-first search on saved states.

States that look alike by a game's rules are taken for one: the player stands in the
same cell, and whatever else the rules name is the same. The search counts, and has no
clock, so that the same command records the same data on a slow machine.
"""

import dataclasses
import heapq
import itertools
from collections.abc import Hashable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

_PLAYER = 0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Sight:
    """What a place looks like, by the numbers of the game.

    Attributes:
        clock: Steps since the level began.
        things: float32 [n, 5]: kind, x, y in cells, and speed in both, in cells a step.
        grid: int16 [height, width]: what fills a cell; y goes up.
        rest: The game's own variables.
    """

    clock: int
    things: NDArray[np.float32]
    grid: NDArray[np.int16]
    rest: bytes

    def player(self) -> NDArray[np.float32]:
        """Returns x, y and speed of the player."""
        return self.things[self.things[:, 0] == _PLAYER][-1, 1:]

    def nearest(self, kind: int) -> float | None:
        """Returns how many cells away a kind of thing is, by x and y."""
        found = self.things[self.things[:, 0] == kind, 1:3]
        if not len(found):
            rows, columns = np.nonzero(self.grid == kind)
            found = np.stack([columns, rows], axis=1) + 0.5
        if not len(found):
            return None
        return float(np.abs(found - self.player()[:2]).sum(axis=1).min())


class Move(NamedTuple):
    """What came of an action.

    Attributes:
        steps: How often it was done.
        reward: The sum.
        solved: Whether the level was completed.
        place: Where it led to; None if the episode ended.
        sight: What this looks like.
    """

    steps: int
    reward: float
    solved: bool
    place: int | None
    sight: Sight | None


class World(Protocol):
    """A game whose states can be saved."""

    def save(self) -> tuple[int, Sight]:
        """Keeps the state it is in as a place, and forgets all others."""
        ...

    def expand(self, place: int, actions: Sequence[int], repeat: int) -> list[Move]:
        """Returns what doing each action, to the first reward, leads to."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """How a game is searched.

    Attributes:
        actions: Those that are tried; the other ones do nothing, or no good.
        repeat: How often each is done.
        cell: Places closer than this are one, in cells of the game.
        speed: And slower than one over this, in cells a step; 0 heeds no speed.
        clock: Whether the same place later is another.
        rest: Whether the game's own variables make another.
        kinds: What is gone for: the first of these kinds that is there.
        toward: Or where: what a cell to the right, and one up, is worth.
        pull: What a cell closer to that is worth, in steps.
        places: After how many the search gives up.
    """

    actions: tuple[int, ...]
    repeat: int = 1
    cell: float = 1.0
    speed: float = 0.0
    clock: bool = False
    rest: bool = False
    kinds: tuple[int, ...] = ()
    toward: tuple[float, float] = (0.0, 0.0)
    pull: float = 0.0
    places: int = 1000

    def key(self, sight: Sight) -> Hashable:
        """Returns what is equal for places that are taken for one."""
        player = sight.player()
        return (
            tuple(np.floor(player[:2] / self.cell).astype(int).tolist()),
            tuple(np.round(player[2:] * self.speed).astype(int).tolist()),
            sight.clock if self.clock else None,
            sight.rest if self.rest else None,
            sight.things[:, 0].tobytes(),
            sight.grid.tobytes(),
        )

    def left(self, sight: Sight) -> float:
        """Returns how many steps may be left."""
        x, y = sight.player()[:2].tolist()
        ahead = -self.toward[0] * x - self.toward[1] * y
        for kind in self.kinds:
            distance = sight.nearest(kind)
            if distance is not None:
                return ahead + self.pull * distance
        return ahead


class _Node(NamedTuple):
    """A place, the action that led there and how often, and the place before."""

    place: int
    action: int
    steps: int
    before: "_Node | None"

    def plan(self) -> list[int]:
        """Returns the actions that led here."""
        parts = []
        node: _Node | None = self
        while node is not None:
            parts.append([node.action] * node.steps)
            node = node.before
        return list(itertools.chain.from_iterable(reversed(parts)))


def search(world: World, rules: Rules) -> list[int] | None:
    """Returns actions that lead from where a game is to a reward, or its completion.

    They do not end the episode but by completing the level. None if there are no such,
    or none was found.
    """
    place, sight = world.save()
    number = itertools.count()  # Of equals, the earlier; nodes are not compared.
    queue = [(0.0, next(number), 0, _Node(place, 0, 0, None))]
    seen = {rules.key(sight)}
    for _ in range(rules.places):
        if not queue:
            return None
        _, _, steps, node = heapq.heappop(queue)
        moves = world.expand(node.place, rules.actions, rules.repeat)
        for action, move in zip(rules.actions, moves, strict=True):
            after = _Node(move.place or 0, action, move.steps, node)
            if move.solved or (move.sight is not None and move.reward > 0):
                return after.plan()
            if move.sight is None or move.reward < 0:
                continue
            key = rules.key(move.sight)
            if key not in seen:
                seen.add(key)
                done = steps + move.steps
                entry = (done + rules.left(move.sight), next(number), done, after)
                heapq.heappush(queue, entry)
    return None

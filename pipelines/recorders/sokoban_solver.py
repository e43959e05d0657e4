"""Solves a room of Sokoban by weighted A* over pushes."""

import heapq
import itertools
from typing import NamedTuple

from gato.pipelines.recorders.sokoban_world import Room

# Of the distance still to go; 1 finds the fewest pushes, more finds some much sooner.
_WEIGHT = 3
_MAX_ROOMS = 50_000


class _Node(NamedTuple):
    """A room after a push, the actions since the last one, and where it was before."""

    room: Room
    actions: list[int]
    before: "_Node | None"

    def plan(self) -> list[int]:
        """Returns the actions that led here."""
        parts: list[list[int]] = []
        node: _Node | None = self
        while node is not None:
            parts.append(node.actions)
            node = node.before
        return list(itertools.chain.from_iterable(reversed(parts)))


def _distances(room: Room) -> dict[int, int]:
    """Returns how many pushes lead from a cell to the nearest target.

    Walls are heeded and other boxes are not. A box on a cell that is not in it is lost.
    """
    distances = dict.fromkeys(room.targets, 0)
    border = sorted(room.targets)
    for cell in border:  # It grows meanwhile.
        for move in room.moves:
            # Pulled from here, as pushes backwards.
            origin, player = cell - move, cell - 2 * move
            if origin not in distances and {origin, player} <= room.floor:
                distances[origin] = distances[cell] + 1
                border.append(origin)
    return distances


def _walk(room: Room, reach: dict[int, int | None], cell: int) -> list[int]:
    """Returns the actions that lead to a cell in reach."""
    actions: list[int] = []
    while (action := reach[cell]) is not None:
        actions.append(action)
        cell -= room.moves[action]
    return actions[::-1]


def solve(room: Room) -> list[int] | None:
    """Returns actions that solve a room; None if there are none, or none were found.

    The search ends after 50,000 rooms: a count, not a clock, so that the same command
    records the same data on a slow machine.
    """
    distances = _distances(room)
    if not room.boxes <= distances.keys():
        return None
    number = itertools.count()  # Of equals, the earlier; rooms are not compared.
    queue = [(0, next(number), 0, _Node(room, [], None))]
    seen: set[tuple[frozenset[int], int]] = set()
    while queue and len(seen) < _MAX_ROOMS:
        _, _, pushes, node = heapq.heappop(queue)
        now = node.room
        if now.solved:
            return node.plan()
        reach = now.reach()
        # Where the player walked to since the last push makes no difference.
        key = (now.boxes, min(reach))
        if key in seen:
            continue
        seen.add(key)
        for box in sorted(now.boxes):
            for action, move in enumerate(now.moves):
                beyond = box + move
                if (
                    box - move not in reach
                    or beyond not in distances
                    or beyond in now.boxes
                ):
                    continue
                after = now._replace(boxes=now.boxes - {box} | {beyond}, player=box)
                left = sum(distances[one] for one in after.boxes)
                actions = [*_walk(now, reach, box - move), action]
                entry = _Node(after, actions, node)
                cost = pushes + 1 + _WEIGHT * left
                heapq.heappush(queue, (cost, next(number), pushes + 1, entry))
    return None

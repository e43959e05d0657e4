"""Solves a room of Sokoban by weighted A* over pushes."""

import heapq
import itertools

from gato.pipelines.recorders.sokoban_world import Room

# Of the distance still to go; 1 finds the fewest pushes, more finds some much sooner.
_WEIGHT = 3
_MAX_ROOMS = 50_000


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
    start: tuple[Room, tuple[int, ...], tuple | None] = (room, (), None)
    queue = [(0, next(number), 0, start)]
    seen = set()
    while queue and len(seen) < _MAX_ROOMS:
        _, _, pushes, node = heapq.heappop(queue)
        now = node[0]
        if now.solved:
            return _actions(node)
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
                walked = (*_walk(now, reach, box - move), action)
                entry = (after, walked, node)
                cost = pushes + 1 + _WEIGHT * left
                heapq.heappush(queue, (cost, next(number), pushes + 1, entry))
    return None


def _actions(node: tuple | None) -> list[int]:
    parts = []
    while node is not None:
        parts.append(node[1])
        node = node[2]
    return [action for part in reversed(parts) for action in part]

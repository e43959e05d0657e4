"""Sokoban: rooms that can be solved, made from a seed, as Gymnasium environments.

Importing this module registers `sokoban/7x7` (2 boxes), `sokoban/8x8` (3) and
`sokoban/10x10` (4), seen as RGB with 16 pixels a cell, which is a patch; and
`sokoban_grid/...`, the same seen as a number for each cell. `gato-evaluate` makes them
as `gato.pipelines.recorders.sokoban_world:sokoban/7x7`.

Rooms are carved by a random walk and played backwards from the solved state, as in
Racanière et al. 2017 (https://arxiv.org/abs/1707.06203), section C; rewards and limit
are those of its environment: -0.1 a step, +1 and -1 for a box moved onto a target and
off it, +10 at the end, 120 steps. Its rooms are 10x10 with 4 boxes. There is no action
that does nothing, and none that moves but does not push.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

MAX_STEPS = 120
# Side of the room with its outer walls, and boxes.
ROOMS = {"7x7": (7, 2), "8x8": (8, 3), "10x10": (10, 4)}
ACTIONS = ("up", "down", "left", "right")

_STEP, _ON, _OFF, _SOLVED = -0.1, 1.0, -1.0, 10.0
_FLOOR, _WALL, _TARGET, _BOX, _BOX_ON, _PLAYER, _PLAYER_ON = range(7)
_NUM_KINDS = 7
_CELL = 16
# What a step of the walk carves around it, as rows and columns beside it.
_BRUSHES = (
    ((0, -1), (0, 0), (0, 1)),
    ((-1, 0), (0, 0), (1, 0)),
    ((0, -1), (0, 0), (1, 0)),
    ((0, -1), (0, 0), (1, -1), (1, 0)),
    ((0, 0), (0, 1), (1, 0)),
)
_TURN = 0.35
_PULLS = 100


class Room(NamedTuple):
    """A state of play; cells are numbered row by row.

    Attributes:
        size: Side of the room.
        floor: Cells that are no wall; none lies at the rim.
        targets: Where boxes belong.
        boxes: Where they are.
        player: Where the player is.
    """

    size: int
    floor: frozenset[int]
    targets: frozenset[int]
    boxes: frozenset[int]
    player: int

    @property
    def moves(self) -> tuple[int, int, int, int]:
        """How each action changes the number of a cell."""
        return (-self.size, self.size, -1, 1)

    @property
    def solved(self) -> bool:
        """Whether all boxes are on targets."""
        return self.boxes == self.targets

    def after(self, action: int) -> "Room":
        """Returns the room after an action; the same one if something is in the way.

        >>> room = Room(5, frozenset({6, 7, 8}), frozenset({8}), frozenset({7}), 6)
        >>> room.after(3).boxes, room.after(3).player, room.after(0) is room
        (frozenset({8}), 7, True)
        """
        move = self.moves[action]
        there, beyond = self.player + move, self.player + 2 * move
        if there not in self.floor:
            return self
        if there not in self.boxes:
            return self._replace(player=there)
        if beyond not in self.floor or beyond in self.boxes:
            return self
        return self._replace(player=there, boxes=self.boxes - {there} | {beyond})

    def reach(self) -> dict[int, int | None]:
        """Returns the cells to walk to without a push, each with its last action."""
        seen: dict[int, int | None] = {self.player: None}
        border = [self.player]
        for cell in border:  # It grows meanwhile.
            for action, move in enumerate(self.moves):
                there = cell + move
                if (
                    there in self.floor
                    and there not in self.boxes
                    and there not in seen
                ):
                    seen[there] = action
                    border.append(there)
        return seen


def _carve(size: int, random: np.random.Generator) -> frozenset[int]:
    """Returns the floor that a random walk leaves."""
    floor = set()
    row, column = random.integers(1, size - 1, 2)
    direction = random.integers(4)
    for _ in range(int(1.7 * 2 * size)):
        if random.random() < _TURN:
            direction = random.integers(4)
        for down, right in _BRUSHES[random.integers(len(_BRUSHES))]:
            if 0 < row + down < size - 1 and 0 < column + right < size - 1:
                floor.add(int((row + down) * size + column + right))
        row += (-1, 1, 0, 0)[direction]
        column += (0, 0, -1, 1)[direction]
        row, column = np.clip((row, column), 1, size - 2)
    return frozenset(floor)


def _pulls(room: Room, boxes: Sequence[int]) -> list[tuple[int, int]]:
    """Returns which box can be pulled with which move, by its place in `boxes`."""
    reach = room.reach()
    free = room.floor - room.boxes
    return [
        (index, move)
        for index, box in enumerate(boxes)
        for move in room.moves
        if box + move in reach and box + 2 * move in free
    ]


def _distance(size: int, one: int, other: int) -> int:
    return abs(one // size - other // size) + abs(one % size - other % size)


def _play_backwards(room: Room, random: np.random.Generator) -> Room | None:
    """Returns the state furthest from solved on a random way back.

    None if none is far: two cells a box, and no box on a target.
    """
    homes = sorted(room.boxes)
    boxes = list(homes)
    best, furthest = None, 2 * len(boxes) - 1
    for _ in range(_PULLS):
        choices = _pulls(room, boxes)
        if not choices:
            break
        index, move = choices[random.integers(len(choices))]
        boxes[index] += move
        room = room._replace(boxes=frozenset(boxes), player=boxes[index] + move)
        far = sum(map(_distance, [room.size] * len(boxes), boxes, homes))
        if far > furthest and not room.boxes & room.targets:
            best, furthest = room, far
    return best


def make_room(size: int, num_boxes: int, random: np.random.Generator) -> Room:
    """Returns a room that can be solved, with no box on a target."""
    while True:
        floor = _carve(size, random)
        if len(floor) < 3 * num_boxes + 2:
            continue
        cells = random.permutation(sorted(floor)).tolist()
        targets = frozenset(cells[:num_boxes])
        solved = Room(size, floor, targets, targets, cells[num_boxes])
        room = _play_backwards(solved, random)
        if room is not None:
            return room


def grid(room: Room) -> NDArray[np.int64]:
    """Returns what is in each cell, [size, size].

    0 floor, 1 wall, 2 target, 3 box, 4 box on a target, 5 player, 6 player on a target.
    """
    cells = np.full(room.size**2, _WALL)
    cells[list(room.floor)] = _FLOOR
    cells[list(room.targets)] = _TARGET
    cells[list(room.boxes)] = _BOX
    cells[list(room.boxes & room.targets)] = _BOX_ON
    cells[room.player] = _PLAYER_ON if room.player in room.targets else _PLAYER
    return cells.reshape(room.size, room.size)


def _draw_tiles() -> NDArray[np.uint8]:
    """Returns a picture of each kind of cell, [7, 16, 16, 3]."""
    tiles = np.zeros((_NUM_KINDS, _CELL, _CELL, 3), np.uint8)
    away = np.abs(np.arange(_CELL) - (_CELL - 1) / 2)
    square = np.maximum(away[:, None], away)
    circle = np.hypot(away[:, None], away)
    tiles[:] = (24, 24, 32)
    tiles[_WALL] = (120, 72, 48)
    tiles[_WALL, ::8] = tiles[_WALL, :8, 0] = tiles[_WALL, 8:, 8] = (64, 40, 24)
    for kind in (_TARGET, _PLAYER_ON):
        tiles[kind, (square > 4) & (square < 7)] = (220, 60, 60)
    for kind, colour in ((_BOX, (200, 160, 60)), (_BOX_ON, (80, 200, 80))):
        tiles[kind, square < 7] = colour
        tiles[kind, square < 4] = np.array(colour) // 2
    for kind in (_PLAYER, _PLAYER_ON):
        tiles[kind, circle < 5] = (80, 140, 240)
    return tiles


_TILES = _draw_tiles()


def picture(room: Room) -> NDArray[np.uint8]:
    """Returns RGB with 16 pixels a cell, [16 * size, 16 * size, 3]."""
    side = room.size * _CELL
    return _TILES[grid(room)].swapaxes(1, 2).reshape(side, side, 3)


class Sokoban(gymnasium.Env[NDArray[Any], Any]):
    """Rooms of one size; each reset makes another.

    Args:
        size: Side of the room with its outer walls.
        num_boxes: How many boxes.
        symbolic: Whether a number for each cell is seen in place of a picture.
    """

    room: Room

    def __init__(self, size: int, num_boxes: int, symbolic: bool = False) -> None:
        self._size = size
        self._num_boxes = num_boxes
        self._see = grid if symbolic else picture
        self.action_space = gymnasium.spaces.Discrete(len(ACTIONS))
        if symbolic:
            self.observation_space = gymnasium.spaces.Box(
                0, _NUM_KINDS - 1, (size, size), np.int64
            )
        else:
            side = size * _CELL
            self.observation_space = gymnasium.spaces.Box(
                0, 255, (side, side, 3), np.uint8
            )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Starts in another room."""
        super().reset(seed=seed)
        self.room = make_room(self._size, self._num_boxes, self.np_random)
        self._steps = 0
        return self._see(self.room), {"success": False}

    def step(
        self, action: int
    ) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Moves the player, and a box that stands there if it can be pushed."""
        before = len(self.room.boxes & self.room.targets)
        self.room = self.room.after(int(action))
        change = len(self.room.boxes & self.room.targets) - before
        solved = self.room.solved
        reward = _STEP + change * (_ON if change > 0 else -_OFF) + solved * _SOLVED
        self._steps += 1
        truncated = self._steps == MAX_STEPS and not solved
        return self._see(self.room), reward, solved, truncated, {"success": solved}


for _name, (_size, _num_boxes) in ROOMS.items():
    for _namespace, _symbolic in (("sokoban", False), ("sokoban_grid", True)):
        gymnasium.register(
            id=f"{_namespace}/{_name}",
            entry_point=f"{__name__}:{Sokoban.__name__}",
            kwargs={"size": _size, "num_boxes": _num_boxes, "symbolic": _symbolic},
            disable_env_checker=True,
        )

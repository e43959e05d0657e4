"""A package that answers as procgen-mirror 0.10.7 does, with one game of its own.

All games are a field of 8 x 8 cells with lava and a goal, drawn from the level's
number; levels that five divides have no way to the goal. Saved states have the layout
of `Game::serialize` and what it calls, in procgen/src of openai/procgen at 37b521d.
`plunder` dies at its first step, states of `bigfish` have a layout that is not known.
"""

import os
import random
import struct
import sys

import numpy as np

SIZE, TIMEOUT = 8, 40
SPACE, LAVA, GOAL = 100, 51, 2
# Of the moves, by action.
MOVES = {1: (-1, 0), 3: (0, -1), 5: (0, 1), 7: (1, 0)}


def _text(value: bytes) -> bytes:
    return struct.pack("<i", len(value)) + value


def _generator(clock: int) -> bytes:
    return struct.pack("<i", 1) + _text(b"12345 " * 200 + str(clock).encode())


class _Buffers:
    """Stands for cffi."""

    def new(self, kind: str, length: int) -> bytearray:
        assert kind == "char[]"
        return bytearray(length)

    def buffer(self, data: bytearray, length: int) -> bytearray:
        return data[:length]


class ProcgenGym3Env:
    """One game with one level."""

    def __init__(
        self,
        num: int,
        env_name: str,
        num_levels: int,
        start_level: int,
        distribution_mode: str,
        num_threads: int,
        rand_seed: int,
    ) -> None:
        assert (num, num_levels, num_threads) == (1, 1, 0)
        print("what is printed must not stand between answers")
        self._ffi = _Buffers()
        self._name = env_name
        self._level = start_level
        self._lava = 8 if distribution_mode == "hard" else 4
        self._told = (0.0, True, False)
        self._begin()

    def _begin(self) -> None:
        drawn = random.Random(self._level)
        cells = [(x, y) for x in range(SIZE) for y in range(SIZE)]
        lava = drawn.sample(cells[2:-2], self._lava)
        self._grid = np.full((SIZE, SIZE), SPACE, np.int32)
        for x, y in lava:
            self._grid[y, x] = LAVA
        self._goal = (SIZE - 1, SIZE - 1)
        if self._level % 5 == 0:
            self._grid[SIZE - 2, SIZE - 1] = self._grid[SIZE - 1, SIZE - 2] = LAVA
        self._grid[SIZE - 1, SIZE - 1] = GOAL
        self._at = (0, 0)
        self._clock = 0

    def act(self, actions: np.ndarray) -> None:
        (action,) = actions.tolist()
        if self._name == "plunder":
            sys.stderr.write("fatal: the ship sank\n")
            sys.stderr.flush()
            os._exit(3)
        move = MOVES.get(action, (0, 0))
        x, y = np.clip(np.add(self._at, move), 0, SIZE - 1).tolist()
        self._at, self._clock = (x, y), self._clock + 1
        solved = self._at == self._goal
        ended = solved or self._grid[y, x] == LAVA or self._clock == TIMEOUT
        self._told = (10.0 * solved, bool(ended), solved)
        if ended:
            self._begin()

    def observe(self) -> tuple:
        frame = np.zeros((SIZE, SIZE, 3), np.uint8)
        frame[..., 0] = self._grid
        frame[self._at[1], self._at[0], 1] = 255
        frame[..., 2] = self._level % 256
        frame = frame.repeat(64 // SIZE, 0).repeat(64 // SIZE, 1)
        reward, first, _ = self._told
        return np.array([reward], np.float32), {"rgb": frame[None]}, np.array([first])

    def get_info(self) -> list[dict]:
        return [{"prev_level_complete": int(self._told[2])}]

    def call_c_func(self, name: str, index: int, buffer: bytearray, length: int) -> int:
        assert (name, index) == ("get_state", 0)
        state = self._state()
        assert len(state) <= length
        buffer[: len(state)] = state
        return len(state)

    def _state(self) -> bytes:
        step = [0] * 15
        step[4], step[13] = TIMEOUT, self._clock
        player = struct.pack("<6f", *(c + 0.5 for c in self._at), 0, 0, 0.5, 0.5)
        return b"".join(
            [
                struct.pack("<i", self._name == "bigfish"),
                _text(self._name.encode()),
                bytes(4 * 17),
                _generator(0),
                _generator(self._clock),
                struct.pack("<15i", *step),
                struct.pack("<2i", SIZE * SIZE, 1),
                player + bytes(4 * 25),
                bytes(4 * 19),
                _generator(0),
                bytes(4 * 9),
                struct.pack("<3i", SIZE, SIZE, SIZE * SIZE),
                self._grid.astype("<i4").tobytes(),
                struct.pack("<2i", *self._at),
            ]
        )

    def set_state(self, states: list[bytes]) -> None:
        (state,) = states
        self._begin()
        at = struct.unpack("<2i", state[-8:])
        self._at = (at[0], at[1])
        offset = 8 + len(self._name) + 4 * 17
        for _ in range(2):
            (length,) = struct.unpack_from("<i", state, offset + 4)
            offset += 8 + length
        (self._clock,) = struct.unpack_from("<i", state, offset + 4 * 13)

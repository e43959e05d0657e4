"""One Procgen game in a process of its own, under an interpreter that can import it.

    PYTHON -I procgen_worker.py

procgen-mirror 0.10.7 wants NumPy 1, which the rest of this project left behind: this
file imports Python's library, NumPy and procgen alone. Requests come by standard input,
answers go to what was standard output; each is the lengths of two parts (uint32,
little-endian), a JSON object, and raw bytes. Requests carry no bytes. They say under
`do` what to do:

    about   which release this is, and its games
    start   begin the only level of a number: {game, level, hard}
    step    do {action} in it
    save    keep the state that it is in as place 0, and forget all other places
    expand  from {place}, do each of {actions} up to {repeat} times, to the first reward
            or the end, and keep what it led to as a new place

Places are played in a second environment: what is recorded was never restored. What a
place looks like is read from its saved state, whose layout is that of Game::serialize,
BasicAbstractGame::serialize and Entity::serialize in procgen/src of openai/procgen at
37b521d.
"""

import json
import os
import signal
import struct
import sys
from importlib import metadata
from typing import IO, Any, NamedTuple

import numpy as np

FRAME = (64, 64, 3)
NUM_ACTIONS = 15
# Of a thing: kind, x, y, and its speed in both.
THING = 5
_LENGTHS = struct.Struct("<II")
_STATE_BYTES = 1 << 20
# Most of a state, the text of generators, is that of the state before.
_PIECE_BYTES = 512

# Counts of four-byte fields between those parts whose length the state says.
_OPTIONS, _STEP, _CLOCK, _TIMEOUT = 17, 15, 13, 4
_ENTITY, _KIND = 31, 6
_LOOKS, _VIEW = 19, 9


def send(stream: IO[bytes], header: Any, body: bytes = b"") -> None:
    """Writes one message."""
    text = json.dumps(header).encode()
    stream.write(_LENGTHS.pack(len(text), len(body)) + text + body)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[Any, bytes]:
    """Reads one message.

    Raises:
        EOFError: If the other side is gone.
    """
    lengths = _LENGTHS.unpack(_read(stream, _LENGTHS.size))
    text, body = (_read(stream, length) for length in lengths)
    return json.loads(text), body


def _read(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


class _Seen(NamedTuple):
    """What a saved state says: steps done, how many there can be, and what is where."""

    clock: int
    timeout: int
    things: Any
    grid: Any
    rest: bytes


class _State:
    """Reads a saved state from its beginning."""

    def __init__(self, data: bytes, game: str) -> None:
        self._data = data
        self._offset = 0
        version, name = self._number(), self._skip(self._number())
        if version != 0 or name != game.encode():
            raise ValueError(f"a state of version {version} of {name!r}, not 0, {game}")

    def _number(self) -> int:
        (number,) = struct.unpack("<i", self._skip(4))
        return number

    def _numbers(self, count: int) -> Any:
        return np.frombuffer(self._skip(4 * count), "<i4")

    def _skip(self, length: int) -> bytes:
        part = self._data[self._offset : self._offset + length]
        if len(part) != length or length < 0:
            raise ValueError(f"the state ends within {length} bytes at {self._offset}")
        self._offset += length
        return part

    def _generator(self) -> None:
        self._number()
        self._skip(self._number())

    def read(self) -> _Seen:
        self._numbers(_OPTIONS)
        self._generator()
        self._generator()
        step = self._numbers(_STEP)
        self._number()  # of cells
        count = self._number()
        numbers = self._numbers(count * _ENTITY).reshape(count, _ENTITY)
        values = numbers.view("<f4")
        things = np.concatenate(
            [numbers[:, _KIND, None].astype("<f4"), values[:, :4]], axis=1
        )
        self._numbers(_LOOKS)
        self._generator()
        self._numbers(_VIEW)
        width, height, count = self._number(), self._number(), self._number()
        grid = self._numbers(count).reshape(height, width)
        return _Seen(
            clock=int(step[_CLOCK]),
            timeout=int(step[_TIMEOUT]),
            things=things,
            grid=grid.astype("<i2"),
            rest=self._data[self._offset :],
        )


class _Game:
    """One environment with one level."""

    def __init__(self, game: str, level: int, hard: bool) -> None:
        from procgen import ProcgenGym3Env  # type: ignore[import-not-found]

        self._name = game
        self._made = ProcgenGym3Env(
            num=1,
            env_name=game,
            num_levels=1,
            start_level=level,
            distribution_mode="hard" if hard else "easy",
            num_threads=0,
            rand_seed=0,
        )
        self._buffer = self._made._ffi.new("char[]", _STATE_BYTES)

    def frame(self) -> bytes:
        _, observed, _ = self._made.observe()
        return observed["rgb"][0].tobytes()

    def step(self, action: int) -> tuple[float, bool, bool]:
        """Returns the reward, and whether the level ended, and was completed."""
        self._made.act(np.array([action]))
        reward, _, first = self._made.observe()
        (told,) = self._made.get_info()
        return float(reward[0]), bool(first[0]), bool(told["prev_level_complete"])

    def save(self) -> bytes:
        # Its own get_state clears a buffer of 1 MiB each time.
        made = self._made
        length = made.call_c_func("get_state", 0, self._buffer, _STATE_BYTES)
        return bytes(made._ffi.buffer(self._buffer, length))

    def restore(self, state: bytes) -> None:
        self._made.set_state([state])

    def seen(self, state: bytes) -> _Seen:
        return _State(state, self._name).read()


class _Server:
    def __init__(self) -> None:
        self._asked: Any = None
        self._game: Any = None
        self._thought: Any = None
        self._places: list[list[bytes]] = []
        self._pieces: dict[bytes, bytes] = {}

    def answer(self, request: Any) -> tuple[Any, bytes]:
        asked = dict(request)
        do = {
            "about": self.about,
            "start": self.start,
            "step": self.step,
            "save": self.save,
            "expand": self.expand,
        }
        return do[asked.pop("do")](**asked)

    def about(self) -> tuple[Any, bytes]:
        from procgen.env import ENV_NAMES  # type: ignore[import-not-found]

        release = f"procgen-mirror {metadata.version('procgen-mirror')}"
        return {"release": release, "games": list(ENV_NAMES)}, b""

    def start(self, **asked: Any) -> tuple[Any, bytes]:
        self._game, self._thought = _Game(**asked), None
        self._asked = asked
        seen = self._game.seen(self._game.save())
        return {"timeout": seen.timeout}, self._game.frame()

    def step(self, action: int) -> tuple[Any, bytes]:
        reward, ended, solved = self._game.step(action)
        told = {"reward": reward, "ended": ended, "solved": solved}
        return told, self._game.frame()

    def save(self) -> tuple[Any, bytes]:
        if self._thought is None:
            self._thought = _Game(**self._asked)
        self._places, self._pieces = [], {}
        return self._place(self._game.save())

    def expand(self, place: int, actions: list[int], repeat: int) -> tuple[Any, bytes]:
        moves, bodies = [], []
        for action in actions:
            self._thought.restore(b"".join(self._places[place]))
            done, reward, ended, solved = 0, 0.0, False, False
            while done < repeat and not (reward or ended):
                reward, ended, solved = self._thought.step(action)
                done += 1
            move = {"steps": done, "reward": reward, "ended": ended, "solved": solved}
            # After its end it is another level's beginning.
            if not ended:
                seen, body = self._place(self._thought.save())
                move |= seen
                bodies.append(body)
            moves.append(move)
        return {"moves": moves}, b"".join(bodies)

    def _place(self, state: bytes) -> tuple[Any, bytes]:
        starts = range(0, len(state), _PIECE_BYTES)
        pieces = (state[start : start + _PIECE_BYTES] for start in starts)
        self._places.append([self._pieces.setdefault(one, one) for one in pieces])
        seen = self._game.seen(state)
        told = {
            "place": len(self._places) - 1,
            "clock": seen.clock,
            "things": len(seen.things),
            "grid": seen.grid.shape,
            "rest": len(seen.rest),
        }
        return told, seen.things.tobytes() + seen.grid.tobytes() + seen.rest


def main() -> None:
    """Answers requests until standard input ends."""
    # An interrupt is the recorder's to handle; it ends standard input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What the game prints must not stand between the answers.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    server = _Server()
    while True:
        try:
            request, _ = receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = server.answer(request)
        except Exception as error:  # whatever it is, the recorder says it
            answer = {"error": f"{type(error).__name__}: {error}"}, b""
        send(answers, *answer)


if __name__ == "__main__":
    main()

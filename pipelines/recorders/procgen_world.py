"""Procgen games as environments; each is played by another interpreter.

Importing this module registers `procgen/<game>`, easy, and `procgen_hard/<game>`, hard.
`gato-evaluate` makes them as `gato.pipelines.recorders.procgen_world:procgen/maze`, by
the interpreter that the environment variable GATO_PROCGEN_PYTHON names.

A reset's seed is the number of the level. Procgen never draws the frame an episode
ended in, but that of the next one's beginning: here the last observation repeats the
one before.
"""

import contextlib
import functools
import os
import pathlib
import subprocess
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from typing import IO, Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from gato.pipelines.recorders import procgen_worker as worker
from gato.pipelines.recorders.procgen_search import Move, Sight
from gato.pipelines.sources.procgen_games import GAMES
from gato.schemas.errors import GatoError, UsageError

PYTHON_VARIABLE = "GATO_PROCGEN_PYTHON"
OBSERVATIONS = gymnasium.spaces.Box(0, 255, worker.FRAME, np.uint8)
ACTIONS = gymnasium.spaces.Discrete(worker.NUM_ACTIONS)

_WORKER = pathlib.Path(worker.__file__).resolve()
# For a process that closed its end to finish, and of what it said, the last part.
_LAST_SECONDS = 10.0
_SAID = 500
_RECIPE = """make one with
  python3.11 -m venv procgen
  procgen/bin/pip install "procgen-mirror==0.10.7" "numpy<2"
and give --python procgen/bin/python"""


class _DiedError(Exception):
    """The process ended; the message says how, and what it said last."""


class _Process:
    """An interpreter that runs `procgen_worker.py`; it ends with this object."""

    def __init__(self, python: str) -> None:
        with contextlib.ExitStack() as opened:
            self._said = opened.enter_context(tempfile.TemporaryFile())
            self._process = subprocess.Popen(
                # Isolated, as modules beside the worker have names that others use.
                [python, "-I", str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
            )
            opened.pop_all()
        weakref.finalize(self, _end, self._process, self._said)

    def ask(self, **request: Any) -> tuple[Any, bytes]:
        """Returns the answer to a request.

        Raises:
            GatoError: If the answer is that the request failed.
            _DiedError: If there is none.
        """
        to, answers = self._process.stdin, self._process.stdout
        if to is None or answers is None:
            raise _DiedError("it has no pipes")
        try:
            worker.send(to, request)
            told, body = worker.receive(answers)
        except (OSError, EOFError) as error:
            raise _DiedError(self._how_it_ended()) from error
        if "error" in told:
            raise GatoError(f"Procgen could not do {request}: {told['error']}")
        return told, body

    def _how_it_ended(self) -> str:
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_LAST_SECONDS)
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip()[-_SAID:]
        return f"it ended with code {code}" + (f" and said: {said}" if said else "")


def _end(process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, said):
        if stream is not None:
            # What was still to be sent has no reader.
            with contextlib.suppress(OSError):
                stream.close()


# One for all episodes of this process: a first level takes seconds, to load pictures.
@functools.cache
def _process(python: str) -> _Process:
    return _Process(python)


def release(python: str | None) -> str:
    """Returns which release an interpreter has, such as `procgen-mirror 0.10.7`.

    Raises:
        UsageError: If it cannot be run, or has none.
    """
    return _release(interpreter(python))


@functools.cache
def _release(path: str) -> str:
    try:
        told, _ = _process(path).ask(do="about")
    except (OSError, GatoError, _DiedError) as error:
        _process.cache_clear()
        raise UsageError(
            f"--python takes an interpreter that imports procgen, got {path!r}:"
            f" {error}; {_RECIPE}"
        ) from error
    if set(told["games"]) != set(GAMES):
        raise UsageError(
            f"--python takes an interpreter with the {len(GAMES)} games of Procgen,"
            f" {path!r} has {', '.join(told['games'])}; {_RECIPE}"
        )
    return told["release"]


def interpreter(python: str | None) -> str:
    """Returns the interpreter to use: this one, or what the environment names.

    Raises:
        UsageError: If neither is there.
    """
    path = python or os.environ.get(PYTHON_VARIABLE)
    if not path:
        raise UsageError(
            "Procgen needs NumPy 1, so an interpreter of its own: --python names it,"
            f" or {PYTHON_VARIABLE} in the environment; {_RECIPE}"
        )
    return path


class Procgen(gymnasium.Env[NDArray[np.uint8], np.int64]):
    """One game: frames of uint8 [64, 64, 3], 15 actions, `success` in each info.

    Args:
        game: Of `GAMES`.
        hard: Whether levels are hard, else they are easy.
        python: The interpreter; by default what GATO_PROCGEN_PYTHON names.
    """

    # Not a ClassVar, as Gymnasium has it.
    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": 15,
    }
    observation_space = OBSERVATIONS
    action_space = ACTIONS

    def __init__(
        self,
        game: str,
        hard: bool = False,
        python: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.render_mode = render_mode
        self._game = game
        self._hard = hard
        self._python = python
        self._frame = np.zeros(worker.FRAME, np.uint8)
        self._steps = 0
        self._timeout = 0
        self._ended = True

    def _ask(self, **request: Any) -> tuple[Any, bytes]:
        python = interpreter(self._python)
        try:
            return _process(python).ask(**request)
        except (OSError, _DiedError) as error:
            _process.cache_clear()
            raise GatoError(
                f"{self._game}: the process of {python} cannot go on with {request}:"
                f" {error}. The same command begins anew with what is not finished."
            ) from error

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Starts the level of the seed's number; a random one if there is no seed."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(1 << 31))
        told, body = self._ask(do="start", game=self._game, level=seed, hard=self._hard)
        self._frame = _image(body)
        self._steps, self._timeout = 0, told["timeout"]
        self._ended = False
        return self._frame, {"success": False}

    def step(
        self, action: np.int64 | int
    ) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Does an action.

        Raises:
            RuntimeError: If the episode has ended.
        """
        if self._ended:
            raise RuntimeError("the episode has ended: reset before the next step")
        told, body = self._ask(do="step", action=int(action))
        self._steps += 1
        self._ended, solved = told["ended"], told["solved"]
        if not self._ended:
            self._frame = _image(body)
        truncated = self._ended and not solved and self._steps == self._timeout
        terminated = self._ended and not truncated
        info = {"success": solved}
        return self._frame, told["reward"], terminated, truncated, info

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        """Returns the last frame."""
        return self._frame

    def save(self) -> tuple[int, Sight]:
        """Keeps the state the game is in as a place, and forgets all others."""
        told, body = self._ask(do="save")
        (sight,) = _sights([told], body)
        return told["place"], sight

    def expand(self, place: int, actions: Sequence[int], repeat: int) -> list[Move]:
        """Returns what doing each action up to `repeat` times leads to."""
        told, body = self._ask(
            do="expand", place=place, actions=list(actions), repeat=repeat
        )
        alive = [move for move in told["moves"] if not move["ended"]]
        sights = dict(
            zip((m["place"] for m in alive), _sights(alive, body), strict=True)
        )
        return [
            Move(
                steps=move["steps"],
                reward=move["reward"],
                solved=move["solved"],
                place=move.get("place"),
                sight=sights.get(move.get("place")),
            )
            for move in told["moves"]
        ]


def _image(body: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(body, np.uint8).reshape(worker.FRAME)


def _sights(told: Sequence[Any], body: bytes) -> list[Sight]:
    """Cuts the bytes of places into what each looks like."""
    sights = []
    offset = 0

    def take(length: int) -> bytes:
        nonlocal offset
        offset += length
        return body[offset - length : offset]

    for one in told:
        height, width = one["grid"]
        things = np.frombuffer(take(4 * worker.THING * one["things"]), "<f4")
        grid = np.frombuffer(take(2 * height * width), "<i2")
        sights.append(
            Sight(
                clock=one["clock"],
                things=things.reshape(-1, worker.THING),
                grid=grid.reshape(height, width),
                rest=take(one["rest"]),
            )
        )
    return sights


for _namespace, _hard in (("procgen", False), ("procgen_hard", True)):
    for _game in GAMES:
        gymnasium.register(
            id=f"{_namespace}/{_game}",
            entry_point=f"{__name__}:{Procgen.__name__}",
            kwargs={"game": _game, "hard": _hard},
            disable_env_checker=True,
        )

"""`gato-train` as a process of its own, small enough to be started many times."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import toy_shards

from gato.schemas.manifest import VocabularyInfo

TIMEOUT_SECONDS = 240.0
# A width of 16, one block.
SMALL = (
    "--model=tiny",
    *(
        f"--set=model.{key}"
        for key in ("width=16", "blocks=1", "heads=2", "head_size=8", "feed_forward=32")
    ),
)


# Few ids, so that the loss costs little.
_TEXT = toy_shards.TEXT // 15
_VOCABULARY = VocabularyInfo(
    text=_TEXT,
    first_continuous=_TEXT,
    separator=_TEXT + 1024,
    eos=toy_shards.EOS,
    size=_TEXT + 1025,
    sentencepiece_sha256=toy_shards.SHA,
)


def write_shards(folder: pathlib.Path, num_shards: int = 2) -> pathlib.Path:
    """Writes a data set of text; returns its folder."""
    generator = np.random.default_rng(0)
    made = [toy_shards.text_row(generator) for _ in range(20)]
    toy_shards.write_dataset(
        str(folder),
        "prose",
        made[:16],
        made[16:],
        num_shards=num_shards,
        vocabulary=_VOCABULARY,
    )
    return folder / "prose"


def write_uneven_pictures(folder: pathlib.Path) -> pathlib.Path:
    """Writes rows of 1 to 7 pictures, for pools of all sizes; returns the folder."""
    generator = np.random.default_rng(0)
    pairs = [1, 1, 1, 1, 7, 1, 1, 1, 1, 1, 1, 7, 1, 1, 1, 1, 1, 2, 3, 1]
    made = [toy_shards.image_row(generator, pairs=count) for count in pairs]
    toy_shards.write_dataset(
        str(folder), "pictures", made[:16], made[16:], vocabulary=_VOCABULARY
    )
    return folder / "pictures"


def environment(cache: pathlib.Path, devices: int) -> dict[str, str]:
    """Returns variables for virtual CPU devices and starts that cost little.

    Args:
        cache: Of compiled programs and of Python's bytecode, for all starts.
        devices: Virtual ones of each process.
    """
    flags = (
        f"--xla_force_host_platform_device_count={devices}",
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    )
    given = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPYCACHEPREFIX": str(cache / "bytecode"),
        "XLA_FLAGS": " ".join(flags),
    }
    given.pop("PYTHONDONTWRITEBYTECODE", None)
    return given


class Training:
    """One start of the command; what it prints goes to `log`."""

    def __init__(
        self, arguments: list[str], log: pathlib.Path, given: dict[str, str]
    ) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gato.model.train", *arguments],
                stdout=file,
                stderr=file,
                env=given,
            )

    @property
    def printed(self) -> str:
        """What it said so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def finish(self) -> int:
        """Waits for its end and returns the exit status."""
        return self.process.wait(TIMEOUT_SECONDS)

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Returns as soon as something holds while the command still runs.

        Raises:
            RuntimeError: If the command ends before, or it takes too long.
        """
        end = time.monotonic() + TIMEOUT_SECONDS
        while not holds():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"what was waited for never came: {self.printed}")
            time.sleep(0.001)

    def kill(self) -> None:
        """Sends SIGKILL, which must find it alive."""
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL, self.printed


def lines(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the whole lines of metrics.jsonl."""
    path = folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]


def curve(folder: pathlib.Path) -> dict[int, dict[str, Any]]:
    """Returns the last line of each step, without what depends on the clock."""
    timed = ("tokens_per_second", "data_wait", "mfu")
    return {
        line["step"]: {key: line[key] for key in line if key not in timed}
        for line in lines(folder)
    }


def saved(folder: pathlib.Path) -> int:
    """Returns the number of updates in the newest whole checkpoint, or 0."""
    found = (folder / "checkpoints").glob("[0-9]*")
    return max((int(path.name) for path in found if path.name.isdigit()), default=0)


def kill_plan(steps: int, kills: int, seed: int) -> list[tuple[str, int]]:
    """Returns when to kill, in turns: after a step, in a checkpoint, at the start."""
    generator = random.Random(seed)
    at = sorted(generator.sample(range(1, steps * 3 // 4), kills))
    moments = ("step", "checkpoint", "start")
    return [(moments[index % 3], step) for index, step in enumerate(at)]


def kill_at(training: Training, folder: pathlib.Path, moment: str, step: int) -> None:
    """Kills at a moment: at the start, or once a step is done or being saved."""
    before = len(lines(folder))

    def is_done() -> bool:
        found = lines(folder)
        return len(found) > before and found[-1]["step"] >= step

    def is_saving() -> bool:
        return is_done() and any(folder.glob("checkpoints/*tmp*"))

    if moment == "start":
        # Importing, restoring or compiling: nothing of this start is done.
        training.wait_until(lambda: "rows in" in training.printed)
        time.sleep(random.Random(step).random())
    else:
        training.wait_until(is_saving if moment == "checkpoint" else is_done)
    training.kill()

"""`metrics.jsonl`: one JSON object a step, only ever appended to.

A kill may tear the last line; it is removed at the next start. Steps done again after a
kill appear twice, with the same loss.
"""

import json
import math
import os
import time
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import numpy as np

from gato.model.describe import Work
from gato.schemas.errors import GatoError

FILE_NAME = "metrics.jsonl"


def _finite(value: Any) -> Any:
    """Returns the value with numbers that JSON lacks as null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def step_line(
    step: int, names: Sequence[str], metrics: dict[str, Any]
) -> dict[str, Any]:
    """Returns what the file gets of one step.

    Args:
        step: Its number, from 0; its loss is that of the weights before its update.
        names: Of the data sets.
        metrics: Of the train step, on the host.
    """
    sums, targets = metrics["loss_sums"], metrics["targets"]
    total = float(targets.sum())
    parts = list(zip(names, sums.tolist(), targets.tolist(), strict=True))
    return {
        "step": step,
        "loss": float(metrics["loss"]),
        "targets": int(total),
        "losses": {name: loss / count for name, loss, count in parts if count},
        "target_shares": {name: count / max(total, 1) for name, _, count in parts},
        "gradient_norm": float(metrics["gradient_norm"]),
        "learning_rate": float(metrics["learning_rate"]),
    }


class Writer(Protocol):
    """Takes the lines of steps."""

    def write(self, line: dict[str, Any]) -> None:
        """Takes one line."""

    def flush(self) -> None:
        """Hands all lines to the operating system."""


class MetricsFile:
    """Appends objects to a file, line by line."""

    def __init__(self, folder: str) -> None:
        os.makedirs(folder, exist_ok=True)
        self.path = os.path.join(folder, FILE_NAME)
        self._file = open(self.path, "a+b")  # noqa: SIM115 - closed by close()
        self._remove_torn_line()

    def _remove_torn_line(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)

    def write(self, line: dict[str, Any]) -> None:
        """Appends one object and hands it to the operating system."""
        text = json.dumps(_finite(line), allow_nan=False) + "\n"
        self._file.write(text.encode())
        self._file.flush()

    def flush(self) -> None:
        """Does nothing more: each line is handed over when it is written."""

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class StepLog:
    """Holds the newest step's sums, on the device, until the next step runs.

    So fetching them never makes the devices wait.

    Args:
        writers: Where lines go; none but on the first host.
        names: Of the data sets.
        tokens: Slots of a global batch.
        work: What a step costs, for `mfu`.
    """

    def __init__(
        self, writers: Sequence[Writer], names: Sequence[str], tokens: int, work: Work
    ) -> None:
        self._writers = writers
        self._names = names
        self._tokens = tokens
        self._work = work
        self._held: tuple[int, Any, dict[str, Any]] | None = None
        self._done: float | None = None
        self._since = time.perf_counter()
        self._first_loss: float | None = None
        self._last: dict[str, Any] = {}

    @property
    def losses(self) -> str:
        """The first and the newest loss of this run, for the terminal."""
        if self._first_loss is None:
            return ""
        return f", loss {self._first_loss:.3f} -> {self._last['loss']:.3f}"

    @property
    def status(self) -> str:
        """The newest step, for the progress bar."""
        if not self._last:
            return ""
        rate, mfu = self._last["tokens_per_second"], self._last["mfu"]
        waited = min(1.0, self._last["data_wait"] * rate / self._tokens)
        return (
            f"{self.losses}, {rate:,.0f} tokens/s"
            + (f", MFU {mfu:.1%}" if mfu is not None else "")
            + f", data wait {waited:.0%}"
        )

    def replace(self, step: int, sums: Any, **extra: Any) -> None:
        """Writes the former step, then holds this one.

        Raises:
            GatoError: If the former step's loss is no number.
        """
        self.write()
        self._held = (step, sums, extra)

    def add(self, name: str, value: Any) -> None:
        """Adds to the held step's line."""
        if self._held is not None:
            self._held[2][name] = value

    def settle(self) -> None:
        """Waits for the held step, so that what follows is not in its time."""
        if self._held is not None:
            jax.block_until_ready(self._held[1])
            self._done = time.perf_counter()

    def write(self) -> None:
        """Waits for the held step, checks it and writes its line.

        Raises:
            GatoError: If its loss or its gradient is no number.
        """
        if self._held is None:
            return
        step, sums, extra = self._held
        sums = jax.device_get(sums)
        line = step_line(step, self._names, sums)
        now = time.perf_counter()
        seconds = max((self._done or now) - self._since, 1e-9)
        line["tokens_per_second"] = self._tokens / seconds
        line["mfu"] = self._work.utilization(
            self._tokens, int(sums["patches"]), seconds
        )
        self._held, self._done, self._since = None, None, now
        self._last = line | extra
        if self._first_loss is None:
            self._first_loss = float(line["loss"])
        for writer in self._writers:
            writer.write(self._last)
        if not np.isfinite([line["loss"], line["gradient_norm"]]).all():
            raise GatoError(
                f"step {step} has loss {line['loss']} and gradient norm"
                f" {line['gradient_norm']}; the newest checkpoint is from before it."
                " Lower optimizer.peak_lr, or look for the rise in the run's"
                f" {FILE_NAME}."
            )

    def flush(self) -> None:
        """Writes the held step and hands all lines to the operating system."""
        self.write()
        for writer in self._writers:
            writer.flush()

    def skip_time(self) -> None:
        """Leaves what was done since the last step out of the next one's time."""
        self._since = time.perf_counter()

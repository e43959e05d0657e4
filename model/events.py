"""What TensorBoard shows: lines of `metrics.jsonl` as events, and traces of steps."""

import os
import time
from typing import Any

import jax
from tensorboardX.proto import event_pb2, summary_pb2

from gato.schemas.tfrecord import frame

FOLDER_NAME = "tensorboard"
PROFILE_FOLDER_NAME = "profile"

# Protobuf makes its classes on import, where no type checker sees them.
_EVENTS: Any = event_pb2
_SUMMARIES: Any = summary_pb2


def scalars(line: dict[str, Any], path: str = "") -> dict[str, float]:
    """Returns the numbers of a line by tag: keys joined by slashes.

    >>> scalars({"loss": 2.0, "losses": {"text": 1.5}, "mfu": None})
    {'loss': 2.0, 'losses/text': 1.5}
    """
    found = {}
    for key, value in line.items():
        tag = f"{path}{key}"
        if isinstance(value, dict):
            found |= scalars(value, f"{tag}/")
        elif isinstance(value, int | float):
            found[tag] = float(value)
    return found


class EventFiles:
    """Writes one event file for each start of a run.

    In the caller's thread, unlike tensorboardX's own writer: a full disk is an error
    here and not a traceback at exit.

    Args:
        folder: Of the run.
        first: The first step of this start. What an earlier start wrote of it and of
            later steps is hidden by TensorBoard, so no step is shown twice.
    """

    def __init__(self, folder: str, first: int) -> None:
        folder = os.path.join(folder, FOLDER_NAME)
        os.makedirs(folder, exist_ok=True)
        # Two starts may fall into one second.
        name = f"events.out.tfevents.{int(time.time())}.{first}.{os.getpid()}"
        self._file = open(os.path.join(folder, name), "wb")  # noqa: SIM115 - see close
        self._add(_EVENTS.Event(file_version="brain.Event:2"))
        start = _EVENTS.SessionLog(status=_EVENTS.SessionLog.START)
        self._add(_EVENTS.Event(step=first, session_log=start))

    def _add(self, event: Any) -> None:
        event.wall_time = time.time()
        self._file.write(frame(event.SerializeToString()))

    def write(self, line: dict[str, Any]) -> None:
        """Adds a step's numbers."""
        values = [
            _SUMMARIES.Summary.Value(tag=tag, simple_value=value)
            for tag, value in scalars(line).items()
            if tag != "step"
        ]
        self._add(
            _EVENTS.Event(step=line["step"], summary=_SUMMARIES.Summary(value=values))
        )

    def flush(self) -> None:
        """Hands what was added to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


class Tracer:
    """Traces steps with JAX's profiler into the run's `profile`.

    Args:
        folder: Of the run.
        steps: To trace; empty: none.
    """

    def __init__(self, folder: str, steps: range) -> None:
        self._folder = os.path.join(folder, PROFILE_FOLDER_NAME)
        self._steps = steps
        self._is_on = False

    def reach(self, step: int) -> None:
        """Starts or ends the trace where this step, about to run, is in it or not."""
        if step in self._steps and not self._is_on:
            jax.profiler.start_trace(self._folder)
            self._is_on = True
        elif step not in self._steps:
            self.close()

    def close(self) -> None:
        """Writes the trace that is under way."""
        if self._is_on:
            jax.profiler.stop_trace()
            self._is_on = False

"""Checkpoints through Orbax: state, data position, config and what the data was.

Only this file and `weights.py`, for weights alone, know Orbax. A checkpoint's
number is the number of updates done, which is also the next batch. Saving is
asynchronous; a checkpoint appears under its name when it is whole.
"""

import contextlib
import dataclasses
import functools
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp

from gato.model.config import TrainConfig, load_config
from gato.model.shards import Dataset
from gato.model.step import State
from gato.schemas.errors import GatoError

# In the folder of a run.
FOLDER_NAME = "checkpoints"
# What may change between two starts of one run without changing what it computes.
_FREE = ("steps", "checkpoint", "validation", "data.threads", "data.prefetch")


def describe_run(
    config: TrainConfig, datasets: Sequence[Dataset], init_from: str | None = None
) -> dict[str, Any]:
    """Returns what a checkpoint records of its run, as JSON."""
    manifest = datasets[0].manifest
    return {
        "config": dataclasses.asdict(config),
        "schedule": {
            "warmup_steps": config.warmup_steps,
            "decay_steps": config.decay_steps,
        },
        "schema_version": manifest.schema_version,
        "sequence_length": manifest.sequence_length,
        "vocabulary": manifest.vocabulary.model_dump(),
        "datasets": {
            one.name: {"fingerprint": one.identity, "weight": one.weight}
            for one in datasets
        },
        "init_from": init_from,
    }


def _flat(content: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(content, dict):
        return {path: content}
    return {
        key: value
        for name, item in content.items()
        for key, value in _flat(item, f"{path}.{name}" if path else name).items()
    }


@functools.cache
def _leave_out_late_reports() -> None:
    """Has TensorStore's words to a loop that has ended not printed.

    Once one array of a checkpoint has failed, its threads report the others in vain.
    """
    former = sys.unraisablehook

    def hook(raised: "sys.UnraisableHookArgs") -> None:
        if str(raised.exc_value) != "Event loop is closed":
            former(raised)

    sys.unraisablehook = hook


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Of the run; checkpoints lie in its `checkpoints`.
        config: The run's.
        datasets: The run's.
        init_from: The run whose weights it began with, if any.
    """

    def __init__(
        self,
        folder: str,
        config: TrainConfig,
        datasets: Sequence[Dataset],
        init_from: str | None = None,
    ) -> None:
        self._folder = os.path.abspath(os.path.join(folder, FOLDER_NAME))
        self._run = describe_run(config, datasets, init_from)
        # What fails is raised, and told once by `main`; not as tracebacks of threads.
        for name in ("absl", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        # For as long as the process lives: they may speak after the end, too.
        _leave_out_late_reports()
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=config.checkpoint.keep, enable_async_checkpointing=True
            ),
        )

    def restore(self, abstract: State) -> State | None:
        """Returns the newest state, or None if there is none.

        Args:
            abstract: Shapes, dtypes and shardings wanted; another mesh than the one
                that saved is fine.

        Raises:
            GatoError: If it is of another run, naming what differs.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        meta = self._manager.restore(
            step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
        )
        self._check(meta["meta"])
        restored = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        )
        return restored["state"]

    def _check(self, saved: dict[str, Any]) -> None:
        run = saved["run"]
        # What the run's release did not know of yet was as the defaults are.
        with contextlib.suppress(TypeError):
            config = load_config(TrainConfig, run["config"])
            run = run | {"config": dataclasses.asdict(config)}
        found, wanted = _flat(run), _flat(self._run)
        differing = [
            f"{key} was {found.get(key)!r} and is {wanted.get(key)!r}"
            for key in sorted(found.keys() | wanted.keys())
            if found.get(key) != wanted.get(key)
            and not key.removeprefix("config.").startswith(_FREE)
        ]
        if differing:
            raise GatoError(
                f"{self._folder}: a run goes on with the command and data it began"
                f" with, but {'; '.join(differing)}. Give another --checkpoint_dir, or"
                " the former values."
            )

    def save(self, step: int, state: State) -> None:
        """Begins to save the state after `step` updates; returns before it is done.

        Raises:
            GatoError: If it, or the one before, could not be written.
        """
        if self._manager.latest_step() == step:
            return
        meta = {"step": step, "next_batch": step, "run": self._run}
        with self._failing_in_words():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
                ),
            )

    def close(self) -> None:
        """Waits for what is being saved, and ends Orbax's threads.

        Raises:
            GatoError: If it could not be written.
        """
        with self._failing_in_words():
            self._manager.close()

    @contextlib.contextmanager
    def _failing_in_words(self) -> Iterator[None]:
        # Orbax and TensorStore raise whatever lay under them, and later than it was.
        try:
            yield
        except Exception as error:
            # The first words say what was written, the last why it failed.
            reason = " ".join(str(error).split())
            if len(reason) > 300:
                reason = f"{reason[:100]} ... {reason[-200:]}"
            raise GatoError(
                f"{self._folder}: a checkpoint could not be written:"
                f" {type(error).__name__}: {reason}. The newest whole one is"
                f" {self._newest()}. Make room, then the same command resumes from it."
            ) from error

    def _newest(self) -> str:
        steps = ocp.utils.checkpoint_steps(self._folder)
        return f"of {max(steps)} steps" if steps else "not there yet"


def abstract_state(shapes: Any, shardings: Any) -> State:
    """Returns the state to restore into: shapes and dtypes, each with its sharding."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding
        ),
        shapes,
        shardings,
    )

"""The weights of a checkpoint alone: to act with, to begin another run, to pass on."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp

from gato.model.checkpoint import FOLDER_NAME, abstract_state
from gato.model.config import TrainConfig, load_config
from gato.model.step import Model, State
from gato.schemas.errors import GatoError, UsageError
from gato.schemas.manifest import VocabularyInfo


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """One checkpoint.

    Attributes:
        model: The decoder.
        params: Its weights.
        step: Updates done.
        vocabulary: Of the data it was trained on.
        run: What the checkpoint says of its run, as JSON.
    """

    model: Model
    params: State
    step: int
    vocabulary: VocabularyInfo
    run: dict[str, Any]

    @property
    def datasets(self) -> dict[str, str]:
        """Fingerprint of each data set it was trained on, by name."""
        return {name: one["fingerprint"] for name, one in self.run["datasets"].items()}


def load_weights(folder: str) -> Trained:
    """Reads the newest checkpoint of a run.

    Args:
        folder: `--checkpoint_dir` of gato-train.

    Raises:
        UsageError: If there is no checkpoint.
        GatoError: If it is damaged, or of another release.
    """
    with _newest(folder, "--checkpoint") as (manager, step):
        run, model = _describe(manager, step)
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        shapes = jax.eval_shape(model.initial)
        wanted = abstract_state(shapes, jax.tree.map(lambda _: device, shapes))
        return Trained(
            model=model,
            params=_restore(manager, step, wanted),
            step=step,
            vocabulary=VocabularyInfo(**run["vocabulary"]),
            run=run,
        )


def initial_weights(
    folder: str, model: Model, vocabulary: VocabularyInfo, shardings: Any
) -> State:
    """Reads the newest weights of another run, to begin one of this model with.

    Args:
        folder: Its `--checkpoint_dir`.
        model: The decoder that is to have them; rows may be of another length.
        vocabulary: Of the data to train on.
        shardings: Of its weights, on any mesh.

    Raises:
        UsageError: If there is no checkpoint, or its weights do not fit.
        GatoError: If it is damaged, or of another release.
    """
    with _newest(folder, "--init_from") as (manager, step):
        run, other = _describe(manager, step)
        if run["vocabulary"] != vocabulary.model_dump():
            raise UsageError(
                f"--init_from {folder}: its tokens are those of {run['vocabulary']},"
                f" the shards' of {vocabulary.model_dump()}. Build the shards with the"
                " text tokenizer of that run."
            )
        shapes = jax.eval_shape(model.initial)
        _check_fit(folder, other, model, shapes)
        return _restore(manager, step, abstract_state(shapes, shardings))


def save_weights(trained: Trained, output: str) -> None:
    """Writes a checkpoint without an optimizer, which `load_weights` takes.

    Args:
        trained: The weights, and of what run they are.
        output: Folder, where no checkpoint is yet.

    Raises:
        GatoError: If it could not be written.
    """
    folder = os.path.abspath(f"{output}/{FOLDER_NAME}")
    arguments = ocp.args.Composite(
        state=ocp.args.StandardSave({"params": trained.params}),
        meta=ocp.args.JsonSave({"step": trained.step, "run": trained.run}),
    )
    try:
        with ocp.CheckpointManager(folder) as manager:
            manager.save(trained.step, args=arguments)
    except Exception as error:
        raise GatoError(
            f"{folder}: the weights could not be written: {_reason(error)}. Make room,"
            " or give another --output."
        ) from error
    # Orbax's marks name the folder they were written in, which is nobody's business.
    for mark in pathlib.Path(output).rglob("commit_success.txt"):
        mark.write_text("committed\n", encoding="utf-8")


def _check_fit(folder: str, other: Model, model: Model, shapes: Any) -> None:
    """Checks that weights of one model mean the same to another."""
    theirs = jax.tree_util.tree_leaves_with_path(jax.eval_shape(other.initial))
    ours = jax.tree_util.tree_leaves_with_path(shapes)
    found = {jax.tree_util.keystr(path): leaf.shape for path, leaf in theirs}
    wanted = {jax.tree_util.keystr(path): leaf.shape for path, leaf in ours}
    # Turned positions have no weights that would show.
    found["positions"] = (other.config.model.positions,)
    wanted["positions"] = (model.config.model.positions,)
    differing = [
        f"{key} is {found.get(key, 'not there')}, not {wanted.get(key, 'there')}"
        for key in sorted(found.keys() | wanted.keys())
        if found.get(key) != wanted.get(key)
    ]
    if differing:
        raise UsageError(
            f"--init_from {folder}: its weights are of another model:"
            f" {'; '.join(differing[:5])}. Give the --model and --set model.* that it"
            " was trained with."
        )


@contextlib.contextmanager
def _newest(folder: str, flag: str) -> Iterator[tuple[ocp.CheckpointManager, int]]:
    """Opens a run's newest checkpoint; what goes wrong within is said in a line."""
    checkpoints = os.path.join(os.path.abspath(folder), FOLDER_NAME)
    if not os.path.isdir(checkpoints):
        raise UsageError(
            f"{folder}: no checkpoints. {flag} is the folder that gato-train was"
            " given as --checkpoint_dir."
        )
    with ocp.CheckpointManager(checkpoints) as manager:
        step = manager.latest_step()
        if step is None:
            raise UsageError(
                f"{checkpoints}: no finished checkpoint. Let gato-train reach"
                " checkpoint.every steps, or its end."
            )
        try:
            yield manager, step
        except GatoError:
            raise
        except Exception as error:
            raise GatoError(
                f"{checkpoints}/{step}: a checkpoint of this release, whole, is needed:"
                f" {_reason(error)}. Copy it again, or use the release that wrote it."
            ) from error


def _describe(
    manager: ocp.CheckpointManager, step: int
) -> tuple[dict[str, Any], Model]:
    """Returns what a checkpoint says of its run, and the run's model."""
    restored = manager.restore(
        step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
    )
    run = restored["meta"]["run"]
    model = Model(
        load_config(TrainConfig, run["config"]),
        vocabulary_size=run["vocabulary"]["size"],
        sequence_length=run["sequence_length"],
    )
    return run, model


def _restore(manager: ocp.CheckpointManager, step: int, params: Any) -> State:
    """Returns the weights, of the shapes and shardings of `params`."""
    wanted = {"params": params}
    # Saved by another of Orbax's handlers, but in one format; this one reads parts.
    part = ocp.args.PyTreeRestore(
        item=wanted,
        restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
        partial_restore=True,
    )
    return manager.restore(step, args=ocp.args.Composite(state=part))["state"]["params"]


def _reason(error: Exception) -> str:
    # Orbax and TensorStore raise whatever lay under them.
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]

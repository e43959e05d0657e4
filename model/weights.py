"""The weights of a checkpoint, to act with: no optimizer, no data, one device."""

import dataclasses
import os
from typing import Any

import jax
import orbax.checkpoint as ocp

from gato.model.checkpoint import FOLDER_NAME
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
    checkpoints = os.path.join(os.path.abspath(folder), FOLDER_NAME)
    if not os.path.isdir(checkpoints):
        raise UsageError(
            f"{folder}: no checkpoints. --checkpoint is the folder that gato-train was"
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
            return _read(manager, step)
        except Exception as error:
            # Orbax and TensorStore raise whatever lay under them.
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise GatoError(
                f"{checkpoints}/{step}: a checkpoint of this release, whole, is needed:"
                f" {reason[:400]}. Copy it again, or use the release that wrote it."
            ) from error


def _read(manager: ocp.CheckpointManager, step: int) -> Trained:
    restored = manager.restore(
        step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
    )
    run = restored["meta"]["run"]
    model = Model(
        load_config(TrainConfig, run["config"]),
        vocabulary_size=run["vocabulary"]["size"],
        sequence_length=run["sequence_length"],
    )
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {
        "params": jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
            jax.eval_shape(model.initial),
        )
    }
    # Saved by another of Orbax's handlers, but in one format; this one reads parts.
    part = ocp.args.PyTreeRestore(
        item=wanted,
        restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
        partial_restore=True,
    )
    restored = manager.restore(step, args=ocp.args.Composite(state=part))
    return Trained(
        model=model,
        params=restored["state"]["params"],
        step=step,
        vocabulary=VocabularyInfo(**run["vocabulary"]),
        run=run,
    )

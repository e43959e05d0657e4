"""Masked cross-entropy, computed in chunks so that [B, L, V] never exists."""

from typing import Literal

import jax
import jax.numpy as jnp

from gato.model.batch import Batch
from gato.model.sharding import BATCH_AXES, constrain

# At L = 1024 a chunk's logits are an eighth of the batch's: 8.6 GB of 69 at batch 512.
_MAX_CHUNKS = 8


def _chunks(length: int) -> int:
    return next(n for n in range(min(_MAX_CHUNKS, length), 0, -1) if length % n == 0)


def shift_targets(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Returns what each slot predicts, and where that counts.

    Slot l - 1 predicts slot l; the first slot of a segment is predicted by nothing.

    Returns:
        int32 [B, L] of targets and bool [B, L], both at the predicting slot.
    """
    follows = batch.segment_BL[:, 1:] == batch.segment_BL[:, :-1]
    counts = (batch.loss_mask_BL[:, 1:] == 1) & follows & (batch.segment_BL[:, 1:] > 0)
    widths = ((0, 0), (0, 1))
    return jnp.pad(batch.tokens_BL[:, 1:], widths), jnp.pad(counts, widths)


def token_losses(
    hidden_BLD: jax.Array,
    table_VD: jax.Array,
    targets_BL: jax.Array,
    vocabulary_size: int,
) -> jax.Array:
    """Returns float32 [B, L]: -log of the probability of each target.

    Rows of the table beyond the vocabulary are padding: their logits are -inf. The
    logits of a chunk are computed again in the backward pass.
    """
    rows, length, _ = hidden_BLD.shape
    chunks = _chunks(length)
    table_VD = constrain(table_VD.astype(hidden_BLD.dtype), "tensor", None)
    is_padding_V = jnp.arange(table_VD.shape[0]) >= vocabulary_size

    @jax.checkpoint
    def chunk_losses(hidden_BCD: jax.Array, targets_BC: jax.Array) -> jax.Array:
        logits_BCV = jnp.einsum(
            "bcd,vd->bcv", hidden_BCD, table_VD, preferred_element_type=jnp.float32
        )
        logits_BCV = jnp.where(is_padding_V[None, None, :], -jnp.inf, logits_BCV)
        logits_BCV = constrain(logits_BCV, BATCH_AXES, None, "tensor")
        wanted_BC = jnp.take_along_axis(logits_BCV, targets_BC[:, :, None], axis=2)
        return jax.nn.logsumexp(logits_BCV, axis=2) - wanted_BC[:, :, 0]

    def split(array: jax.Array) -> jax.Array:
        cut = array.reshape(rows, chunks, length // chunks, *array.shape[2:])
        return jnp.moveaxis(cut, 1, 0)

    def body(_: None, chunk: tuple[jax.Array, jax.Array]) -> tuple[None, jax.Array]:
        return None, chunk_losses(*chunk)

    _, losses_NBC = jax.lax.scan(body, None, (split(hidden_BLD), split(targets_BL)))
    return jnp.moveaxis(losses_NBC, 0, 1).reshape(rows, length)


def target_weights(
    counts_BL: jax.Array, normalization: Literal["token", "row"]
) -> jax.Array:
    """Returns float32 [B, L] weights; the loss is a sum over their sum.

    `token` weighs every target alike. `row` gives each row with a target weight 1.
    """
    weights_BL = counts_BL.astype(jnp.float32)
    if normalization == "token":
        return weights_BL
    return weights_BL / jnp.maximum(weights_BL.sum(1, keepdims=True), 1)


def sums_by_dataset(
    values_BL: jax.Array, dataset_B: jax.Array, num_datasets: int
) -> jax.Array:
    """Returns float32 [num_datasets] sums over the rows of each data set."""
    member_BS = dataset_B[:, None] == jnp.arange(num_datasets)[None, :]
    return jnp.where(member_BS, values_BL.sum(1)[:, None], 0).sum(0)

"""Masked cross-entropy, computed in chunks so that [B, L, V] never exists."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gato.model.batch import Batch
from gato.model.sharding import BATCH_AXES, constrain
from gato.schemas.record import Kind

# At batch 512 of 1024 slots a chunk's logits are 4.3 GB of 69.
_MAX_CHUNKS = 16


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


def add_observation_targets(batch: Batch) -> Batch:
    """Returns the batch with its timesteps' observations as targets, but for images.

    They are the slots with a local position; documents have none.
    """
    observed_BL = (batch.local_position_BL >= 0) & (batch.kind_BL != Kind.IMAGE)
    mask_BL = jnp.where(observed_BL, 1, batch.loss_mask_BL)
    return batch._replace(loss_mask_BL=mask_BL.astype(batch.loss_mask_BL.dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _copy_to_groups(table_VD: jax.Array, groups: int, dtype: Any) -> jax.Array:
    """Returns [G, V, D]: the table for each device's rows, which takes no more room.

    A copy's gradient is summed over chunks on its device, and over devices once, in
    float32. That of a single table would be summed over devices after every chunk.
    """
    copy_VD = constrain(table_VD.astype(dtype), "tensor", None)
    copies_GVD = jnp.broadcast_to(copy_VD[None], (groups, *copy_VD.shape))
    return constrain(copies_GVD, BATCH_AXES, "tensor", None)


def _copy_forward(
    table_VD: jax.Array, groups: int, dtype: Any
) -> tuple[jax.Array, None]:
    return _copy_to_groups(table_VD, groups, dtype), None


def _copy_backward(
    groups: int, dtype: Any, _: None, gradient_GVD: jax.Array
) -> tuple[jax.Array]:
    gradient_GVD = constrain(gradient_GVD, BATCH_AXES, "tensor", None)
    return (gradient_GVD.astype(jnp.float32).sum(0),)


_copy_to_groups.defvjp(_copy_forward, _copy_backward)


def token_losses(
    hidden_BLD: jax.Array,
    table_VD: jax.Array,
    targets_BL: jax.Array,
    counts_BL: jax.Array,
    vocabulary_size: int,
    groups: int,
) -> jax.Array:
    """Returns float32 [B, L]: -log of each counting target's probability, else 0.

    Rows of the table beyond the vocabulary are padding: their logits are -inf. The
    logits of a chunk are computed again in the backward pass. Slots that count come
    first, so that chunks without one cost nothing: of a row of observations and actions
    a few slots in a hundred count.

    Args:
        hidden_BLD: The decoder's vectors.
        table_VD: The token table.
        targets_BL: What each slot predicts.
        counts_BL: Where that counts.
        vocabulary_size: Ids are below it.
        groups: Devices that share the rows; slots change places only inside a group.
    """
    rows, length, width = hidden_BLD.shape
    table_GVD = _copy_to_groups(table_VD, groups, hidden_BLD.dtype)
    is_padding_V = jnp.arange(table_VD.shape[0]) >= vocabulary_size
    slots = rows // groups * length
    chunks = next(n for n in range(min(_MAX_CHUNKS, slots), 0, -1) if slots % n == 0)

    def chunk_losses(hidden_GCD: jax.Array, targets_GC: jax.Array) -> jax.Array:
        logits_GCV = jnp.einsum(
            "gcd,gvd->gcv", hidden_GCD, table_GVD, preferred_element_type=jnp.float32
        )
        logits_GCV = jnp.where(is_padding_V[None, None, :], -jnp.inf, logits_GCV)
        logits_GCV = constrain(logits_GCV, BATCH_AXES, None, "tensor")
        wanted_GC = jnp.take_along_axis(logits_GCV, targets_GC[:, :, None], axis=2)
        return jax.nn.logsumexp(logits_GCV, axis=2) - wanted_GC[:, :, 0]

    @jax.checkpoint
    def body(_: None, chunk: tuple[jax.Array, ...]) -> tuple[None, jax.Array]:
        hidden_GCD, targets_GC, counts_GC = chunk
        losses_GC = jax.lax.cond(
            counts_GC.any(),
            chunk_losses,
            lambda hidden_GCD, targets_GC: jnp.zeros(targets_GC.shape, jnp.float32),
            hidden_GCD,
            targets_GC,
        )
        return None, jnp.where(counts_GC, losses_GC, 0)

    counts_GS = counts_BL.reshape(groups, slots)
    order_GS = jnp.argsort(~counts_GS, axis=1, stable=True)

    def chunked(array: jax.Array) -> jax.Array:
        shape = (groups, chunks, slots // chunks, *array.shape[2:])
        return jnp.moveaxis(array.reshape(shape), 1, 0)

    ordered = (
        jnp.take_along_axis(
            hidden_BLD.reshape(groups, slots, width), order_GS[:, :, None], axis=1
        ),
        jnp.take_along_axis(targets_BL.reshape(groups, slots), order_GS, axis=1),
        jnp.take_along_axis(counts_GS, order_GS, axis=1),
    )
    _, losses_NGC = jax.lax.scan(body, None, tuple(map(chunked, ordered)))
    losses_GS = jnp.moveaxis(losses_NGC, 0, 1).reshape(groups, slots)
    back_GS = jnp.argsort(order_GS, axis=1)
    return jnp.take_along_axis(losses_GS, back_GS, axis=1).reshape(rows, length)


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

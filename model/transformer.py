"""The decoder: pre-norm blocks of attention and GEGLU, scanned over stacked weights.

The paper's appendix C. It says "pre-norm" and no more; here that is RMSNorm, and no
matrix has a bias.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from gato.model.attention import (
    attend,
    positions_in_segment,
    rotate,
    score_distances,
    sinusoids,
)
from gato.model.batch import Batch
from gato.model.config import ModelConfig
from gato.model.embeddings import SlotEmbedder, look_up, normal
from gato.model.kernels import attend_fused
from gato.model.sharding import BATCH_AXES, constrain

_EPSILON = 1e-6
# Purposes folded into a step's key.
_PATCHES, _DEPTH, _DROPOUT = 0, 1, 2
# By `remat`: what of a block's forward pass is kept for the backward pass.
_SAVED = {
    "attention": jax.checkpoint_policies.save_only_these_names("attention"),
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "block": None,
}


def rms_norm(x_BLD: jax.Array, scale_D: jax.Array) -> jax.Array:
    """Returns rows of unit root mean square times `scale_D`, computed in float32."""
    x = x_BLD.astype(jnp.float32)
    square = jnp.mean(x * x, axis=-1, keepdims=True)
    normed = x * jax.lax.rsqrt(square + _EPSILON) * scale_D[None, None, :]
    return normed.astype(x_BLD.dtype)


class Block(nnx.Module):
    """One block: attention, then GEGLU, each added to what came in."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        width, hidden = config.width, config.feed_forward // 2
        inner = (config.heads, config.head_size)
        self.config = config
        self.attention_norm_D = nnx.Param(jnp.ones(width))
        self.query_DHK = normal(rngs.params(), (width, *inner))
        self.key_DHK = normal(rngs.params(), (width, *inner))
        self.value_DHK = normal(rngs.params(), (width, *inner))
        self.output_HKD = normal(rngs.params(), (*inner, width))
        if config.positions == "xl":
            self.distance_DHK = normal(rngs.params(), (width, *inner))
            self.content_bias_HK = normal(rngs.params(), inner)
            self.distance_bias_HK = normal(rngs.params(), inner)
        self.feed_forward_norm_D = nnx.Param(jnp.ones(width))
        self.gated_D2F = normal(rngs.params(), (width, 2, hidden))
        self.down_FD = normal(rngs.params(), (hidden, width))

    def attention(
        self, x_BLD: jax.Array, segment_BL: jax.Array, positions_BL: jax.Array
    ) -> jax.Array:
        """Returns [B, L, D], to be added."""
        dtype = x_BLD.dtype
        normed = rms_norm(x_BLD, self.attention_norm_D[...])
        query, key, value = (
            jnp.einsum("bld,dhk->blhk", normed, weight[...].astype(dtype))
            for weight in (self.query_DHK, self.key_DHK, self.value_DHK)
        )
        if self.config.positions == "rope":
            query, key = rotate(query, positions_BL), rotate(key, positions_BL)
        scores_BHLM = None
        if self.config.positions == "xl":
            scores_BHLM = self._distance_scores(query)
            query = query + self.content_bias_HK[...].astype(dtype)[None, None]
        if (kernel := self.config.attention) in ("splash", "cudnn"):
            mixed_BLHK = attend_fused(kernel, query, key, value, segment_BL)
        else:
            mixed_BLHK = attend(query, key, value, segment_BL, scores_BHLM)
        return jnp.einsum(
            "blhk,hkd->bld", mixed_BLHK, self.output_HKD[...].astype(dtype)
        )

    def _distance_scores(self, query_BLHK: jax.Array) -> jax.Array:
        dtype = query_BLHK.dtype
        distance_LHK = jnp.einsum(
            "ld,dhk->lhk",
            sinusoids(query_BLHK.shape[1], self.config.width).astype(dtype),
            self.distance_DHK[...].astype(dtype),
        )
        bias_11HK = self.distance_bias_HK[...].astype(dtype)[None, None]
        return score_distances(query_BLHK + bias_11HK, distance_LHK)

    def feed_forward(self, x_BLD: jax.Array) -> jax.Array:
        """Returns [B, L, D], to be added."""
        dtype = x_BLD.dtype
        normed = rms_norm(x_BLD, self.feed_forward_norm_D[...])
        both = jnp.einsum("bld,dgf->blgf", normed, self.gated_D2F[...].astype(dtype))
        hidden = jax.nn.gelu(both[:, :, 0]) * both[:, :, 1]
        return hidden @ self.down_FD[...].astype(dtype)


class Decoder(nnx.Module):
    """Slots to hidden vectors; the table that embeds also scores (tied)."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        vocabulary_size: int,
        sequence_length: int,
        rngs: nnx.Rngs,
    ) -> None:
        self.config = config
        self.embed = SlotEmbedder(config, vocabulary_size, rngs)
        if config.positions == "learned":
            shape = (sequence_length, config.width)
            self.positions_LD = normal(rngs.params(), shape)
        create = nnx.vmap(functools.partial(Block, config))
        self.blocks = create(rngs.split(config.blocks))
        self.final_norm_D = nnx.Param(jnp.ones(config.width))

    def __call__(self, batch: Batch, key: jax.Array | None = None) -> jax.Array:
        """Returns hidden vectors [B, L, D] whose products with the table are logits.

        Args:
            batch: The slots.
            key: Of this step, in training; None for evaluation, which draws nothing.
        """
        dtype = jnp.dtype(self.config.compute_dtype)
        patch_key = None if key is None else jax.random.fold_in(key, _PATCHES)
        x_BLD = self.embed(batch, patch_key, dtype)
        positions_BL = positions_in_segment(batch.segment_BL)
        if self.config.positions == "learned":
            x_BLD = x_BLD + look_up(self.positions_LD, positions_BL, dtype)
        dropout = self.config.dropout
        if (row_keys := _row_keys(key, _DROPOUT, batch, dropout)) is not None:
            x_BLD = _drop(x_BLD, row_keys, 2 * self.config.blocks, dropout)
        x_BLD = constrain(x_BLD, BATCH_AXES, None, None)
        x_BLD = self._run_blocks(x_BLD, batch, positions_BL, key)
        return rms_norm(x_BLD, self.final_norm_D[...])

    def _run_blocks(
        self,
        x_BLD: jax.Array,
        batch: Batch,
        positions_BL: jax.Array,
        key: jax.Array | None,
    ) -> jax.Array:
        graph, stacked = nnx.split(self.blocks)
        rate, dropout = self.config.stochastic_depth, self.config.dropout
        depth_keys = _row_keys(key, _DEPTH, batch, rate)
        dropout_keys = _row_keys(key, _DROPOUT, batch, dropout)

        def kept(layer: jax.Array, sub_layer: int, change: jax.Array) -> jax.Array:
            index = 2 * layer + sub_layer
            if dropout_keys is not None:
                change = _drop(change, dropout_keys, index, dropout)
            if depth_keys is None:
                return change
            scale_B = _depth_scale(depth_keys, index, rate)
            return change * scale_B[:, None, None].astype(change.dtype)

        def body(x_BLD: jax.Array, scanned: tuple) -> tuple[jax.Array, None]:
            layer, state = scanned
            block = nnx.merge(graph, state)
            change = checkpoint_name(
                block.attention(x_BLD, batch.segment_BL, positions_BL), "attention"
            )
            x_BLD = x_BLD + kept(layer, 0, change)
            x_BLD = x_BLD + kept(layer, 1, block.feed_forward(x_BLD))
            return constrain(x_BLD, BATCH_AXES, None, None), None

        if self.config.remat != "none":
            body = jax.checkpoint(body, policy=_SAVED[self.config.remat])
        layers = jnp.arange(self.config.blocks)
        return jax.lax.scan(body, x_BLD, (layers, stacked))[0]


def _row_keys(
    key: jax.Array | None, purpose: int, batch: Batch, rate: float
) -> jax.Array | None:
    """Returns a key for each row [B], whatever device has it; None if none is drawn."""
    if key is None or not rate:
        return None
    key = jax.random.fold_in(key, purpose)
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(batch.row_B)


def _drop(
    x_BLD: jax.Array, row_keys: jax.Array, index: jax.Array | int, rate: float
) -> jax.Array:
    """Returns the values, some as 0 and the others enlarged, so the mean stays."""

    def draw(row_key: jax.Array) -> jax.Array:
        own = jax.random.fold_in(row_key, index)
        return jax.random.bernoulli(own, 1 - rate, x_BLD.shape[1:])

    return jnp.where(jax.vmap(draw)(row_keys), x_BLD / (1 - rate), 0)


def _depth_scale(row_keys: jax.Array, index: jax.Array, rate: float) -> jax.Array:
    """Returns [B]: 0 for a skipped row, else 1 / (1 - rate), so the mean stays."""

    def draw(row_key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.fold_in(row_key, index), 1 - rate)

    return jax.vmap(draw)(row_keys) / (1 - rate)

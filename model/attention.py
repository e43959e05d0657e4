"""Causal attention inside segments, and the rotary positions of queries and keys.

One function, so that a fused kernel can take its place where one compiles.
"""

import math

import jax
import jax.numpy as jnp

_ROPE_BASE = 10_000.0


def positions_in_segment(segment_BL: jax.Array) -> jax.Array:
    """Returns int32 [B, L]: each slot's distance from the start of its segment."""
    slots_BL = jax.lax.broadcasted_iota(jnp.int32, segment_BL.shape, 1)
    before_BL = jnp.pad(segment_BL, ((0, 0), (1, 0)), constant_values=255)[:, :-1]
    starts_BL = jnp.where(segment_BL != before_BL, slots_BL, 0)
    return slots_BL - jax.lax.cummax(starts_BL, axis=1)


def rotate(x_BLHK: jax.Array, positions_BL: jax.Array) -> jax.Array:
    """Returns queries or keys turned by their positions (RoPE, halves as pairs)."""
    half = x_BLHK.shape[-1] // 2
    rates_K = _ROPE_BASE ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles_BL1K = (positions_BL[:, :, None] * rates_K[None, None, :])[:, :, None, :]
    cosine, sine = jnp.cos(angles_BL1K), jnp.sin(angles_BL1K)
    first, second = jnp.split(x_BLHK.astype(jnp.float32), 2, axis=-1)
    turned = (first * cosine - second * sine, first * sine + second * cosine)
    return jnp.concatenate(turned, axis=-1).astype(x_BLHK.dtype)


def attend(
    query_BLHK: jax.Array,
    key_BLHK: jax.Array,
    value_BLHK: jax.Array,
    segment_BL: jax.Array,
) -> jax.Array:
    """Returns [B, L, H, K]: each slot's mixture of its segment's slots up to itself.

    Softmax in float32. Padding (segment 0) attends to padding, so no slot is without a
    key and nothing becomes NaN.
    """
    scale = 1 / math.sqrt(query_BLHK.shape[-1])
    scores_BHLM = scale * jnp.einsum(
        "blhk,bmhk->bhlm", query_BLHK, key_BLHK, preferred_element_type=jnp.float32
    )
    length = segment_BL.shape[1]
    causal_LM = jnp.tril(jnp.ones((length, length), bool))
    same_BLM = segment_BL[:, :, None] == segment_BL[:, None, :]
    allowed_B1LM = (causal_LM[None] & same_BLM)[:, None]
    scores_BHLM = jnp.where(allowed_B1LM, scores_BHLM, -jnp.inf)
    weights_BHLM = jax.nn.softmax(scores_BHLM, axis=-1).astype(value_BLHK.dtype)
    return jnp.einsum("bhlm,bmhk->blhk", weights_BHLM, value_BLHK)

"""Causal attention inside segments, with rotary or Transformer-XL's positions.

One function, so that a fused kernel can take its place where one compiles.
"""

import math

import jax
import jax.numpy as jnp

_BASE = 10_000.0


def positions_in_segment(segment_BL: jax.Array) -> jax.Array:
    """Returns int32 [B, L]: each slot's distance from the start of its segment."""
    slots_BL = jax.lax.broadcasted_iota(jnp.int32, segment_BL.shape, 1)
    before_BL = jnp.pad(segment_BL, ((0, 0), (1, 0)), constant_values=255)[:, :-1]
    starts_BL = jnp.where(segment_BL != before_BL, slots_BL, 0)
    return slots_BL - jax.lax.cummax(starts_BL, axis=1)


def rotate(x_BLHK: jax.Array, positions_BL: jax.Array) -> jax.Array:
    """Returns queries or keys turned by their positions (RoPE, halves as pairs)."""
    half = x_BLHK.shape[-1] // 2
    rates_K = _BASE ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles_BL1K = (positions_BL[:, :, None] * rates_K[None, None, :])[:, :, None, :]
    cosine, sine = jnp.cos(angles_BL1K), jnp.sin(angles_BL1K)
    first, second = jnp.split(x_BLHK.astype(jnp.float32), 2, axis=-1)
    turned = (first * cosine - second * sine, first * sine + second * cosine)
    return jnp.concatenate(turned, axis=-1).astype(x_BLHK.dtype)


def sinusoids(length: int, width: int) -> jax.Array:
    """Returns float32 [L, D]: for each distance 0, 1, ..., its sines, then cosines."""
    half = width // 2
    rates_D = _BASE ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles_LD = jnp.arange(length, dtype=jnp.float32)[:, None] * rates_D[None, :]
    return jnp.concatenate([jnp.sin(angles_LD), jnp.cos(angles_LD)], axis=-1)


def score_distances(query_BLHK: jax.Array, distance_LHK: jax.Array) -> jax.Array:
    """Returns float32 [B, H, L, L]: at (i, j <= i), query i times distance i - j.

    One product with all distances, whose rows are then shifted into place
    (Transformer-XL, appendix B); what stands at j > i means nothing.

    Args:
        query_BLHK: Queries.
        distance_LHK: A vector for each distance, from 0.
    """
    rows, length, heads, _ = query_BLHK.shape
    far_to_near = jnp.einsum(
        "blhk,mhk->bhlm",
        query_BLHK,
        distance_LHK[::-1],
        preferred_element_type=jnp.float32,
    )
    padded = jnp.pad(far_to_near, ((0, 0), (0, 0), (0, 0), (1, 0)))
    return padded.reshape(rows, heads, length + 1, length)[:, :, 1:]


def attend(
    query_BLHK: jax.Array,
    key_BLHK: jax.Array,
    value_BLHK: jax.Array,
    segment_BL: jax.Array,
    distance_scores_BHLM: jax.Array | None = None,
) -> jax.Array:
    """Returns [B, L, H, K]: each slot's mixture of its segment's slots up to itself.

    Softmax in float32. Padding (segment 0) attends to padding, so no slot is without a
    key and nothing becomes NaN.

    Args:
        query_BLHK: Queries.
        key_BLHK: Keys.
        value_BLHK: Values.
        segment_BL: Of the slots.
        distance_scores_BHLM: Added to the products before they are scaled.
    """
    scale = 1 / math.sqrt(query_BLHK.shape[-1])
    scores_BHLM = jnp.einsum(
        "blhk,bmhk->bhlm", query_BLHK, key_BLHK, preferred_element_type=jnp.float32
    )
    if distance_scores_BHLM is not None:
        scores_BHLM = scores_BHLM + distance_scores_BHLM
    scores_BHLM = scale * scores_BHLM
    length = segment_BL.shape[1]
    causal_LM = jnp.tril(jnp.ones((length, length), bool))
    same_BLM = segment_BL[:, :, None] == segment_BL[:, None, :]
    allowed_B1LM = (causal_LM[None] & same_BLM)[:, None]
    scores_BHLM = jnp.where(allowed_B1LM, scores_BHLM, -jnp.inf)
    weights_BHLM = jax.nn.softmax(scores_BHLM, axis=-1).astype(value_BLHK.dtype)
    return jnp.einsum("bhlm,bmhk->blhk", weights_BHLM, value_BLHK)

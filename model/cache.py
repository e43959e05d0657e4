"""The decoder's memory for acting: keys and values of the last L slots of each row.

A row is one environment's sequence of slots without end: prompt, observation, action,
observation, ... Each layer's attention reaches the last L slots, the own one included,
as in training. What those slots saw of earlier ones stays in their keys and values, so
what lies further back is not lost at once (Transformer-XL's memory, which the paper
deploys with).

Keys and values stand in a ring of fixed shape, so nothing is compiled twice. A block of
T new slots is written before it is read, so the ring holds T - 1 more than L: what is
overwritten, no slot of the block reaches. Shape letters beside `gato.model.config`'s:
    T slots of a block   M slots of the ring
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from gato.model.attention import rotate, sinusoids
from gato.model.batch import Batch
from gato.model.config import ModelConfig
from gato.model.embeddings import look_up
from gato.model.transformer import Block, Decoder, rms_norm
from gato.schemas.record import Kind

_EMPTY = -1
_FLOAT32_MIN = float(jnp.finfo(jnp.float32).min)


class Slots(NamedTuple):
    """New slots of each row; padding follows the last and is not fed.

    Attributes:
        tokens_BT: int32; 0 in image slots and padding.
        kind_BT: uint8; `gato.schemas.record.Kind`.
        local_position_BT: int16; -1 where there is none.
        patches_BPC: uint8 [B, P, 768]; of each row's image slots, in order.
        patch_grid_BP4: int32; patch row and column, then the image's patch rows and
            columns.
    """

    tokens_BT: Any
    kind_BT: Any
    local_position_BT: Any
    patches_BPC: Any
    patch_grid_BP4: Any


class Cache(NamedTuple):
    """What is remembered of each row.

    Attributes:
        key_NBMHK: Keys; with `rope`, turned by their positions.
        value_NBMHK: Values.
        position_BM: int32; place in the row of what stands there, -1 for nothing.
        length_B: int32; slots fed.
        drawn_B: int32; the same, and slots that were fed before and forgotten since:
            no two tokens of an episode are drawn at the same one.
    """

    key_NBMHK: jax.Array
    value_NBMHK: jax.Array
    position_BM: jax.Array
    length_B: jax.Array
    drawn_B: jax.Array


def empty_cache(config: ModelConfig, rows: int, reach: int, block: int) -> Cache:
    """Returns the memory of rows of which nothing is fed.

    Args:
        config: The model's.
        rows: B.
        reach: L.
        block: Largest T.
    """
    ring = reach + block - 1
    shape = (config.blocks, rows, ring, config.heads, config.head_size)
    dtype = jnp.dtype(config.compute_dtype)
    return Cache(
        jnp.zeros(shape, dtype),
        jnp.zeros(shape, dtype),
        jnp.full((rows, ring), _EMPTY, jnp.int32),
        jnp.zeros(rows, jnp.int32),
        jnp.zeros(rows, jnp.int32),
    )


def forget(cache: Cache, rows_B: jax.Array, *, same_episode: bool = False) -> Cache:
    """Returns the memory with the chosen rows (bool [B]) begun anew.

    Args:
        cache: Of the rows.
        rows_B: Those to begin anew.
        same_episode: Whether what is fed next goes on with an episode: then its draws
            do not repeat.
    """
    drawn_B = cache.drawn_B if same_episode else jnp.where(rows_B, 0, cache.drawn_B)
    return cache._replace(
        position_BM=jnp.where(rows_B[:, None], _EMPTY, cache.position_BM),
        length_B=jnp.where(rows_B, 0, cache.length_B),
        drawn_B=drawn_B,
    )


def distance_vectors(decoder: Decoder, reach: int) -> jax.Array | None:
    """Returns [N, L, H, K]: with `xl`, each layer's vector of each distance.

    They follow from the weights alone; made at every step they would cost more than
    the step.
    """
    config = decoder.config
    if config.positions != "xl":
        return None
    dtype = jnp.dtype(config.compute_dtype)
    return jnp.einsum(
        "ld,ndhk->nlhk",
        sinusoids(reach, config.width).astype(dtype),
        decoder.blocks.distance_DHK[...].astype(dtype),
    )


def extend(
    decoder: Decoder,
    cache: Cache,
    slots: Slots,
    *,
    reach: int,
    distance_NLHK: jax.Array | None,
) -> tuple[Cache, jax.Array]:
    """Feeds a block and returns the memory and each row's last vector, [B, D].

    The products of that vector with the token table are the logits of what follows. It
    means nothing for a row that is fed nothing.

    Args:
        decoder: The model.
        cache: Of the rows.
        slots: What is fed, at most the cache's `block`.
        reach: L. With `learned` positions, slots beyond it take the last one's vector.
        distance_NLHK: Of `distance_vectors`.
    """
    dtype = jnp.dtype(decoder.config.compute_dtype)
    fed_BT = slots.kind_BT != Kind.PADDING
    counts_B = fed_BT.sum(1, dtype=jnp.int32)
    position_BT = cache.length_B[:, None] - 1 + jnp.cumsum(fed_BT, 1, dtype=jnp.int32)
    ring = cache.position_BM.shape[1]
    # Beyond the ring, and so written nowhere, where nothing is fed.
    place_BT = jnp.where(fed_BT, position_BT % ring, ring)
    rows_B1 = jnp.arange(len(counts_B))[:, None]
    position_BM = cache.position_BM.at[rows_B1, place_BT].set(position_BT, mode="drop")
    x_BTD = decoder.embed(_as_batch(slots), None, dtype)
    if decoder.config.positions == "learned":
        known_BT = jnp.minimum(position_BT, reach - 1)
        x_BTD = x_BTD + look_up(decoder.positions_LD, known_BT, dtype)
    back_BTM = position_BT[:, :, None] - position_BM[:, None, :]
    seen_BTM = (position_BM[:, None, :] != _EMPTY) & (back_BTM >= 0)
    seen_BTM &= back_BTM < reach
    graph, stacked = nnx.split(decoder.blocks)

    def body(carry: tuple, scanned: tuple) -> tuple[tuple, None]:
        x_BTD, keys_NBMHK, values_NBMHK = carry
        layer, state, distance_LHK = scanned
        block = nnx.merge(graph, state)
        query, key, value = _project(block, x_BTD, position_BT)
        where = (layer, rows_B1, place_BT)
        # In the carry, a layer's part is written in place; as an output it is copied.
        keys_NBMHK = keys_NBMHK.at[where].set(key, mode="drop")
        values_NBMHK = values_NBMHK.at[where].set(value, mode="drop")
        mixed_BTHK = _attend(
            block,
            query,
            keys_NBMHK[layer],
            values_NBMHK[layer],
            _Sight(seen_BTM, back_BTM, distance_LHK),
        )
        output_HKD = block.output_HKD[...].astype(dtype)
        x_BTD = x_BTD + jnp.einsum("bthk,hkd->btd", mixed_BTHK, output_HKD)
        return (x_BTD + block.feed_forward(x_BTD), keys_NBMHK, values_NBMHK), None

    layers = jnp.arange(decoder.config.blocks)
    (x_BTD, keys_NBMHK, values_NBMHK), _ = jax.lax.scan(
        body,
        (x_BTD, cache.key_NBMHK, cache.value_NBMHK),
        (layers, stacked, distance_NLHK),
    )
    last_B11 = jnp.maximum(counts_B - 1, 0)[:, None, None]
    last_B1D = jnp.take_along_axis(x_BTD, last_B11, axis=1)
    hidden_BD = rms_norm(last_B1D, decoder.final_norm_D[...])[:, 0]
    extended = Cache(
        keys_NBMHK,
        values_NBMHK,
        position_BM,
        cache.length_B + counts_B,
        cache.drawn_B + counts_B,
    )
    return extended, hidden_BD


class _Sight(NamedTuple):
    """What each new slot sees of the ring.

    Attributes:
        seen_BTM: bool.
        back_BTM: int32; how far back it is.
        distance_LHK: With `xl`, this layer's vector of each distance.
    """

    seen_BTM: jax.Array
    back_BTM: jax.Array
    distance_LHK: jax.Array | None


def _as_batch(slots: Slots) -> Batch:
    """Returns what the embedder takes; each row has a pool of patches of its own."""
    rows = slots.tokens_BT.shape[0]
    unused = jnp.zeros(slots.tokens_BT.shape, jnp.uint8)
    return Batch(
        slots.tokens_BT,
        slots.kind_BT,
        unused,
        unused,
        slots.local_position_BT,
        jnp.zeros(rows, jnp.int32),
        jnp.arange(rows),
        slots.patches_BPC,
        slots.patch_grid_BP4,
        jnp.zeros((*slots.patch_grid_BP4.shape[:2], 2), jnp.int32),
    )


def _project(
    block: Block, x_BTD: jax.Array, position_BT: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns queries, keys and values [B, T, H, K] as `Block.attention` makes them."""
    dtype = x_BTD.dtype
    normed = rms_norm(x_BTD, block.attention_norm_D[...])
    query, key, value = (
        jnp.einsum("btd,dhk->bthk", normed, weight[...].astype(dtype))
        for weight in (block.query_DHK, block.key_DHK, block.value_DHK)
    )
    if block.config.positions == "rope":
        query, key = rotate(query, position_BT), rotate(key, position_BT)
    return query, key, value


def _attend(
    block: Block,
    query_BTHK: jax.Array,
    key_BMHK: jax.Array,
    value_BMHK: jax.Array,
    sight: _Sight,
) -> jax.Array:
    """Returns [B, T, H, K]: each new slot's mixture of what it sees of the ring."""
    dtype = query_BTHK.dtype
    product = {"preferred_element_type": jnp.float32}
    scores_BHTM: jax.Array = jnp.zeros(())
    if sight.distance_LHK is not None:
        bias_11HK = block.distance_bias_HK[...].astype(dtype)[None, None]
        by_distance_BHTL = jnp.einsum(
            "bthk,lhk->bhtl", query_BTHK + bias_11HK, sight.distance_LHK, **product
        )
        reach = sight.distance_LHK.shape[0]
        back_B1TM = jnp.clip(sight.back_BTM, 0, reach - 1)[:, None]
        scores_BHTM = jnp.take_along_axis(by_distance_BHTL, back_B1TM, axis=3)
        query_BTHK = query_BTHK + block.content_bias_HK[...].astype(dtype)[None, None]
    scores_BHTM += jnp.einsum("bthk,bmhk->bhtm", query_BTHK, key_BMHK, **product)
    scores_BHTM /= math.sqrt(query_BTHK.shape[-1])
    # Not -inf: a row that is fed nothing may see nothing, and is not to become NaN.
    scores_BHTM = jnp.where(sight.seen_BTM[:, None], scores_BHTM, _FLOAT32_MIN)
    weights_BHTM = jax.nn.softmax(scores_BHTM, axis=-1).astype(dtype)
    return jnp.einsum("bhtm,bmhk->bthk", weights_BHTM, value_BMHK)

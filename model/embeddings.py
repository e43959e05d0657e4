"""Slot embeddings: token table, image patches, patch and local positions.

The paper's section 2.2 and appendix C. Image and padding slots *select* their vector
and never add to the table's: row 0, whose id stands in them, gets exactly no gradient
from them.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from gato.model.batch import Batch
from gato.model.config import ModelConfig, table_rows
from gato.model.sharding import constrain
from gato.schemas.record import MAX_LOCAL_POSITION, PATCH_SIZE, Kind

INITIAL_STD = 0.02
NUM_PATCH_POSITIONS = 128
PATCH_VALUES = PATCH_SIZE * PATCH_SIZE * 3
_CHANNELS = 64
_GROUPS = 32
_POOLED = 4
_EPSILON = 1e-5
# Purposes folded into a step's key, so that no two draws share one.
_ROW_DRAW, _COLUMN_DRAW = 0, 1


def normal(key: jax.Array, shape: tuple[int, ...]) -> nnx.Param[jax.Array]:
    """Returns a parameter with the initial deviation of all matrices and tables."""
    return nnx.Param(INITIAL_STD * jax.random.normal(key, shape))


def look_up(
    table: nnx.Param[jax.Array],
    index: jax.Array,
    dtype: jnp.dtype,
    rows_axis: str | None = None,
) -> jax.Array:
    """Returns rows of a table, in `dtype`.

    The width is gathered first: the compiler cannot turn rows split over `fsdp` by
    width into rows split by batch, and would copy them whole to every device.
    """
    return constrain(table[...].astype(dtype), rows_axis, None)[index]


def normalize_pixels(patches: jax.Array) -> jax.Array:
    """Returns uint8 pixels in [-1, 1] over the root of the patch's side, float32."""
    return (patches.astype(jnp.float32) / 255 * 2 - 1) / PATCH_SIZE**0.5


def patch_intervals(index: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the quantised interval [low, high) of a patch along one side.

    Args:
        index: int32 [...]; the patch's row or column.
        count: int32 [...]; how many the padded image has.
    """

    def quantise(numerator: jax.Array) -> jax.Array:
        # round(128 v), half up, in integers: no float decides a position.
        return (2 * NUM_PATCH_POSITIONS * numerator + count) // (2 * count)

    low = quantise(index)
    return low, jnp.maximum(quantise(index + 1), low + 1)


def mean_position(low: jax.Array, high: jax.Array) -> jax.Array:
    """Returns the position used in evaluation: the interval's rounded mean."""
    middle = jnp.round((low + high) / 2).astype(jnp.int32)
    return jnp.minimum(middle, NUM_PATCH_POSITIONS - 1)


def sampled_position(low: jax.Array, high: jax.Array, uniform: jax.Array) -> jax.Array:
    """Returns the position used in training: uniform in [low, high)."""
    drawn = low + jnp.floor(uniform * (high - low)).astype(jnp.int32)
    return jnp.minimum(jnp.minimum(drawn, high - 1), NUM_PATCH_POSITIONS - 1)


def _patch_uniforms(
    key: jax.Array, source_P2: jax.Array, index_P: jax.Array, purpose: int
) -> jax.Array:
    """Returns [P] draws, equal for the patches of one image's row (or column)."""

    def draw(source: jax.Array, index: jax.Array) -> jax.Array:
        image_key = jax.random.fold_in(jax.random.fold_in(key, source[0]), source[1])
        return jax.random.uniform(
            jax.random.fold_in(jax.random.fold_in(image_key, purpose), index)
        )

    return jax.vmap(draw)(source_P2, index_P)


class LinearPatches(nnx.Module):
    """One matrix from 768 pixels to the width (a ViT's)."""

    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.project_CD = normal(rngs.params(), (PATCH_VALUES, width))

    def __call__(self, pixels_PC: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Returns [P, D] of normalised pixels [P, 768]."""
        return pixels_PC.astype(dtype) @ self.project_CD[...].astype(dtype)


class ResidualPatches(nnx.Module):
    """One v2 residual block a patch, mean-pooled to 4 x 4 x 64, then a matrix."""

    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        def kernel(channels: int) -> nnx.Param[jax.Array]:
            std = (9 * channels) ** -0.5
            shape = (3, 3, channels, _CHANNELS)
            return nnx.Param(std * jax.random.normal(rngs.params(), shape))

        self.lift = kernel(3)
        self.first = kernel(_CHANNELS)
        self.second = kernel(_CHANNELS)
        self.scale_2C = nnx.Param(jnp.ones((2, _CHANNELS)))
        self.shift_2C = nnx.Param(jnp.zeros((2, _CHANNELS)))
        pooled = _POOLED * _POOLED * _CHANNELS
        self.project_CD = normal(rngs.params(), (pooled, width))

    def _branch(self, x: jax.Array, which: int, kernel: jax.Array) -> jax.Array:
        count, side = x.shape[0], x.shape[1]
        grouped = x.astype(jnp.float32).reshape(count, side * side, _GROUPS, -1)
        mean = grouped.mean((1, 3), keepdims=True)
        variance = grouped.var((1, 3), keepdims=True)
        normed = ((grouped - mean) * jax.lax.rsqrt(variance + _EPSILON)).reshape(
            x.shape
        )
        scale = self.scale_2C[...][which][None, None, None, :]
        shift = self.shift_2C[...][which][None, None, None, :]
        return _convolve(jax.nn.gelu((normed * scale + shift).astype(x.dtype)), kernel)

    def __call__(self, pixels_PC: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Returns [P, D] of normalised pixels [P, 768]."""
        image = pixels_PC.reshape(-1, PATCH_SIZE, PATCH_SIZE, 3).astype(dtype)
        x = _convolve(image, self.lift[...])
        branch = self._branch(x, 0, self.first[...])
        x = x + self._branch(branch, 1, self.second[...])
        cell = PATCH_SIZE // _POOLED
        cells = x.reshape(-1, _POOLED, cell, _POOLED, cell, _CHANNELS)
        pooled = cells.mean((2, 4)).reshape(x.shape[0], _POOLED * _POOLED * _CHANNELS)
        return pooled @ self.project_CD[...].astype(dtype)


def _convolve(image: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        image,
        kernel.astype(image.dtype),
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


class PatchEmbedder(nnx.Module):
    """Pixels and place of a patch to its slot's embedding."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        kinds = {"linear": LinearPatches, "resnet": ResidualPatches}
        self.pixels = kinds[config.patch_embedder](config.width, rngs)
        shape = (NUM_PATCH_POSITIONS, config.width)
        self.rows_QD = normal(rngs.params(), shape)
        self.columns_QD = normal(rngs.params(), shape)

    def __call__(
        self, batch: Batch, key: jax.Array | None, dtype: jnp.dtype
    ) -> jax.Array:
        """Returns [G, P, D]; without a key, at the positions of evaluation."""
        groups, pooled, values = batch.patches_GPC.shape
        pixels = normalize_pixels(batch.patches_GPC.reshape(-1, values))
        x_PD = self.pixels(pixels, dtype)
        grid_P4 = batch.patch_grid_GP4.reshape(-1, 4)
        source_P2 = batch.patch_source_GP2.reshape(-1, 2)
        for purpose, table in (
            (_ROW_DRAW, self.rows_QD),
            (_COLUMN_DRAW, self.columns_QD),
        ):
            index_P = grid_P4[:, purpose]
            low, high = patch_intervals(index_P, grid_P4[:, 2 + purpose])
            if key is None:
                position_P = mean_position(low, high)
            else:
                uniform_P = _patch_uniforms(key, source_P2, index_P, purpose)
                position_P = sampled_position(low, high, uniform_P)
            x_PD = x_PD + look_up(table, position_P, dtype)
        return x_PD.reshape(groups, pooled, -1)


class SlotEmbedder(nnx.Module):
    """Table row or patch, plus the place inside the timestep."""

    def __init__(
        self, config: ModelConfig, vocabulary_size: int, rngs: nnx.Rngs
    ) -> None:
        rows = table_rows(vocabulary_size)
        self.table_VD = normal(rngs.params(), (rows, config.width))
        self.local_QD = normal(rngs.params(), (MAX_LOCAL_POSITION + 1, config.width))
        self.action_D = normal(rngs.params(), (config.width,))
        self.patches = PatchEmbedder(config, rngs)

    def __call__(
        self, batch: Batch, key: jax.Array | None, dtype: jnp.dtype
    ) -> jax.Array:
        """Returns [B, L, D]; without a key, as in evaluation."""
        kind_BL1 = batch.kind_BL[:, :, None]
        x_BLD = look_up(self.table_VD, batch.tokens_BL, dtype, "tensor")
        x_BLD = jnp.where(kind_BL1 == Kind.PADDING, 0, x_BLD)
        if batch.patches_GPC.shape[1]:
            patches_BLD = _place(self.patches(batch, key, dtype), batch.kind_BL)
            x_BLD = jnp.where(kind_BL1 == Kind.IMAGE, patches_BLD, x_BLD)
        local_BL = batch.local_position_BL.astype(jnp.int32)
        local_BLD = look_up(self.local_QD, jnp.maximum(local_BL, 0), dtype)
        x_BLD = x_BLD + jnp.where(local_BL[:, :, None] >= 0, local_BLD, 0)
        is_action = (kind_BL1 == Kind.DISCRETE_ACTION) | (
            kind_BL1 == Kind.CONTINUOUS_ACTION
        )
        action_11D = self.action_D[...].astype(dtype)[None, None, :]
        return x_BLD + jnp.where(is_action, action_11D, 0)


def _place(patches_GPD: jax.Array, kind_BL: jax.Array) -> jax.Array:
    """Returns [B, L, D]: at image slots, the patches of the row's pool in slot order.

    Each group takes from its own pool only, so nothing travels between devices.
    """
    groups, _, width = patches_GPD.shape
    rows, length = kind_BL.shape
    is_image_GS = (kind_BL == Kind.IMAGE).reshape(groups, -1)
    index_GS = jnp.maximum(jnp.cumsum(is_image_GS, axis=1) - 1, 0)
    taken_GSD = jax.vmap(lambda pool, index: pool[index])(patches_GPD, index_GS)
    return taken_GSD.reshape(rows, length, width)

"""Models small enough for tests, and batches for them from rows made by hand."""

import dataclasses

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gato.model.batch import Batch
from gato.model.config import DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from gato.model.step import Model

VOCABULARY = 200


def small_config(**changes):
    """A run of a model of width 16; `changes` replace keys of its ModelConfig."""
    model = ModelConfig(
        width=16,
        blocks=2,
        heads=2,
        head_size=8,
        feed_forward=32,
        positions="rope",
        patch_embedder="linear",
        stochastic_depth=0.0,
        compute_dtype="float32",
    )
    return TrainConfig(
        name="small",
        model=dataclasses.replace(model, **changes),
        optimizer=OptimizerConfig(peak_lr=1e-2, warmup_steps=0, decay_steps=None),
        data=DataConfig(batch_size=4),
        steps=100,
    )


def small_model(length, vocabulary_size=VOCABULARY, **changes):
    """A model of `small_config` for rows of `length`."""
    return Model(
        small_config(**changes),
        vocabulary_size=vocabulary_size,
        sequence_length=length,
    )


def make_batch(
    rows: ArrayLike,
    *,
    kind: ArrayLike = 1,
    loss_mask: ArrayLike = 1,
    segment: ArrayLike = 1,
    local: ArrayLike = -1,
    patches: NDArray[np.uint8] | None = None,
) -> Batch:
    """A batch of one group; scalars stand for every slot."""
    tokens = np.array(rows, np.int32)

    def fill(value, dtype):
        return np.broadcast_to(np.array(value, dtype), tokens.shape).copy()

    count = 0 if patches is None else len(patches)
    pixels = np.zeros((0, 768), np.uint8) if patches is None else patches
    grid = np.tile(np.array([0, 0, 2, 2], np.int32), (count, 1))
    grid[:, 0], grid[:, 1] = np.arange(count) // 2 % 2, np.arange(count) % 2
    return Batch(
        tokens,
        fill(kind, np.uint8),
        fill(loss_mask, np.uint8),
        fill(segment, np.uint8),
        fill(local, np.int16),
        np.zeros(len(tokens), np.int32),
        np.arange(len(tokens), dtype=np.int32),
        pixels[None],
        grid[None],
        np.zeros((1, count, 2), np.int32),
    )


def random_params(model, seed=0):
    """Random parameters; scales near 1. Drawn by NumPy, which needs no compiling."""
    generator = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        centre = 1.0 if name.endswith("norm_D") or name == "scale_2C" else 0.0
        return generator.normal(centre, 0.1, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(model.initial))

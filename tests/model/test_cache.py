"""The ring of keys and values against a slow model that remembers nothing."""

import functools

import jax
import numpy as np
import pytest
from reference_decoder import reference_losses
from small_models import VOCABULARY, make_batch, random_params, small_model

from gato.model.cache import Slots, distance_vectors, empty_cache, extend, forget

REACH, BLOCK, LENGTH = 8, 5, 24
# Blocks and single slots, padded blocks among them: 24 slots, three times the reach.
SIZES = (5, 1, 1, 3, 5, 1, 4, 1, 1, 2)


def endless_batch():
    """Two rows three times as long as attention reaches; every slot is a target."""
    generator = np.random.default_rng(0)
    kinds = generator.choice([1, 3, 4, 5, 6, 7], (2, LENGTH))
    kinds[0, [2, 3, 11]] = kinds[1, [4, 7, 8]] = 2
    tokens = generator.integers(1, VOCABULARY, kinds.shape)
    tokens[kinds == 2] = 0
    local = np.where(np.isin(kinds, (3, 4)), np.arange(LENGTH) % 5, -1)
    patches = generator.integers(0, 256, (6, 768)).astype(np.uint8)
    return make_batch(tokens, kind=kinds, local=local, patches=patches)


def cut(batch, start, stop, width):
    """The slots [start, stop) of both rows as a block of `width`."""
    rows = len(batch.tokens_BL)
    slots = Slots(
        np.zeros((rows, width), np.int32),
        np.zeros((rows, width), np.uint8),
        np.full((rows, width), -1, np.int16),
        np.zeros((rows, width, 768), np.uint8),
        np.ones((rows, width, 4), np.int32),
    )
    is_image = (batch.kind_BL == 2).ravel()
    for row in range(rows):
        used = stop - start
        slots.tokens_BT[row, :used] = batch.tokens_BL[row, start:stop]
        slots.kind_BT[row, :used] = batch.kind_BL[row, start:stop]
        slots.local_position_BT[row, :used] = batch.local_position_BL[row, start:stop]
        first = np.count_nonzero(is_image[: row * LENGTH + start])
        count = np.count_nonzero(is_image[row * LENGTH + start : row * LENGTH + stop])
        slots.patches_BPC[row, :count] = batch.patches_GPC[0, first : first + count]
        grid = batch.patch_grid_GP4[0, first : first + count]
        slots.patch_grid_BP4[row, :count] = grid
    return slots


@functools.cache
def programs(positions):
    model = small_model(REACH, positions=positions)
    params = random_params(model)

    def run(params, cache, slots):
        decoder = model.decoder(params)
        distances = distance_vectors(decoder, REACH)
        cache, hidden_BD = extend(
            decoder, cache, slots, reach=REACH, distance_NLHK=distances
        )
        table = params["embed"]["table_VD"][:VOCABULARY]
        return cache, jax.nn.log_softmax(hidden_BD @ table.T)

    return model, params, jax.jit(run)


def new_cache(model, rows=2):
    return empty_cache(model.config.model, rows, REACH, BLOCK)


@pytest.mark.parametrize("positions", ["xl", "rope", "learned"])
def test_three_times_the_reach_equals_recomputing_every_layer(positions):
    model, params, run = programs(positions)
    batch = endless_batch()
    expected = reference_losses(
        params, batch, VOCABULARY, positions=positions, reach=REACH
    )
    cache, at = new_cache(model), 0
    for size in SIZES:
        width = 1 if size == 1 else BLOCK
        cache, logs_BV = run(params, cache, cut(batch, at, at + size, width))
        at += size
        if at < LENGTH:
            target = batch.tokens_BL[:, at]
            found = -np.asarray(logs_BV)[[0, 1], target]
            np.testing.assert_allclose(found, expected[:, at], rtol=1e-4, atol=1e-4)
    assert at == LENGTH
    assert np.asarray(cache.length_B).tolist() == [LENGTH, LENGTH]


def test_what_lies_beyond_the_reach_still_speaks_through_deeper_layers():
    model, params, run = programs("rope")
    found = []
    for first in (7, 8):
        batch = endless_batch()
        batch.tokens_BL[:, 0] = first
        cache, logs_BV = new_cache(model), None
        for at in range(0, LENGTH // 2, BLOCK):
            cache, logs_BV = run(params, cache, cut(batch, at, at + BLOCK, BLOCK))
        found.append(np.asarray(logs_BV))
    # 15 slots are fed, and attention reaches 8: slot 0 is out of sight.
    assert (found[0] != found[1]).all(1).any()


def test_a_row_that_is_forgotten_begins_anew_and_leaves_the_other_alone():
    model, params, run = programs("xl")
    batch = endless_batch()
    first = cut(batch, 0, BLOCK, BLOCK)
    cache, fresh = run(params, new_cache(model), first)
    cache, _ = run(params, cache, cut(batch, BLOCK, 2 * BLOCK, BLOCK))
    again = first.kind_BT.copy()
    again[1] = 0
    position = np.asarray(cache.position_BM)[1]
    cache = forget(cache, jax.numpy.array([True, False]))
    cache, logs = run(params, cache, first._replace(kind_BT=again))
    np.testing.assert_allclose(logs[0], fresh[0], rtol=1e-5, atol=1e-5)
    assert np.asarray(cache.length_B).tolist() == [BLOCK, 2 * BLOCK]
    np.testing.assert_array_equal(np.asarray(cache.position_BM)[1], position)

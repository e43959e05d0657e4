"""The decoder: what may influence what, and its loss against a slow reference."""

import functools
import math

import jax
import numpy as np
import pytest
from reference_decoder import reference_losses
from small_models import VOCABULARY, make_batch, random_params, small_model

from gato.schemas.record import Kind

LENGTH = 16


@functools.cache
def model_and_params(positions="rope", embedder="linear"):
    model = small_model(LENGTH, positions=positions, patch_embedder=embedder)
    return model, random_params(model)


@functools.cache
def hidden_gradient(positions="rope"):
    """(params, batch, slot) -> gradient of row 0's vector at a slot, to the table."""
    model, _ = model_and_params(positions)

    def value(params, batch, slot):
        return model.hidden(params, batch)[0, slot].sum()

    return jax.jit(lambda *args: jax.grad(value)(*args)["embed"]["table_VD"])


def mixed_batch():
    """Two rows of each kind of slot, two segments, padding, three patches."""
    generator = np.random.default_rng(0)
    kinds = np.array(
        [
            [3, 4, 2, 5, 7, 3, 4, 2, 5, 7, 1, 1, 1, 0, 0, 0],
            [1, 1, 2, 1, 1, 1, 1, 1, 1, 3, 5, 6, 3, 5, 6, 0],
        ]
    )
    segments = np.array([[1] * 10 + [2] * 3 + [0] * 3, [1] * 9 + [2] * 6 + [0]])
    local = np.where(np.isin(kinds, (3, 4)), np.arange(LENGTH) % 5, -1)
    tokens = generator.integers(1, VOCABULARY, kinds.shape)
    tokens[np.isin(kinds, (0, 2))] = 0
    patches = generator.integers(0, 256, (3, 768)).astype(np.uint8)
    mask = np.isin(kinds, (1, 6, 7))
    return make_batch(
        tokens,
        kind=kinds,
        loss_mask=mask,
        segment=segments,
        local=local,
        patches=patches,
    )


@pytest.mark.parametrize("positions", ["xl", "rope", "learned"])
def test_loss_equals_the_slow_reference(positions):
    model, params = model_and_params(positions)
    batch = mixed_batch()
    losses, counts = jax.jit(model.losses)(params, batch)
    expected = reference_losses(params, batch, VOCABULARY, positions=positions)
    shifted = np.roll(np.asarray(losses), 1, axis=1)
    np.testing.assert_allclose(shifted, expected, rtol=2e-5, atol=2e-5)
    assert (np.roll(np.asarray(counts), 1, axis=1) == (expected != 0)).all()
    assert np.count_nonzero(expected) == 13


def test_a_slot_sees_itself_and_what_stands_before_and_nothing_after():
    _, params = model_and_params()
    batch = make_batch([np.arange(LENGTH) + 1])
    gradient = np.asarray(hidden_gradient()(params, batch, 7))
    norms = np.abs(gradient[1 : LENGTH + 1]).sum(1)
    assert (norms[:8] > 0).all()
    assert (norms[8:] == 0).all()


@pytest.mark.parametrize("positions", ["xl", "rope", "learned"])
def test_no_gradient_crosses_a_segment(positions):
    _, params = model_and_params(positions)
    segment = [[1] * 6 + [2] * 10]
    batch = make_batch([np.arange(LENGTH) + 1], segment=segment)
    gradient = np.asarray(hidden_gradient(positions)(params, batch, 12))
    norms = np.abs(gradient[1 : LENGTH + 1]).sum(1)
    assert (norms[:6] == 0).all()
    assert (norms[6:13] > 0).all()


@pytest.mark.parametrize("positions", ["xl", "rope", "learned"])
def test_packed_segments_equal_each_alone(positions):
    model, params = model_and_params(positions)
    losses = jax.jit(model.losses)
    tokens = np.arange(LENGTH) + 1
    packed, _ = losses(params, make_batch([tokens], segment=[[1] * 6 + [2] * 10]))
    first = np.concatenate([tokens[:6], np.zeros(10, int)])
    second = np.concatenate([tokens[6:], np.zeros(6, int)])
    for alone, length, begin in ((first, 6, 0), (second, 10, 6)):
        used = np.arange(LENGTH) < length
        batch = make_batch([alone], kind=used, loss_mask=used, segment=used)
        expected, _ = losses(params, batch)
        np.testing.assert_allclose(
            packed[0, begin : begin + length - 1], expected[0, : length - 1], atol=1e-5
        )
    # The last slot of a segment predicts nothing, though a target follows it.
    assert float(packed[0, 5]) == 0


def test_image_and_padding_slots_give_table_row_0_no_gradient():
    model, params = model_and_params(embedder="resnet")

    def value(params, batch):
        # Hidden vectors and not the loss: its softmax touches every row.
        return (model.hidden(params, batch) ** 2).sum()

    gradient = jax.jit(jax.grad(value))(params, mixed_batch())
    assert (np.asarray(gradient["embed"]["table_VD"][0]) == 0).all()
    assert np.abs(gradient["embed"]["patches"]["rows_QD"]).sum() > 0
    pixels = jax.tree.leaves(gradient["embed"]["patches"]["pixels"])
    assert all(np.abs(leaf).sum() > 0 for leaf in pixels)


def test_nothing_comes_from_slots_that_are_no_targets():
    model, params = model_and_params()
    batch = mixed_batch()._replace(loss_mask_BL=np.zeros((2, LENGTH), np.uint8))
    losses, counts = jax.jit(model.losses)(params, batch)
    assert not np.asarray(losses).any()
    assert not np.asarray(counts).any()
    gradient = jax.jit(jax.grad(lambda p, b: model.losses(p, b)[0].sum()))
    leaves = jax.tree.leaves(gradient(params, batch))
    assert all((np.asarray(leaf) == 0).all() for leaf in leaves)
    # One target at slot 4: what stands from there on cannot matter, not even its own
    # input, and the id of a slot that is no target is nobody's answer.
    one = batch.loss_mask_BL.copy()
    one[0, 4] = 1
    changed = batch.tokens_BL.copy()
    changed[0, 8:10] += 1
    before = gradient(params, batch._replace(loss_mask_BL=one))
    after = gradient(params, batch._replace(loss_mask_BL=one, tokens_BL=changed))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert np.abs(before["embed"]["table_VD"]).sum() > 0


def test_padded_rows_of_the_table_are_never_predicted():
    model, params = model_and_params()
    table = np.array(params["embed"]["table_VD"])
    assert table.shape[0] == 256
    table[VOCABULARY:] = 100.0
    huge = params | {"embed": params["embed"] | {"table_VD": table}}
    losses = jax.jit(model.losses)
    expected, _ = losses(params, mixed_batch())
    found, _ = losses(huge, mixed_batch())
    np.testing.assert_array_equal(expected, found)


def test_loss_of_new_weights_is_that_of_a_uniform_guess():
    model = small_model(LENGTH, vocabulary_size=33_025)
    batch = make_batch([np.arange(LENGTH) + 100], kind=Kind.TEXT)
    losses, counts = jax.jit(model.losses)(jax.jit(model.initial)(), batch)
    mean = float(losses.sum() / counts.sum())
    assert mean == pytest.approx(math.log(33_025), rel=0.05)


def test_bfloat16_changes_the_loss_little():
    model, params = model_and_params()
    half = small_model(LENGTH, compute_dtype="bfloat16")
    expected, _ = jax.jit(model.losses)(params, mixed_batch())
    found, _ = jax.jit(half.losses)(params, mixed_batch())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0.1, atol=0.1)


def test_matrices_and_tables_start_with_a_deviation_of_0_02():
    model = small_model(LENGTH, positions="learned")
    params = jax.jit(model.initial)()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if path[-1].key.endswith("norm_D"):
            assert (leaf == 1).all()
            continue
        # Four standard deviations of an estimate from so many numbers.
        slack = 4 / math.sqrt(2 * leaf.size)
        assert np.std(leaf) == pytest.approx(0.02, rel=slack), path


def test_evaluation_skips_no_sub_layer():
    model, params = model_and_params()
    half = small_model(LENGTH, stochastic_depth=0.5)
    batch = mixed_batch()
    hidden = jax.jit(half.hidden)
    expected = np.asarray(jax.jit(model.hidden)(params, batch))
    np.testing.assert_array_equal(hidden(params, batch), expected)
    trained = np.asarray(hidden(params, batch, jax.random.key(0)))
    assert (trained != expected).any()

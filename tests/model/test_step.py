"""The update: one division, any mesh, stochastic depth, the schedule, overfitting."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from small_models import (
    VOCABULARY,
    make_batch,
    random_params,
    small_config,
    small_model,
)

from gato.model.batch import Batch
from gato.model.collectives import read_traffic
from gato.model.compile import lower_step
from gato.model.config import DataConfig, OptimizerConfig
from gato.model.configs import PRESETS
from gato.model.data import put
from gato.model.loss import (
    add_observation_targets,
    shift_targets,
    sums_by_dataset,
    target_weights,
)
from gato.model.optimizer import learning_rate, make_optimizer
from gato.model.sharding import check_mesh, make_mesh, parse_mesh
from gato.model.step import Model, initialize, make_train_step
from gato.model.transformer import _depth_scale, _drop
from gato.schemas.errors import UsageError

LENGTH = 16


def batch_of_8(t):
    """Eight rows of text, two patches and two actions, in two segments."""
    generator = np.random.default_rng(t)
    kinds = np.tile([1, 1, 2, 3, 5, 6, 1, 1, 1, 1, 1, 2, 3, 5, 6, 0], (8, 1))
    tokens = generator.integers(1, VOCABULARY, kinds.shape)
    tokens[np.isin(kinds, (0, 2))] = 0
    return make_batch(
        tokens,
        kind=kinds,
        loss_mask=np.isin(kinds, (1, 6)) & (np.arange(8)[:, None] > kinds - 3),
        segment=np.tile([1] * 6 + [2] * 9 + [0], (8, 1)),
        local=np.where(kinds == 3, 0, -1),
        patches=generator.integers(0, 256, (16, 768)).astype(np.uint8),
    )


def run_steps(sizes, count, repeat=False, microbatches=1, **changes):
    """Returns the losses and the last state of a small model on a mesh."""
    config = dataclasses.replace(small_config(**changes), microbatches=microbatches)
    model = Model(config, vocabulary_size=VOCABULARY, sequence_length=LENGTH)
    mesh = make_mesh(sizes)
    groups = sizes["data"] * sizes["fsdp"] * microbatches
    with jax.set_mesh(mesh):
        state = initialize(model, mesh)
        step = jax.jit(make_train_step(model, 1), donate_argnums=0)
        losses = []
        for t in range(count):
            batch = batch_of_8(0 if repeat else t)
            # In slot order the pools of groups are runs of the one pool.
            pools = [
                np.reshape(field, (groups, -1, field.shape[-1])) for field in batch[-3:]
            ]
            state, metrics = step(state, put(Batch(*batch[:-3], *pools), mesh))
            losses.append(float(metrics["loss"]))
    return losses, state


@pytest.mark.slow
def test_a_2x2x2_mesh_equals_one_device_and_splits_the_parameters():
    options = {"stochastic_depth": 0.1, "dropout": 0.1, "positions": "xl"}
    one, state_of_one = run_steps({"data": 1, "fsdp": 1, "tensor": 1}, 4, **options)
    many, state_of_many = run_steps({"data": 2, "fsdp": 2, "tensor": 2}, 4, **options)
    np.testing.assert_allclose(many, one, rtol=1e-5)
    whole, held = (
        sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
        for state in (state_of_one, state_of_many)
    )
    assert held < whole / 2
    table = state_of_many["params"]["embed"]["table_VD"]
    assert isinstance(table.sharding, NamedSharding)
    assert table.addressable_shards[0].data.shape == (256 // 2, 16 // 2)


@pytest.mark.slow
def test_what_devices_learn_is_summed_once():
    """Not once a chunk of the loss: the table here is nearly all that is learned."""
    config = dataclasses.replace(small_config(blocks=1), data=DataConfig(batch_size=8))
    model = Model(config, vocabulary_size=3000, sequence_length=64)
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    text = lower_step(model, mesh, patches_per_row=0).compile().as_text()
    found = read_traffic(text or "").by_kind()
    reduced = sum(found[kind]["bytes"] for kind in found if "reduce" in kind)
    leaves = jax.tree.leaves(jax.eval_shape(model.initial))
    # Of float32; a device holds half of the table's rows.
    learned = sum(leaf.size * 4 for leaf in leaves) / 2
    # The table embeds and scores.
    assert learned < reduced < 2.5 * learned


@pytest.mark.slow
def test_microbatches_equal_the_whole_batch():
    """Uneven targets: a mean of means would differ in the first digits."""
    one, state_of_one = run_steps({"data": 1, "fsdp": 1, "tensor": 1}, 3)
    parts, state_of_parts = run_steps(
        {"data": 2, "fsdp": 1, "tensor": 1}, 3, microbatches=4
    )
    np.testing.assert_allclose(parts, one, rtol=1e-5)
    for leaf, other in zip(
        jax.tree.leaves(state_of_one["params"]),
        jax.tree.leaves(state_of_parts["params"]),
        strict=True,
    ):
        np.testing.assert_allclose(leaf, other, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["attention", "dots", "block"])
def test_what_is_computed_again_changes_nothing(remat):
    sizes = {"data": 1, "fsdp": 1, "tensor": 1}
    expected, _ = run_steps(sizes, 2)
    found, _ = run_steps(sizes, 2, remat=remat)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_one_batch_is_learned_by_heart():
    losses, _ = run_steps({"data": 1, "fsdp": 1, "tensor": 1}, 100, repeat=True)
    assert losses[0] == pytest.approx(np.log(VOCABULARY), rel=0.05)
    assert losses[-1] < 0.1 * losses[0]


def test_token_weights_and_row_weights():
    counts = jnp.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    token = np.asarray(target_weights(counts, "token"))
    row = np.asarray(target_weights(counts, "row"))
    np.testing.assert_array_equal(token, counts)
    np.testing.assert_allclose(row.sum(1), [1, 1, 0])
    np.testing.assert_allclose(row[0, :3], 1 / 3)


def test_the_loss_is_one_sum_over_one_sum():
    # Two rows with 3 targets and 1: the mean of rows' means is not what token wants.
    batch = make_batch(
        [[1, 2, 3, 4], [5, 6, 7, 8]], loss_mask=[[0, 1, 1, 1], [0, 1, 0, 0]]
    )
    model = small_model(4)
    params = random_params(model)
    losses, counts = (np.asarray(x) for x in jax.jit(model.losses)(params, batch))
    expected = {
        "token": losses.sum() / 4,
        "row": (losses.sum(1) / counts.sum(1)).mean(),
    }
    for normalization, loss in expected.items():
        config = dataclasses.replace(model.config, loss_normalization=normalization)
        other = Model(config, vocabulary_size=VOCABULARY, sequence_length=4)
        state = {
            "params": params,
            "optimizer": make_optimizer(config).init(params),
            "step": np.int32(0),
        }
        _, metrics = jax.jit(make_train_step(other, 1))(state, batch)
        assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
        assert metrics["targets"].tolist() == [4]


def test_sums_are_those_of_each_data_set():
    values = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    datasets = jnp.array([2, 0, -1, 2])
    assert sums_by_dataset(values, datasets, 3).tolist() == [7, 0, 18]


def test_stochastic_depth_skips_a_tenth_and_keeps_the_mean():
    @jax.jit
    def draw(key):
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(np.arange(2000))
        return jax.vmap(lambda index: _depth_scale(keys, index, 0.1))(np.arange(16))

    scales = np.asarray(draw(jax.random.key(0)))
    assert np.mean(scales == 0) == pytest.approx(0.1, abs=0.01)
    assert (np.abs(np.mean(scales == 0, axis=1) - 0.1) < 0.03).all()
    assert set(np.unique(scales).tolist()) == {0.0, np.float32(1 / 0.9).item()}
    assert (scales[0] != scales[1]).any()
    assert (scales != np.asarray(draw(jax.random.key(1)))).any()


def test_dropout_zeroes_a_tenth_and_keeps_the_mean():
    keys = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(0), row))(
        np.arange(2)
    )
    ones = jnp.ones((2, 40, 50), jnp.bfloat16)
    dropped = [np.asarray(_drop(ones, keys, i, 0.1), np.float32) for i in (0, 1)]
    for one in dropped:
        assert np.mean(one == 0) == pytest.approx(0.1, abs=0.02)
        assert np.mean(one) == pytest.approx(1, abs=0.02)
        assert (one[0] != one[1]).any()
    assert (dropped[0] != dropped[1]).any()


def test_dropout_is_drawn_each_step_and_never_in_evaluation():
    batch = batch_of_8(0)
    plain, dropping = small_model(LENGTH), small_model(LENGTH, dropout=0.5)
    params = random_params(plain)
    hidden = jax.jit(dropping.hidden)
    np.testing.assert_array_equal(
        hidden(params, batch), jax.jit(plain.hidden)(params, batch)
    )
    first, again, other = (
        np.asarray(hidden(params, batch, jax.random.key(seed))) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.9


def observing_batch():
    """A prompted timestep with an image, one more, a caption, padding."""
    #        prompt            body           caption      padding
    kind = [1, 2, 3, 4, 5, 6, 1, 3, 4, 5, 7, 2, 1, 1, 1, 0]
    mask = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0]
    local = [0, 1, 2, 3, -1, -1, 0, 1, 2, -1, -1, -1, -1, -1, -1, -1]
    segment = [1] * 11 + [2] * 4 + [0]
    tokens = np.arange(16) * (np.array(kind) != 2)
    return make_batch(
        [tokens],
        kind=[kind],
        loss_mask=[mask],
        segment=[segment],
        local=[local],
        patches=np.zeros((2, 768), np.uint8),
    )


def test_observations_become_targets_but_for_images_and_documents():
    batch = observing_batch()
    added = add_observation_targets(batch)
    #           prompt            body           caption, as it was
    expected = [1, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1, 0, 1, 0, 1, 0]
    np.testing.assert_array_equal(added.loss_mask_BL, [expected])
    targets, counts = map(np.asarray, shift_targets(added))
    # Each stands one slot earlier; nothing predicts the first slot of a segment.
    assert counts[0].tolist() == [*map(bool, expected[1:]), False]
    assert targets[0, :-1].tolist() == batch.tokens_BL[0, 1:].tolist()
    for name in batch._fields:
        if name != "loss_mask_BL":
            assert getattr(added, name) is getattr(batch, name)


def test_a_world_model_is_trained_on_observations_and_validated_without():
    batch = observing_batch()
    model = small_model(16)
    params = random_params(model)
    found = {}
    for predict in (False, True):
        config = dataclasses.replace(model.config, predict_observations=predict)
        world = Model(config, vocabulary_size=VOCABULARY, sequence_length=16)
        state = {
            "params": params,
            "optimizer": make_optimizer(config).init(params),
            "step": np.int32(0),
        }
        _, metrics = jax.jit(make_train_step(world, 1))(state, batch)
        losses, counts = jax.jit(world.losses)(params, batch)
        assert int(counts.sum()) == 4
        found[predict] = metrics["targets"].tolist(), np.asarray(losses)
    assert found[False][0] == [4]
    assert found[True][0] == [9]
    np.testing.assert_array_equal(found[False][1], found[True][1])


def test_the_schedule():
    config = small_config()
    optimizer = dataclasses.replace(
        config.optimizer, peak_lr=1e-3, warmup_steps=None, decay_steps=None
    )
    config = dataclasses.replace(config, optimizer=optimizer, steps=500)
    rate = learning_rate(config)
    assert config.warmup_steps == 50
    found = [np.asarray(rate(step)).item() for step in (0, 25, 50, 275, 500, 900)]
    expected = [1e-7, 5e-4, 1e-3, 5.5e-4, 1e-4, 1e-4]
    np.testing.assert_allclose(found, expected, rtol=2e-3)


@pytest.mark.parametrize(
    ("name", "peak"), [("1.18b", 1e-4), ("364m", 2e-4), ("79m", 1e-4)]
)
def test_the_schedule_of_the_paper(name, peak):
    rate = learning_rate(PRESETS[name]())
    middle = (15_000 + 1_000_000) // 2
    steps = (0, 7_500, 15_000, middle, 1_000_000)
    found = [np.asarray(rate(step)).item() for step in steps]
    expected = [1e-7, (1e-7 + peak) / 2, peak, 0.55 * peak, 0.1 * peak]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_adamw_by_hand_decays_matrices_only():
    constant = OptimizerConfig(peak_lr=1e-2, final_fraction=1.0, warmup_steps=0)
    config = dataclasses.replace(small_config(), optimizer=constant)
    optimizer = make_optimizer(config)
    start = np.array([1.0, -2.0, 3.0])
    params: Any = {"down_FD": jnp.array(start), "final_norm_D": jnp.array(start)}
    state = optimizer.init(params)
    expected = {"down_FD": start, "final_norm_D": start}
    first, second = np.zeros(3), np.zeros(3)
    # The last gradient is of the size of eps.
    for t, gradient in enumerate(([1.0, -3.0, 1e-8], [2.0, 0.5, 3e-8]), start=1):
        given = np.array(gradient)
        gradients = dict.fromkeys(params, jnp.array(given))
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        first = 0.9 * first + 0.1 * given
        second = 0.95 * second + 0.05 * given**2
        change = (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.95**t)) + 1e-8)
        for name, decay in (("down_FD", 0.1), ("final_norm_D", 0.0)):
            old = expected[name]
            expected[name] = old - 1e-2 * (change + decay * old)
            np.testing.assert_allclose(params[name], expected[name], rtol=1e-5)


def test_meshes_are_parsed_and_checked():
    assert parse_mesh(None, 8) == {"data": 8, "fsdp": 1, "tensor": 1}
    assert parse_mesh("fsdp=4", 8) == {"data": 2, "fsdp": 4, "tensor": 1}
    for wrong in ("model=2", "data", "data=0", "data=-1", "data=two"):
        with pytest.raises(UsageError, match="--mesh: axes are data, fsdp, tensor"):
            parse_mesh(wrong, 8)
    config = dataclasses.replace(
        small_config(), data=DataConfig(batch_size=64), microbatches=2
    )
    for text, what in (
        ("data=3", r"batch_size must divide by data \* fsdp \* microbatches"),
        ("data=1,fsdp=32", "model.width must divide"),
        ("data=1,tensor=4", "model.heads must divide"),
    ):
        with pytest.raises(UsageError, match=what):
            check_mesh(parse_mesh(text, 8), config)
    with pytest.raises(UsageError, match="needs 64 devices, this machine has 8"):
        make_mesh(parse_mesh("data=64", 8))

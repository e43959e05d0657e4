"""Validation figures and the exchange of observations."""

import numpy as np
import pytest
import toy_shards
from small_models import make_batch, random_params, small_model

from gato.model.data import validation_batches
from gato.model.shards import find_datasets
from gato.model.validation import (
    after_prompts,
    hide_prompts,
    permute_observations,
    summary,
    unigram_entropy,
    validate,
)
from gato.schemas.record import Kind


@pytest.fixture(scope="module")
def batch(build):
    datasets = find_datasets([build])
    options = {"batch_size": 24, "groups": 2, "threads": 2}
    return next(validation_batches(datasets, rows=8, **options))[0]


def test_only_contents_of_observations_move(batch):
    permuted = permute_observations(batch)
    for name in batch._fields:
        if name not in ("tokens_BL", "patches_GPC"):
            assert getattr(permuted, name) is getattr(batch, name)
    changed = permuted.tokens_BL != batch.tokens_BL
    observed = np.isin(batch.kind_BL, (3, 4))
    assert not changed[~observed].any()
    assert changed[batch.kind_BL == Kind.CONTINUOUS_OBSERVATION].mean() > 0.9
    # Whole timesteps move: both tokens of an observation come from one place.
    was, now = (
        list(map(tuple, one.tokens_BL[observed].reshape(-1, 2).tolist()))
        for one in (batch, permuted)
    )
    assert sorted(was) == sorted(now)
    assert sum(a == b for a, b in zip(was, now, strict=True)) < 0.1 * len(was)
    again = permute_observations(batch)
    np.testing.assert_array_equal(again.tokens_BL, permuted.tokens_BL)


def test_patches_move_with_their_timestep():
    # Rows of `token, patch, separator, action`: the patch repeats the token.
    tokens = np.tile([[1, 0, 9, 9]], (6, 1))
    tokens[:, 0] = np.arange(6) + 1
    kinds, local = np.tile([[3, 2, 5, 6]], (6, 1)), np.tile([[0, 1, -1, -1]], (6, 1))
    patches = np.repeat(np.arange(6, dtype=np.uint8) + 1, 768).reshape(6, 768)
    batch = make_batch(tokens, kind=kinds, local=local, patches=patches)
    permuted = permute_observations(batch)
    assert (permuted.tokens_BL[:, 0] != tokens[:, 0]).all()
    np.testing.assert_array_equal(
        permuted.patches_GPC[0, :, 0], permuted.tokens_BL[:, 0]
    )


def test_timesteps_of_other_shapes_stay_apart():
    # Observations of 1 and of 2 slots, one of each: nothing to exchange with.
    batch = make_batch(
        [[1, 9, 5, 2, 3, 9, 6, 0]],
        kind=[[3, 5, 6, 3, 3, 5, 6, 0]],
        local=[[0, -1, -1, 0, 1, -1, -1, -1]],
    )
    np.testing.assert_array_equal(
        permute_observations(batch).tokens_BL, batch.tokens_BL
    )


def test_figures_are_means_over_the_targets_of_each_kind(batch):
    names = ["control", "pictures", "prose"]

    def evaluate(params, given):
        # A loss that tells slots apart, and the true batch from the permuted one.
        losses = (
            given.kind_BL * params["scale"] + (given.tokens_BL != batch.tokens_BL).any()
        )
        return losses.astype(np.float64), given.loss_mask_BL == 1

    none = np.zeros(batch.kind_BL.shape, bool)
    pair = [(batch, none)] * 2
    figures = validate(evaluate, {"scale": 2.0}, pair, names, toy_shards.SIZE)
    assert figures["action_loss"] == pytest.approx(12.0)
    assert figures["action_loss_permuted"] == pytest.approx(13.0)
    assert figures["action_targets"] == 2 * 8 * 14
    assert figures["text_loss"] == pytest.approx(2.0)
    actions = batch.tokens_BL[batch.kind_BL == Kind.DISCRETE_ACTION]
    shares = np.bincount(actions) / len(actions)
    shares = shares[shares > 0]
    assert figures["action_unigram_entropy"] == pytest.approx(
        -(shares * np.log(shares)).sum()
    )
    assert set(figures["datasets"]) == set(names)
    assert figures["datasets"]["prose"]["action_loss"] is None
    assert figures["datasets"]["pictures"]["text_targets"] == 2 * 8 * 4
    lines = summary(figures)
    assert [line.split(" loss")[0] for line in lines[:2]] == [
        "validation action",
        "validation text",
    ]
    assert {line.strip().split(":")[0] for line in lines[2:]} == set(names)


# A prompt of three slots and a window of four; then a window without a prompt.
_SEGMENTS = np.array([[1] * 7 + [2] * 4 + [0]])
_IN_PROMPTS = np.array([[True] * 3 + [False] * 9])


def test_a_hidden_prompt_leaves_its_window_alone_in_its_segment():
    batch = make_batch(np.arange(12)[None], segment=_SEGMENTS)
    hidden = hide_prompts(batch, _IN_PROMPTS)
    np.testing.assert_array_equal(
        hidden.segment_BL, [[0] * 3 + [1] * 4 + [2] * 4 + [0]]
    )
    np.testing.assert_array_equal(hidden.loss_mask_BL, [[0] * 3 + [1] * 9])
    for name in set(batch._fields) - {"segment_BL", "loss_mask_BL"}:
        assert getattr(hidden, name) is getattr(batch, name)
    np.testing.assert_array_equal(
        np.flatnonzero(after_prompts(batch, _IN_PROMPTS)), [3, 4, 5, 6]
    )
    none = np.zeros_like(_IN_PROMPTS)
    assert not after_prompts(batch, none).any()


@pytest.mark.parametrize("positions", ["xl", "rope", "learned"])
def test_without_its_prompt_a_window_costs_what_it_costs_alone(positions):
    model = small_model(12, positions=positions)
    params = random_params(model)
    tokens = np.random.default_rng(0).integers(1, 200, (1, 12))
    whole = make_batch(tokens, segment=_SEGMENTS)
    alone = make_batch(
        np.roll(tokens, -3), segment=np.array([[1] * 4 + [2] * 4 + [0] * 4])
    )
    shown, hidden, expected = (
        np.asarray(model.losses(params, batch)[0])
        for batch in (whole, hide_prompts(whole, _IN_PROMPTS), alone)
    )
    # Predictions of the window's slots but its first, which nothing predicts.
    np.testing.assert_allclose(hidden[0, 3:6], expected[0, :3], rtol=1e-5)
    assert np.abs(shown[0, 3:6] - hidden[0, 3:6]).min() > 1e-3
    np.testing.assert_array_equal(shown[0, 7:10], hidden[0, 7:10])


def test_what_prompts_are_worth_is_measured_on_the_same_actions():
    kinds = np.array([[3, 5, 6, 3, 5, 6, 6, 3, 5, 6, 6, 0]])
    batch = make_batch(np.arange(12)[None], segment=_SEGMENTS, kind=kinds)

    def evaluate(params, given):
        # Slots of a row whose prompt is hidden cost ten more.
        losses = np.arange(12.0)[None] + 10 * (given.segment_BL[0, 0] == 0)
        return losses, given.loss_mask_BL == 1

    figures = validate(evaluate, {}, [(batch, _IN_PROMPTS)], ["some"], 200)
    # Actions of the first window are in slots 5 and 6.
    assert figures["prompted_targets"] == 2
    assert figures["prompted_loss"] == 5.5
    assert figures["prompted_loss_hidden"] == 15.5
    assert figures["action_targets"] == 5
    lines = summary(figures)
    assert "after prompts 5.5000 nats; the same without them 15.5000" in lines[1]
    none = np.zeros_like(_IN_PROMPTS)
    unprompted = validate(evaluate, {}, [(batch, none)], ["some"], 200)
    assert unprompted["prompted_loss"] is None
    assert len(summary(unprompted)) == 1


def test_nothing_to_validate_is_said():
    figures = validate(lambda *_: pytest.fail("called"), {}, [], ["some"], 10)
    assert figures["action_loss"] is None
    assert summary(figures) == ["the validation shards hold no targets"]


def test_entropy_of_equal_and_of_single_ids():
    assert unigram_entropy(np.array([5, 0, 5, 5, 5])) == pytest.approx(np.log(4))
    assert unigram_entropy(np.array([0, 7])) == 0

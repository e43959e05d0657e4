"""Baselines: what they learn from, that they learn, and that they are scored alike."""

import json

import numpy as np
import pytest
from suites import BABYAI, BUILD, SUPPORT, TASK, write_suite

from gato.model.baselines.__main__ import main
from gato.model.baselines.actors import CloningActor, RandomActor
from gato.model.baselines.cloning import CloningConfig, clone
from gato.model.baselines.features import FeatureEncoder
from gato.model.baselines.timesteps import (
    Demonstrations,
    read_demonstrations,
)
from gato.model.control import ControlDataset
from gato.model.prefix import Prefix
from gato.model.shards import find_datasets
from gato.schemas.record import Kind, decode_row
from gato.schemas.tfrecord import iterate_records
from gato.tokenizers.vocabulary import Vocabulary

SHARDS = str(BABYAI / "train-*.tfrecord")
BINS = np.array([[32_000, 33_024]], np.int32)
VOCABULARY = Vocabulary(text=32_000, eos=2, sentencepiece_sha256="")


@pytest.fixture(autouse=True)
def _toys_are_found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))


def read(name, task):
    datasets = find_datasets([str(BUILD / name / "train-*.tfrecord")])
    return read_demonstrations(datasets, [(name, task)])[name, task]


def seen(tokens, kinds, pixels=()):
    patches = np.array(pixels, np.uint8).reshape(-1, 768)
    return Prefix(
        tokens=np.array(tokens, np.int32),
        kind=np.array(kinds, np.uint8),
        local_position=np.arange(len(tokens), dtype=np.int16),
        patches=patches,
        patch_grid=np.zeros((len(patches), 4), np.int32),
    )


@pytest.mark.parametrize(
    ("name", "task", "actions"),
    [("babyai", TASK, 1), ("metaworld", "metaworld/reach-v3", 4)],
)
def test_each_successful_timestep_is_read_once_with_its_actions(name, task, actions):
    found = read(name, task)
    expected, episodes = [], set()
    manifest = ControlDataset(str(BUILD / name)).manifest
    for path in sorted((BUILD / name).glob("train-*.tfrecord")):
        for _, data in iterate_records(path.read_bytes(), str(path)):
            row = decode_row(
                data, sequence_length=512, dtype=manifest.token_dtype, place=""
            )
            for number, about in enumerate(row.provenance, start=1):
                if about["task"] != task or about["success"] is False:
                    continue
                episodes.add(about["episode"])
                body = row.tokens[(row.segment == number) & (row.kind < 8)].tolist()
                for _ in range(about["num_steps"]):
                    end = body.index(33_024) + 1 + actions
                    expected.append(body[:end])
                    body = body[end:]
                assert body == []
    assert expected
    assert sorted(expected) == sorted(
        [*observed.tokens.tolist(), 33_024, *acted.tolist()]
        for observed, acted in zip(found.observations, found.actions, strict=True)
    )
    assert set(found.episode) == episodes
    assert found.episodes == len(episodes)


def test_features_are_one_hot_by_place_and_standardised():
    text, discrete, bins = (
        Kind.TEXT,
        Kind.DISCRETE_OBSERVATION,
        Kind.CONTINUOUS_OBSERVATION,
    )
    kinds = [discrete, discrete, text, bins]
    one = seen([4, 5, 900, 32_000], kinds)
    two = seen([5, 5, 901, 33_023], kinds)
    encoder = FeatureEncoder([one, two], VOCABULARY)
    assert encoder.num_hot == 5
    features = encoder.encode([one, two])
    assert features.hot.shape == (2, 3)
    # The second discrete value is the same, and 5 in the first place is another entry.
    assert len(np.intersect1d(*features.hot)) == 1
    np.testing.assert_allclose(features.numbers, [[-1], [1]], atol=1e-5)
    longer = seen([7, 5, 900, 901, 901, 32_000], [*kinds[:3], text, text, bins])
    unknown = encoder.encode([longer]).hot[0].tolist()
    assert unknown.count(encoder.num_hot) == 1
    picture = [[Kind.IMAGE], [np.arange(768) % 256]]
    images = [seen([0], *picture), seen([0], [Kind.IMAGE], [np.zeros(768)])]
    assert FeatureEncoder(images, VOCABULARY).encode(images).numbers.shape == (2, 16)


@pytest.mark.parametrize("task", [TASK, "BabyAI-PickupLoc-v0"])
def test_cloning_learns_what_the_expert_did(task):
    demonstrations = read("babyai", task)
    ranges = ControlDataset(str(BABYAI)).task(task).ranges
    cloned = clone(demonstrations, ranges, VOCABULARY, CloningConfig(steps=100))
    assert min(cloned.losses) < 0.85 * cloned.losses[0]
    assert cloned.timesteps == len(demonstrations.actions)
    actor = CloningActor(cloned, rows=3)
    right = 0
    for observed, acted in zip(
        demonstrations.observations, demonstrations.actions, strict=True
    ):
        tokens = actor.act({2: (observed, ranges)})
        assert list(tokens) == [2]
        right += int((tokens[2] == acted).all())
    assert right > 0.7 * len(demonstrations.actions)


def test_cloning_of_numbers_lands_near_what_was_done():
    generator = np.random.default_rng(0)
    kinds = [Kind.CONTINUOUS_OBSERVATION] * 2
    bins = generator.integers(200, 800, (400, 2))
    many = Demonstrations()
    for number, values in enumerate(bins):
        many.observations.append(seen(32_000 + values, kinds))
        many.actions.append(32_000 + values[:1].astype(np.int32))
        many.episode.append(str(number // 10))
    cloned = clone(many, BINS, VOCABULARY, CloningConfig(steps=500))
    assert cloned.losses[0] > 6
    actor = CloningActor(cloned, rows=1)
    errors = [
        abs(int(actor.act({0: (one, BINS)})[0][0]) - int(acted[0]))
        for one, acted in zip(many.observations[:50], many.actions, strict=False)
    ]
    # A constant would be 150 off.
    assert np.mean(errors) < 30


def test_random_actions_are_even_over_their_ranges():
    ranges = np.array([[0, 3], [32_000, 33_024]], np.int32)
    actor = RandomActor(rows=1, seed=0)
    actions = np.array(
        [actor.act({0: (seen([1], [3]), ranges)})[0] for _ in range(3000)]
    )
    assert (actions >= ranges[:, 0]).all()
    assert (actions < ranges[:, 1]).all()
    np.testing.assert_allclose(np.bincount(actions[:, 0]), 1000, atol=120)
    assert abs(actions[:, 1].mean() - 32_511.5) < 25


def test_the_command_scores_both_on_one_suites_seeds(tmp_path, capsys):
    suite = write_suite(tmp_path / "grids.yaml", {})
    command = ["--shards", SHARDS, "--suite", suite, "--output", str(tmp_path / "out")]
    options = ["--episodes", "2", "--batch", "2", "--steps", "50"]
    assert main([*command, *options]) == 0
    results = {
        name: json.loads((tmp_path / f"out/{name}-grids.json").read_text())
        for name in ("random", "bc_imp")
    }
    shown = capsys.readouterr().out
    for name, found in results.items():
        assert name in shown
        assert found["policy"] == name
        (task,) = found["tasks"]
        assert [one["seed"] for one in task["episodes"]] == [2**30, 2**30 + 1]
        assert [one["steps"] for one in task["episodes"]] == [4, 4]
        assert task["held_out"] is False
    learnt = results["bc_imp"]["learnt"][TASK]
    assert learnt["losses"][-1] < learnt["losses"][0]
    assert main([*command, "--steps", "0"]) == 2
    assert "--steps is at least 1" in capsys.readouterr().err


def test_a_task_without_timesteps_to_learn_from_is_named(tmp_path, capsys):
    suite = write_suite(tmp_path / "grids.yaml", {})
    shards = str(BUILD / "metaworld/train-*.tfrecord")
    command = ["--shards", shards, "--suite", suite, "--output", str(tmp_path / "out")]
    assert main([*command, "--policies", "bc_imp"]) == 2
    assert f"{TASK}: no successful episode" in capsys.readouterr().err

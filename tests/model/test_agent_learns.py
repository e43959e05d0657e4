"""Recorded, built, trained, played: what the loop is for, on a task of signs."""

import json
import pathlib

import numpy as np
import pytest
import raw_inputs
import yaml
from building import run_build
from toy_environments import Match, answer_to

from gato.model import evaluate, train

SUPPORT = pathlib.Path(__file__).parents[1] / "support"
RECORDED_STEPS, PLAYED_STEPS = 8, 40
SIZES = ("width=32", "blocks=2", "heads=2", "head_size=16", "feed_forward=64")


def signs(num_episodes, steps):
    """Episodes of the expert; signs and answers as the environment has them."""
    generator = np.random.default_rng(0)
    episodes = []
    for _ in range(num_episodes):
        shown = generator.integers(0, 7, steps + 1)
        episodes.append(
            raw_inputs.RawEpisode(
                observations={"sign": shown},
                actions=answer_to(shown[:-1]),
                rewards=np.ones(steps),
            )
        )
    return raw_inputs.RawDataset(
        observation_space=Match.observation_space,
        action_space=Match.action_space,
        episodes=episodes,
    )


@pytest.mark.long
@pytest.mark.parametrize("positions", ["xl", "rope"])
def test_a_trained_policy_does_in_the_environment_what_the_expert_did(
    tmp_path, monkeypatch, positions
):
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    raw = signs(64, RECORDED_STEPS)
    raw_inputs.write_minari(tmp_path / "raw", "toy/match/expert-v0", raw)
    entry = {"name": "match", "format": "minari", "paths": ["raw/toy/match/*"]}
    config = raw_inputs.write_config(
        tmp_path / "build.yaml",
        [entry],
        sequence_length=48,
        validation_fraction=0.0,
        prompts={"max_tokens": 12},
    )
    assert run_build(config, tmp_path / "out") == 0
    folder = tmp_path / "run"
    options = [f"--set=model.{one}" for one in (*SIZES, f"positions={positions}")]
    command = [
        *("--shards", str(tmp_path / "out/match/train-*"), "--model", "tiny"),
        *("--steps", "150", "--batch_size", "8", "--checkpoint_dir", str(folder)),
        *("--set=optimizer.peak_lr=1e-2", "--mesh=data=1", *options),
    ]
    assert train.main(command) == 0
    task = {
        "task": "toy/match",
        "environment": "toy_environments:Match-v0",
        "options": {"steps": PLAYED_STEPS},
        "random_return": PLAYED_STEPS / 7,
        "expert_return": PLAYED_STEPS,
    }
    domain = {"data": str(tmp_path / "out/match"), "tasks": [task]}
    suite = tmp_path / "suite.yaml"
    suite.write_text(yaml.safe_dump({"domains": {"toys": domain}}))
    command = ["--checkpoint", str(folder), "--suite", str(suite), "--episodes", "5"]
    assert evaluate.main(command) == 0
    found = json.loads((folder / "evaluation" / "suite-150.json").read_text())
    # The observation decides the answer, so a policy that reads as in training is right
    # nearly every time, also when 24 slots of prompt and 120 of steps pass the 48 that
    # are in reach.
    assert found["overall"]["mean"] > 95

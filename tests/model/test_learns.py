"""Longer runs: the model reads its observations, and not only counts actions."""

import json
import pathlib

import pytest
import toy_shards
import yaml

from gato.model import train
from gato.pipelines import build, record

VOCABULARY = pathlib.Path(__file__).parents[1] / "testdata/vocabulary/text32k.model"


def _metrics(run: pathlib.Path) -> list[dict]:
    text = (run / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.long
def test_actions_are_predicted_from_observations(tmp_path):
    shards = toy_shards.write_build(str(tmp_path), rows=400, validation=32)
    code = train.main(
        [
            f"--shards={shards}",
            f"--checkpoint_dir={tmp_path / 'run'}",
            "--model=tiny",
            "--steps=400",
            "--batch_size=8",
            "--set=validation.every=100",
        ]
    )
    assert code == 0
    found = _metrics(tmp_path / "run")
    last = found[-1]["validation"]
    assert last["action_loss"] < 0.5 * last["action_unigram_entropy"]
    assert last["action_loss"] < 0.5 * last["action_loss_permuted"]
    # Captions follow the pictures: half of their targets are the picture's level.
    assert last["datasets"]["pictures"]["text_loss"] < 0.9
    assert found[-1]["loss"] < 0.5 * found[0]["loss"]


@pytest.mark.long
def test_actions_of_real_episodes_are_predicted_from_observations(tmp_path):
    """BabyAI's bot, recorded and built as a user would: what it sees decides."""
    levels = "BabyAI-GoToRedBallGrey-v0,BabyAI-GoToObj-v0"
    recording = ["babyai", f"--output={tmp_path / 'raw'}", f"--levels={levels}"]
    assert record.main([*recording, "--episodes=700", "--policies=expert"]) == 0
    config = {
        "sequence_length": 512,
        "text_tokenizer": str(VOCABULARY),
        "validation_fraction": 0.1,
        "prompts": {"max_tokens": 256},
        "loss": {"text_observations": False},
        "datasets": [
            {
                "name": "babyai",
                "format": "minari",
                "paths": [f"{tmp_path / 'raw'}/babyai/*/*-v0"],
            }
        ],
    }
    (tmp_path / "build.yaml").write_text(yaml.safe_dump(config))
    output = tmp_path / "shards"
    assert (
        build.main([f"--config={tmp_path / 'build.yaml'}", f"--output={output}"]) == 0
    )
    arguments = [f"--shards={output}/babyai/train-*.tfrecord", "--model=tiny"]
    arguments += [f"--checkpoint_dir={tmp_path / 'run'}", "--steps=300"]
    arguments += ["--batch_size=8", "--set=optimizer.peak_lr=2e-3"]
    arguments += ["--set=validation.every=300", "--set=validation.rows=256"]
    assert train.main(arguments) == 0
    last = _metrics(tmp_path / "run")[-1]["validation"]
    assert last["action_loss"] < 0.95 * last["action_unigram_entropy"]
    assert last["action_loss"] < 0.9 * last["action_loss_permuted"]

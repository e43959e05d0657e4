"""A longer run: the model reads its observations, and not only counts actions."""

import json
import pathlib

import pytest
import toy_shards

from gato.model import train


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
    text = pathlib.Path(tmp_path, "run", "metrics.jsonl").read_text()
    found = [json.loads(line) for line in text.splitlines()]
    last = found[-1]["validation"]
    assert last["action_loss"] < 0.5 * last["action_unigram_entropy"]
    assert last["action_loss"] < 0.5 * last["action_loss_permuted"]
    # Captions follow the pictures: half of their targets are the picture's level.
    assert last["datasets"]["pictures"]["text_loss"] < 0.9
    assert found[-1]["loss"] < 0.5 * found[0]["loss"]

"""gato-train end to end: resume, what it writes, and what it says of bad input."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal

import jax
import numpy as np
import pytest
import toy_shards
from small_models import small_config

from gato.model import checkpoint, data, train
from gato.model.weights import load_weights
from gato.schemas.errors import GatoError

SMALL = [
    "--model=tiny",
    "--batch_size=4",
    *(
        f"--set=model.{key}"
        for key in ("width=16", "blocks=1", "heads=2", "head_size=8", "feed_forward=32")
    ),
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Control rows only: one size of pool, so one program to compile."""
    folder = tmp_path_factory.mktemp("control")
    generator = np.random.default_rng(0)
    rows = [toy_shards.control_row(generator) for _ in range(20)]
    toy_shards.write_dataset(str(folder), "control", rows[:16], rows[16:])
    return folder / "control"


def run(shards, folder, *more):
    return train.main(
        [
            f"--shards={shards}/train-*.tfrecord",
            f"--checkpoint_dir={folder}",
            "--mesh=data=1",
            *SMALL,
            *more,
        ]
    )


def lines(folder):
    text = pathlib.Path(folder, "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    """A run of six steps that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    more = ("--steps=6", "--set=checkpoint.every=2", "--set=validation.every=3")
    assert run(shards, folder, *more) == 0
    return folder


@pytest.mark.slow
def test_a_run_writes_one_line_a_step(whole):
    found = lines(whole)
    assert [line["step"] for line in found] == list(range(6))
    assert found[0]["loss"] == pytest.approx(np.log(33_025), rel=0.05)
    for line in found:
        assert line["targets"] == 4 * 14
        assert line["losses"]["control"] == pytest.approx(line["loss"], rel=1e-6)
        assert line["target_shares"] == {"control": 1.0}
        assert line["tokens_per_second"] > 0
        assert line["data_wait"] >= 0
    validated = [line["step"] for line in found if "validation" in line]
    assert validated == [2, 5]
    figures = found[-1]["validation"]
    assert figures["action_targets"] == 4 * 14
    assert 0 < figures["action_unigram_entropy"] <= np.log(8)
    assert sorted(os.listdir(whole / "checkpoints")) == ["4", "6"]


@pytest.mark.slow
def test_an_interrupted_run_goes_on_bit_for_bit(shards, whole, tmp_path, monkeypatch):
    more = ("--steps=6", "--set=checkpoint.every=2", "--set=validation.every=3")
    taken = []
    take = data.Prefetcher.take

    def failing(self):
        taken.append(1)
        if len(taken) == 6:
            raise KeyboardInterrupt  # Nothing is saved on the way out.
        return take(self)

    with monkeypatch.context() as patch:
        patch.setattr(data.Prefetcher, "take", failing)
        assert run(shards, tmp_path, *more) == 130
    assert [line["step"] for line in lines(tmp_path)] == [0, 1, 2, 3]
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "lo')
    # Before it goes on, the same command with another seed is refused.
    assert run(shards, tmp_path, *more, "--set=seed=1") == 1
    assert run(shards, tmp_path, *more) == 0
    found = lines(tmp_path)
    assert [line["step"] for line in found] == [0, 1, 2, 3, 4, 5]
    for one, other in zip(found, lines(whole), strict=True):
        for key in ("loss", "gradient_norm", "validation"):
            assert one.get(key) == other.get(key)
    # A complete run has nothing left to do.
    assert run(shards, tmp_path, *more) == 0
    assert len(lines(tmp_path)) == 6


@pytest.mark.slow
def test_sigterm_saves_and_a_corrupt_record_keeps_what_was_trained(
    shards, tmp_path, monkeypatch, capsys
):
    more = ("--steps=6", "--set=checkpoint.every=100")
    take = data.Prefetcher.take
    taken = []

    def interrupted(self):
        taken.append(1)
        if len(taken) == 3:
            signal.raise_signal(signal.SIGTERM)
        return take(self)

    with monkeypatch.context() as patch:
        patch.setattr(data.Prefetcher, "take", interrupted)
        assert run(shards, tmp_path / "run", *more) == 0
    assert [line["step"] for line in lines(tmp_path / "run")] == [0, 1, 2]
    assert os.listdir(tmp_path / "run" / "checkpoints") == ["3"]

    def damaged(self):
        taken.append(1)
        if len(taken) == 6:
            raise GatoError("shard at byte 0: corrupt")
        return take(self)

    with monkeypatch.context() as patch:
        patch.setattr(data.Prefetcher, "take", damaged)
        assert run(shards, tmp_path / "run", *more) == 1
    assert "gato-train: shard at byte 0: corrupt" in capsys.readouterr().err
    assert [line["step"] for line in lines(tmp_path / "run")] == [0, 1, 2, 3, 4]
    assert "5" in os.listdir(tmp_path / "run" / "checkpoints")


@pytest.mark.slow
def test_a_flipped_byte_in_a_shard_ends_training_with_file_and_offset(
    shards, tmp_path, capsys
):
    copy = tmp_path / "control"
    shutil.copytree(shards, copy)
    path = copy / "train-00001-of-00002.tfrecord"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert run(copy, tmp_path / "run", "--steps=20") == 1
    said = capsys.readouterr().err
    assert f"{path} at byte " in said
    assert "checksum" in said
    assert "Traceback" not in said


def test_describe_prints_json_and_needs_no_shards(capsys):
    arguments = ["--describe", "--model", "1.18b", "--mesh", "data=32,fsdp=16"]
    assert train.main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert 1.05e9 < found["parameters"] < 1.2e9
    assert found["mesh"] == {"data": 32, "fsdp": 16, "tensor": 1}
    assert found["vocabulary_size"] == 33_025
    # 6 * (24 * (4 * 2048^2 + 1.5 * 2048 * 8192) + 33152 * 2048) + 9 * 24 * 2048 * 1024
    assert found["flops_per_token"] == pytest.approx(6.900e9, rel=1e-3)
    held = found["memory"]["parameter_bytes_per_device"]
    assert held == pytest.approx(4 * found["parameters"] / 16, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--shards", "nowhere/*.tfrecord", "--checkpoint_dir", "x"], 2, "no TFRecord"),
        (["--set", "checkpoint.evry=1"], 2, "did you mean 'every'"),
        (["--set", "steps"], 2, "--set takes KEY=VALUE, got 'steps'"),
        (["--steps", "0"], 2, "steps is at least 1, got 0"),
        (["--mesh", "model=2"], 2, "--mesh: axes are data, fsdp, tensor"),
        (["--mesh", "data=1"], 2, "training needs --shards and --checkpoint_dir"),
        (["--weights", "a"], 2, "--weights: each part is"),
    ],
)
def test_wrong_usage_is_said_in_a_line(arguments, code, said, capsys):
    assert train.main(arguments) == code
    found = capsys.readouterr().err
    assert found.startswith("gato-train: ")
    assert said in found


def test_a_run_begins_with_the_weights_of_another(shards, whole, tmp_path, capsys):
    def weights(folder):
        return jax.tree.map(np.asarray, load_weights(str(folder)).params)

    # A learning rate of nothing leaves them as they were.
    still = ("--steps=1", "--set=optimizer.peak_lr=1e-30", "--init_from")
    assert run(shards, tmp_path / "a", *still, str(whole)) == 0
    assert "begun with the weights of" in " ".join(capsys.readouterr().err.split())
    jax.tree.map(np.testing.assert_array_equal, weights(tmp_path / "a"), weights(whole))
    # Its own checkpoint is what a run goes on with, by the same command alone.
    assert run(shards, tmp_path / "a", *still, str(whole)) == 0
    assert run(shards, tmp_path / "a", "--steps=1", *still[1:2]) == 1
    assert "init_from was" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("other", "more", "said"),
    [
        ("nowhere", (), "no checkpoints. --init_from is the folder"),
        ("", ("--set=model.blocks=2",), "its weights are of another model"),
        ("", ("--set=model.positions=learned",), "positions is"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    other, more, said, shards, whole, tmp_path, capsys
):
    given = str(whole / other)
    assert run(shards, tmp_path, "--steps=1", "--init_from", given, *more) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_unknown_presets_are_refused_by_name(capsys):
    with pytest.raises(SystemExit) as caught:
        train.main(["--model", "2b"])
    assert caught.value.code == 2
    assert "choose from" in capsys.readouterr().err


def test_a_checkpoint_of_another_run_is_refused_with_what_differs():
    refuse = checkpoint.Checkpoints.__dict__["_check"]
    run_of = {"config": {"seed": 0, "steps": 5}, "datasets": {"a": {"weight": 1.0}}}
    holder = type("Holder", (), {"_run": run_of, "_folder": "runs/x"})()
    refuse(holder, {"run": {**run_of, "config": {"seed": 0, "steps": 9}}})
    other = {"config": {"seed": 1, "steps": 5}, "datasets": {"b": {"weight": 1.0}}}
    with pytest.raises(GatoError, match=r"config\.seed was 1 and is 0; datasets\.a"):
        refuse(holder, {"run": other})


def test_a_run_of_an_earlier_release_goes_on_where_new_keys_change_nothing():
    refuse = checkpoint.Checkpoints.__dict__["_check"]
    now = dataclasses.asdict(small_config())
    holder = type("Holder", (), {"_run": {"config": now}, "_folder": "runs/x"})()
    then = {**now, "model": {**now["model"]}}
    del then["predict_observations"], then["model"]["dropout"]
    refuse(holder, {"run": {"config": then}})
    now["model"]["dropout"] = 0.1
    with pytest.raises(GatoError, match=r"config\.model\.dropout was 0\.0 and is 0\.1"):
        refuse(holder, {"run": {"config": then}})


@pytest.mark.slow
def test_a_number_that_is_none_stops_the_run(shards, tmp_path, capsys):
    code = run(shards, tmp_path, "--steps=6", "--set=optimizer.peak_lr=1e38")
    assert code == 1
    assert "has loss" in capsys.readouterr().err
    assert not os.path.exists(tmp_path / "checkpoints" / "6")
    assert jax.config.values["jax_debug_nans"] is False

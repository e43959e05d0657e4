"""What a run survives, refuses and says: other data, full disks, vanished shards."""

import errno
import json
import os
import re
import resource
import shutil

import orbax.checkpoint as ocp
import pytest
import toy_shards
import training

from gato.model import data, metrics, train

STEPS = 8


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Text in eight shards, of which two batches of two rows touch four."""
    return training.write_shards(tmp_path_factory.mktemp("shards"), num_shards=8)


def options(shards, folder, *more):
    return [
        f"--shards={shards}/train-*.tfrecord",
        f"--checkpoint_dir={folder}",
        *("--batch_size=2", f"--steps={STEPS}", "--mesh=data=1"),
        "--set=checkpoint.every=3",
        *training.SMALL,
        *more,
    ]


def run(shards, folder, *more):
    return train.main(options(shards, folder, *more))


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    """A run that nothing disturbed; checkpoints of 6 and 8 steps."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(shards, folder) == 0
    return folder


@pytest.fixture
def half(whole, tmp_path):
    """A run of which six steps are done."""
    folder = tmp_path / "half"
    shutil.copytree(whole / "checkpoints" / "6", folder / "checkpoints" / "6")
    return folder


def change_manifest(shards, tmp_path, change):
    """Returns a copy of the data set whose manifest says something else."""
    copy = tmp_path / "prose"
    shutil.copytree(shards, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    change(manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def other_tokenizer(manifest):
    manifest["vocabulary"]["sentencepiece_sha256"] = "cd" * 32


def other_length(manifest):
    manifest["sequence_length"] = 128


def other_schema(manifest):
    manifest["schema_version"] = 2


def other_build(manifest):
    manifest["fingerprint"] = "rebuilt"


def other_name(manifest):
    manifest["dataset"] = "poems"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_tokenizer, rf"sentencepiece_sha256 was '{toy_shards.SHA}' and is 'cdcd"),
        (other_length, r"sequence_length was 64 and is 128"),
        (other_schema, r"manifest\.json.*schema.*2"),
        (other_build, r"datasets\.prose\.fingerprint was '\w+' and is '\w+'"),
        (other_name, r"datasets\.poems\.fingerprint was None and is '\w+'"),
    ],
)
def test_other_data_is_refused_with_what_differs(
    shards, half, tmp_path, capsys, change, said
):
    other = change_manifest(shards, tmp_path, change)
    assert run(other, half) == 1
    found = capsys.readouterr().err
    assert re.search(rf"gato-train: .*{said}", found)
    assert "Traceback" not in found
    assert training.lines(half) == []
    assert training.saved(half) == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--set=model.blocks=2", "config.model.blocks was 1 and is 2"),
        ("--set=data.seed=3", "config.data.seed was 0 and is 3"),
        ("--batch_size=4", "config.data.batch_size was 2 and is 4"),
        ("--steps=99", "schedule.decay_steps was 8 and is 99"),
    ],
)
def test_another_command_is_refused_with_what_differs(
    shards, half, capsys, given, said
):
    assert run(shards, half, given) == 1
    assert said in capsys.readouterr().err
    assert training.saved(half) == 6


@pytest.mark.slow
def test_a_run_goes_on_with_another_mesh(shards, whole, half):
    assert run(shards, half, "--mesh=data=1,fsdp=2,tensor=2") == 0
    found, expected = training.curve(half), training.curve(whole)
    assert sorted(found) == [6, 7]
    for step, line in found.items():
        assert line["loss"] == pytest.approx(expected[step]["loss"], rel=1e-6)


@pytest.mark.slow
def test_a_vanished_shard_is_named_and_costs_no_step(
    shards, whole, tmp_path, monkeypatch, capsys
):
    copy = tmp_path / "prose"
    shutil.copytree(shards, copy)
    take = data.Prefetcher.take

    def vanishing(self):
        for path in copy.glob("train-*"):
            path.unlink(missing_ok=True)
        return take(self)

    with monkeypatch.context() as patch:
        patch.setattr(data.Prefetcher, "take", vanishing)
        # With glob and manifest read, the files go before all of them are opened.
        assert run(copy, tmp_path / "run") == 1
    said = capsys.readouterr().err
    assert re.search(
        r"gato-train: .*/train-0000\d-of-00008\.tfrecord.* not there", said
    )
    assert "Traceback" not in said
    done = training.saved(tmp_path / "run")
    assert 0 < done < STEPS
    assert sorted(training.curve(tmp_path / "run")) == list(range(done))
    shutil.copytree(shards, copy, dirs_exist_ok=True)
    assert run(copy, tmp_path / "run") == 0
    assert training.curve(tmp_path / "run") == training.curve(whole)
    assert len(training.lines(tmp_path / "run")) == STEPS


@pytest.mark.slow
def test_a_full_disk_at_a_checkpoint_is_said_and_the_former_one_stays(
    shards, whole, half, monkeypatch, capsys
):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "checkpoints/8")

    def failing(*_arguments, **_keywords):
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "save", failing)
        assert run(shards, half) == 1
    said = capsys.readouterr().err
    assert (
        "a checkpoint could not be written: OSError: [Errno 28] No space left" in said
    )
    assert "The newest whole one is of 6 steps" in said
    assert training.saved(half) == 6
    assert run(shards, half) == 0
    expected = training.curve(whole)
    assert training.curve(half) == {step: expected[step] for step in (6, 7)}


@pytest.mark.slow
def test_a_disk_that_takes_no_more_while_training(shards, tmp_path, training_cache):
    """The kernel refuses the bytes of the second checkpoint, under Orbax's threads."""
    given = training.environment(training_cache, devices=1)
    folder = tmp_path / "run"
    more = ("--steps=3000", "--set=checkpoint.every=50", "--set=checkpoint.keep=99")
    started = training.Training(options(shards, folder, *more), tmp_path / "log", given)
    started.wait_until(lambda: training.saved(folder) > 0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # metrics.jsonl may grow; no array of the model fits.
    size = (folder / "metrics.jsonl").stat().st_size
    process = started.process.pid
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size + 40_000, limits[1]))
    assert started.finish() == 1, started.printed
    assert "Traceback" not in started.printed, started.printed
    said = re.search(r"The newest whole one is of (\d+) steps", started.printed)
    assert said, started.printed
    assert training.saved(folder) == int(said[1])
    assert "gato-train: " in started.printed


@pytest.mark.slow
def test_a_full_disk_at_the_metrics_is_said(shards, half, monkeypatch, capsys):
    def failing(_self, _line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.jsonl")

    with monkeypatch.context() as patch:
        patch.setattr(metrics.MetricsFile, "write", failing)
        assert run(shards, half) == 1
    said = capsys.readouterr().err
    assert "No space left on device: 'metrics.jsonl'" in said
    assert "Traceback" not in said
    assert training.saved(half) == 6

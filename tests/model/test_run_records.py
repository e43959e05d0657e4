"""What a run leaves to look at: event files, learning rate, MFU, traces of steps."""

import json
import types
from typing import Any

import numpy as np
import pytest
import training
from tensorboardX.proto import event_pb2

from gato.model import config, metrics, train
from gato.model.configs import PRESETS
from gato.model.describe import Work, flops_per_patch, peak_flops
from gato.model.events import FOLDER_NAME, EventFiles
from gato.model.options import parse_profile
from gato.schemas.errors import UsageError
from gato.schemas.tfrecord import iterate_records

EVENTS: Any = event_pb2


def points(folder):
    """Returns {tag: {step: value}} by TensorBoard's rule.

    Files are read in the order of their names; the start of a session hides what was
    written before it of its step and later ones.
    """
    curves = {}
    for path in sorted((folder / FOLDER_NAME).iterdir()):
        records = iterate_records(path.read_bytes(), str(path))
        version, start, *events = [EVENTS.Event.FromString(data) for _, data in records]
        assert version.file_version == "brain.Event:2"
        assert start.session_log.status == EVENTS.SessionLog.START
        for curve in curves.values():
            for step in [step for step in curve if step >= start.step]:
                del curve[step]
        for event in events:
            for value in event.summary.value:
                curve = curves.setdefault(value.tag, {})
                assert event.step not in curve, "drawn twice"
                curve[event.step] = value.simple_value
    return curves


@pytest.mark.slow
def test_events_rates_and_traces_of_a_run(tmp_path, capsys):
    shards = training.write_shards(tmp_path)
    folder = tmp_path / "run"
    given = [
        f"--shards={shards}/train-*.tfrecord",
        f"--checkpoint_dir={folder}",
        *("--batch_size=2", "--steps=4", "--mesh=data=1", "--profile=2:9"),
        *("--set=validation.every=2", "--set=optimizer.warmup_steps=2"),
        *training.SMALL,
    ]
    assert train.main(given) == 0
    lines = training.lines(folder)
    curves = points(folder)
    for line in lines:
        step = line["step"]
        assert curves["loss"][step] == pytest.approx(line["loss"])
        assert curves["losses/prose"][step] == pytest.approx(line["losses"]["prose"])
        for key in ("learning_rate", "tokens_per_second", "data_wait"):
            assert curves[key][step] == pytest.approx(line[key])
    expected = {
        line["step"]: line["validation"]["text_loss"]
        for line in lines
        if "validation" in line
    }
    assert curves["validation/text_loss"] == pytest.approx(expected)
    assert "mfu" not in curves
    assert [line["mfu"] for line in lines] == [None] * 4
    # Half of the warm-up from 1e-7 to 1e-3, and half of the cosine to a tenth.
    rates = [1e-7, (1e-7 + 1e-3) / 2, 1e-3, 5.5e-4]
    assert [line["learning_rate"] for line in lines] == pytest.approx(rates)
    said = capsys.readouterr().err
    assert said.count("the peak of 'cpu' is not known") == 1
    # The run ended inside the traced steps.
    (trace,) = folder.glob("profile/plugins/profile/*/*.xplane.pb")
    assert b"train" in trace.read_bytes()


def test_a_second_start_draws_no_step_twice(tmp_path):
    for first, last, value in ((0, 5, 1.0), (3, 6, 2.0)):
        events = EventFiles(str(tmp_path), first)
        for step in range(first, last):
            events.write({"step": step, "loss": value, "losses": {"a": value}})
        events.flush()
        events.close()
    expected = {0: 1.0, 1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0, 5: 2.0}
    assert points(tmp_path) == {"loss": expected, "losses/a": expected}


def sums(loss=2.0):
    return {
        "loss": np.float32(loss),
        "loss_sums": np.array([8.0]),
        "targets": np.array([4]),
        "gradient_norm": np.float32(1),
        "learning_rate": np.float32(1e-3),
        "patches": np.int32(10),
    }


def test_utilization_counts_tokens_and_patches(tmp_path, monkeypatch):
    clock = iter([0.0, 4.0])
    monkeypatch.setattr(
        metrics, "time", types.SimpleNamespace(perf_counter=lambda: next(clock))
    )
    file = metrics.MetricsFile(str(tmp_path))
    work = Work(flops_per_token=6e9, flops_per_patch=4e9, peak=80e9)
    log = metrics.StepLog([file], ["a"], 20, work)
    log.replace(0, sums(), data_wait=1.0)
    log.flush()
    file.close()
    line = json.loads((tmp_path / metrics.FILE_NAME).read_text())
    # (20 * 6e9 + 10 * 4e9) FLOPs in 4 s of 80e9 a second.
    assert line["mfu"] == 0.5
    assert log.status == ", loss 2.000 -> 2.000, 5 tokens/s, MFU 50.0%, data wait 25%"
    assert work.utilization(20, 10, 2.0) == 1.0
    unknown = Work(flops_per_token=1, flops_per_patch=1, peak=None)
    assert unknown.utilization(1, 1, 1.0) is None


def test_a_step_that_is_validated_is_timed_without_its_validation(
    tmp_path, monkeypatch
):
    # Made at 0; step 0 has run at 4, its validation ends at 90; step 1 has run at 94.
    clock = iter([0.0, 4.0, 90.0, 94.0])
    monkeypatch.setattr(
        metrics, "time", types.SimpleNamespace(perf_counter=lambda: next(clock))
    )
    file = metrics.MetricsFile(str(tmp_path))
    work = Work(flops_per_token=1, flops_per_patch=1, peak=None)
    log = metrics.StepLog([file], ["a"], 20, work)
    log.replace(0, sums(), data_wait=0.0)
    log.settle()
    log.replace(1, sums(), data_wait=0.0)
    log.flush()
    file.close()
    lines = (tmp_path / metrics.FILE_NAME).read_text().splitlines()
    rates = [json.loads(line)["tokens_per_second"] for line in lines]
    assert rates == [5.0, 5.0]


def test_peaks_are_those_of_one_jax_device():
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    # A TPU v3 chip has 123 TFLOP/s and two devices.
    assert peak_flops("TPU v3") == 61.5e12
    assert peak_flops("cpu") is None


def test_patches_cost_what_their_embedder_does():
    linear = config.override(PRESETS["tiny"](), "model.patch_embedder", "linear")
    assert flops_per_patch(linear) == 6 * 768 * 128


@pytest.mark.parametrize("text", ["5", "5:5", "6:5", "a:b", "-1:3", ""])
def test_a_range_to_profile_is_checked(text):
    with pytest.raises(UsageError, match="--profile takes START:STOP"):
        parse_profile(text)
    assert parse_profile(None) == range(0)

"""`kill -9` of real training processes at random steps: the curve stays the same."""

import collections
import pathlib

import pytest
import training


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return training.write_shards(tmp_path_factory.mktemp("shards"))


def check_series(
    shards: pathlib.Path,
    folder: pathlib.Path,
    cache: pathlib.Path,
    steps: int,
    kills: int,
):
    """Kills a run again and again; it ends with the curve of one left alone."""
    given = training.environment(cache, devices=2)

    def start(name: str) -> training.Training:
        arguments = [
            f"--shards={shards}/train-*.tfrecord",
            f"--checkpoint_dir={folder / name}",
            *("--batch_size=4", f"--steps={steps}", "--mesh=data=2"),
            *("--set=checkpoint.every=3", "--set=model.stochastic_depth=0.1"),
            *training.SMALL,
        ]
        return training.Training(arguments, folder / f"{name}.log", given)

    alone = start("alone")
    assert alone.finish() == 0, alone.printed
    expected = training.curve(folder / "alone")
    assert sorted(expected) == list(range(steps))
    assert len({line["loss"] for line in expected.values()}) == steps
    killed = folder / "killed"
    for moment, step in training.kill_plan(steps, kills, seed=steps):
        training.kill_at(start("killed"), killed, moment, step)
        # The kill hit a run that had not ended.
        assert training.saved(killed) < steps
        assert len(training.curve(killed)) < steps
    last = start("killed")
    assert last.finish() == 0, last.printed
    assert "resumed" in last.printed
    assert training.curve(killed) == expected
    # Every line was the right one, also those that were written twice.
    by_step = collections.defaultdict(set)
    for line in training.lines(killed):
        by_step[line["step"]].add(line["loss"])
    assert {step: {line["loss"]} for step, line in expected.items()} == by_step


@pytest.mark.slow
def test_three_kills_leave_no_trace_in_the_curve(shards, tmp_path, training_cache):
    check_series(shards, tmp_path, training_cache, steps=30, kills=3)


@pytest.mark.long
def test_twenty_kills_leave_no_trace_in_the_curve(shards, tmp_path, training_cache):
    check_series(shards, tmp_path, training_cache, steps=400, kills=20)

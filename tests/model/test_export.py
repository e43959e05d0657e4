"""An exported agent: it acts like the run it was taken from, and needs nothing else."""

import json
import pathlib
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from small_models import small_config, small_model
from suites import GRID, TASK, write_suite

from gato.model import evaluate, export, play
from gato.model.checkpoint import Checkpoints
from gato.model.shards import find_datasets
from gato.model.weights import load_weights

TESTS = pathlib.Path(__file__).parents[1]
BUILD = TESTS / "testdata/sample/build"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run, and the folder that was made of it; the data set is gone since."""
    folder = tmp_path_factory.mktemp("exported")
    shutil.copytree(BUILD, folder / "build")
    datasets = find_datasets([str(folder / "build/babyai")])
    size = datasets[0].manifest.vocabulary.size
    model = small_model(512, vocabulary_size=size, blocks=1)
    checkpoints = Checkpoints(str(folder / "run"), small_config(blocks=1), datasets)
    state = {"params": model.initial(), "optimizer": {"m": np.ones(9)}, "step": 3}
    checkpoints.save(3, state)
    checkpoints.close()
    suite = write_suite(folder / "s.yaml", {}, data=folder / "build/babyai")
    (folder / "here").mkdir()
    arguments = ["--checkpoint", str(folder / "run"), "--suite", suite]
    assert export.main([*arguments, "--output", str(folder / "out")]) == 0
    (folder / "build").rename(folder / "gone")
    return folder


@pytest.fixture
def grids(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TESTS / "support"))


def test_weights_are_those_of_the_run_and_nothing_is_beside_them(exported):
    run, out = (load_weights(str(exported / name)) for name in ("run", "out"))
    assert out.step == run.step == 3
    assert out.run == run.run
    jax.tree.map(np.testing.assert_array_equal, out.params, run.params)
    names = {
        p.relative_to(exported / "out").parts[0] for p in (exported / "out").rglob("*")
    }
    assert names == {"checkpoints", "data", "suite.yaml"}
    text = (exported / "out/checkpoints/3/state/_METADATA").read_text()
    assert "params" in text
    assert "optimizer" not in text
    for file in (exported / "out").rglob("*"):
        assert file.is_dir() or str(exported).encode() not in file.read_bytes()


def test_it_is_evaluated_where_the_data_set_is_not(exported, grids, tmp_path):
    folder, result = exported / "out", tmp_path / "result.json"
    command = ["--checkpoint", str(folder), "--suite", str(folder / "suite.yaml")]
    command += ["--episodes", "1", "--batch", "1", "--output", str(result)]
    assert evaluate.main(command) == 0
    (task,) = json.loads(result.read_text())["tasks"]
    assert task["environment"] == GRID
    assert task["held_out"] is False


def test_an_episode_is_shown(exported, grids, capsys):
    command = ["--checkpoint", str(exported / "out"), "--episodes", "1", "--delay", "0"]
    assert play.main([*command, "--task", TASK]) == 0
    shown = capsys.readouterr().out
    assert "mission: go to the red ball" in shown
    assert f"{TASK}, step 4 of 4" in shown
    assert "solved after 4 steps, return" in shown


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--task", "BabyAI-Nowhere-v0"], f"--task is one of {TASK}"),
        (["--episodes", "0"], "--episodes is at least 1"),
        (["--delay", "-1"], "--delay is at least 0"),
    ],
)
def test_wrong_usage_is_said(exported, more, said, capsys):
    assert play.main(["--checkpoint", str(exported / "out"), *more]) == 2
    assert said in capsys.readouterr().err


def test_nothing_is_overwritten(exported, capsys):
    suite = str(exported / "s.yaml")
    arguments = ["--checkpoint", str(exported / "run"), "--suite", suite]
    assert export.main([*arguments, "--output", str(exported / "here")]) == 2
    assert "a folder that is not there yet" in capsys.readouterr().err
    assert not list((exported / "here").iterdir())


def test_weights_that_cannot_be_written_are_said(
    exported, tmp_path, monkeypatch, capsys
):
    def full(*_given, **_arguments):
        raise RuntimeError("no space left")

    (exported / "gone").rename(exported / "build")
    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    arguments = ["--checkpoint", str(exported / "run"), "--output", str(tmp_path / "o")]
    assert export.main([*arguments, "--suite", str(exported / "s.yaml")]) == 1
    (exported / "build").rename(exported / "gone")
    assert "could not be written: RuntimeError: no space" in capsys.readouterr().err


def test_a_suite_that_plays_nothing_is_refused(exported, tmp_path, capsys):
    suite = tmp_path / "documents.yaml"
    suite.write_text(f"documents: {{captions: {{data: {BUILD / 'captions'}}}}}")
    arguments = ["--checkpoint", str(exported / "run"), "--suite", str(suite)]
    assert export.main([*arguments, "--output", str(tmp_path / "out")]) == 2
    assert "this one has no domains" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

"""The sample in the repository: proved, read by the trainer, and made again."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from gato.model.data import Batches
from gato.model.shards import find_datasets
from gato.pipelines import inspect, verify
from gato.schemas.manifest import load_dataset_manifest

ROOT = pathlib.Path(__file__).parents[1]
SAMPLE = ROOT / "tests" / "testdata" / "sample"
BUILD = SAMPLE / "build"
DATASETS = ["babyai", "captions", "metaworld", "questions"]


def _files(folder: pathlib.Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
    )


def test_it_is_a_sound_build(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([str(BUILD)]) == 0, capsys.readouterr()


def test_it_is_small_and_says_nothing_of_the_machine_that_made_it() -> None:
    total = sum((SAMPLE / name).stat().st_size for name in _files(SAMPLE))
    assert 1_000_000 < total < 2_000_000
    for name in DATASETS:
        manifest = json.loads((BUILD / name / "manifest.json").read_bytes())
        config = manifest["config"]
        paths = [config["text_tokenizer"], *config["dataset"]["paths"]]
        assert not any(path.startswith("/") for path in paths), paths


@pytest.mark.parametrize("name", DATASETS)
def test_the_trainer_reads_all_rows_of_each_data_set(name: str) -> None:
    (dataset,) = find_datasets([str(BUILD / name / "train-*.tfrecord")])
    manifest = load_dataset_manifest(str(BUILD / name))
    rows = manifest.splits["train"].rows
    assert rows > 0
    assert manifest.splits["validation"].rows > 0
    batch = Batches([dataset], batch_size=rows, seed=0, groups=1, threads=1)[0]
    assert batch.tokens_BL.shape == (rows, 512)
    # A batch of all rows is a pass: each is there once.
    assert len(np.unique(batch.tokens_BL, axis=0)) == rows
    assert np.asarray(batch.loss_mask_BL).any(axis=1).all()


def test_the_trainer_mixes_all_data_sets() -> None:
    datasets = find_datasets([str(BUILD / "*" / "train-*.tfrecord")])
    assert [dataset.name for dataset in datasets] == DATASETS
    batches = Batches(datasets, batch_size=8, seed=0, groups=1, threads=1)
    mixed = np.concatenate([batches[t].dataset_B for t in range(8)])
    assert set(mixed.tolist()) == set(range(len(DATASETS)))


@pytest.mark.parametrize("name", DATASETS)
def test_a_row_can_be_looked_at(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shards = str(BUILD / name / "train-*.tfrecord")
    assert inspect.main([shards, "--row", "0"]) == 0
    shown = capsys.readouterr().out
    assert ("A:" in shown) == (name == "questions")
    assert f"data set {name}" in shown


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the repository")
def test_git_stores_it_unchanged() -> None:
    names = [f"tests/testdata/sample/{name}" for name in _files(SAMPLE)]
    names = [name for name in names if "__pycache__" not in name]
    git = ("git", "-C", str(ROOT))
    listed = subprocess.run(
        [*git, "ls-files", "tests/testdata/sample"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert listed == names, "a file is ignored, or was not added"
    built = [name for name in names if "/build/" in name]
    # Attributes as NUL-separated (path, attribute, value).
    fields = subprocess.run(
        [*git, "check-attr", "-z", "text", *built],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    assert fields[2::3] == ["unset"] * len(built)


def _comparable(path: pathlib.Path) -> bytes | dict[str, object]:
    """Returns a file's content; of JSON, what follows from the input alone.

    Fingerprints and the resolved config change with each new option of a build.
    """
    if path.suffix != ".json":
        return path.read_bytes()
    content = json.loads(path.read_bytes())
    return {
        key: value
        for key, value in content.items()
        if key not in ("config", "datasets") and "fingerprint" not in key
    }


@pytest.mark.slow
def test_the_command_beside_it_makes_the_same_sample(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, str(SAMPLE / "make.py"), "--output", str(tmp_path)]
    script = subprocess.run([*command, "--versions"], check=True, capture_output=True)
    recorded = json.loads((SAMPLE / "versions.json").read_bytes())
    if json.loads(script.stdout) != recorded:
        pytest.skip(f"the sample was made by {recorded}")
    subprocess.run(command, check=True, capture_output=True)
    assert _files(tmp_path / "build") == _files(BUILD)
    for name in _files(BUILD):
        one, two = _comparable(BUILD / name), _comparable(tmp_path / "build" / name)
        assert one == two, f"{name}: run tests/testdata/sample/make.py and commit"

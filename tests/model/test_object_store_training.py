"""Training on shards in object storage: the same steps as on a copy on disk."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import emulator
import numpy as np
import pytest
import toy_shards
from faulty_store import Fault, FaultyStore

from gato.model import data, shards, store, train
from gato.schemas import files, store_ranges
from gato.schemas.errors import GatoError

ROWS = 40


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Two data sets of a shard each."""
    folder = tmp_path_factory.mktemp("local")
    generator = np.random.default_rng(0)
    for name in ("one", "two"):
        rows = [toy_shards.control_row(generator) for _ in range(ROWS)]
        toy_shards.write_dataset(str(folder), name, rows[4:], rows[:4])
    return folder


@pytest.fixture(scope="module")
def running(local: pathlib.Path) -> Iterator[tuple[FaultyStore, str]]:
    with emulator.running() as proxy:
        folder = f"{proxy.bucket()}/shards"
        for path in filter(pathlib.Path.is_file, local.rglob("*")):
            name = path.relative_to(local).as_posix()
            files.write_atomic(files.join(folder, name), path.read_bytes())
        yield proxy, folder


@pytest.fixture
def stored(running: tuple[FaultyStore, str]) -> tuple[FaultyStore, str]:
    running[0].clear()
    return running


def batches(folder: str) -> data.Batches:
    found = shards.find_datasets([f"{folder}/*/train-*.tfrecord"])
    return data.Batches(found, batch_size=16, seed=0, groups=1, threads=1)


def test_batches_are_those_of_the_disk(
    stored: tuple[FaultyStore, str], local: pathlib.Path
) -> None:
    _, folder = stored
    here, there = batches(str(local)), batches(folder)
    for t in range(4):
        for one, other in zip(here[t], there[t], strict=True):
            np.testing.assert_array_equal(one, other)


def test_rows_alone_are_read_and_together(stored: tuple[FaultyStore, str]) -> None:
    proxy, folder = stored
    found = batches(folder)
    found[0]
    proxy.clear()
    proxy.delay = 0.03
    found[1]
    asked = proxy.media()
    assert len(proxy.requests) == len(asked) == 16
    assert all(each.range is not None for each in asked)
    assert {each.name.split("/")[1] for each in asked} == {"one", "two"}
    assert proxy.most_at_once == store_ranges.CONCURRENT
    rows = store.RowStore(shards.find_datasets([f"{folder}/*/train-*"]), "train")
    total = sum(shard.offsets[-1] for shard in rows.shards)
    assert sum(each.num_bytes for each in asked) < total / 2


def test_faults_change_nothing_or_name_the_shard(
    stored: tuple[FaultyStore, str],
    local: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy, folder = stored
    monkeypatch.setattr("gato.schemas.object_store.PAUSES_SECONDS", (0.01,) * 4)
    found = batches(folder)
    proxy.faults = [Fault("short", only="media", times=2)]
    np.testing.assert_array_equal(found[0].tokens_BL, batches(str(local))[0].tokens_BL)
    proxy.faults = [Fault("short", only="media", times=-1, name="train.*tfrecord$")]
    with pytest.raises(GatoError, match=r"gs://\S+/train-\S+: reading bytes \d+ to"):
        found[1]
    proxy.faults = [Fault("status", status=404, only="media", times=-1)]
    with pytest.raises(GatoError, match=r"train-\S+: .* no such object, or no longer"):
        found[1]


@pytest.mark.slow
def test_trained_on(
    stored: tuple[FaultyStore, str], local: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    _, folder = stored
    losses: list[list[Any]] = []
    for number, where in enumerate((str(local), folder)):
        target = tmp_path / str(number)
        options = [f"--shards={where}/*/train-*.tfrecord", f"--checkpoint_dir={target}"]
        sizes = ("width=16", "blocks=1", "heads=2", "head_size=8", "feed_forward=32")
        options += ["--model=tiny", "--batch_size=4", "--steps=3", "--mesh=data=1"]
        options += [f"--set=model.{size}" for size in sizes]
        assert train.main(options) == 0
        lines = (target / "metrics.jsonl").read_text("utf-8").splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3

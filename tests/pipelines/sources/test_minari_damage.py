"""What the Minari reader says of damaged data sets: one row for what is lost."""

import pathlib
import shutil
from typing import Any

import h5py
import minari_sets
import numpy as np
import pytest
from episode_source import verdicts
from minari_sets import (
    NUM_EPISODES,
    change_metadata,
    dataset,
    read,
    read_episodes,
    walk,
)

from gato.pipelines.sources.minari import MinariSource
from gato.schemas.episode import Unreadable
from gato.schemas.errors import Reason


def test_truncated_hdf5_costs_every_episode_promised(tmp_path: pathlib.Path) -> None:
    path = walk(tmp_path, env_id="Walk-v0")
    file = path / "data" / "main_data.hdf5"
    file.write_bytes(file.read_bytes()[:-1000])
    items = read(path)
    assert verdicts(items) == [(n, Reason.CORRUPT_FILE) for n in range(NUM_EPISODES)]
    last = items[-1]
    assert isinstance(last, Unreadable)
    assert last.item_id == "toy/walk/expert-v0/11"
    assert (last.task, last.agent) == ("Walk-v0", "toy/walk/expert-v0")
    assert last.source == str(path)


def test_vanished_hdf5(tmp_path: pathlib.Path) -> None:
    path = walk(tmp_path)
    (partition,) = MinariSource().partition(str(path), "x", dataset())
    (path / "data" / "main_data.hdf5").unlink()
    items = list(MinariSource().read(partition, dataset()))
    assert verdicts(items) == [(n, Reason.CORRUPT_FILE) for n in range(NUM_EPISODES)]


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b"\xff"])
def test_bad_metadata_costs_the_file(
    tmp_path: pathlib.Path, content: bytes | None
) -> None:
    path = walk(tmp_path)
    file = path / "data" / "metadata.json"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    (item,) = read(path)
    assert isinstance(item, Unreadable)
    assert (item.item_id, item.reason) == (None, Reason.CORRUPT_FILE)
    assert "metadata.json" in item.detail


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"observation_space": '{"type": "Sequence"}'}, Reason.UNSUPPORTED),
        ({"action_space": '{"type": "Box"}'}, Reason.CORRUPT_FILE),
        ({"action_space": "{"}, Reason.CORRUPT_FILE),
        ({"data_format": "zarr"}, Reason.UNSUPPORTED),
    ],
)
def test_metadata_that_cannot_be_used(
    tmp_path: pathlib.Path, changes: dict[str, str], reason: Reason
) -> None:
    path = walk(tmp_path)
    change_metadata(path, **changes)
    assert verdicts(read(path)) == [(n, reason) for n in range(NUM_EPISODES)]


def damage(path: pathlib.Path, number: int, what: str) -> None:
    """Damages one episode of an HDF5 walk."""
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        group = file[f"episode_{number}"]
        assert isinstance(group, h5py.Group)

        def replace(name: str, values: Any) -> None:
            del group[name]
            group[name] = values

        steps = len(group["rewards"])  # type: ignore[arg-type]
        match what:
            case "no rewards" | "no actions" | "no observations":
                del group[what.removeprefix("no ")]
            case "long actions":
                replace("actions", np.zeros((steps + 1, 2), np.float32))
            case "long observations":
                replace("observations", np.zeros((steps + 2, 4)))
            case "short observations":
                replace("observations", np.zeros((steps - 1, 4)))
            case "wide observations":
                replace("observations", np.zeros((steps + 1, 5)))
            case "text observations":
                replace("observations", ["a"] * (steps + 1))
            case "text rewards":
                replace("rewards", np.array([b"a"] * steps))
            case "wide rewards":
                replace("rewards", np.zeros((steps, 2)))
            case "no steps":
                replace("rewards", np.zeros(0))
                replace("actions", np.zeros((0, 2), np.float32))
                replace("observations", np.zeros((1, 4)))


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("no rewards", Reason.MISSING_FIELD),
        ("no actions", Reason.MISSING_FIELD),
        ("no observations", Reason.MISSING_FIELD),
        ("long actions", Reason.WRONG_SHAPE),
        ("long observations", Reason.WRONG_SHAPE),
        ("short observations", Reason.WRONG_SHAPE),
        ("wide observations", Reason.WRONG_SHAPE),
        ("text observations", Reason.WRONG_DTYPE),
        ("text rewards", Reason.WRONG_DTYPE),
        ("wide rewards", Reason.WRONG_SHAPE),
        ("no steps", Reason.EMPTY),
    ],
)
def test_one_damaged_episode_costs_one(
    tmp_path: pathlib.Path, what: str, reason: Reason
) -> None:
    path = walk(tmp_path)
    damage(path, 5, what)
    items = read(path)
    assert [item.number for item in items] == list(range(NUM_EPISODES))
    assert verdicts(items) == [(5, reason)]


def test_as_many_observations_as_actions(tmp_path: pathlib.Path) -> None:
    path = walk(tmp_path, 1)
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        values = file["episode_0/observations"][:-1]  # type: ignore[index]
        del file["episode_0/observations"]
        file["episode_0/observations"] = values
    (episode,) = read_episodes(path)
    np.testing.assert_array_equal(episode.observations["observation"], values)


def test_deleted_episodes_leave_gaps(tmp_path: pathlib.Path) -> None:
    path = walk(tmp_path)
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        del file["episode_3"], file["episode_10"]
    change_metadata(path, total_episodes=NUM_EPISODES - 2)
    kept = [n for n in range(NUM_EPISODES) if n not in (3, 10)]
    assert [e.number for e in read_episodes(path)] == kept


def test_episodes_promised_and_not_there_are_told(tmp_path: pathlib.Path) -> None:
    path = walk(tmp_path)
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        del file["episode_11"]
    items = read(path)
    assert [i.number for i in items] == list(range(NUM_EPISODES))
    assert verdicts(items) == [(11, Reason.CORRUPT_FILE)]


def test_an_empty_data_set_has_no_items(tmp_path: pathlib.Path) -> None:
    path = walk(tmp_path)
    (path / "data" / "main_data.hdf5").write_bytes(b"")
    change_metadata(path, total_episodes=0)
    assert read(path) == []


def test_a_file_cut_before_the_metadata_counted(tmp_path: pathlib.Path) -> None:
    path = walk(tmp_path)
    file = path / "data" / "main_data.hdf5"
    file.write_bytes(file.read_bytes()[:-1000])
    change_metadata(path, total_episodes=0)
    (item,) = read(path)
    assert isinstance(item, Unreadable)
    assert (item.item_id, item.reason) == (None, Reason.CORRUPT_FILE)


@pytest.mark.parametrize("layout", ["arrow", "parquet"])
def test_damaged_folders_of_arrow_cost_one_each(
    tmp_path: pathlib.Path, layout: str
) -> None:
    path = walk(tmp_path, data_format=layout)
    part = f"part-0.{layout}"
    truncated = path / "data" / "2" / part
    truncated.write_bytes(truncated.read_bytes()[:-20])
    (path / "data" / "4" / part).unlink()
    (path / "data" / "6" / part).write_bytes(b"")
    (path / "data" / "8" / "metadata.json").write_text('{"total_steps": 99}')
    (path / "data" / "9" / "metadata.json").unlink()
    shutil.rmtree(path / "data" / "11")
    assert verdicts(read(path)) == [
        (2, Reason.CORRUPT_EPISODE),
        (4, Reason.CORRUPT_EPISODE),
        (6, Reason.CORRUPT_EPISODE),
        (8, Reason.WRONG_SHAPE),
        (11, Reason.CORRUPT_FILE),
    ]


def test_text_that_is_not_utf8(tmp_path: pathlib.Path) -> None:
    path = minari_sets.write_nested(tmp_path, "hdf5", jpeg=False)
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        file["episode_4/observations/mission"][0] = b"T\xfcr"  # type: ignore[index]
    assert verdicts(read(path)) == [(4, Reason.NOT_UTF8)]


def test_jpeg_that_cannot_be_decoded(tmp_path: pathlib.Path) -> None:
    path = minari_sets.write_nested(tmp_path, "hdf5", jpeg=True)
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        frames = file["episode_4/observations/camera"]
        frames[1] = np.zeros_like(frames[1])  # type: ignore[index]
    assert verdicts(read(path)) == [(4, Reason.CORRUPT_IMAGE)]


def test_flipped_bytes_never_raise(tmp_path: pathlib.Path) -> None:
    path = walk(tmp_path, 4)
    file = path / "data" / "main_data.hdf5"
    whole = bytearray(file.read_bytes())
    generator = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for at in generator.integers(0, len(whole), 20):
            damaged[at] ^= 0xFF
        file.write_bytes(damaged)
        assert sorted({item.number for item in read(path)}) == [0, 1, 2, 3]

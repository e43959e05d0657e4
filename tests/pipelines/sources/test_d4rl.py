"""Our D4RL reader beside D4RL's rule, row by row, and on damaged files."""

import pathlib
from typing import Any

import h5py
import numpy as np
import pytest
from episode_source import episodes, read, verdicts
from layouts import layout

from gato.pipelines.sources import base, d4rl
from gato.pipelines.sources.d4rl import D4rlSource
from gato.schemas.config import Dataset
from gato.schemas.episode import Unreadable
from gato.schemas.errors import Reason, UsageError

LENGTHS = (7, 10, 3, 10, 1, 10, 10, 4)


def dataset(**settings: Any) -> Dataset:
    return Dataset(name="set", format="d4rl", paths=("raw/*",), **settings)


def write(folder: pathlib.Path, **options: Any) -> pathlib.Path:
    path = folder / "gym" / "hopper_medium-v2.hdf5"
    layout("d4rl").write(path, options.pop("lengths", LENGTHS), **options)
    return path


def read_items(path: pathlib.Path, **settings: Any) -> list[Any]:
    return read(path, f"gym/{path.name}", dataset(**settings))


def sequence_dataset(path: pathlib.Path) -> list[dict[str, np.ndarray]]:
    """What D4RL's function of that name yields, by its own loop."""
    opened: Any = h5py.File(path)
    with opened as file:
        fields = ("observations", "actions", "rewards", "terminals", "timeouts")
        table = {key: file[key][()] for key in fields if key in file}
    found, rows = [], []
    for row in range(len(table["rewards"])):
        rows.append(row)
        if any(np.any(table[k][row]) for k in ("terminals", "timeouts") if k in table):
            found.append({key: values[rows] for key, values in table.items()})
            rows = []
    return found


@pytest.mark.parametrize(
    "options",
    [{}, {"num_data": 48}, {"column": True}, {"lengths": (3, 1, 5), "timeouts": False}],
    ids=str,
)
def test_reads_what_d4rl_reads(
    tmp_path: pathlib.Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(d4rl, "_BLOCK_STEPS", 8)
    monkeypatch.setattr(d4rl, "_AHEAD_BYTES", 8 * 11 * 4)
    path = write(tmp_path, **options)
    ours, theirs = episodes(read_items(path)), sequence_dataset(path)
    assert [e.number for e in ours] == list(range(len(theirs)))
    for episode, other in zip(ours, theirs, strict=True):
        (observation,) = episode.observations.items()
        (action,) = episode.actions.items()
        assert (observation[0], action[0]) == ("observation", "action")
        for (_, column), key in ((observation, "observations"), (action, "actions")):
            assert isinstance(column, np.ndarray)
            assert column.dtype == np.float32
            np.testing.assert_array_equal(column, other[key])
        np.testing.assert_array_equal(episode.rewards, other["rewards"].reshape(-1))
        assert episode.rewards.dtype == np.float64


def test_names_and_success(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, lengths=(7, 3, 2))
    first, second, third = episodes(read_items(path))
    assert first.episode_id == "gym/hopper_medium-v2.hdf5/0"
    assert (first.task, first.agent) == ("hopper_medium", "gym/hopper_medium-v2")
    assert (first.success, second.success, third.success) == (True, True, False)
    (other, *_) = episodes(read_items(path, task="Hopper", agent="SAC"))
    assert (other.task, other.agent) == ("Hopper", "SAC")
    (keyed, *_) = episodes(
        read_items(path, filter={"by": "success", "success_key": "qpos"})
    )
    assert keyed.success is not None


@pytest.mark.parametrize("steps", [1, 11, 25, 1000])
def test_partitions_are_runs_of_whole_episodes(
    tmp_path: pathlib.Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path)
    whole = episodes(read_items(path))
    each = path.stat().st_size / sum(LENGTHS)
    monkeypatch.setattr(base, "MAX_PARTITION_BYTES", int(each * steps) + 1)
    partitions = D4rlSource().partition(str(path), f"gym/{path.name}", dataset())
    assert sum(p.num_items or 0 for p in partitions) == len(LENGTHS)
    assert all((p.stop or 0) - p.start <= max(steps, max(LENGTHS)) for p in partitions)
    assert [p.stop for p in partitions[:-1]] == [p.start for p in partitions[1:]]
    assert (len(partitions) == 1) == (steps == 1000)
    again = episodes(read_items(path))
    for before, after in zip(whole, again, strict=True):
        assert before.episode_id == after.episode_id
        np.testing.assert_array_equal(before.rewards, after.rewards)


def test_excluded_observations_are_not_read(tmp_path: pathlib.Path) -> None:
    items = read_items(write(tmp_path), observations={"exclude": ["obs*"]})
    assert all(e.observations == {} for e in episodes(items))


@pytest.mark.parametrize("what", ["a folder", "another suffix"])
def test_a_path_is_an_hdf5_file(tmp_path: pathlib.Path, what: str) -> None:
    path = tmp_path if what == "a folder" else tmp_path / "a.npz"
    with pytest.raises(UsageError, match="format d4rl is an HDF5 file"):
        D4rlSource().files(str(path))


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "terminals"])
@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_table_that_is_not_whole(
    tmp_path: pathlib.Path, key: str, damage: str
) -> None:
    path = write(tmp_path)
    opened: Any = h5py.File(path, "r+")
    with opened as file:
        values = file[key][()]
        del file[key]
        if damage == "short":
            file[key] = values[:-1]
    (item,) = read_items(path)
    assert isinstance(item, Unreadable)
    short = damage == "short"
    assert item.reason == (Reason.WRONG_SHAPE if short else Reason.MISSING_FIELD)
    assert (item.item_id, item.task) == (None, "hopper_medium")
    assert key in item.detail


def test_no_end_of_an_episode(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, lengths=(10, 10), timeouts=False)
    (item,) = read_items(path)
    assert isinstance(item, Unreadable)
    assert item.reason == Reason.MISSING_FIELD
    assert "there are no timeouts" in item.detail


def test_truncated_file(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path)
    (partition,) = D4rlSource().partition(str(path), "x", dataset())
    path.write_bytes(path.read_bytes()[:-1000])
    assert verdicts(read_items(path)) == [(0, Reason.CORRUPT_FILE)]
    lost = list(D4rlSource().read(partition, dataset()))
    assert verdicts(lost) == [  # type: ignore[arg-type]
        (number, Reason.CORRUPT_FILE) for number in range(len(LENGTHS))
    ]


def test_a_damaged_chunk_costs_its_episodes(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path)
    with h5py.File(path) as file:
        chunk = file["actions"].id.get_chunk_info(0)  # type: ignore[union-attr]
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(bytes(content))
    items = read_items(path)
    assert len(items) == len(LENGTHS)
    assert (0, Reason.CORRUPT_EPISODE) in verdicts(items)

"""Our Procgen reader: archives by gen_dgrl's rule, shards as `datasets` reads them."""

import pathlib
import shutil
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from episode_source import episodes, read, verdicts
from layouts import layout

from gato.pipelines.sources import base, procgen_table
from gato.pipelines.sources.procgen import ProcgenSource
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Unreadable
from gato.schemas.errors import Reason, UsageError

TESTDATA = pathlib.Path(__file__).parents[2] / "testdata" / "procgen"
ARCHIVES = (5, 3, 8, 1)
ROWS = [4, 1, 9, 3]  # the rest were cut off


def dataset(**settings: Any) -> Dataset:
    return Dataset(name="set", format="procgen", paths=("raw/*",), **settings)


def read_items(path: pathlib.Path, **settings: Any) -> list[Any]:
    return read(path, f"expert/{path.name}", dataset(**settings))


def columns(episode: Episode) -> tuple[np.ndarray, np.ndarray]:
    """Returns observations and actions of an episode that has one of each."""
    (observation,) = episode.observations.items()
    (action,) = episode.actions.items()
    assert (observation[0], action[0]) == ("observation", "action")
    assert episode.action_spaces["action"].num_values == 15
    return np.asarray(observation[1]), np.asarray(action[1])


@pytest.fixture
def archives(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of four archives."""
    layout("procgen").write(tmp_path / "bigfish", ARCHIVES)
    return tmp_path / "bigfish"


@pytest.fixture
def shards(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the shards of a table, to damage."""
    return pathlib.Path(shutil.copytree(TESTDATA / "maze", tmp_path / "maze"))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_reads_archives_as_gen_dgrl_does(tmp_path: pathlib.Path, suffix: str) -> None:
    path = tmp_path / "bigfish"
    layout("procgen").write(path, ARCHIVES, suffix)
    found = episodes(read_items(path))
    assert [len(e.rewards) for e in found] == list(ARCHIVES)
    for episode, file in zip(found, sorted(path.iterdir()), strict=True):
        with np.load(file) as theirs:
            observation, action = columns(episode)
            pixels = theirs["observations"].astype(np.uint8)
            assert observation.dtype == np.uint8
            np.testing.assert_array_equal(
                observation, pixels[:-1].transpose(0, 2, 3, 1)
            )
            np.testing.assert_array_equal(action, theirs["actions"][:, 0])
            np.testing.assert_array_equal(episode.rewards, theirs["rewards"][:, 0])
    assert {(e.task, e.agent) for e in found} == {("bigfish", "expert/bigfish")}
    assert found[2].episode_id == "expert/bigfish/2"


def test_reads_shards_as_their_library_does(shards: pathlib.Path) -> None:
    found = episodes(read_items(shards))
    assert [len(e.rewards) for e in found] == ROWS
    with np.load(TESTDATA / "maze.npz") as theirs:
        start = 0
        for episode in found:
            rows = slice(start, start + len(episode.rewards))
            start = rows.stop
            observation, action = columns(episode)
            expected = theirs["observation"][rows]
            assert (observation.shape, observation.dtype) == (expected.shape, np.uint8)
            np.testing.assert_array_equal(observation, expected)
            np.testing.assert_array_equal(action, theirs["action"][rows])
            np.testing.assert_array_equal(episode.rewards, theirs["reward"][rows])
    assert {(e.task, e.agent) for e in found} == {("maze", "expert/maze")}


def test_split_and_task(shards: pathlib.Path) -> None:
    assert [len(e.rewards) for e in episodes(read_items(shards, split="test"))] == [4]
    assert episodes(read_items(shards, task="labyrinth"))[0].task == "labyrinth"
    with pytest.raises(UsageError, match=r"no shards dev-\*.parquet"):
        read_items(shards, split="dev")


def test_split_is_not_of_archives(archives: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="Leave it out"):
        read_items(archives, split="train")


@pytest.mark.parametrize("most", [1, 5, 14, 100])
@pytest.mark.parametrize("block", [2, 1000])
def test_partitions_of_shards_are_runs_of_episodes(
    shards: pathlib.Path, monkeypatch: pytest.MonkeyPatch, most: int, block: int
) -> None:
    whole = episodes(read_items(shards))
    size = sum(file.stat().st_size for file in shards.glob("train-*"))
    monkeypatch.setattr(base, "MAX_PARTITION_BYTES", size * most // 21 + 1)
    monkeypatch.setattr(procgen_table, "_BLOCK_ROWS", block)
    partitions = ProcgenSource().partition(str(shards), "x", dataset())
    starts = [0, 4, 5, 14, 17]
    assert {p.start for p in partitions} <= set(starts)
    assert len(partitions) == {1: 4, 5: 3, 14: 2, 100: 1}[most]
    for before, after in zip(whole, episodes(read_items(shards)), strict=True):
        assert before.episode_id == after.episode_id
        for ours, other in zip(columns(before), columns(after), strict=True):
            np.testing.assert_array_equal(ours, other)


def test_frames_that_are_not_wanted_are_not_read(
    shards: pathlib.Path, archives: pathlib.Path
) -> None:
    for path in (shards, archives):
        found = episodes(read_items(path, observations={"exclude": ["obs*"]}))
        assert all(e.observations == {} for e in found)


def test_terminated_is_another_name_of_done(shards: pathlib.Path) -> None:
    for file in shards.glob("train-*"):
        table = pq.read_table(file)
        names = [n.replace("done", "terminated") for n in table.column_names]
        pq.write_table(table.rename_columns(names), file)
    assert [len(e.rewards) for e in episodes(read_items(shards))] == ROWS


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"actions": None}, Reason.MISSING_FIELD),
        ({"observations": np.zeros((4, 64, 64, 3))}, Reason.WRONG_SHAPE),
        ({"observations": np.zeros((6, 3, 64, 64))}, Reason.WRONG_SHAPE),
        ({"observations": np.full((4, 3, 8, 8), 0.5)}, Reason.WRONG_DTYPE),
        ({"observations": np.full((4, 3, 8, 8), np.nan)}, Reason.WRONG_DTYPE),
        ({"observations": np.full((4, 3, 8, 8), 256)}, Reason.WRONG_DTYPE),
        ({"actions": np.zeros((2, 1), int)}, Reason.WRONG_SHAPE),
        ({"rewards": np.array(["a"] * 3)}, Reason.WRONG_DTYPE),
    ],
    ids=str,
)
def test_a_damaged_archive_costs_itself(
    archives: pathlib.Path, changes: dict[str, Any], reason: Reason
) -> None:
    file = sorted(archives.iterdir())[1]
    with np.load(file) as stored:
        arrays = dict(stored) | changes
    with file.open("wb") as out:
        np.savez(out, **{k: v for k, v in arrays.items() if v is not None})
    items = read_items(archives)
    assert verdicts(items) == [(1, reason)]
    assert len(items) == 4


def test_a_pickle_is_not_opened(archives: pathlib.Path) -> None:
    file = sorted(archives.iterdir())[1]
    np.save(file, np.array({"observations": 1}, object), allow_pickle=True)
    assert verdicts(read_items(archives)) == [(1, Reason.CORRUPT_FILE)]


@pytest.mark.parametrize("column", ["action", "reward", "observation"])
def test_a_shard_without_a_column(shards: pathlib.Path, column: str) -> None:
    file = shards / "train-00001-of-00003.parquet"
    pq.write_table(pq.read_table(file).drop_columns(column), file)
    items = read_items(shards)
    assert verdicts(items) == [(2, Reason.MISSING_FIELD)]
    assert column in items[2].detail
    assert len(items) == 4


@pytest.mark.parametrize("damage", ["no flags", "no ends", "truncated"])
def test_a_table_that_cannot_be_cut(shards: pathlib.Path, damage: str) -> None:
    for file in shards.glob("train-*"):
        table = pq.read_table(file)
        if damage == "truncated":
            file.write_bytes(file.read_bytes()[:-100])
        elif damage == "no flags":
            pq.write_table(table.drop_columns(["done", "truncated"]), file)
        else:
            names = [n.replace("done", "xdone") for n in table.column_names]
            names = [n.replace("truncated", "done") for n in names]
            pq.write_table(table.rename_columns(names).slice(0, 4), file)
    (item,) = read_items(shards)
    assert isinstance(item, Unreadable)
    assert item.item_id is None
    expected = {"truncated": Reason.CORRUPT_FILE}
    assert item.reason == expected.get(damage, Reason.MISSING_FIELD)


def test_a_path_is_a_folder_of_one_layout(
    shards: pathlib.Path, archives: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(UsageError, match=r"has none; such folders .* give .*/\*"):
        ProcgenSource().files(str(tmp_path))
    assert len(ProcgenSource().files(str(archives))) == 4
    shutil.copy(next(archives.iterdir()), shards)
    with pytest.raises(UsageError, match="this one has both"):
        ProcgenSource().files(str(shards))

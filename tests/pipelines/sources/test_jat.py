"""Our JAT reader beside Hugging Face's library, whose files are in testdata."""

import pathlib
import shutil
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from episode_source import episodes, read, verdicts

from gato.pipelines.sources import base
from gato.pipelines.sources.jat import JatSource
from gato.schemas.config import Dataset
from gato.schemas.episode import Unreadable
from gato.schemas.errors import Reason, UsageError

TESTDATA = pathlib.Path(__file__).parents[2] / "testdata" / "jat"
NAME = "train-00000-of-00001.parquet"
LENGTHS = [4, 1, 7]
TASKS = ("atari-alien", "babyai-go-to", "metaworld-reach")


def dataset(**settings: Any) -> Dataset:
    return Dataset(name="set", format="jat", paths=("raw/*",), **settings)


def read_items(path: pathlib.Path, **settings: Any) -> list[Any]:
    return read(path, f"{path.parent.name}/{path.name}", dataset(**settings))


@pytest.fixture(params=TASKS)
def path(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of a file, to damage."""
    shutil.copytree(TESTDATA / request.param, tmp_path / request.param)
    return tmp_path / request.param / NAME


def test_reads_what_their_library_reads(path: pathlib.Path) -> None:
    found = episodes(read_items(path))
    assert [len(e.rewards) for e in found] == LENGTHS
    with np.load(TESTDATA / f"{path.parent.name}.npz") as theirs:
        for number, episode in enumerate(found):
            start = sum(LENGTHS[:number])
            rows = slice(start, start + LENGTHS[number])
            columns = {**episode.observations, **episode.actions}
            assert {*columns, "rewards"} == set(theirs)
            for key, column in columns.items():
                expected = theirs[key][rows]
                ours = np.asarray(column)
                if key == "image_observations":
                    expected = expected[..., 1:]
                elif key == "text_observations":
                    ours = np.array([text.decode() for text in column])  # type: ignore[union-attr]
                np.testing.assert_array_equal(ours, expected)
            np.testing.assert_array_equal(episode.rewards, theirs["rewards"][rows])
            assert episode.number == number
            assert episode.episode_id == f"{path.parent.name}/{NAME}/{number}"
            assert (episode.task, episode.agent) == (path.parent.name,) * 2


def test_config_names_task_and_a_file_of_another_name_is_one(
    path: pathlib.Path,
) -> None:
    assert episodes(read_items(path, task="alien"))[0].task == "alien"
    other = path.rename(path.with_name("mine.parquet"))
    assert episodes(read_items(other))[0].task == "mine"


def test_partitions_are_row_groups(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = episodes(read_items(path))
    monkeypatch.setattr(base, "MAX_PARTITION_BYTES", 1)
    partitions = JatSource().partition(str(path), "x", dataset())
    assert [(p.first_number, p.num_items) for p in partitions] == [(0, 2), (2, 1)]
    for before, after in zip(whole, episodes(read_items(path)), strict=True):
        assert before.number == after.number
        np.testing.assert_array_equal(before.rewards, after.rewards)


def test_images_of_three_channels_pass_as_they_are(tmp_path: pathlib.Path) -> None:
    done, data = cv2.imencode(".png", np.zeros((16, 16, 3), np.uint8))
    assert done
    row = {
        "image_observations": [[{"bytes": data.tobytes(), "path": None}]],
        "discrete_actions": [[1]],
        "rewards": [[0.5]],
    }
    pq.write_table(pa.table(row), tmp_path / "a.parquet")
    (episode,) = episodes(read_items(tmp_path / "a.parquet"))
    assert episode.observations == {"image_observations": [data.tobytes()]}


def replaced(path: pathlib.Path, name: str, change: Any) -> None:
    """Changes the second episode's list."""
    table = pq.read_table(path)
    values = table[name].to_pylist()
    values[1] = change(values[1])
    place = table.column_names.index(name)
    array = pa.array(values, table[name].type)
    pq.write_table(table.set_column(place, table.field(place), array), path)


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        (lambda values: None, Reason.MISSING_FIELD, "got null"),
        (lambda values: [None], Reason.MISSING_FIELD, "null"),
        (lambda values: [], Reason.WRONG_SHAPE, "actions"),
        (lambda values: values * 2, Reason.WRONG_SHAPE, "actions"),
    ],
)
def test_a_damaged_row_costs_itself(
    path: pathlib.Path, change: Any, reason: Reason, words: str
) -> None:
    name = next(n for n in pq.read_schema(path).names if n.endswith("_actions"))
    replaced(path, name, change)
    items = read_items(path)
    assert verdicts(items) == [(1, reason)]
    assert words in items[1].detail
    assert len(items) == 3


def test_an_episode_without_steps(path: pathlib.Path) -> None:
    for name in pq.read_schema(path).names:
        replaced(path, name, lambda values: [])
    assert verdicts(read_items(path)) == [(1, Reason.EMPTY)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(16) + bytes((8, 6)) + b"x", Reason.CORRUPT_IMAGE),
        (cv2.imencode(".png", np.ones((9, 9, 4), np.uint8))[1], Reason.WRONG_SHAPE),
    ],
)
def test_a_damaged_image(tmp_path: pathlib.Path, data: Any, reason: Reason) -> None:
    shutil.copytree(TESTDATA / "atari-alien", tmp_path / "atari-alien")
    path = tmp_path / "atari-alien" / NAME
    good = pq.read_table(path)["image_observations"][0].as_py()[0]
    bad = {"bytes": bytes(data), "path": None}
    replaced(path, "image_observations", lambda values: [good, bad])
    for name in ("discrete_actions", "rewards"):
        replaced(path, name, lambda values: values * 2)
    assert verdicts(read_items(path)) == [(1, reason)]


@pytest.mark.parametrize("name", ["rewards", "actions", "observations"])
def test_a_file_of_something_else(path: pathlib.Path, name: str) -> None:
    names = [n for n in pq.read_schema(path).names if n.endswith(name)]
    pq.write_table(pq.read_table(path).drop_columns(names), path)
    items = read_items(path)
    assert verdicts(items) == [(n, Reason.MISSING_FIELD) for n in range(3)]
    assert "the columns are" in items[0].detail


def test_damaged_files(path: pathlib.Path) -> None:
    (partition,) = JatSource().partition(str(path), "x", dataset())
    path.write_bytes(path.read_bytes()[:-100])
    (item,) = read_items(path)
    assert isinstance(item, Unreadable)
    assert (item.item_id, item.reason) == (None, Reason.CORRUPT_FILE)
    lost = list(JatSource().read(partition, dataset()))
    assert [i.number for i in lost] == [0, 1, 2]


def test_a_path_is_a_parquet_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="format jat is a Parquet file"):
        JatSource().files(str(tmp_path))

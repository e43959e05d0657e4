"""Our V-D4RL reader: which action belongs to which image, and damaged archives."""

import pathlib
import pickle
from typing import Any

import numpy as np
import pytest
from episode_source import episodes, read, verdicts
from layouts import layout

from gato.pipelines.sources import base
from gato.pipelines.sources.vd4rl import Vd4rlSource
from gato.schemas.config import Dataset
from gato.schemas.errors import Reason, UsageError

LENGTHS = (5, 3, 8, 1)
RELATIVE = "walker_walk/medium_expert/64px"


def dataset(**settings: Any) -> Dataset:
    return Dataset(name="set", format="vd4rl", paths=("raw/*",), **settings)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of four episodes."""
    layout("vd4rl").write(tmp_path / RELATIVE, LENGTHS)
    return tmp_path / RELATIVE


def read_items(path: pathlib.Path, **settings: Any) -> list[Any]:
    return read(path, RELATIVE, dataset(**settings))


def test_an_image_stands_with_the_action_taken_on_it(path: pathlib.Path) -> None:
    found = episodes(read_items(path))
    assert [len(e.rewards) for e in found] == list(LENGTHS)
    for number, episode in enumerate(found):
        steps = np.arange(LENGTHS[number])
        (image,) = episode.observations.values()
        assert isinstance(image, np.ndarray)
        assert (image.shape[1:], image.dtype) == ((64, 64, 3), np.uint8)
        np.testing.assert_array_equal(image[:, 0, 0, 0], steps)
        # The action of the row below, which led to the image there.
        expected = (steps + 1) * 10 + number
        (action,) = episode.actions.values()
        np.testing.assert_allclose(np.asarray(action)[:, 0], expected / 1000)
        np.testing.assert_array_equal(episode.rewards, expected)


def test_names(path: pathlib.Path) -> None:
    found = episodes(read_items(path))
    assert [e.number for e in found] == [0, 1, 2, 3]
    assert found[1].episode_id == f"{RELATIVE}/1"
    assert {(e.task, e.agent) for e in found} == {("walker_walk", RELATIVE)}
    assert episodes(read_items(path, task="walk"))[0].task == "walk"
    other = path.rename(path.parents[2] / "mine")
    assert episodes(read_items(other))[0].task == "mine"


def test_partitions_are_ranges_of_files(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(file.stat().st_size for file in path.iterdir())
    monkeypatch.setattr(base, "MAX_PARTITION_BYTES", size // 4 * 3 + 3)
    partitions = Vd4rlSource().partition(str(path), RELATIVE, dataset())
    assert [(p.start, p.stop, p.num_items) for p in partitions] == [
        (0, 3, 3),
        (3, None, 1),
    ]
    assert [e.number for e in episodes(read_items(path))] == [0, 1, 2, 3]


def change(path: pathlib.Path, **changes: Any) -> None:
    """Changes arrays of the second episode; None removes one."""
    file = sorted(path.iterdir())[1]
    with np.load(file) as stored:
        arrays = dict(stored) | changes
    np.savez(file, **{k: v for k, v in arrays.items() if v is not None})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"action": None}, Reason.MISSING_FIELD),
        ({"reward": None}, Reason.MISSING_FIELD),
        ({"reward": np.zeros(9)}, Reason.WRONG_SHAPE),
        ({"image": np.zeros((3, 64, 64, 3), np.uint8)}, Reason.WRONG_SHAPE),
        ({"image": np.array(["a"] * 4, object)}, Reason.CORRUPT_EPISODE),
        ({"is_first": np.array([True, False, True, False])}, Reason.WRONG_SHAPE),
    ],
    ids=str,
)
def test_a_damaged_archive_costs_itself(
    path: pathlib.Path, changes: dict[str, Any], reason: Reason
) -> None:
    change(path, **changes)
    items = read_items(path)
    assert verdicts(items) == [(1, reason)]
    assert items[1].item_id == f"{RELATIVE}/1"
    assert len(items) == 4


@pytest.mark.parametrize("what", ["empty", "truncated", "pickle"])
def test_what_is_no_archive(path: pathlib.Path, what: str) -> None:
    file = sorted(path.iterdir())[1]
    content = file.read_bytes()
    file.write_bytes(
        {"empty": b"", "truncated": content[:-50], "pickle": pickle.dumps({})}[what]
    )
    expected = Reason.CORRUPT_EPISODE if what == "truncated" else Reason.CORRUPT_FILE
    assert verdicts(read_items(path)) == [(1, expected)]


def test_an_episode_of_a_first_row_alone(path: pathlib.Path) -> None:
    one = {"action": np.zeros((1, 6)), "reward": np.zeros(1)}
    one |= {"image": np.zeros((1, 64, 64, 3), np.uint8), "is_first": np.ones(1, bool)}
    change(path, **one)
    assert verdicts(read_items(path)) == [(1, Reason.EMPTY)]


def test_a_path_is_a_folder_of_archives(path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=r"give .*/\*/\*"):
        Vd4rlSource().files(str(path.parents[1]))
    assert len(Vd4rlSource().files(str(path))) == 4
    for file in path.iterdir():
        file.rename(file.with_suffix(".hdf5"))
    with pytest.raises(UsageError, match="84x84"):
        Vd4rlSource().files(str(path))

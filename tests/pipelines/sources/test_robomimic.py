"""Our robomimic reader beside h5py, and on damaged files."""

import pathlib
from typing import Any

import h5py
import numpy as np
import pytest
from episode_source import episodes, read, verdicts
from layouts import layout

from gato.pipelines.sources import base
from gato.pipelines.sources.robomimic import RobomimicSource
from gato.schemas.config import Dataset
from gato.schemas.episode import Unreadable
from gato.schemas.errors import Reason, UsageError

# Twelve, so that demo_10 sorts before demo_2 as text.
LENGTHS = range(1, 13)
RELATIVE = "lift/ph/image.hdf5"


def dataset(**settings: Any) -> Dataset:
    return Dataset(name="set", format="robomimic", paths=("raw/*",), **settings)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    """A file of twelve demonstrations."""
    layout("robomimic").write(tmp_path / RELATIVE, LENGTHS)
    return tmp_path / RELATIVE


def read_items(path: pathlib.Path, **settings: Any) -> list[Any]:
    return read(path, RELATIVE, dataset(**settings))


def test_reads_every_demonstration_in_order_of_numbers(path: pathlib.Path) -> None:
    found = episodes(read_items(path))
    assert [e.number for e in found] == list(range(12))
    assert {(e.task, e.agent) for e in found} == {("Lift", "lift/ph/image")}
    assert found[10].episode_id == f"{RELATIVE}/10"
    with h5py.File(path) as file:
        for episode in found:
            demo: Any = file[f"data/demo_{episode.number}"]
            assert set(episode.observations) == set(demo["obs"])
            for key, column in episode.observations.items():
                np.testing.assert_array_equal(column, demo["obs"][key][()])
            (action,) = episode.actions.values()
            np.testing.assert_array_equal(action, demo["actions"][()])
            np.testing.assert_array_equal(episode.rewards, demo["rewards"][()])
            assert episode.success is None


@pytest.mark.parametrize(
    ("split", "numbers"), [("train", [1, 3, 5, 7, 9, 11]), ("20_percent", [10, 11])]
)
def test_split_is_a_mask(path: pathlib.Path, split: str, numbers: list[int]) -> None:
    found = episodes(read_items(path, split=split))
    assert [e.number for e in found] == numbers


def test_unknown_split(path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="the file has 20_percent, train; got 'valid'"):
        read_items(path, split="valid")


def test_success_is_under_the_key_that_the_config_names(path: pathlib.Path) -> None:
    found = episodes(read_items(path, filter={"by": "success", "success_key": "dones"}))
    assert [e.success for e in found] == [number % 3 != 0 for number in range(12)]


def test_config_names_task_and_agent(path: pathlib.Path) -> None:
    (first, *_) = episodes(read_items(path, task="lift", agent="human"))
    assert (first.task, first.agent) == ("lift", "human")


def test_partitions(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    each = path.stat().st_size / 12
    monkeypatch.setattr(base, "MAX_PARTITION_BYTES", int(each * 5) + 5)
    partitions = RobomimicSource().partition(str(path), RELATIVE, dataset())
    assert [(p.start, p.stop, p.num_items) for p in partitions] == [
        (0, 5, 5),
        (5, 10, 5),
        (10, None, 2),
    ]
    assert [e.number for e in episodes(read_items(path))] == list(range(12))


def test_excluded_observations_are_not_read(path: pathlib.Path) -> None:
    found = episodes(read_items(path, observations={"exclude": ["*image"]}))
    assert set(found[0].observations) == {"object", "robot0_eef_pos"}


def test_rewards_may_be_missing(path: pathlib.Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["data/demo_4/rewards"]
    np.testing.assert_array_equal(episodes(read_items(path))[4].rewards, np.zeros(5))


@pytest.mark.parametrize(
    ("damage", "reason", "words"),
    [
        ("no obs", Reason.MISSING_FIELD, "dataset_states_to_obs"),
        ("no actions", Reason.MISSING_FIELD, "data/demo_3/actions"),
        ("long actions", Reason.WRONG_SHAPE, "actions 'action'"),
        ("long obs", Reason.WRONG_SHAPE, "observations 'object'"),
        ("wide rewards", Reason.WRONG_SHAPE, "one a step"),
        ("no steps", Reason.EMPTY, "at least one step"),
    ],
)
def test_a_damaged_demonstration_costs_itself(
    path: pathlib.Path, damage: str, reason: Reason, words: str
) -> None:
    with h5py.File(path, "r+") as file:
        demo: Any = file["data/demo_3"]
        match damage:
            case "no obs" | "no actions":
                del demo[damage.removeprefix("no ")]
            case "long actions":
                del demo["actions"]
                demo["actions"] = np.zeros((5, 7))
            case "long obs":
                del demo["obs/object"]
                demo["obs/object"] = np.zeros((5, 10))
            case "wide rewards":
                del demo["rewards"]
                demo["rewards"] = np.zeros((4, 2))
            case "no steps":
                for key in ("actions", "rewards", "obs"):
                    del demo[key]
                demo["actions"], demo["rewards"] = np.zeros((0, 7)), np.zeros(0)
                demo["obs/object"] = np.zeros((0, 10))
    items = read_items(path)
    assert verdicts(items) == [(3, reason)]
    assert words in items[3].detail
    assert items[3].item_id == f"{RELATIVE}/3"
    assert len(items) == 12


def test_a_mask_may_name_what_is_not_there(path: pathlib.Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["data/demo_5"]
    items = read_items(path, split="train")
    assert verdicts(items) == [(5, Reason.MISSING_FIELD)]


def test_without_env_args_the_task_is_the_file(path: pathlib.Path) -> None:
    with h5py.File(path, "r+") as file:
        file["data"].attrs["env_args"] = "{"
    assert episodes(read_items(path))[0].task == "lift/ph/image"


@pytest.mark.parametrize("damage", ["no data", "no demonstrations", "truncated"])
def test_a_damaged_file(path: pathlib.Path, damage: str) -> None:
    (partition,) = RobomimicSource().partition(str(path), RELATIVE, dataset())
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    else:
        with h5py.File(path, "r+") as file:
            del file["data"]
            if damage == "no demonstrations":
                file.create_group("data")
    (item,) = read_items(path)
    assert isinstance(item, Unreadable)
    assert item.item_id is None
    lost = list(RobomimicSource().read(partition, dataset()))
    assert [item.number for item in lost] == list(range(12))


def test_a_path_is_an_hdf5_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="low_dim_v141"):
        RobomimicSource().files(str(tmp_path))

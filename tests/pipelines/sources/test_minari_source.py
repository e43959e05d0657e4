"""Our Minari reader beside Minari's own, and what it says of damaged data sets."""

import json
import os
import pathlib
import pickle
import shutil
import unittest.mock
import warnings
from collections.abc import Iterator
from typing import Any

import fsspec
import h5py
import minari
import numpy as np
import pytest
import raw_inputs
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from gato.pipelines.sources import base
from gato.pipelines.sources.minari import MinariSource
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Unreadable
from gato.schemas.errors import Reason, UsageError

LAYOUTS = ("hdf5", "arrow", "parquet")
NUM_EPISODES = 12  # so that episode_10 sorts before episode_2 as text


def dataset(**settings: Any) -> Dataset:
    return Dataset(name="set", format="minari", paths=("raw/*",), **settings)


def read(
    path: pathlib.Path | str, config: Dataset | None = None
) -> list[Episode | Unreadable]:
    config = config or dataset()
    source = MinariSource()
    name = str(path).rpartition("/")[2]
    return [
        item
        for partition in source.partition(str(path), name, config)
        for item in source.read(partition, config)
    ]


def read_episodes(
    path: pathlib.Path | str, config: Dataset | None = None
) -> list[Episode]:
    items = read(path, config)
    assert [i for i in items if isinstance(i, Unreadable)] == []
    return [item for item in items if isinstance(item, Episode)]


def verdicts(items: list[Episode | Unreadable]) -> list[tuple[int, str]]:
    return [(i.number, i.reason) for i in items if isinstance(i, Unreadable)]


def write(
    root: pathlib.Path,
    dataset_id: str,
    buffers: list[EpisodeBuffer],
    observation_space: spaces.Space,
    action_space: spaces.Space,
    **settings: Any,
) -> pathlib.Path:
    root.mkdir(parents=True, exist_ok=True)
    with (
        unittest.mock.patch.dict(os.environ, {"MINARI_DATASETS_PATH": str(root)}),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UserWarning)
        minari.create_dataset_from_buffers(
            dataset_id,
            buffers,
            observation_space=observation_space,
            action_space=action_space,
            **settings,
        )
    return root / dataset_id


NESTED = spaces.Dict(
    {
        "camera": spaces.Box(0, 255, (48, 32, 3), np.uint8),
        "depth": spaces.Box(0, 255, (48, 32), np.uint8),
        "grid": spaces.Box(0, 255, (7, 7, 3), np.uint8),
        "flat": spaces.Box(0, 255, (7, 7), np.uint8),
        "mission": spaces.Text(60),
        "arm": spaces.Dict(
            {
                "angle": spaces.Box(-np.inf, np.inf, (2, 2), np.float32),
                "joints": spaces.Tuple(
                    (spaces.Box(-1.0, 1.0, (3,), np.float64), spaces.Discrete(5))
                ),
            }
        ),
        "buttons": spaces.MultiBinary(4),
        "room": spaces.Discrete(3),
    }
)
LOW, HIGH = np.array([[-2, -np.inf], [2, np.inf]], np.float32)
ACTIONS = spaces.Dict(
    {
        "move": spaces.Box(LOW, HIGH),
        "grip": spaces.Discrete(3),
        "keys": spaces.MultiDiscrete([2, 5]),
    }
)


def nested_buffer(number: int, steps: int) -> EpisodeBuffer:
    generator = np.random.default_rng(number)
    length = steps + 1

    def integers(high: int, *shape: int, dtype: Any = np.int64) -> Any:
        return generator.integers(0, high, (length, *shape), dtype=dtype)

    # Smooth images, so that JPEG frames differ in length but hardly in colour.
    ramp = np.linspace(0, 200, 48 * 32).reshape(48, 32) + number
    frames = np.stack([ramp + t for t in range(length)]).astype(np.uint8)
    return EpisodeBuffer(
        id=number,
        seed=number,
        observations={
            "camera": np.stack([frames, frames // 2, 255 - frames], -1),
            "depth": frames,
            "grid": integers(11, 7, 7, 3, dtype=np.uint8),
            "flat": integers(11, 7, 7, dtype=np.uint8),
            "mission": [f"gehe zur Tür {t}" for t in range(length)],
            "arm": {
                "angle": generator.normal(size=(length, 2, 2)).astype(np.float32),
                "joints": (generator.uniform(-1, 1, (length, 3)), integers(5)),
            },
            "buttons": integers(2, 4, dtype=np.int8),
            "room": integers(3),
        },
        actions={
            "move": generator.normal(size=(steps, 2)).astype(np.float32),
            "grip": generator.integers(0, 3, steps),
            "keys": generator.integers(0, [2, 5], (steps, 2)),
        },
        rewards=list(generator.normal(size=steps)),
        terminations=[False] * steps,
        truncations=[False] * (steps - 1) + [True],
        infos={"success": np.full((length, 1), number % 2 == 0)},
    )


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """Data sets of nested observations by `<layout>-<jpeg_encoding>`."""
    root = tmp_path_factory.mktemp("minari")
    buffers = [nested_buffer(number, 1 + number % 5) for number in range(NUM_EPISODES)]
    return {
        f"{layout}-{jpeg}": write(
            root,
            f"arms/reach/{layout}{jpeg}-v0",
            buffers,
            NESTED,
            ACTIONS,
            data_format=layout,
            jpeg_encoding=jpeg,
        )
        for layout in LAYOUTS
        for jpeg in (False, True)
    }


def walk(
    root: pathlib.Path, num_episodes: int = NUM_EPISODES, **settings: Any
) -> pathlib.Path:
    """A small data set of floats, as a fresh copy to damage."""
    raw = raw_inputs.random_walks(0, num_episodes, steps=(3, 6))
    return raw_inputs.write_minari(root, "toy/walk/expert-v0", raw, **settings)


def theirs(path: pathlib.Path) -> Iterator[Any]:
    return minari.MinariDataset(path / "data").iterate_episodes()


def flattened(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key, child in tree.items():
            yield from flattened(child, f"{prefix}/{key}" if prefix else key)
    elif isinstance(tree, tuple):
        yield from flattened({str(i): child for i, child in enumerate(tree)}, prefix)
    else:
        yield prefix, tree


def assert_same(ours: Any, expected: Any) -> None:
    if isinstance(expected, list):
        assert list(ours) == expected
    else:
        assert ours.dtype == np.asarray(expected).dtype
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("jpeg", [False, True])
def test_reads_what_minari_reads(
    nested: dict[str, pathlib.Path], layout: str, jpeg: bool
) -> None:
    path = nested[f"{layout}-{jpeg}"]
    episodes = read_episodes(path)
    expected = list(theirs(path))
    assert [e.number for e in episodes] == [e.id for e in expected]
    assert len(episodes) == NUM_EPISODES
    for ours, other in zip(episodes, expected, strict=True):
        steps = len(other.rewards)
        np.testing.assert_array_equal(ours.rewards, other.rewards)
        observations = dict(flattened(other.observations, ""))
        assert ours.observations.keys() == observations.keys()
        for key, column in observations.items():
            assert len(column) == steps + 1
            assert_same(ours.observations[key], column[:steps])
        actions = dict(flattened(other.actions, ""))
        assert ours.actions.keys() == actions.keys()
        for key, column in actions.items():
            assert_same(ours.actions[key], column)
        assert ours.success == bool(other.infos["success"].any())


def test_jpeg_images_are_decoded_and_small_grids_were_never_encoded(
    nested: dict[str, pathlib.Path],
) -> None:
    raw = read_episodes(nested["hdf5-False"])[3].observations
    decoded = read_episodes(nested["hdf5-True"])[3].observations
    for key in ("camera", "depth"):
        before, after = np.asarray(raw[key], float), np.asarray(decoded[key], float)
        assert before.shape == after.shape
        assert 0 < np.abs(before - after).max() < 16
    np.testing.assert_array_equal(raw["flat"], decoded["flat"])


def test_says_what_the_spaces_say_of_actions(nested: dict[str, pathlib.Path]) -> None:
    found = read_episodes(nested["arrow-False"])[0].action_spaces
    assert set(found) == {"move", "grip", "keys"}
    assert (found["grip"].num_values, found["keys"].num_values) == (3, 5)
    assert found["move"].num_values is None
    np.testing.assert_array_equal(found["move"].low, [-2, -np.inf])
    np.testing.assert_array_equal(found["move"].high, [2, np.inf])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_start_of_discrete_spaces_is_subtracted(
    tmp_path: pathlib.Path, layout: str
) -> None:
    both = spaces.Dict(
        {
            "one": spaces.Discrete(3, start=-1),
            "many": spaces.MultiDiscrete([3, 2], start=[5, 0]),
        }
    )
    buffer = EpisodeBuffer(
        id=0,
        observations=np.array([4, 5, 6]),
        actions={"one": np.array([-1, 1]), "many": np.array([[7, 1], [5, 0]])},
        rewards=[0.0, 1.0],
        terminations=[False, True],
        truncations=[False, False],
        infos={},
    )
    room = spaces.Discrete(3, start=4)
    path = write(tmp_path, "a/b/c-v0", [buffer], room, both, data_format=layout)
    (episode,) = read_episodes(path)
    np.testing.assert_array_equal(episode.observations["observation"], [0, 1])
    np.testing.assert_array_equal(episode.actions["one"], [0, 2])
    np.testing.assert_array_equal(episode.actions["many"], [[2, 1], [0, 0]])
    assert episode.action_spaces["many"].num_values == 3


def test_bare_spaces_have_keys_of_their_own(tmp_path: pathlib.Path) -> None:
    episode = read_episodes(walk(tmp_path))[0]
    assert list(episode.observations) == ["observation"]
    assert list(episode.actions) == ["action"]


def test_ids_task_and_agent(tmp_path: pathlib.Path) -> None:
    path = walk(tmp_path, env_id="Toy/Walk-v1")
    episode = read_episodes(path)[11]
    assert episode.episode_id == "toy/walk/expert-v0/11"
    assert (episode.task, episode.agent) == ("Toy/Walk-v1", "toy/walk/expert-v0")
    given = read_episodes(path, dataset(task="walk", agent="me"))[11]
    assert (given.task, given.agent) == ("walk", "me")
    assert given.episode_id == episode.episode_id


def change_metadata(path: pathlib.Path, **changes: Any) -> None:
    """Sets keys of metadata.json; None removes one."""
    file = path / "data" / "metadata.json"
    content = json.loads(file.read_text()) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    file.write_text(json.dumps(kept))


def test_ids_from_the_folder(tmp_path: pathlib.Path) -> None:
    path = walk(tmp_path)
    change_metadata(path, dataset_id=None)
    episode = read_episodes(path)[0]
    assert episode.episode_id == "toy/walk/expert-v0/0"
    assert (episode.task, episode.agent) == ("toy/walk", "toy/walk/expert-v0")
    # Without namespaces, no part of this machine's layout enters the id.
    for file in tmp_path.rglob("namespace_metadata.json"):
        file.unlink()
    assert read_episodes(path)[0].episode_id == "expert-v0/0"


@pytest.mark.parametrize(
    ("dataset_id", "task"),
    [
        ("D4RL/door/human-v2", "D4RL/door"),
        ("babyai/goto-v0", "babyai/goto"),
        ("goto-v12", "goto"),
        ("a/b/c/d-v0", "a/b/c"),
    ],
)
def test_task_without_an_environment(
    tmp_path: pathlib.Path, dataset_id: str, task: str
) -> None:
    path = walk(tmp_path, 1)
    change_metadata(path, dataset_id=dataset_id, env_spec="{broken")
    assert read_episodes(path)[0].task == task


def test_random_return(tmp_path: pathlib.Path) -> None:
    path = walk(tmp_path, 1)
    assert read_episodes(path)[0].random_return is None
    change_metadata(path, ref_min_score=-3.5)
    assert read_episodes(path)[0].random_return == -3.5


def info_set(root: pathlib.Path, layout: str, infos: dict[str, Any]) -> pathlib.Path:
    raw = raw_inputs.random_walks(0, 1, steps=(3, 3))
    episode = raw.episodes[0]
    buffer = EpisodeBuffer(
        id=0,
        observations=episode.observations,
        actions=episode.actions,
        rewards=list(episode.rewards),
        terminations=[False] * 3,
        truncations=[False] * 3,
        infos=infos,
    )
    spaces_ = (raw.observation_space, raw.action_space)
    return write(root, "a/b/c-v0", [buffer], *spaces_, data_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_success_comes_from_infos(tmp_path: pathlib.Path, layout: str) -> None:
    falls = np.array([[False], [True], [False], [False]])
    infos = {"is_success": falls, "eval": {"won": np.zeros((4, 1))}}
    path = info_set(tmp_path, layout, infos)
    assert read_episodes(path)[0].success is True
    for key, success in (("eval/won", False), ("is_success", True), ("other", None)):
        config = dataset(filter={"by": "success", "success_key": key})
        assert read_episodes(path, config)[0].success is success


def test_success_of_t_values_and_none(tmp_path: pathlib.Path) -> None:
    path = info_set(tmp_path, "hdf5", {"success": np.array([0.0, 0.0, 1.0])})
    assert read_episodes(path)[0].success is True
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        del file["episode_0/infos"]
    assert read_episodes(path)[0].success is None


@pytest.mark.parametrize("layout", ["hdf5-True", "arrow-False", "parquet-False"])
def test_partitions_cover_the_whole(
    nested: dict[str, pathlib.Path], layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(nested[layout])
    whole = [e.number for e in read_episodes(path)]
    size = sum(files.size(f) for f in MinariSource().files(path))
    monkeypatch.setattr(base, "MAX_PARTITION_BYTES", size // 3)
    parts = MinariSource().partition(path, "x", dataset())
    assert len(parts) in (3, 4)
    assert all(part.num_bytes <= size // 3 for part in parts)
    assert parts == MinariSource().partition(path, "x", dataset())
    assert [p.first_number for p in parts] == [p.start for p in parts]
    assert [e.number for e in read_episodes(path)] == whole
    assert pickle.loads(pickle.dumps(MinariSource())).files(path)


def test_files_are_all_that_data_holds(nested: dict[str, pathlib.Path]) -> None:
    for layout in ("hdf5-False", "arrow-False"):
        path = nested[layout]
        expected = sorted(str(f) for f in (path / "data").rglob("*") if f.is_file())
        assert MinariSource().files(str(path)) == expected


def test_paths_of_another_kind(tmp_path: pathlib.Path) -> None:
    path = walk(tmp_path / "raw", 1)
    source = MinariSource()
    for wrong, hint in (
        (path / "data", f"give its folder, {path}"),
        (path.parent, f"give {path.parent}/*"),
        (tmp_path / "raw", f"give {tmp_path}/raw/*/*/*"),
        (path / "data" / "main_data.hdf5", "this is a file"),
        (tmp_path / "none", "there is nothing here"),
    ):
        with pytest.raises(UsageError, match="data set's folder") as caught:
            source.files(str(wrong))
        assert hint in str(caught.value)


def test_a_namespace_file_beside_data_sets_is_none(tmp_path: pathlib.Path) -> None:
    beside = str(walk(tmp_path, 1).parent / "namespace_metadata.json")
    assert files.exists(beside)
    assert MinariSource().files(beside) == []
    assert MinariSource().partition(beside, "x", dataset()) == []


def test_reads_from_another_store(nested: dict[str, pathlib.Path]) -> None:
    store = fsspec.filesystem("memory")
    for layout in ("hdf5-False", "arrow-False", "parquet-True"):
        path = nested[layout]
        url = f"memory://minari/{layout}"
        store.put(str(path), f"/minari/{layout}", recursive=True)
        try:
            ours, local = read_episodes(url), read_episodes(path)
            assert len(MinariSource().files(url)) == len(
                MinariSource().files(str(path))
            )
        finally:
            store.rm("/minari", recursive=True)
        assert [e.episode_id for e in ours] == [e.episode_id for e in local]
        np.testing.assert_array_equal(
            ours[-1].observations["camera"], local[-1].observations["camera"]
        )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reads_without_spaces(nested: dict[str, pathlib.Path], layout: str) -> None:
    before = nested[f"{layout}-False"]
    expected = read_episodes(before)
    path = before.with_name(f"spaceless-{layout}")
    shutil.copytree(before, path, dirs_exist_ok=True)
    change_metadata(path, observation_space=None, action_space=None)
    for ours, other in zip(read_episodes(path), expected, strict=True):
        assert ours.observations.keys() == other.observations.keys()
        assert ours.action_spaces == {}
        assert ours.observations["mission"] == other.observations["mission"]
        np.testing.assert_array_equal(ours.actions["move"], other.actions["move"])


# What is damaged


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


def test_text_that_is_not_utf8(nested: dict[str, pathlib.Path]) -> None:
    path = nested["hdf5-False"].with_name("latin")
    shutil.copytree(nested["hdf5-False"], path, dirs_exist_ok=True)
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        file["episode_4/observations/mission"][0] = b"T\xfcr"  # type: ignore[index]
    assert verdicts(read(path)) == [(4, Reason.NOT_UTF8)]


def test_jpeg_that_cannot_be_decoded(nested: dict[str, pathlib.Path]) -> None:
    path = nested["hdf5-True"].with_name("scratched")
    shutil.copytree(nested["hdf5-True"], path, dirs_exist_ok=True)
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

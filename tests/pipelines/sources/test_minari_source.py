"""Our Minari reader beside Minari's own."""

import pathlib
import pickle
import shutil
from collections.abc import Iterator
from typing import Any

import fsspec
import h5py
import minari
import minari_sets
import numpy as np
import pytest
import raw_inputs
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari_sets import (
    LAYOUTS,
    NUM_EPISODES,
    change_metadata,
    dataset,
    read_episodes,
    walk,
    write,
)

from gato.pipelines.sources import base
from gato.pipelines.sources.minari import MinariSource
from gato.schemas import files
from gato.schemas.errors import UsageError


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """Data sets of nested observations by `<layout>-<jpeg_encoding>`."""
    root = tmp_path_factory.mktemp("minari")
    return {
        f"{layout}-{jpeg}": minari_sets.write_nested(root, layout, jpeg)
        for layout in LAYOUTS
        for jpeg in (False, True)
    }


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
        observations=[4, 5, 6],
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

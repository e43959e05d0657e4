"""The RLDS reader: which steps are timesteps, names, order, partitions, options."""

import json
import pathlib
import subprocess
import sys
from typing import Any

import cv2
import fsspec
import numpy as np
import pytest
import rlds_sets
from rlds_sets import (
    MARKS,
    WALK_STEP,
    dataset,
    image,
    named,
    read_episodes,
    tensor,
    text,
    walk,
    write,
    write_walks,
)

from gato.pipelines.sources import rlds_fallback
from gato.pipelines.sources.rlds import RldsSource
from gato.schemas.errors import UsageError

FLOATS = np.float32


def test_the_padding_step_is_no_timestep(tmp_path: pathlib.Path) -> None:
    values = walk(7, 4)
    (episode,) = read_episodes(write(tmp_path, [[values]]))
    assert len(values["steps/reward"]) == 5
    np.testing.assert_array_equal(
        episode.observations["observation"], values["steps/observation"][:4]
    )
    np.testing.assert_array_equal(episode.actions["action"], values["steps/action"][:4])
    np.testing.assert_array_equal(episode.rewards, values["steps/reward"][:4])
    assert episode.rewards.dtype == np.float64


def test_an_episode_cut_off_keeps_all_steps(tmp_path: pathlib.Path) -> None:
    values = walk(7, 4, last=False)
    (episode,) = read_episodes(write(tmp_path, [[values]]))
    assert len(episode.rewards) == 4
    np.testing.assert_array_equal(episode.actions["action"], values["steps/action"])


@pytest.mark.parametrize("mark", ["steps/is_last", "steps/is_terminal"])
def test_nothing_behind_the_first_mark_is_a_timestep(
    tmp_path: pathlib.Path, mark: str
) -> None:
    values = walk(7, 6)
    values[mark][3] = 1
    (episode,) = read_episodes(write(tmp_path, [[values]]))
    assert len(episode.rewards) == 3


def test_a_set_without_marks_keeps_all_steps(tmp_path: pathlib.Path) -> None:
    step = {k: v for k, v in WALK_STEP.items() if not k.startswith("is_")}
    (episode,) = read_episodes(write(tmp_path, [[walk(7, 4)]], step=step))
    assert len(episode.rewards) == 5


def test_a_set_without_rewards_has_returns_of_0(tmp_path: pathlib.Path) -> None:
    step = {k: v for k, v in WALK_STEP.items() if k != "reward"}
    (episode,) = read_episodes(write(tmp_path, [[walk(7, 4)]], step=step))
    np.testing.assert_array_equal(episode.rewards, np.zeros(4))


def test_ids_and_names_of_the_builder(tmp_path: pathlib.Path) -> None:
    (episode,) = read_episodes(write_walks(tmp_path / "1.0.0", [[17]]))
    assert episode.episode_id == "toy/1.0.0/train/17"
    assert (episode.task, episode.agent) == ("toy", "toy/1.0.0")
    assert (episode.number, episode.source) == (17, str(tmp_path / "1.0.0"))


def test_sets_of_one_name_in_two_folders_differ(tmp_path: pathlib.Path) -> None:
    path = write_walks(tmp_path, [[1]], configName="small")
    (item,) = rlds_sets.read(path, relative="noisy/toy/small/1.0.0")
    assert getattr(item, "episode_id", "") == "noisy/toy/small/1.0.0/train/1"
    (item,) = rlds_sets.read(path, relative="1.0.0")
    assert getattr(item, "agent", "") == "toy/small/1.0.0"


@pytest.mark.parametrize("in_metadata", [False, True])
def test_names_of_the_episode(tmp_path: pathlib.Path, in_metadata: bool) -> None:
    nodes = {"task": text(), "agent": text(), "episode_id": text()}
    found = {"task": [b"lift"], "agent": [b"human"], "episode_id": [b"run-3"]}
    prefix = "episode_metadata/" if in_metadata else ""
    values: dict[str, Any] = walk(0, 2)
    del values["episode_id"]
    values |= {prefix + key: value for key, value in found.items()}
    episode_nodes = {"episode_metadata": named(nodes)} if in_metadata else nodes
    path = write(tmp_path, [[values]], episode=episode_nodes)
    (episode,) = read_episodes(path)
    assert (episode.task, episode.agent) == ("lift", "human")
    assert episode.episode_id == "toy/1.0.0/train/run-3"
    assert episode.number == 0
    (partition,) = RldsSource().partition(str(path), "1.0.0", dataset())
    assert partition.order == "file"  # a text is no number
    (episode,) = read_episodes(path, dataset(task="push", agent="robot"))
    assert (episode.task, episode.agent) == ("push", "robot")


def test_numbers_give_the_order(tmp_path: pathlib.Path) -> None:
    path = write_walks(tmp_path, [[9, 3, 11], [10, 2]])
    partitions = RldsSource().partition(str(path), "1.0.0", dataset())
    assert [p.order for p in partitions] == ["number", "number"]
    assert [p.num_items for p in partitions] == [3, 2]
    assert [p.first_number for p in partitions] == [0, 3]
    assert all(p.num_bytes > 0 for p in partitions)
    episodes = read_episodes(path)
    assert [e.number for e in episodes] == [3, 9, 11, 2, 10]
    for episode in episodes:
        expected = walk(episode.number, 1 + episode.number % 5)
        np.testing.assert_array_equal(
            episode.actions["action"], expected["steps/action"][:-1]
        )


def test_without_numbers_the_files_give_the_order(tmp_path: pathlib.Path) -> None:
    path = write_walks(tmp_path, [[9, 3, 11], [10, 2]], episode={})
    partitions = RldsSource().partition(str(path), "1.0.0", dataset())
    assert [p.order for p in partitions] == ["file", "file"]
    episodes = read_episodes(path)
    assert [e.number for e in episodes] == [0, 1, 2, 3, 4]
    assert [e.episode_id for e in episodes][-1] == "toy/1.0.0/train/4"
    assert [len(e.rewards) for e in episodes] == [5, 4, 2, 1, 3]


def test_an_old_info_without_lengths_and_template(tmp_path: pathlib.Path) -> None:
    splits = [{"name": "train", "numShards": "2"}]
    for number, info in enumerate((splits, [{"name": "train"}])):
        path = write_walks(tmp_path / str(number), [[9, 3], [2]], splits=info)
        (partition,) = RldsSource().partition(str(path), "1.0.0", dataset())
        assert partition.num_items is None
        assert [e.number for e in read_episodes(path)] == [2, 3, 9]


def test_features_json_of_old_versions(tmp_path: pathlib.Path) -> None:
    path = write_walks(tmp_path, [[1, 2]])
    new = [e.actions["action"] for e in read_episodes(path)]

    def old(class_name: str, content: Any) -> dict[str, Any]:
        return {"type": f"tensorflow_datasets.core.features.{class_name}", **content}

    def tensor(dtype: str, *shape: int) -> dict[str, Any]:
        content = {"shape": list(shape), "dtype": dtype}
        return old("feature.Tensor", {"content": content})

    steps = {
        "observation": tensor("float32", 3),
        "action": tensor("float32", 2),
        "reward": tensor("float32"),
        **{name: tensor("bool") for name in MARKS},
    }
    inner = old("features_dict.FeaturesDict", {"content": steps})
    root = {
        "steps": old(
            "dataset_feature.Dataset", {"content": {"feature": inner, "length": None}}
        ),
        "episode_id": old(
            "tensor_feature.Tensor",
            {
                "content": json.dumps({"shape": {}, "dtype": "int64"}),
                "proto_cls": "tensorflow_datasets.TensorFeature",
            },
        ),
    }
    content = old("features_dict.FeaturesDict", {"content": root})
    (path / "features.json").write_text(json.dumps(content))
    for expected, episode in zip(new, read_episodes(path), strict=True):
        np.testing.assert_array_equal(episode.actions["action"], expected)


def _success(path: pathlib.Path, config: Any = None) -> list[bool | None]:
    return [e.success for e in read_episodes(path, config)]


def test_success(tmp_path: pathlib.Path) -> None:
    values = [walk(n, 2) | {"success": np.array([n])} for n in range(2)]
    nodes = {"episode_id": tensor("int64"), "success": tensor("bool")}
    beside = write(tmp_path / "a", [values], episode=nodes)
    assert _success(beside) == [False, True]
    values = [walk(n, 2) | {"steps/done": np.array([0, 0, n])} for n in range(2)]
    step = WALK_STEP | {"done": tensor("int32")}
    in_steps = write(tmp_path / "b", [values], step=step)
    assert _success(in_steps) == [None, None]
    config = dataset(filter={"by": "success", "success_key": "done"})
    assert _success(in_steps, config) == [False, True]


def test_bounds_and_classes_of_actions(tmp_path: pathlib.Path) -> None:
    label = {
        "pythonClassName": (
            "tensorflow_datasets.core.features.class_label_feature.ClassLabel"
        ),
        "classLabel": {"numClasses": "5"},
    }
    actions = {
        "move": tensor("float32", 2, minimum="-2", maximum="3"),
        "key": label,
        "grip": tensor("int32", minimum="0", maximum="2"),
        "free": tensor("float32"),
    }
    values: dict[str, Any] = walk(0, 1)
    move = values.pop("steps/action")
    values |= {f"steps/action/{k}": [1, 2] for k in ("key", "grip")}
    values |= {"steps/action/free": np.ones(2, FLOATS), "steps/action/move": move}
    path = write(tmp_path, [[values]], step=WALK_STEP | {"action": named(actions)})
    (episode,) = read_episodes(path)
    spaces = episode.action_spaces
    assert (spaces["key"].num_values, spaces["grip"].num_values) == (5, 3)
    assert spaces["free"].low is None
    np.testing.assert_array_equal(spaces["move"].low, [-2, -2])  # type: ignore[arg-type]
    np.testing.assert_array_equal(spaces["move"].high, [3, 3])  # type: ignore[arg-type]


def png(*shape: int, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, shape, np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def write_images(path: pathlib.Path, images: list[bytes], *shape: int) -> pathlib.Path:
    """One episode of these images and a padding step without one."""
    values: dict[str, Any] = walk(0, len(images))
    del values["steps/observation"]
    values["steps/observation/camera"] = [*images, b""]
    observation = named({"camera": image(*shape)})
    return write(path, [[values]], step=WALK_STEP | {"observation": observation})


def test_images_are_passed_through_undecoded(tmp_path: pathlib.Path) -> None:
    images = [png(16, 32, 3, seed=n) for n in range(3)]
    path = write_images(tmp_path, images, 16, 32, 3)
    (episode,) = read_episodes(path)
    assert episode.observations["camera"] == images


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_small_images_are_grids_of_numbers(
    tmp_path: pathlib.Path, channels: int
) -> None:
    images = [png(7, 7, channels, seed=n) for n in range(3)]
    path = write_images(tmp_path, images, 7, 7, channels)
    (episode,) = read_episodes(path)
    found = np.asarray(episode.observations["camera"])
    assert found.shape == (3, 7, 7, channels)
    if channels != 4:
        bgr = cv2.imdecode(np.frombuffer(images[1], np.uint8), cv2.IMREAD_UNCHANGED)
        assert bgr is not None
        expected = bgr.reshape(7, 7, channels)[..., ::-1]
        np.testing.assert_array_equal(found[1], expected)


def test_images_whose_kind_the_config_says_are_numbers(tmp_path: pathlib.Path) -> None:
    path = write_images(tmp_path, [png(16, 16, 3)], 16, 16, 3)
    config = dataset(observations={"kinds": {"camera": "discrete"}})
    (episode,) = read_episodes(path, config)
    assert np.asarray(episode.observations["camera"]).shape == (1, 16, 16, 3)


def test_splits(tmp_path: pathlib.Path) -> None:
    path = write_walks(tmp_path, [[1, 2]], split="test")
    assert len(read_episodes(path, dataset(split="test"))) == 2
    with pytest.raises(UsageError, match=r"must be one of test, .* got 'train'"):
        RldsSource().partition(str(path), "1.0.0", dataset())
    for part in ("train[:10%]", "train+test"):
        with pytest.raises(ValueError, match="parts and sums of splits are not read"):
            dataset(split=part)


def test_other_paths_are_refused_with_what_to_give(tmp_path: pathlib.Path) -> None:
    version = write_walks(tmp_path / "toy" / "1.0.0", [[1]])
    source = RldsSource()
    names = [name.rpartition("/")[2] for name in source.files(str(version))]
    assert names == [
        "dataset_info.json",
        "features.json",
        "toy-train.tfrecord-00000-of-00001",
    ]
    with pytest.raises(UsageError, match=r"lie below it, give .*/toy/\*"):
        source.files(str(tmp_path / "toy"))
    with pytest.raises(UsageError, match="this is a file"):
        source.files(str(version / "features.json"))
    with pytest.raises(UsageError, match="nothing in it"):
        source.files(str(tmp_path / "nowhere"))
    for name in ("features.json", "dataset_info.json"):
        file = version / name
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(UsageError, match="the folder holds"):
            source.files(str(version))
        file.write_bytes(content)


def test_other_file_formats_are_refused(tmp_path: pathlib.Path) -> None:
    path = write_walks(tmp_path, [[1]], fileFormat="array_record")
    with pytest.raises(UsageError, match=r"are array_record\. Write them again"):
        RldsSource().partition(str(path), "1.0.0", dataset())


def test_a_set_without_episodes_is_refused(tmp_path: pathlib.Path) -> None:
    path = write_walks(tmp_path, [[1]])
    content = named({"image": image(16, 16, 3), "label": tensor("int64")})
    (path / "features.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"features\.json has image, label"):
        RldsSource().partition(str(path), "1.0.0", dataset())


VIDEO = {
    "pythonClassName": "tensorflow_datasets.core.features.video_feature.Video",
    "video": {"shape": {"dimensions": ["-1", "16", "16", "3"]}},
}


def write_unknown(path: pathlib.Path) -> pathlib.Path:
    observation = named({"clip": VIDEO, "state": tensor("float32", 3)})
    values: dict[str, Any] = walk(0, 2)
    values["steps/observation/state"] = values.pop("steps/observation")
    return write(path, [[values]], step=WALK_STEP | {"observation": observation})


def test_an_unknown_feature_that_is_left_out_is_no_hindrance(
    tmp_path: pathlib.Path,
) -> None:
    config = dataset(observations={"exclude": ["clip"]})
    (episode,) = read_episodes(write_unknown(tmp_path), config)
    assert list(episode.observations) == ["state"]


def test_an_unknown_feature_needs_tensorflow_datasets(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rlds_fallback, "_PACKAGE", "not_installed")
    path = write_unknown(tmp_path)
    with pytest.raises(UsageError, match=r"'clip' \(.*Video\).*gato-pipelines\[rlds\]"):
        RldsSource().partition(str(path), "1.0.0", dataset())


def test_reading_imports_no_tensorflow(tmp_path: pathlib.Path) -> None:
    path = write_walks(tmp_path, [[1, 2]])
    code = (
        "import sys, rlds_sets\n"
        f"assert len(rlds_sets.read_episodes({str(path)!r})) == 2\n"
        "print([m for m in sys.modules if m.startswith('tensorflow')])"
    )
    folder = pathlib.Path(rlds_sets.__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_a_folder_of_an_object_store_reads_the_same(tmp_path: pathlib.Path) -> None:
    local = write_walks(tmp_path, [[9, 3], [2]])
    store = fsspec.filesystem("memory")
    try:
        store.put(str(local), "/bucket/toy", recursive=True)
        (folder,) = (
            p.rpartition("/")[0] for p in store.glob("/bucket/**/features.json")
        )
        stored = read_episodes(f"memory://{folder}")
    finally:
        store.rm("/bucket", recursive=True)
    expected = read_episodes(local)
    assert [e.episode_id for e in stored] == [e.episode_id for e in expected]
    for ours, other in zip(stored, expected, strict=True):
        np.testing.assert_array_equal(ours.actions["action"], other.actions["action"])

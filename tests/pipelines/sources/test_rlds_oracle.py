"""The RLDS reader equals tensorflow-datasets, on folders that its own writer made.

TensorFlow runs in a process of its own; see `rlds_oracle.py`.
"""

import pathlib
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import rlds_sets
from rlds_sets import dataset

from gato.pipelines.sources.rlds import RldsSource
from gato.schemas.episode import Column, Episode
from gato.tokenizers.image import decode_image

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("tfds")
    program = pathlib.Path(rlds_sets.__file__).with_name("rlds_oracle.py")
    done = subprocess.run(
        [sys.executable, str(program), str(root)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return root


@pytest.fixture(scope="module")
def theirs(written: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    return pickle.loads((written / "read.pickle").read_bytes())


def num_steps(steps: dict[str, Any]) -> int:
    """Returns the steps before the last observation's, where one is marked."""
    is_last = [bool(mark) for mark in steps["is_last"]]
    return is_last.index(True) if True in is_last else len(is_last)


def flattened(key: str, values: list[Any]) -> dict[str, list[Any]]:
    """Returns a column of texts for each place; others as they are."""
    if np.asarray(values[0]).dtype.kind not in "SO" or np.ndim(values[0]) == 0:
        return {key: values}
    return {
        f"{key}/{place}": [value[place] for value in values]
        for place in range(len(values[0]))
    }


def check_column(key: str, ours: Column, theirs: list[Any]) -> None:
    assert len(ours) == len(theirs), key
    if isinstance(ours[0], str):
        assert list(ours) == [np.asarray(v).item().decode() for v in theirs], key
    elif isinstance(ours[0], bytes):
        for encoded, pixels in zip(ours, theirs, strict=True):
            assert isinstance(encoded, bytes)
            found = decode_image(encoded).astype(int)
            # Decoders of JPEG may round in their own ways.
            slack = 3 if encoded.startswith(b"\xff\xd8") else 0
            assert np.abs(found - pixels).max() <= slack, key
    else:
        expected = np.stack([np.asarray(value) for value in theirs])
        found = np.asarray(ours)
        assert found.dtype == expected.dtype or expected.size == 0, key
        np.testing.assert_array_equal(found, expected.reshape(found.shape), key)


def check_episode(ours: Episode, theirs: dict[str, Any]) -> None:
    steps = theirs["steps"]
    length = num_steps(steps)
    for group, columns in (
        ("observation", ours.observations),
        ("action", ours.actions),
    ):
        expected: dict[str, Any] = {}
        for key, values in steps.items():
            name, _, rest = key.partition("/")
            if name == group:
                expected |= flattened(rest or name, values[:length])
        assert set(columns) == set(expected)
        for key, column in columns.items():
            check_column(key, column, expected[key])
    np.testing.assert_array_equal(ours.rewards, np.array(steps["reward"][:length]))
    assert ours.success == any(bool(value) for value in steps["success"])


def by_number(episodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(episodes, key=lambda e: int(e["episode"]["episode_id"]))


def test_every_feature_equals(
    written: pathlib.Path, theirs: dict[str, list[dict[str, Any]]]
) -> None:
    ours = rlds_sets.read_episodes(written / "sink" / "1.0.0")
    expected = by_number(theirs["sink"])
    assert [e.number for e in ours] == list(range(6))
    for episode, other in zip(ours, expected, strict=True):
        check_episode(episode, other)
        assert episode.task == other["episode"]["episode_metadata/task"].item().decode()
        assert episode.agent == "human"
        assert episode.episode_id == f"sink/1.0.0/train/{episode.number}"
    # 13 types in 3 encodings and 2 shapes, but for 3 of `BEYOND`.
    assert len([k for k in ours[0].observations if k.startswith("tensors/")]) == 72
    # One episode was cut off: its last step is a timestep.
    lengths = [len(other["steps"]["reward"]) for other in expected]
    assert [len(e.rewards) for e in ours] == [
        n - (number % 4 > 0) for number, n in enumerate(lengths)
    ]


def test_episodes_of_several_shards_equal(
    written: pathlib.Path, theirs: dict[str, list[dict[str, Any]]]
) -> None:
    path = written / "many" / "small" / "1.0.0"
    partitions = RldsSource().partition(str(path), "1.0.0", dataset())
    assert len(partitions) == 3
    counts = [p.num_items for p in partitions]
    assert sum(c for c in counts if c is not None) == 20
    ours = rlds_sets.read_episodes(path)
    assert {e.task for e in ours} == {"many"}
    assert {e.agent for e in ours} == {"many/small/1.0.0"}
    ours = sorted(ours, key=lambda e: e.number)
    for episode, other in zip(ours, by_number(theirs["many"]), strict=True):
        assert episode.number == int(other["episode"]["episode_id"])
        check_episode(episode, other)


def test_the_files_order_is_theirs(
    written: pathlib.Path, theirs: dict[str, list[dict[str, Any]]]
) -> None:
    config = dataset(observations={"include": ["state"]})
    ours = rlds_sets.read_episodes(written / "film" / "1.0.0", config)
    assert [e.number for e in ours] == [0, 1, 2]
    for episode, other in zip(ours, theirs["film"], strict=True):
        steps = other["steps"]["observation/state"][: num_steps(other["steps"])]
        check_column("state", episode.observations["state"], steps)


def test_other_features_are_read_through_tensorflow_datasets(
    theirs: dict[str, list[Any]],
) -> None:
    assert len(theirs["ours"]) == 3
    for columns, other in zip(theirs["ours"], theirs["film"], strict=True):
        length = num_steps(other["steps"])
        assert set(columns) == {"depth", "clip", "state"}
        for key, column in columns.items():
            check_column(key, column, other["steps"][f"observation/{key}"][:length])

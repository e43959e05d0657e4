"""RL Unplugged's readers equal tensorflow-datasets' parsers of the same shards.

TensorFlow runs in a process of its own; see `rlu_oracle.py`.
"""

import pathlib
import pickle
import subprocess
import sys
from typing import Any

import episode_source
import numpy as np
import pytest
import rlu_sets

from gato.schemas.config import Dataset
from gato.schemas.episode import Episode

pytestmark = pytest.mark.slow
LAB_STEPS = 6


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("rlu")
    control = [rlu_sets.control_episode(seed, 4 + seed) for seed in range(3)]
    control[1]["discount"][-1] = 0
    rlu_sets.write_shard(root / "control", control)
    lab = [rlu_sets.lab_episode(seed, LAB_STEPS)[0] for seed in range(2)]
    rlu_sets.write_shard(root / "lab", lab)
    atari = [rlu_sets.atari_episode(seed, 5 + seed) for seed in range(3)]
    atari[2]["discounts"][:] = 1
    rlu_sets.write_shard(root / "atari", atari)
    frames = rlu_sets.atari_frames(0, 6)
    rows = rlu_sets.transitions(-3, frames, [1, 0, 2, 1, 1])
    rlu_sets.write_shard(root / "transitions", rows)
    program = pathlib.Path(rlu_sets.__file__).with_name("rlu_oracle.py")
    done = subprocess.run(
        [sys.executable, str(program), str(root)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return root


def theirs(root: pathlib.Path, name: str) -> list[dict[str, Any]]:
    return pickle.loads((root / "read.pickle").read_bytes())[name]


def ours(root: pathlib.Path, name: str, format: str) -> list[Episode]:
    config = Dataset(name="set", format=format, paths=("raw/*",))
    return episode_source.episodes(episode_source.read(root / name, name, config))


def check(
    episode: Episode, steps: dict[str, Any], observations: dict[str, Any]
) -> None:
    """Holds an episode to the steps before the one that `is_last` marks."""
    count = int(np.argmax(steps["is_last"]))
    assert count == len(steps["reward"]) - 1
    assert set(episode.observations) == set(observations)
    for key, values in observations.items():
        assert len(episode.observations[key]) == count
        assert np.array_equal(np.asarray(episode.observations[key]), values[:count])
    assert np.array_equal(
        np.asarray(episode.actions["action"]), steps["action"][:count]
    )
    assert np.array_equal(episode.rewards, steps["reward"][:count].astype(np.float64))


@pytest.mark.parametrize(
    ("name", "format"), [("control", "rlu_dm_control"), ("lab", "rlu_dmlab")]
)
def test_episodes(root: pathlib.Path, name: str, format: str) -> None:
    read = theirs(root, name)
    episodes = ours(root, name, format)
    assert len(episodes) == len(read) > 1
    for episode, expected in zip(episodes, read, strict=True):
        check(episode, expected["steps"], expected["steps"]["observation"])


def test_atari_episodes(root: pathlib.Path) -> None:
    read = theirs(root, "atari")
    episodes = ours(root, "atari", "rlu_atari")
    assert len(episodes) == len(read) == 3
    for episode, expected in zip(episodes, read, strict=True):
        steps = expected["steps"]
        check(episode, steps, {"observation": list(steps["observation"])})


def test_atari_transitions(root: pathlib.Path) -> None:
    rows = theirs(root, "transitions")
    (episode,) = ours(root, "transitions", "rlu_atari")
    assert episode.episode_id == f"transitions/{2**64 - 3}"
    assert list(episode.observations["observation"]) == [row["o_t"][3] for row in rows]
    assert np.asarray(episode.actions["action"]).tolist() == [r["a_t"] for r in rows]
    assert episode.rewards.tolist() == [row["r_t"] for row in rows]

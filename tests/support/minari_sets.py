"""Minari data sets for tests of its reader: nested ones, and small ones to damage."""

import json
import os
import pathlib
import unittest.mock
import warnings
from typing import Any

import episode_source
import minari
import numpy as np
import raw_inputs
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Unreadable

LAYOUTS = ("hdf5", "arrow", "parquet")
NUM_EPISODES = 12  # so that episode_10 sorts before episode_2 as text


def dataset(**settings: Any) -> Dataset:
    return Dataset(name="set", format="minari", paths=("raw/*",), **settings)


def read(
    path: pathlib.Path | str, config: Dataset | None = None
) -> list[Episode | Unreadable]:
    name = str(path).rpartition("/")[2]
    return episode_source.read(path, name, config or dataset())


def read_episodes(
    path: pathlib.Path | str, config: Dataset | None = None
) -> list[Episode]:
    return episode_source.episodes(read(path, config))


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


def write_nested(root: pathlib.Path, layout: str, jpeg: bool) -> pathlib.Path:
    """Writes `NUM_EPISODES` of one to five steps."""
    buffers = [nested_buffer(number, 1 + number % 5) for number in range(NUM_EPISODES)]
    return write(
        root,
        f"arms/reach/{layout}{jpeg}-v0",
        buffers,
        NESTED,
        ACTIONS,
        data_format=layout,
        jpeg_encoding=jpeg,
    )


def walk(
    root: pathlib.Path, num_episodes: int = NUM_EPISODES, **settings: Any
) -> pathlib.Path:
    """A small data set of floats, as a fresh copy to damage."""
    raw = raw_inputs.random_walks(0, num_episodes, steps=(3, 6))
    return raw_inputs.write_minari(root, "toy/walk/expert-v0", raw, **settings)


def change_metadata(path: pathlib.Path, **changes: Any) -> None:
    """Sets keys of metadata.json; None removes one."""
    file = path / "data" / "metadata.json"
    content = json.loads(file.read_text()) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    file.write_text(json.dumps(kept))

"""Steps a second of our Minari reader beside Minari's own `iterate_episodes`.

    python benchmarks/read_minari.py

Writes 60 Meta-World-like episodes of 150 steps (39 floats observed, 4 floats acted,
seven infos) with Minari in each layout, reads them both ways in turn, five times each
after one untimed, and prints the medians. Opening the data set counts on both sides.
"""

import os
import pathlib
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable

import gymnasium
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer

from gato.pipelines.sources.minari import MinariSource
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode

_EPISODES = 60
_STEPS = 150
_ROUNDS = 5
_INFOS = (
    "success",
    "near_object",
    "grasp_success",
    "grasp_reward",
    "in_place_reward",
    "obj_to_target",
    "unscaled_reward",
)


def write(dataset_id: str, data_format: str) -> None:
    generator = np.random.default_rng(0)
    buffers = [
        EpisodeBuffer(
            id=number,
            seed=number,
            observations=list(generator.normal(size=(_STEPS + 1, 39))),
            actions=list(generator.uniform(-1, 1, (_STEPS, 4)).astype(np.float32)),
            rewards=list(generator.normal(size=_STEPS)),
            terminations=[False] * _STEPS,
            truncations=[False] * (_STEPS - 1) + [True],
            infos={key: generator.normal(size=(_STEPS + 1, 1)) for key in _INFOS},
        )
        for number in range(_EPISODES)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        minari.create_dataset_from_buffers(
            dataset_id,
            buffers,
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (39,), np.float64),
            action_space=gymnasium.spaces.Box(-1, 1, (4,), np.float32),
            data_format=data_format,
        )


def read_theirs(dataset_id: str) -> int:
    dataset = minari.load_dataset(dataset_id)
    return sum(len(episode.rewards) for episode in dataset.iterate_episodes())


def read_ours(root: str, dataset_id: str) -> int:
    source = MinariSource()
    config = Dataset(name="bench", format="minari", paths=(root,))
    steps = 0
    path = str(pathlib.Path(root, dataset_id))
    for partition in source.partition(path, dataset_id, config):
        for item in source.read(partition, config):
            if not isinstance(item, Episode):
                raise SystemExit(f"unreadable: {item}")
            steps += len(item.rewards)
    return steps


def seconds(read: Callable[[], int]) -> float:
    start = time.perf_counter()
    steps = read()
    if steps != _EPISODES * _STEPS:
        raise SystemExit(f"read {steps} steps, expected {_EPISODES * _STEPS}")
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        os.environ["MINARI_DATASETS_PATH"] = root
        for data_format in ("hdf5", "arrow", "parquet"):
            dataset_id = f"bench/world/{data_format}-v0"
            write(dataset_id, data_format)

            def ours(dataset_id: str = dataset_id) -> int:
                return read_ours(root, dataset_id)

            def theirs(dataset_id: str = dataset_id) -> int:
                return read_theirs(dataset_id)

            # In turn, so that a busy moment of the machine falls on both.
            times = [(seconds(theirs), seconds(ours)) for _ in range(_ROUNDS + 1)][1:]
            their_rate, our_rate = (
                _EPISODES * _STEPS / statistics.median(column)
                for column in zip(*times, strict=True)
            )
            print(
                f"{data_format:8} minari {their_rate:9,.0f} steps/s   ours"
                f" {our_rate:9,.0f} steps/s   {our_rate / their_rate:.1f}x"
            )


if __name__ == "__main__":
    main()

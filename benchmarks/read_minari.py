"""Steps a second of our Minari reader beside Minari's own `iterate_episodes`.

    python benchmarks/read_minari.py

Writes 60 Meta-World-like episodes of 150 steps (39 floats observed, 4 floats acted,
seven infos) with Minari in each layout, reads them both ways in turn, five times each
after one untimed, and prints the medians. Opening the data set counts on both sides.
"""

import functools
import os
import pathlib
import tempfile
import warnings

import gymnasium
import minari
import numpy as np
from episode_reading import EPISODES, STEPS, rates, read_ours
from minari.data_collector import EpisodeBuffer

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
            observations=list(generator.normal(size=(STEPS + 1, 39))),
            actions=list(generator.uniform(-1, 1, (STEPS, 4)).astype(np.float32)),
            rewards=list(generator.normal(size=STEPS)),
            terminations=[False] * STEPS,
            truncations=[False] * (STEPS - 1) + [True],
            infos={key: generator.normal(size=(STEPS + 1, 1)) for key in _INFOS},
        )
        for number in range(EPISODES)
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


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        os.environ["MINARI_DATASETS_PATH"] = root
        for data_format in ("hdf5", "arrow", "parquet"):
            dataset_id = f"bench/world/{data_format}-v0"
            write(dataset_id, data_format)

            path = str(pathlib.Path(root, dataset_id))
            found = rates(
                {
                    "minari": functools.partial(read_theirs, dataset_id),
                    "ours": functools.partial(read_ours, "minari", path, dataset_id),
                }
            )
            their_rate, our_rate = found["minari"], found["ours"]
            print(
                f"{data_format:8} minari {their_rate:9,.0f} steps/s   ours"
                f" {our_rate:9,.0f} steps/s   {our_rate / their_rate:.1f}x"
            )


if __name__ == "__main__":
    main()

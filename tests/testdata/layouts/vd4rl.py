"""Writes archives in the layout of V-D4RL's 64x64 pixels.

Follows conversion_scripts/hdf5_to_npz.py (names, keys, `numpy.savez_compressed`) and
offlinedv2/dreamerv2/common/driver.py (a row holds an observation and the action before
it, the first row zeros) of https://github.com/conglu1997/v-d4rl at
1ceaf220c55a06f054f5c3c6ae28fbc4ff1acb84.
"""

import pathlib
import sys
from collections.abc import Sequence

import numpy as np


def write(folder: pathlib.Path, lengths: Sequence[int]) -> None:
    """Writes episodes of so many actions, an archive each.

    The red of a frame is the number of its row; the reward of a row is ten times that
    number, plus the episode's, and its action a thousandth of the reward.
    """
    folder.mkdir(parents=True)
    for number, length in enumerate(lengths):
        rows = np.arange(length + 1)
        image = np.full((length + 1, 64, 64, 3), number, np.uint8)
        image[..., 0] = rows[:, None, None]
        reward = (rows * 10 + number).astype(np.float32)
        action = np.repeat(reward[:, None], 6, 1) / 1000
        action[0] = reward[0] = 0
        episode = {
            "image": image,
            "action": action,
            "reward": reward,
            "discount": np.ones(length + 1, np.float32),
            "is_last": rows == length,
            "is_first": rows == 0,
            "is_terminal": np.zeros(length + 1, bool),
        }
        name = f"20220512T11{number:04d}-{number:032x}-{length + 1}.npz"
        np.savez_compressed(folder / name, **episode)


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]) / "walker_walk" / "expert" / "64px", [5, 5, 5])

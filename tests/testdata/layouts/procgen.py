"""Writes archives in the layout of the Procgen data of gen_dgrl.

Follows procgen/online/datasets/storage.py (keys, shapes, dtypes, names,
`numpy.savez_compressed`) and procgen/offline/dataloader.py (what is read back) of
https://github.com/facebookresearch/gen_dgrl at
9fa7e3a314491f1659e561da13c04cf982cb9897. procgen/README.md says that the published
files are named `.npy`; `numpy.load` goes by the content.
"""

import pathlib
import sys
from collections.abc import Sequence

import numpy as np


def write(folder: pathlib.Path, lengths: Sequence[int], suffix: str = ".npy") -> None:
    """Writes episodes of so many actions, an archive each."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number, length in enumerate(lengths):
        # The replay buffer holds torch floats, channels first.
        shape = (length + 1, 3, 64, 64)
        frames = np.repeat(generator.integers(0, 255, (*shape[:3], 1)), 64, axis=3)
        episode = {
            "observations": frames.astype(np.float32),
            "actions": generator.integers(0, 15, (length, 1)),
            "rewards": generator.integers(0, 2, (length, 1)).astype(np.float32),
            "dones": np.arange(length) == length - 1,
        }
        total = episode["rewards"].sum()
        name = f"20221101T1200{number:02d}_{number}_{length}_{40 + number}_{total:.2f}"
        path = folder / f"{name}{suffix}"
        with path.open("wb") as file:
            np.savez_compressed(file, **episode)


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]) / "expert" / "bigfish", [12, 30, 7])

"""Writes an HDF5 file in the layout of robomimic.

Follows docs/datasets/overview.md ("Dataset Structure"),
robomimic/scripts/dataset_states_to_obs.py (data sets and attributes) and
robomimic/utils/file_utils.py:create_hdf5_filter_key (mask) of
https://github.com/ARISE-Initiative/robomimic at
d309eaecc18acf4152a830a895a6984b8ac71b05.
"""

import json
import pathlib
import sys
from collections.abc import Sequence

import h5py
import numpy as np


def write(path: pathlib.Path, lengths: Sequence[int]) -> None:
    """Writes demonstrations of so many steps, half of them in `mask/train`."""
    generator = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for number, length in enumerate(lengths):
            demo = data.create_group(f"demo_{number}")
            demo.create_dataset("actions", data=generator.uniform(-1, 1, (length, 7)))
            demo.create_dataset("states", data=generator.normal(size=(length, 32)))
            rewards = np.zeros(length)
            rewards[-1] = number % 3 != 0
            demo.create_dataset("rewards", data=rewards)
            demo.create_dataset("dones", data=rewards.astype(np.int64))
            for key, shape in (("object", (10,)), ("robot0_eef_pos", (3,))):
                for group in ("obs", "next_obs"):
                    values = generator.normal(size=(length, *shape))
                    demo.create_dataset(f"{group}/{key}", data=values)
            image = generator.integers(0, 255, (length, 32, 48, 3), dtype=np.uint8)
            demo.create_dataset("obs/agentview_image", data=image, compression="gzip")
            demo.attrs["model_file"] = "<mujoco/>"
            demo.attrs["num_samples"] = length
        data.attrs["total"] = sum(lengths)
        data.attrs["env_args"] = json.dumps(
            {"env_name": "Lift", "env_type": 1, "env_kwargs": {"robots": "Panda"}},
            indent=4,
        )
        names = [f"demo_{number}" for number in range(len(lengths))]
        file["mask/train"] = np.array(names[1::2], dtype="S")
        file["mask/20_percent"] = np.array(names[::-1][:2], dtype="S")


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]) / "lift" / "ph" / "image.hdf5", range(1, 13))

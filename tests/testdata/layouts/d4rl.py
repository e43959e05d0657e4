"""Writes an HDF5 file in the layout of D4RL.

Follows scripts/generation/mujoco/collect_data.py (keys, dtypes, gzip, the cut at
`num_data`) and d4rl/offline_env.py (what is read back) of
https://github.com/Farama-Foundation/D4RL at 89141a689b0353b0dac3da5cba60da4b1b16254d.
"""

import pathlib
import sys
from collections.abc import Sequence

import h5py
import numpy as np


def write(
    path: pathlib.Path,
    lengths: Sequence[int],
    num_data: int | None = None,
    max_path: int = 10,
    timeouts: bool = True,
    column: bool = False,
) -> None:
    """Writes episodes of so many steps, those of `max_path` steps timed out.

    Args:
        path: The file.
        lengths: Of the episodes.
        num_data: Transitions after which the table is cut.
        max_path: Steps after which an episode is timed out.
        timeouts: Whether there is such a data set, which older files lack.
        column: Whether rewards and terminals are [N, 1], as some files have them.
    """
    generator = np.random.default_rng(0)
    num_steps = sum(lengths)
    last = np.cumsum(lengths) - 1
    timed_out = np.asarray(lengths) == max_path
    data = {
        "observations": generator.normal(size=(num_steps, 11)).astype(np.float32),
        "next_observations": generator.normal(size=(num_steps, 11)).astype(np.float32),
        "actions": generator.uniform(-1, 1, (num_steps, 3)).astype(np.float32),
        "rewards": generator.normal(size=num_steps).astype(np.float32),
        "terminals": np.zeros(num_steps, bool),
        "timeouts": np.zeros(num_steps, bool),
        "infos/action_log_probs": generator.normal(size=num_steps).astype(np.float32),
        "infos/qpos": generator.normal(size=(num_steps, 6)).astype(np.float32),
        "infos/qvel": generator.normal(size=(num_steps, 6)).astype(np.float32),
        "infos/success": np.arange(num_steps) % 7 == 0,
    }
    data["terminals"][last[~timed_out]] = True
    data["timeouts"][last[timed_out]] = True
    if not timeouts:
        del data["timeouts"]
    if column:
        for key in ("rewards", "terminals"):
            data[key] = data[key][:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, values in data.items():
            file.create_dataset(key, data=values[:num_data], compression="gzip")
        file["metadata/algorithm"] = np.bytes_("SAC")
        file["metadata/iteration"] = np.int32(1000)
        file["metadata/policy/nonlinearity"] = np.bytes_("relu")


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]) / "hopper_medium-v2.hdf5", [7, 10, 3, 10, 1])

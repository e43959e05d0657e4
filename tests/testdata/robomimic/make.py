"""Writes demonstrations in robomimic's layout, and what robomimic reads of them.

    pip install --no-deps robomimic==0.3.0
    pip install torch h5py psutil tqdm termcolor tensorboardX imageio && python make.py

writes `image.hdf5` by `../layouts/robomimic.py`, and `read.npz`: the episodes of the
whole file and of each list under `mask` as robomimic's `SequenceDataset` gives them,
under `<list>/<place>/<key>`, and their names under `<list>`. They were written on
2026-11-22 with torch 2.15.0 and h5py 3.16.0.
"""

import pathlib
import sys

import numpy as np
import robomimic.utils.obs_utils as obs_utils
from robomimic.utils.dataset import SequenceDataset

HERE = pathlib.Path(__file__).parent
# Eleven, so that demo_10 sorts before demo_2 as text.
LENGTHS = [1 + number % 2 for number in range(11)]
LOW_DIMENSIONAL = ["object", "robot0_eef_pos"]
IMAGES = ["agentview_image"]


def _read(path: str, split: str | None) -> tuple[list[str], list[dict]]:
    opened = SequenceDataset(
        path,
        obs_keys=(*LOW_DIMENSIONAL, *IMAGES),
        dataset_keys=("actions", "rewards"),
        load_next_obs=False,
        filter_by_attribute=split,
    )
    names = [str(name) for name in opened.demos]
    found = [opened.get_trajectory_at_index(place) for place in range(len(names))]
    opened.close_and_delete_hdf5_handle()
    return names, found


def main() -> None:
    """Writes the file, then reads all of it and one list."""
    # By its folder's name, as a module `robomimic` is robomimic's own.
    sys.path.insert(0, str(HERE.parent))
    from layouts.robomimic import write

    path = HERE / "image.hdf5"
    write(path, LENGTHS)
    obs_utils.initialize_obs_modality_mapping_from_dict(
        {"low_dim": LOW_DIMENSIONAL, "rgb": IMAGES}
    )
    read = {}
    for split in (None, "train", "20_percent"):
        title = split or "all"
        names, episodes = _read(str(path), split)
        read[title] = np.array(names)
        for place, episode in enumerate(episodes):
            for key in ("actions", "rewards"):
                read[f"{title}/{place}/{key}"] = episode[key]
            for key, values in episode["obs"].items():
                read[f"{title}/{place}/obs/{key}"] = values
    np.savez_compressed(HERE / "read.npz", **read)


if __name__ == "__main__":
    main()

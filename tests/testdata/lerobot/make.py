"""Writes a small data set with LeRobot itself, and what LeRobot reads of it.

    pip install lerobot==0.4.4 && python make.py v30    # v3.0
    pip install lerobot==0.3.3 datasets==3.6.0 && python make.py v21    # v2.1

writes `v30/reach` and `v30.npz`, or `v21/reach` and `v21.npz`, beside this file, as
they were written on 2026-11-22 with torch 2.10.0, PyAV 15.1.0 and pyarrow 26.0.1. The
frames of `v30` are H.264, those of `v21` AV1, which is that version's default.
"""

import inspect
import pathlib
import shutil
import sys

import numpy as np
from lerobot.datasets.lerobot_dataset import CODEBASE_VERSION, LeRobotDataset

LENGTHS = (6, 3, 5, 4, 2)
TASKS = ("push the block", "öffne die Tür")
FPS = 10


def _picture(dtype: str, height: int, width: int) -> dict:
    names = ["height", "width", "channels"]
    return {"dtype": dtype, "shape": (height, width, 3), "names": names}


FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (6,), "names": None},
    "observation.grid": {"dtype": "int64", "shape": (2, 3), "names": None},
    "observation.contact": {"dtype": "bool", "shape": (1,), "names": None},
    "observation.images.top": _picture("video", 48, 64),
    "observation.images.side": _picture("video", 32, 32),
    "observation.images.wrist": _picture("image", 32, 32),
    "action": {"dtype": "float32", "shape": (4,), "names": None},
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "next.success": {"dtype": "bool", "shape": (1,), "names": None},
}


def _frame(
    generator: np.random.Generator, episode: int, step: int
) -> dict[str, np.ndarray]:
    def picture(height: int, width: int, shift: int) -> np.ndarray:
        y, x = np.mgrid[:height, :width]
        flat = np.full((height, width), 40 * episode + 5 * (step + shift))
        red, green = x * 3 + 8 * (step + shift), y * 4 + 20 * episode
        return np.stack([red % 256, green % 256, flat], -1).astype(np.uint8)

    is_last = step == LENGTHS[episode] - 1
    return {
        "observation.state": generator.normal(size=6).astype(np.float32),
        "observation.grid": generator.integers(0, 9, (2, 3)),
        "observation.contact": np.array([step % 2 == 0]),
        "observation.images.top": picture(48, 64, 0),
        "observation.images.side": picture(32, 32, 1),
        "observation.images.wrist": picture(32, 32, 2),
        "action": generator.uniform(-1, 1, 4).astype(np.float32),
        "next.reward": np.array([is_last], np.float32),
        "next.success": np.array([is_last and episode != 2]),
    }


def write(root: pathlib.Path) -> None:
    """Writes the data set; v3.0 in files as small as they can be made."""
    shutil.rmtree(root, ignore_errors=True)
    options = {"vcodec": "h264"} if CODEBASE_VERSION == "v3.0" else {}
    data = LeRobotDataset.create(
        "toy/reach", FPS, FEATURES, root=root, robot_type="toy", **options
    )
    if CODEBASE_VERSION == "v3.0":
        data.meta.update_chunk_settings(
            data_files_size_in_mb=0.009, video_files_size_in_mb=0.0033
        )
    generator = np.random.default_rng(0)
    takes_task = "task" in inspect.signature(data.add_frame).parameters
    for episode, length in enumerate(LENGTHS):
        for step in range(length):
            frame, task = _frame(generator, episode, step), TASKS[episode % 2]
            if takes_task:
                data.add_frame(frame, task=task)
            else:
                data.add_frame({**frame, "task": task})
        data.save_episode()
    if hasattr(data, "finalize"):
        data.finalize()
    shutil.rmtree(root / "images", ignore_errors=True)  # what was encoded


def read(root: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns what LeRobot reads, a row a frame; images as uint8 [N, H, W, 3]."""
    data = LeRobotDataset("toy/reach", root=root, video_backend="pyav")
    rows = [data[index] for index in range(len(data))]
    found = {}
    for key in rows[0]:
        if key == "task":
            found[key] = np.array([row[key] for row in rows])
            continue
        values = np.stack([row[key].numpy() for row in rows])
        if key.startswith("observation.images"):
            values = np.round(values * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        found[key] = values
    return found


if __name__ == "__main__":
    folder = pathlib.Path(__file__).parent
    name = CODEBASE_VERSION.replace(".", "")
    if name != sys.argv[1]:
        sys.exit(f"this LeRobot writes {CODEBASE_VERSION}; see the top of this file")
    write(folder / name / "reach")
    np.savez_compressed(folder / f"{name}.npz", **read(folder / name / "reach"))

"""Writes small files as the JAT data set has them, and what `datasets` reads of them.

    pip install datasets==4.8.5 pillow && python make.py

writes `<task>/train-00000-of-00001.parquet` and `<task>.npz` beside this file, as they
were written on 2026-11-22 with pyarrow 26.0.1. Columns and features follow
data/envs/atari/create_atari_dataset.py, data/envs/babyai/create_babyai_dataset.py and
data/envs/metaworld/generate_dataset.py of https://github.com/huggingface/jat at
834b49c0ea28ba27cd7e0283a73b7c4f852ef622: a row is an episode. As there, images are
four grey frames as RGBA.
"""

import pathlib

import numpy as np
from datasets import Dataset, Features, Image, Sequence, Value, load_dataset
from PIL import Image as Pillow

LENGTHS = (4, 1, 7)
FLOATS = Sequence(Sequence(Value("float32")))
INTEGERS = Sequence(Value("int64"))


def _columns(task: str, generator: np.random.Generator) -> tuple[dict, Features]:
    features = {"rewards": Sequence(Value("float32"))}
    data = {"rewards": [generator.normal(size=n) for n in LENGTHS]}
    if task.startswith("atari"):
        y, x = np.mgrid[:48, :32]
        shapes = np.stack([x, y, x + y, 255 - x], -1)
        data["image_observations"] = [
            [Pillow.fromarray((shapes + 9 * t).astype(np.uint8)) for t in range(n)]
            for n in LENGTHS
        ]
        features["image_observations"] = Sequence(Image())
    elif task.startswith("babyai"):
        data["text_observations"] = [[f"gehe zur Tür {n}"] * n for n in LENGTHS]
        data["discrete_observations"] = [
            generator.integers(0, 11, (n, 148)).tolist() for n in LENGTHS
        ]
        features["text_observations"] = Sequence(Value("string"))
        features["discrete_observations"] = Sequence(INTEGERS)
    else:
        data["continuous_observations"] = [
            generator.normal(size=(n, 39)).tolist() for n in LENGTHS
        ]
        features["continuous_observations"] = FLOATS
    if task.startswith("metaworld"):
        data["continuous_actions"] = [
            generator.uniform(-1, 1, (n, 4)).tolist() for n in LENGTHS
        ]
        features["continuous_actions"] = FLOATS
    else:
        data["discrete_actions"] = [generator.integers(0, 6, n) for n in LENGTHS]
        features["discrete_actions"] = INTEGERS
    return data, Features(features)


def write(folder: pathlib.Path, task: str) -> None:
    """Writes one task's file, and what is read of it, episodes end to end."""
    data, features = _columns(task, np.random.default_rng(0))
    path = folder / task / "train-00000-of-00001.parquet"
    path.parent.mkdir(exist_ok=True)
    Dataset.from_dict(data, features=features).to_parquet(str(path), batch_size=2)
    rows = load_dataset("parquet", data_files=str(path), split="train")
    found = {}
    for name in rows.column_names:
        steps = [value for row in rows for value in row[name]]
        found[name] = np.stack([np.asarray(step) for step in steps])
    np.savez_compressed(folder / f"{task}.npz", **found)


if __name__ == "__main__":
    for task in ("atari-alien", "babyai-go-to", "metaworld-reach"):
        write(pathlib.Path(__file__).parent, task)

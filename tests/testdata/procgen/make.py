"""Writes small shards as EpicPinkPenguin/procgen has them, and what `datasets` reads.

    pip install datasets==4.8.5 && python make.py

writes `maze/*.parquet` and `maze.npz` beside this file, as they were written on
2026-11-22 with pyarrow 26.0.1. Features are those of that data set's card on Hugging
Face (README.md at c4077422c8225ff6120800c48c700616fea4b708): observation array3_d of
uint8, action uint8, reward float32, done and truncated bool, a row a step; frames are
16x16 instead of 64x64.
"""

import pathlib

import numpy as np
from datasets import Array3D, Dataset, Features, Value, load_dataset

# The third and the last run on into the next shard, and out of the last one.
LENGTHS = (4, 1, 9, 3, 6)
NUM_ROWS = 21
SHARDS = 3
FEATURES = Features(
    {
        "observation": Array3D(dtype="uint8", shape=(16, 16, 3)),
        "action": Value("uint8"),
        "reward": Value("float32"),
        "done": Value("bool"),
        "truncated": Value("bool"),
    }
)


def _rows() -> Dataset:
    generator = np.random.default_rng(0)
    last = np.cumsum(LENGTHS) - 1
    rows = np.arange(sum(LENGTHS))
    frames = np.zeros((len(rows), 16, 16, 3), np.uint8)
    frames[..., 0] = rows[:, None, None]
    frames[..., 1] = np.arange(16)[:, None]
    data = {
        "observation": frames,
        "action": generator.integers(0, 15, len(rows)).astype(np.uint8),
        "reward": generator.integers(0, 2, len(rows)).astype(np.float32),
        "done": np.isin(rows, last[[0, 2, 3, 4]]),
        "truncated": np.isin(rows, last[1]),
    }
    return Dataset.from_dict(
        {key: list(values[:NUM_ROWS]) for key, values in data.items()}, FEATURES
    )


if __name__ == "__main__":
    folder = pathlib.Path(__file__).parent
    (folder / "maze").mkdir(exist_ok=True)
    rows = _rows()
    for index in range(SHARDS):
        shard = rows.shard(SHARDS, index, contiguous=True)
        name = f"train-{index:05d}-of-{SHARDS:05d}.parquet"
        shard.to_parquet(str(folder / "maze" / name), batch_size=5)
    rows.select(range(4)).to_parquet(
        str(folder / "maze" / "test-00000-of-00001.parquet")
    )
    read = load_dataset(str(folder / "maze"), split="train").with_format("numpy")
    np.savez_compressed(
        folder / "maze.npz", **{key: read[:][key] for key in read.column_names}
    )

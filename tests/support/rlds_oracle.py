"""Writes TFDS folders with tensorflow-datasets' own writer, and says what it reads.

    python tests/support/rlds_oracle.py FOLDER

A program of its own: TensorFlow takes long to import and must not share a process with
MuJoCo's rendering. `FOLDER/read.pickle` gets `{set: [episode]}`, an episode being
`{"episode": {key: value}, "steps": {key: [value]}}` with flattened keys, and under
"ours" what our reader makes of the features that it leaves to tensorflow-datasets.
"""

import pathlib
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import tensorflow_datasets as tfds
from rlds_sets import read_episodes
from tensorflow_datasets.rlds import rlds_base

F = tfds.features
DTYPES = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64"]
DTYPES += ["int64", "float16", "float32", "float64", "bfloat16"]
SHAPE = (2, 3)
# What tensorflow-datasets 4.9 can write or read back no more.
BEYOND = {"bfloat16_none", "uint32_bytes", "uint32_zlib"}


def dtype_of(name: str) -> Any:
    return ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name).type


def tensors() -> dict[str, Any]:
    """A feature of each dtype and encoding, with and without a shape."""
    return {
        f"{name}_{encoding}_{len(shape)}": F.Tensor(
            shape=shape, dtype=dtype_of(name), encoding=encoding
        )
        for name in DTYPES
        for encoding in ("none", "bytes", "zlib")
        for shape in ((), SHAPE)
        if f"{name}_{encoding}" not in BEYOND
    }


def tensor_values(generator: np.random.Generator) -> dict[str, Any]:
    values = {}
    for key, feature in tensors().items():
        dtype, shape = key.split("_")[0], feature.shape
        if "int" in dtype:
            info = np.iinfo(dtype)
            ends = np.array([info.min, info.max, 0, 1, 2, 3], dtype)
            value = generator.choice(ends, shape)
        else:
            value = generator.normal(size=shape) * 100
            value = value > 0 if dtype == "bool" else value
        values[key] = np.asarray(value).astype(dtype_of(dtype))
    return values


STEP = {
    "observation": {
        "image": F.Image(shape=(16, 32, 3)),
        "jpeg": F.Image(shape=(32, 16, 3), encoding_format="jpeg"),
        "grey": F.Image(shape=(16, 16, 1)),
        "grid": F.Image(shape=(7, 7, 3)),
        "free_image": F.Image(),
        "free": F.Tensor(shape=(None, None), dtype=np.int32, encoding="zlib"),
        "half": F.Tensor(shape=(None, 2), dtype=np.float32, encoding="bytes"),
        "mission": F.Text(),
        "words": F.Tensor(shape=(2,), dtype=np.object_),
        "label": F.ClassLabel(names=["a", "b", "c"]),
        "box": F.BBoxFeature(),
        "counts": F.Sequence(np.int64),
        "tree": F.Sequence({"a": np.int64, "b": F.Text()}),
        "points": F.Sequence(F.Tensor(shape=(2,), dtype=np.float32)),
        "nested": F.Sequence(F.Sequence(np.float32)),
        "tensors": tensors(),
    },
    "action": {"move": F.Tensor(shape=(2,), dtype=np.float32), "grip": np.int32},
    "reward": np.float64,
    "discount": np.float32,
    "is_first": np.bool_,
    "is_last": np.bool_,
    "is_terminal": np.bool_,
    "success": np.bool_,
}


def step_values(generator: np.random.Generator, number: int) -> dict[str, Any]:
    def pixels(*shape: int) -> Any:
        ramp = np.linspace(0, 200, int(np.prod(shape))).reshape(shape)
        return (ramp + generator.integers(0, 50)).astype(np.uint8)

    count = number % 3  # the same in all steps of an episode
    rows = [float(n) for n in range(count)]
    return {
        "image": generator.integers(0, 256, (16, 32, 3), np.uint8),
        "jpeg": pixels(32, 16, 3),
        "grey": pixels(16, 16, 1),
        "grid": generator.integers(0, 11, (7, 7, 3), np.uint8),
        "free_image": pixels(32, 32, 3),
        "free": generator.integers(-9, 9, (2, 3 + count), np.int32),
        "half": generator.normal(size=(count + 1, 2)).astype(np.float32),
        "mission": f"gehe zur Tür {generator.integers(100)}",
        "words": np.array(["", f"w{generator.integers(9)}"], object),
        "label": int(generator.integers(3)),
        "box": F.BBox(0.0, 0.25, float(generator.uniform(0.5, 1)), 1.0),
        "counts": generator.integers(0, 9, count),
        "tree": [{"a": int(generator.integers(9)), "b": f"x{n}"} for n in range(count)],
        "points": generator.normal(size=(count, 2)).astype(np.float32),
        "nested": [rows, [*rows[1:], 7.0][:count]],
        "tensors": tensor_values(generator),
    }


def episode(number: int, steps: int, observe: Any, *, rewards: type) -> dict[str, Any]:
    """An episode of `steps` actions and, unless it was cut off, a padding step."""
    generator = np.random.default_rng(number)
    length = steps + (number % 4 > 0)
    return {
        "steps": [
            {
                "observation": observe(generator, number),
                "action": {
                    "move": generator.uniform(-1, 1, 2).astype(np.float32),
                    "grip": int(generator.integers(3)),
                },
                "reward": rewards(generator.normal()),
                "discount": 1.0,
                "is_first": place == 0,
                "is_last": place == steps,
                "is_terminal": place == steps and number % 2 == 0,
                "success": place == steps and number % 2 == 0,
            }
            for place in range(length)
        ],
    }


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.0.0")

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples()}


class Sink(_Builder, skip_registration=True):
    """Every feature that the plain reader knows."""

    def _info(self) -> Any:
        features = {
            "steps": F.Dataset(STEP),
            "episode_id": np.int64,
            "episode_metadata": {
                "task": F.Text(),
                "agent": F.Text(),
                "seed": F.Tensor(shape=(), dtype=np.int32, optional=True),
            },
        }
        return tfds.core.DatasetInfo(builder=self, features=F.FeaturesDict(features))

    def _generate_examples(self) -> Iterator[tuple[str, Any]]:
        for number in range(6):
            values = episode(number, 1 + number, step_values, rewards=np.float64)
            yield (
                str(number),
                values
                | {
                    "episode_id": number,
                    "episode_metadata": {
                        "task": f"task {number % 2}",
                        "agent": "human",
                        "seed": None if number % 2 else 7,
                    },
                },
            )


CONFIG = rlds_base.DatasetConfig(
    name="small",
    observation_info=F.Tensor(shape=(4,), dtype=np.float64, encoding="zlib"),
    action_info=F.FeaturesDict(STEP["action"]),
    reward_info=F.Scalar(np.float32),
    discount_info=F.Scalar(np.float32),
    step_metadata_info={"success": F.Scalar(np.bool_)},
    episode_metadata_info={"episode_id": F.Scalar(np.int64)},
)


class Many(_Builder, skip_registration=True):
    """Three shards, described by the RLDS library's own config."""

    BUILDER_CONFIGS = [CONFIG]  # noqa: RUF012

    def _info(self) -> Any:
        return rlds_base.build_info(CONFIG, self)

    def _generate_examples(self) -> Iterator[tuple[str, Any]]:
        for number in range(20):
            values = episode(
                number,
                1 + number % 7,
                lambda generator, _: generator.normal(size=4),
                rewards=np.float32,
            )
            yield str(number), values | {"episode_id": number}


class Film(_Builder, skip_registration=True):
    """Features that are left to tensorflow-datasets."""

    def _info(self) -> Any:
        observation = {
            "depth": F.Image(shape=(16, 16, 1), dtype=np.float32),
            "clip": F.Video(shape=(None, 16, 16, 3)),
            "state": F.Tensor(shape=(3,), dtype=np.float32),
        }
        features = {"steps": F.Dataset(STEP | {"observation": observation})}
        return tfds.core.DatasetInfo(builder=self, features=F.FeaturesDict(features))

    def _generate_examples(self) -> Iterator[tuple[str, Any]]:
        def observe(generator: np.random.Generator, number: int) -> dict[str, Any]:
            return {
                "depth": generator.normal(size=(16, 16, 1)).astype(np.float32),
                "clip": generator.integers(0, 256, (2, 16, 16, 3), np.uint8),
                "state": generator.normal(size=3).astype(np.float32),
            }

        for number in range(3):
            yield str(number), episode(number, 2, observe, rewards=np.float64)


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, child in value.items():
            yield from flat(child, f"{key}/{name}" if key else name)
    elif hasattr(value, "to_list"):  # a ragged tensor
        yield key, np.array(value.to_list(), np.asarray(value.flat_values).dtype)
    else:
        value = np.asarray(value)
        is_short = value.dtype == ml_dtypes.bfloat16
        yield key, value.astype(np.float32) if is_short else value


def as_read(builder: Any) -> list[dict[str, Any]]:
    config = tfds.ReadConfig(interleave_cycle_length=1)
    found = []
    for example in tfds.as_numpy(builder.as_dataset("train", read_config=config)):
        steps = [dict(flat(step)) for step in example.pop("steps")]
        columns = {key: [step[key] for step in steps] for key in steps[0]}
        found.append({"episode": dict(flat(example)), "steps": columns})
    return found


def main() -> None:
    root = pathlib.Path(sys.argv[1])
    read: dict[str, Any] = {}
    for builder_class, num_shards in ((Sink, 1), (Many, 3), (Film, 1)):
        builder = builder_class(data_dir=str(root))
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(num_shards=num_shards)
        )
        again = tfds.builder_from_directory(builder.data_path)
        read[builder.name] = as_read(again)
    read["ours"] = [dict(e.observations) for e in read_episodes(root / "film/1.0.0")]
    (root / "read.pickle").write_bytes(pickle.dumps(read))


if __name__ == "__main__":
    main()

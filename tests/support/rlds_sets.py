"""TFDS folders written by hand, without tensorflow-datasets, to read and to damage."""

import json
import pathlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import episode_source
import numpy as np
from numpy.typing import NDArray

from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Unreadable
from gato.schemas.tfrecord import frame

Values = NDArray[Any] | Sequence[Any]
_CLASSES = "tensorflow_datasets.core.features."


def dataset(**settings: Any) -> Dataset:
    return Dataset(name="set", format="rlds", paths=("raw/*",), **settings)


def read(
    path: pathlib.Path | str, config: Dataset | None = None, relative: str = "1.0.0"
) -> list[Episode | Unreadable]:
    return episode_source.read(path, relative, config or dataset())


def read_episodes(
    path: pathlib.Path | str, config: Dataset | None = None
) -> list[Episode]:
    return episode_source.episodes(read(path, config))


def tensor(dtype: str, *shape: int, **content: Any) -> dict[str, Any]:
    """A node of features.json, as tensorflow-datasets 4.9 writes it."""
    dimensions = {"dimensions": [str(side) for side in shape]} if shape else {}
    content = {"dtype": dtype, "encoding": "none", "shape": dimensions} | content
    return {"pythonClassName": f"{_CLASSES}tensor_feature.Tensor", "tensor": content}


def text() -> dict[str, Any]:
    return {"pythonClassName": f"{_CLASSES}text_feature.Text", "text": {}}


def image(*shape: int, **content: Any) -> dict[str, Any]:
    sides = {"dimensions": [str(side) for side in shape]}
    return {
        "pythonClassName": f"{_CLASSES}image_feature.Image",
        "image": {"dtype": "uint8", "shape": sides} | content,
    }


def sequence(inner: dict[str, Any], name: str = "Sequence") -> dict[str, Any]:
    module = "dataset_feature" if name == "Dataset" else "sequence_feature"
    return {
        "pythonClassName": f"{_CLASSES}{module}.{name}",
        "sequence": {"feature": inner, "length": "-1"},
    }


def named(children: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "pythonClassName": f"{_CLASSES}features_dict.FeaturesDict",
        "featuresDict": {"features": dict(children)},
    }


MARKS = {name: tensor("bool") for name in ("is_first", "is_last", "is_terminal")}
WALK_STEP = {
    "observation": tensor("float32", 3),
    "action": tensor("float32", 2),
    "reward": tensor("float32"),
    "discount": tensor("float32"),
    **MARKS,
}


def encode_example(values: Mapping[str, Values]) -> bytes:
    """Returns a serialized tf.train.Example: bytes, floats or integers by name."""
    entries = b""
    for name, column in values.items():
        value = _message(1, name.encode()) + _message(2, _list(column))
        entries += _message(1, value)
    return _message(1, entries)


def _list(column: Values) -> bytes:
    if len(column) and isinstance(column[0], bytes):
        return _message(1, b"".join(_message(1, value) for value in column))
    if isinstance(column, np.ndarray) and column.dtype.kind == "f":
        flat = column.astype("<f4").ravel()
        return _message(2, _message(1, struct.pack(f"<{flat.size}f", *flat)))
    flat = np.asarray(column, np.int64).ravel()
    return _message(3, _message(1, b"".join(_varint(int(v)) for v in flat)))


def _message(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded + bytes([value]))


def walk(number: int, steps: int, *, last: bool = True) -> dict[str, NDArray[Any]]:
    """One episode's values: `steps` actions, and a padding step if `last` is marked."""
    generator = np.random.default_rng(number)
    length = steps + last
    place = np.arange(length)
    return {
        "episode_id": np.array([number]),
        "steps/observation": generator.normal(size=(length, 3)).astype(np.float32),
        "steps/action": generator.uniform(-1, 1, (length, 2)).astype(np.float32),
        "steps/reward": generator.normal(size=length).astype(np.float32),
        "steps/discount": np.ones(length, np.float32),
        "steps/is_first": (place == 0).astype(int),
        "steps/is_last": (place == steps).astype(int),
        "steps/is_terminal": np.zeros(length, int),
    }


def write(
    path: pathlib.Path,
    shards: Sequence[Sequence[Mapping[str, Values] | bytes]],
    *,
    step: Mapping[str, Any] = WALK_STEP,
    episode: Mapping[str, Any] | None = None,
    split: str = "train",
    **info: Any,
) -> pathlib.Path:
    """Writes a version folder whose builder is `toy`.

    Args:
        path: The folder.
        shards: Records of each, or what they encode.
        step: Nodes of a step.
        episode: Nodes beside `steps`.
        split: The only one.
        info: Keys of dataset_info.json over the usual.
    """
    path.mkdir(parents=True, exist_ok=True)
    episode = {"episode_id": tensor("int64")} if episode is None else episode
    root = named({"steps": sequence(named(step), "Dataset"), **episode})
    (path / "features.json").write_text(json.dumps(root))
    content = {
        "fileFormat": "tfrecord",
        "name": "toy",
        "splits": [
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": split,
                "shardLengths": [str(len(shard)) for shard in shards],
            }
        ],
        "version": "1.0.0",
    }
    (path / "dataset_info.json").write_text(json.dumps(content | info))
    for index, shard in enumerate(shards):
        records = (r if isinstance(r, bytes) else encode_example(r) for r in shard)
        shard_path(path, index, len(shards), split).write_bytes(
            b"".join(map(frame, records))
        )
    return path


def shard_path(
    path: pathlib.Path, index: int = 0, count: int = 1, split: str = "train"
) -> pathlib.Path:
    return path / f"toy-{split}.tfrecord-{index:05}-of-{count:05}"


def write_walks(
    path: pathlib.Path, shards: Sequence[Sequence[int]], **settings: Any
) -> pathlib.Path:
    """Writes episodes of these numbers, of one to five steps."""
    episodes = [[walk(number, 1 + number % 5) for number in shard] for shard in shards]
    return write(path, episodes, **settings)

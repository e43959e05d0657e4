"""Steps a second of our RLDS reader beside tensorflow-datasets on the same folder.

    python benchmarks/read_rlds.py

Writes 60 Meta-World-like episodes of 150 steps (39 floats seen, 4 floats acted) with
tensorflow-datasets, reads them in turn in each way, five times after one untimed, and
prints the medians. Opening the folder counts for our reader alone; of the others, only
the iteration does. The ways:

- steps: `tfds.as_numpy`, step by step, as its documentation has it;
- batched: the same, an episode's steps in one batch;
- protobuf: the protobuf library's parser, every feature to a NumPy array;
- walk: our walk of the wire format, every feature to a NumPy array, nothing else;
- ours: whole `Episode`s, checked, in order of their numbers.
"""

import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow_datasets as tfds
from episode_reading import EPISODES, STEPS, rates, read_ours
from tensorflow_datasets.proto import tf_example_pb2

from gato.pipelines.sources.rlds_wire import Example
from gato.schemas.tfrecord import iterate_records

_LISTS = ("int64_list", "float_list", "bytes_list")
_F = tfds.features


class World(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Random episodes with RLDS' usual features."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        step = {
            "observation": _F.Tensor(shape=(39,), dtype=np.float32),
            "action": _F.Tensor(shape=(4,), dtype=np.float32),
            "reward": np.float32,
            "discount": np.float32,
            "is_first": np.bool_,
            "is_last": np.bool_,
            "is_terminal": np.bool_,
        }
        features = {"steps": _F.Dataset(step), "episode_id": np.int64}
        return tfds.core.DatasetInfo(builder=self, features=_F.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, Any]]:
        generator = np.random.default_rng(0)
        length = STEPS + 1
        for number in range(EPISODES):
            steps = {
                "observation": generator.normal(size=(length, 39)).astype(np.float32),
                "action": generator.uniform(-1, 1, (length, 4)).astype(np.float32),
                "reward": generator.normal(size=length).astype(np.float32),
                "discount": np.ones(length, np.float32),
                "is_first": np.arange(length) == 0,
                "is_last": np.arange(length) == STEPS,
                "is_terminal": np.zeros(length, bool),
            }
            yield str(number), {"steps": steps, "episode_id": number}


def read_steps(episodes: Any) -> int:
    return sum(
        not step["is_last"]
        for episode in tfds.as_numpy(episodes)
        for step in episode["steps"]
    )


def read_batched(episodes: Any) -> int:
    count = 0
    for episode in episodes:
        for batch in tfds.as_numpy(episode["steps"].batch(STEPS + 1)):
            count += int((~batch["is_last"]).sum())
    return count


def read_protobuf(shard: str) -> int:
    count = 0
    data = pathlib.Path(shard).read_bytes()
    for _, record in iterate_records(data, shard):
        features = tf_example_pb2.Example.FromString(record).features.feature
        columns = {
            name: np.array(getattr(feature, kind).value)
            for name, feature in features.items()
            for kind in _LISTS
            if feature.HasField(kind)
        }
        count += int((columns["steps/is_last"] == 0).sum())
    return count


def read_walk(shard: str) -> int:
    count = 0
    data = pathlib.Path(shard).read_bytes()
    for _, record in iterate_records(data, shard):
        columns = {
            name: feature.floats() if feature.kind == "float" else feature.integers()
            for name, feature in Example(record).items()
        }
        count += int((columns["steps/is_last"] == 0).sum())
    return count


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        builder = World(data_dir=root)
        builder.download_and_prepare()
        path = str(builder.data_path)
        (shard,) = map(str, pathlib.Path(path).glob("*.tfrecord*"))
        episodes = tfds.builder_from_directory(path).as_dataset("train")
        ways: dict[str, Callable[[], int]] = {
            "steps": lambda: read_steps(episodes),
            "batched": lambda: read_batched(episodes),
            "protobuf": lambda: read_protobuf(shard),
            "walk": lambda: read_walk(shard),
            "ours": lambda: read_ours("rlds", path, "world/1.0.0"),
        }
        found = rates(ways)
        for name, rate in found.items():
            print(
                f"{name:8} {rate:11,.0f} steps/s   ours is {found['ours'] / rate:.1f}x"
            )
        print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()

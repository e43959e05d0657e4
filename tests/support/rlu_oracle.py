"""Says what TensorFlow and tensorflow-datasets read of RL Unplugged's shards.

    python tests/support/rlu_oracle.py FOLDER

A program of its own, as TensorFlow takes long to import. It reads the shards
`FOLDER/{control,lab,atari}` with tensorflow-datasets' own parsers, and
`FOLDER/read.pickle` gets `{shard: [episode]}`, with the transitions of
`FOLDER/transitions` as the features that rl_unplugged/atari.py declares.
"""

import pathlib
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.rl_unplugged import atari_utils, dmlab_dataset
from tensorflow_datasets.rl_unplugged.rlu_control_suite import rlu_control_suite

LAB_STEPS = 6


def transition(example: Any) -> Any:
    scalar = {"a_t": tf.int64, "a_tp1": tf.int64, "episode_id": tf.int64}
    scalar |= dict.fromkeys(("r_t", "d_t", "episode_return"), tf.float32)
    features = {name: tf.io.FixedLenFeature([], kind) for name, kind in scalar.items()}
    features |= {
        name: tf.io.FixedLenFeature([4], tf.string) for name in ("o_t", "o_tp1")
    }
    return tf.io.parse_single_example(example, features)


def parser(builder: Any, **config: Any) -> Callable[[Any], Any]:
    """Returns a builder's parser, without a builder, which would look for its data."""
    holder = types.SimpleNamespace(builder_config=types.SimpleNamespace(**config))
    specs = getattr(builder, "_get_example_specs", None)
    if specs is not None:
        holder._get_example_specs = types.MethodType(specs, holder)
    return types.MethodType(builder.tf_example_to_step_ds, holder)


def main(root: pathlib.Path) -> None:
    walker = {"orientations": 14, "velocity": 9, "height": 1}
    parsers = {
        "control": parser(
            rlu_control_suite.RluControlSuite, observation_size=walker, action_size=6
        ),
        "lab": parser(dmlab_dataset.DMLabDatasetBuilder, episode_length=LAB_STEPS),
        "atari": atari_utils.atari_example_to_rlds,
        "transitions": transition,
    }
    read = {}
    for name, parse in parsers.items():
        records = tf.data.TFRecordDataset(str(root / name), compression_type="GZIP")
        read[name] = list(tfds.as_numpy(records.map(parse)))
    (root / "read.pickle").write_bytes(pickle.dumps(read))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))

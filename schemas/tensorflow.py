"""Rows for those who live in tf.data; everything here imports TensorFlow inside itself.

    manifest = load_dataset_manifest("out/babyai")
    rows = tf.data.TFRecordDataset(shards).map(lambda s: parse_row(s, manifest))

Nothing else of this project needs TensorFlow to read records.
"""

from typing import Any

from gato.schemas.manifest import DatasetManifest
from gato.schemas.record import RECORD_VERSION

_ARRAYS = ("kind", "loss_mask", "segment")


def feature_spec(manifest: DatasetManifest) -> dict[str, Any]:
    """Returns the features of a record, for `tf.io.parse_single_example`.

    Every feature is one bytes value, but `images`, which has one an image.

    Args:
        manifest: Of the rows' data set.

    Raises:
        ValueError: If the manifest is of another schema version.
    """
    import tensorflow as tf

    if manifest.schema_version != RECORD_VERSION:
        raise ValueError(
            f"records of version {RECORD_VERSION} can be read, the manifest of"
            f" {manifest.dataset} says {manifest.schema_version}. Read it with the"
            " release that wrote it, or build again."
        )
    names = ("version", "tokens", *_ARRAYS, "local_position", "image_info")
    spec: dict[str, Any] = {
        name: tf.io.FixedLenFeature([], tf.string) for name in (*names, "provenance")
    }
    spec["images"] = tf.io.RaggedFeature(tf.string)
    return spec


def parse_row(serialized: Any, manifest: DatasetManifest) -> dict[str, Any]:
    """Returns the tensors of one serialized record.

    Args:
        serialized: tf.string [], as a `tf.data.TFRecordDataset` yields it.
        manifest: Of the rows' data set.

    Returns:
        `tokens` int32 [L]; `kind`, `loss_mask`, `segment` uint8 [L]; `local_position`
        int16 [L]; `images` string [n], encoded; `image_info` int32 [n, 4];
        `provenance` string [], JSON.

    Raises:
        ValueError: If the manifest is of another schema version.
        tf.errors.InvalidArgumentError: When a record lacks a feature, is of another
            version, or holds another number of slots.
    """
    import tensorflow as tf

    features = tf.io.parse_single_example(serialized, feature_spec(manifest))
    version = tf.io.decode_raw(features["version"], tf.uint8)
    current = tf.debugging.assert_equal(
        version, tf.constant([RECORD_VERSION], tf.uint8), message="record version"
    )
    length = manifest.sequence_length

    def slots(name: str, dtype: Any) -> Any:
        values = tf.io.decode_raw(features[name], dtype, little_endian=True)
        return tf.ensure_shape(values, [length])

    with tf.control_dependencies([current] if current is not None else []):
        tokens = slots("tokens", tf.as_dtype(manifest.token_dtype))
        row = {"tokens": tf.cast(tokens, tf.int32)}
    row |= {name: slots(name, tf.uint8) for name in _ARRAYS}
    row["local_position"] = slots("local_position", tf.int16)
    info = tf.io.decode_raw(features["image_info"], tf.int32, little_endian=True)
    row["image_info"] = tf.reshape(info, [-1, 4])
    row["images"] = features["images"]
    row["provenance"] = features["provenance"]
    return row

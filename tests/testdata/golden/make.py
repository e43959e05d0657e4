"""Writes the golden TFRecords of this folder with TensorFlow's own writer.

    python tests/testdata/golden/make.py

Run once, with tensorflow-cpu 2.21.0; the files are committed and tests compare ours
with them byte for byte (framing) and value for value (Examples).
"""

import pathlib

FOLDER = pathlib.Path(__file__).parent
SEQUENCE_LENGTH = 24


def frames() -> list[bytes]:
    """Returns the data of framing.tfrecord: lengths around the format's borders."""
    every = bytes(range(256))
    return [b"", b"a", every, every[::-1] * 5, b"\0" * 300, "Gato \u00e9".encode()]


def features() -> list[dict[str, list[bytes]]]:
    """Returns the bytes features of the Examples in rows.tfrecord."""
    length = SEQUENCE_LENGTH
    tokens = [(1337 * slot) % 33_025 for slot in range(length)]
    positions = [*range(length - 4), -1, -1, -1, -1]
    first = {
        "version": [b"\x01"],
        "tokens": [b"".join(token.to_bytes(2, "little") for token in tokens)],
        "kind": [bytes(slot % 8 for slot in range(length))],
        "loss_mask": [bytes(slot % 2 for slot in range(length))],
        "segment": [bytes(1 + slot // 12 for slot in range(length))],
        "local_position": [
            b"".join(p.to_bytes(2, "little", signed=True) for p in positions)
        ],
        "images": [b"\x89PNG one", b"two" * 100],
        "image_info": [
            b"".join(
                value.to_bytes(4, "little") for value in (2, 16, 16, 1, 9, 16, 32, 2)
            )
        ],
        "provenance": ['[{"dataset":"é","start":0,"length":24}]'.encode()],
    }
    without_images = first | {"images": [], "image_info": [b""]}
    return [first, without_images]


def main() -> None:
    """Writes framing.tfrecord and rows.tfrecord."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(FOLDER / "framing.tfrecord")) as writer:
        for data in frames():
            writer.write(data)
    with tf.io.TFRecordWriter(str(FOLDER / "rows.tfrecord")) as writer:
        for values in features():
            example = tf.train.Example()
            for name, entries in values.items():
                example.features.feature[name].bytes_list.value.extend(entries)
            # Features of other types and unknown ones are ignored, by contract.
            example.features.feature["counts"].int64_list.value.extend([1, 2, 3])
            example.features.feature["weights"].float_list.value.extend([0.5])
            example.features.feature["nothing"].SetInParent()
            writer.write(example.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()

"""schemas/tensorflow.py against our own reader, in a process of its own.

TensorFlow takes long to import, turns warnings into noise, and must not share a process
with MuJoCo's rendering, so one subprocess parses everything and hands arrays back.
"""

import pathlib
import subprocess
import sys

import handmade
import numpy as np
import pytest

from gato.schemas import tfrecord
from gato.schemas.record import decode_row

_PROGRAM = """
import sys
import numpy as np
import tensorflow as tf
from gato.schemas.manifest import load_dataset_manifest
from gato.schemas.tensorflow import feature_spec, parse_row

folder, out = sys.argv[1:]
manifest = load_dataset_manifest(folder)
shards = sorted(tf.io.gfile.glob(folder + "/*-of-*.tfrecord"))
rows = tf.data.TFRecordDataset(shards).map(lambda s: parse_row(s, manifest))
assert rows.element_spec["tokens"].shape == [manifest.sequence_length]
found = {}
for number, row in enumerate(rows.as_numpy_iterator()):
    for name, value in row.items():
        if name == "images":
            found[f"{number}/images"] = np.array(len(value))
            for index, image in enumerate(value):
                found[f"{number}/image{index}"] = np.frombuffer(image, np.uint8)
        elif name == "provenance":
            found[f"{number}/{name}"] = np.frombuffer(value, np.uint8)
        else:
            found[f"{number}/{name}"] = value
np.savez(out, **found)

assert set(feature_spec(manifest)) == {
    "version", "tokens", "kind", "loss_mask", "segment", "local_position", "images",
    "image_info", "provenance",
}
serialized = next(tf.data.TFRecordDataset(shards).as_numpy_iterator())
for spoilt, other in (
    (serialized.replace(b"loss_mask", b"loss_musk"), manifest),
    (serialized.replace(b"\\x0a\\x01\\x01", b"\\x0a\\x01\\x02", 1), manifest),
    (serialized, manifest.model_copy(update={"sequence_length": 64})),
):
    try:
        parse_row(tf.constant(spoilt), other)
    except (tf.errors.InvalidArgumentError, ValueError):
        continue
    raise SystemExit("a record that is none was parsed")
try:
    feature_spec(manifest.model_copy(update={"schema_version": 2}))
except ValueError as error:
    assert "version 1 can be read" in str(error)
else:
    raise SystemExit("another schema version was accepted")
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["toy"])
def test_rows_equal_our_readers(tmp_path: pathlib.Path, name: str) -> None:
    shards = handmade.control_rows()
    # One row without images beside those with.
    shards["validation"][0].append(handmade.row(name, handmade.text("a/é", 9)))
    folder = tmp_path / name
    handmade.write_dataset(folder, shards)
    out = tmp_path / "found.npz"
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(folder), str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.load(out)
    number = 0
    for path in sorted(folder.glob("*-of-*.tfrecord")):
        for _, record in tfrecord.iterate_records(path.read_bytes(), str(path)):
            row = decode_row(record, sequence_length=handmade.L, dtype="uint16")
            for field in ("kind", "loss_mask", "segment", "local_position"):
                parsed = found[f"{number}/{field}"]
                assert parsed.dtype == getattr(row, field).dtype
                np.testing.assert_array_equal(parsed, getattr(row, field))
            np.testing.assert_array_equal(found[f"{number}/tokens"], row.tokens)
            assert found[f"{number}/tokens"].dtype == np.int32
            np.testing.assert_array_equal(found[f"{number}/image_info"], row.image_info)
            assert found[f"{number}/image_info"].shape == (len(row.images), 4)
            assert int(found[f"{number}/images"]) == len(row.images)
            for index, image in enumerate(row.images):
                assert found[f"{number}/image{index}"].tobytes() == image
            assert found[f"{number}/provenance"].tobytes()
            number += 1
    assert number == 6


def test_the_module_needs_no_tensorflow_to_import() -> None:
    program = (
        "import sys, gato.schemas.tensorflow;"
        "sys.exit('tensorflow' in sys.modules or 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == 0

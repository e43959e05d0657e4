"""Reads shards with a parser of its own: TFRecord, CRC32C, tf.train.Example, rows.

Part of the independent re-tokenizer: imports nothing of ours.
"""

import dataclasses
import hashlib
import json
import pathlib
import struct
from collections.abc import Iterator
from typing import Any

import cv2
import google_crc32c
import numpy as np
from numpy.typing import NDArray

FEATURES = {
    "version",
    "tokens",
    "kind",
    "loss_mask",
    "segment",
    "local_position",
    "images",
    "image_info",
    "provenance",
}


def expect(condition: Any, place: str, message: str) -> None:
    """Raises AssertionError with the place unless `condition` holds."""
    if not condition:
        raise AssertionError(f"{place}: {message}")


def expect_equal(found: Any, expected: Any, place: str, what: str) -> None:
    """Raises AssertionError with both values unless they are equal."""
    expect(found == expected, place, f"{what} is {found!r}, expected {expected!r}")


def expect_arrays(
    found: NDArray[Any], expected: NDArray[Any], place: str, what: str
) -> None:
    """Raises AssertionError with the first differing index, if any."""
    if found.shape != expected.shape:
        raise AssertionError(
            f"{place}: {what} has shape {found.shape}, expected {expected.shape}"
        )
    different = np.argwhere(np.asarray(found) != np.asarray(expected))
    if len(different):
        index = tuple(int(i) for i in different[0])
        raise AssertionError(
            f"{place}: {what} at {index} is {found[index]}, expected {expected[index]}"
            f" ({len(different)} differ)"
        )


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields (field number, payload) of a message of length-delimited fields."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        expect_equal(tag & 7, 2, "tf.train.Example", "wire type")
        length, position = _varint(data, position)
        expect(position + length <= len(data), "tf.train.Example", "field cut short")
        yield tag >> 3, data[position : position + length]
        position += length


def _only(data: bytes, number: int) -> list[bytes]:
    found = list(_fields(data))
    for field, _ in found:
        expect_equal(field, number, "tf.train.Example", "field number")
    return [payload for _, payload in found]


def parse_example(data: bytes) -> dict[str, list[bytes]]:
    """Returns every feature's byte strings; other kinds of feature are refused."""
    features: dict[str, list[bytes]] = {}
    for message in _only(data, 1):
        for entry in _only(message, 1):
            parts = dict(_fields(entry))
            name = parts[1].decode()
            expect(name not in features, name, "the feature stands twice")
            lists = _only(parts.get(2, b""), 1)
            features[name] = [value for each in lists for value in _only(each, 1)]
    return features


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF


def frame_record(payload: bytes) -> bytes:
    """Returns one TFRecord: length, its CRC, payload, its CRC."""
    length = struct.pack("<Q", len(payload))
    head = length + struct.pack("<I", _masked_crc(length))
    return head + payload + struct.pack("<I", _masked_crc(payload))


def parse_records(data: bytes, place: str) -> tuple[list[bytes], list[int]]:
    """Returns the records and their offsets, every CRC checked."""
    records, offsets, position = [], [], 0
    while position < len(data):
        here = f"{place} at byte {position}"
        head = data[position : position + 8]
        (length,) = struct.unpack("<Q", head)
        payload = data[position + 12 : position + 12 + length]
        expect_equal(len(payload), length, here, "length of the record")
        end = position + 12 + length + 4
        expect(data[position:end] == frame_record(payload), here, "wrong CRC")
        records.append(payload)
        offsets.append(position)
        position = end
    return records, offsets


@dataclasses.dataclass(frozen=True)
class DecodedRow:
    """One row: arrays [L], decoded images, and the provenance as parsed."""

    place: str
    tokens: NDArray[np.int64]
    kind: NDArray[np.int64]
    loss_mask: NDArray[np.int64]
    segment: NDArray[np.int64]
    local_position: NDArray[np.int64]
    images: list[NDArray[np.uint8]]
    image_info: NDArray[np.int64]
    provenance: list[dict[str, Any]]


def _decode_image(
    data: bytes, height: int, width: int, encoding: int, place: str
) -> NDArray[np.uint8]:
    if encoding == 0:
        expect_equal(len(data), height * width * 3, place, "bytes of a raw image")
        return np.frombuffer(data, np.uint8).reshape(height, width, 3)
    magic = {1: b"\x89PNG", 2: b"\xff\xd8\xff"}[encoding]
    expect(data.startswith(magic), place, f"not of image encoding {encoding}")
    stored: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    expect(stored is not None, place, "the image does not decode")
    expect_equal(stored.dtype, np.dtype(np.uint8), place, "dtype of the image")
    expect_equal(stored.shape[:2], (height, width), place, "size of the image")
    if stored.ndim == 2:  # `keep` passes grey images through
        return np.repeat(stored[..., None], 3, axis=2)
    expect_equal(stored.shape[2], 3, place, "channels of the image")
    return np.ascontiguousarray(stored[..., ::-1])


def decode_row(record: bytes, length: int, token_dtype: str, place: str) -> DecodedRow:
    """Decodes one record by the contract's table of features."""
    features = parse_example(record)
    expect(set(features) >= FEATURES, place, f"features are {sorted(features)}")

    def array(name: str, dtype: str) -> NDArray[np.int64]:
        expect_equal(len(features[name]), 1, f"{place} {name}", "number of values")
        return np.frombuffer(features[name][0], dtype).astype(np.int64)

    def slots(name: str, dtype: str) -> NDArray[np.int64]:
        values = array(name, dtype)
        expect_equal(len(values), length, f"{place} {name}", "number of slots")
        return values

    expect_equal(array("version", "u1").tolist(), [1], place, "version")
    expect_equal(len(features["image_info"]), 1, place, "values of image_info")
    info = array("image_info", "<i4").reshape(-1, 4)
    expect_equal(len(features["images"]), len(info), place, "number of images")
    images = [
        _decode_image(data, height, width, encoding, f"{place} image {n}")
        for n, (data, (_, height, width, encoding)) in enumerate(
            zip(features["images"], info.tolist(), strict=True)
        )
    ]
    return DecodedRow(
        place=place,
        tokens=slots("tokens", {"uint16": "<u2", "int32": "<i4"}[token_dtype]),
        kind=slots("kind", "u1"),
        loss_mask=slots("loss_mask", "u1"),
        segment=slots("segment", "u1"),
        local_position=slots("local_position", "<i2"),
        images=images,
        image_info=info,
        provenance=json.loads(features["provenance"][0].decode("utf-8")),
    )


def check_layout(row: DecodedRow) -> None:
    """Holds a row to the laws that need no knowledge of its content."""
    place, length = row.place, len(row.tokens)
    expect(0 < len(row.provenance) <= 255, place, "1 to 255 segments a row")
    segment = np.zeros(length, np.int64)
    position = 0
    for number, entry in enumerate(row.provenance, start=1):
        here = f"{place} segment {number}"
        expect_equal(entry["start"], position, here, "start")
        expect(entry["length"] > 0, here, "empty segment")
        position += entry["length"]
        expect(position <= length, here, "runs over the row's end")
        segment[entry["start"] : position] = number
        expect_equal(int(row.loss_mask[entry["start"]]), 0, here, "first mask bit")
    expect_arrays(row.segment, segment, place, "segment")
    padding = segment == 0
    expect_arrays(row.kind == 0, padding, place, "padding kinds")
    for name, empty in (("tokens", 0), ("loss_mask", 0), ("local_position", -1)):
        values = getattr(row, name)[padding]
        expect((values == empty).all(), place, f"padding {name} is not {empty}")
    expect((row.kind < 16).all(), place, "a kind of 16 or more")
    expect((row.kind % 8 != 0)[~padding].all(), place, "kind 0 inside a segment")
    expect((row.loss_mask <= 1).all(), place, "a mask that is neither 0 nor 1")
    expect((row.tokens[row.kind % 8 == 2] == 0).all(), place, "an image slot's token")
    slots = [
        np.arange(first, first + height // 16 * (width // 16))
        for first, height, width, _ in row.image_info
    ]
    covered = np.concatenate([np.zeros(0, np.int64), *slots])
    expect_arrays(np.flatnonzero(row.kind % 8 == 2), covered, place, "image slots")


def read_shard(
    folder: pathlib.Path, info: dict[str, Any], length: int, token_dtype: str
) -> list[DecodedRow]:
    """Reads one shard that a manifest lists; checks its files against the entry."""
    path = folder / info["name"]
    place = f"{folder.name}/{info['name']}"
    data = path.read_bytes()
    index = path.with_name(path.name + ".idx").read_bytes()
    expect_equal(len(data), info["bytes"], place, "bytes")
    expect_equal(hashlib.sha256(data).hexdigest(), info["sha256"], place, "sha256")
    digest = hashlib.sha256(index).hexdigest()
    expect_equal(digest, info["idx_sha256"], f"{place}.idx", "sha256")
    records, offsets = parse_records(data, place)
    expect_equal(len(records), info["rows"], place, "rows")
    offsets = [*offsets, len(data)]
    expect_arrays(
        np.frombuffer(index, "<u8"), np.array(offsets, "<u8"), f"{place}.idx", "offset"
    )
    rows = []
    for number, record in enumerate(records):
        row = decode_row(record, length, token_dtype, f"{place} row {number}")
        check_layout(row)
        rows.append(row)
    return rows

"""One record: a row of L slots as `tf.train.Example` (design.md section 4).

Every feature is one bytes value: little-endian, C order, uncompressed. Bytes and not
int64 lists, since those parse 1.5x slower in tf.data and 10x slower in Python. The
Example is written and parsed here, without TensorFlow or protobuf; a test holds it
against TensorFlow's own.
"""

import dataclasses
import enum
import functools
import json
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gato.schemas.errors import GatoError

RECORD_VERSION = 1
PATCH_SIZE = 16
MAX_LOCAL_POSITION = 511
MAX_SEGMENTS = 255
# The largest vocabulary whose ids fit uint16.
_UINT16_IDS = 65_536
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


# Features of one length in all rows of a build. Their headers are learned and compared
# whole, in a quarter of the time of parsing them in every row.
_FIXED_FEATURES = frozenset(
    ("version", "tokens", "kind", "loss_mask", "segment", "local_position")
)
_KEY_BYTES = 10
_MOST_HEADERS = 256
_known_headers: dict[bytes, tuple[bytes, str, int]] = {}


class Kind(enum.IntEnum):
    """What a slot holds: the low three bits of `kind`."""

    PADDING = 0
    TEXT = 1
    IMAGE = 2
    DISCRETE_OBSERVATION = 3
    CONTINUOUS_OBSERVATION = 4
    SEPARATOR = 5
    DISCRETE_ACTION = 6
    CONTINUOUS_ACTION = 7


KIND_MASK = 7
PROMPT_BIT = 8


class Encoding(enum.IntEnum):
    """How an image's bytes are stored."""

    RAW = 0
    PNG = 1
    JPEG = 2


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One record, L slots.

    Attributes:
        tokens: uint16 or int32 [L]; 0 in image slots and padding.
        kind: uint8 [L]; `Kind`, plus `PROMPT_BIT` inside a prompt.
        loss_mask: uint8 [L]; 1 where this slot's token is a target.
        segment: uint8 [L]; 0 padding, else 1, 2, ... in order.
        local_position: int16 [L]; -1 where there is none.
        images: Encoded images in slot order.
        image_info: int32 [n, 4]: first slot, height, width, `Encoding`.
        provenance: One object a segment, in slot order.
    """

    tokens: NDArray[np.integer]
    kind: NDArray[np.uint8]
    loss_mask: NDArray[np.uint8]
    segment: NDArray[np.uint8]
    local_position: NDArray[np.int16]
    images: tuple[bytes, ...]
    image_info: NDArray[np.int32]
    provenance: list[dict[str, Any]]


def token_dtype(vocabulary_size: int) -> Literal["uint16", "int32"]:
    """Returns the dtype of `tokens`: "uint16", or "int32" for large vocabularies."""
    return "uint16" if vocabulary_size <= _UINT16_IDS else "int32"


def encode_varint(value: int) -> bytes:
    """Returns a non-negative integer as protobuf writes lengths and keys."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _delimited(tag: int, payload: bytes) -> bytes:
    return bytes((tag,)) + encode_varint(len(payload)) + payload


@functools.lru_cache(maxsize=4096)
def _feature_header(name: str, num_bytes: int) -> bytes:
    """Returns what stands before the only value of a feature in the feature map.

    Feature{bytes_list=1: BytesList{value=1: ...}}; map entry {key=1, value=2}. All rows
    of a build share a few headers, which cost more to make than to look up.
    """
    value = b"\x0a" + encode_varint(num_bytes)
    bytes_list = b"\x0a" + encode_varint(len(value) + num_bytes) + value
    feature = b"\x12" + encode_varint(len(bytes_list) + num_bytes) + bytes_list
    entry = _delimited(0x0A, name.encode()) + feature
    return b"\x0a" + encode_varint(len(entry) + num_bytes) + entry


def encode_example(features: dict[str, list[bytes]]) -> bytes:
    """Returns a serialized `tf.train.Example` of bytes features, in the given order."""
    parts: list[bytes] = []
    for name, values in features.items():
        if len(values) == 1:
            parts += (_feature_header(name, len(values[0])), values[0])
            continue
        bytes_list = b"".join(_delimited(0x0A, value) for value in values)
        feature = _delimited(0x0A, bytes_list)
        entry = _delimited(0x0A, name.encode()) + _delimited(0x12, feature)
        parts.append(_delimited(0x0A, entry))
    body = b"".join(parts)
    return b"\x0a" + encode_varint(len(body)) + body


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint longer than 64 bits")


def _fields(data: memoryview) -> list[tuple[int, memoryview]]:
    fields = []
    at, end = 0, len(data)
    while at < end:
        key = data[at]
        at += 1
        if key > 0x7F:
            key, at = _read_varint(data, at - 1)
        if key & 7 != 2:
            raise ValueError(f"wire type {key & 7} where 2 was expected")
        # Most lengths take one byte; a call for each would double a row's cost.
        length = data[at]
        at += 1
        if length > 0x7F:
            length, at = _read_varint(data, at - 1)
        stop = at + length
        if stop > end:
            raise ValueError("a field runs past the end")
        fields.append((key >> 3, data[at:stop]))
        at = stop
    return fields


def decode_example(data: bytes) -> dict[str, list[memoryview]]:
    """Returns the bytes features of a serialized `tf.train.Example`, as views.

    Features of another type are ignored (unknown features are, by contract).

    Raises:
        ValueError: If the bytes are no Example.
    """
    try:
        return {
            name: values
            for _, feature_map in _fields(memoryview(data))
            for name, values in decode_features(feature_map).items()
        }
    except IndexError as error:
        raise ValueError(f"not a tf.train.Example: {error!r}") from error


def decode_features(data: memoryview) -> dict[str, list[memoryview]]:
    """Returns the bytes features of a run of entries of an Example's feature map.

    Raises:
        ValueError: If the bytes are no such run.
    """
    features: dict[str, list[memoryview]] = {}
    at, end = 0, len(data)
    try:
        while at < end:
            known = _known_headers.get(bytes(data[at : at + _KEY_BYTES]))
            if known is not None:
                header, name, num_bytes = known
                start = at + len(header)
                stop = start + num_bytes
                if stop <= end and data[at:start] == header:
                    features[name] = [data[start:stop]]
                    at = stop
                    continue
            at = _decode_entry(data, at, features)
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"not a tf.train.Example: {error!r}") from error
    return features


def _decode_entry(
    data: memoryview, at: int, features: dict[str, list[memoryview]]
) -> int:
    """Parses the entry at `at`, and returns where the next one begins."""
    key, begin = _read_varint(data, at)
    if key & 7 != 2:
        raise ValueError(f"wire type {key & 7} where 2 was expected")
    length, begin = _read_varint(data, begin)
    end = begin + length
    if end > len(data):
        raise ValueError("a field runs past the end")
    found = _decode_usual(data, begin, end) or _decode_unusual(data[begin:end])
    if found is not None:
        name, values = found
        features[name] = values
        if name in _FIXED_FEATURES and len(values) == 1:
            header = _feature_header(name, len(values[0]))
            canonical = data[at : at + len(header)] == header
            if canonical and len(_known_headers) < _MOST_HEADERS:
                _known_headers[header[:_KEY_BYTES]] = (header, name, len(values[0]))
    return end


def _decode_usual(
    data: memoryview, at: int, end: int
) -> tuple[str, list[memoryview]] | None:
    """Parses {key=1, value=2: {bytes_list=1: {value=1 ...}}}; None if otherwise.

    As every writer lays out a feature of bytes; a third of the general way's time.
    """
    if data[at] != 0x0A or data[at + 1] > 0x7F:
        return None
    begin = at + 2
    at = begin + data[at + 1]
    name = bytes(data[begin:at])
    for tag in b"\x12\x0a":
        if at >= end or data[at] != tag:
            return None
        length, at = _read_varint(data, at + 1)
        if at + length != end:
            return None
    values = []
    while at < end:
        if data[at] != 0x0A:
            return None
        length, begin = _read_varint(data, at + 1)
        at = begin + length
        values.append(data[begin:at])
    return (name.decode(), values) if at == end else None


def _decode_unusual(entry: memoryview) -> tuple[str, list[memoryview]] | None:
    """Parses an entry of any layout; None if its feature is not of bytes."""
    pair = dict(_fields(entry))
    lists = dict(_fields(pair[2])) if 2 in pair else {}
    if 1 not in lists:
        return None
    return str(pair[1], "utf-8"), [value for _, value in _fields(lists[1])]


def encode_row(row: Row) -> bytes:
    """Returns the serialized Example of a row."""
    provenance = _JSON.encode(row.provenance)
    tokens = row.tokens
    return encode_example(
        {
            "version": [bytes((RECORD_VERSION,))],
            "tokens": [tokens.astype(tokens.dtype.newbyteorder("<")).tobytes()],
            "kind": [row.kind.tobytes()],
            "loss_mask": [row.loss_mask.tobytes()],
            "segment": [row.segment.tobytes()],
            "local_position": [row.local_position.astype("<i2").tobytes()],
            "images": list(row.images),
            "image_info": [row.image_info.astype("<i4").tobytes()],
            "provenance": [provenance.encode()],
        }
    )


def decode_row(
    data: bytes, *, sequence_length: int, dtype: str, place: str = ""
) -> Row:
    """Returns the row of a serialized Example.

    Args:
        data: The record's data, without its TFRecord frame.
        sequence_length: L of the manifest.
        dtype: The manifest's `token_dtype`.
        place: File and record, for the message.

    Raises:
        GatoError: If a feature is missing, has a wrong length, or another version.
    """
    try:
        features = decode_example(data)
        if (version := bytes(features["version"][0])) != bytes((RECORD_VERSION,)):
            raise GatoError(
                f"{place}: records of version {RECORD_VERSION} can be read, got version"
                f" {list(version)}. Read it with the release that wrote it, or build"
                " again."
            )

        def array(name: str, kind: str, *shape: int) -> NDArray[Any]:
            return np.frombuffer(features[name][0], kind).reshape(shape)

        return Row(
            tokens=array(
                "tokens", np.dtype(dtype).newbyteorder("<").str, sequence_length
            ),
            kind=array("kind", "u1", sequence_length),
            loss_mask=array("loss_mask", "u1", sequence_length),
            segment=array("segment", "u1", sequence_length),
            local_position=array("local_position", "<i2", sequence_length),
            images=tuple(bytes(image) for image in features.get("images", ())),
            image_info=array("image_info", "<i4", -1, 4),
            provenance=json.loads(bytes(features["provenance"][0])),
        )
    except (ValueError, KeyError, IndexError) as error:
        raise GatoError(
            f"{place}: a record must hold the features of design section 4 for"
            f" {sequence_length} slots: {error!r}. Was it written by gato-build with"
            " this manifest's sequence_length?"
        ) from error

"""TFRecord framing with CRC32C, the `.idx` sidecar, and a random-access reader.

A record is `uint64 length, uint32 masked crc of the length, data, uint32 masked crc of
the data`, little-endian (TensorFlow, tensorflow/core/lib/io/record_writer.h). The
sidecar `<shard>.tfrecord.idx` holds the records' offsets and then the file's length as
little-endian uint64, so record i occupies `[idx[i], idx[i + 1])`.
"""

import struct
from collections.abc import Iterator

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from gato.schemas.errors import GatoError

_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_LENGTH = struct.Struct("<Q")
HEADER_BYTES = _HEADER.size
FRAME_BYTES = _HEADER.size + _CRC.size


class CorruptRecordError(GatoError):
    """A record or an index disagrees with its checksum or length."""


def _masked_crc(data: bytes | memoryview) -> int:
    # The library takes no memoryview, but an array over one, which copies nothing.
    view = np.frombuffer(data, np.uint8) if isinstance(data, memoryview) else data
    crc = google_crc32c.value(view)  # type: ignore[arg-type]
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """Returns one framed record.

    >>> frame(b"").hex()
    '000000000000000029039807d8ea82a2'
    """
    length = _LENGTH.pack(len(data))
    return b"".join(
        (length, _CRC.pack(_masked_crc(length)), data, _CRC.pack(_masked_crc(data)))
    )


def read_length(header: bytes, place: str) -> int:
    """Returns the bytes of data in the record that begins with `header`.

    Args:
        header: The record's first `HEADER_BYTES`, or fewer where the file ends.
        place: File and offset, for the message.

    Raises:
        CorruptRecordError: If it is too short or its checksum does not match.
    """
    if len(header) < HEADER_BYTES:
        raise CorruptRecordError(
            f"{place}: a TFRecord has at least {FRAME_BYTES} bytes; the file is"
            " truncated. Build or copy it again."
        )
    length, length_crc = _HEADER.unpack(header)
    if _masked_crc(header[:8]) != length_crc:
        raise CorruptRecordError(
            f"{place}: the checksum of a TFRecord's length does not match; the file is"
            " corrupt or not a TFRecord. Build or copy it again."
        )
    return length


def unframe(framed: bytes | memoryview, place: str) -> bytes:
    """Returns the data of one framed record, as `view_record` checks it."""
    return bytes(view_record(framed, place))


def view_record(framed: bytes | memoryview, place: str) -> memoryview:
    """Returns the data of one framed record without copying it.

    Args:
        framed: Exactly one record with its frame.
        place: File and offset, for the message.

    Raises:
        CorruptRecordError: If length or checksums disagree.
    """
    if len(framed) < FRAME_BYTES:
        raise CorruptRecordError(
            f"{place}: a TFRecord has at least {FRAME_BYTES} bytes, got {len(framed)};"
            " the file is truncated. Build or copy the shard again."
        )
    length, length_crc = _HEADER.unpack_from(framed, 0)
    framed = memoryview(framed)
    if _masked_crc(bytes(framed[:8])) != length_crc:
        raise CorruptRecordError(
            f"{place}: the checksum of a TFRecord's length does not match; the file is"
            " corrupt or not a TFRecord. Build or copy the shard again."
        )
    if length + FRAME_BYTES != len(framed):
        raise CorruptRecordError(
            f"{place}: the record says it holds {length} bytes, but its place in the"
            f" file has {len(framed) - FRAME_BYTES}; the file is truncated or its .idx"
            " is of another file. Build or copy the shard again."
        )
    data = framed[_HEADER.size : _HEADER.size + length]
    if _masked_crc(data) != _CRC.unpack_from(framed, _HEADER.size + length)[0]:
        raise CorruptRecordError(
            f"{place}: the checksum of a TFRecord's data does not match; the file is"
            " corrupt. Build or copy the shard again."
        )
    return data


def pack_index(offsets: list[int] | NDArray[np.integer], file_bytes: int) -> bytes:
    """Returns the bytes of an `.idx` sidecar."""
    return np.append(np.asarray(offsets, "<u8"), np.uint64(file_bytes)).tobytes()


def parse_index(data: bytes, path: str) -> NDArray[np.uint64]:
    """Returns `[num_records + 1]` offsets; the last is the shard's length in bytes.

    Raises:
        CorruptRecordError: If the bytes are no index.
    """
    if len(data) < 8 or len(data) % 8:
        raise CorruptRecordError(
            f"{path}: an index holds a whole number of 8-byte offsets, at least one,"
            f" got {len(data)} bytes. Build or copy the shard again."
        )
    offsets = np.frombuffer(data, "<u8")
    if (len(offsets) > 1 and offsets[0] != 0) or (
        np.diff(offsets.astype("i8")) < 0
    ).any():
        raise CorruptRecordError(
            f"{path}: an index starts at 0 and never falls. Build or copy the shard"
            " again."
        )
    return offsets


def iterate_records(data: bytes | memoryview, path: str) -> Iterator[tuple[int, bytes]]:
    """Yields (offset, data) of each record of a whole file, without an index.

    Raises:
        CorruptRecordError: At the first record whose frame disagrees, with the offset.
    """
    view = memoryview(data)
    offset = 0
    while offset < len(view):
        place = f"{path} at byte {offset}"
        if len(view) - offset < FRAME_BYTES:
            unframe(view[offset:], place)
        length = _LENGTH.unpack_from(view, offset)[0]
        end = min(offset + length + FRAME_BYTES, len(view))
        yield offset, unframe(view[offset:end], place)
        offset = end

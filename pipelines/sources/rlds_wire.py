"""The wire format of `tf.train.Example`, read into NumPy without a protobuf library.

    Example {1: Features {1: repeated entry {1: key, 2: Feature}}}
    Feature {1: BytesList | 2: FloatList | 3: Int64List}; lists {1: repeated value}

(tensorflow/core/example/{example,feature}.proto.) Floats are viewed where they lie,
varints decoded by array operations. docs/benchmarks.md has what that gains.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gato.schemas.record import encode_varint

Buffer = bytes | memoryview
Span = tuple[int, int]

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_KINDS: dict[int, Literal["bytes", "float", "int64"]] = {
    1: "bytes",
    2: "float",
    3: "int64",
}
_MAX_VARINT_BYTES = 10


class WireError(ValueError):
    """The bytes are no `tf.train.Example`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Feature:
    """One feature's list of values, still in the record.

    Attributes:
        data: The record.
        kind: Which list it is; None of a feature without any.
        spans: Where the list's message lies; several where it was written in parts.
    """

    data: Buffer
    kind: Literal["bytes", "float", "int64"] | None
    spans: tuple[Span, ...]

    def floats(self) -> NDArray[np.float32]:
        """Returns the values of a float list, a view if it is packed in one piece.

        Raises:
            WireError: If they are no whole floats.
        """
        pieces = []
        for wire, start, stop in self._values():
            if wire not in (_LENGTH, _FIXED32) or (stop - start) % 4:
                raise WireError(f"a float list at byte {start} is damaged")
            count = (stop - start) // 4
            pieces.append(np.frombuffer(self.data, "<f4", count, start))
        return _joined(pieces, np.float32)

    def integers(self) -> NDArray[np.int64]:
        """Returns the values of an int64 list.

        Raises:
            WireError: If they are no whole varints.
        """
        pieces = []
        for wire, start, stop in self._values():
            if wire not in (_LENGTH, _VARINT):
                raise WireError(f"an int64 list at byte {start} is damaged")
            raw = np.frombuffer(self.data, np.uint8, stop - start, start)
            pieces.append(decode_varints(raw))
        return _joined(pieces, np.int64)

    def strings(self) -> list[bytes]:
        """Returns the values of a bytes list.

        Raises:
            WireError: If a value passes the end.
        """
        data = self.data
        values = []
        for wire, start, stop in self._values():
            if wire != _LENGTH:
                raise WireError(f"a bytes list at byte {start} is damaged")
            values.append(bytes(data[start:stop]))
        return values

    def blocks(self, size: int) -> NDArray[np.uint8] | None:
        """Returns the values of a bytes list as uint8 [n, size], a view.

        None unless each value has just this size and the list is written in one piece.
        """
        if len(self.spans) != 1:
            return None
        start, stop = self.spans[0]
        header = b"\x0a" + encode_varint(size)
        stride = len(header) + size
        if (stop - start) % stride:
            return None
        table = np.frombuffer(self.data, np.uint8, stop - start, start)
        table = table.reshape(-1, stride)
        expected = np.frombuffer(header, np.uint8)
        if not (table[:, : len(header)] == expected).all():
            return None
        return table[:, len(header) :]

    def _values(self) -> Iterator[tuple[int, int, int]]:
        for start, stop in self.spans:
            for number, wire, first, end in _fields(self.data, start, stop):
                if number == 1:
                    yield wire, first, end


class Example(Mapping[str, Feature]):
    """The features of a serialized `tf.train.Example` by name.

    Only the names are read at first; a feature is when it is asked for. As protobuf has
    it, the last of several entries of one name counts.
    """

    def __init__(self, data: Buffer) -> None:
        """Finds the features.

        Raises:
            WireError: If the bytes are no such message.
        """
        self._data = data
        self._spans: dict[str, list[Span]] = {}
        self._found: dict[str, Feature] = {}
        for number, wire, start, stop in _fields(data, 0, len(data)):
            if number != 1 or wire != _LENGTH:
                continue
            for inner, inner_wire, first, end in _fields(data, start, stop):
                if inner == 1 and inner_wire == _LENGTH:
                    name, spans = _entry(data, first, end)
                    self._spans[name] = spans

    def __getitem__(self, name: str) -> Feature:
        """Returns a feature.

        Raises:
            WireError: If it is damaged.
        """
        if name not in self._found:
            self._found[name] = _feature(self._data, self._spans[name])
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        return name in self._spans

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)


def decode_varints(raw: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Returns the int64 values of packed varints.

    Raises:
        WireError: If the last has no end, or one has more than ten bytes.

    >>> decode_varints(np.array([1, 0x96, 1], np.uint8))
    array([  1, 150])
    """
    is_last = raw < 0x80
    if is_last.all():  # flags and small numbers, one byte each
        return raw.astype(np.int64)
    ends = np.flatnonzero(is_last)
    if not is_last[-1]:
        raise WireError("the last varint of an int64 list has no end")
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends - starts + 1
    if int(lengths.max()) > _MAX_VARINT_BYTES:
        raise WireError("a varint of an int64 list has more than ten bytes")
    place = np.arange(len(raw)) - np.repeat(starts, lengths)
    bits = (raw & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(bits, starts).view(np.int64)


def _joined(pieces: list[NDArray], dtype: type) -> NDArray:
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype)


def _entry(data: Buffer, start: int, stop: int) -> tuple[str, list[Span]]:
    """Returns a feature's name, and where its message lies."""
    name, spans = "", []
    for number, wire, first, end in _fields(data, start, stop):
        if wire != _LENGTH:
            continue
        if number == 2:
            spans.append((first, end))
        elif number == 1:
            try:
                name = str(data[first:end], "utf-8")
            except UnicodeDecodeError as error:
                raise WireError(f"a feature's name is not UTF-8: {error}") from error
    return name, spans


def _feature(data: Buffer, spans: Sequence[Span]) -> Feature:
    kind, lists = None, []
    for start, stop in spans:
        for number, wire, first, end in _fields(data, start, stop):
            if number in _KINDS and wire == _LENGTH:
                if _KINDS[number] != kind:  # the last list set is the one that is
                    kind, lists = _KINDS[number], []
                lists.append((first, end))
    return Feature(data, kind, tuple(lists))


def _fields(data: Buffer, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields (field number, wire type, start, stop) of a message's fields."""
    while at < end:
        start = at
        tag = data[at]
        if tag < 0x80:  # as all of Example's are
            at += 1
        else:
            tag, at = _varint(data, at, end)
        wire = tag & 7
        if wire == _LENGTH:
            length, at = _varint(data, at, end)
            stop = at + length
        elif wire == _VARINT:
            _, stop = _varint(data, at, end)
        elif wire == _FIXED32:
            stop = at + 4
        elif wire == _FIXED64:
            stop = at + 8
        else:
            raise WireError(f"wire type {wire} at byte {start} is none of Example's")
        if stop > end or tag < 8:
            raise WireError(f"a field at byte {start} passes the end of its message")
        yield tag >> 3, wire, at, stop
        at = stop


def _varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 7 * _MAX_VARINT_BYTES:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise WireError(f"a varint before byte {at} has no end")

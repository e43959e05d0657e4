"""TFRecord framing: TensorFlow's bytes, indexes, and every kind of damage."""

import pathlib
import runpy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gato.schemas import tfrecord
from gato.schemas.tfrecord import CorruptRecordError

GOLDEN = pathlib.Path(__file__).parents[1] / "testdata/golden"
RECORDS = [b"", b"a", b"bc" * 100]
FILE = b"".join(map(tfrecord.frame, RECORDS))


def test_frames_are_the_bytes_tensorflow_wrote() -> None:
    data = runpy.run_path(str(GOLDEN / "make.py"))["frames"]()
    framed = (GOLDEN / "framing.tfrecord").read_bytes()
    assert b"".join(map(tfrecord.frame, data)) == framed
    assert [record for _, record in tfrecord.iterate_records(framed, "f")] == data


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_records_round_trip_with_and_without_index(records: list[bytes]) -> None:
    framed = [tfrecord.frame(record) for record in records]
    data = b"".join(framed)
    found = list(tfrecord.iterate_records(data, "f"))
    assert [record for _, record in found] == records
    offsets = [offset for offset, _ in found]
    index = tfrecord.parse_index(tfrecord.pack_index(offsets, len(data)), "f.idx")
    assert index[-1] == len(data)
    for number, record in enumerate(records):
        start, stop = int(index[number]), int(index[number + 1])
        assert tfrecord.unframe(memoryview(data)[start:stop], "p") == record


def test_an_index_by_hand() -> None:
    assert tfrecord.pack_index([0, 17], 40) == (
        b"\0" * 8 + b"\x11" + b"\0" * 7 + b"\x28" + b"\0" * 7
    )
    assert tfrecord.pack_index([], 0) == b"\0" * 8
    np.testing.assert_array_equal(tfrecord.parse_index(b"\0" * 8, "i"), [0])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "at least one, got 0 bytes"),
        (b"1234567", "a whole number of 8-byte offsets"),
        (tfrecord.pack_index([5, 9], 20), "starts at 0 and never falls"),
        (tfrecord.pack_index([0, 9, 4], 20), "starts at 0 and never falls"),
        (b"\0" * 8 + b"\xff" * 8, "starts at 0 and never falls"),
    ],
)
def test_a_damaged_index_is_refused(data: bytes, expected: str) -> None:
    with pytest.raises(CorruptRecordError, match=f"x.idx: .*{expected}"):
        tfrecord.parse_index(data, "x.idx")


@settings(max_examples=200)
@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_every_flipped_bit_is_found(at: int, change: int) -> None:
    data = bytearray(FILE)
    data[at] ^= change
    with pytest.raises(CorruptRecordError, match="f at byte "):
        list(tfrecord.iterate_records(bytes(data), "f"))


@given(st.integers(1, len(FILE) - 1))
def test_every_truncation_inside_a_record_is_found(length: int) -> None:
    if length in (16, 33):  # whole records
        assert len(list(tfrecord.iterate_records(FILE[:length], "f"))) == length // 16
        return
    with pytest.raises(CorruptRecordError, match=r"f at byte (0|16|33): .*truncated"):
        list(tfrecord.iterate_records(FILE[:length], "f"))


def test_records_before_the_damage_are_read() -> None:
    data = bytearray(FILE)
    data[-1] ^= 1
    records = tfrecord.iterate_records(bytes(data), "f")
    assert next(records) == (0, b"")
    assert next(records) == (16, b"a")
    with pytest.raises(CorruptRecordError, match="f at byte 33: the checksum of a TF"):
        next(records)


def test_a_span_of_another_record_is_refused() -> None:
    with pytest.raises(CorruptRecordError, match=r"\.idx is of another file"):
        tfrecord.unframe(FILE[:33], "p")
    with pytest.raises(CorruptRecordError, match="length does not match"):
        tfrecord.unframe(FILE[1:17], "p")

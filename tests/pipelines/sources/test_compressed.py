"""Streams beside gzip and zstandard, cut at every byte."""

import gzip
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gato.pipelines.sources import compressed
from gato.pipelines.sources.compressed import CorruptStreamError, ForwardFile

CONTENT = b"".join(b"line %d of a file\n" % n for n in range(300))


def pack(data: bytes, suffix: str) -> bytes:
    match suffix:
        case ".gz":
            return gzip.compress(data, 1)
        case ".zst":
            return zstandard.ZstdCompressor().compress(data)
        case _:
            return data


def unpack(data: bytes, suffix: str) -> bytes:
    return b"".join(compressed.chunks(io.BytesIO(data), suffix))


def before_the_damage(data: bytes, suffix: str) -> bytes:
    """Returns what comes of damaged bytes before they are told to be damaged."""
    got = []
    pieces = compressed.chunks(io.BytesIO(data), suffix)
    with pytest.raises(CorruptStreamError):
        got.extend(pieces)
    return b"".join(got)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("size", [0, 1, 70_000, (1 << 20) - 1, 1 << 20, 5 << 20])
def test_gives_the_bytes_that_were_packed(suffix: str, size: int) -> None:
    data = np.random.default_rng(size).integers(0, 4, size, dtype=np.uint8).tobytes()
    assert unpack(pack(data, suffix), suffix) == data


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_members_and_frames_follow_one_another(suffix: str) -> None:
    both = pack(b"one", suffix) + pack(b"", suffix) + pack(b"two", suffix)
    assert unpack(both, suffix) == b"onetwo"


def test_padding_after_a_gzip_member() -> None:
    assert unpack(gzip.compress(b"one") + bytes(600), ".gz") == b"one"


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_every_truncation_is_told(suffix: str) -> None:
    packed = pack(CONTENT, suffix)
    for length in range(len(packed)):
        assert CONTENT.startswith(before_the_damage(packed[:length], suffix))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_garbage_after_the_end_is_told(suffix: str) -> None:
    assert before_the_damage(pack(CONTENT, suffix) + b"garbage", suffix) == CONTENT


def test_every_flipped_bit_gives_zlib_s_verdict() -> None:
    data = np.random.default_rng(1).integers(97, 105, 700, dtype=np.uint8).tobytes()
    packed = gzip.compress(data, 6, mtime=0) + gzip.compress(b"two", 6, mtime=0)
    told = 0
    for place in range(len(packed)):
        for bit in (0, 3, 7):
            damaged = bytearray(packed)
            damaged[place] ^= 1 << bit
            try:
                expected = gzip.decompress(damaged)
            except (OSError, EOFError, zlib.error):
                before_the_damage(bytes(damaged), ".gz")
                told += 1
            else:  # a field of the header that is for people
                assert unpack(bytes(damaged), ".gz") == expected
    assert told > 2 * len(packed)


def header(flags: int) -> bytes:
    """Returns a gzip header with the optional fields of `flags`."""
    data = b"\x1f\x8b\x08" + bytes([flags]) + bytes(4) + b"\0\xff"
    data += struct.pack("<H", 300) + b"x" * 300 if flags & 4 else b""
    data += b"name\0" if flags & 8 else b""
    data += b"comment\0" if flags & 16 else b""
    checksum = struct.pack("<H", zlib.crc32(data) & 0xFFFF)
    return data + checksum if flags & 2 else data


class Dripping(io.BytesIO):
    """Gives so many bytes at a time, as a slow store may."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read(self, wanted: int | None = -1, /) -> bytes:
        return super().read(self._size)


@pytest.mark.parametrize("flags", range(0, 32, 2))
def test_optional_fields_of_headers_wherever_pieces_end(flags: int) -> None:
    member = header(flags) + gzip.compress(CONTENT, 6, mtime=0)[10:]
    packed = member + bytes(5) + member
    assert gzip.decompress(packed) == 2 * CONTENT
    for size in (1, 2, 7, 100, 311, 312, 1 << 20):
        assert b"".join(compressed.chunks(Dripping(packed, size), ".gz")) == 2 * CONTENT
    for length in range(len(member) + 6, len(member) + 340, 3):
        assert before_the_damage(packed[:length], ".gz")[: len(CONTENT)] == CONTENT


def test_a_header_without_end_takes_no_memory() -> None:
    packed = header(8)[:-1] + b"n" * (3 << 20)
    tracemalloc.start()
    try:
        assert before_the_damage(packed, ".gz") == b""
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()


def test_a_zstd_bomb_is_read_in_bounded_memory() -> None:
    blocks = 4000
    # A frame of blocks that repeat one byte 128 Ki times each, the last one marked.
    frame = b"\x28\xb5\x2f\xfd\0\x58"
    for last in (0,) * (blocks - 1) + (1,):
        frame += struct.pack("<I", last | 1 << 1 | 128 << 13)[:3] + b"x"
    tracemalloc.start()
    try:
        size = sum(map(len, compressed.chunks(io.BytesIO(frame), ".zst")))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == blocks * (128 << 10)
    assert peak < 300 << 20


def test_truncation_after_a_mebibyte_keeps_what_stood_before() -> None:
    data = np.random.default_rng(0).bytes(3 << 20)
    got = before_the_damage(gzip.compress(data, 1)[:-9], ".gz")
    # All but what the decompressor has not seen the end of.
    assert len(got) > len(data) - (1 << 16)
    assert data.startswith(got)


@given(
    st.lists(st.binary(max_size=9).map(lambda b: b.replace(b"x", b"\n")), max_size=20)
)
def test_lines_do_not_depend_on_chunks(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    expected = whole.split(b"\n")
    if not expected[-1]:
        expected.pop()
    got = list(compressed.lines(iter(pieces), 7, 1000))
    assert got == list(enumerate(expected, 7))


def test_long_lines_are_none_wherever_the_chunks_end() -> None:
    whole = b"short\n" + b"x" * 11 + b"\n0123456789\n" + b"y" * 12
    for size in range(1, len(whole)):
        pieces = (whole[at : at + size] for at in range(0, len(whole), size))
        assert list(compressed.lines(pieces, 0, 10)) == [
            (0, b"short"),
            (1, None),
            (2, b"0123456789"),
            (3, None),
        ]


def test_forward_file_reads_tells_and_skips() -> None:
    file = ForwardFile(iter([b"0123", b"45", b"6789"]))
    assert (file.read(3), file.tell()) == (b"012", 3)
    assert (file.seek(5), file.read(2)) == (5, b"56")
    with pytest.raises(io.UnsupportedOperation):
        file.seek(1)
    assert (file.read(), file.read(1), file.tell()) == (b"789", b"", 10)
    assert file.seek(50) == 10

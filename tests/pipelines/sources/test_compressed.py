"""Streams beside gzip and zstandard, cut at every byte."""

import gzip
import io

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

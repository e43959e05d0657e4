"""Bytes and lines of plain, gzip and zstd files, read forward in flat memory.

The libraries' own file objects lose what stood before a truncation, or end there in
silence; these give every byte that is whole, and then raise. gzip goes through ISA-L,
which inflates 2.5 times as fast as zlib.
"""

import io
from collections.abc import Iterator
from typing import IO, Any

import zstandard
from isal import isal_zlib

_CHUNK_BYTES = 1 << 20
# The longest window that zstd's own tool writes with --ultra --long=31.
_MAX_WINDOW_BYTES = 1 << 31
# zstd's decompressor has no bound on what a piece becomes, and four bytes can be a
# block of 128 KiB: of a piece there comes 128 MiB at most.
_ZSTD_PIECE_BYTES = 4 << 10
# gzip's header and trailer.
_GZIP_WBITS = 31
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_HEADER_BYTES = 10
_MAX_HEADER_BYTES = 2 << 20
_HAS_CHECKSUM, _HAS_EXTRA, _HAS_NAME, _HAS_COMMENT = 2, 4, 8, 16

# Its type stub says that it is an instance.
_ISAL_ERROR: type[Exception] = isal_zlib.error  # type: ignore[assignment]

COMPRESSIONS = (".gz", ".zst")


class CorruptStreamError(ValueError):
    """The compressed bytes are damaged or end too early."""


def compression(path: str) -> str:
    """Returns `.gz`, `.zst` or an empty string.

    >>> compression("c4/train.json.gz")
    '.gz'
    """
    return next((suffix for suffix in COMPRESSIONS if path.endswith(suffix)), "")


def chunks(file: IO[bytes], suffix: str) -> Iterator[bytes]:
    """Yields the decompressed bytes of an open file in chunks of about 1 MiB.

    Several members (gzip) or frames (zstd) in one file are read one after another.

    Args:
        file: Positioned at its first byte, or, uncompressed, wherever to begin.
        suffix: What `compression` said.

    Raises:
        CorruptStreamError: After the last good chunk.
    """
    match suffix:
        case ".gz":
            yield from _gzip_chunks(_not_empty(_raw_chunks(file, _CHUNK_BYTES)))
        case ".zst":
            yield from _zstd_chunks(_not_empty(_raw_chunks(file, _ZSTD_PIECE_BYTES)))
        case _:
            yield from _raw_chunks(file, _CHUNK_BYTES)


def _raw_chunks(file: IO[bytes], size: int) -> Iterator[bytes]:
    while data := file.read(size):
        yield data


def _not_empty(pieces: Iterator[bytes]) -> Iterator[bytes]:
    first = next(pieces, None)
    if first is None:
        raise CorruptStreamError("no bytes: even compressed nothing has a header")
    yield first
    yield from pieces


def _gzip_chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    state = isal_zlib.decompressobj(_GZIP_WBITS)
    is_open = False  # inside a member
    held = b""
    for piece in pieces:
        data, held = held + piece, b""
        while data:
            if not is_open:
                # Padding by NULs may follow a member.
                data = data.lstrip(b"\0")
                if _header_bytes(data) > len(data):
                    held = data
                    break
                state = isal_zlib.decompressobj(_GZIP_WBITS)
                is_open = True
            try:
                out = state.decompress(data, _CHUNK_BYTES)
            except _ISAL_ERROR as error:
                raise CorruptStreamError(f"damaged gzip data: {error}") from error
            if out:
                yield out
            data = state.unused_data if state.eof else state.unconsumed_tail
            is_open = not state.eof
    if is_open:
        yield from filter(None, (state.flush(),))
    if held or (is_open and not state.eof):
        raise CorruptStreamError("the gzip data ends before its end mark")


def _header_bytes(data: bytes) -> int:
    """Returns the size of a gzip member's header; more than `data` if it is cut.

    ISA-L misreads a header of two optional fields or more that comes in pieces.
    """
    if len(data) < _GZIP_HEADER_BYTES:
        return _GZIP_HEADER_BYTES
    flags, at = data[3], _GZIP_HEADER_BYTES
    if len(data) > _MAX_HEADER_BYTES or not data.startswith(_GZIP_MAGIC):
        return at  # no header at all, of which ISA-L tells
    if flags & _HAS_EXTRA:
        at += 2 + int.from_bytes(data[at : at + 2], "little")
    for flag in (_HAS_NAME, _HAS_COMMENT):
        if flags & flag:
            end = data.find(b"\0", at)
            at = len(data) + 1 if end < 0 else end + 1
    return at + 2 * bool(flags & _HAS_CHECKSUM)


def _zstd_chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    state: Any = None
    for data in pieces:
        while data:
            state = state or decompressor.decompressobj()
            try:
                out = state.decompress(data)
            except zstandard.ZstdError as error:
                raise CorruptStreamError(f"damaged zstd data: {error}") from error
            if out:
                yield out
            data = state.unused_data if state.eof else b""
            state = None if state.eof else state
    if state is not None:
        raise CorruptStreamError("the zstd data ends before its end mark")


def lines(
    pieces: Iterator[bytes], first_number: int, max_bytes: int
) -> Iterator[tuple[int, bytes | None]]:
    r"""Yields (number, line without its `\n`) of a stream.

    A line longer than `max_bytes` is None and takes no memory. A last line without an
    end is a line; one that a `CorruptStreamError` cuts is not.
    """
    number = first_number
    begun: list[bytes] = []
    length = 0
    for piece in pieces:
        parts = piece.split(b"\n")
        for part in parts[:-1]:
            length += len(part)
            if length > max_bytes:
                yield number, None
            else:
                yield number, b"".join((*begun, part)) if begun else part
            number, begun, length = number + 1, [], 0
        length += len(parts[-1])
        if length > max_bytes:
            begun = []
        elif parts[-1]:
            begun.append(parts[-1])
    if length:
        yield number, None if length > max_bytes else b"".join(begun)


class ForwardFile(io.RawIOBase):
    """A file over chunks that can read, tell and skip forward.

    Reading past the end gives fewer bytes, as files do.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""
        self._position = 0

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def tell(self) -> int:
        """Returns the place in the decompressed bytes."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Returns the next `size` bytes, or fewer at the end."""
        wanted = size if size >= 0 else 1 << 62
        parts = []
        while wanted:
            if not self._held:
                self._held = next(self._pieces, b"")
                if not self._held:
                    break
            part = self._held[:wanted]
            self._held = self._held[len(part) :]
            self._position += len(part)
            wanted -= len(part)
            parts.append(part)
        return b"".join(parts)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Skips forward to `offset`, or to the end if that comes first."""
        if whence != io.SEEK_SET or offset < self._position:
            raise io.UnsupportedOperation("only forward from the start")
        while self._position < offset:
            if not self.read(min(_CHUNK_BYTES, offset - self._position)):
                break
        return self._position

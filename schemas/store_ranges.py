"""Reading objects by byte ranges: several on the way at once, each of exact length.

At most `CONCURRENT` requests of at most `PIECE_BYTES` are on their way for one reading
thread, so 64 MiB beside what it asked for. A file that is read front to back holds at
most `_KEPT_BLOCKS + _BLOCKS_AHEAD + 1` blocks, 25 MiB.
"""

import asyncio
import collections
import concurrent.futures
import contextlib
import io
import time
from collections.abc import Generator, Iterable, Iterator
from typing import Any, NamedTuple

from gato.schemas import object_store
from gato.schemas.errors import GatoError
from gato.schemas.object_store import StoreError

CONCURRENT = 16
PIECE_BYTES = 4 << 20
BLOCK_BYTES = 1 << 20
_BLOCKS_AHEAD = 8
_KEPT_BLOCKS = 16
# HTTP's answer to a range that begins behind the end.
_NO_SUCH_RANGE = "416"


class Piece(NamedTuple):
    """Bytes `[start, stop)` of an object."""

    path: str
    start: int
    stop: int


def pieces_of(path: str, start: int, stop: int) -> list[Piece]:
    """Returns the pieces, each for one request, that make up a range."""
    return [
        Piece(path, at, min(at + PIECE_BYTES, stop))
        for at in range(start, stop, PIECE_BYTES)
    ]


def fetch(pieces: Iterable[Piece]) -> Generator[bytes, None, None]:
    """Yields the bytes of each piece, in order, while the next ones are fetched.

    Raises:
        GatoError: If an object ends before the piece does.
        StoreError: If it is not there, or its bytes cannot be got.
    """
    window: collections.deque[tuple[Piece, concurrent.futures.Future[bytes]]] = (
        collections.deque()
    )
    try:
        for piece in pieces:
            window.append((piece, _begin(piece)))
            if len(window) == CONCURRENT:
                yield _end(*window.popleft())
        while window:
            yield _end(*window.popleft())
    finally:
        for _, future in window:
            future.cancel()


def _begin(piece: Piece) -> "concurrent.futures.Future[bytes]":
    store, stripped = object_store.filesystem(piece.path)
    if store.async_impl:
        coroutine = store._cat_file(stripped, start=piece.start, end=piece.stop)
        return asyncio.run_coroutine_threadsafe(coroutine, store.loop)
    future: concurrent.futures.Future[bytes] = concurrent.futures.Future()
    try:
        future.set_result(store.cat_file(stripped, piece.start, piece.stop))
    except Exception as error:
        future.set_exception(error)
    return future


def _end(piece: Piece, future: "concurrent.futures.Future[bytes]") -> bytes:
    """Returns a piece's bytes, fetched again as long as the answer is not whole."""
    doing = f"reading bytes {piece.start} to {piece.stop}"
    for pause in (*object_store.PAUSES_SECONDS, None):
        try:
            data = future.result()
        except GatoError:
            raise
        except Exception as error:  # stores' libraries raise what they like
            if str(getattr(error, "code", "")) == _NO_SUCH_RANGE:
                raise _truncated(piece) from error
            problem: Exception | str = error
            if pause is None or not object_store.is_passing(error):
                raise object_store.failed(piece.path, doing, error) from error
        else:
            if len(data) == piece.stop - piece.start:
                return data
            problem = f"the store sent {len(data)} bytes"
            if object_store.info(piece.path)["size"] < piece.stop:
                raise _truncated(piece)
        if pause is None:
            raise object_store.failed(piece.path, doing, problem)
        time.sleep(pause)
        future = _begin(piece)
    raise AssertionError("unreachable")


def _truncated(piece: Piece) -> StoreError:
    path, start, stop = piece
    there = max(0, int(object_store.info(path)["size"]) - start)
    return object_store.kept(
        StoreError(
            f"{path}: bytes {start} to {stop} were asked for, the file gave {there}; it"
            " is truncated. Build or copy it again."
        )
    )


class ObjectFile(io.RawIOBase):
    """An object as a seekable file, read ahead while it is read in order."""

    def __init__(self, path: str) -> None:
        """Opens it.

        Raises:
            FileNotFoundError: If it is not there.
        """
        self.name = path
        self._path = path
        found = object_store.info(path)
        if found["type"] == "directory":
            raise IsADirectoryError(f"{path} is a folder")
        self._size = int(found["size"])
        self._position = 0
        self._last = -1
        self._blocks: collections.OrderedDict[int, bytes] = collections.OrderedDict()
        self._ahead: dict[int, concurrent.futures.Future[bytes]] = {}
        # A library may read from threads of its own, which know of no context.
        self._failures = object_store.failure_list()

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Returns the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Moves, also behind the end, where nothing is read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        position = base[whence] + offset
        if position < 0:
            raise ValueError(f"a position is at least 0, got {position}")
        self._position = position
        return position

    def readinto(self, buffer: Any, /) -> int:
        """Reads up to the end of a block.

        Raises:
            GatoError: As `fetch`.
        """
        view = memoryview(buffer).cast("B")
        if self._position >= self._size or not len(view):
            return 0
        number, begin = divmod(self._position, BLOCK_BYTES)
        data = memoryview(self._block(number))[begin : begin + len(view)]
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def readall(self) -> bytes:
        """Reads the rest, several pieces at once.

        Raises:
            GatoError: As `fetch`.
        """
        wanted = pieces_of(self._path, self._position, self._size)
        with _reported(self._failures):
            data = b"".join(fetch(wanted))
        self._position = max(self._position, self._size)
        return data

    def close(self) -> None:
        """Gives up what is on its way."""
        self._drop_ahead()
        self._blocks.clear()
        super().close()

    def _piece(self, number: int) -> Piece:
        start = number * BLOCK_BYTES
        return Piece(self._path, start, min(start + BLOCK_BYTES, self._size))

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
        else:
            in_order = number == self._last + 1 and number > 0
            future = self._ahead.pop(number, None) or _begin(self._piece(number))
            if in_order:
                self._read_ahead(number)
            else:
                self._drop_ahead()
            with _reported(self._failures):
                self._blocks[number] = _end(self._piece(number), future)
            if len(self._blocks) > _KEPT_BLOCKS:
                self._blocks.popitem(last=False)
        self._last = number
        return self._blocks[number]

    def _read_ahead(self, number: int) -> None:
        last = (self._size - 1) // BLOCK_BYTES
        for ahead in range(number + 1, min(number + _BLOCKS_AHEAD, last) + 1):
            if ahead not in self._ahead and ahead not in self._blocks:
                self._ahead[ahead] = _begin(self._piece(ahead))

    def _drop_ahead(self) -> None:
        for future in self._ahead.values():
            future.cancel()
        self._ahead.clear()


@contextlib.contextmanager
def _reported(failures: list[StoreError] | None) -> Iterator[None]:
    """Keeps a failure where the file was opened, whatever thread it happens in."""
    try:
        yield
    except StoreError as error:
        if failures is not None and error not in failures:
            failures.append(error)
        raise

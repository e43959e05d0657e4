"""Ranges of bytes of text files that begin where a line or a paragraph does."""

import contextlib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Literal

from gato.pipelines.sources import base, compressed
from gato.pipelines.sources.image_folder import Pending, with_images
from gato.schemas import files
from gato.schemas.episode import Unreadable
from gato.schemas.errors import QuarantineError, Reason

_BLOCK_BYTES = 1 << 20
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error)


def line_ranges(
    path: str,
    relative_path: str,
    size: int,
    unit: Literal["line", "paragraph"],
    most_bytes: int | None = None,
) -> Iterator[base.Partition]:
    """Yields ranges of bytes that begin where a line or paragraph does.

    Args:
        path: Of an uncompressed file.
        relative_path: What ids begin with.
        size: Its bytes.
        unit: What no border may lie in.
        most_bytes: Of a range, before the rest of its last unit; 256 MiB by default.
    """
    most_bytes = most_bytes or base.MAX_PARTITION_BYTES
    with files.open_read(path) as file:
        start = first = 0
        while start < size or start == 0:
            stop = min(start + most_bytes, size)
            num_lines = 0
            if stop < size:
                file.seek(start)
                num_lines = _count_lines(file, stop - start)
                stop, more = _next_start(file, stop, unit)
                num_lines += more
            yield base.Partition(
                path=path,
                relative_path=relative_path,
                start=start,
                stop=stop,
                first_number=first,
                num_bytes=stop - start,
            )
            start, first = stop, first + num_lines
            if not size:
                return


def shared_line_ranges(
    path: str, relative_path: str, folder: str, *, is_plain: bool, most_bytes: int
) -> list[base.Partition]:
    """Returns the partitions of lines whose images lie in a folder.

    Args:
        path: Of the lines.
        relative_path: What ids begin with.
        folder: Of the images, whose bytes are shared among the partitions.
        is_plain: Whether the file can be entered elsewhere than at its start.
        most_bytes: Of a range, before the rest of its last line.
    """
    try:
        size = files.size(path)
        parts = [base.Partition(path=path, relative_path=relative_path, num_bytes=size)]
        if is_plain:
            parts = list(line_ranges(path, relative_path, size, "line", most_bytes))
    except OSError:  # it vanished; read() tells
        return [base.Partition(path=path, relative_path=relative_path)]
    return with_images(parts, folder)


def _count_lines(file: IO[bytes], num_bytes: int) -> int:
    count = 0
    while num_bytes:
        block = file.read(min(_BLOCK_BYTES, num_bytes))
        if not block:
            break
        count += block.count(b"\n")
        num_bytes -= len(block)
    return count


def _next_start(
    file: IO[bytes], at: int, unit: Literal["line", "paragraph"]
) -> tuple[int, int]:
    """Returns where the next document may begin, and the line ends before it."""
    num_lines = 0
    is_whole = False  # `at` may lie inside a line, of which a blank rest says nothing
    while line := file.readline(_BLOCK_BYTES):
        at += len(line)
        ends = line.endswith(b"\n")
        num_lines += ends
        if ends and (unit == "line" or (is_whole and line.isspace())):
            break
        is_whole = ends
    return at, num_lines


@contextlib.contextmanager
def open_range(partition: base.Partition) -> Iterator[Iterator[bytes]]:
    """Opens a range, or a whole file, whose name says how it is compressed.

    Yields:
        Its decompressed bytes, in chunks.
    """
    with files.open_read(partition.path) as file:
        if partition.start:
            file.seek(partition.start)
        pieces = compressed.chunks(file, compressed.compression(partition.path))
        if partition.stop is not None:
            pieces = _until(pieces, partition.stop - partition.start)
        yield pieces


def items_of_lines(
    partition: base.Partition,
    lines: Iterator[tuple[int, bytes | None]],
    item: Callable[[int, bytes | None, str], Pending],
) -> Iterator[Pending | Unreadable]:
    """Yields an item for each line that is not blank, or the verdict on it.

    Args:
        partition: Where the lines stand.
        lines: As `compressed.lines` yields them; what that raises ends them.
        item: Makes an item of a line's number and bytes and the item's id, or raises a
            QuarantineError.
    """
    number = partition.first_number
    try:
        for number, line in lines:
            if line is None or line.strip():
                item_id = f"{partition.relative_path}/{number}"
                try:
                    yield item(number, line, item_id)
                except QuarantineError as error:
                    yield base.unreadable(partition, item_id, number, error)
            number += 1
    except (OSError, EOFError, ValueError, *_ZIP_ERRORS) as error:
        verdict = QuarantineError(
            Reason.CORRUPT_FILE,
            f"the file cannot be read from line {number + 1} on: {error!r}",
        )
        yield base.unreadable(partition, None, number, verdict)


def _until(pieces: Iterator[bytes], num_bytes: int) -> Iterator[bytes]:
    """Yields the first `num_bytes`; a shorter file has changed since it was split."""
    for piece in pieces:
        if len(piece) >= num_bytes:
            yield piece[:num_bytes]
            return
        num_bytes -= len(piece)
        yield piece
    if num_bytes:
        raise compressed.CorruptStreamError(
            f"the file ends {num_bytes} bytes earlier than when it was split"
        )

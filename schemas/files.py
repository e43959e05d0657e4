"""All file access: local paths here, URLs such as `gs://` by `object_store`.

A file is published whole or not at all: a local one is written under a temporary name
that ends in a random suffix, then renamed; an object appears when it is finished.
"""

import contextlib
import contextvars
import errno
import glob as globbing
import io
import itertools
import mmap
import os
import shutil
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any

from gato.schemas import object_store, store_ranges
from gato.schemas.errors import GatoError

TEMPORARY_SUFFIX = ".tmp-"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_BUFFER_BYTES = 1 << 16
# Of what is read of a file: the bytes of each range.
Pieces = list[bytes | memoryview]


def is_local(path: str) -> bool:
    """Whether `path` names a file of this machine."""
    return "://" not in path or path.startswith("file://")


def local_path(path: str) -> str:
    """Returns a local path without its `file://`."""
    return path.removeprefix("file://")


def join(base: str, *parts: str) -> str:
    """Joins path components; an absolute or URL component replaces what stands before.

    >>> join("gs://bucket/a", "b"), join("raw", "/tmp/x")
    ('gs://bucket/a/b', '/tmp/x')
    """
    for part in parts:
        if part.startswith("/") or "://" in part:
            base = part
        else:
            base = f"{base.rstrip('/')}/{part}" if base else part
    return base


def exists(path: str) -> bool:
    """Whether a file or folder is there."""
    if is_local(path):
        return os.path.exists(local_path(path))
    return object_store.exists(path)


def is_folder(path: str) -> bool:
    """Whether a folder is there."""
    if is_local(path):
        return os.path.isdir(local_path(path))
    return object_store.is_folder(path)


def size(path: str) -> int:
    """Returns a file's bytes.

    Raises:
        FileNotFoundError: If it is not there.
    """
    if is_local(path):
        return os.path.getsize(local_path(path))
    return int(object_store.info(path)["size"])


def glob(pattern: str) -> list[str]:
    """Returns the files and folders a pattern matches, sorted, as full paths."""
    if is_local(pattern):
        return sorted(globbing.glob(local_path(pattern), recursive=True))
    if not globbing.has_magic(pattern):
        return [pattern] if exists(pattern) else []
    store, stripped = object_store.filesystem(pattern)
    with contextlib.suppress(FileNotFoundError):
        found = object_store.ask(pattern, "listing", store.glob, stripped)
        return sorted(store.unstrip_protocol(path) for path in found)
    return []


def list_folder(path: str) -> list[str]:
    """Returns the names in a folder, sorted; empty if it is not there."""
    if is_local(path):
        with contextlib.suppress(FileNotFoundError):
            return sorted(os.listdir(local_path(path)))
        return []
    store, stripped = object_store.filesystem(path)
    with contextlib.suppress(FileNotFoundError):
        found = object_store.ask(path, "listing", store.ls, stripped, False)
        return sorted(str(name).rstrip("/").rsplit("/", 1)[-1] for name in found)
    return []


def version(path: str) -> tuple[int, str]:
    """Returns a file's size and what tells its content from an older one.

    The store's checksum or generation where it has one, else the modification time in
    nanoseconds.
    """
    if is_local(path):
        status = os.stat(local_path(path))
        return status.st_size, str(status.st_mtime_ns)
    return _version(path, object_store.info(path))


def _version(path: str, info: Mapping[str, Any]) -> tuple[int, str]:
    for key in ("crc32c", "md5Hash", "generation", "etag", "ETag", "mtime", "created"):
        if info.get(key):
            return int(info["size"]), str(info[key])
    raise GatoError(
        f"{path}: the store gives neither a checksum nor a modification time, so a"
        " changed source could not be told from an unchanged one."
    )


def versions_below(folder: str) -> dict[str, tuple[int, str]]:
    """Returns what `version` says of every file below a folder, by relative path.

    One listing, whatever the number of files; links to folders are followed.
    """
    if is_local(folder):
        return dict(_local_versions(local_path(folder), "", frozenset()))
    store, stripped = object_store.filesystem(folder)

    def find() -> dict[str, Any]:
        return store.find(stripped, detail=True)

    found = object_store.ask(folder, "listing", find)
    return {
        name.removeprefix(stripped).lstrip("/"): _version(name, info)
        for name, info in sorted(found.items())
    }


def _local_versions(
    folder: str, prefix: str, above: frozenset[tuple[int, int]]
) -> Iterator[tuple[str, tuple[int, str]]]:
    status = os.stat(folder)
    place = (status.st_dev, status.st_ino)
    if place in above:  # a link to a folder that holds it
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _local_versions(
                entry.path, f"{prefix}{entry.name}/", above | {place}
            )
        elif entry.is_file():  # not a link to nothing
            status = entry.stat()
            yield prefix + entry.name, (status.st_size, str(status.st_mtime_ns))


def open_read(path: str) -> IO[bytes]:
    """Opens a file for reading, seekable."""
    if is_local(path):
        file: Any = open(local_path(path), "rb")  # noqa: SIM115
    else:
        file = io.BufferedReader(store_ranges.ObjectFile(path), _BUFFER_BYTES)
    watcher = _watcher.get()
    return file if watcher is None else _Watched(file, watcher)  # type: ignore[return-value]


_watcher: contextvars.ContextVar[Callable[[int], None] | None] = contextvars.ContextVar(
    "watcher", default=None
)


@contextlib.contextmanager
def watch_reads(watcher: Callable[[int], None]) -> Iterator[None]:
    """Tells how far files have been read that `open_read` opens in the block.

    Args:
        watcher: Called after each read with the position in the file.
    """
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


class _Watched:
    """Passes everything on to a file and tells the position after each read."""

    def __init__(self, file: IO[bytes], watcher: Callable[[int], None]) -> None:
        self._file = file
        self._watcher = watcher

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_Watched":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self._watcher(self._file.tell())
        return data


def read_bytes(path: str) -> bytes:
    """Returns a file's content."""
    with open_read(path) as file:
        return file.read()


@contextlib.contextmanager
def open_atomic(path: str) -> Iterator[IO[bytes]]:
    """Opens a file for writing that appears under its name only when all went well.

    Raises:
        GatoError: If the disk or the user's share of it is full, or the store does not
            take it.
    """
    if is_local(path):
        final = local_path(path)
        os.makedirs(os.path.dirname(final) or ".", exist_ok=True)
        temporary = f"{final}{TEMPORARY_SUFFIX}{uuid.uuid4().hex[:12]}"
        try:
            with open(temporary, "wb", buffering=1 << 20) as file:
                yield file
            os.replace(temporary, final)
        except BaseException as error:
            with contextlib.suppress(FileNotFoundError):
                os.remove(temporary)
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise GatoError(
                    f"{path}: no room to write it: {error.strerror}. Free some, then"
                    " run the same command again to go on."
                ) from error
            raise
        return
    writer = object_store.ObjectWriter(path)
    try:
        yield writer  # type: ignore[misc]
        writer.publish()
    except BaseException as error:
        writer.discard(tell_store=not isinstance(error, GatoError))
        raise


def write_atomic(path: str, data: bytes) -> None:
    """Writes a whole file that appears under its name only when all is written."""
    with open_atomic(path) as file:
        file.write(data)


def remove(path: str) -> None:
    """Removes a file if it is there."""
    if is_local(path):
        with contextlib.suppress(FileNotFoundError):
            os.remove(local_path(path))
    else:
        object_store.remove(path)


def remove_folder(path: str) -> None:
    """Removes a folder and all below it, if it is there."""
    if is_local(path):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(local_path(path))
    else:
        object_store.remove_folder(path)


class RangeReader:
    """Reads byte ranges of one file: mapped if it is local, fetched together if not."""

    def __init__(self, path: str, *, mapped: bool = True) -> None:
        """Opens the file.

        Args:
            path: Local path or URL.
            mapped: Whether a local file is mapped. Every page that is touched then
                counts as this process's memory, up to the whole file; a process that
                reads here and there in many large files must not map them.
        """
        self.path = path
        self._map: memoryview | None = None
        self._descriptor: int | None = None
        if is_local(path) and not mapped:
            self._descriptor = os.open(local_path(path), os.O_RDONLY)
            weakref.finalize(self, os.close, self._descriptor)
        elif is_local(path):
            with open(local_path(path), "rb") as file:
                length = os.fstat(file.fileno()).st_size
                content = (
                    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                    if length
                    else b""
                )
            self._map = memoryview(content)

    def read(self, ranges: list[tuple[int, int]]) -> Pieces:
        """Returns the bytes of each `[start, stop)`.

        Raises:
            GatoError: If the file ends before a range does.
        """
        if self._map is not None:
            pieces: list[Any] = [self._map[start:stop] for start, stop in ranges]
        elif self._descriptor is not None:
            at = self._descriptor
            pieces = [os.pread(at, stop - start, start) for start, stop in ranges]
        else:
            (pieces,) = _read_objects([(self, ranges)])
        for (start, stop), piece in zip(ranges, pieces, strict=True):
            if len(piece) != stop - start:
                raise GatoError(
                    f"{self.path}: bytes {start} to {stop} were asked for, the file"
                    f" gave {len(piece)}; it is truncated. Build or copy it again."
                )
        return pieces


def read_each(
    wanted: Iterable[tuple[RangeReader, list[tuple[int, int]]]],
) -> Iterator[Pieces]:
    """Yields what `read` of each file gives; requests of all are on the way together.

    Args:
        wanted: Files, all of them local or all of them of a store, with ranges. The
            local ones are taken one at a time.

    Raises:
        GatoError: If a file ends before a range does.
    """
    wanted = iter(wanted)
    first = next(wanted, None)
    if first is None:
        return
    every = itertools.chain([first], wanted)
    if is_local(first[0].path):
        for reader, ranges in every:
            yield reader.read(ranges)
    else:
        yield from _read_objects(every)


def _read_objects(
    wanted: Iterable[tuple[RangeReader, list[tuple[int, int]]]],
) -> Iterator[Pieces]:
    split = [
        [store_ranges.pieces_of(reader.path, *each) for each in ranges]
        for reader, ranges in wanted
    ]
    flat = itertools.chain.from_iterable(itertools.chain.from_iterable(split))
    answers = store_ranges.fetch(flat)
    for parts in split:
        yield [b"".join(itertools.islice(answers, len(part))) for part in parts]

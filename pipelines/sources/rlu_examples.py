"""Examples of RL Unplugged's TFRecord shards, gzip compressed or not.

A path is one shard, whose name ends in `-00003-of-00100`, and so is a partition: gzip
cannot be entered in the middle. Reading is forward, a record at a time.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import IO, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.sources import base, compressed
from gato.pipelines.sources.rlds_wire import Example, Feature, WireError
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError
from gato.schemas.tfrecord import (
    FRAME_BYTES,
    HEADER_BYTES,
    CorruptRecordError,
    read_length,
    view_record,
)

_GZIP_MAGIC = b"\x1f\x8b"
_T = TypeVar("_T")


class ShardSource:
    """What the readers of RL Unplugged's shards share."""

    items: Literal["episodes", "documents"] = "episodes"
    order: Literal["number", "file"] = "file"
    # The format's name, and a path of it, for messages.
    format = ""
    shard = ""

    def files(self, path: str) -> list[str]:
        """Returns the shard.

        Raises:
            UsageError: If it is a folder.
        """
        if files.is_folder(path):
            raise UsageError(
                f"{path}: a path of format {self.format} is a TFRecord shard, this is a"
                f" folder. Give a glob such as .../{self.shard}"
            )
        return [path]

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Returns the whole shard."""
        size = 0
        with contextlib.suppress(OSError):  # it vanished; read() tells
            size = files.size(path)
        return [base.Partition(path=path, relative_path=relative_path, num_bytes=size)]


def read_examples(path: str) -> Iterator[Example | QuarantineError]:
    """Yields each record, or the verdict on it; CORRUPT_FILE is the last.

    Args:
        path: Of a shard.
    """
    try:
        with files.open_read(path) as file:
            yield from _records(_inflated(file), path)
    except (OSError, compressed.CorruptStreamError, CorruptRecordError) as error:
        yield QuarantineError(
            Reason.CORRUPT_FILE, f"the shard cannot be read further: {error}"
        )


def read_episodes(
    partition: base.Partition,
    names: tuple[str, str],
    episode: Callable[[Example, int], Episode],
) -> Iterator[Episode | Unreadable]:
    """Yields an episode for each record of a shard, or the verdict on it.

    Args:
        partition: The shard.
        names: Task and agent, for verdicts.
        episode: Makes an episode of an Example and its place, or raises.
    """
    for place, example in enumerate(read_examples(partition.path)):
        try:
            if isinstance(example, QuarantineError):
                raise example
            yield episode(example, place)
            continue
        except QuarantineError as error:
            verdict = error
        except Exception as error:  # whatever damaged bytes raise in the libraries
            verdict = QuarantineError(
                Reason.CORRUPT_EPISODE, f"the episode cannot be read: {error!r}"
            )
        is_lost = verdict.reason == Reason.CORRUPT_FILE
        yield Unreadable(
            source=partition.path,
            item_id=None if is_lost else f"{partition.relative_path}/{place}",
            number=place,
            task=names[0],
            agent=names[1],
            reason=verdict.reason,
            detail=f"record {place}: {verdict.detail}",
        )


def folders(path: str) -> list[str]:
    """Returns the names of the folders that a shard lies in, the innermost first.

    >>> folders("gs://b/dmlab/rooms_watermaze/training_0/tfrecord-00000-of-00500")[:2]
    ['training_0', 'rooms_watermaze']
    """
    return [*reversed(path.split("/")[:-1]), "", ""]


def floats(example: Example, name: str) -> NDArray[np.float32]:
    """Returns a float feature.

    Raises:
        QuarantineError: MISSING_FIELD, WRONG_DTYPE or CORRUPT_RECORD.
    """
    return _values(example, name, "float", Feature.floats)


def integers(example: Example, name: str) -> NDArray[np.int64]:
    """Returns an int64 feature.

    Raises:
        QuarantineError: MISSING_FIELD, WRONG_DTYPE or CORRUPT_RECORD.
    """
    return _values(example, name, "int64", Feature.integers)


def strings(example: Example, name: str) -> list[bytes]:
    """Returns a bytes feature.

    Raises:
        QuarantineError: MISSING_FIELD, WRONG_DTYPE or CORRUPT_RECORD.
    """
    return _values(example, name, "bytes", Feature.strings)


def check_length(name: str, found: int, expected: int) -> None:
    """Checks that a feature has as many values as the episode has steps.

    Raises:
        QuarantineError: WRONG_SHAPE.
    """
    if found != expected:
        raise QuarantineError(
            Reason.WRONG_SHAPE, f"{name!r} must have {expected} values, got {found}"
        )


def _values(
    example: Example, name: str, kind: str, read: Callable[[Feature], _T]
) -> _T:
    try:
        feature = example[name]
        if feature.kind not in (kind, None):
            raise QuarantineError(
                Reason.WRONG_DTYPE,
                f"{name!r} must be a list of {kind}, got {feature.kind}",
            )
        return read(feature)
    except KeyError:
        raise QuarantineError(
            Reason.MISSING_FIELD,
            f"an Example must have {name!r}, got {', '.join(sorted(example)[:20])}",
        ) from None
    except WireError as error:
        raise QuarantineError(Reason.CORRUPT_RECORD, f"{name!r}: {error}") from error


def _inflated(file: IO[bytes]) -> IO[bytes] | io.RawIOBase:
    is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    file.seek(0)
    suffix = ".gz" if is_gzip else ""
    return compressed.ForwardFile(compressed.chunks(file, suffix))


def _records(
    file: IO[bytes] | io.RawIOBase, path: str
) -> Iterator[Example | QuarantineError]:
    offset = 0
    while header := _read(file, HEADER_BYTES):
        place = f"{path} at byte {offset} of its content"
        rest = read_length(header, place) + FRAME_BYTES - HEADER_BYTES
        framed = header + _read(file, rest)
        if len(framed) < HEADER_BYTES + rest:
            raise CorruptRecordError(f"{place}: the file is truncated")
        offset += len(framed)
        try:
            yield Example(view_record(framed, place))
        except CorruptRecordError as error:
            yield QuarantineError(Reason.CORRUPT_RECORD, str(error))
        except WireError as error:
            yield QuarantineError(
                Reason.CORRUPT_RECORD, f"{place}: a record must be an Example: {error}"
            )


def _read(file: Any, size: int) -> bytes:
    return file.read(size)

"""What a reader of a raw format is: it says how to partition a path, and reads a part.

Adding a format takes one file beside this one, of its name, and one line in
`gato/schemas/formats.py`: docs/add_a_source.md has an example.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol, runtime_checkable

from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Document, Episode, Unreadable
from gato.schemas.errors import QuarantineError

# A partition is a file, or a range of at most this many bytes where the format can
# seek; never dependent on the number of workers.
MAX_PARTITION_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Partition:
    """A part of one path that one worker reads in order.

    Attributes:
        path: The full path or URL that a glob matched (a file or a folder).
        relative_path: `path` relative to the glob's fixed part.
        start: First item, byte or row group, in the format's own unit.
        stop: One past the last, or None for all the rest.
        first_number: Number of the first item (`Episode.number`), where known.
        num_bytes: Raw bytes it covers, for progress and balance.
        num_items: Items it holds where the format says so without reading them; a
            format that does not is read forward, from byte `start`.
        order: The order of its items where it is not the source's own `order`.
    """

    path: str
    relative_path: str
    start: int = 0
    stop: int | None = None
    first_number: int = 0
    num_bytes: int = 0
    num_items: int | None = None
    order: Literal["number", "file"] | None = None


def item_ranges(
    path: str, relative_path: str, num_items: int, num_bytes: int, most_items: int
) -> list[Partition]:
    """Splits a path whose items are counted into ranges of so many.

    Args:
        path: The full path.
        relative_path: What ids begin with.
        num_items: Items of the path.
        num_bytes: Raw bytes of the path, shared by the ranges.
        most_items: Items of a range.
    """
    starts = range(0, num_items, most_items)
    return [
        Partition(
            path=path,
            relative_path=relative_path,
            start=start,
            stop=min(start + most_items, num_items),
            first_number=start,
            num_bytes=num_bytes * min(start + most_items, num_items) // num_items
            - num_bytes * start // num_items,
            num_items=min(most_items, num_items - start),
        )
        for start in starts
    ] or [Partition(path=path, relative_path=relative_path, num_bytes=num_bytes)]


def number_ranges(
    path: str, relative_path: str, numbers: Sequence[int], num_bytes: float
) -> list[Partition]:
    """Splits a path whose items are numbered into ranges of at most 256 MiB.

    Args:
        path: The full path.
        relative_path: What ids begin with.
        numbers: Of the items, ascending; a range's `start` and `stop` are numbers.
        num_bytes: Raw bytes of the path, of which each item has as many.
    """
    if not numbers:
        whole = Partition(path=path, relative_path=relative_path)
        return [dataclasses.replace(whole, num_bytes=int(num_bytes))]
    each = max(1, math.ceil(num_bytes / len(numbers)))
    count = max(1, MAX_PARTITION_BYTES // each)
    return [
        Partition(
            path=path,
            relative_path=relative_path,
            start=numbers[start],
            stop=numbers[start + count] if start + count < len(numbers) else None,
            first_number=numbers[start],
            num_bytes=each * min(count, len(numbers) - start),
            num_items=min(count, len(numbers) - start),
        )
        for start in range(0, len(numbers), count)
    ]


def hint_below(path: str, *names: str) -> str:
    """Returns the end of a message: a glob of folders below to give; else nothing.

    Args:
        path: The folder below which they lie, up to three levels deep.
        names: The file that they have, or a pattern of it; any of them will do.
    """
    for depth in (1, 2, 3):
        pattern = files.join(path, "/".join("*" * depth))
        if any(files.glob(files.join(pattern, name)) for name in names):
            return f"; such folders lie below it, give {pattern}"
    return ""


def unreadable(
    partition: Partition, item_id: str | None, number: int, error: QuarantineError
) -> Unreadable:
    """Returns the verdict on an item, or on all (without id) that a partition holds."""
    return Unreadable(
        source=partition.path,
        item_id=item_id,
        number=number,
        reason=error.reason,
        detail=error.detail,
    )


class Source(Protocol):
    """A reader of one format. Stateless; instances are pickled to workers."""

    # Which accounts the manifest keeps.
    items: Literal["episodes", "documents"]
    # What `order` says in the manifest: "number" (the format numbers its episodes) or
    # "file" (the file's own order).
    order: Literal["number", "file"]

    def files(self, path: str) -> list[str]:
        """Returns the files whose versions identify what `path` holds, sorted.

        Raises:
            UsageError: If `path` is not of this format (a folder where a file is
                meant, or the other way round), with what to give instead.
        """
        ...

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[Partition]:
        """Splits a path; of a damaged one, returns one partition, whose read tells.

        Raises:
            UsageError: If the config must say more (as `document` of a large text).
        """
        ...

    def read(
        self, partition: Partition, dataset: Dataset
    ) -> Iterator[Episode | Document | Unreadable]:
        """Yields every item of the partition in order, good or unreadable.

        Never raises because of data: a damaged item is an `Unreadable`, and so is the
        rest of a damaged file (one for each item where the format says how many).
        """
        ...


@runtime_checkable
class ReadsBeside(Protocol):
    """A source that reads more than its path: annotations, a folder of images."""

    def beside(self, path: str, dataset: Dataset) -> list[str]:
        """Returns the files and folders, of which all below counts.

        Raises:
            UsageError: If one is not there, or it is not clear which is meant.
        """
        ...


@runtime_checkable
class LooksInside(Protocol):
    """A source of a format that covers another, which the files themselves tell."""

    def format_of(self, path: str) -> str | None:
        """Returns the format of what a path holds; None if that cannot be told."""
        ...


@runtime_checkable
class ReadsTexts(Protocol):
    """A source that can leave the images of its documents unread."""

    def read_texts(
        self, partition: Partition, dataset: Dataset
    ) -> Iterator[Document | Unreadable]:
        """Yields what `read` does, without images, whether they are there or not."""
        ...

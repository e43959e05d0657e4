"""A bounded sample of a data set: the first items of partitions chosen by hash.

The same config and input give the same sample. Paths are visited in order of a keyed
hash, one partition of each, then their second partitions, and so on; each visit takes a
few items. What was read is measured in raw bytes, since those are known of the whole
data set, and one item stands for as many as the bytes it covers have room for.
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from gato.pipelines.discover import SourcePath
from gato.pipelines.sources.base import Partition, ReadsBeside, Source
from gato.pipelines.tokenize import is_included
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Document, Episode, TextPart, Unreadable
from gato.schemas.hashing import keyed_hash

Item = Episode | Document | Unreadable

# A visit takes at least so many items: opening a file costs more than one item does.
_ITEMS_A_VISIT = 4
# Sources of documents find ranges by reading through the file, which a sample of a
# large one cannot afford; it is sampled from its start.
_SPLIT_BYTES = 1 << 30
# Sampling stops once the items read hold so much, whatever their number.
_MAX_PAYLOAD = 512 << 20
# Items left out by tasks.exclude cost reading but do not count; they have a bound too.
_SCANS_AN_ITEM = 10
# How far a file is read to learn the raw bytes of an item, at most.
_CALIBRATION_BYTES = 2 << 20
_CALIBRATION_ITEMS = 20_000
# Whatever an item holds, it takes something.
_ITEM_BYTES = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledPartition:
    """How much of one partition is in the sample.

    Attributes:
        path: The source path.
        place: The partition's place in it.
        partition: The partition.
        num_items: Items of the sample, the partition's first.
        raw_bytes: Bytes of the partition.
        raw_bytes_read: Bytes of those items.
        is_whole: Whether they are all there are.
        weight: How many times the items read stand for what is not read.
        partitions: How many partitions this one stands for.
    """

    path: SourcePath
    place: int
    partition: Partition
    num_items: int
    raw_bytes: float
    raw_bytes_read: float
    is_whole: bool
    weight: float = 1.0
    partitions: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """A data set's sample.

    Attributes:
        partitions: What was read, in order of the visits.
        raw_bytes: Bytes of the whole data set.
        is_complete: Whether everything was read, so that figures are exact.
    """

    partitions: tuple[SampledPartition, ...]
    raw_bytes: int
    is_complete: bool

    @property
    def num_items(self) -> int:
        """Items in the sample."""
        return sum(part.num_items for part in self.partitions)

    @property
    def share_read(self) -> float:
        """Share of the raw bytes that the sample covers."""
        if self.is_complete:
            return 1.0
        read = sum(part.raw_bytes_read for part in self.partitions)
        return min(1.0, read / self.raw_bytes) if self.raw_bytes else 0.0


class Head:
    """A source of which only the first items of a partition are read."""

    def __init__(self, source: Source, num_items: int) -> None:
        self._source = source
        self._num_items = num_items
        self.items: Literal["episodes", "documents"] = source.items
        self.order: Literal["number", "file"] = source.order

    def files(self, path: str) -> list[str]:
        """Returns the source's files."""
        return self._source.files(path)

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[Partition]:
        """Returns the source's partitions."""
        return self._source.partition(path, relative_path, dataset)

    def read(self, partition: Partition, dataset: Dataset) -> Iterator[Item]:
        """Yields the first items."""
        return itertools.islice(self._source.read(partition, dataset), self._num_items)


def _payload(item: Item) -> int:
    """Returns about how many bytes an item holds."""
    if isinstance(item, Unreadable):
        return _ITEM_BYTES
    if isinstance(item, Document):
        return _ITEM_BYTES + sum(
            len(part.text) if isinstance(part, TextPart) else len(part.data)
            for part in item.parts
        )
    columns = [*item.observations.values(), *item.actions.values(), item.rewards]
    return _ITEM_BYTES + sum(
        column.nbytes
        if isinstance(column, np.ndarray)
        else sum(len(value) for value in column)
        for column in columns
    )


def _is_excluded(item: Item, dataset: Dataset) -> bool:
    task = None if isinstance(item, Document) else item.task
    return task is not None and not is_included(task, dataset)


@dataclasses.dataclass
class _Budget:
    """What may still be read of a data set."""

    items: int
    scans: int
    payload: int

    @property
    def is_spent(self) -> bool:
        return min(self.items, self.scans, self.payload) <= 0


class _Reading:
    """One partition read forward, a few items at a time."""

    def __init__(
        self,
        source: Source,
        dataset: Dataset,
        path: SourcePath,
        place: int,
        partition: Partition,
        raw_bytes: float,
    ) -> None:
        self._dataset = dataset
        self._path = path
        self._place = place
        self._partition = partition
        self._raw_bytes = raw_bytes
        self._items = source.read(partition, dataset)
        self.num_items = 0
        self.is_exhausted = False
        self._payload = 0
        # How far the file is read, and what had been yielded when the last but one
        # read was used up: (bytes, payload).
        self._position = partition.start
        self._used = (partition.start, 0)

    def _moved(self, position: int) -> None:
        if position > self._position:
            self._used = (self._position, self._payload)
            self._position = position

    def _next(self) -> Item | None:
        with files.watch_reads(self._moved):
            item = next(self._items, None)
        if item is None:
            self.is_exhausted = True
        else:
            self._payload += _payload(item)
        return item

    def take(self, num_items: int, budget: _Budget) -> None:
        """Reads up to so many items, those that are excluded not counted."""
        left, scans = min(num_items, budget.items), _SCANS_AN_ITEM * num_items
        while left > 0 and scans > 0 and not budget.is_spent:
            before = self._payload
            item = self._next()
            if item is None:
                return
            counts = not _is_excluded(item, self._dataset)
            self.num_items += 1
            scans -= 1
            left -= counts
            budget.items -= counts
            budget.scans -= 1
            budget.payload -= self._payload - before

    def finish(self) -> SampledPartition:
        """Returns what was read, once nothing more is to be taken."""
        payload, promised = self._payload, self._partition.num_items
        if promised is not None:
            is_whole = self.is_exhausted or self.num_items >= promised
            share = 1.0 if is_whole else self.num_items / promised
        else:
            beyond = self._calibrate()
            is_whole = self.is_exhausted and not beyond
            share = 1.0 if is_whole else payload * self._bytes_a_payload()
            share = share if is_whole else share / max(self._raw_bytes, 1)
        return SampledPartition(
            path=self._path,
            place=self._place,
            partition=self._partition,
            num_items=self.num_items,
            raw_bytes=self._raw_bytes,
            raw_bytes_read=self._raw_bytes * min(1.0, share),
            is_whole=is_whole,
        )

    def _calibrate(self) -> int:
        """Reads on, without use of the items, until the bytes of an item are known.

        Returns:
            How many items followed.
        """
        beyond = 0
        enough = self._partition.start + _CALIBRATION_BYTES
        while not self.is_exhausted and beyond < _CALIBRATION_ITEMS:
            # The first item beyond says whether there is one.
            if beyond and self._used[0] >= enough:
                break
            beyond += self._next() is not None
        return beyond

    def _bytes_a_payload(self) -> float:
        """Returns the raw bytes of a byte of payload."""
        used, payload = self._used
        if self.is_exhausted:
            used, payload = self._partition.start + self._raw_bytes, self._payload
        # A source that reads otherwise than by `open_read` leaves no position.
        return (used - self._partition.start) / payload if payload else 1.0


def _partitions(
    source: Source, path: SourcePath, dataset: Dataset
) -> collections.deque[tuple[int, Partition, float]]:
    """Returns a path's partitions with place and bytes."""
    splits_by_bytes = source.items == "documents" and not isinstance(
        source, ReadsBeside
    )
    if splits_by_bytes and path.num_bytes > _SPLIT_BYTES:
        parts = [
            Partition(
                path=path.path,
                relative_path=path.relative_path,
                num_bytes=path.num_bytes,
            )
        ]
    else:
        parts = source.partition(path.path, path.relative_path, dataset)
    total = sum(part.num_bytes for part in parts)
    return collections.deque(
        (
            place,
            part,
            path.num_bytes * (part.num_bytes / total if total else 1 / len(parts)),
        )
        for place, part in enumerate(parts)
    )


def _order(path: SourcePath, seed: int) -> int:
    return keyed_hash(seed, "sample", path.relative_path)


class _Visits:
    """Yields readings: the first partition of each path, then the second, ..."""

    def __init__(
        self, source: Source, dataset: Dataset, paths: Sequence[SourcePath], seed: int
    ) -> None:
        self._source = source
        self._dataset = dataset
        self._seed = seed
        self._unopened = collections.deque(
            sorted(paths, key=lambda path: (_order(path, seed), path.index))
        )
        self._rest: collections.deque[
            tuple[SourcePath, collections.deque[tuple[int, Partition, float]]]
        ] = collections.deque()

    @property
    def is_over(self) -> bool:
        """Whether every partition of every path was visited."""
        return not self._unopened and not self._rest

    def __iter__(self) -> Iterator[_Reading]:
        while not self.is_over:
            if self._unopened:
                path = self._unopened.popleft()
                parts = _partitions(self._source, path, self._dataset)
                # Not always from the start of a large path.
                parts.rotate(-(_order(path, self._seed) % max(1, len(parts))))
            else:
                path, parts = self._rest.popleft()
            if not parts:
                continue
            place, part, raw_bytes = parts.popleft()
            if parts:
                self._rest.append((path, parts))
            yield _Reading(self._source, self._dataset, path, place, part, raw_bytes)


def draw_sample(
    source: Source,
    dataset: Dataset,
    paths: Sequence[SourcePath],
    num_items: int,
    seed: int,
) -> Sample:
    """Chooses what to read of a data set, by reading it, without tokenization.

    Args:
        source: The reader of its format.
        dataset: Its config.
        paths: What its globs matched.
        num_items: The most episodes or documents to take.
        seed: The build's seed.
    """
    budget = _Budget(num_items, _SCANS_AN_ITEM * num_items, _MAX_PAYLOAD)
    each = max(_ITEMS_A_VISIT, math.ceil(num_items / max(1, len(paths))))
    visits = _Visits(source, dataset, paths, seed)
    readings = []
    for reading in visits:
        reading.take(each, budget)
        readings.append(reading)
        budget.scans -= 1
        if budget.is_spent:
            break
    while not budget.is_spent and any(not r.is_exhausted for r in readings):
        for reading in readings:
            reading.take(each, budget)
    parts = [reading.finish() for reading in readings]
    is_complete = visits.is_over and all(part.is_whole for part in parts)
    return Sample(
        partitions=_weighted(parts, paths, is_complete),
        raw_bytes=sum(path.num_bytes for path in paths),
        is_complete=is_complete,
    )


def _weighted(
    parts: Sequence[SampledPartition], paths: Sequence[SourcePath], is_complete: bool
) -> tuple[SampledPartition, ...]:
    """Gives each partition its weight: up to its bytes, its path's, the data set's."""
    if is_complete:
        return tuple(parts)
    by_path: collections.Counter[int] = collections.Counter()
    for part in parts:
        # A partition of which nothing could be taken tells nothing.
        if part.num_items or part.is_whole:
            by_path[part.path.index] += part.raw_bytes  # type: ignore[assignment]
    visited = sum(path.num_bytes for path in paths if path.index in by_path)
    of_paths = sum(p.num_bytes for p in paths) / visited if visited else 1.0
    weighted = []
    for part in parts:
        around = by_path.get(part.path.index)
        if around is None or not (part.num_items or part.is_whole):
            continue
        partitions = of_paths * (part.path.num_bytes / around if around else 1.0)
        inside = part.raw_bytes / part.raw_bytes_read if part.raw_bytes_read else 1.0
        weighted.append(
            dataclasses.replace(part, weight=inside * partitions, partitions=partitions)
        )
    return tuple(weighted)

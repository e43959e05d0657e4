"""Episodes in a table of steps that several Parquet shards hold, one after the other.

Rows are numbered through all shards of a split. The flags that end episodes are read on
their own, so a partition is known without reading an image, and an episode may begin in
one shard and end in the next. One episode and one batch of rows are held at a time.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gato.pipelines.sources import base
from gato.pipelines.sources.parquet_rows import open_parquet
from gato.pipelines.sources.row_stream import RowStream, stored_column
from gato.pipelines.sources.stored_episode import EpisodeMaker, Stored
from gato.schemas import files
from gato.schemas.episode import Column, Episode, Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError

# A row's episode ends there if any of these is true; files have two of the three.
_FLAGS = ("done", "terminated", "truncated")
_REWARD = "reward"
_BLOCK_ROWS = 1 << 16
Unpack = Callable[[dict[str, Column], NDArray[Any]], Stored]


def shard_paths(path: str, split: str) -> list[str]:
    """Returns the shards `<split>-*.parquet` of a folder, sorted.

    Raises:
        UsageError: If there are none.
    """
    names = [n for n in files.list_folder(path) if n.endswith(".parquet")]
    found = [name for name in names if name.startswith(f"{split}-")]
    if not found:
        raise UsageError(
            f"{path}: there are no shards {split}-*.parquet; the folder has"
            f" {', '.join(names[:5])}. Name a split that is there."
        )
    return [files.join(path, name) for name in found]


def partition(
    path: str, relative_path: str, shards: Sequence[str]
) -> list[base.Partition]:
    """Splits the rows of all shards where episodes end; units are rows."""
    whole = base.Partition(path=path, relative_path=relative_path)
    try:
        num_bytes = sum(files.size(shard) for shard in shards)
        with open_table(shards, ()) as table:
            num_rows = table.num_rows
            ends = table.ends(0, num_rows)
    except Exception:  # whatever damaged files raise; read() tells
        return [whole]
    most_rows = max(1, base.MAX_PARTITION_BYTES * num_rows // max(1, num_bytes))
    partitions = []
    first = 0
    while first < len(ends):
        start = int(ends[first - 1]) if first else 0
        last = int(np.searchsorted(ends, start + most_rows, side="right"))
        last = max(last, first + 1)
        stop = int(ends[last - 1])
        partitions.append(
            dataclasses.replace(
                whole,
                start=start,
                stop=stop,
                first_number=first,
                num_bytes=num_bytes * (stop - start) // num_rows,
                num_items=last - first,
            )
        )
        first = last
    return partitions


@contextlib.contextmanager
def open_table(shards: Sequence[str], keys: Sequence[str]) -> Iterator["Table"]:
    """Opens the shards, of which only one is open at a time.

    Args:
        shards: Their paths, in order.
        keys: The columns that `Table.episodes` reads beside the rewards.

    Raises:
        Exception: Whatever pyarrow raises of a damaged file.
    """
    counts = []
    for shard in shards:
        with open_parquet(shard) as file:
            counts.append(file.metadata.num_rows)
    table = Table(shards, counts, keys)
    with contextlib.closing(table):
        yield table


class Table:
    """The rows of all shards."""

    def __init__(
        self, shards: Sequence[str], counts: Sequence[int], keys: Sequence[str]
    ) -> None:
        self._shards = shards
        self._firsts = np.cumsum([0, *counts])
        self._keys = keys
        self._stack = contextlib.ExitStack()
        self._rows: RowStream | None = None
        self._shard = -1

    @property
    def num_rows(self) -> int:
        """Rows of all shards."""
        return int(self._firsts[-1])

    def close(self) -> None:
        """Closes the open shard."""
        self._stack.close()

    def ends(self, start: int, stop: int) -> NDArray[np.int64]:
        """Returns one past the last row of each episode of a range.

        Raises:
            QuarantineError: If no episode ends there, or flags cannot be read.
        """
        found: list[NDArray[np.int64]] = []
        for shard, first, last in self._parts(start, stop):
            with open_parquet(self._shards[shard]) as file:
                base_row = int(self._firsts[shard])
                for row, flags in _flags(file, first, last):
                    found.append(np.flatnonzero(flags) + base_row + row + 1)
        ends = np.concatenate(found) if found else np.zeros(0, np.int64)
        if len(ends) == 0:
            raise QuarantineError(
                Reason.MISSING_FIELD,
                f"an episode ends where {' or '.join(_FLAGS)} is true, which is nowhere"
                f" among {stop - start} rows",
            )
        return ends

    def episodes(
        self, maker: EpisodeMaker, unpack: Unpack
    ) -> Iterator[Episode | Unreadable]:
        """Yields the episodes of the maker's partition."""
        part = maker.partition
        stop = self.num_rows if part.stop is None else part.stop
        ends = self.ends(part.start, stop).tolist()
        starts = [part.start, *ends[:-1]]
        first = part.first_number

        def load(number: int) -> Stored:
            rows = self._take(starts[number - first], ends[number - first])
            columns = {key: stored_column(rows[key], key) for key in self._keys}
            rewards = np.asarray(stored_column(rows[_REWARD], _REWARD))
            return unpack(columns, rewards)

        yield from maker.each(range(first, first + len(ends)), load)

    def _parts(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yields shard, first and stop row there of each piece of a range."""
        while start < stop:
            shard = int(np.searchsorted(self._firsts, start, side="right")) - 1
            last = min(stop, int(self._firsts[shard + 1]))
            base_row = int(self._firsts[shard])
            yield shard, start - base_row, last - base_row
            start = last

    def _take(self, start: int, stop: int) -> pa.Table:
        pieces = []
        for shard, first, last in self._parts(start, stop):
            if shard != self._shard or self._rows is None:
                self._rows = None
                self._stack.close()
                file = self._stack.enter_context(open_parquet(self._shards[shard]))
                wanted = [*self._keys, _REWARD]
                _check_columns(file, wanted)
                self._rows = RowStream(file, wanted, first)
                self._shard = shard
            pieces.append(self._rows.take(first, last))
        return pa.concat_tables(pieces)


def _flags(
    file: pq.ParquetFile, start: int, stop: int
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yields first row of a block, and whether each of its rows ends an episode."""
    names = [name for name in _FLAGS if name in file.schema_arrow.names]
    if not names:
        _check_columns(file, _FLAGS)
    rows = RowStream(file, names, start, _BLOCK_ROWS)
    for first in range(start, stop, _BLOCK_ROWS):
        block = rows.take(first, min(first + _BLOCK_ROWS, stop))
        is_end = np.zeros(block.num_rows, bool)
        for name in names:
            is_end |= np.asarray(stored_column(block[name], name)) != 0
        yield first, is_end


def _check_columns(file: pq.ParquetFile, wanted: Sequence[str]) -> None:
    there = file.schema_arrow.names
    lacking = [name for name in wanted if name not in there]
    if lacking:
        raise QuarantineError(
            Reason.MISSING_FIELD,
            f"a step has the column {lacking[0]!r}, got {', '.join(there[:10])}",
        )

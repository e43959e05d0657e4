"""Format `parquet`: our own, for raw episodes that no other reader reads.

A file is a table with one row a timestep; the rows of an episode stand together, in
order (docs/add_a_source.md has the columns, `canonical_writer.py` writes such files).
Partitions are runs of whole episodes that begin in different row groups; one episode
and one batch of rows are held at a time. Episodes are numbered by their place in the
file. Where they name no task or agent, both are the file's relative path without its
suffix.

A data set of this format whose first file holds documents is read by
`parquet_documents.py`, all of it.
"""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gato.pipelines.sources import base, document_columns
from gato.pipelines.sources import canonical_columns as columns
from gato.pipelines.sources.parquet_rows import as_bytes, open_parquet, parquet_file
from gato.pipelines.sources.row_stream import RowStream
from gato.pipelines.sources.stored_episode import (
    EpisodeMaker,
    Stored,
    is_wanted,
    without_suffix,
)
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Unreadable
from gato.schemas.errors import QuarantineError, Reason

# Rows are decoded in batches of about so many bytes, ids in batches of so many rows.
_BATCH_BYTES = 8 << 20
_MAX_BATCH_ROWS = 1 << 16


class ParquetSource:
    """Episodes of Parquet tables with one row a timestep."""

    items: Literal["episodes", "documents"] = "episodes"
    order: Literal["number", "file"] = "file"

    def files(self, path: str) -> list[str]:
        """Returns the file.

        Raises:
            UsageError: If it is a folder or has another suffix.
        """
        return parquet_file(path, "parquet", "raw/robot/*.parquet")

    def format_of(self, path: str) -> str | None:
        """Returns the format of what a file holds; None if that cannot be told."""
        try:
            with open_parquet(path) as file:
                schema = file.schema_arrow
        except Exception:  # whatever a damaged file raises; read() tells
            return None
        if document_columns.kind_of(schema) is not None:
            return "parquet_documents"
        return "parquet" if columns.EPISODE_ID in schema.names else None

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Splits the file where episodes begin; units are rows."""
        whole = base.Partition(path=path, relative_path=relative_path)
        try:
            with open_parquet(path) as file:
                columns.check_schema(file.schema_arrow)
                starts = _starts(file, 0, file.metadata.num_rows)
                cuts = _cuts(file, starts)
                num_rows = file.metadata.num_rows
            each = files.size(path) / max(1, num_rows)
        except Exception:  # whatever a damaged file raises; read() tells
            return [whole]
        bounds = [*(int(starts[cut]) for cut in cuts), num_rows]
        return [
            base.Partition(
                path=path,
                relative_path=relative_path,
                start=bounds[index],
                stop=bounds[index + 1],
                first_number=first,
                num_bytes=int(each * (bounds[index + 1] - bounds[index])),
                num_items=last - first,
            )
            for index, (first, last) in enumerate(
                zip(cuts, [*cuts[1:], len(starts)], strict=True)
            )
        ]

    def read(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Episode | Unreadable]:
        """Yields the run's episodes in the file's order."""
        name = without_suffix(partition.relative_path)
        maker = EpisodeMaker.of(partition, dataset, task=name, agent=name)
        try:
            with open_parquet(partition.path) as file:
                columns.check_schema(file.schema_arrow)
                stop = partition.stop
                stop = file.metadata.num_rows if stop is None else stop
                starts = _starts(file, partition.start, stop)
                reader = _Reader(file, dataset, partition.start)
                first = partition.first_number
                bounds = [*starts.tolist(), stop]

                def load(number: int) -> Stored:
                    return reader.load(
                        bounds[number - first], bounds[number - first + 1]
                    )

                yield from maker.each(range(first, first + len(starts)), load)
        except Exception as error:  # whatever a damaged file raises
            yield from maker.lost(error)


SOURCE: base.Source = ParquetSource()


def _group_rows(file: pq.ParquetFile) -> NDArray[np.int64]:
    """Returns the first row of each row group, and the number of all rows."""
    groups = range(file.num_row_groups)
    counts = [file.metadata.row_group(group).num_rows for group in groups]
    return np.cumsum([0, *counts])


def _starts(file: pq.ParquetFile, start: int, stop: int) -> NDArray[np.int64]:
    """Returns the first row of each episode of a range that begins with one.

    Raises:
        QuarantineError: MISSING_FIELD if an id is null.
    """
    found: list[NDArray[np.int64]] = []
    last: Any = None
    rows = RowStream(file, [columns.EPISODE_ID], start, _MAX_BATCH_ROWS)
    for row in range(start, stop, _MAX_BATCH_ROWS):
        table = rows.take(row, min(row + _MAX_BATCH_ROWS, stop))
        ids = as_bytes(table.column(0).combine_chunks())
        if ids.null_count:
            raise QuarantineError(
                Reason.MISSING_FIELD,
                f"each row has an {columns.EPISODE_ID}, got {ids.null_count} nulls"
                f" from row {row} on",
            )
        changes = np.ones(len(ids), bool)
        differs = pc.call_function("not_equal", [ids[1:], ids[:-1]])
        changes[1:] = differs.to_numpy(zero_copy_only=False)
        changes[0] = row == start or ids[0] != last
        last = ids[-1]
        found.append(np.flatnonzero(changes) + row)
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _cuts(file: pq.ParquetFile, starts: NDArray[np.int64]) -> list[int]:
    """Returns the numbers of the episodes with which partitions begin.

    Each is the first that begins in a row group before which enough bytes stand.
    """
    first_rows = _group_rows(file)
    cuts, num_bytes = [0], 0
    for group in range(file.num_row_groups):
        metadata = file.metadata.row_group(group)
        size = sum(
            metadata.column(index).total_compressed_size
            for index in range(metadata.num_columns)
        )
        if num_bytes and num_bytes + size > base.MAX_PARTITION_BYTES:
            cut = int(np.searchsorted(starts, first_rows[group]))
            if cuts[-1] < cut < len(starts):
                cuts.append(cut)
                num_bytes = 0
        num_bytes += size
    return cuts


def _batch_rows(file: pq.ParquetFile, names: list[str]) -> int:
    """Returns how many rows to decode at once.

    What is in the file does not say it: values that repeat take less room there.
    """
    schema = file.schema_arrow
    by_type = sum(columns.row_bytes(schema.field(name).type) for name in names)
    by_group = [
        metadata.total_byte_size // max(1, metadata.num_rows)
        for metadata in map(file.metadata.row_group, range(file.num_row_groups))
    ]
    return max(1, min(_MAX_BATCH_ROWS, _BATCH_BYTES // max(1, by_type, *by_group)))


class _Reader:
    """One open file."""

    def __init__(self, file: pq.ParquetFile, dataset: Dataset, start: int) -> None:
        schema = file.schema_arrow
        self._observations = {
            name.removeprefix(columns.OBSERVATION): name
            for name in schema.names
            if name.startswith(columns.OBSERVATION)
            and is_wanted(name.removeprefix(columns.OBSERVATION), dataset)
        }
        self._actions = {
            name.removeprefix(columns.ACTION): name
            for name in schema.names
            if name.startswith(columns.ACTION)
        }
        key = dataset.filter.success_key
        success = columns.SUCCESS if key is None else columns.INFO + key
        self._success = success if success in schema.names else None
        self._spaces = {
            key: columns.action_space(schema.field(name))
            for key, name in self._actions.items()
        }
        ends = (columns.TERMINATED, columns.TRUNCATED)
        self._ends = [name for name in ends if name in schema.names]
        self._names = [name for name in ("task", "agent") if name in schema.names]
        wanted = {
            columns.STEP,
            columns.REWARD,
            *self._ends,
            *self._names,
            *self._observations.values(),
            *self._actions.values(),
        }
        if self._success is not None:
            wanted.add(self._success)
        # Names have no order of their own in a set; a file's columns do.
        names = [name for name in schema.names if name in wanted]
        self._rows = RowStream(file, names, start, _batch_rows(file, names))

    def load(self, start: int, stop: int) -> Stored:
        """Returns the episode of a run of rows."""
        table = self._rows.take(start, stop)

        def values(name: str) -> Any:
            return columns.column(name, table.column(name))

        def array(name: str) -> NDArray[Any]:
            return np.asarray(values(name))

        _check_steps(array(columns.STEP))
        if self._ends:
            _check_end([array(name) for name in self._ends])
        named = {name: _one_text(name, values(name)) for name in self._names}
        success = self._success
        return Stored(
            observations={k: values(name) for k, name in self._observations.items()},
            actions={k: values(name) for k, name in self._actions.items()},
            rewards=array(columns.REWARD),
            success=None if success is None else array(success),
            action_spaces=self._spaces,
            task=named.get("task"),
            agent=named.get("agent"),
        )


def _check_steps(steps: NDArray[Any]) -> None:
    if not np.array_equal(steps, np.arange(len(steps))):
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"the rows of an episode stand together and their {columns.STEP} is 0, 1,"
            f" 2, ..., got {steps[:8].tolist()}. Sort the file by"
            f" {columns.EPISODE_ID} and {columns.STEP}.",
        )


def _check_end(flags: list[NDArray[Any]]) -> None:
    is_end = np.logical_or.reduce([flag.reshape(len(flag)) != 0 for flag in flags])
    if not is_end[-1] or is_end[:-1].any():
        raise QuarantineError(
            Reason.CORRUPT_EPISODE,
            f"the last step of an episode, and no other, is {columns.TERMINATED} or"
            f" {columns.TRUNCATED}; of {len(is_end)} steps these are:"
            f" {np.flatnonzero(is_end)[:8].tolist()}",
        )


def _one_text(name: str, values: Any) -> str:
    first = values[0]
    if not isinstance(first, bytes):
        raise QuarantineError(
            Reason.WRONG_DTYPE,
            f"the column {name!r} holds text, got {type(first).__name__}",
        )
    if any(value != first for value in values):
        raise QuarantineError(
            Reason.SPEC_MISMATCH, f"an episode has one {name}, got {set(values)}"
        )
    try:
        return first.decode()
    except UnicodeDecodeError as error:
        raise QuarantineError(
            Reason.NOT_UTF8, f"the column {name!r} is UTF-8, got {first!r:.80}"
        ) from error

"""Rows of Parquet files in order, a few at a time, as columns of episodes."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from gato.pipelines.sources import canonical_columns
from gato.schemas.episode import Column
from gato.schemas.errors import QuarantineError, Reason

# Rows are decoded in batches of about so many bytes.
_BATCH_BYTES = 8 << 20


class RowStream:
    """Rows of one file in order; a damaged row group costs its own rows alone."""

    def __init__(
        self,
        file: pq.ParquetFile,
        columns: Sequence[str],
        start: int = 0,
        batch_rows: int | None = None,
    ) -> None:
        """Starts at the row group that holds the row `start`.

        Args:
            file: An open file.
            columns: Their names, as pyarrow takes them.
            start: The first row that will be asked for.
            batch_rows: Rows decoded at once; by default about 8 MiB.
        """
        self._file = file
        self._columns = list(columns)
        self._row = 0
        self._group = 0
        while self._group < file.num_row_groups:
            num_rows = file.metadata.row_group(self._group).num_rows
            if self._row + num_rows > start:
                break
            self._row += num_rows
            self._group += 1
        self._batches = _read(file, self._columns, self._group, batch_rows)
        self._held: list[tuple[int, pa.RecordBatch | QuarantineError, int]] = []

    def take(self, start: int, stop: int) -> pa.Table:
        """Returns the rows `[start, stop)`; each call's come after those before.

        Raises:
            QuarantineError: CORRUPT_FILE if they are in a damaged row group, or the
                file ends before them.
        """
        while self._row < stop:
            try:
                item, num_rows = next(self._batches)
            except StopIteration:
                break
            self._held.append((self._row, item, num_rows))
            self._row += num_rows
        self._held = [held for held in self._held if held[0] + held[2] > start]
        pieces = []
        for first, item, num_rows in self._held:
            low, high = max(start, first), min(stop, first + num_rows)
            if low >= high:
                continue
            if isinstance(item, QuarantineError):
                raise item
            pieces.append(item.slice(low - first, high - low))
        found = sum(piece.num_rows for piece in pieces)
        if found < stop - start:
            raise QuarantineError(
                Reason.CORRUPT_FILE,
                f"an episode has rows {start} to {stop} of its file, which has"
                f" {self._file.metadata.num_rows}",
            )
        return pa.Table.from_batches(pieces)


# Not a method: a generator that holds the stream, which holds it, would keep its row
# group in memory until Python looks for cycles.
def _read(
    file: pq.ParquetFile, columns: list[str], first_group: int, batch_rows: int | None
) -> Iterator[tuple[pa.RecordBatch | QuarantineError, int]]:
    """Yields batches and how many rows each has, or the verdict on so many rows."""
    for group in range(first_group, file.num_row_groups):
        metadata = file.metadata.row_group(group)
        each = metadata.total_byte_size // max(1, metadata.num_rows) + 1
        size = batch_rows or min(1 << 16, _BATCH_BYTES // each)
        read = 0
        try:
            for batch in file.iter_batches(
                batch_size=max(1, size),
                row_groups=[group],
                columns=columns,
                use_threads=False,
            ):
                yield batch, batch.num_rows
                read += batch.num_rows
        except (OSError, pa.ArrowException, ValueError) as error:
            verdict = QuarantineError(
                Reason.CORRUPT_FILE, f"row group {group} cannot be read: {error!r}"
            )
            yield verdict, metadata.num_rows - read


def stored_column(chunked: pa.ChunkedArray, key: str) -> Column:
    """Returns T numbers of any shape, or T texts or encoded images as bytes.

    Args:
        chunked: What `canonical_columns.column` takes, or structs with `bytes`, as
            Hugging Face's library stores images.
        key: What it is, for messages.

    Raises:
        QuarantineError: MISSING_FIELD, WRONG_SHAPE or WRONG_DTYPE.
    """
    type_ = chunked.type
    if pa.types.is_struct(type_) and type_.get_field_index("bytes") >= 0:
        field = type_.get_field_index("bytes")
        chunked = pa.chunked_array(
            [chunk.flatten()[field] for chunk in chunked.chunks], type_[field].type
        )
    return canonical_columns.column(key, chunked)

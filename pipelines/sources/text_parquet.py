"""Texts in a column of a Parquet file; partitions are ranges of row groups."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gato.pipelines.sources import base
from gato.schemas import files
from gato.schemas.errors import QuarantineError, Reason

# Rows are decoded in batches of about so many bytes.
_BATCH_BYTES = 8 << 20

# What stands in one row: its number, its text (str, bytes) or the verdict on it, and
# the id that the file gives it.
Row = tuple[int, Any, Any]


@contextlib.contextmanager
def _open(path: str) -> Iterator[pq.ParquetFile]:
    with contextlib.ExitStack() as stack:
        source: Any = (
            files.local_path(path)
            if files.is_local(path)
            else stack.enter_context(files.open_read(path))
        )
        yield stack.enter_context(pq.ParquetFile(source, pre_buffer=False))


def partition_parquet(path: str, relative_path: str) -> list[base.Partition]:
    """Splits a file into ranges of row groups of at most 256 MiB where they allow it.

    Raises:
        Exception: Whatever pyarrow raises of a damaged file.
    """
    with _open(path) as file:
        groups = [
            file.metadata.row_group(index) for index in range(file.num_row_groups)
        ]
        partitions: list[base.Partition] = []
        start = first_row = num_rows = num_bytes = 0
        for index, group in enumerate(groups):
            size = sum(
                group.column(column).total_compressed_size
                for column in range(group.num_columns)
            )
            if index > start and num_bytes + size > base.MAX_PARTITION_BYTES:
                rows = (first_row, num_rows)
                partitions.append(
                    _range(path, relative_path, (start, index), rows, num_bytes)
                )
                start, first_row, num_bytes = index, num_rows, 0
            num_rows += group.num_rows
            num_bytes += size
    last = (start, max(len(groups), 1))
    rows = (first_row, num_rows)
    partitions.append(_range(path, relative_path, last, rows, num_bytes))
    return partitions


def _range(
    path: str,
    relative_path: str,
    groups: tuple[int, int],
    rows: tuple[int, int],
    num_bytes: int,
) -> base.Partition:
    return base.Partition(
        path=path,
        relative_path=relative_path,
        start=groups[0],
        stop=groups[1],
        first_number=rows[0],
        num_bytes=num_bytes,
        num_items=rows[1] - rows[0],
    )


def read_parquet(partition: base.Partition, text_key: str) -> Iterator[Row]:
    """Yields each row of the partition's row groups.

    Raises:
        Exception: Whatever pyarrow raises when the file cannot be opened.
    """
    with _open(partition.path) as file:
        number = partition.first_number
        names = file.schema_arrow.names
        stop = file.num_row_groups if partition.stop is None else partition.stop
        for group in range(partition.start, min(stop, file.num_row_groups)):
            num_rows = file.metadata.row_group(group).num_rows
            if text_key in names:
                yield from _group(file, group, number, text_key)
            else:
                for row in range(number, number + num_rows):
                    yield row, _no_column(text_key, names), None
            number += num_rows


def _no_column(text_key: str, names: list[str]) -> QuarantineError:
    return QuarantineError(
        Reason.MISSING_FIELD,
        f"a row must have the column {text_key!r} (text_key), got"
        f" {', '.join(names[:10])}",
    )


def _group(
    file: pq.ParquetFile, group: int, first: int, text_key: str
) -> Iterator[Row]:
    metadata = file.metadata.row_group(group)
    columns = [text_key]
    if "id" in file.schema_arrow.names and text_key != "id":
        columns.append("id")
    each = metadata.total_byte_size // max(1, metadata.num_rows) + 1
    number = first
    try:
        batches = file.iter_batches(
            batch_size=max(1, min(1 << 16, _BATCH_BYTES // each)),
            row_groups=[group],
            columns=columns,
        )
        for batch in batches:
            texts = _texts(batch.column(text_key))
            ids = (
                batch.column("id").to_pylist()
                if "id" in batch.schema.names
                else [None] * len(texts)
            )
            for text, row_id in zip(texts, ids, strict=True):
                yield number, text, row_id
                number += 1
    except (OSError, pa.ArrowException, ValueError) as error:
        verdict = QuarantineError(
            Reason.CORRUPT_FILE, f"row group {group} cannot be read: {error!r}"
        )
        for row in range(number, first + metadata.num_rows):
            yield row, verdict, None


def _texts(column: pa.Array) -> list[Any]:
    """Returns UTF-8 bytes, None, or values of another type, one a row."""
    type_ = column.type
    if pa.types.is_dictionary(type_):
        column = column.dictionary_decode()
        type_ = column.type
    # As bytes: pyarrow does not check that a Parquet string is UTF-8, and one bad row
    # would cost the whole batch.
    if pa.types.is_string(type_) or pa.types.is_string_view(type_):
        column = column.cast(pa.binary())
    elif pa.types.is_large_string(type_):
        column = column.cast(pa.large_binary())
    return column.to_pylist()

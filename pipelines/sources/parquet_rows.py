"""Rows of Parquet files; partitions are ranges of row groups."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from gato.pipelines.sources import base
from gato.pipelines.sources.annotation_json import not_utf8
from gato.schemas import files
from gato.schemas.episode import Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError

# Rows are decoded in batches of about so many bytes.
_BATCH_BYTES = 8 << 20
_Row = TypeVar("_Row")
_Item = TypeVar("_Item")


def parquet_file(path: str, format: str, example: str) -> list[str]:
    """Returns the one file that a path of a format is.

    Args:
        path: As a glob matched it.
        format: For the message.
        example: Of a glob that matches such files.

    Raises:
        UsageError: If it is a folder or has another suffix.
    """
    is_folder = files.is_folder(path)
    if is_folder or not path.endswith(".parquet"):
        raise UsageError(
            f"{path}: a path of format {format} is a Parquet file, such as {example};"
            f" this is {'a folder' if is_folder else 'another file'}"
        )
    return [path]


@contextlib.contextmanager
def open_parquet(path: str) -> Iterator[pq.ParquetFile]:
    """Opens a file, local or in a store, of which only what is asked for is read."""
    with contextlib.ExitStack() as stack:
        source: Any = (
            files.local_path(path)
            if files.is_local(path)
            else stack.enter_context(files.open_read(path))
        )
        yield stack.enter_context(pq.ParquetFile(source, pre_buffer=False))


def check_version(schema: pa.Schema, key: bytes, version: bytes) -> None:
    """Checks the version that a file of our own says; one that says none has it.

    Raises:
        QuarantineError: UNSUPPORTED if it is another.
    """
    found = (schema.metadata or {}).get(key, version)
    if found != version:
        raise QuarantineError(
            Reason.UNSUPPORTED,
            f"a file of version {version.decode()} is read, got {found!r}",
        )


def partition_parquet(
    path: str, relative_path: str, most_bytes: int | None = None
) -> list[base.Partition]:
    """Splits a file into ranges of row groups of so many bytes where they allow it.

    Args:
        path: Of the file.
        relative_path: What ids begin with.
        most_bytes: Of a range of several row groups; 256 MiB by default.

    Raises:
        Exception: Whatever pyarrow raises of a damaged file.
    """
    most_bytes = most_bytes or base.MAX_PARTITION_BYTES
    with open_parquet(path) as file:
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
            if index > start and num_bytes + size > most_bytes:
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


def read_rows(
    partition: base.Partition,
    needed: Sequence[str],
    optional: Sequence[str],
    unpack: Callable[[pa.RecordBatch], Sequence[_Row]],
) -> Iterator[tuple[int, _Row | QuarantineError]]:
    """Yields number and value of each row of the partition's row groups.

    Args:
        partition: A range of row groups.
        needed: Columns without which no row has a value.
        optional: Columns that are read where they are.
        unpack: Returns a value for each row of a batch.

    Raises:
        Exception: Whatever pyarrow raises when the file cannot be opened.
    """
    with open_parquet(partition.path) as file:
        number = partition.first_number
        names = file.schema_arrow.names
        lacking = [name for name in needed if name not in names]
        columns = [name for name in (*needed, *optional) if name in names]
        stop = file.num_row_groups if partition.stop is None else partition.stop
        for group in range(partition.start, min(stop, file.num_row_groups)):
            num_rows = file.metadata.row_group(group).num_rows
            if lacking:
                for row in range(number, number + num_rows):
                    yield row, _no_column(lacking[0], names)
            else:
                yield from _group(file, group, number, columns, unpack)
            number += num_rows


def items_of_rows(
    partition: base.Partition,
    needed: Sequence[str],
    unpack: Callable[[pa.RecordBatch], Sequence[_Row]],
    item: Callable[[int, _Row, str], _Item],
) -> Iterator[_Item | Unreadable]:
    """Yields an item for each row, or the verdict on it.

    Args:
        partition: A range of row groups.
        needed: The columns that are read.
        unpack: Returns a value for each row of a batch.
        item: Makes an item of a row's number and value and the item's id, or raises a
            QuarantineError.
    """
    number = partition.first_number
    try:
        for number, row in read_rows(partition, needed, (), unpack):
            item_id = f"{partition.relative_path}/{number}"
            try:
                if isinstance(row, QuarantineError):
                    raise row
                yield item(number, row, item_id)
            except QuarantineError as error:
                yield base.unreadable(partition, item_id, number, error)
            number += 1
    except Exception as error:  # whatever damaged bytes raise in pyarrow
        verdict = QuarantineError(
            Reason.CORRUPT_FILE,
            f"the file cannot be read from row {number} on: {error!r}",
        )
        yield base.unreadable(partition, None, number, verdict)


def text_of(value: Any, place: str) -> str:
    """Returns a stored text.

    Raises:
        QuarantineError: MISSING_FIELD, WRONG_DTYPE or NOT_UTF8.
    """
    if value is None:
        raise QuarantineError(Reason.MISSING_FIELD, f"{place} must not be null")
    if not isinstance(value, bytes):
        raise QuarantineError(
            Reason.WRONG_DTYPE, f"{place} must be a string, got {type(value).__name__}"
        )
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise not_utf8(place, error) from error


def _no_column(lacking: str, names: list[str]) -> QuarantineError:
    return QuarantineError(
        Reason.MISSING_FIELD,
        f"a row must have the column {lacking!r}, got {', '.join(names[:10])}",
    )


def _group(
    file: pq.ParquetFile,
    group: int,
    first: int,
    columns: list[str],
    unpack: Callable[[pa.RecordBatch], Sequence[_Row]],
) -> Iterator[tuple[int, _Row | QuarantineError]]:
    metadata = file.metadata.row_group(group)
    each = metadata.total_byte_size // max(1, metadata.num_rows) + 1
    number = first
    try:
        batches = file.iter_batches(
            batch_size=max(1, min(1 << 16, _BATCH_BYTES // each)),
            row_groups=[group],
            columns=columns,
        )
        for batch in batches:
            for value in unpack(batch):
                yield number, value
                number += 1
    except (OSError, pa.ArrowException, ValueError) as error:
        verdict = QuarantineError(
            Reason.CORRUPT_FILE, f"row group {group} cannot be read: {error!r}"
        )
        for row in range(number, first + metadata.num_rows):
            yield row, verdict


def as_bytes(column: pa.Array) -> pa.Array:
    """Returns a column whose strings, or lists of them, are bytes.

    pyarrow does not check that a Parquet string is UTF-8, and one bad row would cost
    the whole batch.
    """
    type_ = column.type
    if pa.types.is_dictionary(type_):
        return as_bytes(column.dictionary_decode())
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        inner = _bytes_type(type_.value_type)
        make = pa.list_ if pa.types.is_list(type_) else pa.large_list
        return column if inner is None else column.cast(make(inner))
    inner = _bytes_type(type_)
    return column if inner is None else column.cast(inner)


def _bytes_type(type_: pa.DataType) -> Any:
    """Returns the type of a string type's bytes; None of others."""
    if pa.types.is_string(type_) or pa.types.is_string_view(type_):
        return pa.binary()
    return pa.large_binary() if pa.types.is_large_string(type_) else None

"""Texts in a column of a Parquet file."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from gato.pipelines.sources import base
from gato.pipelines.sources.parquet_rows import as_bytes, read_rows
from gato.schemas.errors import QuarantineError

# What stands in one row: its number, its text (str, bytes) or the verdict on it, and
# the id that the file gives it.
Row = tuple[int, Any, Any]


def read_parquet(partition: base.Partition, text_key: str) -> Iterator[Row]:
    """Yields each row of the partition's row groups.

    Raises:
        Exception: Whatever pyarrow raises when the file cannot be opened.
    """

    def unpack(batch: pa.RecordBatch) -> list[tuple[Any, Any]]:
        texts = as_bytes(batch.column(text_key)).to_pylist()
        ids: list[Any] = [None] * len(texts)
        if "id" in batch.schema.names and text_key != "id":
            ids = batch.column("id").to_pylist()
        return list(zip(texts, ids, strict=True))

    optional = () if text_key == "id" else ("id",)
    for number, row in read_rows(partition, (text_key,), optional, unpack):
        if isinstance(row, QuarantineError):
            yield number, row, None
        else:
            yield number, *row

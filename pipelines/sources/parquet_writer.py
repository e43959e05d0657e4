"""What the writers of our own Parquet share: one file, published when it is whole."""

import abc
import contextlib
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from gato.schemas import files

# A row group is what a reader can begin at.
ROW_GROUP_BYTES = 32 << 20


class ParquetWriter(abc.ABC):
    """Writes one file, which appears under its name when the block ends well."""

    # What a file holds one of at least.
    _item: str

    def __init__(self, path: str, row_group_bytes: int) -> None:
        if not path.endswith(".parquet"):
            raise ValueError(f"a file of {self._item}s ends in .parquet, got {path!r}")
        self._path = path
        self._row_group_bytes = row_group_bytes
        self._stack = contextlib.ExitStack()
        self._file: IO[bytes] | None = None
        self._writer: pq.ParquetWriter | None = None
        self._held_bytes = 0

    def __enter__(self) -> Self:
        self._file = self._stack.enter_context(files.open_atomic(self._path))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._stack:  # publishes the file, or takes it back
            if error is not None:
                self._abandon()
                raise error
            if self._writer is None:
                raise ValueError(
                    f"{self._path}: a file holds at least one {self._item}"
                )
            self._flush()
            self._writer.close()

    def _abandon(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(Exception):
                self._writer.close()

    def _begin(self, schema: pa.Schema, use_dictionary: Any) -> None:
        if self._file is None:
            raise ValueError(
                f"{type(self).__name__} is used in a `with` block, which publishes"
                f" {self._path}"
            )
        self._schema = schema
        self._writer = pq.ParquetWriter(
            self._file, schema, compression="zstd", use_dictionary=use_dictionary
        )

    def _hold(self, num_bytes: int) -> None:
        """Counts what is held from now on; so much that it is a row group, writes it.

        A sum over all that is held, at each addition, takes minutes of short episodes.
        """
        self._held_bytes += num_bytes
        if self._held_bytes >= self._row_group_bytes:
            self._flush()
            self._held_bytes = 0

    @abc.abstractmethod
    def _flush(self) -> None:
        """Writes what is held as a row group."""

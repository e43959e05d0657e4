"""Random access to the rows of many shards, by number, through their `.idx` files.

Local shards are mapped and cost no memory of their own; remote ones are read by ranges,
those of one shard together.
"""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gato.model.shards import Dataset
from gato.schemas import files
from gato.schemas.errors import GatoError
from gato.schemas.manifest import ShardInfo
from gato.schemas.tfrecord import CorruptRecordError, parse_index, view_record


class ShardFile:
    """One shard with its index, opened at the first read."""

    def __init__(self, folder: str, info: ShardInfo, dataset: int) -> None:
        self.path = files.join(folder, info.name)
        self.dataset = dataset
        self.rows = info.rows
        self._bytes = info.bytes

    @functools.cached_property
    def offsets(self) -> NDArray[np.int64]:
        """int64 [rows + 1]: where each record begins, then the file's length.

        Raises:
            GatoError: If the index is missing or disagrees with the manifest.
        """
        path = f"{self.path}.idx"
        try:
            offsets = parse_index(files.read_bytes(path), path)
        except FileNotFoundError as error:
            raise GatoError(
                f"{path}: each shard has its index beside it, and there is none. Copy"
                " it from the build, or build again."
            ) from error
        if len(offsets) != self.rows + 1 or offsets[-1] != self._bytes:
            raise CorruptRecordError(
                f"{path}: the manifest says {self.rows} rows in {self._bytes} bytes,"
                f" the index {len(offsets) - 1} in {offsets[-1]}. Copy both from one"
                " build."
            )
        return offsets.astype(np.int64)

    @functools.cached_property
    def _reader(self) -> files.RangeReader:
        try:
            return files.RangeReader(self.path)
        except FileNotFoundError as error:
            raise GatoError(
                f"{self.path}: the manifest lists this shard, and it is not there. Copy"
                " it from the build, or build again."
            ) from error

    def place(self, record: int) -> str:
        """Returns file and offset of a record, for messages."""
        return f"{self.path} at byte {self.offsets[record]}"

    def read(self, records: Sequence[int]) -> list[memoryview]:
        """Returns the data of records, checksums verified, nothing copied.

        Raises:
            CorruptRecordError: Naming file and offset.
        """
        offsets = self.offsets
        ranges = [(int(offsets[r]), int(offsets[r + 1])) for r in records]
        pieces = self._reader.read(ranges)
        return [
            view_record(piece, f"{self.path} at byte {start}")
            for piece, (start, _) in zip(pieces, ranges, strict=True)
        ]


class RowStore:
    """The rows of one split of all data sets, numbered through."""

    def __init__(self, datasets: Sequence[Dataset], split: str) -> None:
        self.shards = [
            ShardFile(dataset.folder, info, index)
            for index, dataset in enumerate(datasets)
            for info in getattr(dataset, split)
        ]
        rows = [shard.rows for shard in self.shards]
        self._starts = np.cumsum([0, *rows])
        self.rows_by_dataset = [
            sum(info.rows for info in getattr(dataset, split)) for dataset in datasets
        ]

    def locate(self, ids: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
        """Returns each row's shard (an index of `shards`) and record in it."""
        shards = np.searchsorted(self._starts, ids, side="right") - 1
        return shards, ids - self._starts[shards]

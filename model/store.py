"""Random access to the rows of many shards, by number, through their `.idx` files.

Local shards are mapped and cost no memory of their own; of a store's objects exactly
the rows asked for are read, those of all shards together.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

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
        try:
            return self._parse(files.read_bytes(f"{self.path}.idx"))
        except FileNotFoundError as error:
            raise GatoError(
                f"{self.path}.idx: each shard has its index beside it, and there is"
                " none. Copy it from the build, or build again."
            ) from error

    @property
    def index_request(self) -> tuple[files.RangeReader, list[tuple[int, int]]] | None:
        """What to read of a store before `take_index`; None if that is not needed."""
        if files.is_local(self.path) or "offsets" in self.__dict__:
            return None
        return files.RangeReader(f"{self.path}.idx"), [(0, 8 * (self.rows + 1))]

    def take_index(self, data: bytes | memoryview) -> None:
        """Takes over what `index_request` gave.

        Raises:
            GatoError: If it disagrees with the manifest.
        """
        self.__dict__["offsets"] = self._parse(bytes(data))

    def _parse(self, data: bytes) -> NDArray[np.int64]:
        path = f"{self.path}.idx"
        offsets = parse_index(data, path)
        if len(offsets) != self.rows + 1 or offsets[-1] != self._bytes:
            raise CorruptRecordError(
                f"{path}: the manifest says {self.rows} rows in {self._bytes} bytes,"
                f" the index {len(offsets) - 1} in {offsets[-1]}. Copy both from one"
                " build."
            )
        return offsets.astype(np.int64)

    @functools.cached_property
    def reader(self) -> files.RangeReader:
        """The shard's bytes.

        Raises:
            GatoError: If it is not there.
        """
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

    def ranges(self, records: Sequence[int]) -> list[tuple[int, int]]:
        """Returns the bytes of records."""
        offsets = self.offsets
        return [(int(offsets[r]), int(offsets[r + 1])) for r in records]

    def view(self, record: int, framed: bytes | memoryview) -> memoryview:
        """Returns the data of a record as it was read, its checksums verified.

        Raises:
            CorruptRecordError: Naming file and offset.
        """
        return view_record(framed, self.place(record))

    def read(self, records: Sequence[int]) -> list[memoryview]:
        """Returns the data of records, nothing copied.

        Raises:
            CorruptRecordError: As `view`.
        """
        pieces = self.reader.read(self.ranges(records))
        return [self.view(*each) for each in zip(records, pieces, strict=True)]


class StoredRow(NamedTuple):
    """A record as it lies in its shard.

    Attributes:
        place: Of its id among those asked for.
        data: Its bytes, checksums verified, nothing copied.
        shard: Where it is from.
        record: Its number there.
    """

    place: int
    data: memoryview
    shard: ShardFile
    record: int


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

    def read(self, ids: NDArray[np.int64]) -> Iterator[StoredRow]:
        """Yields the rows of the given numbers, shard by shard.

        Raises:
            GatoError: If a shard or its index is missing.
            CorruptRecordError: Naming file and offset.
        """
        shards, records = self.locate(ids)
        order = np.argsort(shards, kind="stable")
        cuts = np.flatnonzero(np.diff(shards[order])) + 1
        groups = np.split(order, cuts) if len(order) else []
        wanted = [
            (self.shards[shards[places[0]]], records[places].tolist())
            for places in groups
        ]
        self._read_indices([shard for shard, _ in wanted])
        found = files.read_each(
            (shard.reader, shard.ranges(numbers)) for shard, numbers in wanted
        )
        for places, (shard, numbers) in zip(groups, wanted, strict=True):
            for place, record, piece in zip(
                places.tolist(), numbers, next(found), strict=True
            ):
                yield StoredRow(place, shard.view(record, piece), shard, record)

    @staticmethod
    def _read_indices(shards: Sequence[ShardFile]) -> None:
        """Reads the indices of a store's shards that were not read yet, together."""
        asked = [
            (shard, request) for shard in shards if (request := shard.index_request)
        ]
        found = files.read_each(request for _, request in asked)
        for shard, _ in asked:
            shard.take_index(*next(found))

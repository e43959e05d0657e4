"""Records to NumPy batches: the loader's hot path.

All records of a build begin with the same bytes up to their images, the payloads apart,
since every feature's length follows from L. So a record costs one checksum and one copy
of that prefix; headers are compared, and fields cut out, for a whole batch at once. A
record laid out otherwise (by another writer) is parsed in full by `decode_row`.
"""

import concurrent.futures
import dataclasses
import functools
import itertools
import operator
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gato.model.batch import Batch
from gato.model.store import RowStore, ShardFile
from gato.schemas.errors import GatoError
from gato.schemas.record import (
    KIND_MASK,
    MAX_LOCAL_POSITION,
    PATCH_SIZE,
    PROMPT_BIT,
    Kind,
    Row,
    decode_example,
    decode_features,
    decode_row,
    encode_example,
    encode_row,
)
from gato.tokenizers.patches import PATCH_BYTES, decode_stored_all, patches

NO_ROW = -1
# Below so many images, decoding them is not worth waking threads.
_FEW_IMAGES = 8
_FIELDS = ("tokens", "kind", "loss_mask", "segment", "local_position")
_SIZE_AND_ENCODING = operator.itemgetter(1, 2, 3)
# A run of images: whose, of which row of the batch, as in `runs`, to which pool, where.
_Job: TypeAlias = "tuple[_Images, int, tuple[int, int, int, int], int, slice]"


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where fields stand in a record, from the end of its outermost header.

    Attributes:
        template: uint8 [size]; the prefix up to the images with empty payloads.
        is_header: bool [size]; False where a field's payload stands.
        fields: First byte, end and dtype of each field in the prefix.
        no_images: What follows the prefix in a row without images.
    """

    template: NDArray[np.uint8]
    is_header: NDArray[np.bool_]
    fields: dict[str, tuple[int, int, np.dtype]]
    no_images: bytes

    @classmethod
    def of(cls, length: int, dtype: str) -> "_Layout":
        """Lays out an empty row as the writer does."""
        empty = np.zeros(length, np.uint8)
        row = Row(
            tokens=np.zeros(length, dtype),
            kind=empty,
            loss_mask=empty,
            segment=empty,
            local_position=np.zeros(length, np.int16),
            images=(),
            image_info=np.zeros((0, 4), np.int32),
            provenance=[],
        )
        features = {
            name: [bytes(value) for value in values]
            for name, values in decode_example(encode_row(row)).items()
        }
        kinds = (np.dtype(dtype).newbyteorder("<").str, "u1", "u1", "u1", "<i2")
        dtypes = dict(zip(_FIELDS, map(np.dtype, kinds), strict=True))
        prefix, fields = {}, {}
        for name in ("version", *_FIELDS):
            prefix[name] = features[name]
            if name in dtypes:  # a payload is the end of its feature
                end = len(_body(encode_example(prefix)))
                size = length * dtypes[name].itemsize
                fields[name] = (end - size, end, dtypes[name])
        template = np.frombuffer(_body(encode_example(prefix)), np.uint8)
        is_header = np.ones(len(template), bool)
        for begin, end, _ in fields.values():
            is_header[begin:end] = False
        rest = {name: features[name] for name in ("images", "image_info")}
        return cls(template, is_header, fields, _body(encode_example(rest)))


def _body_start(record: bytes | memoryview) -> int:
    """Returns the length of `0x0A, varint`, the header around all features."""
    at = 1
    while record[at] >= 0x80:
        at += 1
    return at + 1


def _body(record: bytes) -> bytes:
    return record[_body_start(record) :]


class _Images:
    """The stored images of one row.

    Attributes:
        runs: Of images alike that follow each other: first number, one past the last,
            patch rows and columns.
        num_patches: Of all; -1 if the record disagrees with itself.
    """

    def __init__(
        self,
        encoded: Sequence[bytes | memoryview],
        info: NDArray[np.int32],
        place: str,
    ) -> None:
        self._encoded = encoded
        self._info = info.tolist()
        self._place = place
        self.runs: list[tuple[int, int, int, int]] = []
        num_patches = first = 0
        for alike, run in itertools.groupby(self._info, key=_SIZE_AND_ENCODING):
            stop = first + len(list(run))
            rows, columns = alike[0] // PATCH_SIZE, alike[1] // PATCH_SIZE
            self.runs.append((first, stop, rows, columns))
            num_patches += (stop - first) * rows * columns
            first = stop
        self.num_patches = num_patches if len(encoded) == len(info) else -1

    def decode(self, first: int, stop: int, out: NDArray[np.uint8]) -> None:
        """Writes the patches of images alike to `out`, uint8 [n, 768].

        Raises:
            GatoError: If bytes are no image of the stated size.
        """
        _, height, width, encoding = self._info[first]
        try:
            images = decode_stored_all(
                self._encoded[first:stop], height, width, encoding, first
            )
        except GatoError as error:
            raise GatoError(f"{self._place}: {error}") from error
        patches(images, out)


@functools.lru_cache(maxsize=256)
def _patch_grid(rows: int, columns: int) -> NDArray[np.int32]:
    """Returns int32 [rows * columns, 4], as `Batch.patch_grid_GP4`."""
    grid = np.empty((rows, columns, 4), np.int32)
    grid[..., 0] = np.arange(rows)[:, None]
    grid[..., 1] = np.arange(columns)[None, :]
    grid[..., 2:] = rows, columns
    return grid.reshape(-1, 4)


class Assembler:
    """Reads rows of a store into batches.

    Args:
        store: The rows.
        length: L.
        dtype: The manifests' `token_dtype`.
        vocabulary_size: Ids are below it.
        pool_sizes: Patches a row in each of at most three pool sizes, rising; the last
            is what a row can hold, or all are 0 where no data set has images.
        threads: Threads that decode images.
    """

    def __init__(
        self,
        store: RowStore,
        *,
        length: int,
        dtype: str,
        vocabulary_size: int,
        pool_sizes: Sequence[int],
        threads: int,
    ) -> None:
        self.store = store
        self._length = length
        self._dtype = dtype
        self._vocabulary_size = vocabulary_size
        self._pool_sizes = tuple(pool_sizes)
        self._layout = _Layout.of(length, dtype)
        self._num_threads = threads
        self._threads = concurrent.futures.ThreadPoolExecutor(threads)

    def assemble(
        self,
        ids: NDArray[np.int64],
        *,
        groups: int,
        places: NDArray[np.int32] | None = None,
    ) -> Batch:
        """Returns the batch of the given rows.

        Args:
            ids: int64 [B] row numbers of the store; `NO_ROW` makes a row of padding.
            groups: Groups of rows that pool their patches, one a device.
            places: int32 [B] of the rows in the global batch; None: 0, 1, ...

        Raises:
            GatoError: If a record is corrupt or inconsistent, with file and offset.
        """
        return self._batch(ids, self._read(ids), groups, places)

    def assemble_with_prompts(
        self, ids: NDArray[np.int64], *, groups: int
    ) -> tuple[Batch, NDArray[np.bool_]]:
        """Returns the batch, and which of its slots [B, L] are a prompt's.

        Args:
            ids: As `assemble` takes them.
            groups: Likewise.

        Raises:
            GatoError: As `assemble` does.
        """
        read = self._read(ids)
        fields, _, _ = read
        return self._batch(ids, read, groups), (fields["kind"] & PROMPT_BIT) > 0

    def _batch(
        self,
        ids: NDArray[np.int64],
        read: tuple[dict[str, NDArray], dict[int, _Images], NDArray[np.int32]],
        groups: int,
        places: NDArray[np.int32] | None = None,
    ) -> Batch:
        fields, images, dataset = read
        self._check(ids, fields, images)
        if places is None:
            places = np.arange(len(ids), dtype=np.int32)
        return Batch(
            fields["tokens"].astype(np.int32),
            fields["kind"] & KIND_MASK,
            fields["loss_mask"],
            fields["segment"],
            fields["local_position"],
            dataset,
            places,
            *self._pool(images, groups, places),
        )

    def _read(
        self, ids: NDArray[np.int64]
    ) -> tuple[dict[str, NDArray], dict[int, _Images], NDArray[np.int32]]:
        """Returns the fields [B, L], the images by row, and the data sets [B]."""
        layout = self._layout
        size = len(layout.template)
        prefixes = np.empty((len(ids), size), np.uint8)
        prefixes[:] = layout.template
        dataset = np.full(len(ids), -1, np.int32)
        taken = list(self._records(ids))
        for row, data, shard, _ in taken:
            start = _body_start(data)
            if start + size <= len(data):
                prefixes[row] = np.frombuffer(data, np.uint8, size, start)
            dataset[row] = shard.dataset
        headers = prefixes[:, layout.is_header] == layout.template[layout.is_header]
        alike = headers.all(1).tolist()
        fields = {
            name: np.ascontiguousarray(prefixes[:, begin:end]).view(dtype)
            for name, (begin, end, dtype) in layout.fields.items()
        }
        images: dict[int, _Images] = {}
        ending = len(layout.no_images)
        for row, data, shard, record in taken:
            rest = _body_start(data) + size
            if alike[row] and data[rest : rest + ending] == layout.no_images:
                continue
            place = shard.place(record)
            found = self._take_tail(data, rest, place) if alike[row] else None
            if found is None:
                found = self._take_whole(data, row, fields, place)
            if found.num_patches:
                images[row] = found
        return fields, images, dataset

    def _records(
        self, ids: NDArray[np.int64]
    ) -> Iterator[tuple[int, memoryview, ShardFile, int]]:
        """Yields (row of the batch, data, shard, record), read shard by shard."""
        wanted = np.flatnonzero(ids != NO_ROW)
        for place, data, shard, record in self.store.read(ids[wanted]):
            yield int(wanted[place]), data, shard, record

    @staticmethod
    def _take_tail(data: memoryview, rest: int, place: str) -> _Images | None:
        """Returns the images after a prefix laid out as usual; None if not found."""
        try:
            features = decode_features(data[rest:])
            info = np.frombuffer(features["image_info"][0], "<i4").reshape(-1, 4)
        except (ValueError, KeyError):
            return None
        return _Images(features.get("images", []), info, place)

    def _take_whole(
        self, data: memoryview, row: int, fields: dict[str, NDArray], place: str
    ) -> _Images:
        """Parses a record in full, and fails where it is no row of this build."""
        parsed = decode_row(
            bytes(data), sequence_length=self._length, dtype=self._dtype, place=place
        )
        for name in _FIELDS:
            fields[name][row] = getattr(parsed, name)
        return _Images(parsed.images, parsed.image_info, place)

    def _check(
        self,
        ids: NDArray[np.int64],
        fields: dict[str, NDArray],
        images: dict[int, _Images],
    ) -> None:
        """Checks what arrays on a device would take in silence.

        Raises:
            GatoError: Naming the record.
        """
        tokens, kind = fields["tokens"], fields["kind"] & KIND_MASK
        slots = np.count_nonzero(kind == Kind.IMAGE, axis=1)
        patches = np.zeros(len(ids), np.int64)
        for row, stored in images.items():
            patches[row] = stored.num_patches
        rules = (
            ((tokens >= self._vocabulary_size).any(1), "ids below the vocabulary size"),
            ((fields["loss_mask"] > 1).any(1), "a loss mask of zeros and ones"),
            (
                (fields["local_position"] > MAX_LOCAL_POSITION).any(1),
                f"local positions of at most {MAX_LOCAL_POSITION}",
            ),
            (slots != patches, "one image slot for each 16 x 16 patch of its images"),
        )
        for broken, rule in rules:
            if broken.any():
                shards, records = self.store.locate(ids[broken][:1])
                place = self.store.shards[shards[0]].place(int(records[0]))
                raise GatoError(
                    f"{place}: a record holds {rule}, and this one does not. Run"
                    " gato-verify on the build, and build again."
                )

    def _pool(
        self, images: dict[int, _Images], groups: int, places: NDArray[np.int32]
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Returns patches, grids and sources, [G, P, ...], of the smallest size."""
        per_group = len(places) // groups
        used = [0] * groups
        jobs = []
        for row in sorted(images):
            stored = images[row]
            group = row // per_group
            for run in stored.runs:
                first, stop, grid_rows, columns = run
                begin = used[group]
                used[group] += (stop - first) * grid_rows * columns
                jobs.append((stored, row, run, group, slice(begin, used[group])))
        size = self._pool_size(max(used), per_group)
        pool = np.zeros((groups, size, PATCH_BYTES), np.uint8)
        grids = np.zeros((groups, size, 4), np.int32)
        grids[..., 2:] = 1
        source = np.zeros((groups, size, 2), np.int32)

        def decode(part: Sequence[_Job]) -> None:
            for stored, row, (first, stop, *grid), group, place in part:
                stored.decode(first, stop, pool[group, place])
                each = (stop - first, grid[0] * grid[1])
                grids[group, place].reshape(*each, 4)[:] = _patch_grid(*grid)
                sources = source[group, place].reshape(*each, 2)
                sources[..., 0] = places[row]
                sources[..., 1] = np.arange(first, stop)[:, None]

        # One part a thread: handing over each image cost more than a small one takes.
        parts = [jobs[first :: self._num_threads] for first in range(self._num_threads)]
        if len(jobs) < _FEW_IMAGES or self._num_threads == 1:
            decode(jobs)
        else:
            list(self._threads.map(decode, parts))
        return pool, grids, source

    def _pool_size(self, needed: int, rows: int) -> int:
        return next(
            (size * rows for size in self._pool_sizes if size * rows >= needed), needed
        )

"""Batches in a fixed order: batch t is a pure function of (seed, t).

Grain gives the order of rows (a global permutation of each data set a pass, repeated,
mixed by weight); `gato.model.rows` gives their bytes. So the whole state is t, seeking
costs nothing, and the global batch is the same for any number of hosts. One thread
works ahead and puts batches on the device.
"""

import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from numpy.typing import NDArray

from gato.model.batch import Batch
from gato.model.rows import NO_ROW, Assembler
from gato.model.sharding import BATCH_AXES
from gato.model.shards import Dataset
from gato.model.store import RowStore
from gato.schemas.hashing import keyed_hash

# Grain's seeds are 32 bit.
_SEEDS = 1 << 31
# The domain that Grain's index shuffle never goes below.
_SMALL = 1 << 16
# Room above the expected number of patches in the two smaller pools.
_POOL_ROOM = (1.25, 2.5)


class _SmallPermutation:
    """Passes over few rows, each in an order of its own.

    Grain's own index shuffle walks a domain of 65,536 until it meets a row: 6 ms a row
    for a data set of ten.
    """

    def __init__(self, start: int, count: int, seed: int) -> None:
        self._start, self._count, self._seed = start, count, seed
        self._pass: tuple[int, list[int]] = (-1, [])

    def __call__(self, place: int) -> int:
        """Returns the row at a place of the endless passes."""
        number, within = divmod(place, self._count)
        held = self._pass
        if held[0] != number:
            # Raw bits: unlike `permutation`, the same in every version of NumPy. The
            # pass is the counter's upper half, which drawing never reaches.
            bits = np.random.Philox(key=self._seed, counter=number << 128)
            keys = bits.random_raw(self._count)
            order = self._start + np.argsort(keys, kind="stable")
            held = self._pass = (number, order.tolist())
        return held[1][within]


def _shuffled(start: int, count: int, seed: int) -> grain.MapDataset[int]:
    """Returns endless passes over rows [start, start + count), shuffled anew each."""
    if count <= _SMALL:
        permutation = _SmallPermutation(start, count, seed)
        return grain.MapDataset.range(sys.maxsize).map(permutation)
    return grain.MapDataset.range(start, start + count).seed(seed).shuffle().repeat()


class Order:
    """Which row stands where: the order of the global batches.

    Args:
        rows: Rows of each data set; the rows of all are numbered through.
        weights: Of the mixture, one a data set.
        names: Of the data sets; each is shuffled by its own.
        seed: Of the permutations.
    """

    def __init__(
        self,
        rows: Sequence[int],
        weights: Sequence[float],
        names: Sequence[str],
        seed: int,
    ) -> None:
        starts = np.cumsum([0, *rows]).tolist()
        parts = [
            _shuffled(start, count, keyed_hash(seed, "order", name) % _SEEDS)
            for start, count, name in zip(starts[:-1], rows, names, strict=True)
        ]
        mixed = grain.MapDataset.mix(parts, weights) if len(parts) > 1 else parts[0]
        self._rows: grain.MapDataset[int] = mixed

    def ids(self, first: int, count: int) -> NDArray[np.int64]:
        """Returns int64 [count] row numbers from place `first` of the endless order."""
        rows = self._rows
        return np.array([rows[place] for place in range(first, first + count)])


def pool_sizes(datasets: Sequence[Dataset]) -> tuple[int, ...]:
    """Returns the patches a row for at most three sizes of the pools, rising.

    Two fit the share of image slots that the manifests and weights promise; the last is
    all that a row can hold. More sizes would mean more compilations of the step.
    """
    length = datasets[0].manifest.sequence_length
    expected = sum(
        one.weight * one.manifest.tokens.image / max(1, one.manifest.rows)
        for one in datasets
    )
    if not any(one.manifest.tokens.image for one in datasets):
        return (0,)
    sizes = {min(length, math.ceil(room * expected)) for room in _POOL_ROOM}
    return (*sorted(sizes - {length}), length)


def make_assembler(datasets: Sequence[Dataset], split: str, threads: int) -> Assembler:
    """Returns the reader of one split ("train" or "validation") of all data sets."""
    manifest = datasets[0].manifest
    return Assembler(
        RowStore(datasets, split),
        length=manifest.sequence_length,
        dtype=manifest.token_dtype,
        vocabulary_size=manifest.vocabulary.size,
        pool_sizes=pool_sizes(datasets),
        threads=threads,
    )


class Batches:
    """The training batches of one host.

    Args:
        datasets: What to mix.
        batch_size: Rows of the global batch.
        seed: Of the order.
        groups: Pools of patches in the global batch, one a device of the batch axes.
        threads: Threads that decode images.
        host: This host's number.
        hosts: How many there are; each reads a run of rows of each global batch.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        *,
        batch_size: int,
        seed: int,
        groups: int,
        threads: int,
        host: int = 0,
        hosts: int = 1,
    ) -> None:
        self._assembler = make_assembler(datasets, "train", threads)
        self._order = Order(
            self._assembler.store.rows_by_dataset,
            [one.weight for one in datasets],
            [one.name for one in datasets],
            seed,
        )
        self._batch_size = batch_size
        self._rows = batch_size // hosts
        self._first_row = host * self._rows
        self._groups = groups // hosts

    def ids(self, t: int) -> NDArray[np.int64]:
        """Returns the row numbers of this host's part of batch t."""
        return self._order.ids(t * self._batch_size + self._first_row, self._rows)

    def __getitem__(self, t: int) -> Batch:
        """Returns this host's part of batch t.

        Raises:
            GatoError: If a shard is missing, or a record is corrupt.
        """
        return self._assembler.assemble(
            self.ids(t), groups=self._groups, first_row=self._first_row
        )


def validation_batches(
    datasets: Sequence[Dataset],
    *,
    batch_size: int,
    rows: int,
    groups: int,
    threads: int,
) -> Iterator[Batch]:
    """Yields the first `rows` validation rows of each data set, the last batch padded.

    Raises:
        GatoError: If a shard is missing, or a record is corrupt.
    """
    assembler = make_assembler(datasets, "validation", threads)
    ids: list[int] = []
    first = 0
    for count in assembler.store.rows_by_dataset:
        ids += range(first, first + min(rows, count))
        first += count
    for begin in range(0, len(ids), batch_size):
        part = np.full(batch_size, NO_ROW, np.int64)
        found = ids[begin : begin + batch_size]
        part[: len(found)] = found
        yield assembler.assemble(part, groups=groups)


def put(batch: Batch, mesh: Mesh) -> Batch:
    """Returns the batch on the mesh, its rows and pools over the batch axes."""
    sharding = NamedSharding(mesh, P(BATCH_AXES))
    return Batch(
        *(jax.make_array_from_process_local_data(sharding, field) for field in batch)
    )


class Prefetcher:
    """Makes items in one thread, a few ahead of who takes them.

    Args:
        make: Item t; an exception is raised where item t is taken.
        start: First t.
        stop: The t that is not made any more.
        ahead: Items kept ready.
    """

    def __init__(
        self, make: Callable[[int], Any], start: int, stop: int, ahead: int
    ) -> None:
        self._queue: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(ahead)
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(make, start, stop), daemon=True, name="prefetch"
        )
        self._thread.start()

    def _run(self, make: Callable[[int], Any], start: int, stop: int) -> None:
        for t in range(start, stop):
            try:
                item: tuple[Any, BaseException | None] = (make(t), None)
            except BaseException as error:
                item = (None, error)
            while not self._stopped.is_set():
                try:
                    self._queue.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if self._stopped.is_set() or item[1] is not None:
                return

    def take(self) -> tuple[Any, float]:
        """Returns the next item and the seconds it was waited for."""
        begin = time.perf_counter()
        item, error = self._queue.get()
        if error is not None:
            raise error
        return item, time.perf_counter() - begin

    def close(self) -> None:
        """Ends the thread."""
        self._stopped.set()
        self._thread.join()

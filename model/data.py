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
from gato.model.hosts import Hosts
from gato.model.rows import NO_ROW, Assembler
from gato.model.sharding import BATCH_AXES, owned_groups
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
        groups: Groups of rows in the global batch, each with a pool of patches.
        threads: Threads that decode images.
        owned: The groups that this host reads; None: all.
        hosts: All hosts, which agree on the size of each batch's pools; None: this one.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        *,
        batch_size: int,
        seed: int,
        groups: int,
        threads: int,
        owned: Sequence[int] | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        self._assembler = make_assembler(datasets, "train", threads)
        self._order = Order(
            self._assembler.store.rows_by_dataset,
            [one.weight for one in datasets],
            [one.name for one in datasets],
            seed,
        )
        self._batch_size = batch_size
        places = np.arange(batch_size, dtype=np.int32).reshape(groups, -1)
        self._places = places[list(range(groups) if owned is None else owned)]
        self._hosts = hosts

    def ids(self, t: int) -> NDArray[np.int64]:
        """Returns the row numbers of this host's part of batch t."""
        first = t * self._batch_size
        runs = [self._order.ids(first + run[0], len(run)) for run in self._places]
        return np.concatenate(runs)

    def __getitem__(self, t: int) -> Batch:
        """Returns this host's part of batch t.

        Raises:
            GatoError: If a shard is missing, or a record is corrupt; on all hosts, if
                it is so on one.
        """
        try:
            batch = self._assembler.assemble(
                self.ids(t), groups=len(self._places), places=self._places.ravel()
            )
        except Exception as error:
            if self._hosts is not None:
                self._hosts.fail(f"batch/{t}", error)
            raise
        if self._hosts is None:
            return batch
        size = batch.patches_GPC.shape[1]
        return _enlarge_pools(batch, self._hosts.largest(f"batch/{t}", size))


def _enlarge_pools(batch: Batch, size: int) -> Batch:
    """Returns the batch with pools of a size, so that all hosts' have one shape."""
    missing = size - batch.patches_GPC.shape[1]
    if not missing:
        return batch
    room = ((0, 0), (0, missing), (0, 0))
    grid_GP4 = np.pad(batch.patch_grid_GP4, room)
    grid_GP4[:, -missing:, 2:] = 1
    return batch._replace(
        patches_GPC=np.pad(batch.patches_GPC, room),
        patch_grid_GP4=grid_GP4,
        patch_source_GP2=np.pad(batch.patch_source_GP2, room),
    )


def validation_batches(
    datasets: Sequence[Dataset],
    *,
    batch_size: int,
    rows: int,
    groups: int,
    threads: int,
) -> Iterator[tuple[Batch, NDArray[np.bool_]]]:
    """Yields the first `rows` validation rows of each data set, the last batch padded.

    Beside each batch stands which of its slots [B, L] are a prompt's.

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
        yield assembler.assemble_with_prompts(part, groups=groups)


def put(batch: Batch, mesh: Mesh, groups: int | None = None) -> Batch:
    """Returns the batch on the mesh, its rows and pools over the batch axes.

    Args:
        batch: On this host: the whole global batch, or its own groups of rows.
        mesh: Of all hosts.
        groups: Of the global batch; None: the batch is whole.
    """
    sharding = NamedSharding(mesh, P(BATCH_AXES))
    held = len(batch.patches_GPC)
    groups = groups or held
    owned = range(groups) if held == groups else owned_groups(mesh, groups)

    def place(field: NDArray[Any]) -> jax.Array:
        each = len(field) // held

        def part(index: Any) -> NDArray[Any]:
            start, stop, _ = index[0].indices(groups * each)
            # A device's groups follow each other, here as in the global batch.
            begin = start if held == groups else owned.index(start // each) * each
            return field[begin : begin + stop - start]

        shape = (groups * each, *field.shape[1:])
        return jax.make_array_from_callback(shape, sharding, part)

    return Batch(*map(place, batch))


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

"""Which rows of a build a page shows: spread evenly, by the index alone.

A build may hold terabytes. Counts come from manifests, rows from a few shards of each
data set, through their indexes; the same build gives the same rows.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from gato.pipelines.inspection.load import (
    InspectedRow,
    count_rows,
    inspect_rows,
    parent_of,
    read_records,
)
from gato.schemas.errors import UsageError
from gato.schemas.manifest import DatasetManifest, load_dataset_manifest

# A page asks each shard for its index and for rows: requests to a store.
_MOST_SHARDS = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledDataset:
    """A data set's shards, of those that were asked for.

    Attributes:
        folder: The data set's.
        manifest: Of it.
        shards: Path and rows of each, in order.
    """

    folder: str
    manifest: DatasetManifest
    shards: tuple[tuple[str, int], ...]

    @property
    def num_rows(self) -> int:
        """Rows of the shards."""
        return sum(rows for _, rows in self.shards)


def group_shards(paths: Sequence[str]) -> list[SampledDataset]:
    """Returns the data sets that shards belong to, in the shards' order.

    Args:
        paths: As `find_shards` gives them.

    Raises:
        GatoError: If a folder has no manifest.
    """
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(parent_of(path), []).append(path)
    found = []
    for folder, names in folders.items():
        manifest = load_dataset_manifest(folder)
        listed = {
            shard.name: shard.rows
            for split in manifest.splits.values()
            for shard in split.shards
        }
        shards = []
        for path in names:
            rows = listed.get(path.rpartition("/")[2])
            shards.append((path, count_rows(path) if rows is None else rows))
        found.append(
            SampledDataset(folder=folder, manifest=manifest, shards=tuple(shards))
        )
    return found


def spread(total: int, count: int) -> list[int]:
    """Returns `count` different numbers below `total`, as evenly as they go.

    >>> spread(10, 3), spread(2, 5)
    ([1, 5, 8], [0, 1])
    """
    count = min(count, total)
    return [(2 * number + 1) * total // (2 * count) for number in range(count)]


def allot(available: Sequence[int], count: int) -> list[int]:
    """Shares `count` out equally, giving on what some cannot take.

    >>> allot([2, 100, 100], 100)
    [2, 49, 49]
    """
    shares = [0] * len(available)
    left = min(count, sum(available))
    # Those that can take least come first, and leave what they cannot to the others.
    order = sorted(range(len(available)), key=lambda at: available[at])
    for taken, at in enumerate(order):
        shares[at] = min(left // (len(order) - taken), available[at])
        left -= shares[at]
    return shares


def choose_rows(dataset: SampledDataset, count: int) -> list[tuple[str, list[int]]]:
    """Returns `count` rows, spread over at most 32 shards, as numbers by shard.

    Args:
        dataset: Where from.
        count: How many; fewer if those shards have no more.
    """
    filled = [(path, rows) for path, rows in dataset.shards if rows]
    chosen = [filled[at] for at in spread(len(filled), _MOST_SHARDS)]
    ends = np.cumsum([rows for _, rows in chosen])
    numbers = np.array(spread(int(ends[-1]) if chosen else 0, count), np.int64)
    homes = np.searchsorted(ends, numbers, side="right")
    return [
        (path, (numbers[homes == at] - (ends[at] - rows)).tolist())
        for at, (path, rows) in enumerate(chosen)
        if (homes == at).any()
    ]


def sample_rows(
    datasets: Sequence[SampledDataset], count: int
) -> Iterator[tuple[int, InspectedRow]]:
    """Yields rows, each with its data set's place in `datasets`.

    Data sets have equal shares, however many rows they have: a page is there to see
    each of them.

    Raises:
        GatoError: If a row cannot be read.
    """
    shares = allot([each.num_rows for each in datasets], count)
    for place, (dataset, share) in enumerate(zip(datasets, shares, strict=True)):
        rows = dict(dataset.shards)
        for path, numbers in choose_rows(dataset, share):
            for row in inspect_rows(path, numbers, rows[path], dataset.manifest):
                yield place, row


def run_of_rows(
    datasets: Sequence[SampledDataset], first: int, count: int
) -> Iterator[tuple[int, InspectedRow]]:
    """Yields rows that follow each other, numbered over all shards, as `sample_rows`.

    Raises:
        GatoError: If there is no such row, or it cannot be read.
    """
    total = sum(dataset.num_rows for dataset in datasets)
    if first >= total:
        raise UsageError(
            f"--row counts from 0 over the {total} rows of"
            f" {sum(len(each.shards) for each in datasets)} shards, got {first}."
        )
    start = 0
    for place, dataset in enumerate(datasets):
        for path, rows in dataset.shards:
            begin, end = max(first - start, 0), min(first + count - start, rows)
            start += rows
            if begin < end:
                numbers = range(begin, end)
                for row in inspect_rows(path, numbers, rows, dataset.manifest):
                    yield place, row


def survey(dataset: SampledDataset, count: int) -> Iterator[memoryview]:
    """Yields the data of `count` rows, spread as those of `sample_rows`.

    Raises:
        GatoError: If one cannot be read.
    """
    for path, numbers in choose_rows(dataset, count):
        for _, _, data in read_records(path, numbers):
            yield data

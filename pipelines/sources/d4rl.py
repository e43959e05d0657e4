"""D4RL's HDF5 files (https://github.com/Farama-Foundation/D4RL), without D4RL.

A file is one table of N transitions: `observations`, `actions`, `rewards`, `terminals`
and `timeouts` (`next_observations`, `infos` and `metadata` are not read). An episode
ends with a transition that is terminal or timed out. As in D4RL's `sequence_dataset`,
what follows the last such transition, an episode cut off when the file was full, is
none. D4RL takes the length of episodes from the environment where a file has no
`timeouts`; this reader goes by `terminals` alone then, and refuses a file without any.

The task is the file's name without version and suffix, the agent its relative path.
`halfcheetah_medium-v2.hdf5` and `halfcheetah_expert-v2.hdf5` are two tasks, each with
its own expert, unless the config's `task` makes them one. Success is looked for in
`infos/<key>`.
"""

import math
import re
from collections.abc import Iterator
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from gato.pipelines.sources import base
from gato.pipelines.sources.hdf5 import (
    check_is_hdf5,
    leaves,
    open_hdf5,
    open_values,
    read_range,
)
from gato.pipelines.sources.stored_episode import (
    EpisodeMaker,
    Stored,
    is_wanted,
    success_keys,
    without_suffix,
)
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Unreadable
from gato.schemas.errors import QuarantineError, Reason

# Flags are read in blocks of so many transitions.
_BLOCK_STEPS = 1 << 20
# h5py cuts wide tables into columns too: a range of rows then takes several chunks of
# up to 1 MiB, which would be decompressed again for each episode.
_CACHE_BYTES = 32 << 20
# A read costs h5py 30 us, as much as the values of a short episode.
_AHEAD_BYTES = 1 << 20
_VERSION = re.compile(r"-v\d+$")


class D4rlSource:
    """Episodes of flat HDF5 tables; partitions are runs of whole episodes."""

    items: Literal["episodes", "documents"] = "episodes"
    order: Literal["number", "file"] = "file"

    def files(self, path: str) -> list[str]:
        """Returns the file.

        Raises:
            UsageError: If it is a folder or has another suffix.
        """
        check_is_hdf5(path, "d4rl", "gym_mujoco_v2/hopper_medium-v2.hdf5")
        return [path]

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Splits the transitions where episodes end; units are transitions."""
        whole = base.Partition(path=path, relative_path=relative_path)
        try:
            num_bytes = files.size(path)
            with open_hdf5(path) as file:
                ends = _ends(file, 0, _num_steps(file))
        except Exception:  # whatever a damaged file raises; read() tells
            return [whole]
        bytes_per_step = num_bytes / max(1, int(ends[-1]))
        most_steps = int(base.MAX_PARTITION_BYTES / bytes_per_step)
        partitions = []
        first = 0
        while first < len(ends):
            start = int(ends[first - 1]) if first else 0
            last = int(np.searchsorted(ends, start + most_steps, side="right"))
            last = max(last, first + 1)
            stop = int(ends[last - 1])
            partitions.append(
                base.Partition(
                    path=path,
                    relative_path=relative_path,
                    start=start,
                    stop=stop,
                    first_number=first,
                    num_bytes=int(bytes_per_step * (stop - start)),
                    num_items=last - first,
                )
            )
            first = last
        return partitions

    def read(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Episode | Unreadable]:
        """Yields the run's episodes in the file's order."""
        name = partition.path.rpartition("/")[2].rpartition(".")[0]
        maker = EpisodeMaker.of(
            partition,
            dataset,
            task=_VERSION.sub("", name) or name,
            agent=without_suffix(partition.relative_path),
        )
        try:
            with open_hdf5(partition.path, _CACHE_BYTES) as file:
                num_steps = _num_steps(file)
                stop = num_steps if partition.stop is None else partition.stop
                ends = _ends(file, partition.start, stop)
                table = _Table(file, dataset)
                yield from table.episodes(maker, ends)
        except Exception as error:  # whatever a damaged file raises
            yield from maker.lost(error)


SOURCE: base.Source = D4rlSource()


class _Column:
    """One data set, of which many short episodes are read at once."""

    def __init__(self, file: h5py.File, path: str) -> None:
        self._values = open_values(file, path)
        row_bytes = self._values.dtype.itemsize * math.prod(self._values.shape[1:])
        self._block = max(1, _AHEAD_BYTES // max(1, row_bytes))
        self._start = 0
        self._held: NDArray[Any] = np.zeros(0)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Returns a range of rows; each call's come after those before.

        Raises:
            OSError: If its bytes are damaged.
        """
        if stop > self._start + len(self._held):
            try:
                ahead = max(stop, start + self._block)
                held = read_range(self._values, start, ahead)
            except OSError:  # perhaps behind the range: damage costs its own episodes
                return read_range(self._values, start, stop)
            self._start, self._held = start, held
        return self._held[start - self._start : stop - self._start]


class _Table:
    """One open file."""

    def __init__(self, file: h5py.File, dataset: Dataset) -> None:
        # Held open: their chunks are then decompressed once.
        self._observations = {
            name or "observation": _Column(file, f"observations/{name}".rstrip("/"))
            for name in leaves(file, "observations")
            if is_wanted(name or "observation", dataset)
        }
        self._actions = {
            name or "action": _Column(file, f"actions/{name}".rstrip("/"))
            for name in leaves(file, "actions")
        }
        self._rewards = _Column(file, "rewards")
        keys = (f"infos/{key}" for key in success_keys(dataset))
        success = next((k for k in keys if _is_data_set(file, k)), None)
        self._success = None if success is None else _Column(file, success)

    def episodes(
        self, maker: EpisodeMaker, ends: NDArray[np.int64]
    ) -> Iterator[Episode | Unreadable]:
        """Yields the episodes that end before `ends`."""
        first = maker.partition.first_number
        starts = [maker.partition.start, *ends[:-1].tolist()]
        stops = ends.tolist()

        def load(number: int) -> Stored:
            return self._load(starts[number - first], stops[number - first])

        yield from maker.each(range(first, first + len(ends)), load)

    def _load(self, start: int, stop: int) -> Stored:
        def columns(table: dict[str, _Column]) -> dict[str, NDArray[Any]]:
            return {key: column.read(start, stop) for key, column in table.items()}

        return Stored(
            observations=columns(self._observations),
            actions=columns(self._actions),
            rewards=self._rewards.read(start, stop),
            success=None if self._success is None else self._success.read(start, stop),
        )


def _is_data_set(file: h5py.File, path: str) -> bool:
    return isinstance(file.get(path), h5py.Dataset)


def _num_steps(file: h5py.File) -> int:
    """Returns N once all that is read has as many values.

    Raises:
        QuarantineError: If something is not there, or of another length.
    """
    lengths: dict[str, int] = {}
    for field in ("observations", "actions", "rewards", "terminals", "timeouts"):
        if field == "timeouts" and field not in file:
            continue
        for name in leaves(file, field):
            path = f"{field}/{name}".rstrip("/")
            found = file[path]
            shape = found.shape if isinstance(found, h5py.Dataset) else ()
            lengths[path] = shape[0] if shape else 0
    if len(set(lengths.values())) > 1:
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"a table has as many values in each of its data sets, got {lengths}",
        )
    return lengths["terminals"]


def _ends(file: h5py.File, start: int, stop: int) -> NDArray[np.int64]:
    """Returns one past the last transition of each episode of a range.

    Raises:
        QuarantineError: If no episode ends there.
    """
    flags = [name for name in ("terminals", "timeouts") if name in file]
    values = [open_values(file, name) for name in flags]
    found = []
    for block in range(start, stop, _BLOCK_STEPS):
        last = min(block + _BLOCK_STEPS, stop)
        is_end = np.zeros(last - block, bool)
        for each in values:
            is_end |= read_range(each, block, last).reshape(last - block) != 0
        found.append(np.flatnonzero(is_end) + block + 1)
    ends = np.concatenate(found) if found else np.zeros(0, np.int64)
    if len(ends) == 0:
        hint = "; there are no timeouts: take a newer version of the file"
        raise QuarantineError(
            Reason.MISSING_FIELD,
            f"an episode ends where {' or '.join(flags)} is true, which is nowhere"
            f" among {stop - start} transitions{'' if 'timeouts' in flags else hint}",
        )
    return ends

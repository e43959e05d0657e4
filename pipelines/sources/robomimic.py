"""robomimic's HDF5 files (https://robomimic.github.io), without robomimic.

A file has a group `data/demo_<n>` an episode with `actions`, `rewards` and `obs/<key>`
(`next_obs`, `states` and `dones` are not read), and lists of demonstrations under
`mask/<name>`. The option `split` takes one list, as `train` or `20_percent`; without it
all demonstrations are read. As in robomimic's own `SequenceDataset` they come in order
of their numbers, and an episode without `rewards` has rewards of 0.

The task is the `env_name` of the attribute `env_args` of `data`, the agent the file's
relative path. Success is looked for under `<key>` in the demonstration; what `dones`
means depends on how the file was made.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Literal

import h5py

from gato.pipelines.sources import base, hdf5
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
from gato.schemas.errors import QuarantineError, Reason, UsageError

_DEMONSTRATION = re.compile(rb"^demo_(\d+)$")


class RobomimicSource:
    """Episodes of HDF5 groups; partitions are ranges of their numbers."""

    items: Literal["episodes", "documents"] = "episodes"
    order: Literal["number", "file"] = "number"

    def files(self, path: str) -> list[str]:
        """Returns the file.

        Raises:
            UsageError: If it is a folder or has another suffix.
        """
        hdf5.check_is_hdf5(path, "robomimic", "lift/ph/low_dim_v141.hdf5")
        return [path]

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Splits the demonstrations into ranges of at most 256 MiB, by their mean.

        Raises:
            UsageError: If the file has no such `split`.
        """
        try:
            with hdf5.open_hdf5(path) as file:
                numbers = _numbers(file, path, dataset)
                num_there = len(file["data"])  # type: ignore[arg-type]
            num_bytes = files.size(path) * len(numbers) / max(1, num_there)
        except UsageError:
            raise
        except Exception:  # whatever a damaged file raises; read() tells
            return [base.Partition(path=path, relative_path=relative_path)]
        return base.number_ranges(path, relative_path, numbers, num_bytes)

    def read(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Episode | Unreadable]:
        """Yields the demonstrations of the range in order of their numbers."""
        agent = without_suffix(partition.relative_path)
        try:
            with hdf5.open_hdf5(partition.path) as file:
                task = _task(file) or agent
                maker = EpisodeMaker.of(partition, dataset, task, agent)
                stop = math.inf if partition.stop is None else partition.stop
                numbers = [
                    number
                    for number in _numbers(file, partition.path, dataset)
                    if partition.start <= number < stop
                ]
                yield from maker.each(numbers, _Loader(file, dataset))
        except Exception as error:  # whatever a damaged file raises
            yield from EpisodeMaker.of(partition, dataset, agent, agent).lost(error)


SOURCE: base.Source = RobomimicSource()


class _Loader:
    """Loads demonstrations of one open file."""

    def __init__(self, file: h5py.File, dataset: Dataset) -> None:
        self._file = file
        self._dataset = dataset

    def __call__(self, number: int) -> Stored:
        """Returns a demonstration's columns."""
        name = f"data/demo_{number}"
        found = self._file.get(name)
        if not isinstance(found, h5py.Group):
            raise hdf5.missing(name)
        actions = {
            key or "action": hdf5.read_values(
                self._file, f"{name}/actions/{key}".rstrip("/")
            )
            for key in hdf5.leaves(self._file, f"{name}/actions")
        }
        observations = {
            key: hdf5.read_values(self._file, f"{name}/obs/{key}")
            for key in self._observation_keys(name)
            if is_wanted(key, self._dataset)
        }
        keys = (key for key in success_keys(self._dataset) if key in found)
        success = next(keys, None)
        return Stored(
            observations=observations,
            actions=actions,
            rewards=hdf5.read_values(self._file, f"{name}/rewards")
            if "rewards" in found
            else None,
            success=None
            if success is None
            else hdf5.read_values(self._file, f"{name}/{success}"),
        )

    def _observation_keys(self, name: str) -> list[str]:
        try:
            return hdf5.leaves(self._file, f"{name}/obs")
        except QuarantineError as error:
            raise QuarantineError(
                error.reason,
                f"{error.detail}. A raw robosuite file has only states; make"
                " observations with robomimic's dataset_states_to_obs.py",
            ) from error


def _numbers(file: h5py.File, path: str, dataset: Dataset) -> list[int]:
    """Returns the numbers of the demonstrations that are meant, sorted.

    Raises:
        UsageError: If there is no such `split`.
        QuarantineError: If there are no demonstrations.
    """
    data = file.get("data")
    if not isinstance(data, h5py.Group):
        raise hdf5.missing("data")
    if dataset.split is None:
        names = list(data.id)
    else:
        masks = file.get("mask")
        known = sorted(masks) if isinstance(masks, h5py.Group) else []
        if dataset.split not in known:
            raise UsageError(
                f"{path}: split is the name of a list under mask, of which the file"
                f" has {', '.join(known) or 'none'}; got {dataset.split!r}"
            )
        stored = hdf5.read_values(file, f"mask/{dataset.split}").reshape(-1).tolist()
        names = [n.encode() if isinstance(n, str) else n for n in stored]
    matches = [_DEMONSTRATION.match(name) for name in names]
    numbers = sorted({int(match[1]) for match in matches if match})
    if not numbers:
        raise QuarantineError(
            Reason.EMPTY,
            "a file has demonstrations data/demo_0, data/demo_1, ...; this one has"
            f" none{f' in mask/{dataset.split}' if dataset.split else ''}",
        )
    return numbers


def _task(file: h5py.File) -> str | None:
    """Returns the environment's name; None if the file does not say it."""
    try:
        name = json.loads(file["data"].attrs["env_args"])["env_name"]  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return name if isinstance(name, str) and name else None

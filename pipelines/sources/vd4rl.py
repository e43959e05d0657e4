"""V-D4RL's archives of 64x64 pixels (https://github.com/conglu1997/v-d4rl).

A path is a folder such as `main/walker_walk/expert/64px`, whose files `*.npz` are
episodes in order of their names, as DreamerV2 writes them: `image` uint8 [T + 1, 64,
64, 3], `action` and `reward` [T + 1], `discount`, `is_first`, `is_last` and
`is_terminal`. There, a row's action is the one that led to its image, and the first
row's is zeros. A timestep here is an image with the action taken on it, so actions and
rewards move up by a row, and the last image, on which nobody acted, is dropped.

Observations are all other arrays of the archive, under their own names. The task is the
folder above the quality (`walker_walk`), else the folder's own name; the agent is the
folder's relative path. The 84x84 pixels, which are HDF5, are not read.
"""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from gato.pipelines.sources import base, npz_folder
from gato.pipelines.sources.npz_folder import Arrays
from gato.pipelines.sources.stored_episode import EpisodeMaker, Stored, is_wanted
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError

_SUFFIXES = (".npz",)
_QUALITIES = ("random", "medium_replay", "medium", "medium_expert", "expert")
_NO_OBSERVATIONS = frozenset(
    {"action", "reward", "discount", "is_first", "is_last", "is_terminal"}
)
# DreamerV2 keeps what it logs of an environment beside the observations.
_LOGGED = "log_"


class Vd4rlSource:
    """Episodes of NumPy archives; partitions are ranges of files."""

    items: Literal["episodes", "documents"] = "episodes"
    order: Literal["number", "file"] = "file"

    def files(self, path: str) -> list[str]:
        """Returns the folder's archives, sorted.

        Raises:
            UsageError: If there are none.
        """
        names = npz_folder.episode_names(path, _SUFFIXES)
        if not names:
            raise UsageError(
                f"{path}: a path of format vd4rl is a folder of episodes *.npz, such as"
                f" main/walker_walk/expert/64px{_hint(path)}"
            )
        return [files.join(path, name) for name in names]

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Splits the folder into ranges of files of at most 256 MiB."""
        return npz_folder.partition_folder(path, relative_path, _SUFFIXES)

    def read(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Episode | Unreadable]:
        """Yields the episode of each file of the range in order of their names."""
        task = npz_folder.component_of(partition.path, _QUALITIES, -1)
        maker = EpisodeMaker.of(partition, dataset, task, partition.relative_path)

        def stored(arrays: Arrays) -> Stored:
            return _stored(arrays, dataset)

        yield from npz_folder.read_folder(maker, _SUFFIXES, stored)


SOURCE: base.Source = Vd4rlSource()


def _hint(path: str) -> str:
    names = files.list_folder(path)
    if any(name.endswith((".hdf5", ".h5")) for name in names):
        return "; this one has HDF5 files, of 84x84 pixels, which are not read"
    return base.hint_below(path, "*.npz")


def _stored(arrays: Arrays, dataset: Dataset) -> Stored:
    actions = npz_folder.array(arrays, "action")
    rewards = npz_folder.array(arrays, "reward")
    first = arrays.get("is_first")
    if first is not None and first.size and (not first[0] or first[1:].any()):
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            "an archive holds one episode from its first row on, got is_first at rows"
            f" {np.flatnonzero(first)[:5].tolist()}",
        )
    num_rows = len(actions)
    observations: dict[str, Any] = {}
    for key in arrays:
        if key in _NO_OBSERVATIONS or key.startswith(_LOGGED):
            continue
        if not is_wanted(key, dataset):
            continue
        values = arrays[key]
        if values.ndim == 0 or len(values) != num_rows:
            raise QuarantineError(
                Reason.WRONG_SHAPE,
                f"{key!r} must have {num_rows} rows as 'action' has, got"
                f" {values.shape}",
            )
        observations[key] = values[:-1]
    if len(rewards) != num_rows:
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"'reward' must have {num_rows} rows as 'action' has, got {rewards.shape}",
        )
    return Stored(
        observations=observations,
        actions={"action": actions[1:]},
        rewards=rewards[1:],
    )

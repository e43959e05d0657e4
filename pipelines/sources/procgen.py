"""The two public collections of Procgen episodes: archives, and tables of steps.

A path is a folder of one game's files, in one of two layouts:

* archives of https://github.com/facebookresearch/gen_dgrl, `*.npy` or `*.npz`, each an
  episode (both are `numpy.savez` archives there): `observations` [T + 1, 3, 64, 64],
  whole numbers that may be stored as floats, `actions` [T, 1], `rewards`, `dones`.
  The last observation, on which nobody acted, is dropped. Order is that of the names.
* shards of EpicPinkPenguin/procgen on Hugging Face, `train-00000-of-00042.parquet` and
  `test-...`, with a row a step in the order of play: `observation` [64, 64, 3],
  `action`, `reward`, `done` (or `terminated`) and `truncated`. The option `split` says
  which (train). Episodes end with a row that is done or truncated and run across
  shards; what follows the last such row is none (`procgen_table.py`).

The observation is `observation` uint8 [T, 64, 64, 3], the action `action`, one of 15.
The task is the game that the path names, else the folder's name; the agent is the
folder's relative path.
"""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.sources import base, npz_folder, procgen_table
from gato.pipelines.sources.npz_folder import Arrays
from gato.pipelines.sources.procgen_games import GAMES
from gato.pipelines.sources.stored_episode import (
    EpisodeMaker,
    Stored,
    as_rewards,
    check_length,
    is_wanted,
)
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Column, Episode, Space, Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError

OBSERVATION, ACTION = "observation", "action"
_SUFFIXES = (".npy", ".npz")
_SPACES = {ACTION: Space(num_values=15)}
_SPLIT = "train"


class ProcgenSource:
    """Episodes of one game; partitions are ranges of files or runs of episodes."""

    items: Literal["episodes", "documents"] = "episodes"
    order: Literal["number", "file"] = "file"

    def files(self, path: str) -> list[str]:
        """Returns the folder's archives, or its shards, sorted.

        Raises:
            UsageError: If there are neither, or both.
        """
        archives = npz_folder.episode_names(path, _SUFFIXES)
        shards = npz_folder.episode_names(path, (".parquet",))
        if bool(archives) == bool(shards):
            below = base.hint_below(path, "*.npy", "*.npz", "*.parquet")
            what = "this one has both" if archives else f"this one has none{below}"
            raise UsageError(
                f"{path}: a path of format procgen is a folder of one game, with"
                f" episodes *.npy or *.npz, or with shards *.parquet; this one has"
                f" {what}"
            )
        return [files.join(path, name) for name in archives or shards]

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Splits the folder into parts of at most 256 MiB.

        Raises:
            UsageError: If there are no shards of the `split`, or it is one of archives.
        """
        if not _is_table(path):
            if dataset.split is not None:
                raise UsageError(
                    f"{path}: split chooses among Parquet shards, this folder has"
                    f" archives; got {dataset.split!r}. Leave it out."
                )
            return npz_folder.partition_folder(path, relative_path, _SUFFIXES)
        shards = procgen_table.shard_paths(path, dataset.split or _SPLIT)
        return procgen_table.partition(path, relative_path, shards)

    def read(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Episode | Unreadable]:
        """Yields the part's episodes in order."""
        task = npz_folder.component_of(partition.path, GAMES)
        maker = EpisodeMaker.of(partition, dataset, task, partition.relative_path)
        wants_frames = is_wanted(OBSERVATION, dataset)
        if not _is_table(partition.path):

            def stored(arrays: Arrays) -> Stored:
                return _of_archive(arrays, wants_frames)

            yield from npz_folder.read_folder(maker, _SUFFIXES, stored)
            return
        keys = (OBSERVATION, ACTION) if wants_frames else (ACTION,)
        try:
            shards = procgen_table.shard_paths(partition.path, dataset.split or _SPLIT)
            with procgen_table.open_table(shards, keys) as table:
                yield from table.episodes(maker, _of_rows)
        except Exception as error:  # whatever damaged files raise
            yield from maker.lost(error)


SOURCE: base.Source = ProcgenSource()


def _is_table(path: str) -> bool:
    return bool(npz_folder.episode_names(path, (".parquet",)))


def _of_archive(arrays: Arrays, wants_frames: bool) -> Stored:
    rewards = as_rewards(npz_folder.array(arrays, "rewards"))
    num_steps = len(rewards)
    observations: dict[str, Column] = {}
    if wants_frames:
        frames = npz_folder.array(arrays, "observations")
        if frames.ndim != 4 or frames.shape[1] != 3:
            raise QuarantineError(
                Reason.WRONG_SHAPE,
                f"observations must be [T + 1, 3, height, width], got {frames.shape}",
            )
        check_length("observations", len(frames), (num_steps + 1, num_steps))
        pixels = _as_pixels(frames[:num_steps]).transpose(0, 2, 3, 1)
        observations[OBSERVATION] = np.ascontiguousarray(pixels)
    return _stored(observations, npz_folder.array(arrays, "actions"), rewards)


def _of_rows(columns: dict[str, Column], rewards: NDArray[Any]) -> Stored:
    actions = np.asarray(columns.pop(ACTION))
    return _stored(columns, actions, rewards)


def _stored(
    observations: dict[str, Column], actions: NDArray[Any], rewards: NDArray[Any]
) -> Stored:
    if actions.ndim == 2 and actions.shape[1] == 1:
        actions = actions[:, 0]
    return Stored(
        observations=observations,
        actions={ACTION: actions},
        rewards=rewards,
        action_spaces=_SPACES,
    )


def _as_pixels(frames: NDArray[Any]) -> NDArray[np.uint8]:
    """Returns whole numbers of 0 to 255 as uint8, whatever they are stored as.

    Raises:
        QuarantineError: WRONG_DTYPE if they are something else.
    """
    if frames.dtype == np.uint8:
        return frames
    with np.errstate(invalid="ignore"):  # what is lost is seen below
        pixels = frames.astype(np.uint8) if frames.dtype.kind in "iuf" else None
    if pixels is None or not np.array_equal(pixels, frames):
        raise QuarantineError(
            Reason.WRONG_DTYPE,
            f"observations must be whole numbers of 0 to 255, got {frames.dtype} with"
            " others",
        )
    return pixels

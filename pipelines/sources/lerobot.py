"""LeRobot data sets (https://github.com/huggingface/lerobot, v2.0, v2.1 and v3.0).

A path is a data set's folder, with `meta/info.json`. Steps are rows of Parquet files
under `data` (one file an episode in v2, many episodes a file in v3); images lie in the
rows, or as videos under `videos`, which need PyAV (the extra `video`). LeRobot itself
is not needed. Episodes come in order of `episode_index`.

Observations are the features `observation` and `observation.*` under their own names,
actions `action` and `action.*`. What a step was told to do, its `task_index`, is the
text observation `task`: a data set has up to thousands of such strings, of which each
would be too small a task to prompt and filter by. So `task` is a name for the whole
data set, that of its folder, unless the config names another; leave the text out with
`observations.exclude: [task]`. The agent is the folder's relative path.

The reward is `next.reward`, 0 without it; success is looked for in `next.<key>` and
`<key>`. A video's frame is that nearest to the step's time, at most half a frame off.
All frames of one episode are in memory together; each is decoded once.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from gato.pipelines.sources import base, lerobot_metadata, video
from gato.pipelines.sources.lerobot_metadata import INFO_PATH, Info, Place
from gato.pipelines.sources.parquet_rows import open_parquet
from gato.pipelines.sources.row_stream import RowStream, stored_column
from gato.pipelines.sources.stored_episode import (
    EpisodeMaker,
    Stored,
    is_wanted,
    success_keys,
)
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Column, Episode, Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError

TASK_KEY = "task"
_FOLDERS = ("meta", "data", "videos")
# Frames come out of a video many times as large: so many raw bytes count as one.
_RAW_PER_BYTE = 8


class LerobotSource:
    """Episodes of LeRobot folders; partitions are ranges of their numbers."""

    items: Literal["episodes", "documents"] = "episodes"
    order: Literal["number", "file"] = "number"

    def files(self, path: str) -> list[str]:
        """Returns every file under `meta`, `data` and `videos`, sorted.

        Raises:
            UsageError: If the path is no data set's folder.
        """
        if not files.exists(files.join(path, INFO_PATH)):
            below = files.glob(files.join(path, "*", INFO_PATH))
            hint = f"; such folders lie below it, give {path}/*" if below else ""
            raise UsageError(
                f"{path}: a path of format lerobot is a data set's folder, with"
                f" {INFO_PATH} in it{hint}"
            )
        return [
            files.join(path, name)
            for name in sorted(files.versions_below(path))
            if name.startswith(tuple(f"{folder}/" for folder in _FOLDERS))
        ]

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Splits the episodes into ranges of at most 256 MiB, by their mean.

        Frames of videos count with an eighth of their raw bytes.

        Raises:
            UsageError: If PyAV is needed and not there.
        """
        try:
            info = Info.load(path)
            numbers = lerobot_metadata.numbers_of(info, info.places())
        except Exception:  # whatever damaged files raise; read() tells
            return [base.Partition(path=path, relative_path=relative_path)]
        videos = [key for key in info.keys("video") if is_wanted(key, dataset)]
        video.check_installed(path, videos)
        stored = sum(size for size, _ in files.versions_below(path).values())
        pixels = sum(math.prod(info.features[key]["shape"]) for key in videos)
        num_bytes = max(stored, info.num_frames * pixels // _RAW_PER_BYTE)
        return base.number_ranges(path, relative_path, numbers, num_bytes)

    def read(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Episode | Unreadable]:
        """Yields the episodes of the range in order of their numbers."""
        name = partition.path.rstrip("/").rpartition("/")[2]
        maker = EpisodeMaker.of(partition, dataset, name, partition.relative_path)
        try:
            info = Info.load(partition.path)
            places = info.places()
            loader = _Loader(info, places, dataset)
        except Exception as error:  # whatever damaged files raise
            yield from maker.lost(error)
            return
        stop = math.inf if partition.stop is None else partition.stop
        numbers = [
            number
            for number in lerobot_metadata.numbers_of(info, places)
            if partition.start <= number < stop
        ]
        with contextlib.closing(loader):
            yield from maker.each(numbers, loader.load)


SOURCE: base.Source = LerobotSource()


class _Loader:
    """Loads episodes one after the other, with their files held open."""

    def __init__(self, info: Info, places: dict[int, Place], dataset: Dataset) -> None:
        self._info = info
        self._places = places
        self._tasks = info.tasks() if is_wanted(TASK_KEY, dataset) else None
        wanted = [
            key
            for key in info.features
            if _is_below(key, "observation") and is_wanted(key, dataset)
        ]
        self._videos = [key for key in wanted if key in info.keys("video")]
        self._observations = [key for key in wanted if key not in self._videos]
        self._actions = [key for key in info.features if _is_below(key, "action")]
        candidates = (f"{p}{key}" for key in success_keys(dataset) for p in _PREFIXES)
        self._success = next((k for k in candidates if k in info.features), None)
        self._rows: RowStream | None = None
        self._rows_path = ""
        self._rows_stack = contextlib.ExitStack()
        self._readers: dict[str, tuple[str, video.VideoReader]] = {}
        for key in self._videos:
            _check_is_colour(key, info.features[key])

    def close(self) -> None:
        """Closes all files."""
        self._rows_stack.close()
        for _, reader in self._readers.values():
            reader.close()

    def load(self, number: int) -> Stored:
        """Returns an episode's columns; numbers ascend from call to call."""
        if number not in self._places:
            raise QuarantineError(
                Reason.CORRUPT_FILE,
                f"{INFO_PATH} promises {self._info.num_episodes} episodes,"
                f" meta/episodes has {len(self._places)}; this one is not there",
            )
        place = self._places[number]
        table = self._table(number, place)

        def columns(keys: list[str]) -> dict[str, Column]:
            return {
                key: self._shaped(stored_column(table[key], key), key) for key in keys
            }

        observations = columns(self._observations)
        times = np.asarray(stored_column(table["timestamp"], "timestamp"), np.float64)
        for key in self._videos:
            observations[key] = self._frames(key, place, times)
        if self._tasks is not None:
            observations[TASK_KEY] = lerobot_metadata.texts(
                table["task_index"], self._tasks
            )
        rewards = columns([_REWARD] if _REWARD in self._info.features else [])
        success = columns([self._success] if self._success else [])
        return Stored(
            observations=observations,
            actions=columns(self._actions),
            rewards=np.asarray(rewards[_REWARD]) if rewards else None,
            success=np.asarray(success[self._success or ""]) if success else None,
        )

    def _table(self, number: int, place: Place) -> pa.Table:
        if place.num_steps <= 0:
            raise QuarantineError(Reason.EMPTY, "an episode has at least one step")
        if self._rows is None or place.path != self._rows_path:
            self._rows = None
            self._rows_stack.close()
            file = self._rows_stack.enter_context(open_parquet(place.path))
            wanted = [*self._observations, *self._actions, *_ALWAYS, _REWARD]
            wanted += [self._success or "", "task_index"]
            names = [name for name in file.schema_arrow.names if name in wanted]
            self._rows = RowStream(file, names, place.start)
            self._rows_path = place.path
        table = self._rows.take(place.start, place.start + place.num_steps)
        for name in (*self._observations, *self._actions, *_ALWAYS):
            if name not in table.column_names:
                raise QuarantineError(
                    Reason.MISSING_FIELD,
                    f"data must have the column {name!r}, got"
                    f" {', '.join(table.column_names)}",
                )
        found = np.unique(
            np.asarray(stored_column(table["episode_index"], "episode_index"))
        )
        if found.tolist() != [number]:
            raise QuarantineError(
                Reason.CORRUPT_EPISODE,
                f"rows {place.start} to {place.start + place.num_steps} must be those"
                f" of episode {number}, got episodes {found.tolist()[:5]}",
            )
        return table

    def _shaped(self, values: Column, key: str) -> Column:
        """Returns numbers in the shape of info.json, where [1] may be stored bare."""
        shape = tuple(self._info.features[key].get("shape") or ())
        if not isinstance(values, np.ndarray) or values.shape[1:] == shape:
            return values
        if math.prod(values.shape[1:]) != math.prod(shape):
            raise QuarantineError(
                Reason.WRONG_SHAPE,
                f"{key} must have shape {shape} as {INFO_PATH} says, got"
                f" {values.shape[1:]}",
            )
        return values.reshape(len(values), *shape)

    def _frames(
        self, key: str, place: Place, times: np.ndarray[Any, np.dtype[np.float64]]
    ) -> Column:
        clip = place.clips[key]
        path, reader = self._readers.get(key, ("", None))
        if reader is None or path != clip.path:
            if reader is not None:
                reader.close()
                del self._readers[key]
            reader = video.VideoReader(clip.path)
            self._readers[key] = (clip.path, reader)
        return reader.frames(clip.start + times, 0.5 / self._info.fps)


_REWARD = "next.reward"
_ALWAYS = ("timestamp", "episode_index")
_PREFIXES = ("next.", "")


def _is_below(key: str, name: str) -> bool:
    return key == name or key.startswith(f"{name}.")


def _check_is_colour(key: str, feature: Any) -> None:
    """Checks that a video is no depth map, whose frames are numbers.

    Raises:
        QuarantineError: UNSUPPORTED.
    """
    about = feature.get("info") or feature.get("video_info") or {}
    if about.get("video.is_depth_map") or about.get("is_depth_map"):
        raise QuarantineError(
            Reason.UNSUPPORTED,
            f"{key} is a video of depths, which is not read; leave it out with"
            " observations.exclude",
        )

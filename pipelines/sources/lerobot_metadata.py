"""What a LeRobot data set says of itself under `meta`, in versions 2 and 3."""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from gato.pipelines.sources.parquet_rows import open_parquet
from gato.pipelines.sources.row_stream import stored_column
from gato.schemas import files
from gato.schemas.errors import QuarantineError, Reason

INFO_PATH = "meta/info.json"
_EPISODE_COLUMNS = ("episode_index", "length", "dataset_from_index", "data/", "videos/")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
    """Where an episode's frames of one camera lie.

    Attributes:
        path: The video file.
        start: Seconds in it of the episode's time 0.
    """

    path: str
    start: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where an episode lies.

    Attributes:
        path: The Parquet file.
        start: Its first row there.
        num_steps: Its rows.
        clips: Its videos by feature.
    """

    path: str
    start: int
    num_steps: int
    clips: Mapping[str, Clip]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Info:
    """What is taken from info.json.

    Attributes:
        folder: The data set.
        version: 2 or 3.
        fps: Frames a second.
        features: What each key holds: `dtype`, `shape`, `info`.
        num_episodes: How many it promises.
        num_frames: Likewise.
        content: The rest.
    """

    folder: str
    version: int
    fps: float
    features: Mapping[str, Mapping[str, Any]]
    num_episodes: int
    num_frames: int
    content: Mapping[str, Any]

    @classmethod
    def load(cls, folder: str) -> "Info":
        """Reads `meta/info.json`.

        Raises:
            QuarantineError: If it is damaged, or of another version.
        """
        try:
            content = json.loads(files.read_bytes(files.join(folder, INFO_PATH)))
            version = str(content["codebase_version"]).removeprefix("v")
            major = int(version.partition(".")[0])
            info = cls(
                folder=folder,
                version=major,
                fps=float(content["fps"]),
                features={
                    key: dict(value) for key, value in content["features"].items()
                },
                num_episodes=int(content["total_episodes"]),
                num_frames=int(content["total_frames"]),
                content=content,
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise QuarantineError(
                Reason.CORRUPT_FILE,
                f"{INFO_PATH} must be a JSON object with codebase_version, fps,"
                f" features, total_episodes and total_frames, got {error!r}",
            ) from error
        if major not in (2, 3) or info.fps <= 0:
            raise QuarantineError(
                Reason.UNSUPPORTED,
                f"{INFO_PATH}: codebase_version must be v2.0, v2.1 or v3.0 and fps"
                f" above 0, got v{version} and {info.fps}",
            )
        return info

    def keys(self, *dtypes: str) -> list[str]:
        """Returns the features of some dtypes."""
        return [key for key, f in self.features.items() if f.get("dtype") in dtypes]

    def tasks(self) -> dict[int, str]:
        """Returns the task strings by their index.

        Raises:
            Exception: Whatever a damaged file raises.
        """
        if self.version == 2:
            rows = self._lines("meta/tasks.jsonl")
            return {int(row["task_index"]): str(row["task"]) for row in rows}
        with open_parquet(files.join(self.folder, "meta/tasks.parquet")) as file:
            table = file.read(use_threads=False)
        # The strings are the index of a pandas frame, whatever that is called.
        (name,) = (n for n in table.column_names if n != "task_index")
        indices = table["task_index"].to_pylist()
        return dict(zip(indices, table[name].to_pylist(), strict=True))

    def places(self) -> dict[int, Place]:
        """Returns where each episode lies, by number.

        Raises:
            Exception: Whatever damaged files raise.
        """
        places = self._places_2() if self.version == 2 else self._places_3()
        return dict(sorted(places))

    def _lines(self, name: str) -> list[dict[str, Any]]:
        content = files.read_bytes(files.join(self.folder, name))
        return [json.loads(line) for line in content.splitlines() if line.strip()]

    def _places_2(self) -> Iterator[tuple[int, Place]]:
        chunk_size = int(self.content.get("chunks_size", 1000))
        for row in self._lines("meta/episodes.jsonl"):
            number = int(row["episode_index"])
            where = {"episode_chunk": number // chunk_size, "episode_index": number}
            clips = {
                key: Clip(
                    path=self._path("video_path", video_key=key, **where), start=0
                )
                for key in self.keys("video")
            }
            yield (
                number,
                Place(
                    path=self._path("data_path", **where),
                    start=0,
                    num_steps=int(row["length"]),
                    clips=clips,
                ),
            )

    def _places_3(self) -> Iterator[tuple[int, Place]]:
        table = pa.concat_tables(
            self._episode_tables(files.join(self.folder, "meta/episodes"))
        )
        columns = {name: table[name].to_pylist() for name in table.column_names}
        rows = [
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ]
        rows.sort(key=lambda row: row["episode_index"])
        by_file = itertools.groupby(rows, key=_data_file)
        for (chunk, index), group in by_file:
            path = self._path("data_path", chunk_index=chunk, file_index=index)
            first: int | None = None
            for row in group:
                start = int(row["dataset_from_index"])
                first = start if first is None else first
                place = Place(
                    path=path,
                    start=start - first,
                    num_steps=int(row["length"]),
                    clips={key: self._clip(key, row) for key in self.keys("video")},
                )
                yield int(row["episode_index"]), place

    def _episode_tables(self, folder: str) -> Iterator[pa.Table]:
        for path in files.glob(files.join(folder, "*", "*.parquet")):
            with open_parquet(path) as file:
                # The rest are statistics, by far the most of the file.
                wanted = [
                    name
                    for name in file.schema_arrow.names
                    if name.startswith(_EPISODE_COLUMNS)
                ]
                yield file.read(wanted, use_threads=False)

    def _clip(self, key: str, row: Mapping[str, Any]) -> Clip:
        path = self._path(
            "video_path",
            video_key=key,
            chunk_index=row[f"videos/{key}/chunk_index"],
            file_index=row[f"videos/{key}/file_index"],
        )
        return Clip(path=path, start=float(row[f"videos/{key}/from_timestamp"]))

    def _path(self, template: str, **values: Any) -> str:
        relative = str(self.content[template]).format(**values)
        if relative.startswith("/") or "://" in relative or ".." in relative.split("/"):
            raise QuarantineError(
                Reason.UNSAFE_PATH,
                f"{INFO_PATH}: {template} must lead to a file of the data set, got"
                f" {relative!r}",
            )
        return files.join(self.folder, relative)


def _data_file(row: Mapping[str, Any]) -> tuple[int, int]:
    return int(row["data/chunk_index"]), int(row["data/file_index"])


def numbers_of(info: Info, places: Mapping[int, Place]) -> list[int]:
    """Returns the numbers of all episodes that are there or promised."""
    return sorted({*places, *range(info.num_episodes)})


def texts(indices: pa.ChunkedArray, names: Mapping[int, str]) -> list[str]:
    """Returns the task string of each step.

    Raises:
        QuarantineError: MISSING_FIELD if one has none.
    """
    values = stored_column(indices, "task_index")
    try:
        return [names[int(index)] for index in values]
    except KeyError as error:
        raise QuarantineError(
            Reason.MISSING_FIELD,
            f"task_index must be one of meta/tasks, of {len(names)}; got {error}",
        ) from error

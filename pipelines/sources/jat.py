"""The Parquet files of the JAT data set (https://github.com/huggingface/jat).

A file is `<task>/train-00000-of-00011.parquet`, a row an episode: lists of T
observations `continuous_observations`, `discrete_observations`, `text_observations`
and `image_observations`, of T actions `continuous_actions` or `discrete_actions`, and
of T `rewards`; which of them there are depends on the task. They keep their names. The
task is the folder's name (`atari-alien`), the agent likewise; a file that is not named
as above is a task of its own name. Files of texts and of captioned images, which the
data set has too, are no episodes; their own formats read them.

Images pass as they are stored, with one exception: JAT stores four consecutive grey
frames as the channels of an RGBA image, which a reader of images would blend by the
newest of them. Of such an image the newest three frames become R, G and B.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gato.pipelines.sources import base
from gato.pipelines.sources.parquet_rows import open_parquet, partition_parquet
from gato.pipelines.sources.row_stream import RowStream, stored_column
from gato.pipelines.sources.stored_episode import EpisodeMaker, Stored, is_wanted
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Column, Episode, Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError

_KINDS = ("continuous", "discrete", "text", "image")
_SHARD = re.compile(r"^\w+-\d{5}-of-\d{5}$")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGBA = bytes((8, 6))  # bit depth and colour type, at a PNG's bytes 24 and 25


class JatSource:
    """Episodes in rows of Parquet; partitions are ranges of row groups."""

    items: Literal["episodes", "documents"] = "episodes"
    order: Literal["number", "file"] = "file"

    def files(self, path: str) -> list[str]:
        """Returns the file.

        Raises:
            UsageError: If it is a folder or has another suffix.
        """
        if files.is_folder(path) or not path.endswith(".parquet"):
            raise UsageError(
                f"{path}: a path of format jat is a Parquet file, such as"
                " atari-alien/train-00000-of-00011.parquet; give"
                " */train-*.parquet for all tasks"
            )
        return [path]

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Splits a file into ranges of row groups of at most 256 MiB."""
        try:
            return partition_parquet(path, relative_path)
        except Exception:  # whatever a damaged file raises; read() tells
            return [base.Partition(path=path, relative_path=relative_path)]

    def read(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Episode | Unreadable]:
        """Yields the episodes in the file's order."""
        task = _task(partition.path)
        maker = EpisodeMaker.of(partition, dataset, task=task, agent=task)
        try:
            with open_parquet(partition.path) as file:
                columns = _Columns(file.schema_arrow, dataset)
                first = partition.first_number
                count = partition.num_items
                count = file.metadata.num_rows if count is None else count
                rows = RowStream(file, columns.names, first)

                def load(number: int) -> Stored:
                    return columns.stored(rows.take(number, number + 1))

                yield from maker.each(range(first, first + count), load)
        except Exception as error:  # whatever a damaged file raises
            yield from maker.lost(error)


SOURCE: base.Source = JatSource()


class _Columns:
    """Which columns of a file are read, and what they hold."""

    def __init__(self, schema: pa.Schema, dataset: Dataset) -> None:
        there = set(schema.names)
        self._observations = [f"{kind}_observations" for kind in _KINDS]
        self._observations = [k for k in self._observations if k in there]
        self._actions = [k for k in (f"{n}_actions" for n in _KINDS) if k in there]
        if not self._observations or not self._actions or "rewards" not in there:
            raise QuarantineError(
                Reason.MISSING_FIELD,
                "an episode has lists of observations, of actions and of rewards, such"
                " as continuous_observations, continuous_actions and rewards; the"
                f" columns are {', '.join(schema.names[:10])}",
            )
        self._observations = [k for k in self._observations if is_wanted(k, dataset)]
        self.names = [*self._observations, *self._actions, "rewards"]

    def stored(self, row: pa.Table) -> Stored:
        """Returns the columns of the episode in one row."""
        return Stored(
            observations={k: _newest(_steps(row, k), k) for k in self._observations},
            actions={k: _steps(row, k) for k in self._actions},
            rewards=np.asarray(_steps(row, "rewards")),
        )


def _steps(row: pa.Table, key: str) -> Column:
    """Returns the T values of the list in a row."""
    values = row[key].chunk(0)
    is_list = pa.types.is_list(values.type) or pa.types.is_large_list(values.type)
    if not is_list and not pa.types.is_fixed_size_list(values.type):
        raise QuarantineError(
            Reason.WRONG_DTYPE, f"{key} must be a list an episode, got {values.type}"
        )
    if values.null_count:
        raise QuarantineError(Reason.MISSING_FIELD, f"{key} must be a list, got null")
    return stored_column(pa.chunked_array([values.flatten()]), key)


def _newest(images: Column, key: str) -> Column:
    """Returns uint8 [T, H, W, 3] of RGBA images; other columns as they are."""
    first = images[0] if len(images) else None
    if not isinstance(first, bytes) or not _is_rgba(first):
        return images
    frames: NDArray[np.uint8] | None = None
    for step, data in enumerate(images):
        encoded = np.frombuffer(data, np.uint8)  # type: ignore[arg-type]
        image: Any = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
        if image is None:
            raise QuarantineError(
                Reason.CORRUPT_IMAGE,
                f"{key}: image {step} of {len(images)} cannot be decoded",
            )
        if frames is None:
            frames = np.empty((len(images), *image.shape[:2], 3), np.uint8)
        if image.shape != (*frames.shape[1:3], 4):
            raise QuarantineError(
                Reason.WRONG_SHAPE,
                f"{key}: image {step} must have shape {(*frames.shape[1:3], 4)} as"
                f" those before, got {image.shape}",
            )
        # OpenCV's order is BGRA, time's is RGBA.
        frames[step] = image[..., [1, 0, 3]]
    return images if frames is None else frames


def _is_rgba(data: bytes) -> bool:
    return data.startswith(_SIGNATURE) and data[24:26] == _RGBA


def _task(path: str) -> str:
    folder, _, name = path.rpartition("/")
    stem = name.rpartition(".")[0]
    return (folder.rpartition("/")[2] if _SHARD.match(stem) else "") or stem

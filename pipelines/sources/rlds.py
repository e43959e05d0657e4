"""RLDS episodes of tensorflow-datasets folders, without TensorFlow.

A path is a version folder `<name>/[<config>/]<version>` with dataset_info.json,
features.json and TFRecord shards (TFDS 4; https://github.com/google-research/rlds).
A record is an episode: a nested data set `steps` of (observation, action, reward), with
metadata beside it. `rlds_features.py` says what is known of features, `rlds_columns.py`
how they are stored; others are read through tensorflow-datasets (`rlds_fallback.py`).

RLDS ends an episode with a step that holds only the last observation: where `is_last`
is true, "action, reward and discount [...] are considered invalid". So the first step
marked `is_last` or `is_terminal`, and whatever follows it, is no timestep, also in data
sets that put a real action there. An episode without such a mark was cut off; all its
steps are timesteps. The reward of a step is that of its own action. A data set whose
steps have no rewards has returns of 0.

Task, agent and `episode_id` are looked for beside `steps`, then in `episode_metadata`.
Records are shuffled on write: where `episode_id` is an integer it gives the order, else
the files do. `success` likewise, and among the steps' own features.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

from gato.pipelines.sources import base, rlds_fallback
from gato.pipelines.sources.rlds_episodes import EpisodeReader
from gato.pipelines.sources.rlds_info import FEATURES_NAME, INFO_NAME
from gato.pipelines.sources.rlds_layout import Layout
from gato.pipelines.sources.rlds_records import read_records
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError


class RldsSource:
    """Episodes of TFDS folders; partitions are shards."""

    items: Literal["episodes", "documents"] = "episodes"
    # Where episodes have no integer `episode_id`, their partitions say "file".
    order: Literal["number", "file"] = "number"

    def files(self, path: str) -> list[str]:
        """Returns the folder's files, sorted.

        Raises:
            UsageError: If the path is no version folder of tensorflow-datasets.
        """
        names = files.list_folder(path) if files.is_folder(path) else []
        if not {INFO_NAME, FEATURES_NAME} <= set(names):
            raise UsageError(
                f"{path}: a path of format rlds is a version folder of"
                f" tensorflow-datasets, with {INFO_NAME} and {FEATURES_NAME} in"
                f" it{_hint(path, names)}"
            )
        # Folders beside the data (none are written) would have no version.
        return [files.join(path, name) for name in names if "." in name]

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Returns a partition for each shard of the split.

        One for all where the number of episodes in each is not known.

        Raises:
            UsageError: If there is no such split, the files are of another format, the
                data set has no steps, or tensorflow-datasets is needed and not there.
        """
        whole = base.Partition(path=path, relative_path=relative_path)
        try:
            layout = Layout.load(whole, dataset)
        except QuarantineError:  # read() tells
            return [whole]
        rlds_fallback.check_installed(path, layout.unknown)
        whole = dataclasses.replace(
            whole, order="file" if layout.number is None else "number"
        )
        shards = layout.info.shards
        sizes = [_size(shard.path) for shard in shards]
        lengths = [s.num_items for s in shards if s.num_items is not None]
        if len(lengths) < len(shards):
            return [dataclasses.replace(whole, num_bytes=sum(sizes))]
        firsts = itertools.accumulate(lengths, initial=0)
        return [
            dataclasses.replace(
                whole,
                start=index,
                stop=index + 1,
                first_number=first,
                num_bytes=size,
                num_items=length,
            )
            for index, (first, size, length) in enumerate(
                zip(firsts, sizes, lengths, strict=False)
            )
        ]

    def read(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Episode | Unreadable]:
        """Yields the episodes of the shards in order of `episode_id`, else as stored.

        What has no number because it cannot be read comes last.
        """
        try:
            layout = Layout.load(partition, dataset)
            reader = EpisodeReader(partition.path, dataset, layout)
        except (QuarantineError, UsageError) as error:
            yield from _lost_folder(partition, dataset, error)
            return
        records = read_records(
            layout.info.shards[partition.start : partition.stop],
            partition.first_number,
        )
        if layout.number is not None:
            yield from reader.by_number(records, layout.number)
        else:
            yield from reader.as_stored(records)


SOURCE: base.Source = RldsSource()


def _hint(path: str, names: Sequence[str]) -> str:
    """Returns what to give instead of a wrong path."""
    if names:
        holds = f"; the folder holds {', '.join(names[:5])}"
        return base.hint_below(path, INFO_NAME) or holds
    return "; this is a file" if files.exists(path) else "; there is nothing in it"


def _size(path: str) -> int:
    try:
        return files.size(path)
    except OSError:  # read() tells
        return 0


def _lost_folder(
    partition: base.Partition, dataset: Dataset, error: Exception
) -> Iterator[Unreadable]:
    """Yields a verdict for each episode promised, or one where none is."""
    is_verdict = isinstance(error, QuarantineError)
    for place in range(partition.num_items or 1):
        yield Unreadable(
            source=partition.path,
            item_id=None,
            number=partition.first_number + place,
            task=dataset.task,
            agent=dataset.agent,
            reason=error.reason if is_verdict else Reason.UNSUPPORTED,
            detail=error.detail if is_verdict else str(error),
        )

"""Minari data sets (https://minari.farama.org, 0.4 and 0.5), without Minari itself.

A path is a data set's folder `<namespace>/<env>/<name>-v<N>`, which holds
`data/metadata.json` and the episodes (see `minari_storage.py` for the layouts). Minari
stores T + 1 observations for T actions; the last, on which nobody acted, is dropped.

A damaged file costs every episode that metadata.json promises, one row each; so does
an episode that the metadata counts and the storage lacks. Gaps in the numbers are fine
as long as the count agrees.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from gato.pipelines.sources import base
from gato.pipelines.sources.minari_metadata import NAMESPACE_FILE, Metadata
from gato.pipelines.sources.minari_storage import (
    ArrowStorage,
    Hdf5Storage,
    Storage,
    StoredEpisode,
)
from gato.pipelines.sources.stored_episode import (
    as_rewards,
    as_success,
    check_length,
    no_steps,
    success_keys,
)
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Column, Episode, Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError


@contextlib.contextmanager
def _open_storage(path: str, metadata: Metadata) -> Iterator[Storage]:
    folder = files.join(path, "data")
    observations = metadata.leaves("observation")
    actions = metadata.leaves("action")
    match metadata.content.get("data_format", "hdf5"):
        case "hdf5":
            with Hdf5Storage.open(folder, observations, actions) as storage:
                yield storage
        case "arrow" | "parquet":
            yield ArrowStorage(folder, observations, actions)
        case other:
            raise QuarantineError(
                Reason.UNSUPPORTED,
                "metadata.json: data_format must be hdf5, arrow or parquet, got"
                f" {other!r}",
            )


def _accounted(there: list[int], num_episodes: int) -> list[int]:
    """Returns the numbers of all episodes that are there or promised, sorted.

    When fewer are there than promised, the highest numbers below that are not there
    are the ones lost.
    """
    num_lost = max(0, num_episodes - len(there))
    candidates = sorted(set(range(num_episodes)) - set(there)) if num_lost else []
    return sorted([*there, *candidates[len(candidates) - num_lost :]])


class MinariSource:
    """Episodes of Minari data sets; partitions are ranges of episode numbers."""

    items: Literal["episodes", "documents"] = "episodes"
    order: Literal["number", "file"] = "number"

    def files(self, path: str) -> list[str]:
        """Returns every file under `data`, sorted.

        A namespace's own `namespace_metadata.json`, which a glob such as `babyai/*`
        also matches, has none.

        Raises:
            UsageError: If the path is no folder of a Minari data set.
        """
        if _is_namespace_file(path):
            return []
        data = files.join(path, "data")
        names = files.list_folder(data) if files.is_folder(path) else []
        if not {"metadata.json", "main_data.hdf5"} & set(names):
            raise UsageError(
                f"{path}: a path of format minari is a data set's folder, with"
                f" data/metadata.json in it{_hint(path)}"
            )
        return sorted(_files_below(data))

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Splits the episodes into ranges of at most 256 MiB, if they are as large."""
        if _is_namespace_file(path):
            return []
        whole = base.Partition(path=path, relative_path=relative_path)
        try:
            metadata = Metadata.load(path, relative_path, dataset)
            with _open_storage(path, metadata) as storage:
                num_bytes = storage.num_bytes()
                numbers = _accounted(storage.numbers(), metadata.num_episodes)
        except Exception:  # whatever a damaged file raises; read() tells
            return [whole]
        return base.number_ranges(path, relative_path, numbers, num_bytes)

    def read(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Episode | Unreadable]:
        """Yields the episodes of the range in order of their numbers."""
        try:
            metadata = Metadata.load(partition.path, partition.relative_path, dataset)
        except QuarantineError as error:
            yield Unreadable(
                source=partition.path,
                item_id=None,
                number=partition.start,
                task=dataset.task,
                agent=dataset.agent,
                reason=error.reason,
                detail=error.detail,
            )
            return
        reader = _Reader(partition, dataset, metadata)
        with contextlib.ExitStack() as stack:
            try:
                storage = stack.enter_context(_open_storage(partition.path, metadata))
                there = storage.numbers()
            except Exception as error:  # whatever a damaged file raises
                yield from reader.all_lost(error)
                return
            yield from reader.episodes(storage, there)


SOURCE: base.Source = MinariSource()


def _is_namespace_file(path: str) -> bool:
    return path.rsplit("/", 1)[-1] == NAMESPACE_FILE


def _hint(path: str) -> str:
    """Returns what to give instead of a wrong path."""
    if not files.is_folder(path):
        return "; this is a file" if files.exists(path) else "; there is nothing here"
    names = files.list_folder(path)
    if "metadata.json" in names:
        return f"; give its folder, {path.rstrip('/').rpartition('/')[0] or '.'}"
    holds = f"; the folder holds {', '.join(names[:5]) or 'nothing'}"
    return base.hint_below(path, "data/metadata.json") or holds


def _files_below(folder: str) -> Iterator[str]:
    for name in files.list_folder(folder):
        path = files.join(folder, name)
        # Episodes' folders are numbers and Minari's files have suffixes, so no store
        # has to be asked what each of a million names is.
        if name.isdecimal() or ("." not in name and files.is_folder(path)):
            yield from _files_below(path)
        else:
            yield path


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Turns stored episodes of one partition into ours."""

    partition: base.Partition
    dataset: Dataset
    metadata: Metadata

    def all_lost(self, error: Exception) -> Iterator[Unreadable]:
        """Yields a verdict for each episode that the metadata promises.

        Where it promises none, the verdict is on the file.
        """
        stop = self.partition.stop or self.metadata.num_episodes
        numbers = range(self.partition.start, stop)
        if not isinstance(error, QuarantineError):
            error = QuarantineError(
                Reason.CORRUPT_FILE, f"the episodes' file cannot be read: {error!r}"
            )
        if not numbers and not self._is_unwritten():
            lost = self._unreadable(self.partition.start, error)
            yield dataclasses.replace(lost, item_id=None)
        for number in numbers:
            yield self._unreadable(number, error)

    def _is_unwritten(self) -> bool:
        # Minari makes an empty file before it writes the first episode.
        path = files.join(self.partition.path, "data", "main_data.hdf5")
        with contextlib.suppress(OSError):
            return self.metadata.num_episodes == 0 and files.size(path) == 0
        return False

    def episodes(
        self, storage: Storage, there: list[int]
    ) -> Iterator[Episode | Unreadable]:
        """Yields each episode of the range, or the verdict on it."""
        present = set(there)
        stop = math.inf if self.partition.stop is None else self.partition.stop
        action_spaces = {
            leaf.key: leaf.space for leaf in self.metadata.leaves("action") or ()
        }
        for number in _accounted(there, self.metadata.num_episodes):
            if not self.partition.start <= number < stop:
                continue
            try:
                if number not in present:
                    raise QuarantineError(
                        Reason.CORRUPT_FILE,
                        f"metadata.json promises {self.metadata.num_episodes} episodes,"
                        f" {len(there)} are there; this one is not",
                    )
                stored = storage.load(number, success_keys(self.dataset))
                episode = self._episode(number, stored, action_spaces)
            except QuarantineError as error:
                yield self._unreadable(number, error)
            except Exception as error:  # whatever damaged bytes raise in the libraries
                verdict = QuarantineError(
                    Reason.CORRUPT_EPISODE, f"the episode cannot be read: {error!r}"
                )
                yield self._unreadable(number, verdict)
            else:
                yield episode

    def _unreadable(self, number: int, error: QuarantineError) -> Unreadable:
        return Unreadable(
            source=self.partition.path,
            item_id=f"{self.metadata.dataset_id}/{number}",
            number=number,
            task=self.metadata.task,
            agent=self.metadata.agent,
            reason=error.reason,
            detail=error.detail,
        )

    def _episode(
        self, number: int, stored: StoredEpisode, action_spaces: Mapping[str, Any]
    ) -> Episode:
        rewards = as_rewards(stored.rewards)
        num_steps = len(rewards)
        for key, column in stored.actions.items():
            check_length(f"actions {key!r}", len(column), (num_steps,))
        observations: dict[str, Column] = {}
        for key, column in stored.observations.items():
            allowed = (num_steps + 1, num_steps)
            check_length(f"observations {key!r}", len(column), allowed)
            observations[key] = column[:num_steps]
        if num_steps == 0:
            raise no_steps()
        return Episode(
            episode_id=f"{self.metadata.dataset_id}/{number}",
            source=self.partition.path,
            number=number,
            task=self.metadata.task,
            agent=self.metadata.agent,
            observations=observations,
            actions=stored.actions,
            action_spaces=action_spaces,
            rewards=rewards,
            success=as_success(stored.success),
            random_return=self.metadata.random_return,
        )

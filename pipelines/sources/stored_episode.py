"""Columns as a format stores them to an `Episode`, or the verdict on them."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.sources.base import Partition
from gato.schemas.config import Dataset
from gato.schemas.episode import Column, Episode, Space, Unreadable
from gato.schemas.errors import QuarantineError, Reason

SUCCESS_KEYS = ("success", "is_success")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stored:
    """One episode's columns of T values.

    Attributes:
        observations: By flattened key.
        actions: Likewise.
        rewards: As stored, [T] or [T, 1]; None of a format that has none: all are 0.
        success: Numbers of which any above 0 says that the task was achieved.
        action_spaces: What the format says of the actions.
        task: Of this episode, where it says one.
        agent: Likewise.
    """

    observations: Mapping[str, Column]
    actions: Mapping[str, Column]
    rewards: NDArray[Any] | None
    success: NDArray[Any] | None = None
    action_spaces: Mapping[str, Space] = dataclasses.field(default_factory=dict)
    task: str | None = None
    agent: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpisodeMaker:
    """Makes the episodes of one partition.

    Attributes:
        partition: What is read.
        task: Of all episodes that do not say their own.
        agent: Likewise.
        fixed_task: Whether the config's `task` holds, whatever an episode says.
        fixed_agent: Likewise.
    """

    partition: Partition
    task: str
    agent: str
    fixed_task: bool = False
    fixed_agent: bool = False

    @classmethod
    def of(
        cls, partition: Partition, dataset: Dataset, task: str, agent: str
    ) -> "EpisodeMaker":
        """Returns a maker with the config's task and agent where it has them."""
        return cls(
            partition=partition,
            task=dataset.task or task,
            agent=dataset.agent or agent,
            fixed_task=dataset.task is not None,
            fixed_agent=dataset.agent is not None,
        )

    def each(
        self, numbers: Iterable[int], load: Callable[[int], Stored]
    ) -> Iterator[Episode | Unreadable]:
        """Yields the episode of each number, or the verdict on it.

        Args:
            numbers: In order.
            load: Returns an episode's columns; raises whatever damaged bytes raise.
        """
        for number in numbers:
            try:
                episode = self.episode(number, load(number))
            except QuarantineError as error:
                yield self.unreadable(number, error)
            except Exception as error:  # whatever damaged bytes raise in the libraries
                verdict = QuarantineError(
                    Reason.CORRUPT_EPISODE, f"the episode cannot be read: {error!r}"
                )
                yield self.unreadable(number, verdict)
            else:
                yield episode

    def episode(self, number: int, stored: Stored) -> Episode:
        """Returns an episode once its columns are of one length.

        Raises:
            QuarantineError: If they are not, or are empty.
        """
        rewards = None if stored.rewards is None else as_rewards(stored.rewards)
        columns = {f"actions {k!r}": c for k, c in stored.actions.items()}
        columns |= {
            f"observations {key!r}": c for key, c in stored.observations.items()
        }
        if rewards is None:
            rewards = np.zeros(max(map(len, columns.values()), default=0))
        for what, column in columns.items():
            check_length(what, len(column), (len(rewards),))
        if len(rewards) == 0:
            raise no_steps()
        own_task = None if self.fixed_task else stored.task
        own_agent = None if self.fixed_agent else stored.agent
        return Episode(
            episode_id=f"{self.partition.relative_path}/{number}",
            source=self.partition.path,
            number=number,
            task=own_task or self.task,
            agent=own_agent or self.agent,
            observations=stored.observations,
            actions=stored.actions,
            action_spaces=stored.action_spaces,
            rewards=rewards,
            success=as_success(stored.success),
        )

    def unreadable(self, number: int, error: QuarantineError) -> Unreadable:
        """Returns the verdict on one episode."""
        return Unreadable(
            source=self.partition.path,
            item_id=f"{self.partition.relative_path}/{number}",
            number=number,
            task=self.task,
            agent=self.agent,
            reason=error.reason,
            detail=error.detail,
        )

    def lost(self, error: Exception) -> Iterator[Unreadable]:
        """Yields a verdict for each episode of the partition, or one on the file."""
        if not isinstance(error, QuarantineError):
            error = QuarantineError(
                Reason.CORRUPT_FILE, f"the file cannot be read: {error!r}"
            )
        first = self.partition.first_number
        for number in range(first, first + (self.partition.num_items or 0)):
            yield self.unreadable(number, error)
        if not self.partition.num_items:
            yield dataclasses.replace(self.unreadable(first, error), item_id=None)


def as_rewards(stored: NDArray[Any]) -> NDArray[np.float64]:
    """Returns float64 [T] of numbers of shape [T] or [T, 1].

    Raises:
        QuarantineError: WRONG_DTYPE or WRONG_SHAPE.
    """
    if stored.dtype.kind not in "biuf":
        raise QuarantineError(
            Reason.WRONG_DTYPE, f"rewards must be numbers, got {stored.dtype}"
        )
    if stored.ndim == 0 or stored.size != len(stored):
        raise QuarantineError(
            Reason.WRONG_SHAPE, f"rewards must be one a step, got {stored.shape}"
        )
    return stored.reshape(-1).astype(np.float64, copy=False)


def check_length(what: str, length: int, allowed: tuple[int, ...]) -> None:
    """Checks a column's length, of which the last of those allowed is T.

    Raises:
        QuarantineError: WRONG_SHAPE.
    """
    if length not in allowed:
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"{what} must have {' or '.join(map(str, allowed))} values for"
            f" {allowed[-1]} rewards, got {length}",
        )


def no_steps() -> QuarantineError:
    """Returns the verdict on an episode without timesteps."""
    return QuarantineError(Reason.EMPTY, "an episode has at least one step")


def as_success(values: NDArray[Any] | None) -> bool | None:
    """Returns whether any value is true; None where there are no numbers."""
    if values is None or values.dtype.kind not in "biuf":
        return None
    return bool((values > 0).any())


def success_keys(dataset: Dataset) -> tuple[str, ...]:
    """Returns the keys under which success is looked for.

    Whatever the filter goes by: a change of filter must not change what is read.
    """
    key = dataset.filter.success_key
    return SUCCESS_KEYS if key is None else (key,)


def is_wanted(key: str, dataset: Dataset) -> bool:
    """Whether the config includes an observation, so that it has to be read."""
    rule = dataset.observations
    return any(fnmatchcase(key, pattern) for pattern in rule.include) and not any(
        fnmatchcase(key, pattern) for pattern in rule.exclude
    )


def without_suffix(relative_path: str) -> str:
    """Returns a file's relative path as an agent's name.

    >>> without_suffix("lift/ph/low_dim_v141.hdf5")
    'lift/ph/low_dim_v141'
    """
    folder, slash, name = relative_path.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)

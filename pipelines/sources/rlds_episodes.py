"""Records of an RLDS data set to episodes; `rlds.py` says what counts as a timestep."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.sources import rlds_columns
from gato.pipelines.sources.rlds_fallback import Fallback
from gato.pipelines.sources.rlds_features import Leaf
from gato.pipelines.sources.rlds_layout import Layout
from gato.pipelines.sources.rlds_records import Record, fetch
from gato.pipelines.sources.rlds_wire import Example, Feature, WireError
from gato.schemas.config import Dataset
from gato.schemas.episode import Column, Episode, Unreadable
from gato.schemas.errors import GatoError, QuarantineError, Reason

Features = Mapping[str, Feature]


class EpisodeReader:
    """Reads the episodes of one data set."""

    def __init__(self, path: str, dataset: Dataset, layout: Layout) -> None:
        """Prepares reading.

        Raises:
            QuarantineError: UNSUPPORTED if tensorflow-datasets is needed for a feature,
                and is not there or cannot read it.
        """
        self._path = path
        self._dataset = dataset
        self._layout = layout
        self._fallback = Fallback(path, layout.unknown) if layout.unknown else None
        # Kinds of numbers for what is stored as images need their pixels.
        kinds = dataset.observations.kinds
        self._as_array = {k for k, kind in kinds.items() if kind != "image"}
        self._spaces = layout.action_spaces

    def as_stored(self, records: Iterator[Record]) -> Iterator[Episode | Unreadable]:
        """Yields the episodes in the records' order, numbered by their place."""
        for record in records:
            yield self._item(record, record.data, record.position)

    def by_number(
        self, records: Iterator[Record], leaf: Leaf
    ) -> Iterator[Episode | Unreadable]:
        """Yields the episodes in order of their numbers, then what has none.

        The records are read twice, of which only the numbers are held.

        Args:
            records: All that are to be put in order.
            leaf: An integer beside `steps`.
        """
        found: list[tuple[int, Record]] = []
        sizes: dict[int, int] = {}
        lost: list[Record] = []
        for record in records:
            position, data = record.position, record.data
            # Bytes are held only while a record is looked at.
            bare = Record(
                position=position,
                shard=record.shard,
                offset=record.offset,
                error=record.error,
            )
            number = None if data is None else _number(leaf, data)
            if data is None or number is None:
                lost.append(bare)
            else:
                found.append((number, bare))
                sizes[position] = len(data)
        found.sort(key=lambda entry: (entry[0], entry[1].position))
        again = [record for _, record in found]
        contents = fetch(again, [sizes[record.position] for record in again])
        for number, record in found:
            try:
                data = next(contents)
            except (OSError, GatoError, StopIteration) as error:
                data = None
                verdict = QuarantineError(
                    Reason.CORRUPT_FILE, f"it could not be read again: {error!r}"
                )
                record = dataclasses.replace(record, error=verdict)
            yield self._item(record, data, number)
        for record in lost:
            yield self._without_number(record)

    def _item(
        self, record: Record, data: memoryview | None, number: int
    ) -> Episode | Unreadable:
        """Returns an episode, or the verdict on it."""
        info = self._layout.info
        item_id = f"{info.dataset_id}/{info.split}/{number}"
        task, agent = self._dataset.task, self._dataset.agent
        try:
            if data is None:
                raise record.error or QuarantineError(Reason.EMPTY, "it is not there")
            features = _parse(data)
            name = _text(self._layout.episode_id, features) or str(number)
            item_id = f"{info.dataset_id}/{info.split}/{name}"
            task = task or _text(self._layout.task, features) or info.builder
            agent = agent or _text(self._layout.agent, features) or info.dataset_id
            columns = self._columns(features, data)
            return Episode(
                episode_id=item_id,
                source=self._path,
                number=number,
                task=task,
                agent=agent,
                action_spaces=self._spaces,
                **columns,
            )
        except QuarantineError as error:
            verdict = error
        except Exception as error:  # whatever damaged bytes raise in the libraries
            verdict = QuarantineError(
                Reason.CORRUPT_EPISODE, f"the episode cannot be read: {error!r}"
            )
        return self._unreadable(record, item_id, number, task, agent, verdict)

    def _without_number(self, record: Record) -> Unreadable:
        verdict = record.error or QuarantineError(
            Reason.MISSING_FIELD,
            "an episode must have its episode_id, as features.json says; it is not"
            " there or damaged",
        )
        task, agent = self._dataset.task, self._dataset.agent
        return self._unreadable(record, None, record.position, task, agent, verdict)

    def _unreadable(
        self,
        record: Record,
        item_id: str | None,
        number: int,
        task: str | None,
        agent: str | None,
        verdict: QuarantineError,
    ) -> Unreadable:
        return Unreadable(
            source=self._path,
            item_id=item_id,
            number=number,
            task=task,
            agent=agent,
            reason=verdict.reason,
            detail=f"record {record.position} of split {self._layout.info.split!r}:"
            f" {verdict.detail}",
        )

    def _columns(self, features: Features, data: memoryview) -> dict[str, Any]:
        """Returns observations, actions, rewards and success, by `Episode`'s names."""
        layout = self._layout
        num_stored = rlds_columns.count_values(layout.counted, features)
        num_steps = _num_steps(layout.ends, features, num_stored)
        if num_steps == 0:
            raise QuarantineError(
                Reason.EMPTY,
                f"an episode must have a step with an action, got {num_stored} steps of"
                " which none is before the first that is_last or is_terminal marks",
            )
        read: dict[str, dict[str, Column]] = {}
        for name, leaves in (
            ("observations", layout.observations),
            ("actions", layout.actions),
        ):
            read[name] = {}
            for key, leaf in leaves.items():
                if leaf.kind != "unknown":
                    read[name] |= rlds_columns.step_columns(
                        key,
                        leaf,
                        features,
                        num_stored,
                        num_steps,
                        key in self._as_array,
                    )
        if self._fallback is not None:
            found = self._fallback.columns(bytes(data), num_steps)
            read["observations"] |= found["observation"]
            read["actions"] |= found["action"]
        return {
            **read,
            "rewards": self._rewards(features, num_stored, num_steps),
            "success": self._success(features, num_stored),
        }

    def _rewards(
        self, features: Features, num_stored: int, num_steps: int
    ) -> NDArray[np.float64]:
        leaf = self._layout.rewards
        if leaf is None:
            return np.zeros(num_steps)
        values = _numbers(leaf, features, num_stored, num_steps)
        if values is None or values.size != num_steps:
            raise QuarantineError(
                Reason.WRONG_SHAPE,
                f"rewards must be one number a step, got {leaf.dtype} of shape"
                f" {list(leaf.shape)}",
            )
        return values.reshape(-1).astype(np.float64)

    def _success(self, features: Features, num_stored: int) -> bool | None:
        """Returns whether any value is true, the last observation's included."""
        values = None
        if self._layout.episode_success is not None:
            values = rlds_columns.episode_values(self._layout.episode_success, features)
        elif self._layout.step_success is not None:
            leaf = self._layout.step_success
            values = _numbers(leaf, features, num_stored, num_stored)
        if not isinstance(values, np.ndarray):
            return None
        return bool((values > 0).any())


def _parse(data: memoryview) -> Features:
    try:
        return Example(data)
    except WireError as error:
        raise QuarantineError(
            Reason.CORRUPT_RECORD, f"a record must be a tf.train.Example: {error}"
        ) from error


def _numbers(
    leaf: Leaf, features: Features, num_stored: int, num_steps: int
) -> NDArray[Any] | None:
    """Returns a leaf's numbers in the first steps; None of what holds none."""
    if leaf.kind != "tensor":
        return None
    columns = rlds_columns.step_columns("", leaf, features, num_stored, num_steps)
    column = columns.get("")
    return column if isinstance(column, np.ndarray) else None


def _num_steps(ends: Sequence[Leaf], features: Features, num_stored: int) -> int:
    """Returns the steps before the first that is marked as an end."""
    first = num_stored
    for leaf in ends:
        marks = _numbers(leaf, features, num_stored, num_stored)
        if marks is not None and marks.size == num_stored and marks.any():
            first = min(first, int(np.argmax(marks.reshape(-1) != 0)))
    return first


def _text(leaf: Leaf | None, features: Features) -> str | None:
    """Returns a text or a whole number beside `steps`; None if it has none."""
    values = None if leaf is None else rlds_columns.episode_values(leaf, features)
    if values is None or len(values) != 1:
        return None
    if isinstance(values, list):
        return values[0] or None
    return str(values[0].item()) if values.dtype.kind in "biu" else None


def _number(leaf: Leaf, data: memoryview) -> int | None:
    """Returns an episode's number; None if it has none."""
    try:
        values = rlds_columns.episode_values(leaf, Example(data))
    except (WireError, QuarantineError):
        return None
    if not isinstance(values, np.ndarray) or values.size != 1:
        return None
    # As int64: hashes stored as uint64 pass what a fragment can hold.
    return int(values.astype(np.int64)[0])

"""Writes episodes of format `parquet`: the last line of an exporter of odd data.

    with EpisodeWriter("raw/robot/0.parquet") as writer:
        for number, log in enumerate(my_logs):
            writer.add(
                episode_id=str(number),
                observations={"camera": log.frames, "joints": log.joints},
                actions=log.commands,
                rewards=log.rewards,
                task="stack",
            )

A build reads it with format parquet (docs/add_a_source.md). Needs pyarrow and NumPy.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gato.pipelines.sources import canonical_columns as columns
from gato.pipelines.sources.parquet_writer import ROW_GROUP_BYTES, ParquetWriter
from gato.schemas.episode import Space

# Values of T steps: numbers [T, ...], or T texts or encoded images; or these by key,
# where nested keys become `outer/inner`.
Values = NDArray[Any] | Sequence[str] | Sequence[bytes] | Mapping[str, Any]


class EpisodeWriter(ParquetWriter):
    """Writes one file of episodes, which appears under its name when the block ends."""

    _item = "episode"

    def __init__(
        self,
        path: str,
        *,
        action_spaces: Mapping[str, Space] | None = None,
        row_group_bytes: int = ROW_GROUP_BYTES,
    ) -> None:
        """Begins; nothing is written before the first episode.

        Args:
            path: Ends in `.parquet`; local or a URL.
            action_spaces: What is known of each action's values, by key (an action
                without a key is `action`).
            row_group_bytes: Of the values in memory; several episodes share a group,
                and a long one takes several.

        Raises:
            ValueError: If the path has another suffix.
        """
        super().__init__(path, row_group_bytes)
        self._spaces = dict(action_spaces or {})
        self._held: list[pa.Table] = []
        self._last_id: str | None = None

    def add(
        self,
        *,
        episode_id: str,
        observations: Values,
        actions: Values,
        rewards: NDArray[Any] | Sequence[float],
        task: str | None = None,
        agent: str | None = None,
        success: bool | None = None,
        is_terminated: bool | None = None,
    ) -> None:
        """Adds an episode of T timesteps, each an observation and the action on it.

        Args:
            episode_id: Another than the episode's before.
            observations: [T, ...]; without the one that follows the last action.
            actions: [T, ...] numbers.
            rewards: [T]; what followed each action.
            task: For example the environment's id; the file's name by default.
            agent: Who acted; likewise.
            success: Whether the task was achieved.
            is_terminated: Whether the last step ended the task (else time was up).

        Raises:
            ValueError: If lengths, shapes or columns are not those of the file.
        """
        rewards = np.asarray(rewards, np.float64)
        steps = len(rewards)
        if steps == 0 or rewards.ndim != 1:
            raise ValueError(f"rewards are [T] with T > 0, got shape {rewards.shape}")
        if episode_id == self._last_id:
            raise ValueError(f"two episodes in a row have the id {episode_id!r}")
        values: dict[str, Any] = {
            columns.EPISODE_ID: [episode_id] * steps,
            columns.STEP: np.arange(steps, dtype=np.int32),
            columns.REWARD: rewards,
        }
        for name, text in (("task", task), ("agent", agent)):
            if text is not None:
                values[name] = [text] * steps
        if success is not None:
            values[columns.SUCCESS] = np.full(steps, success, bool)
        if is_terminated is not None:
            is_last = np.arange(steps) == steps - 1
            values[columns.TERMINATED] = is_last & is_terminated
            values[columns.TRUNCATED] = is_last & (not is_terminated)
        values |= _flat(columns.OBSERVATION, observations, "observation", steps)
        values |= _flat(columns.ACTION, actions, "action", steps)
        self._write({name: columns.to_arrow(each) for name, each in values.items()})
        self._last_id = episode_id

    def _write(self, arrays: dict[str, pa.Array]) -> None:
        if self._writer is None:
            self._begin_with(arrays)
        _check_columns(self._path, self._schema, arrays)
        table = pa.Table.from_arrays(list(arrays.values()), schema=self._schema)
        self._held.append(table)
        self._hold(table.nbytes)

    def _begin_with(self, arrays: dict[str, pa.Array]) -> None:
        keys = [n.removeprefix(columns.ACTION) for n in arrays if _is_action(n)]
        for key in self._spaces:
            if key not in keys:
                raise ValueError(f"action_spaces has {key!r}, the actions are {keys}")
        fields = [
            pa.field(name, array.type, metadata=self._metadata(name))
            for name, array in arrays.items()
        ]
        # Parquet has no bytes: plain, a byte takes four; of a dictionary, one.
        small = [
            f"{name}{'' if pa.types.is_string(array.type) else '.list.element'}"
            for name, array in arrays.items()
            if _is_small(array.type)
        ]
        self._begin(pa.schema(fields, {columns.VERSION_KEY: columns.VERSION}), small)

    def _metadata(self, name: str) -> dict[bytes, bytes]:
        space = self._spaces.get(name.removeprefix(columns.ACTION))
        if space is None or not _is_action(name):
            return {}
        found = {
            b"num_values": space.num_values,
            b"low": None if space.low is None else np.asarray(space.low).tolist(),
            b"high": None if space.high is None else np.asarray(space.high).tolist(),
        }
        return {k: json.dumps(v).encode() for k, v in found.items() if v is not None}

    def _flush(self) -> None:
        if self._writer is None or not self._held:
            return
        table = pa.concat_tables(self._held)
        each = table.nbytes // table.num_rows + 1
        rows = max(1, 2 * self._row_group_bytes // each)
        self._writer.write_table(table, row_group_size=rows)
        self._held = []


def _is_small(type_: pa.DataType) -> bool:
    """Whether a type has few values, or the same ones again and again."""
    is_tensor = isinstance(type_, pa.FixedShapeTensorType)
    is_byte = is_tensor and type_.value_type in (pa.uint8(), pa.int8())
    return pa.types.is_string(type_) or is_byte


def _is_action(name: str) -> bool:
    return name.startswith(columns.ACTION)


def _flat(prefix: str, values: Values, alone: str, steps: int) -> dict[str, Any]:
    """Returns columns by name.

    Raises:
        ValueError: If one has no name, no size, another length, or other values.
    """
    if not isinstance(values, Mapping):
        values = {alone: values}
    found: dict[str, Any] = {}
    for key, each in values.items():
        if not isinstance(key, str) or not key:
            raise ValueError(f"keys of {prefix}<key> are strings, got {key!r}")
        if isinstance(each, Mapping):
            found |= _flat(f"{prefix}{key}/", each, alone, steps)
        else:
            found[prefix + key] = _column(prefix + key, each, steps)
    if not found:
        raise ValueError(f"a timestep has a value for {prefix}<key>, got none")
    return found


def _column(name: str, values: Any, steps: int) -> Any:
    if len(values) != steps:
        raise ValueError(
            f"{name} has {steps} values, as many as there are rewards, got"
            f" {len(values)}. The observation after the last action is left out."
        )
    if isinstance(values[0], str | bytes):
        kind = type(values[0])
        if not all(isinstance(value, kind) for value in values):
            raise ValueError(f"{name} holds texts, or encoded images, not both")
        return [kind(value) for value in values]
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or 0 in array.shape:
        raise ValueError(
            f"{name} holds numbers, texts or encoded images, got {array.dtype} of"
            f" shape {array.shape}"
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_columns(path: str, schema: pa.Schema, arrays: dict[str, pa.Array]) -> None:
    """Checks that an episode has the columns of those before it.

    Raises:
        ValueError: If it has others, or of other types.
    """
    found = {name: array.type for name, array in arrays.items()}
    before = {field.name: field.type for field in schema}
    if found != before:
        names = sorted(set(found) | set(before))
        name = next(n for n in names if found.get(n) != before.get(n))
        raise ValueError(
            f"{path}: the episodes of a file have the same columns; {name!r} was"
            f" {before.get(name, 'not there')} and is {found.get(name, 'not there')}."
            " Write another file for what is different."
        )

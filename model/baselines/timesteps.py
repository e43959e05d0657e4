"""Shards back to the timesteps of a task: what was seen, and which tokens acted.

Each timestep of a kept episode once, since prompts repeat others' timesteps. Filtered
behaviour cloning learns from successes only: a build keeps the episodes near its
expert's return, and those that say they did not succeed are left out here.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gato.model.prefix import Prefix, slots_of
from gato.model.shards import Dataset
from gato.model.store import RowStore
from gato.schemas.record import PROMPT_BIT, Kind, Row, decode_row

# Rows decoded at a time.
_CHUNK = 256


@dataclasses.dataclass(kw_only=True)
class Demonstrations:
    """The timesteps of one task, N of them, of `episodes` episodes.

    Attributes:
        observations: Slots of each.
        actions: int32 [A] of each.
        episode: Name of each one's episode.
    """

    observations: list[Prefix] = dataclasses.field(default_factory=list)
    actions: list[NDArray[np.int32]] = dataclasses.field(default_factory=list)
    episode: list[str] = dataclasses.field(default_factory=list)

    @property
    def episodes(self) -> int:
        """How many episodes there are."""
        return len(set(self.episode))


def read_demonstrations(
    datasets: Sequence[Dataset], tasks: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Demonstrations]:
    """Returns the successful timesteps of tasks in the training shards.

    Args:
        datasets: Of `find_datasets`.
        tasks: Names of a data set and of a task in it.

    Raises:
        GatoError: If a shard is damaged.
    """
    found = {task: Demonstrations() for task in tasks}
    wanted = {dataset for dataset, _ in tasks}
    store = RowStore([one for one in datasets if one.name in wanted], "train")
    total = sum(store.rows_by_dataset)
    manifest = datasets[0].manifest
    for first in range(0, total, _CHUNK):
        ids = np.arange(first, min(first + _CHUNK, total))
        for stored in store.read(ids):
            row = decode_row(
                bytes(stored.data),
                sequence_length=manifest.sequence_length,
                dtype=manifest.token_dtype,
                place=stored.shard.place(stored.record),
            )
            _take(row, found)
    return found


def _take(row: Row, found: dict[tuple[str, str], Demonstrations]) -> None:
    # Documents have no task.
    segments = [
        found.get((one["dataset"], one.get("task") or "")) for one in row.provenance
    ]
    if not any(one is not None for one in segments):
        return
    whole = slots_of(row)
    body = row.kind & PROMPT_BIT == 0
    starts = np.flatnonzero((row.local_position == 0) & body)
    separators = np.flatnonzero((whole.kind == Kind.SEPARATOR) & body)
    is_action = (row.kind == Kind.DISCRETE_ACTION) | (
        row.kind == Kind.CONTINUOUS_ACTION
    )
    ends = np.flatnonzero(~np.append(is_action, False))
    stops = ends[np.searchsorted(ends, separators + 1)]
    for start, separator, stop in zip(
        starts.tolist(), separators.tolist(), stops.tolist(), strict=True
    ):
        number = int(row.segment[start]) - 1
        into, about = segments[number], row.provenance[number]
        if into is None or about["success"] is False:
            continue
        into.observations.append(whole.part(start, separator))
        into.actions.append(whole.tokens[separator + 1 : stop])
        into.episode.append(about["episode"])

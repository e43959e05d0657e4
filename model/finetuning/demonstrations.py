"""A few whole episodes of one task, taken out of a build, and nothing of any other.

Which ones follows from a keyed hash of episode ids, lowest first, so a smaller number
is part of every larger one. Their segments are lifted out of the rows by provenance and
packed anew. A prompt that another episode provided is cut off unless that one is chosen
too; and the policy is prompted with the chosen episodes only: one demonstration means
one, in training and in the environment.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.model.shards import Dataset, find_datasets
from gato.model.store import RowStore
from gato.schemas import files
from gato.schemas.config import Loss
from gato.schemas.errors import GatoError, UsageError
from gato.schemas.hashing import keyed_hash
from gato.schemas.manifest import ShardInfo
from gato.schemas.record import (
    KIND_MASK,
    PATCH_SIZE,
    Kind,
    Row,
    decode_example,
    decode_row,
    encode_row,
)
from gato.schemas.tfrecord import frame, pack_index
from gato.tokenizers.packing import pack_best_fit
from gato.tokenizers.rows import RowBuilder, Segment

# Rows read, or built, at a time.
_ROWS_AT_ONCE = 256


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Demonstrations:
    """The chosen episodes of a task.

    Attributes:
        dataset: Where they are from.
        task: Their task.
        segments: Of each episode by its id, in order of time; episodes in the order in
            which they are chosen.
    """

    dataset: Dataset
    task: str
    segments: dict[str, list[Segment]]

    def ids(self, count: int) -> list[str]:
        """Returns the first so many episodes' ids."""
        return list(itertools.islice(self.segments, count))

    def write(self, count: int, folder: str) -> Dataset:
        """Writes one shard of so many episodes, and returns it to be trained on.

        Args:
            count: Episodes.
            folder: Gets `<count>.tfrecord` and its index.
        """
        ids = self.ids(count)
        pieces = [
            piece if _provider(piece) in {None, *ids} else _without_prompt(piece)
            for episode in ids
            for piece in self.segments[episode]
        ]
        length = self.dataset.manifest.sequence_length
        packed = pack_best_fit([len(piece.tokens) for piece in pieces], length)
        name, offsets, position = f"{count}.tfrecord", [], 0
        path, digest = files.join(folder, name), hashlib.sha256()
        with files.open_atomic(path) as file:
            for begin in range(0, len(packed), _ROWS_AT_ONCE):
                part = packed[begin : begin + _ROWS_AT_ONCE]
                chosen = [[pieces[number] for number in row] for row in part]
                for row in self._builder.build(chosen)[0]:
                    data = frame(encode_row(row))
                    file.write(data)
                    digest.update(data)
                    offsets.append(position)
                    position += len(data)
        index = pack_index(offsets, position)
        files.write_atomic(f"{path}.idx", index)
        info = ShardInfo(
            name=name,
            rows=len(offsets),
            bytes=position,
            sha256=digest.hexdigest(),
            idx_sha256=hashlib.sha256(index).hexdigest(),
        )
        return dataclasses.replace(
            self.dataset, folder=folder, weight=1.0, train=(info,), validation=()
        )

    def prompts(self, count: int) -> tuple[Row, ...]:
        """Returns the policy's prompts, rows such as `demonstrations.tfrecord` has.

        Args:
            count: Episodes; of each the first timesteps that fit a row.
        """
        starts = [self._start(self.segments[one]) for one in self.ids(count)]
        return tuple(self._builder.build([[start] for start in starts])[0])

    @property
    def _builder(self) -> RowBuilder:
        manifest = self.dataset.manifest
        return RowBuilder(
            sequence_length=manifest.sequence_length,
            dtype=manifest.token_dtype,
            loss=Loss.model_validate(manifest.config["loss"]),
            control=True,
        )

    def _start(self, windows: Sequence[Segment]) -> Segment:
        bodies = [_without_prompt(window) for window in windows]
        steps = np.concatenate([body.step_slots for body in bodies])
        ends = np.cumsum(steps)
        room = self.dataset.manifest.sequence_length
        count = int(np.searchsorted(ends, room, side="right"))
        whole = Segment(
            tokens=np.concatenate([body.tokens for body in bodies]),
            kind=np.concatenate([body.kind for body in bodies]),
            step_slots=steps,
            images=[image for body in bodies for image in body.images],
            image_info=np.concatenate([body.image_info for body in bodies]),
            provenance={**bodies[0].provenance, "num_steps": count},
        )
        return _part(whole, 0, int(ends[count - 1]))


def _provider(segment: Segment) -> str | None:
    prompt = segment.provenance["prompt"]
    return None if prompt is None else prompt["episode"]


def _without_prompt(segment: Segment) -> Segment:
    prompt = segment.provenance["prompt"]
    if prompt is None:
        return segment
    body = _part(segment, prompt["length"], len(segment.tokens))
    return dataclasses.replace(body, provenance={**segment.provenance, "prompt": None})


def _part(segment: Segment, start: int, stop: int) -> Segment:
    """Returns the whole timesteps of slots [start, stop)."""
    ends = np.cumsum(segment.step_slots)
    inside = (ends > start) & (ends <= stop)
    sizes = segment.image_info[:, 0] // PATCH_SIZE
    last_patch = np.cumsum(sizes * (segment.image_info[:, 1] // PATCH_SIZE))
    is_image = (segment.kind & KIND_MASK) == Kind.IMAGE
    before, upto = (np.count_nonzero(is_image[:at]) for at in (start, stop))
    taken = (last_patch > before) & (last_patch <= upto)
    return dataclasses.replace(
        segment,
        tokens=segment.tokens[start:stop],
        kind=segment.kind[start:stop],
        step_slots=segment.step_slots[inside],
        images=list(itertools.compress(segment.images, taken.tolist())),
        image_info=segment.image_info[taken],
    )


def read_demonstrations(
    patterns: Sequence[str], task: str, *, seed: int, most: int
) -> Demonstrations:
    """Reads the episodes that a number of demonstrations would take.

    Args:
        patterns: `--shards`: all training shards of one data set.
        task: Whose episodes.
        seed: Of the choice.
        most: Episodes wanted at most.

    Raises:
        UsageError: If the shards are not of one data set, not all of it, or hold too
            few episodes of the task.
        GatoError: If a shard is missing or a record is corrupt.
    """
    dataset = _only_dataset(patterns, task)
    store = RowStore([dataset], "train")
    rows_of: dict[str, list[int]] = {}
    for number, data, _ in _records(store, np.arange(sum(store.rows_by_dataset))):
        told = json.loads(bytes(decode_example(bytes(data))["provenance"][0]))
        for entry in told:
            if entry.get("task") == task:
                rows_of.setdefault(entry["episode"], []).append(number)
    if len(rows_of) < most:
        raise UsageError(
            f"--demonstrations asks for {most} episodes, and the training shards of"
            f" {dataset.folder} hold {len(rows_of)} of task {task!r}. Ask for fewer, or"
            " record and build more."
        )
    chosen = sorted(
        rows_of, key=lambda one: (keyed_hash(seed, "demonstration", one), one)
    )[:most]
    segments = _lift(store, dataset, chosen, rows_of)
    return Demonstrations(dataset=dataset, task=task, segments=segments)


def _only_dataset(patterns: Sequence[str], task: str) -> Dataset:
    datasets = find_datasets(patterns)
    if len(datasets) > 1:
        names = ", ".join(one.name for one in datasets)
        raise UsageError(
            f"--shards: the demonstrations of a task are of one data set, got {names}."
            " Narrow the glob."
        )
    (dataset,) = datasets
    if task not in dataset.manifest.tasks:
        known = ", ".join(sorted(dataset.manifest.tasks)) or "none: it has documents"
        raise UsageError(
            f"--shards: {dataset.folder} holds no task {task!r}; its tasks are {known}."
            " The suite says which task is fine-tuned."
        )
    listed = [s for s in dataset.manifest.splits["train"].shards if s.rows]
    if len(dataset.train) < len(listed):
        raise UsageError(
            f"--shards: an episode may lie in any of the {len(listed)} training shards"
            f" of {dataset.folder}, and the glob matches {len(dataset.train)}. Give the"
            " folder."
        )
    return dataset


def _records(
    store: RowStore, ids: NDArray[np.int64]
) -> Iterator[tuple[int, memoryview, str]]:
    """Yields number, data and place of rows, some at a time."""
    for begin in range(0, len(ids), _ROWS_AT_ONCE):
        part = ids[begin : begin + _ROWS_AT_ONCE]
        for place, data, shard, record in store.read(part):
            yield int(part[place]), data, shard.place(record)


def _lift(
    store: RowStore,
    dataset: Dataset,
    chosen: Sequence[str],
    rows_of: dict[str, list[int]],
) -> dict[str, list[Segment]]:
    segments: dict[str, list[Segment]] = {episode: [] for episode in chosen}
    manifest = dataset.manifest
    numbers = sorted({number for episode in chosen for number in rows_of[episode]})
    for _, data, place in _records(store, np.array(numbers, np.int64)):
        row = decode_row(
            bytes(data),
            sequence_length=manifest.sequence_length,
            dtype=manifest.token_dtype,
            place=place,
        )
        for entry in row.provenance:
            if entry["episode"] in segments:
                segments[entry["episode"]].append(_segment(row, entry, place))
    for pieces in segments.values():
        pieces.sort(key=lambda piece: piece.provenance["first_step"])
    return segments


def _segment(row: Row, entry: dict[str, Any], place: str) -> Segment:
    start, stop = entry["start"], entry["start"] + entry["length"]
    begins = np.flatnonzero(row.local_position[start:stop] == 0)
    if not len(begins) or begins[0] or stop > len(row.tokens):
        raise GatoError(
            f"{place}: the segment of episode {entry['episode']} begins with a"
            " timestep and ends in its row, and this one does not. Run gato-verify on"
            " the build, and build again."
        )
    first_slots = row.image_info[:, 0]
    inside = (first_slots >= start) & (first_slots < stop)
    about = {key: entry[key] for key in entry if key not in ("start", "length")}
    return Segment(
        tokens=row.tokens[start:stop],
        kind=row.kind[start:stop],
        step_slots=np.diff(np.append(begins, stop - start)),
        images=list(itertools.compress(row.images, inside.tolist())),
        image_info=row.image_info[inside, 1:],
        provenance=about,
    )

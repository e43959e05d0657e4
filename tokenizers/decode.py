"""Rows back to what they were made of: texts, images, numbers and actions.

For inspection and tests. Texts of a timestep have no stored length: a text item is the
run of text slots where it is due, and neighbouring text items, which nothing separates,
come back as one whose key names them all (`hint + mission`).
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gato.schemas.errors import GatoError
from gato.schemas.manifest import ActionSpec, ObservationSpec, TaskSpec
from gato.schemas.record import KIND_MASK, PATCH_SIZE, PROMPT_BIT, Kind, Row
from gato.tokenizers import continuous, discrete, patches
from gato.tokenizers.text import TextTokenizer
from gato.tokenizers.timestep import TimestepTokenizer
from gato.tokenizers.vocabulary import Vocabulary

Value = str | NDArray[Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DecodedItem:
    """One observation or action item of one timestep.

    Attributes:
        key: Flattened key.
        kind: text, image, discrete or continuous.
        value: str, uint8 [H, W, 3], or numbers in the environment's units and shape.
        start: First slot in the row.
        stop: One past the last.
    """

    key: str
    kind: str
    value: Value
    start: int
    stop: int


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DecodedTimestep:
    """One timestep.

    Attributes:
        step: Its number in its episode.
        prompt: Whether it belongs to the segment's prompt.
        observations: In the order of the row.
        actions: Likewise.
        start: First slot in the row.
        stop: One past the last.
    """

    step: int
    prompt: bool
    observations: tuple[DecodedItem, ...]
    actions: tuple[DecodedItem, ...]
    start: int
    stop: int


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DecodedPart:
    """A text or an image of a document.

    Attributes:
        kind: text or image.
        value: str, or uint8 [H, W, 3].
        ended: Whether the text's end (eos) is in the row; False for images.
        start: First slot in the row.
        stop: One past the last.
    """

    kind: str
    value: Value
    ended: bool
    start: int
    stop: int


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DecodedSegment:
    """One segment of a row: timesteps of an episode, or parts of documents.

    Attributes:
        provenance: Its object, as stored.
        start: First slot in the row.
        stop: One past the last.
        timesteps: In order, the prompt's first; empty for documents.
        parts: In order; empty for episodes.
    """

    provenance: Mapping[str, Any]
    start: int
    stop: int
    timesteps: tuple[DecodedTimestep, ...] = ()
    parts: tuple[DecodedPart, ...] = ()


def decode_observation(
    spec: ObservationSpec, ids: NDArray[np.integer], first: int
) -> NDArray:
    """Returns one discrete or continuous observation item in its shape.

    Args:
        spec: The item.
        ids: int [n], its tokens.
        first: Id of the lowest bin.
    """
    if spec.kind == "discrete":
        return discrete.decode(ids).reshape(spec.shape)
    bins = np.asarray(ids, np.int64) - first
    return continuous.decode_observation(bins).reshape(spec.shape)


def _length(item: ObservationSpec | ActionSpec) -> int:
    """Returns the slots of an item that is no text."""
    if isinstance(item, ObservationSpec) and item.image is not None:
        return item.image.height * item.image.width // PATCH_SIZE**2
    return int(np.prod(item.shape, dtype=np.int64))


def _merge_texts(
    items: Sequence[ObservationSpec],
) -> Iterator[tuple[str, ObservationSpec]]:
    """Yields key and item; neighbouring texts become one."""
    at = 0
    while at < len(items):
        stop = at + 1
        if items[at].kind == "text":
            while stop < len(items) and items[stop].kind == "text":
                stop += 1
        yield " + ".join(item.key for item in items[at:stop]), items[at]
        at = stop


class _RowDecoder:
    """Reads a row's slots from left to right."""

    def __init__(
        self,
        row: Row,
        specs: Mapping[str, TaskSpec],
        tokenizer: TextTokenizer,
        vocabulary: Vocabulary,
    ) -> None:
        self._row = row
        self._specs = specs
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._kind = row.kind & KIND_MASK
        slots = [int(info[0]) for info in row.image_info]
        self._image_at = {slot: index for index, slot in enumerate(slots)}

    def segment(self, number: int) -> DecodedSegment:
        """Decodes one segment, counted from 0."""
        entry = self._row.provenance[number]
        start, stop = int(entry["start"]), int(entry["start"] + entry["length"])
        if not 0 <= start < stop <= len(self._kind):
            raise GatoError(
                f"segment {number + 1} says slots {start} to {stop} of a row of"
                f" {len(self._kind)}. Run gato-verify on the shard."
            )
        if "documents" in entry:
            parts = tuple(self._parts(start, stop))
            return DecodedSegment(provenance=entry, start=start, stop=stop, parts=parts)
        if entry["task"] not in self._specs:
            raise GatoError(
                f"task {entry['task']!r} is not among the manifest's tasks with a spec."
                " Is it the manifest of this shard?"
            )
        steps = tuple(self._timesteps(entry, self._specs[entry["task"]], start, stop))
        return DecodedSegment(provenance=entry, start=start, stop=stop, timesteps=steps)

    def _image(self, slot: int) -> NDArray[np.uint8]:
        if slot not in self._image_at:
            raise GatoError(
                f"slot {slot} is of kind image, and no image starts there. Run"
                " gato-verify on the shard."
            )
        index = self._image_at[slot]
        _, height, width, encoding = self._row.image_info[index].tolist()
        return patches.decode_stored(self._row.images[index], height, width, encoding)

    def _run(self, kind: Kind, start: int, stop: int) -> int:
        """Returns where the run of one kind that starts at `start` ends."""
        other = np.flatnonzero(self._kind[start:stop] != kind)
        return start + int(other[0]) if len(other) else stop

    def _require(self, kind: Kind, start: int, stop: int, name: str) -> None:
        found = self._kind[start:stop]
        if len(found) != stop - start or (found != kind).any():
            raise GatoError(
                f"slots {start} to {stop} should hold {name} by the task's spec, and"
                f" their kinds are {found[:8].tolist()}. Is it the manifest of this"
                " shard?"
            )

    def _timesteps(
        self, entry: Mapping[str, Any], spec: TaskSpec, start: int, stop: int
    ) -> Iterator[DecodedTimestep]:
        task = TimestepTokenizer(spec, self._tokenizer)
        prompt = entry["prompt"]
        prompt_stop = start + (prompt["length"] if prompt else 0)
        step = prompt["first_step"] if prompt else entry["first_step"]
        at = start
        while at < stop:
            if at == prompt_stop:
                step = entry["first_step"]
            begin = at
            observations, at = self._observations(spec, at, stop)
            self._require(Kind.SEPARATOR, at, at + 1, "the separator")
            actions, at = self._actions(task, at + 1)
            yield DecodedTimestep(
                step=step,
                prompt=bool(self._row.kind[begin] & PROMPT_BIT),
                observations=observations,
                actions=actions,
                start=begin,
                stop=at,
            )
            step += 1

    def _observations(
        self, spec: TaskSpec, at: int, stop: int
    ) -> tuple[tuple[DecodedItem, ...], int]:
        items = []
        for key, item in _merge_texts(spec.observations):
            start = at
            if item.kind == "text":
                at = self._run(Kind.TEXT, start, stop)
                value: Value = self._tokenizer.decode(self._row.tokens[start:at])
            else:
                at = start + _length(item)
                value = self._observation(item, start, at)
            items.append(
                DecodedItem(key=key, kind=item.kind, value=value, start=start, stop=at)
            )
        return tuple(items), at

    def _observation(self, item: ObservationSpec, start: int, stop: int) -> Value:
        kind = {
            "image": Kind.IMAGE,
            "discrete": Kind.DISCRETE_OBSERVATION,
            "continuous": Kind.CONTINUOUS_OBSERVATION,
        }[item.kind]
        self._require(kind, start, stop, f"observation {item.key!r}")
        if item.kind == "image":
            return self._image(start)
        first = self._vocabulary.first_continuous
        return decode_observation(item, self._row.tokens[start:stop], first)

    def _actions(
        self, task: TimestepTokenizer, at: int
    ) -> tuple[tuple[DecodedItem, ...], int]:
        begin, spans = at, []
        for item in task.spec.actions:
            start, at = at, at + _length(item)
            is_discrete = item.kind == "discrete"
            kind = Kind.DISCRETE_ACTION if is_discrete else Kind.CONTINUOUS_ACTION
            self._require(kind, start, at, f"action {item.key!r}")
            spans.append((item, start, at))
        values = task.decode_actions(self._row.tokens[None, begin:at])
        items = (
            DecodedItem(
                key=item.key,
                kind=item.kind,
                value=np.asarray(values[item.key][0]),
                start=start,
                stop=stop,
            )
            for item, start, stop in spans
        )
        return tuple(items), at

    def _parts(self, start: int, stop: int) -> Iterator[DecodedPart]:
        at = start
        while at < stop:
            begin = at
            if self._kind[at] == Kind.IMAGE:
                value: Value = self._image(at)
                at += value.shape[0] * value.shape[1] // PATCH_SIZE**2
                ended = False
            else:
                at = self._run(Kind.TEXT, begin, stop)
                self._require(Kind.TEXT, begin, max(at, begin + 1), "text")
                ends = np.flatnonzero(
                    self._row.tokens[begin:at] == self._vocabulary.eos
                )
                ended = bool(len(ends))
                if ended:
                    at = begin + int(ends[0]) + 1
                value = self._tokenizer.decode(self._row.tokens[begin : at - ended])
            yield DecodedPart(
                kind="text" if isinstance(value, str) else "image",
                value=value,
                ended=ended,
                start=begin,
                stop=at,
            )


def decode_row(
    row: Row,
    *,
    specs: Mapping[str, TaskSpec],
    tokenizer: TextTokenizer,
    vocabulary: Vocabulary,
) -> list[DecodedSegment]:
    """Returns what each segment of a row was made of.

    Args:
        row: The row.
        specs: `spec` of the manifest's tasks.
        tokenizer: The build's text tokenizer.
        vocabulary: The build's vocabulary.

    Raises:
        GatoError: If a segment does not follow its task's spec, with the slot.
    """
    decoder = _RowDecoder(row, specs, tokenizer, vocabulary)
    try:
        return [decoder.segment(number) for number in range(len(row.provenance))]
    except (KeyError, TypeError) as error:
        raise GatoError(
            f"provenance lacks what the format asks for: {error!r}. Run gato-verify on"
            " the shard."
        ) from error
    except (ValueError, cv2.error) as error:
        raise GatoError(
            f"ids or image bytes are outside what their kind allows: {error}. Run"
            " gato-verify on the shard."
        ) from error

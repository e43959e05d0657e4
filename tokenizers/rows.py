"""Rows: packed segments to the arrays of one record, masks and positions included."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.schemas.config import Loss
from gato.schemas.record import (
    KIND_MASK,
    MAX_LOCAL_POSITION,
    PATCH_SIZE,
    PROMPT_BIT,
    Kind,
    Row,
)
from gato.tokenizers.timestep import QUESTION_BIT

_OBSERVATIONS = (
    Kind.TEXT,
    Kind.IMAGE,
    Kind.DISCRETE_OBSERVATION,
    Kind.CONTINUOUS_OBSERVATION,
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """What stands together in a row: a prompt and a body, or documents.

    Attributes:
        tokens: uint16 or int32 [n].
        kind: uint8 [n]; `Kind` plus `QUESTION_BIT` and `PROMPT_BIT`.
        step_slots: int [T]; slots of each timestep, empty for documents.
        images: Encoded images in slot order.
        image_info: int32 [m, 3]; height, width, encoding.
        provenance: The segment's object, without `start` and `length`.
    """

    tokens: NDArray[np.integer]
    kind: NDArray[np.uint8]
    step_slots: NDArray[np.integer]
    images: Sequence[bytes]
    image_info: NDArray[np.int32]
    provenance: dict[str, Any]


class RowBuilder:
    """Builds rows of one data set.

    Attributes:
        sequence_length: L.
        dtype: dtype of `tokens`.
    """

    def __init__(
        self, *, sequence_length: int, dtype: str, loss: Loss, control: bool
    ) -> None:
        """Prepares the tables that decide mask and local position by kind byte.

        Args:
            sequence_length: L.
            dtype: "uint16" or "int32".
            loss: What is a target beside actions and answers.
            control: Whether segments are timesteps (else documents).
        """
        self.sequence_length = sequence_length
        self.dtype = np.dtype(dtype)
        codes = np.arange(32, dtype=np.uint8)
        kinds = codes & KIND_MASK
        target = np.isin(kinds, (Kind.DISCRETE_ACTION, Kind.CONTINUOUS_ACTION))
        if loss.text_observations or not control:
            target |= kinds == Kind.TEXT
        if not loss.questions:
            target &= (codes & QUESTION_BIT) == 0
        if not loss.prompts:
            target &= (codes & PROMPT_BIT) == 0
        self._targets = target.astype(np.uint8)
        self._has_position = np.isin(kinds, _OBSERVATIONS) & control

    def build(self, segments: Sequence[Segment]) -> tuple[Row, int]:
        """Returns a row of the segments, in order, and its clamped local positions.

        Raises:
            ValueError: If the segments do not fit.
        """
        length = self.sequence_length
        lengths = np.array([len(segment.tokens) for segment in segments], np.int64)
        used = int(lengths.sum())
        if used > length:
            raise ValueError(f"a row has {length} slots, the segments take {used}.")
        starts = np.cumsum(lengths) - lengths
        codes = np.concatenate([segment.kind for segment in segments])

        tokens = np.zeros(length, self.dtype)
        np.concatenate([s.tokens for s in segments], out=tokens[:used])
        kind = np.zeros(length, np.uint8)
        np.bitwise_and(codes, PROMPT_BIT | KIND_MASK, out=kind[:used])
        loss_mask = np.zeros(length, np.uint8)
        loss_mask[:used] = self._targets[codes]
        # Nothing inside a segment predicts its first slot.
        loss_mask[starts] = 0
        segment_ids = np.zeros(length, np.uint8)
        segment_ids[:used] = np.repeat(
            np.arange(1, len(segments) + 1, dtype=np.uint8), lengths
        )
        local, clamped = self._local_positions(segments, codes)
        local_position = np.full(length, -1, np.int16)
        local_position[:used] = local
        images = tuple(image for s in segments for image in s.images)
        row = Row(
            tokens=tokens,
            kind=kind,
            loss_mask=loss_mask,
            segment=segment_ids,
            local_position=local_position,
            images=images,
            image_info=_image_info(kind, segments, len(images)),
            provenance=[
                _place(s.provenance, start, n)
                for s, start, n in zip(
                    segments, starts.tolist(), lengths.tolist(), strict=True
                )
            ],
        )
        return row, clamped

    def _local_positions(
        self, segments: Sequence[Segment], codes: NDArray[np.uint8]
    ) -> tuple[NDArray[np.integer] | int, int]:
        has_position = self._has_position[codes]
        if not has_position.any():
            return -1, 0
        steps = np.concatenate([segment.step_slots for segment in segments])
        step_starts = np.cumsum(steps) - steps
        # Observations come first, so the index in the timestep is the local position.
        index = np.arange(len(codes)) - np.repeat(step_starts, steps)
        clamped = int(np.count_nonzero(has_position & (index > MAX_LOCAL_POSITION)))
        np.minimum(index, MAX_LOCAL_POSITION, out=index)
        return np.where(has_position, index, -1), clamped


def _place(provenance: dict[str, Any], start: int, length: int) -> dict[str, Any]:
    placed = dict(provenance)
    placed["start"] = start
    placed["length"] = length
    return placed


def _image_info(
    kind: NDArray[np.uint8], segments: Sequence[Segment], num_images: int
) -> NDArray[np.int32]:
    if not num_images:
        return np.zeros((0, 4), np.int32)
    sizes = np.concatenate([segment.image_info for segment in segments])
    patches = (sizes[:, 0] // PATCH_SIZE) * (sizes[:, 1] // PATCH_SIZE)
    # Image slots in order belong to the images in order, patch by patch.
    slots = np.flatnonzero((kind & KIND_MASK) == Kind.IMAGE)
    if patches.sum() != len(slots):
        raise ValueError(
            f"the images have {patches.sum()} patches, the row has {len(slots)} image"
            " slots."
        )
    first = slots[np.cumsum(patches) - patches]
    return np.column_stack([first, sizes]).astype(np.int32)

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

    def build(self, rows: Sequence[Sequence[Segment]]) -> tuple[list[Row], int]:
        """Returns rows of the segments, in order, and how many positions were clamped.

        All rows of the call are made as one array [R, L] a feature: for rows of a
        thousand slots, calls of NumPy cost more than what they do.

        Args:
            rows: The segments of each row; no row is empty.

        Raises:
            ValueError: If the segments of a row do not fit.
        """
        length = self.sequence_length
        segments = [segment for row in rows for segment in row]
        row_of = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        lengths = np.array([len(segment.tokens) for segment in segments], np.int64)
        used = np.bincount(row_of, lengths, minlength=len(rows)).astype(np.int64)
        if (used > length).any():
            raise ValueError(
                f"a row has {length} slots, the segments of one take {used.max()}."
            )
        first_of_row = np.cumsum(used) - used
        starts = np.cumsum(lengths) - lengths - first_of_row[row_of]
        filled = np.arange(length) < used[:, None]

        tokens = np.zeros((len(rows), length), self.dtype)
        tokens[filled] = np.concatenate([segment.tokens for segment in segments])
        codes = np.zeros((len(rows), length), np.uint8)
        codes[filled] = np.concatenate([segment.kind for segment in segments])
        kind = codes & np.uint8(PROMPT_BIT | KIND_MASK)
        loss_mask = self._targets[codes]
        # Nothing inside a segment predicts its first slot.
        loss_mask[row_of, starts] = 0
        number = np.arange(len(segments)) - np.searchsorted(row_of, row_of) + 1
        segment_ids = np.zeros((len(rows), length), np.uint8)
        segment_ids[filled] = np.repeat(number.astype(np.uint8), lengths)
        local_position = np.full((len(rows), length), -1, np.int16)
        clamped = self._fill_local_positions(local_position, filled, segments, codes)
        built = []
        spans = zip(segments, starts.tolist(), lengths.tolist(), strict=True)
        for place, row in enumerate(rows):
            images = tuple(image for segment in row for image in segment.images)
            built.append(
                Row(
                    tokens=tokens[place],
                    kind=kind[place],
                    loss_mask=loss_mask[place],
                    segment=segment_ids[place],
                    local_position=local_position[place],
                    images=images,
                    image_info=_image_info(kind[place], row, len(images)),
                    provenance=[_place(*next(spans)) for _ in row],
                )
            )
        return built, clamped

    def _fill_local_positions(
        self,
        local_position: NDArray[np.int16],
        filled: NDArray[np.bool_],
        segments: Sequence[Segment],
        codes: NDArray[np.uint8],
    ) -> int:
        """Writes local positions; returns how many were beyond the largest."""
        has_position = self._has_position[codes]
        if not has_position.any():
            return 0
        steps = np.concatenate([segment.step_slots for segment in segments])
        starts = np.cumsum(steps, dtype=np.int32) - steps
        # Observations come first, so the index in the timestep is the local position.
        index = np.arange(int(steps.sum()), dtype=np.int32)
        index -= np.repeat(starts.astype(np.int32), steps)
        clamped = int(
            np.count_nonzero(has_position[filled] & (index > MAX_LOCAL_POSITION))
        )
        np.minimum(index, MAX_LOCAL_POSITION, out=index)
        local_position[filled] = index
        local_position[~has_position] = -1
        return clamped


def _place(segment: Segment, start: int, length: int) -> dict[str, Any]:
    return {**segment.provenance, "start": start, "length": length}


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

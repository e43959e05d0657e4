"""Batches of rows as arrays, and how a broken law of one is told."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.verification.problems import Problems
from gato.pipelines.verification.segments import as_table
from gato.schemas.record import KIND_MASK, PROMPT_BIT, Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of one shard as arrays.

    Attributes:
        file: The shard's path, for messages.
        records: Record numbers, [B].
        offsets: Byte offsets of the records, [B].
        rows: The rows themselves.
        tokens: int64 [B, L].
        kind: uint8 [B, L], the low three bits.
        prompt: bool [B, L].
        mask: uint8 [B, L].
        segment: uint8 [B, L].
        local: int16 [B, L].
    """

    file: str
    records: NDArray[np.int64]
    offsets: NDArray[np.int64]
    rows: Sequence[Row]
    tokens: NDArray[np.int64]
    kind: NDArray[np.uint8]
    prompt: NDArray[np.bool_]
    mask: NDArray[np.uint8]
    segment: NDArray[np.uint8]
    local: NDArray[np.int16]

    def place(self, row: int, slot: int | None = None) -> str:
        """Returns where a row of the batch lies in its shard."""
        text = f"record {self.records[row]} (byte {self.offsets[row]})"
        return text if slot is None else f"{text} slot {slot}"

    def take(self, keep: NDArray[np.bool_]) -> "Batch":
        """Returns the batch of some of its rows."""
        changed = {
            field.name: getattr(self, field.name)[keep]
            for field in dataclasses.fields(self)
            if field.name not in ("file", "rows")
        }
        rows = [row for row, kept in zip(self.rows, keep, strict=True) if kept]
        return dataclasses.replace(self, rows=rows, **changed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchSegments:
    """The segments of a batch whose structure is sound.

    Attributes:
        table: `SEGMENT` [S], in slot order; `row` counts inside the batch.
        documents: `SEGMENT` [D], one entry a document.
        of_slot: int32 [B, L], index into `table`; S in padding.
        first: bool [B, L], first slots of segments.
        offset: int32 [B, L], slots since the segment's start.
    """

    table: NDArray[np.void]
    documents: NDArray[np.void]
    of_slot: NDArray[np.int32]
    first: NDArray[np.bool_]
    offset: NDArray[np.int32]


def make_batch(
    file: str, records: Sequence[int], offsets: Sequence[int], rows: Sequence[Row]
) -> Batch:
    """Stacks rows of one length."""
    kind = np.stack([row.kind for row in rows])
    return Batch(
        file=file,
        records=np.array(records, np.int64),
        offsets=np.array(offsets, np.int64),
        rows=rows,
        tokens=np.stack([row.tokens for row in rows]).astype(np.int64),
        kind=kind & np.uint8(KIND_MASK),
        prompt=(kind & PROMPT_BIT) != 0,
        mask=np.stack([row.loss_mask for row in rows]),
        segment=np.stack([row.segment for row in rows]),
        local=np.stack([row.local_position for row in rows]),
    )


def report(
    problems: Problems,
    batch: Batch,
    broken: NDArray[np.bool_],
    law: str,
    found: Callable[[tuple[int, int]], str],
) -> None:
    """Notes the first broken slot of each row."""
    if not broken.any():
        return
    for row in np.flatnonzero(broken.any(axis=1)).tolist():
        slot = int(np.argmax(broken[row]))
        problems.add(
            batch.file,
            f"{law}, {found((row, slot))}",
            law=law,
            place=batch.place(row, slot),
        )


def report_segments(
    problems: Problems,
    batch: Batch,
    table: NDArray[np.void],
    broken: NDArray[np.bool_],
    law: str,
    found: Callable[[int], str],
) -> None:
    """Notes each broken segment."""
    for index in np.flatnonzero(broken).tolist():
        entry = table[index]
        place = f"{batch.place(entry['row'], entry['start'])} segment {entry['number']}"
        problems.add(batch.file, f"{law}, {found(index)}", law=law, place=place)


def make_segments(
    batch: Batch, table: NDArray[np.void], documents: list[tuple]
) -> BatchSegments:
    """Lays the segments of a batch over its slots.

    Args:
        batch: Rows of sound structure.
        table: `SEGMENT` [S], `row` counting inside the batch.
        documents: Row and number of the segment, then `SEGMENT`'s fields from `task`.
    """
    counts = np.bincount(table["row"], minlength=len(batch.rows))
    before = np.cumsum(counts) - counts
    index = before[:, None] + batch.segment - 1
    of_slot = np.where(batch.segment == 0, len(table), index).astype(np.int32)
    first = np.diff(batch.segment.astype(np.int16), axis=1, prepend=np.int16(0)) > 0
    starts = np.append(table["start"], 0).astype(np.int32)
    slots = np.arange(batch.segment.shape[1], dtype=np.int32)
    as_documents = [
        (row, number, False, 0, 0, *rest) for row, number, *rest in documents
    ]
    return BatchSegments(
        table=table,
        documents=as_table(as_documents),
        of_slot=of_slot,
        first=first,
        offset=slots - starts[of_slot],
    )

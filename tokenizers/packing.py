"""Packing: segments into rows of L slots, online and deterministic (design.md 2)."""

import bisect
import heapq
from collections.abc import Mapping, Sequence

from gato.schemas.record import MAX_SEGMENTS

MAX_OPEN_ROWS = 64


def pack_best_fit(lengths: Sequence[int], row_slots: int) -> list[list[int]]:
    """Packs segments, in the order given, best-fit into at most 64 open rows.

    A segment goes to the fullest open row that holds it, ties to the oldest; when none
    holds it and 64 are open, the fullest is closed. At most 255 segments a row.

    Args:
        lengths: Slots of each segment, each in [1, row_slots].
        row_slots: L.

    Returns:
        Indices of the segments of each row, rows in order of opening.

    Raises:
        ValueError: If a segment does not fit a row.

    >>> pack_best_fit([6, 5, 4, 5], 10)
    [[0, 2], [1, 3]]
    """
    rows: list[list[int]] = []
    # Open rows as (free slots, row number): sorted by free, then by age.
    open_rows: list[tuple[int, int]] = []
    for segment, length in enumerate(lengths):
        if not 0 < length <= row_slots:
            raise ValueError(
                f"a segment takes 1 to {row_slots} slots, got {length} for segment"
                f" {segment}."
            )
        place = bisect.bisect_left(open_rows, (length, 0))
        if place < len(open_rows):
            free, row = open_rows.pop(place)
        else:
            if len(open_rows) == MAX_OPEN_ROWS:
                open_rows.pop(0)
            free, row = row_slots, len(rows)
            rows.append([])
        rows[row].append(segment)
        if free > length and len(rows[row]) < MAX_SEGMENTS:
            bisect.insort(open_rows, (free - length, row))
    return rows


def best_fit_decreasing_rows(counts: Mapping[int, int], row_slots: int) -> int:
    """Returns the rows that an offline best-fit-decreasing needs for a whole split.

    The yardstick for padding: it sees every segment before it places the first.

    Args:
        counts: How many segments there are of each length.
        row_slots: L.

    >>> best_fit_decreasing_rows({6: 1, 5: 2, 4: 1}, 10)
    2
    """
    # Rows by free slots; `heap` holds those free sizes that occur.
    rows_by_free: dict[int, int] = {}
    num_rows = 0
    for length in sorted(counts, reverse=True):
        left = counts[length]
        heap = [free for free in rows_by_free if free >= length]
        heapq.heapify(heap)
        while left and heap:
            free = heapq.heappop(heap)
            # Best fit fills the fullest row as often as it holds the length before
            # it turns to the next.
            fits = free // length
            rows = rows_by_free.pop(free)
            full = min(rows, left // fits)
            left -= full * fits
            _add(rows_by_free, free - fits * length, full)
            rest = rows - full
            if rest and left:
                _add(rows_by_free, free - left * length, 1)
                left, rest = 0, rest - 1
            _add(rows_by_free, free, rest)
        if left:
            fits = row_slots // length
            full, rest = divmod(left, fits)
            num_rows += full + (rest > 0)
            _add(rows_by_free, row_slots - fits * length, full)
            _add(rows_by_free, row_slots - rest * length, rest > 0)
    return num_rows


def _add(rows_by_free: dict[int, int], free: int, rows: int) -> None:
    if rows and free:
        rows_by_free[free] = rows_by_free.get(free, 0) + rows

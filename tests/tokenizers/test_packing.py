"""Packing against the contract's words, done the slow way (design.md section 2)."""

import collections
from collections.abc import Sequence

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from gato.tokenizers.packing import best_fit_decreasing_rows, pack_best_fit


def pack_slowly(lengths: Sequence[int], row_slots: int) -> list[list[int]]:
    """Best-fit into at most 64 open rows; a row of 255 segments takes no more."""
    rows: list[list[int]] = []
    free: list[int] = []
    is_open: list[bool] = []
    for segment, length in enumerate(lengths):
        fits = [r for r in range(len(rows)) if is_open[r] and free[r] >= length]
        if fits:
            row = min(fits, key=lambda r: (free[r], r))
        else:
            still_open = [r for r in range(len(rows)) if is_open[r]]
            if len(still_open) == 64:
                is_open[min(still_open, key=lambda r: (free[r], r))] = False
            row = len(rows)
            rows.append([])
            free.append(row_slots)
            is_open.append(True)
        rows[row].append(segment)
        free[row] -= length
        if len(rows[row]) == 255 or not free[row]:
            is_open[row] = False
    return rows


@hypothesis.given(
    st.integers(1, 60).flatmap(
        lambda row: st.tuples(st.just(row), st.lists(st.integers(1, row), max_size=300))
    )
)
def test_packing_is_the_contracts(case: tuple[int, list[int]]) -> None:
    row_slots, lengths = case
    rows = pack_best_fit(lengths, row_slots)
    assert rows == pack_slowly(lengths, row_slots)
    assert sorted(s for row in rows for s in row) == list(range(len(lengths)))
    assert all(sum(lengths[s] for s in row) <= row_slots for row in rows)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


def test_the_fullest_of_64_open_rows_is_closed() -> None:
    # 64 open rows with 36 free at most; the 65th closes row 0, the oldest of the
    # fullest, so a segment of its 30 free slots goes elsewhere.
    lengths = [70] * 2 + [64] * 62 + [90, 30, 30]
    rows = pack_best_fit(lengths, 100)
    assert rows == pack_slowly(lengths, 100)
    assert rows[0] == [0]
    assert rows[1] == [1, 65]
    assert rows[2] == [2, 66]


def test_at_most_255_segments_share_a_row() -> None:
    rows = pack_best_fit([1] * 600, 1000)
    assert [len(row) for row in rows] == [255, 255, 90]


@pytest.mark.parametrize("length", [0, 11])
def test_a_segment_that_cannot_fit_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 10 slots, got {length} for segment 1"):
        pack_best_fit([3, length], 10)


def decreasing_slowly(lengths: Sequence[int], row_slots: int) -> int:
    free: list[int] = []
    for length in sorted(lengths, reverse=True):
        fits = [row for row, left in enumerate(free) if left >= length]
        if fits:
            free[min(fits, key=lambda row: free[row])] -= length
        else:
            free.append(row_slots - length)
    return len(free)


@hypothesis.given(
    st.integers(1, 60).flatmap(
        lambda row: st.tuples(st.just(row), st.lists(st.integers(1, row), max_size=120))
    )
)
def test_the_floor_is_best_fit_decreasing(case: tuple[int, list[int]]) -> None:
    row_slots, lengths = case
    counts = collections.Counter(lengths)
    expected = decreasing_slowly(lengths, row_slots)
    assert best_fit_decreasing_rows(counts, row_slots) == expected


def test_the_floor_of_many_segments_is_quick() -> None:
    counts = {length: 1_000_000 for length in range(1, 1025)}
    rows = best_fit_decreasing_rows(counts, 1024)
    used = sum(length * n for length, n in counts.items())
    assert rows * 1024 >= used
    assert rows * 1024 < 1.01 * used


@pytest.mark.parametrize("longest", [40, 300, 1024])
def test_little_of_a_row_is_padding(longest: int) -> None:
    # Mistake 15: one short segment a row is padding to 96-99%.
    generator = np.random.default_rng(0)
    lengths = generator.integers(10, longest + 1, 4000).tolist()
    num_rows = len(pack_best_fit(lengths, 1024))
    # At length 1024 not even the floor fills its rows.
    floor = best_fit_decreasing_rows(collections.Counter(lengths), 1024)
    assert num_rows < 1.02 * floor
    assert sum(lengths) > 0.96 * num_rows * 1024

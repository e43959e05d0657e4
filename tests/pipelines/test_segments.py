"""Which windows share a segment: up to five whole pairs of different images."""

import numpy as np
import pytest

from gato.pipelines import plan
from gato.pipelines.segments import ShardLayout, group_windows
from gato.schemas.config import Loss


def groups_of(
    pairs: list[tuple[int, int]], *, texts: tuple[int, ...] = (), control: bool = False
) -> list[list[int]]:
    """Groups windows of (slots, image) in rows of 100; those of `texts` have none."""
    layout = ShardLayout(
        dataset="toy", sequence_length=100, dtype="uint16", loss=Loss(), control=control
    )
    windows = np.zeros(len(pairs), plan.WINDOW)
    windows["slots"] = [slots for slots, _ in pairs]
    windows["content"] = [content for _, content in pairs]
    windows["image_bytes"] = [place not in texts for place in range(len(pairs))]
    return group_windows(windows, layout)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(10, n) for n in range(12)], [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]),
        # 60 + 40 fill the row; 99 + 2 would not fit, and nothing is cropped.
        ([(60, 1), (40, 2), (1, 3), (99, 4), (2, 5)], [[0, 1], [2, 3], [4]]),
        ([(100, 1), (1, 2), (100, 3)], [[0], [1], [2]]),
        # The third shows the first one's image, the fifth the third one's.
        ([(9, 1), (9, 2), (9, 1), (9, 3), (9, 1)], [[0, 1], [2, 3], [4]]),
    ],
)
def test_pairs_share_a_segment_while_they_fit(
    pairs: list[tuple[int, int]], expected: list[list[int]]
) -> None:
    assert groups_of(pairs) == expected


def test_texts_and_timesteps_stand_alone() -> None:
    pairs = [(9, n) for n in range(4)]
    alone = [[0], [1], [2], [3]]
    assert groups_of(pairs, texts=(0, 1, 2, 3)) == alone
    assert groups_of(pairs, texts=(1,)) == [[0], [1], [2, 3]]
    assert groups_of(pairs, control=True) == alone
    pages = [(9, plan.PAGE), (9, 1), (9, plan.PAGE), (9, plan.PAGE), (9, 2), (9, 3)]
    assert groups_of(pages) == [[0], [1], [2], [3], [4, 5]]

"""Rows by hand: masks, positions, segments, images and provenance (design.md 4)."""

from typing import Any

import numpy as np
import pytest

from gato.schemas.config import Loss
from gato.schemas.record import PROMPT_BIT, Kind, Row
from gato.tokenizers.rows import RowBuilder, Segment
from gato.tokenizers.timestep import QUESTION_BIT

PADDING, TEXT, IMAGE, DISCRETE, CONTINUOUS, BAR, MOVE, FORCE = range(8)
# A timestep: a text of two, an image of two patches, a float, '|', two actions.
STEP = [TEXT, TEXT, IMAGE, IMAGE, CONTINUOUS, BAR, MOVE, FORCE]


def segment(kinds: list[int], steps: list[int], name: str, **fields: Any) -> Segment:
    usual: dict[str, Any] = {
        "images": [],
        "image_info": np.zeros((0, 3), np.int32),
    }
    return Segment(
        tokens=np.arange(100, 100 + len(kinds), dtype=np.uint16),
        kind=np.array(kinds, np.uint8),
        step_slots=np.array(steps, np.int32),
        provenance={"episode": name},
        **(usual | fields),
    )


def pictured(kinds: list[int], steps: list[int], name: str, prompt: int) -> Segment:
    count = len(steps)
    marked = [k | PROMPT_BIT for k in kinds[:prompt]] + kinds[prompt:]
    return segment(
        marked,
        steps,
        name,
        images=[f"{name}{i}".encode() for i in range(count)],
        image_info=np.array([[16, 32, 1]] * count, np.int32),
    )


def build(
    rows: list[list[Segment]], *, length: int = 32, control: bool = True, **loss: bool
) -> tuple[list[Row], int]:
    builder = RowBuilder(
        sequence_length=length, dtype="uint16", loss=Loss(**loss), control=control
    )
    return builder.build(rows)


def test_a_control_row() -> None:
    first = pictured(STEP * 2, [8, 8], "a", prompt=8)
    second = pictured(STEP, [8], "b", prompt=0)
    (row,), clamped = build([[first, second]])
    assert clamped == 0
    assert row.tokens.tolist() == [*range(100, 116), *range(100, 108)] + [0] * 8
    prompt = [k | PROMPT_BIT for k in STEP]
    assert row.kind.tolist() == prompt + STEP + STEP + [0] * 8
    assert row.segment.tolist() == [1] * 16 + [2] * 8 + [0] * 8
    step_mask = [1, 1, 0, 0, 0, 0, 1, 1]
    # The first slot of a segment is no target.
    begins = [0, *step_mask[1:]]
    assert row.loss_mask.tolist() == begins + step_mask + begins + [0] * 8
    positions = [0, 1, 2, 3, 4, -1, -1, -1]
    assert row.local_position.tolist() == positions * 3 + [-1] * 8
    assert row.images == (b"a0", b"a1", b"b0")
    assert row.image_info.tolist() == [[2, 16, 32, 1], [10, 16, 32, 1], [18, 16, 32, 1]]
    assert row.provenance == [
        {"episode": "a", "start": 0, "length": 16},
        {"episode": "b", "start": 16, "length": 8},
    ]


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ({"text_observations": False}, [0, 0, 0, 0, 0, 0, 1, 1] * 2),
        ({"prompts": False}, [0] * 8 + [1, 1, 0, 0, 0, 0, 1, 1]),
        ({"text_observations": False, "prompts": False}, [0] * 14 + [1, 1]),
    ],
)
def test_what_is_a_target(loss: dict[str, bool], expected: list[int]) -> None:
    (row,), _ = build([[pictured(STEP * 2, [8, 8], "a", prompt=8)]], length=16, **loss)
    assert row.loss_mask.tolist() == expected


def test_documents_have_no_positions_and_questions_are_a_choice() -> None:
    question = TEXT | QUESTION_BIT
    kinds = [IMAGE, question, question, TEXT, TEXT]
    info = np.array([[16, 16, 2]], np.int32)

    def vqa(name: str) -> Segment:
        return segment(kinds, [5], name, images=[b"i"], image_info=info)

    (row,), _ = build([[vqa("a"), vqa("b")]], length=12, control=False)
    assert row.kind.tolist() == [IMAGE, TEXT, TEXT, TEXT, TEXT] * 2 + [0] * 2
    assert row.loss_mask.tolist() == [0, 1, 1, 1, 1] * 2 + [0, 0]
    assert (row.local_position == -1).all()
    assert row.image_info.tolist() == [[0, 16, 16, 2], [5, 16, 16, 2]]
    (row,), _ = build([[vqa("a")]], length=5, control=False, questions=False)
    assert row.loss_mask.tolist() == [0, 0, 0, 1, 1]
    # Text of documents is a target whatever text observations are.
    (row,), _ = build([[vqa("a")]], length=5, control=False, text_observations=False)
    assert row.loss_mask.tolist() == [0, 1, 1, 1, 1]


def test_local_positions_saturate_and_are_counted() -> None:
    kinds = [DISCRETE] * 515 + [BAR, MOVE]
    long = segment(kinds * 2, [517, 517], "a")
    (row,), clamped = build([[long]], length=1100)
    assert clamped == 6
    for begin in (0, 517):
        positions = row.local_position[begin : begin + 517].tolist()
        assert positions == [*range(512), 511, 511, 511, -1, -1]


def test_rows_built_together_equal_rows_built_alone() -> None:
    generator = np.random.default_rng(0)
    rows = []
    for _ in range(20):
        row = []
        for number in range(int(generator.integers(1, 4))):
            steps = int(generator.integers(1, 4))
            prompt = 8 * int(generator.integers(0, steps))
            row.append(pictured(STEP * steps, [8] * steps, f"{number}", prompt))
        rows.append(row)
    together, clamped = build(rows, length=72)
    assert clamped == 0
    for row, segments in zip(together, rows, strict=True):
        (alone,), _ = build([segments], length=72)
        for name in ("tokens", "kind", "loss_mask", "segment", "local_position"):
            np.testing.assert_array_equal(getattr(row, name), getattr(alone, name))
        np.testing.assert_array_equal(row.image_info, alone.image_info)
        assert row.images == alone.images
        assert row.provenance == alone.provenance


def test_255_segments_have_255_numbers() -> None:
    (row,), _ = build([[segment([MOVE], [1], str(n)) for n in range(255)]], length=255)
    assert row.segment.tolist() == list(range(1, 256))
    assert not row.loss_mask.any()


def test_too_many_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="a row has 15 slots, the segments of one"):
        build([[pictured(STEP * 2, [8, 8], "a", prompt=0)]], length=15)


def test_images_that_do_not_fill_their_slots_are_refused() -> None:
    wrong = segment(STEP, [8], "a", images=[b"a"], image_info=np.array([[32, 32, 1]]))
    with pytest.raises(ValueError, match="4 patches, the row has 2 image slots"):
        build([[wrong]])


def test_kinds_here_are_the_contracts() -> None:
    assert [int(kind) for kind in Kind] == [
        *(PADDING, TEXT, IMAGE, DISCRETE),
        *(CONTINUOUS, BAR, MOVE, FORCE),
    ]

"""Rows back to texts, images, numbers and actions."""

import dataclasses
import pathlib

import handmade
import numpy as np
import pytest

from gato.schemas.errors import GatoError
from gato.schemas.manifest import TaskSpec
from gato.schemas.record import Encoding, Kind, Row
from gato.tokenizers import decode
from gato.tokenizers.patches import decode_stored
from gato.tokenizers.text import TextTokenizer
from gato.tokenizers.timestep import TimestepTokenizer

MODEL = pathlib.Path(__file__).parents[1] / "testdata/vocabulary/text32k.model"


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.load(str(MODEL))


SPEC = TaskSpec.model_validate(handmade.SPEC)


def decode_row(row: Row, tokenizer: TextTokenizer) -> list[decode.DecodedSegment]:
    return decode.decode_row(
        row,
        specs={handmade.TASK: SPEC},
        tokenizer=tokenizer,
        vocabulary=tokenizer.vocabulary,
    )


def numbers(item: decode.DecodedItem) -> np.ndarray:
    assert isinstance(item.value, np.ndarray)
    return item.value


def test_numbers_by_hand(tokenizer: TextTokenizer) -> None:
    part = handmade.window(0, 3, 1)
    # state: bins of 0.1, 1 and 256 (specification.md's table); aim: the outermost bins,
    # whose centres lie 1/1024 inside [-1, 1], in a space of [-2, 2].
    part.tokens[7:10] = [32_632, 32_744, 33_023]
    part.tokens[13:15] = [32_000, 33_023]
    part.tokens[15] = 6
    part.tokens[:4] = [0, 1, 2, 1023]
    (segment,) = decode_row(handmade.row("toy", part), tokenizer)
    (step,) = segment.timesteps
    assert (step.step, step.prompt, step.start, step.stop) == (3, False, 0, 16)
    grid, mission, state, view = step.observations
    assert [item.key for item in step.observations] == [
        "grid",
        "mission",
        "state",
        "view",
    ]
    np.testing.assert_array_equal(numbers(grid), [[0, 1], [2, 1023]])
    np.testing.assert_allclose(numbers(state), [0.1, 1.0, 256.0], rtol=0.01)
    assert mission.value == tokenizer.decode([500, 501, 502])
    assert isinstance(view.value, np.ndarray)
    assert view.value.shape == (16, 32, 3)
    np.testing.assert_array_equal(
        view.value, decode_stored(handmade.png(3), 16, 32, Encoding.PNG)
    )
    aim, move = step.actions
    np.testing.assert_allclose(numbers(aim), [-2 + 2 / 1024, 2 - 2 / 1024])
    assert numbers(move).shape == ()
    assert int(numbers(move)) == 6
    assert [
        (item.start, item.stop) for item in (*step.observations, *step.actions)
    ] == [
        (0, 4),
        (4, 7),
        (7, 10),
        (10, 12),
        (13, 15),
        (15, 16),
    ]


def test_prompt_and_body_have_their_own_step_numbers(tokenizer: TextTokenizer) -> None:
    row = handmade.row(
        "toy", handmade.window(0, 4, 2, ("tail", 1, 7, 2)), handmade.window(2, 0, 1)
    )
    first, second = decode_row(row, tokenizer)
    assert [step.step for step in first.timesteps] == [7, 8, 4, 5]
    assert [step.prompt for step in first.timesteps] == [True, True, False, False]
    assert [step.step for step in second.timesteps] == [0]
    assert (second.start, second.stop) == (64, 80)
    assert second.provenance["episode"] == "toy/reach/expert-v0/2"


def test_what_was_encoded_comes_back(tokenizer: TextTokenizer) -> None:
    steps = 3
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (steps, 16, 32, 3), np.uint8)
    observations = {
        "grid": rng.integers(0, 20, (steps, 2, 2)),
        # The text's length differs from step to step.
        "mission": ["", "go to the red ball", "put the box next to the key"],
        "state": rng.normal(size=(steps, 3)),
        "view": frames,
    }
    actions = {
        "aim": rng.uniform(-2, 2, (steps, 2)),
        "move": rng.integers(0, 7, steps),
    }
    item = TimestepTokenizer(SPEC, tokenizer).encode(observations, actions)
    length = len(item.tokens)
    first = np.flatnonzero(item.kind == Kind.IMAGE)[::2]
    row = Row(
        tokens=item.tokens,
        kind=item.kind,
        loss_mask=np.zeros(length, np.uint8),
        segment=np.ones(length, np.uint8),
        local_position=np.zeros(length, np.int16),
        images=tuple(item.images),
        image_info=np.column_stack([first, item.image_info]).astype(np.int32),
        provenance=[
            {
                **handmade.window(0, 0, steps).provenance,
                "dataset": "toy",
                "start": 0,
                "length": length,
            }
        ],
    )
    (segment,) = decode_row(row, tokenizer)
    for number, step in enumerate(segment.timesteps):
        items = {item.key: item for item in (*step.observations, *step.actions)}
        np.testing.assert_array_equal(
            numbers(items["grid"]), observations["grid"][number]
        )
        assert items["mission"].value == observations["mission"][number]
        np.testing.assert_array_equal(numbers(items["view"]), frames[number])
        np.testing.assert_allclose(
            numbers(items["state"]),
            observations["state"][number],
            rtol=0.011,
            atol=2e-4,
        )
        # Half a bin of [-2, 2].
        np.testing.assert_allclose(
            numbers(items["aim"]), actions["aim"][number], atol=4 / 1024 / 2 + 1e-12
        )
        assert numbers(items["move"]) == actions["move"][number]
    assert segment.timesteps[-1].stop == length


def test_neighbouring_texts_come_back_as_one(tokenizer: TextTokenizer) -> None:
    spec = TaskSpec.model_validate(
        {
            "observations": [
                {"key": "hint", "kind": "text", "dtype": "str", "shape": []},
                {"key": "mission", "kind": "text", "dtype": "str", "shape": []},
            ],
            "actions": [{"key": "", "kind": "discrete", "shape": [], "num_values": 3}],
        }
    )
    part = dataclasses.replace(handmade.window(0, 0, 1), images=[])
    part.tokens, part.kind = [700, 701, 702, 33_024, 2], [1, 1, 1, 5, 6]
    part.local, part.mask = [0, 1, 2, -1, -1], [0, 1, 1, 0, 1]
    (segment,) = decode.decode_row(
        handmade.row("toy", part),
        specs={handmade.TASK: spec},
        tokenizer=tokenizer,
        vocabulary=tokenizer.vocabulary,
    )
    (item,) = segment.timesteps[0].observations
    assert item.key == "hint + mission"
    assert item.value == tokenizer.decode([700, 701, 702])


def test_documents_by_hand(tokenizer: TextTokenizer) -> None:
    row = handmade.row("pairs", handmade.pairs(0, 1), handmade.text("b/0#1", 9))
    pairs, text = decode_row(row, tokenizer)
    assert [part.kind for part in pairs.parts] == ["image", "text", "image", "text"]
    np.testing.assert_array_equal(
        pairs.parts[2].value,
        decode_stored(handmade.png(1, 32, 32), 32, 32, Encoding.PNG),
    )
    assert pairs.parts[3].value == tokenizer.decode([901, 901])
    assert pairs.parts[3].ended
    assert (pairs.parts[3].start, pairs.parts[3].stop) == (11, 14)
    assert len(text.parts) == 1
    assert text.parts[0].ended
    cut = handmade.text("b/0#0", 9)
    cut.tokens[-1] = 400
    (segment,) = decode_row(handmade.row("words", cut), tokenizer)
    assert not segment.parts[0].ended


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kind": (12, 4)}, "slots 12 to 13 should hold the separator"),
        ({"kind": (7, 3)}, "slots 7 to 10 should hold observation 'state'"),
        ({"kind": (15, 7)}, "slots 15 to 16 should hold action 'move'"),
        ({"tokens": (15, 9)}, "outside what their kind allows"),
        ({"tokens": (7, 40_000)}, "outside what their kind allows"),
        ({"tokens": (4, 40_000)}, "outside what their kind allows"),
    ],
)
def test_a_row_that_does_not_follow_its_spec_is_refused(
    tokenizer: TextTokenizer, changes: dict[str, tuple[int, int]], expected: str
) -> None:
    row = handmade.replaced(handmade.row("toy", handmade.window(0, 0, 2)), **changes)
    with pytest.raises(GatoError, match=expected):
        decode_row(row, tokenizer)


def test_damaged_provenance_and_images_are_refused(tokenizer: TextTokenizer) -> None:
    row = handmade.row("toy", handmade.window(0, 0, 2))
    other = [row.provenance[0] | {"task": "other"}]
    with pytest.raises(GatoError, match="task 'other' is not among the manifest's"):
        decode_row(dataclasses.replace(row, provenance=other), tokenizer)
    far = [row.provenance[0] | {"length": 1000}]
    with pytest.raises(GatoError, match="segment 1 says slots 0 to 1000 of a row"):
        decode_row(dataclasses.replace(row, provenance=far), tokenizer)
    with pytest.raises(GatoError, match="provenance lacks"):
        decode_row(dataclasses.replace(row, provenance=[{"start": 0}]), tokenizer)
    with pytest.raises(GatoError, match="a stored image must be"):
        decode_row(dataclasses.replace(row, images=(b"x", b"y")), tokenizer)
    none = np.zeros((0, 4), np.int32)
    with pytest.raises(GatoError, match="no image starts there"):
        decode_row(dataclasses.replace(row, image_info=none), tokenizer)

"""Timesteps against a plain, slow reading of the specification."""

import dataclasses
import hashlib
import pathlib
import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest
from episodes import dataset, episode, text_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from image_files import RGB, RGBA, png

from gato.schemas.episode import Space
from gato.schemas.errors import QuarantineError, Reason
from gato.schemas.manifest import TaskSpec
from gato.schemas.record import Encoding, Kind
from gato.tokenizers.continuous import encode_observation
from gato.tokenizers.patches import decode_stored
from gato.tokenizers.text import TextTokenizer
from gato.tokenizers.timestep import TimestepTokenizer, TokenizedItem, infer_spec

FIRST, SEPARATOR = 32_000, 33_024
T = 4
RNG = np.random.default_rng(0)
MISSION = "go to the red ball"
UNIT = Space(low=-np.ones(2), high=np.ones(2))


def tokenizer_of(observed, acted, spaces=None, /, **options) -> TimestepTokenizer:
    config = dataset(**options)
    spec = infer_spec(episode(observed, acted, spaces), config)
    return TimestepTokenizer(spec, text_tokenizer(), clip=config.actions.clip)


def encode(observed, acted, spaces=None, /, **options) -> TokenizedItem:
    return tokenizer_of(observed, acted, spaces, **options).encode(observed, acted)


def refused(observed, acted, spaces=None, /, **options) -> QuarantineError:
    with pytest.raises(QuarantineError) as caught:
        encode(observed, acted, spaces, **options)
    return caught.value


FLOATS = {"state": np.zeros((T, 2))}
MOVES = {"move": np.arange(T)}


def test_one_timestep_by_hand():
    observations = {
        "state": np.array([[0.1, -256.0]]),
        "mission": ["hello world"],
        "grid": np.array([[[1, 2], [3, 4]]], np.uint8),
        "camera": np.zeros((1, 16, 32, 3), np.uint8),
    }
    actions = {"move": np.array([5]), "aim": np.array([[1.0, 0.5]])}
    item = encode(observations, actions, {"aim": UNIT})
    # camera, grid, mission, state; the separator; aim, move.
    expected = [0, 0, 1, 2, 3, 4, 6312, 28709, 1526, 32_632, 32_000]
    expected += [33_024, 33_023, 32_768, 5]
    assert item.tokens.tolist() == expected
    assert item.tokens.dtype == np.uint16
    assert item.kind.tolist() == [2, 2, 3, 3, 3, 3, 1, 1, 1, 4, 4, 5, 7, 7, 6]
    assert item.step_slots.tolist() == [15]
    assert item.image_info.tolist() == [[16, 32, Encoding.PNG]]
    assert item.reencoded == 0


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(
    st.integers(1, 5).flatmap(
        lambda steps: st.tuples(
            st.lists(TEXT, min_size=steps, max_size=steps),
            st.lists(TEXT, min_size=steps, max_size=steps),
            st.lists(st.integers(0, 1023), min_size=3 * steps, max_size=3 * steps),
        )
    )
)
def test_texts_of_any_length(case):
    first, second, numbers = case
    steps = len(first)
    grid = np.array(numbers).reshape(steps, 3)
    observations = {"b": grid, "a": first, "c": second}
    item = encode(observations, {"move": np.arange(steps)})
    tokens, kinds, slots = [], [], []
    for step in range(steps):
        a = text_tokenizer().encode(first[step]).tolist()
        c = text_tokenizer().encode(second[step]).tolist()
        tokens += [*a, *grid[step].tolist(), *c, SEPARATOR, step]
        kinds += [1] * len(a) + [3] * 3 + [1] * len(c) + [5, 6]
        slots.append(len(a) + 3 + len(c) + 2)
    assert item.tokens.tolist() == tokens
    assert item.kind.tolist() == kinds
    assert item.step_slots.tolist() == slots


def test_every_timestep_is_there():
    # Mistake 10: the last step of every episode dropped.
    item = encode(FLOATS, MOVES)
    assert (item.tokens == SEPARATOR).sum() == T
    assert item.tokens.reshape(T, -1)[:, -1].tolist() == [0, 1, 2, 3]


def test_role_and_not_value_decides():
    # Mistake 3: mu-law on actions.
    values = np.array([[0.5, -0.25]])
    tokens = encode({"state": values}, {"aim": values}, {"aim": UNIT}).tokens
    assert tokens[:2].tolist() == (FIRST + encode_observation(values[0])).tolist()
    assert tokens[3:].tolist() == [FIRST + 768, FIRST + 384]


def test_every_id_lies_in_its_range():
    # Mistakes 1 and 2: saturated values overflow into the next range.
    values = np.array([[1e9, -1e9, 256.0, np.finfo(float).max]])
    item = encode({"state": values}, {"aim": np.array([[1.0, -1.0]])}, {"aim": UNIT})
    ids = item.tokens[item.kind != Kind.SEPARATOR]
    assert ids.min() >= FIRST
    assert ids.max() < SEPARATOR


@pytest.mark.parametrize(
    "column",
    [
        [MISSION] * T,
        [MISSION.encode()] * T,
        np.array([MISSION] * T),
        np.array([MISSION.encode()] * T, "S40"),
        np.array([MISSION] * T, object),
        [MISSION.encode() + b"\0\0"] * T,
        ["\ufeff" + MISSION] * T,
    ],
)
def test_texts_are_encoded_alike_however_they_are_stored(column):
    item = encode({"mission": column}, MOVES)
    steps = item.tokens.reshape(T, -1)
    ids = text_tokenizer().encode(MISSION).tolist()
    assert steps[:, : len(ids)].tolist() == [ids] * T


def test_empty_texts():
    item = encode({"mission": [""] * T}, MOVES)
    assert item.step_slots.tolist() == [2] * T


def test_each_distinct_text_is_encoded_once(monkeypatch):
    seen = []
    original = TextTokenizer.encode

    def counting(self, text):
        seen.append(text)
        return original(self, text)

    monkeypatch.setattr(TextTokenizer, "encode", counting)
    encode({"mission": ["a", "b", "a", "a"]}, MOVES)
    assert seen == ["a", "b"]


def test_text_that_is_not_utf8():
    assert refused({"m": [b"\xff"] * T}, MOVES).reason == Reason.NOT_UTF8


def test_images_follow_the_slots():
    left = RNG.integers(0, 256, (T, 16, 16, 3), np.uint8)
    right = RNG.integers(0, 256, (T, 20, 30, 1), np.uint8)
    item = encode({"right": right, "left": left}, MOVES)
    assert item.step_slots.tolist() == [1 + 4 + 2] * T
    assert item.image_info.tolist() == [[16, 16, 1], [32, 32, 1]] * T
    for step in range(T):
        pixels = decode_stored(item.images[2 * step], 16, 16, Encoding.PNG)
        np.testing.assert_array_equal(pixels, left[step])
        pixels = decode_stored(item.images[2 * step + 1], 32, 32, Encoding.PNG)
        np.testing.assert_array_equal(pixels[:20, :30], right[step].repeat(3, -1))
        assert not pixels[20:].any()
        assert not pixels[:, 30:].any()


def test_grey_frames_without_channels():
    frames = RNG.integers(0, 256, (T, 84, 84), np.uint8)
    rule = {"kinds": {"screen": "image"}}
    item = encode({"screen": frames}, MOVES, observations=rule)
    assert item.step_slots.tolist() == [36 + 2] * T
    pixels = decode_stored(item.images[1], 96, 96, Encoding.PNG)
    np.testing.assert_array_equal(pixels[:84, :84, 2], frames[1])


def test_encoded_images_are_kept_or_counted():
    frames = RNG.integers(0, 256, (2, 16, 32, 4), np.uint8)
    files = [png(frames[0][..., :3], RGB), png(frames[1], RGBA)]
    item = encode({"x": files}, {"move": np.zeros(2, int)}, image={"encoding": "keep"})
    assert item.images[0] == files[0]
    assert item.reencoded == 1
    item = encode({"x": frames}, {"move": np.zeros(2, int)}, image={"encoding": "raw"})
    assert (
        item.images[0]
        == decode_stored(*[item.images[0], 16, 32, Encoding.RAW]).tobytes()
    )
    assert item.image_info.tolist() == [[16, 32, 0]] * 2


def test_encoded_image_of_another_size():
    files = [png(np.zeros((side, 16, 3), np.uint8), RGB) for side in (16, 32)]
    error = refused({"x": files}, {"move": np.zeros(2, int)})
    assert error.reason == Reason.WRONG_SHAPE


def test_text_among_encoded_images():
    files = [png(np.zeros((16, 16, 3), np.uint8), RGB), "a"]
    error = refused({"x": files}, {"move": np.zeros(2, int)})
    assert error.reason == Reason.WRONG_DTYPE


def test_resized_frames():
    frames = RNG.integers(0, 256, (T, 64, 64, 3), np.uint8)
    item = encode({"x": frames}, MOVES, image={"resize": [32, 16]})
    assert item.step_slots.tolist() == [2 + 2] * T
    expected = cv2.resize(frames[0], (16, 32), interpolation=cv2.INTER_AREA)
    pixels = decode_stored(item.images[0], 32, 16, Encoding.PNG)
    np.testing.assert_array_equal(pixels, expected)


def test_action_ranges_and_decoding():
    actions = {
        "aim": np.array([[-2.0, 10.0]] * T),
        "free": np.zeros((T, 1)),
        "move": np.zeros((T, 2), int),
        "wide": np.zeros(T, int),
    }
    box = Space(low=np.array([-2.0, 0.0]), high=np.array([2.0, 10.0]))
    spaces = {"aim": box, "move": Space(num_values=7), "wide": Space(num_values=5000)}
    tokenizer = tokenizer_of(FLOATS, actions, spaces)
    bins = [FIRST, SEPARATOR]
    expected = [bins, bins, bins, [0, 7], [0, 7], [0, 1024]]
    assert tokenizer.action_ranges().tolist() == expected
    assert tokenizer.action_ranges().dtype == np.int32

    tokens = tokenizer.encode(FLOATS, actions).tokens.reshape(T, -1)[:, -6:]
    decoded = tokenizer.decode_actions(tokens)
    assert list(decoded) == ["aim", "free", "move", "wide"]
    assert decoded["aim"].shape == (T, 2)
    half_bin = np.array([4.0, 10.0]) / 2048
    np.testing.assert_allclose(
        decoded["aim"], actions["aim"] + half_bin * [1, -1], atol=1e-12
    )
    assert decoded["free"].tolist() == [[1 / 1024]] * T
    np.testing.assert_array_equal(decoded["move"], actions["move"])
    assert decoded["wide"].shape == (T,)
    assert tokenizer.decode_actions(tokens[0])["wide"].shape == ()


@given(st.lists(st.integers(0, 1023), min_size=6, max_size=6))
def test_actions_survive_decoding_and_encoding(bins):
    actions = {"aim": np.zeros((1, 2, 3))}
    space = Space(low=np.full((2, 3), -0.7), high=np.full((2, 3), 0.4))
    observations = {"state": np.zeros((1, 1))}
    tokenizer = tokenizer_of(observations, actions, {"aim": space})
    tokens = np.array([bins]) + FIRST
    decoded = tokenizer.decode_actions(tokens)
    assert decoded["aim"].shape == (1, 2, 3)
    again = tokenizer.encode(observations, decoded).tokens[-6:]
    assert again.tolist() == tokens[0].tolist()


@pytest.mark.parametrize("tokens", [[FIRST - 1], [SEPARATOR], [FIRST, FIRST]])
def test_decoding_what_is_no_action(tokens):
    tokenizer = tokenizer_of(FLOATS, {"aim": np.zeros((T, 1))})
    with pytest.raises(ValueError, match="action token"):
        tokenizer.decode_actions(np.array(tokens))


def test_scaled_actions():
    aim = np.array([[-2.0, 5.0], [2.0, 0.0]])
    box = Space(low=np.array([-2.0, 0.0]), high=np.array([2.0, 10.0]))
    observations = {"state": np.zeros((2, 1))}
    item = encode(observations, {"aim": aim}, {"aim": box})
    steps = item.tokens.reshape(2, -1)[:, 2:]
    assert (steps - FIRST).tolist() == [[0, 512], [1023, 0]]


def test_unclipped_actions_are_quarantined_or_clipped():
    # Mistake 16: some published sets hold actions up to -19.8.
    aim = {"aim": np.array([[0.5, -19.8]] * T)}
    error = refused(FLOATS, aim)
    assert error.reason == Reason.ACTION_OUT_OF_RANGE
    assert "action 'aim'" in error.detail
    assert "(0, 1)" in error.detail
    item = encode(FLOATS, aim, actions={"clip": True})
    assert item.tokens[-2:].tolist() == [FIRST + 768, FIRST]
    scale = {"clip": True, "scale": [[-4, -4], [4, 4]]}
    item = encode(FLOATS, aim, actions=scale)
    assert item.tokens[-2:].tolist() == [FIRST + 576, FIRST]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("scale", ["none", [[-4], [4]]])
def test_nonfinite_is_never_clipped_into_range(value, clip, scale):
    # Mistake 7: NaN becomes the largest action.
    aim = {"aim": np.array([[0.0], [0.0], [value], [0.0]])}
    error = refused(FLOATS, aim, actions={"clip": clip, "scale": scale})
    assert error.reason == Reason.NONFINITE
    error = refused({"state": aim["aim"]}, MOVES)
    assert error.reason == Reason.NONFINITE
    assert "observation 'state'" in error.detail
    assert "(2, 0)" in error.detail


def test_discrete_values_out_of_range():
    for column in ([0, 1, 2, 1024], [-1, 0, 0, 0]):
        error = refused({"x": np.array(column)}, MOVES)
        assert error.reason == Reason.DISCRETE_OUT_OF_RANGE
        assert refused(FLOATS, {"move": np.array(column)}).reason == error.reason
        clipped = refused(FLOATS, {"move": np.array(column)}, actions={"clip": True})
        assert clipped.reason == error.reason
    error = refused(FLOATS, MOVES, {"move": Space(num_values=3)})
    assert error.reason == Reason.DISCRETE_OUT_OF_RANGE


@pytest.mark.parametrize(
    ("observations", "actions", "reason"),
    [
        ({}, MOVES, Reason.MISSING_FIELD),
        (FLOATS, {}, Reason.MISSING_FIELD),
        ({"state": np.zeros((T, 3))}, MOVES, Reason.WRONG_SHAPE),
        ({"state": np.zeros(T)}, MOVES, Reason.WRONG_SHAPE),
        ({"state": np.zeros((T - 1, 2))}, MOVES, Reason.WRONG_SHAPE),
        ({"state": np.zeros((T, 2), int)}, MOVES, Reason.WRONG_DTYPE),
        ({"state": ["a"] * T}, MOVES, Reason.WRONG_DTYPE),
        (FLOATS, {"move": np.zeros(T)}, Reason.WRONG_DTYPE),
        (FLOATS, {"move": np.zeros((T, 1), int)}, Reason.WRONG_SHAPE),
        ({"state": np.zeros((0, 2))}, {"move": np.zeros(0, int)}, Reason.EMPTY),
    ],
)
def test_what_is_not_the_specs_is_quarantined(observations, actions, reason):
    tokenizer = tokenizer_of(FLOATS, MOVES)
    with pytest.raises(QuarantineError) as caught:
        tokenizer.encode(observations, actions)
    assert caught.value.reason == reason


def test_numbers_where_texts_were():
    tokenizer = tokenizer_of({"m": ["a"] * T}, MOVES)
    columns: list[Any] = [np.zeros(T), np.zeros((T, 2)), [None] * T]
    for column in columns:
        with pytest.raises(QuarantineError) as caught:
            tokenizer.encode({"m": column}, MOVES)
        assert caught.value.reason == Reason.WRONG_DTYPE


def test_pixels_of_another_type():
    tokenizer = tokenizer_of({"x": np.zeros((T, 16, 16, 3), np.uint8)}, MOVES)
    for column in (np.zeros((T, 16, 16, 3), int), np.zeros((T, 16, 16, 3)), ["a"] * T):
        with pytest.raises(QuarantineError) as caught:
            tokenizer.encode({"x": column}, MOVES)
        assert caught.value.reason == Reason.WRONG_DTYPE


def test_policy_sees_the_builders_ids():
    observations = {
        "mission": ["a", "b c d", "a", ""],
        "camera": RNG.integers(0, 256, (T, 20, 20, 3), np.uint8),
        "state": RNG.normal(size=(T, 3)).astype(np.float32),
    }
    tokenizer = tokenizer_of(observations, MOVES)
    built = tokenizer.encode(observations, MOVES)
    starts = np.cumsum(built.step_slots) - built.step_slots
    for step in range(T):
        now = {key: column[step : step + 1] for key, column in observations.items()}
        seen = tokenizer.encode_observations(now)
        span = slice(starts[step], starts[step] + built.step_slots[step] - 2)
        np.testing.assert_array_equal(seen.tokens, built.tokens[span])
        np.testing.assert_array_equal(seen.kind, built.kind[span])
        assert seen.images == built.images[step : step + 1]
        np.testing.assert_array_equal(
            seen.image_info, built.image_info[step : step + 1]
        )


def test_spec_survives_the_manifest():
    actions = {"aim": np.array([[0.1, 0.3]] * T)}
    box = Space(low=np.array([-0.4, 0.1]), high=np.array([0.4, 0.7]))
    tokenizer = tokenizer_of(FLOATS, actions, {"aim": box})
    spec = TaskSpec.model_validate_json(tokenizer.spec.model_dump_json())
    again = TimestepTokenizer(spec, text_tokenizer())
    np.testing.assert_array_equal(
        again.encode(FLOATS, actions).tokens, tokenizer.encode(FLOATS, actions).tokens
    )


def test_content_hash_is_of_tokens_and_images():
    item = encode(FLOATS, MOVES)
    expected = hashlib.blake2b(item.tokens.astype("<u2").tobytes(), digest_size=16)
    assert item.content_hash == expected.hexdigest()
    frames = RNG.integers(0, 256, (T, 16, 16, 3), np.uint8)
    seen = {encode({"x": f}, MOVES).content_hash for f in (frames, frames + 1, frames)}
    assert len(seen) == 2


def test_larger_vocabulary_takes_int32():
    large = object.__new__(TextTokenizer)  # copying gives the one shared instance
    vars(large).update(vars(text_tokenizer()))
    large.vocabulary = dataclasses.replace(large.vocabulary, text=70_000)
    spec = infer_spec(episode(FLOATS, MOVES), dataset())
    tokenizer = TimestepTokenizer(spec, large)
    item = tokenizer.encode(FLOATS, MOVES)
    assert item.tokens.dtype == np.int32
    assert item.tokens[:4].tolist() == [70_512, 70_512, 71_024, 0]


_HASH_SCRIPT = """
import numpy as np
from gato.schemas.config import Dataset
from gato.tokenizers.timestep import TimestepTokenizer, infer_spec
from episodes import dataset, episode, text_tokenizer
columns = {"m": ["b", "a"], "k": np.eye(2), "i": np.eye(2, dtype=int)}
actions = {"z": np.eye(2), "a": np.arange(2)}
spec = infer_spec(episode(columns, actions), dataset())
item = TimestepTokenizer(spec, text_tokenizer()).encode(columns, actions)
print(item.content_hash)
"""


@pytest.mark.slow
def test_result_does_not_depend_on_pythons_hash():
    # Mistake 18.
    support = pathlib.Path(__file__).parents[1] / "support"
    found = {
        subprocess.run(
            [sys.executable, "-c", _HASH_SCRIPT],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(support)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1

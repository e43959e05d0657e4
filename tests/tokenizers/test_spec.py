"""Specs inferred from an episode, and configs that ask for what is not there."""

import numpy as np
import pytest
from episodes import dataset, episode
from image_files import GREY, png

from gato.schemas.episode import Space
from gato.schemas.errors import QuarantineError, Reason, UsageError
from gato.tokenizers.spec import infer_spec

T = 3
ACTIONS = {"action": np.zeros(T, np.int64)}
FLOATS = {"state": np.zeros((T, 2))}


def observed(column, **options):
    """The spec of one observation."""
    spec = infer_spec(episode({"x": column}, ACTIONS), dataset(**options))
    return spec.observations[0]


def acted(column, space=None, **actions):
    """The spec of one action."""
    spaces = {"action": space} if space else {}
    found = infer_spec(
        episode(FLOATS, {"action": column}, spaces), dataset(actions=actions)
    )
    return found.actions[0]


@pytest.mark.parametrize(
    ("column", "kind", "dtype", "shape"),
    [
        (["a"] * T, "text", "str", ()),
        ([b"a"] * T, "text", "str", ()),
        (np.array(["a"] * T), "text", "str", ()),
        (np.array([b"a"] * T), "text", "str", ()),
        (np.array(["a"] * T, object), "text", "str", ()),
        (np.zeros((T, 16, 16, 3), np.uint8), "image", "uint8", (16, 16, 3)),
        (np.zeros((T, 20, 16, 1), np.uint8), "image", "uint8", (20, 16, 1)),
        (np.zeros((T, 20, 16, 4), np.uint8), "image", "uint8", (20, 16, 4)),
        (np.zeros((T, 7, 7, 3), np.uint8), "discrete", "uint8", (7, 7, 3)),
        (np.zeros((T, 15, 99, 3), np.uint8), "discrete", "uint8", (15, 99, 3)),
        (np.zeros((T, 16, 16, 2), np.uint8), "discrete", "uint8", (16, 16, 2)),
        (np.zeros((T, 16, 16), np.uint8), "discrete", "uint8", (16, 16)),
        (np.zeros((T, 16, 16, 3), np.int32), "discrete", "int32", (16, 16, 3)),
        (np.zeros(T, bool), "discrete", "bool", ()),
        (np.zeros((T, 39)), "continuous", "float64", (39,)),
        (np.zeros((T, 2, 2), np.float32), "continuous", "float32", (2, 2)),
        ([png(np.zeros((9, 30), np.uint8), GREY)] * T, "image", "uint8", (9, 30, 3)),
    ],
)
def test_inferred_kind(column, kind, dtype, shape):
    spec = observed(column)
    assert (spec.kind, spec.dtype, spec.shape) == (kind, dtype, shape)
    assert (spec.image is not None) == (kind == "image")


def image_rule(**options):
    """The image rule of 300 x 250 frames."""
    rule = observed(np.zeros((T, 300, 250, 3), np.uint8), image=options).image
    assert rule is not None
    return rule


def test_control_images_keep_their_size_and_pad():
    rule = image_rule()
    assert rule.model_dump() == {
        "height": 304,
        "width": 256,
        "resize": None,
        "encoding": "png",
    }
    rule = image_rule(resize=[64, 80], encoding="jpeg")
    assert (rule.height, rule.width, rule.resize) == (64, 80, (64, 80))
    rule = image_rule(max_patches=16)
    assert (rule.height // 16) * (rule.width // 16) <= 16


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (np.zeros((T, 16, 16, 3), np.uint8), "discrete"),
        (np.zeros((T, 16, 16, 3), np.uint8), "continuous"),
        (np.zeros((T, 84, 84), np.uint8), "image"),
        (np.zeros((T, 7, 7, 3), np.uint8), "image"),
        (np.zeros(T, np.int64), "continuous"),
        (["a"] * T, "text"),
    ],
)
def test_override(column, kind):
    spec = observed(column, observations={"kinds": {"x": kind}})
    assert spec.kind == kind
    assert (spec.image is not None) == (kind == "image")


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (np.zeros(T), "discrete"),
        (np.zeros((T, 16, 16, 3)), "image"),
        (np.zeros((T, 16, 16, 2), np.uint8), "image"),
        (np.zeros((T, 16, 16, 3), np.uint8), "text"),
        (["a"] * T, "discrete"),
        (["a"] * T, "image"),
    ],
)
def test_override_that_does_not_fit_is_a_usage_error(column, kind):
    with pytest.raises(UsageError, match=f"'x' is {kind}"):
        observed(column, observations={"kinds": {"x": kind}})


def test_items_stand_in_lexicographic_order():
    columns = dict.fromkeys(["b", "a/b", "a", "B", "a0", "é"], np.zeros(T))
    spec = infer_spec(episode(columns, columns), dataset())
    expected = ["B", "a", "a/b", "a0", "b", "é"]
    assert [item.key for item in spec.observations] == expected
    assert [item.key for item in spec.actions] == expected


def test_include_and_exclude():
    columns = dict.fromkeys(["arm/pos", "arm/vel", "camera"], np.zeros(T))
    rule = {"include": ["arm/*"], "exclude": ["*/vel"]}
    spec = infer_spec(episode(columns, ACTIONS), dataset(observations=rule))
    assert [item.key for item in spec.observations] == ["arm/pos"]


def test_nothing_to_observe_or_do():
    for columns, actions, options in (
        (FLOATS, {}, {}),
        ({}, ACTIONS, {}),
        (FLOATS, ACTIONS, {"observations": {"exclude": ["*"]}}),
    ):
        with pytest.raises(QuarantineError) as caught:
            infer_spec(episode(columns, actions), dataset(**options))
        assert caught.value.reason == Reason.MISSING_FIELD


@pytest.mark.parametrize("column", [np.zeros((T, 2), complex), np.array([None] * T)])
def test_neither_number_nor_text(column):
    with pytest.raises(QuarantineError, match="observation 'x'") as caught:
        observed(column)
    assert caught.value.reason == Reason.WRONG_DTYPE


def test_no_texts():
    with pytest.raises(QuarantineError) as caught:
        observed([])
    assert caught.value.reason == Reason.EMPTY


def test_actions_are_numbers():
    with pytest.raises(QuarantineError) as caught:
        acted(["left"] * T)
    assert caught.value.reason == Reason.UNSUPPORTED


def test_discrete_actions():
    spec = acted(np.zeros((T, 2), np.int64), Space(num_values=7))
    assert (spec.kind, spec.num_values, spec.scale) == ("discrete", 7, None)
    assert acted(np.zeros(T, np.int64)).num_values is None
    assert acted(np.zeros(T, bool)).num_values == 2
    # Integer actions are never scaled.
    space = Space(low=np.array([0.0]), high=np.array([9.0]))
    assert acted(np.zeros((T, 1), np.int64), space, scale="space").low is None


def box(low, high):
    return Space(low=np.array(low, float), high=np.array(high, float))


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (box([-2, 0], [2, 1]), ((-2.0, 0.0), (2.0, 1.0))),
        (box([-1, -1], [1, 2]), ((-1.0, -1.0), (1.0, 2.0))),
        (box(-2, 2), ((-2.0, -2.0), (2.0, 2.0))),
        (box([-1, -1], [1, 1]), None),
        (box([-np.inf, 0], [1, 1]), None),
        (box([0, 0], [np.nan, 1]), None),
        (box([0, 0], [0, 1]), None),
        (box([-1.7e308, 0], [1.7e308, 1]), None),
        (None, None),
    ],
)
def test_auto_scale(space, expected):
    spec = acted(np.zeros((T, 2)), space)
    assert spec.scale == ("none" if expected is None else "space")
    assert ((spec.low, spec.high) if expected else None) == expected
    assert acted(np.zeros((T, 2)), space, scale="none").low is None


def test_space_scale_records_even_unit_bounds():
    spec = acted(np.zeros((T, 2)), box([-1, -1], [1, 1]), scale="space")
    assert (spec.scale, spec.low, spec.high) == ("space", (-1, -1), (1, 1))


@pytest.mark.parametrize("space", [None, box([-np.inf] * 2, [np.inf] * 2), box(0, 0)])
def test_space_scale_without_finite_bounds(space):
    with pytest.raises(UsageError, match="no finite bounds"):
        acted(np.zeros((T, 2)), space, scale="space")


def test_bounds_of_another_shape():
    with pytest.raises(QuarantineError) as caught:
        acted(np.zeros((T, 2)), box([0] * 3, [1] * 3))
    assert caught.value.reason == Reason.WRONG_SHAPE


def test_explicit_bounds_are_row_major_over_items_in_order():
    columns = {"b": np.zeros((T, 1)), "a": np.zeros((T, 2)), "n": np.zeros(T, int)}
    scale = [[-1, -2, -3], [1, 2, 3]]
    spec = infer_spec(episode(FLOATS, columns), dataset(actions={"scale": scale}))
    assert [(item.low, item.high) for item in spec.actions] == [
        ((-1, -2), (1, 2)),
        ((-3,), (3,)),
        (None, None),
    ]


def test_explicit_bounds_that_do_not_fit():
    with pytest.raises(UsageError, match=r"gives 1 bounds.* 2 dimensions"):
        acted(np.zeros((T, 2)), scale=[[-1], [1]])

"""Scaled actions: exact rational arithmetic decides, and the ends belong inside."""

import fractions
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gato.schemas.errors import QuarantineError, Reason
from gato.tokenizers import continuous
from gato.tokenizers.action_scale import ActionScale

BOUND = st.floats(-1e3, 1e3)


@given(BOUND, BOUND, st.floats(0, 1))
def test_bins_are_exact(low, high, place):
    assume(high - low > 1e-3)
    value = min(max(low + place * (high - low), low), high)
    span = fractions.Fraction(high) - fractions.Fraction(low)
    exact = (fractions.Fraction(value) - fractions.Fraction(low)) / span
    expected = min(1023, math.floor(exact * 1024))
    scale = ActionScale((low,), (high,))
    assert scale.encode(np.array([[value]])).tolist() == [[expected]]


@pytest.mark.parametrize(
    ("value", "bound", "expected"),
    [
        # Scales to 0.375, the lower border of bin 704, though it lies below that.
        (0.15, 0.4, 703),
        # Scales to below 0.5, the lower border of bin 768, though it lies on that.
        (0.35, 0.7, 768),
    ],
)
def test_rounding_of_the_scaling_decides_nothing(value, bound, expected):
    scaled = 2 * ((value + bound) / (bound + bound)) - 1
    assert continuous.encode_action(np.array([scaled])) != expected
    scale = ActionScale((-bound,), (bound,))
    assert scale.encode(np.array([[value]])).tolist() == [[expected]]


def test_ends_tolerance_and_dimensions():
    scale = ActionScale((-2.0, 0.0), (2.0, 10.0))
    values = np.array([[-2.0, 10.0], [2.0, 0.0], [0.0, 5.0], [2.001, -0.004]])
    expected = [[0, 1023], [1023, 0], [512, 512], [1023, 0]]
    assert scale.encode(values).tolist() == expected
    with pytest.raises(QuarantineError) as caught:
        scale.encode(np.array([[0.0, 10.02]]))
    assert caught.value.reason == Reason.ACTION_OUT_OF_RANGE


def test_all_bins_decode_into_themselves():
    scale = ActionScale((-0.7, 3.0), (0.1, 4.0))
    bins = np.stack([np.arange(1024)] * 2, axis=1)
    decoded = scale.decode(bins)
    np.testing.assert_array_equal(scale.encode(decoded), bins)
    assert decoded[0].tolist() == pytest.approx([-0.7 + 0.8 / 2048, 3 + 1 / 2048])


def test_clip():
    scale = ActionScale((-2.0, 0.0), (2.0, 10.0))
    clipped = scale.clip(np.array([[-19.8, 11.0]]))
    assert clipped.tolist() == [[-2.0, 10.0]]


def test_overflow_is_out_of_range_not_a_warning():
    with pytest.raises(QuarantineError):
        ActionScale((0.0,), (1e-300,)).encode(np.array([[1e300]]))

"""Bins of observations and actions against exact arithmetic, and the laws between."""

import decimal
import fractions
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gato.schemas.errors import QuarantineError, Reason
from gato.tokenizers import continuous

CONTEXT = decimal.Context(prec=60)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
ALL_BINS = np.arange(1024)


def exact_bin(value: float) -> int:
    """The specification's formula in 60 digits."""
    scaled = CONTEXT.multiply(decimal.Decimal(100), abs(decimal.Decimal(value)))
    magnitude = CONTEXT.add(scaled, decimal.Decimal(1))
    squashed = CONTEXT.divide(CONTEXT.ln(magnitude), CONTEXT.ln(decimal.Decimal(25601)))
    squashed = min(squashed, decimal.Decimal(1)) * (1 if value >= 0 else -1)
    place = CONTEXT.multiply(CONTEXT.add(squashed, decimal.Decimal(1)), 512)
    return min(1023, math.floor(place))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.001, 516),
        (0.01, 546),
        (0.1, 632),
        (1, 744),
        (10, 860),
        (100, 976),
        (256, 1023),
        (0, 512),
        (-0.0, 512),
        (5e-324, 512),
        (-5e-324, 511),
        (-256, 0),
        (1e308, 1023),
        (-1e308, 0),
    ],
)
def test_values_of_the_specification(value, expected):
    assert continuous.encode_observation(np.array([value])).tolist() == [expected]
    assert exact_bin(float(value)) == expected or abs(value) < 1e-300


@given(FINITE | st.floats(-300, 300) | st.floats(-0.01, 0.01))
def test_observation_bins_are_exact(value):
    if 0 < abs(value) < 1e-50:  # 60 digits cannot tell these from zero
        expected = 512 if value > 0 else 511
    else:
        expected = exact_bin(value)
    assert continuous.encode_observation(np.array([value]))[0] == expected


def test_observation_bins_are_exact_beside_every_border():
    borders = continuous.positive_thresholds()
    assert borders.shape == (511,)
    near = np.concatenate(
        [np.nextafter(borders, -np.inf), borders, np.nextafter(borders, np.inf)]
    )
    near = np.concatenate([near, -near])
    expected = [exact_bin(value) for value in near.tolist()]
    assert continuous.encode_observation(near).tolist() == expected


@given(st.lists(FINITE, min_size=2, max_size=20).map(sorted))
def test_observation_order_is_kept(values):
    assert (np.diff(continuous.encode_observation(np.array(values))) >= 0).all()


@given(FINITE.filter(bool))
def test_observation_bins_mirror(value):
    both = continuous.encode_observation(np.array([value, -value]))
    assert both.sum() == 1023


@given(hnp.arrays(np.float32, 7, elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_narrow_floats_bin_as_float64(values):
    wide = continuous.encode_observation(values.astype(np.float64))
    np.testing.assert_array_equal(continuous.encode_observation(values), wide)


def test_bin_of_a_value_does_not_depend_on_its_company():
    # Mistake 5: bins from the minimum and maximum of each call.
    rng = np.random.default_rng(0)
    values = rng.normal(size=40_000) * 10 ** rng.uniform(-4, 3, 40_000)
    together = continuous.encode_observation(values)
    alone = [continuous.encode_observation(values[i : i + 1])[0] for i in range(50)]
    assert together[:50].tolist() == alone
    matrix = values.reshape(200, 200)
    np.testing.assert_array_equal(
        continuous.encode_observation(matrix.T), together.reshape(200, 200).T
    )


def test_input_is_not_changed():
    values = np.array([-3.0, 0.5])
    continuous.encode_observation(values)
    continuous.encode_action(values / 4)
    assert values.tolist() == [-3.0, 0.5]


def test_every_bin_decodes_into_itself():
    decoded = continuous.decode_observation(ALL_BINS)
    np.testing.assert_array_equal(continuous.encode_observation(decoded), ALL_BINS)
    decoded = continuous.decode_action(ALL_BINS)
    np.testing.assert_array_equal(continuous.encode_action(decoded), ALL_BINS)


@given(st.floats(-255, 255))
def test_observation_round_trip_is_bounded(value):
    decoded = continuous.decode_observation(
        continuous.encode_observation(np.array([value]))
    )
    # Half a bin of width ln(25601) / 512 in ln(100|x| + 1).
    assert abs(decoded[0] - value) <= 0.01 * (abs(value) + 0.01) * 1.01


def test_decodes_to_the_centre_not_the_lower_edge():
    # Mistake 4.
    assert continuous.decode_action(np.array([0, 512])).tolist() == [
        1 / 1024 - 1,
        1 / 1024,
    ]
    for number in (0, 300, 511, 512, 700, 1023):
        y = (2 * number + 1) / 1024 - 1
        expected = math.copysign((25601 ** abs(y) - 1) / 100, y)
        found = continuous.decode_observation(np.array([number]))[0]
        assert found == pytest.approx(expected, rel=1e-12)


def test_saturated_action_is_the_last_bin():
    # Mistake 1: y = +1 -> bin 1024.
    assert continuous.encode_action(np.array([1.0, -1.0])).tolist() == [1023, 0]
    assert continuous.encode_observation(np.array([256.0])).tolist() == [1023]


def test_large_observations_are_clipped_after_the_mu_law():
    # Mistake 2.
    values = np.array([257.0, 1e6, -1e6])
    assert continuous.encode_observation(values).tolist() == [1023, 1023, 0]


def test_actions_are_not_mu_law_encoded():
    # Mistake 3: 0.5 squashed would be bin 706.
    assert continuous.encode_action(np.array([0.5])).tolist() == [768]


@given(st.floats(-1, 1))
def test_action_bins_are_exact(value):
    expected = min(1023, math.floor((fractions.Fraction(value) + 1) * 512))
    assert continuous.encode_action(np.array([value])).tolist() == [expected]


def test_tiny_negative_action_is_below_the_middle():
    # (y + 1) would round to 1.
    assert continuous.encode_action(np.array([-1e-20])).tolist() == [511]


@pytest.mark.parametrize(
    "encode", [continuous.encode_observation, continuous.encode_action]
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nonfinite_is_quarantined_with_its_place(encode, value, dtype):
    # Mistake 7: NaN becomes the largest action.
    values = np.zeros((4, 5), dtype)
    values[2, 3] = value
    with pytest.raises(QuarantineError, match=r"\(2, 3\)") as caught:
        encode(values)
    assert caught.value.reason == Reason.NONFINITE


def test_nonfinite_beyond_the_first_block():
    values = np.zeros(100_000)
    values[99_999] = np.nan
    with pytest.raises(QuarantineError, match="99999"):
        continuous.encode_observation(values)


def test_action_out_of_range():
    # Mistake 16: published sets hold actions up to -19.8.
    near = continuous.encode_action(np.array([1.001, -1.001]))
    assert near.tolist() == [1023, 0]
    for value in (1.0011, -1.0011, -19.8, 1e308):
        with pytest.raises(QuarantineError, match=r"index \(0,\)") as caught:
            continuous.encode_action(np.array([value]))
        assert caught.value.reason == Reason.ACTION_OUT_OF_RANGE


def test_integers_and_booleans_are_numbers_but_complex_is_not():
    assert continuous.encode_observation(np.array([1, 10])).tolist() == [744, 860]
    assert continuous.encode_observation(np.array([True])).tolist() == [744]
    with pytest.raises(QuarantineError) as caught:
        continuous.encode_observation(np.array([1j]))
    assert caught.value.reason == Reason.WRONG_DTYPE


def test_shapes_are_kept():
    assert continuous.encode_observation(np.zeros((0, 3))).shape == (0, 3)
    assert continuous.encode_observation(np.array(1.0)).shape == ()
    assert continuous.encode_action(np.zeros((2, 0, 3))).shape == (2, 0, 3)


@pytest.mark.parametrize(
    "decode", [continuous.decode_observation, continuous.decode_action]
)
@pytest.mark.parametrize("number", [-1, 1024, 32_000])
def test_ids_are_not_bins(decode, number):
    with pytest.raises(ValueError, match="first_continuous"):
        decode(np.array([number]))

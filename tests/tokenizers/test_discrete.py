"""Discrete values are their own ids, in [0, 1024), never shifted or wrapped."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gato.schemas.errors import QuarantineError, Reason
from gato.tokenizers import discrete

INTEGERS = hnp.integer_dtypes() | hnp.unsigned_integer_dtypes()


@given(
    hnp.arrays(
        INTEGERS, hnp.array_shapes(min_dims=0), elements=st.integers(0, 127), fill=None
    )
)
def test_every_integer_type_keeps_value_and_shape(values):
    ids = discrete.encode(values)
    assert ids.dtype == np.uint16
    np.testing.assert_array_equal(ids, values)
    np.testing.assert_array_equal(discrete.decode(ids), values)


def test_booleans_and_both_ends():
    np.testing.assert_array_equal(discrete.encode(np.array([True, False])), [1, 0])
    np.testing.assert_array_equal(discrete.encode(np.array([0, 1023])), [0, 1023])


@pytest.mark.parametrize("value", [-1, 1024, 2**40, -(2**62)])
def test_outside_is_quarantined_with_its_place(value):
    with pytest.raises(QuarantineError, match=rf"{value} at index \(1, 0\)") as caught:
        discrete.encode(np.array([[3], [value]]))
    assert caught.value.reason == Reason.DISCRETE_OUT_OF_RANGE


def test_largest_uint64_is_outside():
    with pytest.raises(QuarantineError):
        discrete.encode(np.array([2**64 - 1], np.uint64))


def test_own_limit():
    discrete.encode(np.array([6]), 7)
    with pytest.raises(QuarantineError, match=r"\[0, 7\), got 7"):
        discrete.encode(np.array([7]), 7)


def test_floats_are_not_discrete():
    with pytest.raises(QuarantineError) as caught:
        discrete.encode(np.array([1.0]))
    assert caught.value.reason == Reason.WRONG_DTYPE


def test_no_values():
    assert discrete.encode(np.zeros((0, 3), np.int64)).shape == (0, 3)

"""Continuous values to 1,024 bins and back (specification.md section 1).

Observations are mu-law squashed, `F(x) = sgn(x) ln(100|x| + 1) / ln(100*256 + 1)`, and
clipped to [-1, 1]; actions are not. Bin b of a squashed y is
`min(1023, floor((y + 1) / 2 * 1024))`.

No logarithm decides a bin: the last bits of NumPy's differ between CPUs. F is monotone,
so the bin of an observation is the number of exact thresholds at or below it, and these
are computed here once, in decimal arithmetic. A positive float's leading bits (exponent
and six of the fraction) name an interval of ratio at most 1 + 1/64, while neighbouring
thresholds differ by a ratio of 1.0200 or more: an interval holds at most one threshold,
so one table look-up and one comparison give the bin. Exact, and faster than a logarithm
(1.5 times) or a binary search (10 times).
"""

import decimal
import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gato.schemas.errors import QuarantineError, Reason
from gato.tokenizers.vocabulary import NUM_BINS

MU = 100
MAX_ABS = 256
# An action beyond [-1, 1] by at most this goes to the outermost bin.
ACTION_TOLERANCE = 1e-3

_HALF = NUM_BINS // 2
_FRACTION_BITS = 6
# Intervals below 2**-13 hold no threshold (the first is 0.0002), nor do those from
# 2**8 = 256 on.
_LOWEST_EXPONENT, _HIGHEST_EXPONENT = -13, 8
_DIGITS = 60
# Values handled at once, so that the intermediate arrays stay in the cache.
_BLOCK = 1 << 14


@functools.cache
def _inverse_mu_law() -> tuple[decimal.Decimal, ...]:
    """Returns |x| at F(x) = i / 1024 for i in 0..1024, to about 57 digits."""
    with decimal.localcontext(decimal.Context(prec=_DIGITS)):
        base = decimal.Decimal(MU * MAX_ABS + 1)
        ratio = (base.ln() / NUM_BINS).exp()
        power = decimal.Decimal(1)
        values = []
        for _ in range(NUM_BINS + 1):
            values.append((power - 1) / MU)
            power *= ratio
        return tuple(values)


def _at_or_above(value: decimal.Decimal) -> float:
    """Returns the smallest float64 that is not below `value`."""
    nearest = float(value)
    if decimal.Decimal(nearest) < value:
        return float(np.nextafter(nearest, np.inf))
    return nearest


@functools.cache
def positive_thresholds() -> NDArray[np.float64]:
    """Returns the lower borders of bins 513 to 1023, float64 [511].

    Each is the smallest float64 at or above the exact border, so that comparing a
    float64 with it decides as comparing with the exact border would. Bin 512 begins at
    0; bins below mirror those above, borders excepted: no float lies on one but 0.
    """
    borders = _inverse_mu_law()[2:NUM_BINS:2]
    return np.array([_at_or_above(border) for border in borders])


@functools.cache
def _observation_centres() -> NDArray[np.float64]:
    """Returns the inverse mu-law of all bins' centres, float64 [1024]."""
    centres = np.array([float(value) for value in _inverse_mu_law()[1:NUM_BINS:2]])
    return np.concatenate((-centres[::-1], centres))


class _Table(NamedTuple):
    """Intervals of a positive float64's leading bits.

    Attributes:
        shift: Trailing bits that do not name the interval.
        first: Leading bits of interval 0.
        below: int16 [intervals]; thresholds below the interval.
        threshold: float64 [intervals]; the one inside it, or infinity.
    """

    shift: int
    first: int
    below: NDArray[np.int16]
    threshold: NDArray[np.float64]


@functools.cache
def _table() -> _Table:
    shift = np.finfo(np.float64).nmant - _FRACTION_BITS
    ends = np.array([2.0**_LOWEST_EXPONENT, 2.0**_HIGHEST_EXPONENT])
    first, last = (ends.view(np.int64) >> shift).tolist()
    borders = np.arange(first, last + 2, dtype=np.int64) << shift
    thresholds = positive_thresholds()
    # Interval i is [borders[i], borders[i + 1]).
    counts = np.searchsorted(thresholds, borders.view(np.float64), side="right")
    padded = np.append(thresholds, np.inf)
    inside = np.where(counts[1:] > counts[:-1], padded[counts[:-1]], np.inf)
    return _Table(shift, first, counts[:-1].astype(np.int16), inside)


def _require_finite(values: NDArray[np.floating]) -> None:
    if not np.isfinite(values).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise QuarantineError(
            Reason.NONFINITE,
            f"continuous values are finite, got {values[index]} at index {index} of an"
            f" array of shape {values.shape}",
        )


def _require_numbers(values: NDArray[np.generic]) -> None:
    if values.dtype.kind not in "fiub":
        raise QuarantineError(
            Reason.WRONG_DTYPE, f"continuous values are numbers, got {values.dtype}"
        )


def to_float64(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Returns finite numbers as float64, uncopied where they are already.

    Raises:
        QuarantineError: NONFINITE with the index of the first, or WRONG_DTYPE.
    """
    values = np.asarray(values)
    _require_numbers(values)
    with np.errstate(over="ignore"):  # longdouble; infinity is refused next
        values = values.astype(np.float64, copy=False)
    _require_finite(values)
    return values


def _bin_block(values: NDArray[np.float64], table: _Table) -> NDArray[np.int16]:
    magnitude = np.abs(values)
    interval = magnitude.view(np.int64) >> table.shift
    interval -= table.first
    # mode="clip" sends magnitudes outside the table to its first and last interval.
    bins = table.below.take(interval, mode="clip")
    bins += magnitude >= table.threshold.take(interval, mode="clip")
    # m thresholds at or below |x|: bin 512 + m, or 511 - m = 512 + ~m below zero.
    bins ^= -(values < 0).astype(np.int16)
    bins += _HALF
    return bins


def encode_observation(values: NDArray[np.generic]) -> NDArray[np.int16]:
    """Returns the mu-law bin of each value, in the shape of `values`.

    Values beyond ±256 land in the outermost bins. The bin at zero is 0.0002 wide, which
    bounds the error of a round trip there; beyond it is about 1% of the magnitude.

    Args:
        values: Array[..., number], in the environment's own units.

    Returns:
        Array[..., int16] of bins in [0, 1024); the id is `first_continuous + bin`.

    Raises:
        QuarantineError: NONFINITE with the index of the first, or WRONG_DTYPE.

    >>> encode_observation(np.array([0.001, 1.0, 256.0, -1e9]))
    array([ 516,  744, 1023,    0], dtype=int16)
    """
    values = np.asarray(values)
    _require_numbers(values)
    flat = values.reshape(-1)
    table = _table()
    bins = np.empty(flat.size, np.int16)
    for start in range(0, flat.size, _BLOCK):
        with np.errstate(over="ignore"):  # longdouble; infinity is refused next
            block = flat[start : start + _BLOCK].astype(np.float64, copy=False)
        if not np.isfinite(block).all():
            to_float64(values)  # names the place in the whole array
        bins[start : start + _BLOCK] = _bin_block(block, table)
    return bins.reshape(values.shape)


def encode_action(values: NDArray[np.generic]) -> NDArray[np.int16]:
    """Returns the bin of each value in [-1, 1], in the shape of `values`.

    Args:
        values: Array[..., number]; beyond [-1, 1] by at most 0.001.

    Returns:
        Array[..., int16] of bins in [0, 1024); the id is `first_continuous + bin`.

    Raises:
        QuarantineError: NONFINITE, ACTION_OUT_OF_RANGE or WRONG_DTYPE.

    >>> encode_action(np.array([-1.0, 0.0, 1.0]))
    array([   0,  512, 1023], dtype=int16)
    """
    actions = to_float64(values)
    magnitude = np.abs(actions)
    if magnitude.size and magnitude.max() > 1 + ACTION_TOLERANCE:
        outside = np.argwhere(magnitude > 1 + ACTION_TOLERANCE)[0]
        index = tuple(int(i) for i in outside)
        raise QuarantineError(
            Reason.ACTION_OUT_OF_RANGE,
            f"actions lie in [-1, 1] after scaling, got {actions[index]} at index"
            f" {index}; actions.scale or actions.clip may be what this data set needs",
        )
    # A product with a power of two is exact, so the floor is; y + 1 would round.
    bins = np.floor(actions * _HALF) + _HALF
    return np.clip(bins, 0, NUM_BINS - 1).astype(np.int16)


def _require_bins(bins: NDArray[np.integer]) -> NDArray[np.integer]:
    bins = np.asarray(bins)
    if bins.size and (bins.min() < 0 or bins.max() >= NUM_BINS):
        raise ValueError(
            f"bins lie in [0, {NUM_BINS}), got {bins.min()} to {bins.max()}; was"
            " first_continuous subtracted from the ids?"
        )
    return bins


def decode_observation(bins: NDArray[np.integer]) -> NDArray[np.float64]:
    """Returns the inverse mu-law of each bin's centre, in the shape of `bins`.

    Raises:
        ValueError: If a bin is outside [0, 1024).

    >>> decode_observation(np.array([744])).round(3)
    array([0.994])
    """
    return _observation_centres()[_require_bins(bins)]


def decode_action(bins: NDArray[np.integer]) -> NDArray[np.float64]:
    """Returns each bin's centre `(2b + 1) / 1024 - 1`, in the shape of `bins`.

    Raises:
        ValueError: If a bin is outside [0, 1024).

    >>> decode_action(np.array([0, 1023]))
    array([-0.99902344,  0.99902344])
    """
    return (2.0 * _require_bins(bins) + 1) / NUM_BINS - 1

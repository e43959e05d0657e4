"""Actions with finite bounds to bins and back (specification.md section 1, `space`).

The bounds map affinely to [-1, 1]. Rounding in that map must not decide a bin (0.15
within ±0.4 lies below the border of bin 704, and scales to exactly 0.375 in float64),
so the bin is computed and then corrected by comparing the unscaled value with the exact
borders.
"""

import fractions
import functools

import numpy as np
from numpy.typing import NDArray

from gato.tokenizers import continuous
from gato.tokenizers.vocabulary import NUM_BINS


@functools.lru_cache(maxsize=256)
def borders(low: float, high: float) -> NDArray[np.float64]:
    """Returns the lower border of each bin and an upper end, float64 [1025].

    Border b is the smallest float64 at or above `low + (high - low) * b / 1024`; the
    first and the last are infinite, since the outermost bins take what lies beyond.
    """
    first, span = fractions.Fraction(low), fractions.Fraction(high)
    span -= first
    table = np.full(NUM_BINS + 1, np.inf)
    table[0] = -np.inf
    for number in range(1, NUM_BINS):
        exact = first + span * number / NUM_BINS
        nearest = float(exact)
        if fractions.Fraction(nearest) < exact:
            nearest = float(np.nextafter(nearest, np.inf))
        table[number] = nearest
    return table


class ActionScale:
    """Bounds of one action item, row-major."""

    def __init__(self, low: tuple[float, ...], high: tuple[float, ...]) -> None:
        """Prepares the borders.

        Args:
            low: Finite, one a dimension.
            high: Likewise, above `low`.
        """
        self._low, self._high = np.array(low), np.array(high)
        pairs = list(zip(low, high, strict=True))
        kinds = list(dict.fromkeys(pairs))
        self._borders = np.concatenate([borders(*pair) for pair in kinds])
        # Where each dimension's borders begin in the flat table.
        self._start = np.array([kinds.index(p) * (NUM_BINS + 1) for p in pairs])

    def clip(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns values [T, n] clipped to the bounds."""
        return np.clip(values, self._low, self._high)

    def encode(self, values: NDArray[np.float64]) -> NDArray[np.int16]:
        """Returns the bins of finite values [T, n].

        Raises:
            QuarantineError: ACTION_OUT_OF_RANGE beyond the bounds by more than 0.001 of
                half their distance.
        """
        with np.errstate(over="ignore"):  # an infinity is refused next
            scaled = 2 * ((values - self._low) / (self._high - self._low)) - 1
        bins = continuous.encode_action(scaled)
        # The estimate is off by one at most.
        at = self._start + bins
        bins -= values < self._borders[at]
        bins += values >= self._borders[at + 1]
        return bins

    def decode(self, bins: NDArray[np.integer]) -> NDArray[np.float64]:
        """Returns the centres of bins [..., n], in the environment's units."""
        centres = continuous.decode_action(bins)
        return self._low + (centres + 1) / 2 * (self._high - self._low)

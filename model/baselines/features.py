"""Timesteps as vectors for a small network: the same tokens that Gato reads.

Text and discrete tokens are one-hot by their place among their kind (text over the
longest seen), continuous ones are their bin's centre, and images the grey means of 4 x
4 pixels; numbers are standardised.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gato.model.prefix import Prefix
from gato.schemas.record import PATCH_SIZE, Kind
from gato.tokenizers.vocabulary import NUM_BINS, Vocabulary

# Ids are below it in all vocabularies; codes are place * _PLACE + id.
_PLACE = 1 << 32
_BLOCK = 4
_SMALLEST_SPREAD = 1e-3


class Features(NamedTuple):
    """Timesteps, N of them.

    Attributes:
        hot: int32 [N, C]; which entries are one, `num_hot` for none.
        numbers: float32 [N, D].
    """

    hot: NDArray[np.int32]
    numbers: NDArray[np.float32]


class FeatureEncoder:
    """Learns from a task's timesteps which tokens occur where.

    Args:
        observations: At least one.
        vocabulary: The build's.

    Attributes:
        num_hot: Entries that can be one.
    """

    def __init__(self, observations: Sequence[Prefix], vocabulary: Vocabulary) -> None:
        self._first_continuous = vocabulary.first_continuous
        self._num_texts = max(
            int(np.count_nonzero(one.kind == Kind.TEXT)) for one in observations
        )
        codes = np.stack([self._codes(one) for one in observations])
        self._known = np.unique(codes[codes >= 0])
        self.num_hot = len(self._known)
        numbers = np.stack([self._numbers(one) for one in observations])
        self._mean = numbers.mean(axis=0)
        self._spread = np.maximum(numbers.std(axis=0), _SMALLEST_SPREAD)

    def encode(self, observations: Sequence[Prefix]) -> Features:
        """Returns the vectors of observations; tokens never seen there are none."""
        codes = np.stack([self._codes(one) for one in observations])
        places = np.searchsorted(self._known, codes)
        at = np.minimum(places, max(self.num_hot - 1, 0))
        is_known = np.isin(codes, self._known)
        hot = np.where(is_known, at, self.num_hot)
        numbers = np.stack([self._numbers(one) for one in observations])
        return Features(
            hot.astype(np.int32),
            ((numbers - self._mean) / self._spread).astype(np.float32),
        )

    def _codes(self, one: Prefix) -> NDArray[np.int64]:
        texts = one.tokens[one.kind == Kind.TEXT][: self._num_texts].astype(np.int64)
        discrete = one.tokens[one.kind == Kind.DISCRETE_OBSERVATION].astype(np.int64)
        codes = np.full(self._num_texts + len(discrete), -1, np.int64)
        codes[: len(texts)] = texts + _PLACE * np.arange(len(texts))
        places = self._num_texts + np.arange(len(discrete))
        codes[self._num_texts :] = discrete + _PLACE * places
        return codes

    def _numbers(self, one: Prefix) -> NDArray[np.float64]:
        bins = one.tokens[one.kind == Kind.CONTINUOUS_OBSERVATION]
        centres = (2 * (bins - self._first_continuous) + 1) / NUM_BINS - 1
        side = PATCH_SIZE // _BLOCK
        blocks = one.patches.reshape(-1, side, _BLOCK, side, _BLOCK, 3)
        grey = blocks.mean(axis=(2, 4, 5)) / 255
        return np.concatenate([centres, grey.ravel()])

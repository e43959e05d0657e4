"""Discrete values: integers and booleans in [0, 1024) (specification.md section 1).

They share table rows and logits with the text ids of the same number.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.schemas.errors import QuarantineError, Reason
from gato.tokenizers.vocabulary import NUM_BINS


def encode(values: NDArray[Any], num_values: int = NUM_BINS) -> NDArray[np.uint16]:
    """Returns the ids of integers or booleans, in the shape of `values`.

    Args:
        values: Array[..., integer or bool].
        num_values: Values lie in [0, num_values); at most 1,024.

    Returns:
        Array[..., uint16].

    Raises:
        QuarantineError: WRONG_DTYPE or DISCRETE_OUT_OF_RANGE.

    >>> encode(np.array([0, 7, 1023]))
    array([   0,    7, 1023], dtype=uint16)
    """
    values = np.asarray(values)
    if values.dtype.kind not in "biu":
        raise QuarantineError(
            Reason.WRONG_DTYPE,
            f"discrete values are integers or booleans, got {values.dtype}",
        )
    limit = min(num_values, NUM_BINS)
    if values.size and (values.min() < 0 or values.max() >= limit):
        outside = (values < 0) | (values >= limit)
        index = tuple(int(i) for i in np.argwhere(outside)[0])
        raise QuarantineError(
            Reason.DISCRETE_OUT_OF_RANGE,
            f"discrete values lie in [0, {limit}), got {int(values[index])} at index"
            f" {index}",
        )
    return values.astype(np.uint16)


def decode(ids: NDArray[np.integer]) -> NDArray[np.int64]:
    """Returns the values of discrete ids, in the shape of `ids`.

    >>> decode(np.array([3], np.uint16))
    array([3])
    """
    return np.asarray(ids).astype(np.int64)

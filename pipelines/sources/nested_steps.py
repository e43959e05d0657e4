"""Nested observations or actions, one value a step, as flat columns."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gato.schemas.episode import Column
from gato.schemas.errors import QuarantineError, Reason


def by_key(prefix: str, alone: str, values: Sequence[Any]) -> dict[str, list[Any]]:
    """Returns the values of each leaf by its flattened key.

    Args:
        prefix: What keys of nested values begin with, or nothing.
        alone: The key of values that are not nested.
        values: One or more, each of the first's structure: mappings by name, tuples
            and lists by place.

    Raises:
        QuarantineError: MISSING_FIELD if a step lacks what the first has.

    >>> by_key("", "action", [{"arm": (1, 2)}, {"arm": (3, 4)}])
    {'arm/0': [1, 3], 'arm/1': [2, 4]}
    """
    return dict(_leaves(prefix, alone, values))


def _leaves(
    prefix: str, alone: str, values: Sequence[Any]
) -> Iterator[tuple[str, list[Any]]]:
    first = values[0]
    if isinstance(first, Mapping):
        names: Sequence[Any] = list(first)
    elif isinstance(first, tuple | list):
        names = range(len(first))
    else:
        yield alone, list(values)
        return
    for name in names:
        key = f"{prefix}/{name}" if prefix else str(name)
        try:
            below = [value[name] for value in values]
        except (LookupError, TypeError) as error:
            raise QuarantineError(
                Reason.MISSING_FIELD,
                f"{key!r}: every step must have what the first has: {error!r}",
            ) from error
        yield from _leaves(key, key, below)


def stacked(key: str, values: Sequence[Any]) -> Column:
    """Returns texts and bytes as a list, all else as an array of T values.

    Raises:
        QuarantineError: WRONG_SHAPE if the shape changes.
    """
    if isinstance(values[0], str | bytes):
        return list(values)
    try:
        return np.stack([np.asarray(value) for value in values])
    except ValueError as error:
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"{key!r}: a timestep's shape must not change within an episode: {error}",
        ) from error

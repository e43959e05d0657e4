"""The order of an episode's transitions, where only their ends tell it."""

import numpy as np
from numpy.typing import NDArray


def chain(
    before: NDArray[np.int64], after: NDArray[np.int64], ends: NDArray[np.bool_]
) -> NDArray[np.int64] | None:
    """Returns the order in which each transition begins where the last one ended.

    Where states repeat, several orders may do that: a game that stands still, or comes
    back to an earlier frame. Each is a walk over all transitions, of which the one is
    returned that takes those of one state in the order given where it can. (An Eulerian
    path, after Hierholzer.)

    Args:
        before: int64 [n], states that transitions start from.
        after: int64 [n], states that they lead to.
        ends: [n] whether the episode ends there; `after` of such is not looked at.

    Returns:
        int64 [n] places; None if the transitions are not those of one walk.

    >>> chain(np.array([3, 1, 2]), np.array([0, 2, 3]), np.array([True, False, False]))
    array([1, 2, 0])
    """
    count = len(before)
    if not count:
        return None
    names, states = np.unique(np.concatenate([before, after]), return_inverse=True)
    source, target = states[:count], states[count:].copy()
    end = len(names)
    target[ends] = end
    leaving = np.bincount(source, minlength=end + 1)
    arriving = np.bincount(target, minlength=end + 1)
    surplus = leaving - arriving
    if (np.abs(surplus) > 1).any() or (surplus == 1).sum() > 1:
        return None
    starts = np.flatnonzero(surplus == 1)
    first = int(starts[0]) if len(starts) else int(source[0])
    order = _walk(source, target, leaving, first)
    return order if len(order) == count else None


def _walk(
    source: NDArray[np.int64],
    target: NDArray[np.int64],
    leaving: NDArray[np.int64],
    first: int,
) -> NDArray[np.int64]:
    """Returns the edges of a walk over all that are reached from a state."""
    edges = np.argsort(source, kind="stable").tolist()
    stops = np.cumsum(leaving)
    nexts = (stops - leaving).tolist()
    last = stops.tolist()
    to = target.tolist()
    walked: list[int] = []
    path = [(first, -1)]
    while path:
        state, edge = path[-1]
        if nexts[state] < last[state]:
            following = edges[nexts[state]]
            nexts[state] += 1
            path.append((to[following], following))
        else:
            walked.append(edge)
            path.pop()
    return np.array(walked[-2::-1], np.int64)

"""What the policy is shown of an environment: its observation, or a stranger's.

Shown strangers' observations, the weights meet tokens of the right kinds, values and
frequencies that say nothing about where they are. A score that stays is not owed to
reading. `gato.model.validation` does the same to recorded rows.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from gato.model.evaluation.suite import Contest
from gato.model.prefix import Prefix, demonstration
from gato.schemas.errors import UsageError
from gato.schemas.hashing import keyed_hash
from gato.schemas.record import Kind


class Observer(Protocol):
    """Makes slots of an observation."""

    def __call__(self, contest: Contest, seed: int, step: int, value: Any) -> Prefix:
        """Returns the slots that stand before the separator.

        Args:
            contest: The task.
            seed: Of the episode.
            step: From 0.
            value: As the environment gives it.

        Raises:
            QuarantineError: If the value cannot be tokens.
        """
        ...


def as_it_is(contest: Contest, seed: int, step: int, value: Any) -> Prefix:
    """The observation itself: an `Observer`."""
    del seed, step
    return contest.control.observe(value)


class ShuffledObservations:
    """Shows each step the observation of a recorded one: an `Observer`.

    Drawn evenly from the steps of the task's demonstrations, by a hash of the task, the
    episode's seed and the step; the environment's own observation has no part in it.

    Args:
        contests: The suite's tasks.
        seed: Of the draws.

    Raises:
        UsageError: If a task has no demonstration to draw from.
    """

    def __init__(self, contests: Sequence[Contest], seed: int) -> None:
        self._seed = seed
        self._recorded = {id(one): _recorded_observations(one) for one in contests}

    def __call__(self, contest: Contest, seed: int, step: int, value: Any) -> Prefix:
        """Returns a recorded observation's slots."""
        del value
        recorded = self._recorded[id(contest)]
        name = contest.entry.name
        chosen = keyed_hash(self._seed, "shuffle_observations", name, seed, step)
        return recorded[chosen % len(recorded)]


def _recorded_observations(contest: Contest) -> list[Prefix]:
    found = []
    for row in contest.control.demonstrations:
        whole = demonstration(row, len(row.tokens))
        starts = np.flatnonzero(whole.local_position == 0)
        ends = np.flatnonzero(whole.kind == Kind.SEPARATOR)
        found += [
            whole.part(start, end)
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]
    if not found:
        raise UsageError(
            f"{contest.entry.name}: --ablate shuffle_observations draws from the task's"
            " demonstrations, and its data set has none. Build it with episodes that"
            " pass the filter."
        )
    return found

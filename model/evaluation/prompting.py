"""Whose demonstrations an episode is prompted with: its task's own, or a stranger's.

Prompted with another task's demonstrations, whoever does as prompts say does that other
task, and fails at its own. A score that stays is not owed to the prompt.
"""

from collections.abc import Sequence

from gato.model.evaluation.suite import Contest
from gato.schemas.errors import UsageError


def exchanged_prompts(contests: Sequence[Contest]) -> list[Contest]:
    """Returns for each task another one, whose demonstrations it is prompted with.

    It is the next in the suite, in a circle, of the same domain and with the same
    observations and actions, so that the prompt's slots are as they would be.

    Args:
        contests: The suite's tasks.

    Raises:
        UsageError: If a task has no such other.
    """
    return [_next_alike(contests, number) for number in range(len(contests))]


def _next_alike(contests: Sequence[Contest], number: int) -> Contest:
    own = contests[number]
    for other in [*contests[number + 1 :], *contests[:number]]:
        alike = other.control.summary.spec == own.control.summary.spec
        if alike and other.domain == own.domain and other.entry.name != own.entry.name:
            return other
    raise UsageError(
        f"{own.entry.name}: --ablate exchange_prompts takes the demonstrations of"
        f" another task of domain {own.domain!r} with the same observations and"
        " actions, and the suite has none. Leave the task out of the suite."
    )

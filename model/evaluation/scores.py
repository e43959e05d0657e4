"""Scores as the paper has them: 0 for the random policy, 100 for the expert.

A task's score is the mean over its episodes, a domain's the mean over its tasks, the
whole one's the mean over domains. Intervals are of 95%, by bootstrap: episodes are
drawn anew within each task, and the means made of those, 10,000 times from one seed.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 10_000
_PERCENTILES = (2.5, 97.5)
THRESHOLDS = tuple(range(0, 101, 10))


def normalize(
    returns: NDArray[np.floating], random_return: float, expert_return: float
) -> NDArray[np.float64]:
    """Returns 100 * (return - random) / (expert - random).

    >>> normalize(np.array([1.0, 3.0, 5.0]), 1.0, 3.0)
    array([  0., 100., 200.])
    """
    values = np.asarray(returns, np.float64)
    return 100 * (values - random_return) / (expert_return - random_return)


def resampled_means(scores: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Returns the means of 10,000 draws of as many episodes, with replacement."""
    generator = np.random.default_rng(seed)
    chosen = generator.integers(0, len(scores), (_RESAMPLES, len(scores)))
    return scores[chosen].mean(axis=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """A mean with its 95% interval."""

    mean: float
    low: float
    high: float

    def as_json(self) -> dict[str, Any]:
        """Returns what the report holds."""
        return dataclasses.asdict(self)

    def cells(self) -> tuple[str, str]:
        """Returns mean and interval for a table."""
        return f"{self.mean:.1f}", f"{self.low:.1f} to {self.high:.1f}"


def _score(mean: float, means: NDArray[np.float64]) -> Score:
    low, high = np.percentile(means, _PERCENTILES)
    return Score(mean=float(mean), low=float(low), high=float(high))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of a suite.

    Attributes:
        tasks: In the suite's order.
        domains: By name.
        overall: The mean over domains.
        thresholds: Tasks whose score is at least so much, by percentage.
    """

    tasks: tuple[Score, ...]
    domains: dict[str, Score]
    overall: Score
    thresholds: dict[int, int]


def score(by_task: Sequence[NDArray[np.float64]], domains: Sequence[str]) -> Scores:
    """Returns the scores of a suite.

    Args:
        by_task: Normalised scores of each task's episodes, at least one.
        domains: Of each task.
    """
    draws = [resampled_means(one, seed) for seed, one in enumerate(by_task)]
    means = [float(one.mean()) for one in by_task]
    of_domain: dict[str, list[int]] = {}
    for task, domain in enumerate(domains):
        of_domain.setdefault(domain, []).append(task)
    domain_means = _average(of_domain, means)
    domain_draws = _average(of_domain, draws)
    return Scores(
        tasks=tuple(map(_score, means, draws)),
        domains={
            name: _score(domain_means[name], domain_draws[name]) for name in of_domain
        },
        overall=_score(
            float(np.mean(list(domain_means.values()))),
            np.mean(list(domain_draws.values()), axis=0),
        ),
        thresholds={
            threshold: sum(mean >= threshold for mean in means)
            for threshold in THRESHOLDS
        },
    )


def _average(
    of_domain: Mapping[str, Sequence[int]], values: Sequence[Any]
) -> dict[str, Any]:
    return {
        name: np.mean([values[task] for task in tasks], axis=0)
        for name, tasks in of_domain.items()
    }

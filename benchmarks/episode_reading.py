"""What benchmarks of episode readers share: how much is read, and how it is timed."""

import statistics
import time
from collections.abc import Callable, Mapping

from gato.pipelines.sources.registry import source_for
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode

EPISODES = 60
STEPS = 150
_ROUNDS = 5


def read_ours(format_name: str, path: str, relative_path: str) -> int:
    """Reads all of a path with our reader; returns the steps."""
    source = source_for(format_name)
    config = Dataset(name="bench", format=format_name, paths=(path,))
    steps = 0
    for partition in source.partition(path, relative_path, config):
        for item in source.read(partition, config):
            if not isinstance(item, Episode):
                raise SystemExit(f"unreadable: {item}")
            steps += len(item.rewards)
    return steps


def _seconds(read: Callable[[], int]) -> float:
    start = time.perf_counter()
    steps = read()
    if steps != EPISODES * STEPS:
        raise SystemExit(f"read {steps} steps, expected {EPISODES * STEPS}")
    return time.perf_counter() - start


def rates(ways: Mapping[str, Callable[[], int]]) -> dict[str, float]:
    """Returns steps a second of each way to read, the median after one untimed round.

    In turn, so that a busy moment of the machine falls on all.
    """
    rounds = [[_seconds(read) for read in ways.values()] for _ in range(_ROUNDS + 1)]
    medians = map(statistics.median, zip(*rounds[1:], strict=True))
    return {
        name: EPISODES * STEPS / median
        for name, median in zip(ways, medians, strict=True)
    }

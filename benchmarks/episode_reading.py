"""What benchmarks of readers share: how much is read, and how it is timed."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from gato.pipelines.sources.registry import source_for
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Unreadable

EPISODES = 60
STEPS = 150
_ROUNDS = 5


def read_ours(format_name: str, path: str, relative_path: str, **options: Any) -> int:
    """Reads all of a path with our reader; returns the steps, or the documents."""
    source = source_for(format_name)
    config = Dataset(name="bench", format=format_name, paths=(path,), **options)
    count = 0
    for partition in source.partition(path, relative_path, config):
        for item in source.read(partition, config):
            if isinstance(item, Unreadable):
                raise SystemExit(f"unreadable: {item}")
            count += len(item.rewards) if isinstance(item, Episode) else 1
    return count


def _seconds(
    read: Callable[[], int], expected: int, clock: Callable[[], float]
) -> float:
    start = clock()
    count = read()
    if count != expected:
        raise SystemExit(f"read {count}, expected {expected}")
    return clock() - start


def rates(
    ways: Mapping[str, Callable[[], int]],
    count: int = EPISODES * STEPS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Returns steps a second of each way to read, the median after one untimed round.

    In turn, so that a busy moment of the machine falls on all.

    Args:
        ways: Each returns what it read.
        count: The steps or documents that each must read.
        clock: Seconds; `time.process_time` where the machine is shared.
    """
    rounds = [
        [_seconds(read, count, clock) for read in ways.values()]
        for _ in range(_ROUNDS + 1)
    ]
    medians = map(statistics.median, zip(*rounds[1:], strict=True))
    return {name: count / median for name, median in zip(ways, medians, strict=True)}

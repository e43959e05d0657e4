"""Episodes as they are played, and how far that is."""

from collections.abc import Iterator

from gato.model.evaluation.rollouts import Arena, Episode
from gato.model.progress import Progress


def watch(
    arena: Arena, seeds: range, tasks: int, progress: Progress
) -> Iterator[Episode]:
    """Yields the episodes of an arena; while they are played they have a bar.

    Args:
        arena: With an environment for each row.
        seeds: Of `evaluation_seeds`.
        tasks: Of the arena, each of which plays every seed.
        progress: Gets the bar.
    """
    steps = 0
    bar = progress.add_task("episodes", total=tasks * len(seeds))

    def on_step(stepped: int) -> None:
        nonlocal steps
        steps += stepped
        progress.update(bar, description=f"episodes ({steps:,} steps)")

    for episode in arena.play(seeds, on_step):
        progress.advance(bar)
        yield episode
    progress.remove_task(bar)

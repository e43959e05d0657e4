"""Windows, prompts, and pieces of pages (specification.md section 4).

Everything here is a pure function of cumulative slot counts and keyed hashes, so cuts
never depend on the provider, the bundle or the retry.
"""

import dataclasses
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Literal

from gato.schemas.hashing import keyed_hash, threshold


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptRule:
    """The build config's prompt settings with its seed.

    Attributes:
        seed: Key of every hash.
        sequence_length: L, slots of a row.
        fraction: Share of windows that want a prompt.
        tail_fraction: Share of prompts cut from the provider's end.
        max_tokens: Slots a prompt may take.
    """

    seed: int
    sequence_length: int
    fraction: float
    tail_fraction: float
    max_tokens: int


@dataclasses.dataclass(frozen=True)
class Window:
    """Window `index` of an episode: timesteps [first_step, first_step + num_steps).

    Attributes:
        wants_prompt: Whether the hash chose it to be prompted.
        has_room: False if it wants a prompt but its first timestep leaves none.
    """

    index: int
    first_step: int
    num_steps: int
    wants_prompt: bool
    has_room: bool


def cut_windows(
    cumulative_slots: Sequence[int], episode_id: str, rule: PromptRule
) -> Iterator[Window]:
    """Yields the windows of an episode: every timestep once, in order, none split.

    Args:
        cumulative_slots: [T + 1]; slots before each timestep, then the total.
        episode_id: The episode's stable id.
        rule: Budgets and the fraction of prompted windows.

    Raises:
        ValueError: If a timestep is longer than the row.

    >>> rule = PromptRule(
    ...     seed=0, sequence_length=10, fraction=0, tail_fraction=0.5, max_tokens=5
    ... )
    >>> [(w.first_step, w.num_steps) for w in cut_windows([0, 4, 8, 12], "a/0", rule)]
    [(0, 2), (2, 1)]
    """
    limit = threshold(rule.fraction)
    num_steps = len(cumulative_slots) - 1
    first = index = 0
    while first < num_steps:
        wants = keyed_hash(rule.seed, "prompt", episode_id, index) < limit
        budget = rule.sequence_length - (rule.max_tokens if wants else 0)
        stop = bisect_right(cumulative_slots, cumulative_slots[first] + budget) - 1
        has_room = stop > first
        if not has_room:
            full = cumulative_slots[first] + rule.sequence_length
            stop = bisect_right(cumulative_slots, full) - 1
            if stop == first:
                slots = cumulative_slots[first + 1] - cumulative_slots[first]
                raise ValueError(
                    f"a timestep must fit a row of {rule.sequence_length} slots, got"
                    f" {slots} in timestep {first} of {episode_id}. Quarantine it."
                )
        yield Window(index, first, stop - first, wants, has_room)
        first, index = stop, index + 1


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A run of timesteps of a provider, to stand before a window's body."""

    mode: Literal["tail", "uniform"]
    first_step: int
    num_steps: int


def choose_provider(
    num_candidates: int, own_index: int | None, episode_id: str, index: int, seed: int
) -> int | None:
    """Returns which of the candidates provides the prompt, never the episode itself.

    Args:
        num_candidates: Kept training episodes of the same task and agent, in a stable
            order.
        own_index: The episode's own place among them, or None if it is not there.
        episode_id: The prompted episode.
        index: The window's index in it.
        seed: The build's seed.
    """
    others = num_candidates - (own_index is not None)
    if others <= 0:
        return None
    choice = keyed_hash(seed, "provider", episode_id, index) % others
    return choice + (own_index is not None and choice >= own_index)


def cut_prompt(
    cumulative_slots: Sequence[int], episode_id: str, index: int, rule: PromptRule
) -> Prompt | None:
    """Returns the provider's run for window `index` of `episode_id`, None if none fits.

    Args:
        cumulative_slots: [T + 1] of the *provider*.
        episode_id: The prompted episode.
        index: The window's index in it.
        rule: Mode fraction and maximum.
    """
    num_steps = len(cumulative_slots) - 1
    total = cumulative_slots[num_steps]
    tail_start = bisect_left(cumulative_slots, total - rule.max_tokens)
    if tail_start == num_steps:
        return None
    mode_hash = keyed_hash(rule.seed, "mode", episode_id, index)
    if mode_hash < threshold(rule.tail_fraction):
        return Prompt("tail", tail_start, num_steps - tail_start)
    first = keyed_hash(rule.seed, "start", episode_id, index) % (tail_start + 1)
    stop = bisect_right(cumulative_slots, cumulative_slots[first] + rule.max_tokens) - 1
    return Prompt("uniform", first, stop - first) if stop > first else None


def cut_page(
    slots: int, image_starts: Sequence[int], patches: Sequence[int], length: int
) -> list[tuple[int, int, int, int]]:
    """Returns where a page is cut, so that no image is.

    Each piece but the last fills a row, or ends before the image that would pass its
    end: (first slot, one past the last, first image, one past the last).

    Args:
        slots: Of the page.
        image_starts: First slot of each image.
        patches: Slots of each image, none above `length`.
        length: L, the most slots of a piece.

    >>> cut_page(12, [1, 6], [4, 4], 8)
    [(0, 6, 0, 1), (6, 12, 1, 2)]
    """
    pieces = []
    start = first = 0
    while start < slots:
        stop = min(start + length, slots)
        last = bisect_left(image_starts, stop)
        if last > first and image_starts[last - 1] + patches[last - 1] > stop:
            last -= 1
            stop = image_starts[last]
        pieces.append((start, stop, first, last))
        start, first = stop, last
    return pieces

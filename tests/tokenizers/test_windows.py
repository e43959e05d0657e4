"""Laws of windows and prompts (specification.md section 4), and examples by hand."""

import dataclasses
import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from gato.schemas.hashing import keyed_hash, threshold
from gato.tokenizers.windows import (
    PromptRule,
    choose_provider,
    cut_prompt,
    cut_windows,
)

LENGTH = 40


def rule(**settings) -> PromptRule:
    usual = PromptRule(
        seed=5, sequence_length=LENGTH, fraction=0.5, tail_fraction=0.5, max_tokens=18
    )
    return dataclasses.replace(usual, **settings)


def ends(slots: list[int]) -> list[int]:
    return list(itertools.accumulate(slots, initial=0))


STEPS = st.lists(st.integers(1, LENGTH), min_size=1, max_size=60)
RULES = st.builds(
    rule,
    seed=st.integers(0, 2**64 - 1),
    fraction=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    tail_fraction=st.sampled_from([0.0, 0.5, 1.0]),
    max_tokens=st.integers(1, LENGTH - 1),
)


@hypothesis.given(STEPS, RULES, st.text(max_size=5))
def test_windows_hold_every_timestep_once_and_fill_their_budget(
    slots: list[int], rule: PromptRule, episode_id: str
) -> None:
    windows = list(cut_windows(ends(slots), episode_id, rule))
    taken = [
        step
        for window in windows
        for step in range(window.first_step, window.first_step + window.num_steps)
    ]
    assert taken == list(range(len(slots)))
    assert [window.index for window in windows] == list(range(len(windows)))
    limit = threshold(rule.fraction)
    for window in windows:
        wants = keyed_hash(rule.seed, "prompt", episode_id, window.index) < limit
        assert window.wants_prompt == wants
        first, stop = window.first_step, window.first_step + window.num_steps
        budget = LENGTH - (rule.max_tokens if wants and window.has_room else 0)
        assert sum(slots[first:stop]) <= budget
        assert stop == len(slots) or sum(slots[first : stop + 1]) > budget
        room = not wants or slots[first] <= LENGTH - rule.max_tokens
        assert window.has_room == room


def test_windows_by_hand() -> None:
    never = rule(fraction=0.0, sequence_length=10)
    cut = [
        (w.first_step, w.num_steps) for w in cut_windows([0, 4, 8, 12], "a/0", never)
    ]
    assert cut == [(0, 2), (2, 1)]
    # A window that ends exactly at its budget; prompted windows hold 10 - 4 slots.
    always = rule(fraction=1.0, sequence_length=10, max_tokens=4)
    windows = list(cut_windows(ends([3, 3, 3, 7, 2]), "a/0", always))
    assert [(w.first_step, w.num_steps, w.has_room) for w in windows] == [
        (0, 2, True),
        (2, 1, True),
        # 7 > 6: without a prompt it may take the whole row.
        (3, 2, False),
    ]


def test_a_timestep_longer_than_the_row_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a row of 40 slots, got 41 in timestep 1"):
        list(cut_windows([0, 2, 43], "a/0", rule(fraction=0.0)))


def test_an_empty_episode_has_no_windows() -> None:
    assert list(cut_windows([0], "a/0", rule())) == []


@hypothesis.given(
    st.integers(0, 12), st.integers(0, 12), st.text(max_size=5), st.integers(0, 9)
)
def test_a_provider_is_never_the_episode_itself(
    candidates: int, own: int, episode_id: str, index: int
) -> None:
    own_index = own if own < candidates else None
    chosen = choose_provider(candidates, own_index, episode_id, index, seed=1)
    others = [i for i in range(candidates) if i != own_index]
    if not others:
        assert chosen is None
    else:
        place = keyed_hash(1, "provider", episode_id, index) % len(others)
        assert chosen == others[place]


def test_every_other_episode_provides_at_times() -> None:
    chosen = {choose_provider(5, 2, "a/0", index, seed=0) for index in range(200)}
    assert chosen == {0, 1, 3, 4}


@hypothesis.given(STEPS, RULES, st.integers(0, 99))
def test_prompts_are_whole_timesteps_within_their_maximum(
    slots: list[int], rule: PromptRule, index: int
) -> None:
    found = cut_prompt(ends(slots), "a/0", index, rule)
    # The tail by the definition: the longest suffix within the maximum.
    fitting = [s for s in range(len(slots)) if sum(slots[s:]) <= rule.max_tokens]
    if not fitting:
        assert found is None
        return
    tail = min(fitting)
    mode = keyed_hash(rule.seed, "mode", "a/0", index)
    if mode < threshold(rule.tail_fraction):
        assert found is not None
        assert (found.mode, found.first_step) == ("tail", tail)
        assert found.num_steps == len(slots) - tail
        return
    first = keyed_hash(rule.seed, "start", "a/0", index) % (tail + 1)
    sums = np.cumsum(slots[first:])
    count = int((sums <= rule.max_tokens).sum())
    if count == 0:
        assert found is None
    else:
        assert found is not None
        assert (found.mode, found.first_step, found.num_steps) == (
            "uniform",
            first,
            count,
        )


def test_a_short_provider_is_taken_whole() -> None:
    # A prompt longer than its episode must not begin before it.
    for index in range(20):
        prompt = cut_prompt([0, 5, 10], "a/0", index, rule(max_tokens=18))
        assert prompt is not None
        assert (prompt.first_step, prompt.num_steps) == (0, 2)


def test_uniform_starts_reach_both_ends() -> None:
    every = rule(tail_fraction=0.0, max_tokens=10)
    starts = set()
    for index in range(400):
        prompt = cut_prompt(ends([5] * 8), "a/0", index, every)
        assert prompt is not None
        assert prompt.num_steps == 2
        starts.add(prompt.first_step)
    assert starts == set(range(7))

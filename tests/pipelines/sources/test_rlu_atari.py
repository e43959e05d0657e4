"""Atari transitions of RL Unplugged, put in order again."""

import itertools
import pathlib
from typing import Any

import episode_source
import numpy as np
import pytest
import rlu_sets
from episode_source import episodes, verdicts
from hypothesis import given
from hypothesis import strategies as st

from gato.pipelines.sources.rlu_links import chain
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Unreadable
from gato.schemas.errors import Reason

NAME = "run_1-00000-of-00100"


def read(path: pathlib.Path) -> list[Episode | Unreadable]:
    config = Dataset(name="set", format="rlu_atari", paths=("raw/*",))
    return episode_source.read(path, NAME, config)


def shuffled(rows: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    order = np.random.default_rng(seed).permutation(len(rows))
    return [rows[place] for place in order]


def content(episode: Episode) -> tuple[list[Any], list[int], list[float]]:
    return (
        list(episode.observations["observation"]),
        np.asarray(episode.actions["action"]).tolist(),
        episode.rewards.tolist(),
    )


def test_shuffled_transitions_are_episodes_again(tmp_path: pathlib.Path) -> None:
    frames = rlu_sets.atari_frames(0, 60)
    starts, lengths = (0, 20, 41), (19, 20, 1)
    made = {}
    rows = []
    for episode_id, start, length in zip(
        (5, -2, 1 << 40), starts, lengths, strict=True
    ):
        actions = [n % 3 for n in range(length)]
        shown = frames[start : start + length + 1]
        rows += rlu_sets.transitions(
            episode_id, shown, actions, terminal=episode_id != -2
        )
        rewards = [n + 0.5 for n in range(length)]
        made[str(episode_id % (1 << 64))] = (shown[:-1], actions, rewards)
    path = rlu_sets.write_shard(tmp_path / "Pong" / NAME, shuffled(rows))
    found = episodes(read(path))
    assert {episode.episode_id.rpartition("/")[2] for episode in found} == set(made)
    assert [episode.number for episode in found] == [0, 1, 2]
    for episode in found:
        assert (episode.task, episode.agent) == ("Pong", "run_1")
        assert content(episode) == made[episode.episode_id.rpartition("/")[2]]


def test_a_game_that_stands_still(tmp_path: pathlib.Path) -> None:
    """Frames repeat, and the actions tell where in the pause a step belongs."""
    one, two, three = rlu_sets.atari_frames(1, 3)
    frames = [one] * 4 + [two] * 7 + [three, one, two] + [three] * 5
    actions = [n % 6 for n in range(len(frames) - 1)]
    rows = rlu_sets.transitions(7, frames, actions)
    path = rlu_sets.write_shard(tmp_path / NAME, shuffled(rows))
    (episode,) = episodes(read(path))
    shown, played, _ = content(episode)
    assert shown == frames[:-1]
    # Each step leads to the next, in frames and in actions.
    pairs = {(row["a_t"][0], row["a_tp1"][0]) for row in rows}
    assert all(pair in pairs for pair in itertools.pairwise(played))
    assert sorted(played) == sorted(actions)


def test_actions_that_do_not_link_leave_the_frames(tmp_path: pathlib.Path) -> None:
    frames = rlu_sets.atari_frames(2, 9)
    rows = rlu_sets.transitions(7, frames, [1, 2] * 4)
    for row in rows:
        row["a_tp1"] = np.array([0], np.int64)
    path = rlu_sets.write_shard(tmp_path / NAME, shuffled(rows))
    (episode,) = episodes(read(path))
    assert content(episode)[:2] == (frames[:-1], [1, 2] * 4)


def test_what_cannot_be_put_in_order_costs_its_episode(tmp_path: pathlib.Path) -> None:
    frames = rlu_sets.atari_frames(3, 40)
    good = rlu_sets.transitions(1, frames[:9], [1] * 8)
    torn = rlu_sets.transitions(2, frames[9:19], [1] * 9)
    bad = rlu_sets.transitions(3, frames[19:29], [1] * 9)
    bad[4]["o_t"] = bad[4]["o_t"][:3]
    path = rlu_sets.write_shard(tmp_path / NAME, [*torn[:3], *torn[5:], *bad, *good])
    items = read(path)
    assert verdicts(items) == [
        (11, Reason.WRONG_SHAPE),
        (0, Reason.CORRUPT_EPISODE),
        (1, Reason.CORRUPT_EPISODE),
    ]
    lost = [item for item in items if isinstance(item, Unreadable)]
    assert [item.item_id for item in lost] == [None, f"{NAME}/2", f"{NAME}/3"]
    (episode,) = [item for item in items if isinstance(item, Episode)]
    assert content(episode)[0] == frames[:8]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("a_t", np.zeros(2, np.int64), Reason.WRONG_SHAPE),
        ("a_t", np.zeros(1, np.float32), Reason.WRONG_DTYPE),
        ("d_t", np.zeros(0, np.float32), Reason.WRONG_SHAPE),
    ],
)
def test_fields(tmp_path: pathlib.Path, name: str, value: Any, reason: Reason) -> None:
    rows = rlu_sets.transitions(1, rlu_sets.atari_frames(4, 5), [0] * 4)
    rows[3][name] = value
    path = rlu_sets.write_shard(tmp_path / NAME, rows)
    assert [r for _, r in verdicts(read(path))] == [reason]


def test_episodes_as_records(tmp_path: pathlib.Path) -> None:
    examples = [rlu_sets.atari_episode(seed, 6) for seed in range(2)]
    del examples[1]["unclipped_rewards"]
    items = read(rlu_sets.write_shard(tmp_path / "Pong" / NAME, examples))
    assert verdicts(items) == [(1, Reason.MISSING_FIELD)]
    assert isinstance(items[0], Episode)
    assert content(items[0])[0] == examples[0]["observations"][:5]
    assert items[0].rewards.tolist() == examples[0]["unclipped_rewards"][:5].tolist()


@given(st.lists(st.integers(0, 4), min_size=2, max_size=40), st.booleans(), st.data())
def test_a_walk_is_found_and_all_of_it(
    states: list[int], terminal: bool, data: st.DataObject
) -> None:
    """Law: shuffled steps of a walk come back as a walk over all of them."""
    steps = list(itertools.pairwise(states))
    last = [False] * (len(steps) - 1) + [terminal]
    places = data.draw(st.permutations(range(len(steps))))
    before = np.array([steps[place][0] for place in places])
    after = np.array([steps[place][1] for place in places])
    ends = np.array([last[place] for place in places])
    order = chain(before, after, ends)
    assert order is not None
    assert sorted(order.tolist()) == list(range(len(steps)))
    assert (before[order[1:]] == after[order[:-1]]).all()
    assert not ends[order[:-1]].any()
    if states[0] != states[-1] or terminal:
        assert before[order[0]] == states[0]


def test_no_walk() -> None:
    def of(*steps: tuple[int, int]) -> Any:
        before, after = np.array(steps).reshape(-1, 2).T
        return chain(before, after, np.zeros(len(steps), bool))

    assert of() is None
    assert of((1, 2), (3, 4)) is None
    assert of((1, 1), (2, 2)) is None
    assert of((1, 2), (1, 3)) is None
    two_ends = np.array([True, True])
    assert chain(np.array([1, 1]), np.array([1, 1]), two_ends) is None

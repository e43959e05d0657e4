"""The search that plays Atari: on a game of one corridor, and on real ones."""

import pathlib
from typing import Any

import numpy as np
import pytest
from recordings import assert_plays_apart, replays

from gato.pipelines import record
from gato.pipelines.recorders import ale_world
from gato.pipelines.recorders.ale import AtariExtended
from gato.pipelines.recorders.ale_experts import EXPERTS
from gato.pipelines.recorders.ale_search import FAR, Effort, Planner

STAY, RIGHT, JUMP = "stay", "right", "jump"


class _Corridor:
    """A walk to the right; its end gives 1. A jump gives 5 and costs the life."""

    def __init__(self, length: int) -> None:
        self.length, self.place, self.alive = length, 0, 1
        self.steps = 0

    def cloneState(self, *, include_rng: bool) -> Any:
        assert include_rng
        return self.place, self.alive

    def restoreState(self, state: Any) -> None:
        self.place, self.alive = state

    def act(self, action: str) -> int:
        self.steps += 1
        if action == JUMP:
            self.alive -= 1
            return 5
        self.place += action == RIGHT
        return int(action == RIGHT and self.place == self.length)

    def lives(self) -> int:
        return self.alive

    def game_over(self) -> bool:
        return self.alive == 0


def _played(length: int, effort: Effort, seed: int = 0) -> tuple[list[int], list[str]]:
    """Returns the rewards of a planned walk of one horizon, and its actions."""
    game, copy = _Corridor(length), _Corridor(length)
    names = (STAY, RIGHT, JUMP)
    planner = Planner(game, copy, names, np.random.default_rng(seed), effort)
    actions = [names[planner()] for _ in range(effort.horizon)]
    return [game.act(action) for action in actions], actions


def test_a_reward_at_the_horizon_is_found() -> None:
    effort = Effort(plans=400, horizon=9, kept=9, held=6.0)
    rewards, actions = _played(9, effort)
    assert rewards == [0] * 8 + [1]
    assert actions == [RIGHT] * 9
    rewards, actions = _played(10, effort)
    assert sum(rewards) == 0
    # Rather nothing than a life for a reward.
    assert JUMP not in actions


def test_of_two_plans_the_faster_is_taken() -> None:
    rewards, _ = _played(3, Effort(plans=400, horizon=9, kept=9, held=6.0))
    assert rewards[2] == 1


def test_a_plan_that_is_begun_is_remembered() -> None:
    """Nothing of 3 new plans comes to the end, what is left of the first does."""
    names = (STAY, RIGHT)
    for kept in (1, 4):
        game, copy = _Corridor(12), _Corridor(12)
        effort = Effort(plans=4, horizon=12, kept=kept)
        planner = Planner(game, copy, names, np.random.default_rng(0), effort)
        planner._plan = np.ones(12 + kept, np.int64)
        assert sum(game.act(names[planner()]) for _ in range(12)) == 1


def test_it_counts() -> None:
    game, copy = _Corridor(50), _Corridor(50)
    effort = Effort(plans=5, horizon=8, kept=4)
    generator = np.random.default_rng(0)
    planner = Planner(game, copy, (STAY, RIGHT), generator, effort)
    for _ in range(9):
        planner()
    assert game.steps == 0
    assert copy.steps == 3 * 5 * 8
    walks = [_played(50, effort, seed)[1] for seed in (1, 1, 2)]
    assert walks[0] == walks[1] != walks[2]


def test_no_more_of_a_plan_is_done_than_there_is() -> None:
    with pytest.raises(ValueError, match="got kept=9"):
        Effort(horizon=8, kept=9)


def test_planning_leaves_the_game_as_it_was() -> None:
    """What the planner tries must not show in what is recorded.

    If it were tried in the game's own emulator, it would: a fourth of the frames repeat
    the action before.
    """
    actions = np.random.default_rng(0).integers(6, size=60)

    def play(plan: bool) -> tuple[list[Any], list[Any]]:
        game = ale_world.make_game("Galaxian", draw_setting=True)
        seen = [game.reset(seed=3)[0]]
        player = EXPERTS["Galaxian"].make(game, np.random.default_rng(1))
        told = []
        for action in actions:
            if plan:
                player(np.zeros(128, np.uint8))
            frame, *outcome, info = game.step(action)
            seen.append(frame)
            told.append((outcome, info))
        return seen, told

    (seen, told), (planned, told_planned) = play(plan=False), play(plan=True)
    np.testing.assert_array_equal(seen, planned)
    assert told == told_planned


@pytest.mark.parametrize("draw_setting", [False, True])
def test_a_copy_foretells_the_game(draw_setting: bool) -> None:
    """One call of it is a step: frames, repeated actions and rewards are the same."""
    game = ale_world.make_game("AirRaid", draw_setting=draw_setting)
    game.reset(seed=4)
    emulator = game.unwrapped.ale  # type: ignore
    copy = ale_world.make_copy(game)
    names = game.unwrapped._action_set  # type: ignore
    total = 0.0
    for action in np.random.default_rng(2).integers(len(names), size=150):
        copy.restoreState(emulator.cloneState(include_rng=True))
        foretold = copy.act(names[action])
        reward = game.step(action)[1]
        assert foretold == reward
        np.testing.assert_array_equal(copy.getRAM(), emulator.getRAM())
        assert copy.getFrameNumber() == emulator.getFrameNumber()
        assert copy.lives() == emulator.lives()
        total += float(reward)
    assert total > 0


def test_an_episode_does_not_depend_on_those_before() -> None:
    assert_plays_apart(AtariExtended(max_steps=25), "Galaxian", noise=0.3)


def test_stored_actions_replay_to_the_stored_episode(tmp_path: pathlib.Path) -> None:
    sizes = ("--episodes", "1", "--max_steps", "30", "--seed", "7")
    few = ("--games", "AirRaid", "--modes", "random", "--policies", "expert,noisy")
    assert record.main(["ale", "--output", str(tmp_path), *sizes, *few]) == 0
    for policy in ("expert", "noisy"):
        dataset_id = f"ale_extended/AirRaid/{policy}-v0"
        for episode, again in replays(tmp_path, dataset_id):
            assert len(episode.actions) == 30
            np.testing.assert_array_equal(episode.observations, again.observations)
            np.testing.assert_array_equal(episode.rewards, again.rewards)


def test_the_far_search_costs_as_much() -> None:
    work = [one.plans * one.horizon / one.kept for one in (Effort(), FAR)]
    assert work == [64, 64]

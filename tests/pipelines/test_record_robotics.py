"""Recorded episodes of the Fetch arm, read back with Minari's own library, replayed.

Without gymnasium-robotics, of the extra `envs`, all but one are skipped.
"""

import importlib.util
import pathlib
import sys

import numpy as np
import pytest
from recordings import (
    assert_names_its_returns,
    assert_plays_apart,
    assert_redoes_only,
    assert_refused,
    assert_same_data_sets,
    assert_seeds_for_recording,
    assert_two_workers_record_alike,
    listed,
    read,
    refusals,
    replays,
)

from gato.pipelines import record
from gato.pipelines.recorders import domain
from gato.pipelines.recorders.robotics import Robotics

TASKS = ("FetchPickAndPlace-v4", "FetchReach-v4")
EPISODES, STEPS = 2, 30
POLICIES = ("expert", "noisy", "random")
IDS = [f"robotics/{task}/{policy}-v0" for task in TASKS for policy in POLICIES]

needs_robotics = pytest.mark.skipif(
    importlib.util.find_spec("gymnasium_robotics") is None,
    reason="gymnasium-robotics is not installed",
)


def _command(output: pathlib.Path, *more: str) -> list[str]:
    sizes = ("--episodes", str(EPISODES), "--max_steps", str(STEPS), "--seed", "7")
    tasks = ("--tasks", ",".join(TASKS))
    return ["robotics", "--output", str(output), *tasks, *sizes, *more]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("recorded")
    assert record.main(_command(folder)) == 0
    return folder


def test_without_the_package_the_command_says_how_to_get_it(
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    message = "pip install 'gymnasium-robotics=="
    assert_refused(_command(tmp_path), tmp_path, capsys, message)


@needs_robotics
@pytest.mark.parametrize("dataset_id", IDS)
def test_stored_actions_replay_to_the_stored_episode(
    recorded: pathlib.Path, dataset_id: str
) -> None:
    played = replays(recorded, dataset_id)
    assert len(played) == EPISODES
    for episode, again in played:
        sizes = {"observation": 10, "achieved_goal": 3, "desired_goal": 3}
        if "Pick" in dataset_id:
            sizes["observation"] = 25
        assert set(episode.observations) == set(sizes)
        for key, size in sizes.items():
            stored = episode.observations[key]
            assert (stored.shape, stored.dtype) == ((STEPS + 1, size), np.float64)
            seen = [one[key] for one in again.observations]
            np.testing.assert_array_equal(stored, seen)
        np.testing.assert_array_equal(episode.rewards, again.rewards)
        np.testing.assert_array_equal(episode.truncations, again.truncations)
        assert not episode.terminations.any()
        assert episode.actions.shape == (STEPS, 4)
        assert np.abs(episode.actions).max() <= 1
        # Achieved is achieved, even if the hand moves on.
        solved = [False, *(bool(info["is_success"]) for info in again.infos)]
        by_then = [any(solved[: step + 1]) for step in range(STEPS + 1)]
        assert episode.infos["success"][:, 0].tolist() == by_then


@needs_robotics
@pytest.mark.parametrize("task", TASKS)
def test_an_episode_does_not_depend_on_those_before(task: str) -> None:
    assert_plays_apart(Robotics(), task, noise=0.3)


@needs_robotics
def test_metadata_names_the_task_and_its_returns(recorded: pathlib.Path) -> None:
    assert listed(recorded) == IDS
    assert_seeds_for_recording(recorded, IDS, EPISODES)
    for task in TASKS:
        assert_names_its_returns(recorded, f"robotics/{task}")


@needs_robotics
def test_the_build_reads_what_was_recorded(recorded: pathlib.Path) -> None:
    _, episodes = read(recorded, "robotics/FetchReach-v4/expert-v0")
    assert len(episodes) == EPISODES
    for episode in episodes:
        assert episode.task == "robotics/FetchReach-v4"
        assert episode.success is True
        assert len(episode.rewards) == STEPS


@needs_robotics
def test_the_same_command_redoes_only_what_is_missing(
    recorded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    few = ("--tasks", "FetchReach-v4", "--policies", "expert,noisy")
    kept, lost = IDS[3], IDS[4]
    assert_redoes_only(_command(tmp_path, *few), tmp_path, lost)
    assert_same_data_sets(recorded, tmp_path, (lost, kept))


@needs_robotics
@pytest.mark.slow
def test_two_workers_record_the_same_data(
    recorded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert_two_workers_record_alike(_command, recorded, tmp_path, IDS)


test_a_wrong_option_starts_nothing = needs_robotics(
    refusals(
        _command,
        ("--tasks", "FetchPush-v3", "did you mean 'FetchPush-v4'"),
        ("--tasks", "FetchSlide-v4", "there is no expert for FetchSlide-v4"),
        ("--noise", "0,0.5", "above 0 and below 2"),
        ("--max_steps", "0", "at least 1"),
    )
)


@needs_robotics
def test_scripts_do_their_tasks_from_other_places_than_the_recorded() -> None:
    robotics = Robotics()
    for task in robotics.playable(("expert",)):
        environment = robotics.make_environment(task)
        recipe = domain.Recipe(task=task, policy="expert", episodes=5)
        for seed in range(1 << 30, (1 << 30) + 5):
            rollout = robotics.roll_out(environment, recipe, seed, 0)
            assert rollout.success is not None
            assert rollout.success[-1, 0], (task, seed)
            # At the end as well, not in passing.
            assert rollout.rewards[-1] == 0, (task, seed)

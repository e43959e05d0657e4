"""Recorded Meta-World episodes, read back with Minari's own library and replayed."""

import pathlib
import subprocess
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
    load,
    read,
    refusals,
    replays,
)

from gato.pipelines import record
from gato.pipelines.recorders import domain
from gato.pipelines.recorders.metaworld import MetaWorld

TASKS = ("button-press-v3", "reach-v3")
EPISODES, STEPS = 2, 60
POLICIES = ("expert", "noisy", "random")
IDS = [f"metaworld/{task}/{policy}-v0" for task in TASKS for policy in POLICIES]


def _command(output: pathlib.Path, *more: str) -> list[str]:
    sizes = ("--episodes", str(EPISODES), "--max_steps", str(STEPS), "--seed", "7")
    tasks = ("--tasks", ",".join(TASKS))
    return ["metaworld", "--output", str(output), *tasks, *sizes, *more]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("recorded")
    assert record.main(_command(folder)) == 0
    return folder


def test_minari_lists_the_data_sets_that_were_asked_for(
    recorded: pathlib.Path,
) -> None:
    assert listed(recorded) == IDS


@pytest.mark.parametrize("dataset_id", IDS)
def test_stored_actions_replay_to_the_stored_episode(
    recorded: pathlib.Path, dataset_id: str
) -> None:
    played = replays(recorded, dataset_id)
    assert len(played) == EPISODES
    for episode, again in played:
        np.testing.assert_array_equal(episode.observations, again.observations)
        np.testing.assert_array_equal(episode.rewards, again.rewards)
        np.testing.assert_array_equal(episode.truncations, again.truncations)
        assert not episode.terminations.any()
        assert episode.observations.shape == (STEPS + 1, 39)
        assert episode.observations.dtype == np.float64
        assert episode.actions.shape == (STEPS, 4)
        assert np.abs(episode.actions).max() <= 1
        assert (episode.observations[:, 36:] != 0).all(), "the goal is not to be seen"
        success = episode.infos["success"]
        assert success.shape == (STEPS + 1, 1)
        # Achieved is achieved, even if the object moves on.
        solved = [False, *(bool(info["success"]) for info in again.infos)]
        by_then = [any(solved[: step + 1]) for step in range(STEPS + 1)]
        assert success[:, 0].tolist() == by_then


def test_goals_and_objects_lie_elsewhere_in_each_episode(
    recorded: pathlib.Path,
) -> None:
    for task, drawn in (("button-press-v3", slice(4, 7)), ("reach-v3", slice(36, 39))):
        places = [
            tuple(episode.observations[0, drawn])
            for policy in POLICIES
            for episode in load(
                recorded, f"metaworld/{task}/{policy}-v0"
            ).iterate_episodes()
        ]
        assert len(set(places)) == 3 * EPISODES


def test_an_episode_does_not_depend_on_those_before() -> None:
    assert_plays_apart(MetaWorld(max_steps=40), "push-v3", noise=0.3)


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    metaworld = MetaWorld(max_steps=200)
    environment = metaworld.make_environment("reach-v3")

    def play(policy: domain.Policy, deviation: float) -> domain.Rollout:
        recipe = domain.Recipe(
            task="reach-v3", policy=policy, episodes=1, noise=(deviation,)
        )
        return metaworld.roll_out(environment, recipe, 3, 0)

    # At its goal the expert asks for hardly anything, and what is left is noise.
    quiet = play("expert", 0.2).actions[100:, :3]
    assert np.abs(quiet).max() < 0.05
    for deviation in (0.05, 0.2):
        noisy = play("noisy", deviation).actions[100:, :3]
        # The arm is driven back from where noise drove it.
        assert deviation * 0.8 < noisy.std() < deviation * 1.5
    random = play("random", 0.2).actions
    assert random.std() == pytest.approx(2 / np.sqrt(12), rel=0.1)


def test_metadata_names_the_task_and_its_returns(recorded: pathlib.Path) -> None:
    for task in TASKS:
        assert_names_its_returns(recorded, f"metaworld/{task}")


def test_the_build_reads_what_was_recorded(recorded: pathlib.Path) -> None:
    _, episodes = read(recorded, "metaworld/reach-v3/expert-v0")
    assert len(episodes) == EPISODES
    for episode in episodes:
        assert (episode.task, episode.agent) == (
            "metaworld/reach-v3",
            "metaworld/reach-v3/expert-v0",
        )
        assert episode.success is True
        assert len(episode.rewards) == STEPS
        assert episode.random_return is not None


def test_seeds_are_unique_and_below_the_first_evaluation_seed(
    recorded: pathlib.Path,
) -> None:
    assert_seeds_for_recording(recorded, IDS, EPISODES)


@pytest.mark.slow
def test_two_workers_record_the_same_data(
    recorded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert_two_workers_record_alike(_command, recorded, tmp_path, IDS)


def test_the_same_command_redoes_only_what_is_missing(
    recorded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    few = ("--tasks", "reach-v3", "--policies", "expert,noisy")
    lost, kept = IDS[4], IDS[3]
    assert_redoes_only(_command(tmp_path, *few), tmp_path, lost)
    assert_same_data_sets(recorded, tmp_path, (lost, kept))


def test_data_of_another_length_is_refused(
    recorded: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "was recorded with max_steps 60, now 61"
    assert_refused(_command(recorded, "--max_steps", "61"), recorded, capsys, message)


test_a_wrong_option_starts_nothing = refusals(
    _command,
    ("--tasks", "reach-v2", "did you mean 'reach-v3'"),
    ("--tasks", "reach-v3,reach-v3", "each once"),
    ("--noise", "0,0.5", "above 0 and below 2"),
    ("--max_steps", "501", "from 1 to 500"),
    ("--policies", "best", "got 'best'"),
)


def test_all_tasks_are_fifty() -> None:
    assert len(MetaWorld().tasks()) == 50


@pytest.mark.slow
def test_the_recorder_imports_no_tensorflow() -> None:
    """TensorFlow and MuJoCo's rendering cannot share a process."""
    code = (
        "import sys; from gato.pipelines.recorders import elsewhere, metaworld,"
        " recording; sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.long
def test_experts_solve_all_tasks(tmp_path: pathlib.Path) -> None:
    few = ["--tasks", "all", "--policies", "expert", "--episodes", "4"]
    command = ["metaworld", "--output", str(tmp_path), *few]
    assert record.main([*command, "--workers", "2"]) == 0
    solved = [
        load(tmp_path, f"metaworld/{task}/expert-v0").storage.metadata["recorder"][
            "result"
        ]["solved"]
        for task in MetaWorld().tasks()
    ]
    assert sum(solved) >= 0.9 * 4 * 50
    assert min(solved) > 0

"""Recorded episodes of the Fetch arm, read back with Minari's own library, replayed.

Without gymnasium-robotics, of the extra `envs`, all but one are skipped.
"""

import importlib.util
import json
import pathlib
import sys

import gymnasium
import minari
import numpy as np
import pytest
from recordings import (
    assert_redoes_only,
    assert_refused,
    assert_same_data_sets,
    assert_seeds_for_recording,
    load,
    minari_root,
    seeds,
)

from gato.pipelines import record
from gato.pipelines.recorders import domain
from gato.pipelines.recorders.robotics import Robotics
from gato.pipelines.sources.base import Partition
from gato.pipelines.sources.minari import MinariSource
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode

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
    """The environment is rebuilt from what the data set says of it."""
    dataset = load(recorded, dataset_id)
    assert dataset.total_episodes == EPISODES
    assert dataset.env_spec is not None
    environment = gymnasium.make(dataset.env_spec)
    pairs = zip(dataset.iterate_episodes(), seeds(recorded, dataset_id), strict=True)
    for episode, seed in pairs:
        observation, _ = environment.reset(seed=seed)
        observations, rewards, truncations, solved = [observation], [], [], [False]
        for action in episode.actions:
            observation, reward, _, truncated, info = environment.step(action)
            observations.append(observation)
            rewards.append(reward)
            truncations.append(truncated)
            solved.append(bool(info["is_success"]))
        sizes = {"observation": 10, "achieved_goal": 3, "desired_goal": 3}
        if "Pick" in dataset_id:
            sizes["observation"] = 25
        assert set(episode.observations) == set(sizes)
        for key, size in sizes.items():
            stored = episode.observations[key]
            assert (stored.shape, stored.dtype) == ((STEPS + 1, size), np.float64)
            np.testing.assert_array_equal(stored, [one[key] for one in observations])
        np.testing.assert_array_equal(episode.rewards, rewards)
        np.testing.assert_array_equal(episode.truncations, truncations)
        assert not episode.terminations.any()
        assert episode.actions.shape == (STEPS, 4)
        assert np.abs(episode.actions).max() <= 1
        # Achieved is achieved, even if the hand moves on.
        by_then = [any(solved[: step + 1]) for step in range(STEPS + 1)]
        assert episode.infos["success"][:, 0].tolist() == by_then


@needs_robotics
@pytest.mark.parametrize("task", TASKS)
def test_an_episode_does_not_depend_on_those_before(task: str) -> None:
    robotics = Robotics()
    recipe = domain.Recipe(task=task, policy="noisy", episodes=1, noise=(0.3,))
    environment = robotics.make_environment(task)
    alone = robotics.roll_out(environment, recipe, 5, 0)
    other = robotics.roll_out(environment, recipe, 9, 0)
    again = robotics.roll_out(environment, recipe, 5, 0)
    assert isinstance(alone.observations, dict)
    for key, values in alone.observations.items():
        np.testing.assert_array_equal(values, again.observations[key])
    np.testing.assert_array_equal(alone.actions, again.actions)
    assert (alone.actions != other.actions).any()


@needs_robotics
def test_metadata_names_the_task_and_its_returns(recorded: pathlib.Path) -> None:
    with minari_root(recorded):
        assert sorted(minari.list_local_datasets()) == IDS
    assert_seeds_for_recording(recorded, IDS, EPISODES)
    for task in TASKS:
        means = {}
        for policy in ("expert", "random"):
            dataset = load(recorded, f"robotics/{task}/{policy}-v0")
            means[policy] = np.mean(
                [episode.rewards.sum() for episode in dataset.iterate_episodes()]
            )
        assert means["expert"] > means["random"]
        for policy in POLICIES:
            metadata = load(recorded, f"robotics/{task}/{policy}-v0").storage.metadata
            assert json.loads(metadata["env_spec"])["id"] == f"robotics/{task}"
            assert metadata["ref_max_score"] == pytest.approx(means["expert"])
            assert metadata["ref_min_score"] == pytest.approx(means["random"])


@needs_robotics
def test_the_build_reads_what_was_recorded(recorded: pathlib.Path) -> None:
    path = recorded / "robotics" / "FetchReach-v4" / "expert-v0"
    dataset = Dataset.model_validate(
        {"name": "robotics", "format": "minari", "paths": [str(path)]}
    )
    partition = Partition(path=str(path), relative_path="FetchReach-v4/expert-v0")
    episodes = list(MinariSource().read(partition, dataset))
    assert len(episodes) == EPISODES
    for episode in episodes:
        assert isinstance(episode, Episode), episode
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
    arguments = _command(tmp_path, "--workers", "2", "--data_format", "arrow")
    assert record.main(arguments) == 0
    assert_same_data_sets(recorded, tmp_path, IDS)


@needs_robotics
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--tasks", "FetchPush-v3", "did you mean 'FetchPush-v4'"),
        ("--tasks", "FetchSlide-v4", "there is no expert for FetchSlide-v4"),
        ("--noise", "0,0.5", "above 0 and below 2"),
        ("--max_steps", "0", "at least 1"),
    ],
)
def test_a_wrong_option_starts_nothing(
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
    message: str,
) -> None:
    output = tmp_path / "output"
    assert_refused(_command(output, option, value), output, capsys, message)
    assert not output.exists()


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

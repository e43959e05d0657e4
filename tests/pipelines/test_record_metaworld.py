"""Recorded Meta-World episodes, read back with Minari's own library and replayed."""

import json
import pathlib
import subprocess
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
from gato.pipelines.recorders.metaworld import MetaWorld
from gato.pipelines.sources.base import Partition
from gato.pipelines.sources.minari import MinariSource
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode

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
    with minari_root(recorded):
        assert sorted(minari.list_local_datasets()) == IDS


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
            solved.append(bool(info["success"]))
        np.testing.assert_array_equal(episode.observations, np.stack(observations))
        np.testing.assert_array_equal(episode.rewards, rewards)
        np.testing.assert_array_equal(episode.truncations, truncations)
        assert not episode.terminations.any()
        assert episode.observations.shape == (STEPS + 1, 39)
        assert episode.observations.dtype == np.float64
        assert episode.actions.shape == (STEPS, 4)
        assert np.abs(episode.actions).max() <= 1
        assert (episode.observations[:, 36:] != 0).all(), "the goal is not to be seen"
        success = episode.infos["success"]
        assert success.shape == (STEPS + 1, 1)
        # Achieved is achieved, even if the object moves on.
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
    metaworld = MetaWorld(max_steps=40)
    recipe = domain.Recipe(task="push-v3", policy="noisy", episodes=1, noise=(0.3,))
    environment = metaworld.make_environment("push-v3")
    alone = metaworld.roll_out(environment, recipe, 5, 0)
    metaworld.roll_out(environment, recipe, 9, 0)
    again = metaworld.roll_out(environment, recipe, 5, 0)
    np.testing.assert_array_equal(alone.observations, again.observations)
    np.testing.assert_array_equal(alone.actions, again.actions)


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
        means = {}
        for policy in ("expert", "random"):
            dataset = load(recorded, f"metaworld/{task}/{policy}-v0")
            means[policy] = np.mean(
                [episode.rewards.sum() for episode in dataset.iterate_episodes()]
            )
        assert means["expert"] > means["random"]
        for policy in POLICIES:
            metadata = load(recorded, f"metaworld/{task}/{policy}-v0").storage.metadata
            assert json.loads(metadata["env_spec"])["id"] == f"metaworld/{task}"
            assert metadata["ref_max_score"] == pytest.approx(means["expert"])
            assert metadata["ref_min_score"] == pytest.approx(means["random"])


def test_the_build_reads_what_was_recorded(recorded: pathlib.Path) -> None:
    path = recorded / "metaworld" / "reach-v3" / "expert-v0"
    dataset = Dataset.model_validate(
        {"name": "metaworld", "format": "minari", "paths": [str(path)]}
    )
    partition = Partition(path=str(path), relative_path="reach-v3/expert-v0")
    episodes = list(MinariSource().read(partition, dataset))
    assert len(episodes) == EPISODES
    for episode in episodes:
        assert isinstance(episode, Episode), episode
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
    arguments = _command(tmp_path, "--workers", "2", "--data_format", "arrow")
    assert record.main(arguments) == 0
    assert_same_data_sets(recorded, tmp_path, IDS)


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


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--tasks", "reach-v2", "did you mean 'reach-v3'"),
        ("--tasks", "reach-v3,reach-v3", "each once"),
        ("--noise", "0,0.5", "above 0 and below 2"),
        ("--max_steps", "501", "from 1 to 500"),
        ("--policies", "best", "got 'best'"),
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

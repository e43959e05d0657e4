"""Recorded episodes of bodies that run, read back with Minari's library, replayed."""

import json
import pathlib
from typing import Any

import gymnasium
import minari
import mujoco
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
from gato.pipelines.recorders import domain, morphologies_world
from gato.pipelines.recorders.morphologies import Morphologies
from gato.pipelines.recorders.morphologies_bodies import BODIES, to_xml
from gato.pipelines.sources.base import Partition
from gato.pipelines.sources.minari import MinariSource
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode

# Its names are those of compiled modules, which type checkers do not see.
MUJOCO: Any = mujoco
BODY_NAMES = ("hopper-3", "worm-2")
EPISODES, STEPS = 2, 30
POLICIES = ("expert", "noisy", "random")
IDS = [f"morphologies/{body}/{policy}-v0" for body in BODY_NAMES for policy in POLICIES]


def _command(output: pathlib.Path, *more: str) -> list[str]:
    sizes = ("--episodes", str(EPISODES), "--max_steps", str(STEPS), "--seed", "7")
    bodies = ("--bodies", ",".join(BODY_NAMES))
    return ["morphologies", "--output", str(output), *bodies, *sizes, *more]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("recorded")
    assert record.main(_command(folder)) == 0
    return folder


def test_bodies_have_the_limbs_of_their_names() -> None:
    assert len(BODIES) == 33
    lengths = set()
    for name in BODIES:
        family, *numbers = name.split("-")
        limbs = sum(map(int, numbers)) + (family in ("cheetah", "walker"))
        model = MUJOCO.MjModel.from_xml_string(to_xml(name))
        # The world is a body too; the torso moves by three joints without motors.
        assert (model.nbody, model.nu, model.njnt) == (limbs + 1, limbs - 1, limbs + 2)
        assert model.nsensor == 1
        lengths.add(float(model.geom_size[2, 1]))
    assert len(lengths) == len(BODIES)


@pytest.mark.parametrize("name", ["cheetah-2-3", "hopper-5", "walker-3-1", "worm-4"])
def test_a_body_starts_on_the_floor(name: str) -> None:
    model = MUJOCO.MjModel.from_xml_string(to_xml(name))
    data = MUJOCO.MjData(model)
    MUJOCO.mj_forward(model, data)
    # Of both ends of each capsule; the first geom is the floor.
    rise = np.abs(data.geom_xmat[1:, 8]) * model.geom_size[1:, 1]
    lowest = data.geom_xpos[1:, 2] - rise - model.geom_size[1:, 0]
    assert lowest.min() == pytest.approx(0, abs=1e-5)


def test_rewards_are_speed_and_standing_less_the_cost_of_actions() -> None:
    for name, alive in (("worm-3", 0.0), ("walker-3-3", 1.0)):
        environment = morphologies_world.Morphology(name)
        environment.reset(seed=3)
        before = environment.data.qpos[0]
        action = np.full(environment.model.nu, 0.5, np.float32)
        reward = environment.step(action)[1]
        speed = (environment.data.qpos[0] - before) / 0.02
        assert reward == pytest.approx(speed + alive - 1e-3 * 0.25 * len(action))


def test_upright_bodies_end_when_they_fall_and_others_do_not() -> None:
    for name, upright in (("hopper-4", True), ("cheetah-1-0", False)):
        environment = morphologies_world.Morphology(name)
        environment.reset(seed=0)
        environment.data.qpos[2] = 1.5
        action = np.zeros(environment.model.nu, np.float32)
        assert environment.step(action)[2] is upright


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
        observations, outcomes = [observation], []
        for action in episode.actions:
            observation, *outcome, _ = environment.step(action)
            observations.append(observation)
            outcomes.append(outcome)
        joints = 3 + episode.actions.shape[1]
        for key, size in {"position": joints - 1, "velocity": joints}.items():
            stored = episode.observations[key]
            assert (stored.shape[1:], stored.dtype) == ((size,), np.float64)
            np.testing.assert_array_equal(stored, [one[key] for one in observations])
        rewards, terminations, truncations = zip(*outcomes, strict=True)
        np.testing.assert_array_equal(episode.rewards, rewards)
        np.testing.assert_array_equal(episode.terminations, terminations)
        np.testing.assert_array_equal(
            episode.truncations, np.array(truncations) & ~np.array(terminations)
        )
        assert episode.terminations[-1] or len(rewards) == STEPS
        assert np.abs(episode.actions).max() <= 1


def test_an_episode_does_not_depend_on_those_before() -> None:
    morphologies = Morphologies(max_steps=10)
    recipe = domain.Recipe(task="walker-2-2", policy="noisy", episodes=1, noise=(0.3,))
    environment = morphologies.make_environment("walker-2-2")
    alone = morphologies.roll_out(environment, recipe, 5, 0)
    other = morphologies.roll_out(environment, recipe, 9, 0)
    again = morphologies.roll_out(environment, recipe, 5, 0)
    assert isinstance(alone.observations, dict)
    for key, values in alone.observations.items():
        np.testing.assert_array_equal(values, again.observations[key])
    np.testing.assert_array_equal(alone.actions, again.actions)
    assert (alone.actions != other.actions).any()


def test_metadata_names_the_body_and_its_returns(recorded: pathlib.Path) -> None:
    with minari_root(recorded):
        assert sorted(minari.list_local_datasets()) == IDS
    assert_seeds_for_recording(recorded, IDS, EPISODES)
    for body in BODY_NAMES:
        means = {}
        for policy in ("expert", "random"):
            dataset = load(recorded, f"morphologies/{body}/{policy}-v0")
            means[policy] = np.mean(
                [episode.rewards.sum() for episode in dataset.iterate_episodes()]
            )
        assert means["expert"] > means["random"]
        for policy in POLICIES:
            dataset = load(recorded, f"morphologies/{body}/{policy}-v0")
            metadata = dataset.storage.metadata
            assert json.loads(metadata["env_spec"])["id"] == f"morphologies/{body}"
            assert metadata["ref_max_score"] == pytest.approx(means["expert"])
            assert metadata["ref_min_score"] == pytest.approx(means["random"])


def test_the_build_reads_what_was_recorded(recorded: pathlib.Path) -> None:
    path = recorded / "morphologies" / "worm-2" / "expert-v0"
    dataset = Dataset.model_validate(
        {"name": "modular_rl", "format": "minari", "paths": [str(path)]}
    )
    partition = Partition(path=str(path), relative_path="worm-2/expert-v0")
    episodes = list(MinariSource().read(partition, dataset))
    assert len(episodes) == EPISODES
    for episode in episodes:
        assert isinstance(episode, Episode), episode
        assert (episode.task, episode.success) == ("morphologies/worm-2", None)
        assert len(episode.rewards) == STEPS


def test_the_same_command_redoes_only_what_is_missing(
    recorded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    few = ("--bodies", "worm-2", "--policies", "expert,noisy")
    kept, lost = IDS[3], IDS[4]
    assert_redoes_only(_command(tmp_path, *few), tmp_path, lost)
    assert_same_data_sets(recorded, tmp_path, (lost, kept))


@pytest.mark.slow
def test_two_workers_record_the_same_data(
    recorded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    arguments = _command(tmp_path, "--workers", "2", "--data_format", "arrow")
    assert record.main(arguments) == 0
    assert_same_data_sets(recorded, tmp_path, IDS)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--bodies", "cheetah-4-3", "did you mean 'cheetah-"),
        ("--noise", "0,0.5", "above 0 and below 2"),
        ("--max_steps", "1001", "from 1 to 1000"),
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps", "least"),
    [("cheetah-3-3", 200, 200), ("walker-3-3", 200, 300), ("worm-5", 200, 100)],
)
def test_the_planner_runs(name: str, steps: int, least: float) -> None:
    morphologies = Morphologies(max_steps=steps)
    recipe = domain.Recipe(task=name, policy="expert", episodes=1)
    environment = morphologies.make_environment(name)
    rollout = morphologies.roll_out(environment, recipe, 1 << 30, 0)
    assert rollout.rewards.sum() > least

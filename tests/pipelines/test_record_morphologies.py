"""Recorded episodes of bodies that run, read back with Minari's library, replayed."""

import pathlib
from typing import Any

import mujoco
import numpy as np
import pytest
from recordings import (
    assert_names_its_returns,
    assert_plays_apart,
    assert_redoes_only,
    assert_same_data_sets,
    assert_seeds_for_recording,
    assert_two_workers_record_alike,
    listed,
    read,
    refusals,
    replays,
)

from gato.pipelines import record
from gato.pipelines.recorders import domain, morphologies_world
from gato.pipelines.recorders.morphologies import Morphologies
from gato.pipelines.recorders.morphologies_bodies import BODIES, to_xml

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
    played = replays(recorded, dataset_id)
    assert len(played) == EPISODES
    for episode, again in played:
        joints = 3 + episode.actions.shape[1]
        for key, size in {"position": joints - 1, "velocity": joints}.items():
            stored = episode.observations[key]
            assert (stored.shape[1:], stored.dtype) == ((size,), np.float64)
            seen = [one[key] for one in again.observations]
            np.testing.assert_array_equal(stored, seen)
        np.testing.assert_array_equal(episode.rewards, again.rewards)
        np.testing.assert_array_equal(episode.terminations, again.terminations)
        np.testing.assert_array_equal(
            episode.truncations,
            np.array(again.truncations) & ~np.array(again.terminations),
        )
        assert episode.terminations[-1] or len(again.rewards) == STEPS
        assert np.abs(episode.actions).max() <= 1


def test_an_episode_does_not_depend_on_those_before() -> None:
    assert_plays_apart(Morphologies(max_steps=10), "walker-2-2", noise=0.3)


def test_metadata_names_the_body_and_its_returns(recorded: pathlib.Path) -> None:
    assert listed(recorded) == IDS
    assert_seeds_for_recording(recorded, IDS, EPISODES)
    for body in BODY_NAMES:
        assert_names_its_returns(recorded, f"morphologies/{body}")


def test_the_build_reads_what_was_recorded(recorded: pathlib.Path) -> None:
    _, episodes = read(recorded, "morphologies/worm-2/expert-v0")
    assert len(episodes) == EPISODES
    for episode in episodes:
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
    assert_two_workers_record_alike(_command, recorded, tmp_path, IDS)


test_a_wrong_option_starts_nothing = refusals(
    _command,
    ("--bodies", "cheetah-4-3", "did you mean 'cheetah-"),
    ("--noise", "0,0.5", "above 0 and below 2"),
    ("--max_steps", "1001", "from 1 to 1000"),
)


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

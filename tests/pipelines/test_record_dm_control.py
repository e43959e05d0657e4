"""Recorded DM Control episodes, read back with Minari's own library and replayed."""

import itertools
import json
import os
import pathlib
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from recordings import (
    assert_names_its_returns,
    assert_plays_apart,
    assert_redoes_only,
    assert_refused,
    assert_same_data_sets,
    assert_same_episodes,
    assert_seeds_for_recording,
    assert_two_workers_record_alike,
    expert_return,
    listed,
    load,
    read,
    refusals,
    replays,
)

from gato.pipelines import record
from gato.pipelines.recorders import dm_control_world, domain
from gato.pipelines.recorders.dm_control import (
    RANDOM_BODIES,
    DMControl,
    DMControlGoals,
)
from gato.pipelines.recorders.dm_control_experts import EXPERTS, make_expert
from gato.pipelines.recorders.dm_control_goals import GOALS, REPEAT, CornerTask

TASKS = ("cartpole-swingup", "walker-stand")
EPISODES, STEPS = 2, 20
POLICIES = ("expert", "noisy", "random")
IDS = [f"dm_control/{task}/{policy}-v0" for task in TASKS for policy in POLICIES]
SIZES = {
    "cartpole-swingup": {"position": 3, "velocity": 2},
    "walker-stand": {"orientations": 14, "height": 1, "velocity": 9},
    "point_mass-reach_top_left": {"position": 2, "velocity": 2},
}


def _command(output: pathlib.Path, *more: str) -> list[str]:
    sizes = ("--episodes", str(EPISODES), "--max_steps", str(STEPS), "--seed", "7")
    tasks = ("--tasks", ",".join(TASKS))
    return ["dm_control", "--output", str(output), *tasks, *sizes, *more]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("recorded")
    assert record.main(_command(folder)) == 0
    return folder


@pytest.mark.parametrize("dataset_id", IDS)
def test_stored_actions_replay_to_the_stored_episode(
    recorded: pathlib.Path, dataset_id: str
) -> None:
    _assert_replays(recorded, dataset_id)


def _assert_replays(folder: pathlib.Path, dataset_id: str) -> None:
    played = replays(folder, dataset_id)
    assert len(played) == EPISODES
    sizes = SIZES[dataset_id.split("/")[1]]
    for episode, again in played:
        assert set(episode.observations) == set(sizes)
        for key, size in sizes.items():
            stored = episode.observations[key]
            assert (stored.shape, stored.dtype) == ((STEPS + 1, size), np.float64)
            seen = [one[key] for one in again.observations]
            np.testing.assert_array_equal(stored, seen)
        np.testing.assert_array_equal(episode.rewards, again.rewards)
        np.testing.assert_array_equal(episode.truncations, again.truncations)
        assert not episode.terminations.any()
        assert np.abs(episode.actions).max() <= 1


@pytest.mark.parametrize("bodies", ["small", "large"])
def test_episodes_of_drawn_bodies_replay_from_their_seeds(
    tmp_path: pathlib.Path, bodies: str
) -> None:
    few = ("--tasks", "cartpole-swingup", "--policies", "expert,random")
    assert record.main(_command(tmp_path, *few, "--bodies", bodies)) == 0
    factors = []
    for policy in ("expert", "random"):
        dataset_id = f"dm_control_random_{bodies}/cartpole-swingup/{policy}-v0"
        _assert_replays(tmp_path, dataset_id)
        metadata = load(tmp_path, dataset_id).storage.metadata
        assert json.loads(metadata["env_spec"])["id"] == dataset_id.rsplit("/", 1)[0]
        assert {"ref_max_score", "ref_min_score"} <= set(metadata)
        factors.append(metadata["recorder"]["recipe"]["factors"])
    assert factors[0] == factors[1]
    assert factors[0][0][0] == (0.9 if bodies == "small" else 0.6)


@pytest.mark.parametrize("option", [("--bodies", "small"), ("--goals",)])
def test_only_the_suites_own_tasks_are_seen_as_frames(
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    option: tuple[str, ...],
) -> None:
    with pytest.raises(SystemExit) as ended:
        record.main(_command(tmp_path, "--pixels", "64", *option))
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"{option[0]}: not allowed with argument --pixels" in said


def test_goals_differ_in_their_rewards_alone(tmp_path: pathlib.Path) -> None:
    """Recorded, and then played again with the other goals' rewards."""
    goal = "point_mass-reach_top_left"
    few = ("--tasks", goal, "--policies", "expert,random", "--goals")
    assert record.main(_command(tmp_path, *few)) == 0
    dataset_id = f"dm_control_goals/{goal}/expert-v0"
    _assert_replays(tmp_path, dataset_id)
    metadata = load(tmp_path, dataset_id).storage.metadata
    assert json.loads(metadata["env_spec"])["id"] == f"dm_control_goals/{goal}"
    ways = [gymnasium.make(f"dm_control_goals/{goal}") for goal in GOALS]
    seen = [way.reset(seed=5)[0] for way in ways]
    rewards = []
    # First to the top and the left, where one of the four is rewarded, and stay there.
    for _ in range(120):
        away = seen[0]["position"] - GOALS[goal]
        action = np.clip(-20 * away - seen[0]["velocity"], -1, 1).astype(np.float32)
        outcomes = [way.step(action) for way in ways]
        seen = [outcome[0] for outcome in outcomes]
        rewards.append([outcome[1] for outcome in outcomes])
        for one in seen:
            np.testing.assert_array_equal(one["position"], seen[0]["position"])
            np.testing.assert_array_equal(one["velocity"], seen[0]["velocity"])
    last = dict(zip(GOALS, rewards[-1], strict=True))
    assert last.pop(goal) > 0.9 * REPEAT
    assert max(last.values()) < 0.01


def test_repeated_actions_end_with_the_suites_episode() -> None:
    task = CornerTask("point_mass-reach_top_left")
    task.reset(seed=3)
    action = np.zeros(2, np.float32)
    ends = [task.step(action)[2:4] for _ in range(dm_control_world.MAX_STEPS // REPEAT)]
    assert ends[-1] == (False, True)
    assert set(ends[:-1]) == {(False, False)}


def test_an_episode_does_not_depend_on_those_before() -> None:
    played: tuple[tuple[str, domain.Policy], ...] = (
        ("reacher-easy", "noisy"),
        ("walker-walk", "expert"),
    )
    controls = (DMControl(max_steps=10), RANDOM_BODIES["large"](max_steps=10))
    for control, (task, policy) in itertools.product(controls, played):
        assert_plays_apart(control, task, policy=policy, noise=0.3)


def test_planning_leaves_the_simulation_as_it_was() -> None:
    """What the planner tries must not show in what is recorded."""
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 6)).astype(np.float32)

    def play(plan: bool) -> list[float]:
        environment = dm_control_world.SuiteTask("cheetah-run")
        environment.reset(seed=4)
        generator = np.random.default_rng(1)
        expert = make_expert("cheetah-run", generator, environment.physics)
        rewards = []
        for action in actions:
            if plan and expert is not None:
                expert(environment.physics)
            rewards.append(environment.step(action)[1])
        return rewards

    assert play(plan=True) == play(plan=False)


def test_metadata_names_the_task_and_its_returns(recorded: pathlib.Path) -> None:
    assert listed(recorded) == IDS
    for task in TASKS:
        assert_names_its_returns(recorded, f"dm_control/{task}")


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_a_task_without_an_expert_is_played_at_random(
    tmp_path: pathlib.Path, data_format: str
) -> None:
    few = ("--tasks", "hopper-hop,manipulator-bring_ball", "--policies", "random")
    arguments = _command(tmp_path, *few, "--data_format", data_format)
    assert record.main(arguments) == 0
    dataset_id = "dm_control/manipulator-bring_ball/random-v0"
    path = tmp_path / dataset_id / "data" / "metadata.json"
    metadata = json.loads(path.read_bytes())
    assert "ref_max_score" not in metadata
    assert metadata["ref_min_score"] >= 0
    _, episodes = read(tmp_path, dataset_id)
    assert len(episodes) == EPISODES
    for episode in episodes:
        assert episode.task == "dm_control/manipulator-bring_ball"
        assert episode.success is None, "nobody said whether it was achieved"
        assert np.shape(episode.observations["arm_pos"]) == (STEPS, 8, 2)
        assert len(episode.rewards) == STEPS
    assert record.main(arguments) == 0, "it is there, and known"


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
    few = ("--tasks", "cartpole-swingup", "--policies", "expert,noisy")
    kept, lost = IDS[0], IDS[1]
    assert_redoes_only(_command(tmp_path, *few), tmp_path, lost)
    assert_same_data_sets(recorded, tmp_path, (lost, kept))


def test_data_of_another_length_is_refused(
    recorded: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "was recorded with max_steps 20, now 21"
    assert_refused(_command(recorded, "--max_steps", "21"), recorded, capsys, message)


test_a_wrong_option_starts_nothing = refusals(
    _command,
    ("--tasks", "cartpole-swing", "did you mean 'cartpole-swingup'"),
    ("--tasks", "hopper-hop", "no expert for hopper-hop"),
    ("--noise", "0,0.5", "above 0 and below 2"),
    ("--max_steps", "1001", "from 1 to 1000"),
    ("--pixels", "8", "from 16"),
)


def test_all_are_the_tasks_that_the_policies_can_play() -> None:
    control = DMControl()
    assert len(control.tasks()) == 45
    assert set(control.playable(("random",))) == set(control.tasks())
    assert set(control.playable(("expert", "random"))) == set(EXPERTS) - set(GOALS)
    assert set(DMControlGoals().playable(("expert", "random"))) == set(GOALS)


def _run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # TensorFlow, which other tests import, and what draws cannot share a process.
    return subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


CAN_DRAW = """
import sys
from gato.pipelines.recorders import dm_control_world
from gato.schemas.errors import GatoError
try: print(dm_control_world.load_renderer())
except GatoError: sys.exit(3)
"""
DRAW = """
import sys
from gato.pipelines import record
status = max([record.main(command) for command in {commands!r}])
sys.exit(status or 4 * ("tensorflow" in sys.modules))
"""


@pytest.mark.slow
def test_frames_are_recorded_alike(tmp_path: pathlib.Path) -> None:
    if _run(CAN_DRAW).returncode == 3:
        pytest.skip("neither EGL nor OSMesa loads here")
    few = ("--tasks", "cartpole-balance", "--policies", "expert", "--pixels", "32")
    commands = [_command(tmp_path / folder, *few) for folder in ("one", "two")]
    done = _run(DRAW.format(commands=commands))
    assert done.returncode == 0, done.stderr
    name = "dm_control_pixels/cartpole-balance/expert-v0"
    one, two = load(tmp_path / "one", name), load(tmp_path / "two", name)
    assert_same_episodes(one, two)
    for episode in one.iterate_episodes():
        frames = episode.observations
        assert (frames.shape, frames.dtype) == ((STEPS + 1, 32, 32, 3), np.uint8)
        assert frames.std() > 10, "there is nothing to be seen"
        assert (frames[0] != frames[-1]).any(), "nothing moves"
    # What is done is the same as where numbers are seen.
    control = DMControl(max_steps=STEPS)
    recipe = domain.Recipe(task="cartpole-balance", policy="expert", episodes=2, seed=7)
    rollouts = list(control.rollouts(recipe))
    for rollout, episode in zip(rollouts, one.iterate_episodes(), strict=True):
        assert isinstance(rollout, domain.Rollout)
        np.testing.assert_array_equal(rollout.actions, episode.actions)


SHOW = """
import gymnasium
import numpy as np
from gato.pipelines.recorders import dm_control_bodies, dm_control_goals
seen = {}
for name in ("reach_top_left", "reach_bottom_right"):
    task = f"dm_control_goals/point_mass-{name}"
    environment = gymnasium.make(task, render_mode="rgb_array")
    assert environment.metadata["render_fps"] == 12, environment.metadata
    observation, _ = environment.reset(seed=0)
    assert set(observation) == {"position", "velocity"}
    seen[name] = environment.render()
    assert seen[name].shape == (240, 240, 3) and seen[name].dtype == np.uint8
    environment.step(np.ones(2, np.float32))
    assert (environment.render() != seen[name]).any(), "nothing moves"
changed = np.argwhere((seen["reach_top_left"] != seen["reach_bottom_right"]).any(-1))
# The target moved from a corner to that across; nothing else did.
assert np.ptp(changed, axis=0).min() > 60, np.ptp(changed, axis=0)
assert gymnasium.make("dm_control/reacher-easy").render_mode is None
body = gymnasium.make("dm_control_random_small/reacher-easy", render_mode="rgb_array")
body.reset(seed=1)
assert body.render().std() > 5
assert body.metadata["render_fps"] == 50
"""


@pytest.mark.slow
def test_what_is_seen_as_numbers_can_be_drawn_for_videos() -> None:
    if _run(CAN_DRAW).returncode == 3:
        pytest.skip("neither EGL nor OSMesa loads here")
    done = _run(SHOW)
    assert done.returncode == 0, done.stderr


def test_frames_need_something_that_draws() -> None:
    done = _run(CAN_DRAW, MUJOCO_GL="off")
    assert done.returncode == 3, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "least"),
    [
        ("cartpole-balance", 990),
        ("cartpole-balance_sparse", 990),
        ("cartpole-swingup", 850),
        ("cartpole-swingup_sparse", 750),
        ("point_mass-easy", 850),
        ("reacher-easy", 950),
        ("reacher-hard", 950),
    ],
)
def test_controllers_do_their_tasks(task: str, least: float) -> None:
    assert expert_return(DMControl(), task, episodes=6) > least


@pytest.mark.long
@pytest.mark.parametrize(
    ("task", "least"),
    [
        ("cheetah-run", 500),
        ("walker-run", 450),
        ("walker-stand", 950),
        ("walker-walk", 900),
    ],
)
def test_planners_do_their_tasks(task: str, least: float) -> None:
    assert expert_return(DMControl(), task, episodes=2) > least

"""Recorded Procgen episodes, read back with Minari's own library and replayed.

Where no interpreter has procgen, a toy game takes its place: behind the same worker,
and with saved states of the same layout.
"""

import os
import pathlib
import sys
from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
from procgen_interpreters import REAL, make_toy, needs_procgen
from recordings import (
    assert_plays_apart,
    assert_redoes_only,
    assert_refused,
    assert_same_data_sets,
    assert_two_workers_record_alike,
    load,
    read,
    refusals,
    replays,
)

from gato.pipelines import record
from gato.pipelines.recorders import domain, procgen_world
from gato.pipelines.recorders.procgen import Procgen, ProcgenHard
from gato.schemas.errors import GatoError
from gato.tokenizers.spec import infer_spec

EPISODES = 3
POLICIES = ("expert", "noisy", "random")
IDS = [f"procgen/maze/{policy}-v0" for policy in POLICIES]
SOLVED = (
    "caveflyer",
    "chaser",
    "climber",
    "coinrun",
    "heist",
    "jumper",
    "leaper",
    "maze",
    "miner",
    "ninja",
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        python = make_toy(tmp_path_factory.mktemp("toy"))
        patch.setenv(procgen_world.PYTHON_VARIABLE, python)
        yield python
    procgen_world._process.cache_clear()


def _command(output: pathlib.Path, *more: str) -> list[str]:
    few = ("--games", "maze", "--episodes", str(EPISODES), "--seed", "7")
    return ["procgen", "--output", str(output), *few, *more]


@pytest.fixture(scope="module")
def recorded(toy: str, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("recorded")
    assert record.main(_command(folder)) == 0
    return folder


def _assert_replays(folder: pathlib.Path, dataset_id: str) -> None:
    for episode, again in replays(folder, dataset_id):
        np.testing.assert_array_equal(episode.observations, again.observations)
        np.testing.assert_array_equal(episode.rewards, again.rewards)
        np.testing.assert_array_equal(episode.terminations, again.terminations)
        np.testing.assert_array_equal(episode.truncations, again.truncations)
        success = [False, *(info["success"] for info in again.infos)]
        np.testing.assert_array_equal(episode.infos["success"][:, 0], success)
        assert again.terminations[-1] != again.truncations[-1]
        assert not any(again.terminations[:-1] + again.truncations[:-1])
        assert episode.observations.shape[1:] == (64, 64, 3)
        assert episode.observations.dtype == np.uint8
        # The end is not drawn.
        np.testing.assert_array_equal(episode.observations[-2], again.observations[-1])
        if dataset_id.endswith("expert-v0"):
            assert success[-1]


@pytest.mark.parametrize("dataset_id", IDS)
def test_stored_actions_replay_to_the_stored_episode(
    recorded: pathlib.Path, dataset_id: str
) -> None:
    _assert_replays(recorded, dataset_id)


def test_metadata_names_the_game_its_release_and_returns(
    recorded: pathlib.Path,
) -> None:
    metadata = load(recorded, IDS[0]).storage.metadata
    assert metadata["ref_max_score"] == 10
    assert 0 <= metadata["ref_min_score"] < 10
    recipe = metadata["recorder"]["recipe"]
    assert (recipe["release"], recipe["hard"]) == ("procgen-mirror 0.0.1", False)


def test_the_build_reads_frames_and_15_actions(recorded: pathlib.Path) -> None:
    dataset, episodes = read(recorded, "procgen/maze/expert-v0")
    assert len(episodes) == EPISODES
    for episode in episodes:
        assert (episode.task, episode.success) == ("procgen/maze", True)
        spec = infer_spec(episode, dataset)
        assert [one.kind for one in spec.observations] == ["image"]
        assert spec.actions[0].num_values == 15


def test_levels_without_a_way_are_given_up(toy: str) -> None:
    """Five divides a fifth of the toy's levels."""
    recipe = domain.Recipe(task="maze", policy="expert", episodes=8)
    outcomes = list(Procgen().rollouts(recipe))
    failed = [one for one in outcomes if isinstance(one, domain.ExpertFailedError)]
    assert failed
    assert all("without a plan" in str(one) for one in failed)
    played = [one for one in outcomes if isinstance(one, domain.Rollout)]
    assert len(played) == 8
    assert not any(one.seed % 5 == 0 for one in played)


def test_an_episode_does_not_depend_on_those_before(toy: str) -> None:
    assert_plays_apart(ProcgenHard(python=toy), "maze", noise=0.5, seed=6)


def test_a_level_whose_way_is_lost_is_played_to_its_end(toy: str) -> None:
    recipe = domain.Recipe(task="maze", policy="noisy", episodes=1, noise=(1e-9,))
    game = Procgen()
    rollout = game.roll_out(game.make_environment("maze"), recipe, 10, 0)
    assert rollout.success is not None
    assert not rollout.success.any()
    assert rollout.terminations[-1] or len(rollout.actions) == 40


@pytest.mark.slow
def test_two_workers_record_the_same_data(
    recorded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert_two_workers_record_alike(_command, recorded, tmp_path, IDS)


def test_the_same_command_redoes_only_what_is_missing(
    recorded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    few = ("--policies", "expert,noisy")
    assert_redoes_only(_command(tmp_path, *few), tmp_path, IDS[1])
    assert_same_data_sets(recorded, tmp_path, IDS[:2])


test_a_wrong_option_starts_nothing = pytest.mark.usefixtures("toy")(
    refusals(
        _command,
        ("--games", "amaze", "did you mean 'maze'"),
        ("--games", "bigfish", "no expert for bigfish"),
        ("--noise", "0.5,1", "fractions between 0 and 1"),
        ("--python", sys.executable, "No module named 'procgen'; make one with"),
        ("--python", os.devnull, "interpreter that imports procgen, got '/dev/null'"),
        ("--python", "/bin/true", "it ended with code 0; make one with"),
    )
)


def test_without_an_interpreter_it_says_how_to_make_one(
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(procgen_world.PYTHON_VARIABLE, raising=False)
    output = tmp_path / "output"
    message = 'procgen/bin/pip install "procgen-mirror==0.10.7" "numpy<2"'
    assert_refused(_command(output), output, capsys, message)


def test_a_game_that_dies_is_named_with_what_it_said(toy: str) -> None:
    environment = procgen_world.Procgen("plunder")
    environment.reset(seed=1)
    with pytest.raises(GatoError, match=r"plunder.* code 3 .*the ship sank"):
        environment.step(0)
    # The next game has a process of its own.
    assert procgen_world.Procgen("maze").reset(seed=1)[0].shape == (64, 64, 3)


def test_states_of_another_layout_are_refused(toy: str) -> None:
    with pytest.raises(GatoError, match="version 1 of b'bigfish'"):
        procgen_world.Procgen("bigfish").reset(seed=1)


def test_an_ended_episode_takes_no_step(toy: str) -> None:
    environment = procgen_world.Procgen("maze")
    with pytest.raises(RuntimeError, match="reset before"):
        environment.step(0)


def test_games_have_names_to_be_evaluated_by(toy: str) -> None:
    environment = gymnasium.make("procgen_hard/maze", disable_env_checker=True)
    observation, info = environment.reset(seed=1 << 30)
    assert environment.observation_space.contains(observation)
    assert info == {"success": False}


@needs_procgen
@pytest.mark.slow
def test_the_real_games_replay(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(procgen_world.PYTHON_VARIABLE, str(REAL))
    arguments = _command(tmp_path, "--games", "maze,coinrun", "--episodes", "2")
    assert record.main(arguments) == 0
    for game in ("maze", "coinrun"):
        for policy in POLICIES:
            _assert_replays(tmp_path, f"procgen/{game}/{policy}-v0")


@needs_procgen
@pytest.mark.long
@pytest.mark.parametrize("game", SOLVED)
def test_the_expert_completes_real_levels(game: str) -> None:
    """Rollouts of the expert are completed levels; nearly all have a plan."""
    real = Procgen(python=REAL)
    assert real.has_expert(game)
    recipe = domain.Recipe(task=game, policy="expert", episodes=6)
    outcomes = list(real.rollouts(recipe))
    # Of jumper's levels a quarter begin on spikes.
    assert len(outcomes) <= 12

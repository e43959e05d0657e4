"""Recorded Sokoban episodes, read back with Minari's own library and replayed."""

import pathlib

import numpy as np
import pytest
from recordings import (
    assert_names_its_returns,
    assert_redoes_only,
    assert_same_data_sets,
    assert_same_episodes,
    assert_two_workers_record_alike,
    load,
    read,
    refusals,
    replays,
)

from gato.pipelines import record
from gato.pipelines.recorders import domain, minari_writer
from gato.pipelines.recorders.sokoban import Sokoban, SokobanGrid
from gato.tokenizers.spec import infer_spec

EPISODES = 4
POLICIES = ("expert", "noisy", "random")
IDS = [f"sokoban/7x7/{policy}-v0" for policy in POLICIES]


def _command(output: pathlib.Path, *more: str) -> list[str]:
    few = ("--rooms", "7x7", "--episodes", str(EPISODES), "--seed", "7")
    return ["sokoban", "--output", str(output), *few, *more]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("recorded")
    assert record.main(_command(folder)) == 0
    return folder


@pytest.mark.parametrize("dataset_id", IDS)
def test_stored_actions_replay_to_the_stored_episode(
    recorded: pathlib.Path, dataset_id: str
) -> None:
    for episode, again in replays(recorded, dataset_id):
        np.testing.assert_array_equal(episode.observations, again.observations)
        np.testing.assert_array_equal(episode.rewards, again.rewards)
        np.testing.assert_array_equal(episode.terminations, again.terminations)
        np.testing.assert_array_equal(episode.truncations, again.truncations)
        success = [False, *(info["success"] for info in again.infos)]
        np.testing.assert_array_equal(episode.infos["success"][:, 0], success)
        assert again.terminations[-1] or again.truncations[-1]
        if dataset_id.endswith("expert-v0"):
            assert success[-1]


def test_metadata_names_the_room_and_its_returns(recorded: pathlib.Path) -> None:
    assert_names_its_returns(recorded, "sokoban/7x7")


def test_the_build_reads_pictures_and_cells(
    recorded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert record.main(_command(tmp_path, "--grid", "--policies", "expert")) == 0
    # Patches, or discrete values: 49 tokens a step either way.
    for folder, name, kind in (
        (recorded, "sokoban", "image"),
        (tmp_path, "sokoban_grid", "discrete"),
    ):
        dataset, episodes = read(folder, f"{name}/7x7/expert-v0")
        assert len(episodes) == EPISODES
        for episode in episodes:
            assert (episode.task, episode.success) == (f"{name}/7x7", True)
            (seen,) = infer_spec(episode, dataset).observations
            assert seen.kind == kind


def test_noise_is_the_fraction_of_random_actions() -> None:
    sokoban = SokobanGrid()
    environment = sokoban.make_environment("8x8")

    def play(noise: float) -> domain.Rollout:
        recipe = domain.Recipe(task="8x8", policy="noisy", episodes=1, noise=(noise,))
        return sokoban.roll_out(environment, recipe, 8, 0)

    expert = sokoban.roll_out(
        environment, domain.Recipe(task="8x8", policy="expert", episodes=1), 8, 0
    )
    np.testing.assert_array_equal(play(1e-9).actions, expert.actions)
    wild = play(0.9).actions
    assert len(wild) > len(expert.actions)
    assert len(set(wild.tolist())) == 4


def test_a_spoilt_room_is_played_to_its_end() -> None:
    """Noise may leave no way to the end; then actions are random."""
    sokoban = SokobanGrid()
    recipe = domain.Recipe(task="7x7", policy="noisy", episodes=12, noise=(0.5,))
    rollouts = list(sokoban.rollouts(recipe))
    spoilt = [
        rollout
        for rollout in rollouts
        if isinstance(rollout, domain.Rollout) and rollout.truncations[-1]
    ]
    assert spoilt
    for rollout in spoilt:
        assert rollout.success is not None
        assert len(rollout.actions) == 120
        assert not rollout.success.any()


def test_large_observations_are_written_in_smaller_batches(
    recorded: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minari_writer, "_BATCH_BYTES", 1)
    pending = []
    flush = minari_writer.MinariWriter._flush

    def counted(writer: minari_writer.MinariWriter) -> None:
        pending.append(len(writer._pending))
        flush(writer)

    monkeypatch.setattr(minari_writer.MinariWriter, "_flush", counted)
    assert record.main(_command(tmp_path, "--policies", "expert")) == 0
    assert pending == [*[1] * EPISODES, 0]
    assert_same_episodes(load(recorded, IDS[0]), load(tmp_path, IDS[0]))


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


test_a_wrong_option_starts_nothing = refusals(
    _command,
    ("--rooms", "7x6", "did you mean '7x7'"),
    ("--noise", "0.5,1", "fractions between 0 and 1"),
)


@pytest.mark.slow
def test_the_expert_solves_nearly_all_rooms() -> None:
    sokoban = Sokoban()
    for task in sokoban.tasks():
        recipe = domain.Recipe(task=task, policy="expert", episodes=40)
        failed = sum(
            not isinstance(rollout, domain.Rollout)
            for rollout in sokoban.rollouts(recipe)
        )
        assert failed <= 2

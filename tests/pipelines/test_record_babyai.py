"""Recorded BabyAI episodes, read back with Minari's own library and replayed."""

import fcntl
import functools
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import recorder_jobs
from recordings import (
    assert_names_its_returns,
    assert_redoes_only,
    assert_refused,
    assert_same_data_sets,
    assert_same_episodes,
    assert_seeds_for_recording,
    listed,
    load,
    refusals,
    replays,
)

from gato.pipelines import record
from gato.pipelines.recorders import chunks, domain, pool, recording, takes
from gato.pipelines.recorders.babyai import BabyAI
from gato.schemas.errors import GatoError

GOTO, PICKUP = "BabyAI-GoToRedBall-v0", "BabyAI-PickupLoc-v0"
EPISODES = 4


def _command(output: pathlib.Path, *more: str) -> list[str]:
    levels = ("--levels", f"{GOTO},{PICKUP}", "--episodes", str(EPISODES))
    return ["babyai", "--output", str(output), *levels, "--seed", "7", *more]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("recorded")
    assert record.main(_command(folder)) == 0
    return folder


IDS = [
    f"babyai/{level}/{policy}-v0"
    for level in ("GoToRedBall", "PickupLoc")
    for policy in ("expert", "noisy", "random")
]


def test_minari_lists_the_data_sets_that_were_asked_for(
    recorded: pathlib.Path,
) -> None:
    assert listed(recorded) == sorted(IDS)


def _assert_replays(folder: pathlib.Path, dataset_id: str) -> None:
    played = replays(folder, dataset_id)
    assert len(played) == EPISODES
    for episode, again in played:
        images = np.stack([o["image"] for o in again.observations])
        np.testing.assert_array_equal(episode.observations["image"], images)
        assert episode.observations["image"].dtype == np.uint8
        directions = [o["direction"] for o in again.observations]
        np.testing.assert_array_equal(episode.observations["direction"], directions)
        missions = [o["mission"] for o in again.observations]
        assert list(episode.observations["mission"]) == missions
        assert episode.rewards.tolist() == again.rewards
        assert episode.terminations.tolist() == again.terminations
        assert episode.truncations.tolist() == again.truncations
        assert episode.terminations[-1] or episode.truncations[-1]
        success = episode.infos["success"]
        assert success.shape == (len(episode.actions) + 1, 1)
        assert success[-1, 0] == (episode.rewards.sum() > 0)
        assert not success[:-1].any()


@pytest.mark.parametrize("dataset_id", IDS)
def test_stored_actions_replay_to_the_stored_observations(
    recorded: pathlib.Path, dataset_id: str
) -> None:
    _assert_replays(recorded, dataset_id)


def test_views_are_drawn_when_asked_for(tmp_path: pathlib.Path) -> None:
    arguments = _command(tmp_path, "--policies", "noisy", "--tile", "8")
    assert record.main(arguments) == 0
    drawn = "babyai/PickupLoc/noisy-v0"
    first = next(iter(load(tmp_path, drawn).iterate_episodes()))
    assert first.observations["image"].shape[1:] == (56, 56, 3)
    _assert_replays(tmp_path, drawn)


@pytest.mark.parametrize("tile", ["0", "33"])
def test_cells_of_no_size_are_refused(
    tmp_path: pathlib.Path, tile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record.main(_command(tmp_path, "--tile", tile)) == 2
    assert "--tile takes 1 to 32 pixels a cell" in capsys.readouterr().err


def test_metadata_names_the_task_and_the_levels_returns(
    recorded: pathlib.Path,
) -> None:
    assert_names_its_returns(recorded, "babyai/GoToRedBall", GOTO)
    for dataset_id in IDS[:3]:
        metadata = json.loads(
            (recorded / dataset_id / "data/metadata.json").read_text()
        )
        assert metadata["jpeg_encoding"] is False


def test_seeds_are_unique_and_below_the_first_evaluation_seed(
    recorded: pathlib.Path,
) -> None:
    for dataset_ids in (IDS[:3], IDS[3:]):
        assert_seeds_for_recording(recorded, dataset_ids, EPISODES)


def test_many_seeds_never_repeat_nor_leave_their_range() -> None:
    drawn = []
    for policy in domain.POLICIES:
        recipe = domain.Recipe(task=GOTO, policy=policy, episodes=1, noise=(0.5,))
        stream = domain.seeds(recipe)
        drawn += [next(stream) for _ in range(20_000)]
    assert len(set(drawn)) == len(drawn)
    assert min(drawn) >= 0
    assert max(drawn) < 2**30


def test_two_workers_record_the_same_data(
    recorded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert record.main(_command(tmp_path, "--workers", "2")) == 0
    assert_same_data_sets(recorded, tmp_path, IDS)


def test_a_relative_output(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["--levels", GOTO, "--episodes", "1", "--policies", "random"]
    assert record.main(["babyai", "--output", "raw", *few]) == 0
    assert (tmp_path / "raw/babyai/GoToRedBall/random-v0/data/main_data.hdf5").exists()


def test_arrow_holds_the_same_episodes(
    recorded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    arguments = _command(tmp_path, "--data_format", "arrow", "--policies", "noisy")
    assert record.main(arguments) == 0
    for dataset_id in IDS[1::3]:
        arrow = load(tmp_path, dataset_id)
        assert (arrow.storage.data_path / "0" / "part-0.arrow").exists()
        assert_same_episodes(load(recorded, dataset_id), arrow)
        # The expert and the random policy were played for their returns alone.
        for key in ("ref_min_score", "ref_max_score"):
            one = load(recorded, dataset_id).storage.metadata[key]
            assert arrow.storage.metadata[key] == one
    assert listed(tmp_path) == sorted(IDS[1::3])


def test_another_seed_records_other_episodes(
    recorded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    arguments = _command(tmp_path, "--policies", "expert", "--seed", "8")
    assert record.main(arguments) == 0
    one, two = (
        next(iter(load(folder, IDS[0]).iterate_episodes()))
        for folder in (recorded, tmp_path)
    )
    assert not np.array_equal(one.observations["image"], two.observations["image"])


def test_noise_changes_what_the_expert_does() -> None:
    level = "BabyAI-GoToRedBallNoDists-v0"  # No boxes: the bot gives up on open ones.
    babyai = BabyAI()
    environment = babyai.make_environment(level)
    recipes = [
        domain.Recipe(task=level, policy=policy, episodes=1, noise=(0.5,))
        for policy in ("expert", "noisy")
    ]
    differing = 0
    for seed in range(8):
        played = [babyai.roll_out(environment, r, seed, 0) for r in recipes]
        first = [p.observations["image"][0] for p in played]
        np.testing.assert_array_equal(first[0], first[1])
        differing += not np.array_equal(played[0].actions, played[1].actions)
    assert differing >= 6


def test_noisy_episodes_take_the_fractions_in_turn() -> None:
    recipe = domain.Recipe(task=GOTO, policy="noisy", episodes=1, noise=(0.1, 0.3))
    assert [recipe.episode_noise(i) for i in range(4)] == [0.1, 0.3, 0.1, 0.3]


def test_the_same_command_redoes_only_what_is_missing(
    recorded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    arguments = _command(tmp_path, "--policies", "expert,noisy")
    assert_redoes_only(arguments, tmp_path, IDS[1])
    assert_same_episodes(load(recorded, IDS[1]), load(tmp_path, IDS[1]))
    metadata = [load(f, IDS[1]).storage.metadata for f in (recorded, tmp_path)]
    for key in ("ref_min_score", "ref_max_score"):
        assert metadata[0][key] == metadata[1][key]


def test_a_policy_that_is_not_stored_is_played_no_longer_than_its_mean_needs(
    recorded: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_REFERENCE_EPISODES", 2)
    assert record.main(_command(tmp_path, "--policies", "random")) == 0
    episodes = load(recorded, "babyai/GoToRedBall/expert-v0").iterate_episodes()
    returns = [float(episode.rewards.sum()) for episode in episodes]
    played = load(tmp_path, "babyai/GoToRedBall/random-v0").storage.metadata
    assert played["ref_max_score"] == pytest.approx(np.mean(returns[:2]))
    assert played["ref_max_score"] != pytest.approx(np.mean(returns))


def _lives(process: psutil.Process) -> bool:
    try:
        # In a container, nobody may collect an orphan that has ended.
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
def test_a_killed_recording_goes_on_to_the_same_data(
    recorded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    command = [sys.executable, "-m", "gato.pipelines.record", *_command(tmp_path)]
    # Workers that only the end of their command can end: they have much to play.
    command[command.index("--episodes") + 1] = "100000"
    with subprocess.Popen([*command, "--workers", "2"]) as process:
        while not list(tmp_path.glob(".recording/chunks/*/*.json")):
            assert process.poll() is None
            time.sleep(0.05)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert not list(tmp_path.glob("babyai/*/*-v0"))
    assert workers
    # Each notices by itself, in its own time on a busy machine.
    deadline = time.monotonic() + 60
    while any(map(_lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(filter(_lives, workers)), "workers outlived their command"
    assert record.main(_command(tmp_path)) == 0
    assert_same_data_sets(recorded, tmp_path, IDS)
    assert [path.name for path in tmp_path.iterdir()] == ["babyai"]


def test_data_of_another_recipe_is_refused(
    recorded: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "noisy-v0 was recorded with noise [0.1, 0.3], now [0.2]"
    assert_refused(_command(recorded, "--noise", "0.2"), recorded, capsys, message)


def test_a_folder_without_a_recipe_is_refused(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / IDS[0]).mkdir(parents=True)
    assert record.main(_command(tmp_path)) == 2
    assert "does not" in capsys.readouterr().err


def test_two_recorders_of_one_folder(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".recording").mkdir()
    handle = os.open(tmp_path / ".recording", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        assert record.main(_command(tmp_path)) == 2
    finally:
        os.close(handle)
    assert "another gato-record" in capsys.readouterr().err


test_a_wrong_option_starts_nothing = refusals(
    _command,
    ("--levels", "BabyAI-GotoLocal-v0", "did you mean 'BabyAI-GoToLocal-v0'"),
    ("--policies", "expert,best", "got 'best'"),
    ("--noise", "0,0.5", "between 0 and 1"),
    ("--episodes", "0", "at least 1"),
    ("--seed", "-1", "2**64"),
)


def test_noise_that_is_no_number(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        record.main(_command(tmp_path, "--noise", "much"))
    assert stopped.value.code == 2
    assert "--noise" in capsys.readouterr().err


def test_all_are_the_levels_that_the_bot_solves() -> None:
    babyai = BabyAI()
    left_out = set(babyai.tasks()) - set(babyai.chosen(("all",), ("expert",)))
    names = ("KeyInBox", *(f"PutNextS{size}Carrying" for size in ("5N2", "6N3", "7N4")))
    assert left_out == {f"BabyAI-{name}-v0" for name in names}


def test_a_level_the_bot_cannot_solve_does_not_stop_the_others(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    levels = f"BabyAI-KeyInBox-v0,{GOTO}"
    arguments = _command(tmp_path, "--levels", levels, "--policies", "expert")
    assert record.main(arguments) == 1
    assert (
        "BabyAI-KeyInBox-v0, expert: the expert gave up on" in capsys.readouterr().err
    )
    assert listed(tmp_path) == [IDS[0]]


def test_a_seed_whose_bot_plans_for_ever_is_replaced_and_counted(
    tmp_path: pathlib.Path,
) -> None:
    recipe = domain.Recipe(task="BabyAI-UnlockToUnlock-v0", policy="expert", episodes=2)
    results = list(BabyAI().rollouts(recipe))
    failures = [r for r in results if isinstance(r, domain.ExpertFailedError)]
    assert failures
    assert {str(failure) for failure in failures} == {"the bot plans for ever"}
    assert len(results) - len(failures) == 2
    take = takes.Take(BabyAI(), recipe, str(tmp_path), is_kept=True)
    run_all = functools.partial(pool.run_all, workers=1)
    assert takes.play([take], run_all, title="") == []
    assert take.result().failed_seeds == len(failures)
    played = itertools.chain.from_iterable(map(chunks.read_episodes, take.chunks))
    wanted = [r.seed for r in results if isinstance(r, domain.Rollout)]
    assert [rollout.seed for rollout in played][:2] == wanted


def test_the_pool_returns_outcomes_and_errors_of_all_jobs() -> None:
    jobs = [3, -1, 5]
    for workers in (1, 2):
        outcomes = dict(
            pool.run(
                recorder_jobs.double,
                jobs,
                workers=workers,
                title="",
                items="",
                expected=3,
            )
        )
        refused = outcomes.pop(-1)
        assert isinstance(refused, GatoError)
        assert refused.args == ("-1 is negative",)
        assert outcomes == {3: 6, 5: 10}


def test_a_worker_that_dies_ends_in_a_message() -> None:
    outcomes = pool.run(
        recorder_jobs.die, [1, 2], workers=2, title="", items="", expected=2
    )
    with pytest.raises(GatoError, match="worker process died"):
        list(outcomes)

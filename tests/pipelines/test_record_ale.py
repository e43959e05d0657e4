"""Recorded Atari episodes, read back with Minari's own library and replayed."""

import itertools
import json
import pathlib

import gymnasium
import numpy as np
import pytest
from recordings import (
    assert_plays_apart,
    assert_redoes_only,
    assert_same_data_sets,
    assert_two_workers_record_alike,
    expert_return,
    load,
    read,
    refusals,
    replays,
)

from gato.pipelines import record
from gato.pipelines.recorders import ale_games, ale_world
from gato.pipelines.recorders.ale import Atari, AtariExtended
from gato.pipelines.recorders.ale_experts import EXPERTS
from gato.tokenizers.spec import infer_spec

EPISODES, STEPS = 2, 60
POLICIES = ("expert", "noisy", "random")
SETTING = ("mode", "difficulty")
IDS = [f"atari/Breakout/{policy}-v0" for policy in POLICIES]


def _command(output: pathlib.Path, *more: str) -> list[str]:
    sizes = ("--episodes", str(EPISODES), "--max_steps", str(STEPS), "--seed", "7")
    return ["ale", "--output", str(output), "--games", "Breakout", *sizes, *more]


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
        assert episode.observations.shape == (STEPS + 1, 84, 84)
        assert episode.observations.dtype == np.uint8
        assert set(episode.actions.tolist()) <= {0, 1, 2, 3}


def test_an_episode_does_not_depend_on_those_before() -> None:
    assert_plays_apart(Atari(max_steps=40), "Freeway", noise=0.5)


def test_a_build_reads_games_without_an_expert_in_colour(
    tmp_path: pathlib.Path,
) -> None:
    few = ("--games", "Pong,Seaquest", "--policies", "random", "--rgb")
    assert record.main(_command(tmp_path, *few)) == 0
    dataset_id = "atari_rgb/Seaquest/random-v0"
    path = tmp_path / dataset_id / "data" / "metadata.json"
    metadata = json.loads(path.read_bytes())
    assert "ref_max_score" not in metadata
    assert metadata["ref_min_score"] >= 0
    assert json.loads(metadata["env_spec"])["id"] == "atari_rgb/Seaquest"
    dataset, episodes = read(tmp_path, dataset_id)
    for episode in episodes:
        assert (episode.task, episode.success) == ("atari_rgb/Seaquest", None)
        spec = infer_spec(episode, dataset)
        assert [one.kind for one in spec.observations] == ["image"]
        assert spec.actions[0].num_values == 18


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_an_episode_says_which_mode_and_difficulty_it_drew(
    tmp_path: pathlib.Path, data_format: str
) -> None:
    few = ("--games", "KingKong", "--policies", "random", "--modes", "random")
    assert record.main(_command(tmp_path, *few, "--data_format", data_format)) == 0
    dataset = load(tmp_path, "ale_extended/KingKong/random-v0")
    assert dataset.env_spec is not None
    assert dataset.env_spec.id == "ale_extended/KingKong"
    environment = gymnasium.make(dataset.env_spec)
    said = list(dataset.storage.get_episode_metadata(range(EPISODES)))
    for episode, about in zip(dataset.iterate_episodes(), said, strict=True):
        setting = {name: int(value) for name, value in about["options"].items()}
        assert set(setting) == set(SETTING)
        # It follows from the seed, and can be asked for by itself.
        for options in (None, setting):
            first, info = environment.reset(seed=int(about["seed"]), options=options)
            assert {name: info[name] for name in setting} == setting
            steps = [environment.step(action) for action in episode.actions]
            seen = [first, *(step[0] for step in steps)]
            np.testing.assert_array_equal(episode.observations, seen)
            np.testing.assert_array_equal(episode.rewards, [step[1] for step in steps])
    environment.close()


def test_modes_change_what_is_seen() -> None:
    game = ale_world.make_game("Galaxian", draw_setting=True)
    seen = set()
    for mode in (1, 5, 9):
        game.reset(seed=3, options={"mode": mode, "difficulty": 0})
        seen.add(np.asarray([game.step(0)[0] for _ in range(40)]).tobytes())
    assert len(seen) == 3
    # Without a seed it goes on drawing.
    game.reset(seed=3)
    told = [tuple(game.reset()[1][name] for name in SETTING) for _ in range(6)]
    assert len(set(told)) > 1


def test_every_setting_is_drawn_about_as_often() -> None:
    choices = {"mode": [1, 4, 9], "difficulty": [0, 3]}
    drawn = [tuple(ale_world.drawn(seed, choices).values()) for seed in range(3000)]
    for setting in itertools.product(*choices.values()):
        assert 400 < drawn.count(setting) < 600


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
    ("--games", "Brekout", "did you mean 'Breakout'"),
    ("--games", "Alien", "no expert for Alien"),
    ("--noise", "0.5,1", "fractions between 0 and 1"),
    ("--max_steps", "27001", "from 1 to 27000"),
)


def test_groups_are_what_the_policies_can_play_of_them() -> None:
    atari, random = Atari(), ("random",)
    assert len(atari.chosen(("all",), random)) > 100
    assert atari.chosen(("atari",), random) == ale_games.CANONICAL
    assert atari.chosen(("extended",), random) == ale_games.EXTENDED
    assert atari.chosen(("all",), POLICIES) == tuple(sorted(EXPERTS))
    searched = ("AirRaid", "Galaxian", "LostLuggage", "MrDo", "Pacman", "Pooyan")
    extended = AtariExtended()
    assert extended.chosen(("extended",), POLICIES) == (*searched, "Turmoil")
    # A game that is named is not left out, and none comes twice.
    assert atari.chosen(("Klax", "atari"), POLICIES)[0] == "Klax"
    both = atari.chosen(("Pong", "atari", "all"), random)
    assert sorted(both) == atari.tasks()


def test_the_lists_are_two_sets_of_games() -> None:
    canonical, extended = set(ale_games.CANONICAL), set(ale_games.EXTENDED)
    assert (len(canonical), len(extended)) == (51, 28)
    assert not canonical & extended
    assert canonical | extended <= set(Atari().tasks())
    assert list(ale_games.CANONICAL) == sorted(canonical)
    assert list(ale_games.EXTENDED) == sorted(extended)


@pytest.mark.slow
def test_the_extended_games_have_the_most_settings() -> None:
    other = "Berzerk Defender Phoenix Pitfall Skiing Solaris Surround YarsRevenge"
    usual = {*ale_games.CANONICAL, *other.split()}
    assert len(usual) == 57
    counts = {}
    for game in set(Atari().tasks()) - usual:
        ale = gymnasium.make(f"ALE/{game}-v5").unwrapped.ale  # type: ignore
        modes, difficulties = ale.getAvailableModes(), ale.getAvailableDifficulties()
        counts[game] = len(modes) * len(difficulties)
    most = sorted(counts, key=lambda game: (-counts[game], game))[:28]
    assert sorted(most) == list(ale_games.EXTENDED)
    assert all(counts[game] > 1 for game in most)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("atari", "game", "least"),
    [
        # Random play comes to about -1, 1, 0, -19, below -6,600, 300 and 16.
        (Atari(max_steps=900), "Boxing", -1),
        (Atari(), "Breakout", 40),
        (Atari(), "Freeway", 20),
        (Atari(max_steps=900), "Pong", -6),
        (Atari(), "Skiing", -3600),
        (AtariExtended(), "Turmoil", 400),
        (AtariExtended(max_steps=300), "Pacman", 60),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_experts_score(atari: Atari, game: str, least: float) -> None:
    assert expert_return(atari, game, episodes=3) > least

"""Recorded Atari episodes, read back with Minari's own library and replayed."""

import json
import pathlib

import gymnasium
import numpy as np
import pytest
from recordings import (
    assert_redoes_only,
    assert_refused,
    assert_same_data_sets,
    load,
    seeds,
)

from gato.pipelines import record
from gato.pipelines.recorders import domain
from gato.pipelines.recorders.ale import Atari
from gato.pipelines.sources.base import Partition
from gato.pipelines.sources.minari import MinariSource
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode
from gato.tokenizers.spec import infer_spec

EPISODES, STEPS = 2, 60
POLICIES = ("expert", "noisy", "random")
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
    """The environment is rebuilt from what the data set says of it."""
    dataset = load(recorded, dataset_id)
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
        rewards, terminations, truncations = zip(*outcomes, strict=True)
        np.testing.assert_array_equal(episode.observations, observations)
        np.testing.assert_array_equal(episode.rewards, rewards)
        np.testing.assert_array_equal(episode.terminations, terminations)
        np.testing.assert_array_equal(episode.truncations, truncations)
        assert episode.observations.shape == (STEPS + 1, 84, 84)
        assert episode.observations.dtype == np.uint8
        assert set(episode.actions.tolist()) <= {0, 1, 2, 3}


def test_an_episode_does_not_depend_on_those_before() -> None:
    atari = Atari(max_steps=40)
    recipe = domain.Recipe(task="Freeway", policy="noisy", episodes=1, noise=(0.5,))
    environment = atari.make_environment("Freeway")
    alone = atari.roll_out(environment, recipe, 5, 0)
    other = atari.roll_out(environment, recipe, 9, 0)
    again = atari.roll_out(environment, recipe, 5, 0)
    np.testing.assert_array_equal(alone.observations, again.observations)
    np.testing.assert_array_equal(alone.actions, again.actions)
    assert (alone.actions != other.actions).any()


def test_a_build_reads_games_without_an_expert_in_colour(
    tmp_path: pathlib.Path,
) -> None:
    few = ("--games", "Pong,Seaquest", "--policies", "random", "--rgb")
    assert record.main(_command(tmp_path, *few)) == 0
    path = tmp_path / "atari_rgb" / "Seaquest" / "random-v0"
    metadata = json.loads((path / "data" / "metadata.json").read_bytes())
    assert "ref_max_score" not in metadata
    assert metadata["ref_min_score"] >= 0
    assert json.loads(metadata["env_spec"])["id"] == "atari_rgb/Seaquest"
    dataset = Dataset.model_validate(
        {"name": "atari", "format": "minari", "paths": [str(path)]}
    )
    where = Partition(path=str(path), relative_path="Seaquest/random-v0")
    for episode in MinariSource().read(where, dataset):
        assert isinstance(episode, Episode), episode
        assert (episode.task, episode.success) == ("atari_rgb/Seaquest", None)
        spec = infer_spec(episode, dataset)
        assert [one.kind for one in spec.observations] == ["image"]
        assert spec.actions[0].num_values == 18


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
    few = ("--policies", "expert,noisy")
    assert_redoes_only(_command(tmp_path, *few), tmp_path, IDS[1])
    assert_same_data_sets(recorded, tmp_path, IDS[:2])


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--games", "Brekout", "did you mean 'Breakout'"),
        ("--games", "Pong", "no expert for Pong"),
        ("--noise", "0.5,1", "fractions between 0 and 1"),
        ("--max_steps", "27001", "from 1 to 27000"),
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


def test_all_are_the_games_that_the_policies_can_play() -> None:
    atari = Atari()
    assert len(atari.playable(("random",))) > 100
    assert atari.playable(("expert", "noisy", "random")) == ("Breakout", "Freeway")


@pytest.mark.slow
@pytest.mark.parametrize(("game", "least"), [("Breakout", 40), ("Freeway", 20)])
def test_experts_score(game: str, least: float) -> None:
    """A human scores about 30 in both."""
    recipe = domain.Recipe(task=game, policy="expert", episodes=3)
    rollouts = Atari().rollouts(recipe)
    returns = [r.rewards.sum() for r in rollouts if isinstance(r, domain.Rollout)]
    assert np.mean(returns) > least

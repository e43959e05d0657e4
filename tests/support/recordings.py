"""Reads recorded data back (Minari data sets by Minari itself), and compares it.

What holds of the recorders of all domains is checked here, with the commands and the
environments of each.
"""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import gymnasium
import minari
import numpy as np
import pytest

from gato.pipelines import record
from gato.pipelines.recorders import domain
from gato.pipelines.sources.base import Partition
from gato.pipelines.sources.minari import MinariSource
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode

# Takes the output and further options.
Command = Callable[..., list[str]]


class Replay(NamedTuple):
    """What an environment answers: its first observation, and each step."""

    observations: list[Any]
    rewards: list[float]
    terminations: list[bool]
    truncations: list[bool]
    infos: list[dict[str, Any]]


@contextlib.contextmanager
def minari_root(folder: pathlib.Path) -> Iterator[None]:
    """Points Minari at a folder of data sets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        yield


def load(folder: pathlib.Path, dataset_id: str) -> minari.MinariDataset:
    """Returns a recorded data set."""
    with minari_root(folder):
        return minari.load_dataset(dataset_id)


def listed(folder: pathlib.Path) -> list[str]:
    """Returns the ids of a folder's data sets as Minari lists them, sorted."""
    with minari_root(folder):
        return sorted(minari.list_local_datasets())


def seeds(folder: pathlib.Path, dataset_id: str) -> list[int]:
    """Returns the seeds of a data set's episodes."""
    dataset = load(folder, dataset_id)
    about = dataset.storage.get_episode_metadata(range(dataset.total_episodes))
    return [int(episode["seed"]) for episode in about]


def replays(
    folder: pathlib.Path, dataset_id: str
) -> list[tuple[minari.EpisodeData, Replay]]:
    """Returns each stored episode, and its actions played again.

    The environment is rebuilt from what the data set says of it.
    """
    dataset = load(folder, dataset_id)
    assert dataset.env_spec is not None
    environment = gymnasium.make(dataset.env_spec)
    played = []
    pairs = zip(dataset.iterate_episodes(), seeds(folder, dataset_id), strict=True)
    for episode, seed in pairs:
        first, _ = environment.reset(seed=seed)
        steps = [environment.step(action) for action in episode.actions]
        observations, *rest = map(list, zip(*steps, strict=True))
        played.append((episode, Replay([first, *observations], *rest)))
    environment.close()
    return played


def read(folder: pathlib.Path, dataset_id: str) -> tuple[Dataset, list[Episode]]:
    """Returns a recorded data set as a build reads it, and how that was asked for."""
    path = str(folder / dataset_id)
    dataset = Dataset.model_validate(
        # A task is named by what was recorded, and not by this.
        {"name": "named_otherwise", "format": "minari", "paths": [path]}
    )
    where = Partition(path=path, relative_path=dataset_id.partition("/")[2])
    episodes = []
    for episode in MinariSource().read(where, dataset):
        assert isinstance(episode, Episode), episode
        episodes.append(episode)
    return dataset, episodes


def expert_return(player: domain.Domain, task: str, episodes: int) -> float:
    """Returns the mean return of an expert's episodes."""
    recipe = domain.Recipe(task=task, policy="expert", episodes=episodes)
    rollouts = player.rollouts(recipe)
    returns = [r.rewards.sum() for r in rollouts if isinstance(r, domain.Rollout)]
    return float(np.mean(returns))


def _assert_equal(one: Any, two: Any) -> None:
    if isinstance(one, dict):
        assert set(one) == set(two)
        for key in one:
            _assert_equal(one[key], two[key])
    elif isinstance(one, list):
        assert one == list(two)
    else:
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)


def assert_same_episodes(one: minari.MinariDataset, two: minari.MinariDataset) -> None:
    """Compares all that is stored of two data sets' episodes."""
    assert one.total_episodes == two.total_episodes
    for a, b in zip(one.iterate_episodes(), two.iterate_episodes(), strict=True):
        _assert_equal(a.observations, b.observations)
        for name in ("actions", "rewards", "terminations", "truncations"):
            _assert_equal(getattr(a, name), getattr(b, name))
        # Where there are none, HDF5 gives None back and Arrow an empty dict.
        assert bool(a.infos) == bool(b.infos)
        if a.infos and b.infos:
            _assert_equal(a.infos["success"], b.infos["success"])


def assert_same_data_sets(
    one: pathlib.Path, two: pathlib.Path, dataset_ids: Sequence[str]
) -> None:
    """Compares all that is stored of data sets in two folders."""
    for dataset_id in dataset_ids:
        assert_same_episodes(load(one, dataset_id), load(two, dataset_id))


def assert_seeds_for_recording(
    folder: pathlib.Path, dataset_ids: Sequence[str], episodes: int
) -> None:
    """Checks that no two episodes share a seed, and none has one of evaluation."""
    drawn = [seed for dataset_id in dataset_ids for seed in seeds(folder, dataset_id)]
    assert len(set(drawn)) == len(dataset_ids) * episodes
    assert min(drawn) >= 0
    assert max(drawn) < 2**30


def assert_names_its_returns(
    folder: pathlib.Path, task: str, environment_id: str | None = None
) -> None:
    """Checks what the data sets of a task say of it.

    Args:
        folder: Holds them.
        task: The part of their ids before the policy.
        environment_id: Of the environment, if it is not `task`.
    """
    means = {}
    for policy in ("expert", "random"):
        dataset = load(folder, f"{task}/{policy}-v0")
        means[policy] = np.mean(
            [episode.rewards.sum() for episode in dataset.iterate_episodes()]
        )
    assert means["expert"] > means["random"]
    for policy in ("expert", "noisy", "random"):
        metadata = load(folder, f"{task}/{policy}-v0").storage.metadata
        assert json.loads(metadata["env_spec"])["id"] == (environment_id or task)
        assert metadata["ref_max_score"] == pytest.approx(means["expert"])
        assert metadata["ref_min_score"] == pytest.approx(means["random"])


def assert_plays_apart(
    player: domain.Domain,
    task: str,
    *,
    policy: domain.Policy = "noisy",
    noise: float,
    seed: int = 5,
) -> None:
    """Checks that an episode depends on its seed, and not on those before."""
    recipe = domain.Recipe(task=task, policy=policy, episodes=1, noise=(noise,))
    environment = player.make_environment(task)
    alone, other, again = (
        player.roll_out(environment, recipe, one, 0) for one in (seed, 9, seed)
    )
    _assert_equal(alone.observations, again.observations)
    np.testing.assert_array_equal(alone.actions, again.actions)
    assert not np.array_equal(alone.actions, other.actions)


def assert_two_workers_record_alike(
    command: Command,
    recorded: pathlib.Path,
    output: pathlib.Path,
    dataset_ids: Sequence[str],
) -> None:
    """Records again by two workers and in the other format, and compares."""
    arguments = command(output, "--workers", "2", "--data_format", "arrow")
    assert record.main(arguments) == 0
    assert_same_data_sets(recorded, output, dataset_ids)


def changes(folder: pathlib.Path) -> dict[str, int]:
    """Returns each file with when it was last written, in ns."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_redoes_only(
    arguments: Sequence[str], folder: pathlib.Path, lost: str
) -> None:
    """Records, loses one data set as after a kill, and records again."""
    assert record.main(arguments) == 0
    before = changes(folder)
    # It never came to its place, its parts lie about.
    (folder / ".recording").mkdir()
    (folder / lost).rename(folder / ".recording" / "half")
    assert record.main(arguments) == 0
    after = changes(folder)
    assert set(after) == set(before)
    redone = {name.split("/data/")[0] for name in before if before[name] != after[name]}
    assert redone == {lost}


def assert_refused(
    arguments: Sequence[str],
    output: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    message: str,
) -> None:
    """Checks that a command ends in a usage error before it writes anything."""
    before = changes(output)
    assert record.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert changes(output) == before


def refusals(command: Command, *cases: tuple[str, str, str]) -> Callable[..., None]:
    """Returns a test that wrong options start nothing.

    Args:
        command: Takes the output and an option with its value.
        cases: An option, its value, and what the message says.
    """

    @pytest.mark.parametrize(("option", "value", "message"), cases)
    def test(
        tmp_path: pathlib.Path,
        capsys: pytest.CaptureFixture[str],
        option: str,
        value: str,
        message: str,
    ) -> None:
        output = tmp_path / "output"
        assert_refused(command(output, option, value), output, capsys, message)
        assert not output.exists()

    return test

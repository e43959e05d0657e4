"""Chunks of episodes: whatever their size, the episodes of one player in one go."""

import dataclasses
import functools
import itertools
import pathlib
from typing import Any, ClassVar, NoReturn

import numpy as np
import pytest

from gato.pipelines.recorders import chunks, pool, takes
from gato.pipelines.recorders.domain import (
    Description,
    Domain,
    ExpertFailedError,
    Recipe,
    Rollout,
    seeds,
)
from gato.schemas.errors import GatoError

RUN_ALL = functools.partial(pool.run_all, workers=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy(Domain):
    """Episodes of one to three steps; the expert fails on every `failing`-th seed."""

    namespace: ClassVar[str] = "toy"
    title: ClassVar[str] = "Toy"
    option: ClassVar[str] = "tasks"

    failing: int = 0
    version: str = "1"

    def tasks(self) -> list[str]:
        return ["task"]

    def short_name(self, task: str) -> str:
        return task

    def check_noise(self, noise: Any) -> None:
        pass

    def conditions(self) -> dict[str, Any]:
        return {"version": self.version}

    def describe(self, recipe: Recipe) -> Description:
        raise NotImplementedError

    def make_environment(self, task: str) -> str:
        return task

    def roll_out(
        self, environment: str, recipe: Recipe, seed: int, attempt: int
    ) -> Rollout:
        if self.failing and attempt % self.failing:
            raise ExpertFailedError(f"attempt {attempt}")
        drawn = np.random.default_rng(seed)
        steps = attempt % 3 + 1
        return Rollout(
            seed=seed,
            observations={
                "text": ["käse", *["b"] * steps],
                "image": drawn.integers(0, 255, (steps + 1, 2, 2), np.uint8),
            },
            actions=drawn.normal(size=(steps, 2)).astype(np.float32),
            rewards=drawn.normal(size=steps),
            terminations=np.zeros(steps, bool),
            truncations=np.arange(steps) == steps - 1,
            success=None
            if recipe.policy == "random"
            else np.ones((steps + 1, 1), bool),
            about={"mode": 3, "gears": np.array([0.5, seed])},
        )


def _assert_same(one: Any, two: Any) -> None:
    assert type(one) is type(two)
    if isinstance(one, dict):
        assert set(one) == set(two)
        for key in one:
            _assert_same(one[key], two[key])
    elif isinstance(one, np.ndarray):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)
    else:
        assert one == two


def _recipe(policy: Any = "expert", episodes: int = 7) -> Recipe:
    return Recipe(task="task", policy=policy, episodes=episodes, noise=(0.1, 0.2))


def _take(domain: Domain, recipe: Recipe, folder: pathlib.Path) -> takes.Take:
    take = takes.Take(domain, recipe, str(folder), is_kept=True)
    assert takes.play([take], RUN_ALL, title="") == []
    return take


def _episodes(take: takes.Take) -> list[Rollout]:
    read = itertools.chain.from_iterable(map(chunks.read_episodes, take.chunks))
    return list(itertools.islice(read, take.recipe.episodes))


@pytest.mark.parametrize("policy", ["expert", "random"])
@pytest.mark.parametrize("failing", [0, 2, 5])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_chunks_hold_the_episodes_of_one_player(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    policy: Any,
    failing: int,
    size: int,
) -> None:
    monkeypatch.setattr(Toy, "episodes_per_chunk", size)
    domain, recipe = Toy(failing=failing), _recipe(policy)
    outcomes = list(domain.rollouts(recipe))
    alone = [one for one in outcomes if isinstance(one, Rollout)]
    take = _take(domain, recipe, tmp_path)
    for one, two in zip(alone, _episodes(take), strict=True):
        _assert_same(dataclasses.asdict(one), dataclasses.asdict(two))
    result = take.result()
    assert result.episodes == 7
    assert result.failed_seeds == len(outcomes) - 7
    assert result.steps == sum(len(one.actions) for one in alone)
    assert result.mean_return == pytest.approx(
        np.mean([one.rewards.sum() for one in alone]), rel=1e-12
    )
    assert result.solved == (None if policy == "random" else 7)


def test_the_rounds_try_what_is_missing(tmp_path: pathlib.Path) -> None:
    domain = Toy(failing=2)
    take = takes.Take(domain, _recipe(episodes=250), str(tmp_path), is_kept=False)
    tried = []
    while not take.is_done:
        planned = take.next_chunks()
        tried.append(sum(len(chunk.seeds) for chunk in planned))
        RUN_ALL(chunks.play, planned, title="", items="", expected=0)
        take.note(planned)
    # Half of the seeds fail: the first hundred tell so.
    assert tried == [100, 400]
    drawn = [seed for chunk in take.chunks for seed in chunk.seeds]
    assert drawn == list(itertools.islice(seeds(take.recipe), 500))
    # Played for their returns alone, they leave no episodes.
    assert {path.suffix for path in tmp_path.glob("*/*")} == {".json"}


def test_an_expert_that_fails_is_found_out_early(tmp_path: pathlib.Path) -> None:
    recipe = _recipe(episodes=100_000)
    take = takes.Take(Toy(failing=1 << 30), recipe, str(tmp_path), is_kept=True)
    (error,) = takes.play([take], RUN_ALL, title="")
    # One episode was played: sixty failures are too many.
    assert "the expert gave up on 60 of 61 seeds (last: attempt 60)" in str(error)
    assert sum(len(chunk.seeds) for chunk in take.chunks) == 100


def test_the_same_chunk_has_the_same_bytes(tmp_path: pathlib.Path) -> None:
    contents = []
    for name in ("one", "two"):
        folder = tmp_path / name
        _take(Toy(), _recipe(), folder)
        contents.append(
            {path.name: path.read_bytes() for path in folder.glob("*/*")},
        )
    assert contents[0] == contents[1]
    assert set(contents[0]) == {
        "00000000-00000007.json",
        "00000000-00000007.npy.gz",
    }


def test_chunks_that_are_there_are_not_played_again(tmp_path: pathlib.Path) -> None:
    def refuse(*arguments: Any, **keywords: Any) -> NoReturn:
        raise AssertionError("played again")

    one = _take(Toy(), _recipe(), tmp_path)
    two = takes.Take(Toy(), _recipe(), str(tmp_path), is_kept=True)
    assert takes.play([two], refuse, title="") == []
    assert two.result() == one.result()
    # Of another version, or without the episodes, they are.
    other = takes.Take(Toy(version="2"), _recipe(), str(tmp_path), is_kept=True)
    with pytest.raises(AssertionError, match="played again"):
        takes.play([other], refuse, title="")
    pathlib.Path(one.chunks[0].episodes_path).unlink()
    again = takes.Take(Toy(), _recipe(), str(tmp_path), is_kept=True)
    with pytest.raises(AssertionError, match="played again"):
        takes.play([again], refuse, title="")


def test_a_job_that_leaves_nothing_here_ends_in_a_message(
    tmp_path: pathlib.Path,
) -> None:
    take = takes.Take(Toy(), _recipe(), str(tmp_path), is_kept=True)
    with pytest.raises(GatoError, match="1 of 1 chunks were played and are not in"):
        takes.play([take], lambda *arguments, **keywords: None, title="")


def test_a_worker_of_other_versions_plays_nothing(tmp_path: pathlib.Path) -> None:
    take = takes.Take(Toy(), _recipe(), str(tmp_path), is_kept=True)
    (chunk,) = take.next_chunks()
    elsewhere = dataclasses.replace(chunk, domain=Toy(version="2"))
    with pytest.raises(GatoError, match=r'has {"version": "2"}, that machine'):
        chunks.play(elsewhere, lambda: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("keep", [0, 30, -1])
def test_damaged_chunks_are_named(tmp_path: pathlib.Path, keep: int) -> None:
    (chunk,) = _take(Toy(), _recipe(), tmp_path).chunks
    for path in map(pathlib.Path, (chunk.episodes_path, chunk.outcomes_path)):
        path.write_bytes(path.read_bytes()[:keep])
    for read in (chunks.read_episodes(chunk), chunks.read_outcomes([chunk])):
        with pytest.raises(GatoError, match="is damaged"):
            list(read)

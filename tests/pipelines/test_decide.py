"""Decisions of a task: expert return, filter, subsets and limits, by hand."""

import itertools
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from gato.pipelines import decide
from gato.pipelines.columns import ItemBlock
from gato.pipelines.decide import Status
from gato.pipelines.fragment import FragmentRef, FragmentWriter
from gato.schemas import files
from gato.schemas.config import BuildConfig, Dataset
from gato.schemas.hashing import keyed_hash


def block(
    returns: Sequence[float],
    *,
    agent: str = "one",
    file_index: int = 0,
    folder: str = "out/_fragments/toy",
    **columns: Any,
) -> ItemBlock:
    count = len(returns)
    usual: dict[str, Any] = {
        "subset_hash": np.array(
            [keyed_hash(0, "subset", agent, file_index, n) for n in range(count)],
            np.uint64,
        ),
        "success": np.full(count, -1, np.int8),
        "num_steps": np.full(count, 10, np.int64),
        "spec": np.full(count, 7, np.uint64),
        "excluded": np.zeros(count, bool),
        "condemned": np.zeros(count, bool),
        "train": np.ones(count, bool),
    }
    given = {n: np.array(v, usual[n].dtype) for n, v in columns.items() if n in usual}
    problems = {
        int(place): {"reason": "nonfinite", "detail": "", "source": "s", "episode": "e"}
        for place in np.flatnonzero(given.get("condemned", ()))
    }
    path = f"{folder}/{agent}{file_index}"
    return ItemBlock(
        ref=FragmentRef(dataset="toy", file_index=file_index, part=0, path=path),
        task="walk",
        agent=agent,
        rows=np.arange(count, dtype=np.int32),
        returns=np.array(returns, np.float64),
        problems=problems,
        specs={7: "{}"},
        random_return=None,
        **(usual | given),
    )


def decision_of(
    blocks: Sequence[ItemBlock], *, limit: int | None = None, **settings: Any
) -> decide.TaskDecision:
    dataset = Dataset(name="toy", format="minari", paths=("p",), **settings)
    config = BuildConfig(text_tokenizer="t", datasets=(dataset,))
    last = decide.limit_cut(blocks, dataset, limit) if limit else None
    return decide.decide_task(blocks, dataset, config, last)[0]


def accounts(
    blocks: Sequence[ItemBlock], decision: decide.TaskDecision
) -> list[list[Status]]:
    return [[Status(s) for s in decide.classify(b, decision)] for b in blocks]


KEPT, LOW, EXCLUDED = Status.KEPT, Status.LOW_RETURN, Status.EXCLUDED
QUARANTINED, NOT_READ = Status.QUARANTINED, Status.NOT_READ


def test_expert_return_by_hand() -> None:
    # W = ceil(20 / 10) = 2; the best pair of neighbours is (1, 3).
    assert decide.expert_return([0.0] * 5 + [1.0, 3.0] + [0.0] * 13) == (2.0, 2)
    # Up to ten episodes W is 1: the best episode.
    assert decide.expert_return([1.0, 5.0, 2.0]) == (5.0, 1)
    assert decide.expert_return([4.0] * 10) == (4.0, 1)
    assert decide.expert_return([4.0] * 11) == (4.0, 2)
    assert decide.expert_return([-3.0]) == (-3.0, 1)
    # W never exceeds 1000.
    returns = [0.0] * 19_000 + [1.0] * 1000
    assert decide.expert_return(returns) == (1.0, 1000)


@hypothesis.given(
    st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=120)
)
def test_expert_return_is_the_best_mean_of_neighbours(returns: list[float]) -> None:
    window = min(1000, math.ceil(0.1 * len(returns)))
    means = [
        math.fsum(returns[j : j + window]) / window
        for j in range(len(returns) - window + 1)
    ]
    assert decide.expert_return(returns) == (max(means), window)


def test_least_kept_return_of_a_negative_expert() -> None:
    assert decide.least_kept_return(10.0, 0.8) == 8.0
    assert decide.least_kept_return(0.0, 0.8) == 0.0
    assert decide.least_kept_return(-10.0, 0.8) == pytest.approx(-12.0)
    one = block([-10.0, -11.9, -12.1, -50.0])
    assert accounts([one], decision_of([one])) == [[KEPT, KEPT, LOW, LOW]]


def test_the_border_is_kept_and_ties_with_it() -> None:
    one = block([10.0, 8.0, 8.0, math.nextafter(8.0, 0), -1.0])
    decision = decision_of([one])
    assert decision.expert_return == 10.0
    assert accounts([one], decision) == [[KEPT, KEPT, KEPT, LOW, LOW]]
    assert decision.counts == {
        **{"KEPT": 3, "LOW_RETURN": 2},
        **{"EXCLUDED": 0, "QUARANTINED": 0, "NOT_READ": 0},
    }
    assert decision.timesteps == 30


def test_the_expert_is_of_all_agents_and_both_splits() -> None:
    weak = block([1.0, 2.0], agent="weak", train=[False, True])
    expert = block([9.0, 10.0], agent="expert", train=[True, False])
    decision = decision_of([weak, expert])
    assert decision.expert_return == 10.0
    assert accounts([weak, expert], decision) == [[LOW, LOW], [KEPT, KEPT]]
    assert decision.kept_by_agent == {"expert": 2}


def test_returns_run_in_collection_order() -> None:
    # 12 episodes, W = 2: by (agent, file, row) the 5s are neighbours, as given they
    # are not.
    second = block([5.0] + [0.0] * 5, agent="a", file_index=1)
    first = block([0.0] * 5 + [5.0], agent="a", file_index=0)
    assert decision_of([second, first]).expert_return == 5.0
    apart = block([0.0] * 5 + [5.0], agent="b", file_index=0)
    assert decision_of([second, apart]).expert_return == 2.5


def test_quarantined_and_excluded_do_not_raise_the_expert() -> None:
    one = block(
        [100.0, 50.0, 10.0, 9.0],
        condemned=[True, False, False, False],
        excluded=[False, True, False, False],
    )
    decision = decision_of([one])
    assert decision.expert_return == 10.0
    assert accounts([one], decision) == [[QUARANTINED, EXCLUDED, KEPT, KEPT]]
    assert decision.reasons == {"nonfinite": 1}


def test_the_first_good_episode_gives_the_spec() -> None:
    one = block(
        [1.0, 1.0, 1.0],
        spec=[7, 7, 7],
        condemned=[True, False, False],
    )
    decision = decision_of([one], filter={"by": "none"})
    assert (decision.spec_hash, decision.spec) == (7, "{}")
    assert decision.min_return is None


def test_success() -> None:
    one = block([0.0, 9.0, 0.0], success=[1, 0, 1])
    decision = decision_of([one], filter={"by": "success"})
    assert accounts([one], decision) == [[KEPT, LOW, KEPT]]


def test_max_episodes_takes_the_lowest_hashes_and_nests() -> None:
    hashes = [50, 10, 40, 20, 30]
    kept = []
    for most in range(1, 6):
        one = block([1.0] * 5, subset_hash=hashes)
        (status,) = accounts([one], decision_of([one], max_episodes=most))
        assert status.count(EXCLUDED) == 5 - most
        kept.append({place for place, s in enumerate(status) if s == KEPT})
    assert kept[0] == {1}
    assert kept[2] == {1, 3, 4}
    assert all(a < b for a, b in itertools.pairwise(kept))


def test_max_episodes_counts_what_tasks_exclude_not_at_all() -> None:
    one = block([1.0] * 3, subset_hash=[1, 2, 3], excluded=[True, False, False])
    (status,) = accounts([one], decision_of([one], max_episodes=1))
    assert status == [EXCLUDED, KEPT, EXCLUDED]


def test_limit_takes_the_first_in_collection_order() -> None:
    second = block([1.0] * 3, agent="b")
    first = block([1.0] * 3, agent="a", file_index=9)
    found = accounts([second, first], decision_of([second, first], limit=4))
    assert found == [[KEPT, NOT_READ, NOT_READ], [KEPT] * 3]
    # As many as there are, or more, is no limit.
    for limit in (6, 7):
        decision = decision_of([second, first], limit=limit)
        assert decision.last is None
        assert decision.counts["NOT_READ"] == 0


def test_limit_does_not_count_what_is_excluded() -> None:
    one = block([1.0] * 4, excluded=[True, False, False, False])
    decision = decision_of([one], limit=2)
    assert accounts([one], decision) == [[EXCLUDED, KEPT, KEPT, NOT_READ]]


def test_demonstrations_are_the_five_best_of_training() -> None:
    returns = [3.0, 9.0, 9.0, 1.0, 8.0, 7.0, 6.0, 9.5]
    train = [True] * 7 + [False]
    one = block(returns, train=train)
    decision = decision_of([one], filter={"by": "none"})
    # By return, ties in collection order; 9.5 is of validation.
    assert [row for _, row in decision.demonstrations] == [1, 2, 4, 5, 6]


def test_the_order_of_blocks_does_not_count() -> None:
    generator = np.random.default_rng(0)
    blocks = [
        block(generator.normal(size=7).tolist(), agent=agent, file_index=index)
        for agent in "ab"
        for index in range(4)
    ]
    expected = decision_of(blocks, limit=40, max_episodes=50)
    for _ in range(5):
        shuffled = [blocks[i] for i in generator.permutation(len(blocks))]
        assert decision_of(shuffled, limit=40, max_episodes=50) == expected


def write_footer(path: str, ids: list[str]) -> None:
    """Writes a fragment of which only the names of its items are read."""
    with files.open_atomic(f"{path}.data") as file:
        writer = FragmentWriter(file)
        for item_id in ids:
            writer.add(item_id=item_id, source="raw/x", task="walk", agent="one")
    files.write_atomic(f"{path}.footer", writer.footer())


def test_another_spec_than_the_first_episodes_is_quarantined(
    tmp_path: pathlib.Path,
) -> None:
    one = block(
        [1.0, 2.0, 9.0, 1.0], spec=[7, 7, 8, 7], folder=str(tmp_path), agent="one"
    )
    write_footer(one.ref.path, ["e/0", "e/1", "e/2", "e/3"])
    dataset = Dataset(name="toy", format="minari", paths=("p",))
    config = BuildConfig(text_tokenizer="t", datasets=(dataset,))
    decision, rows = decide.decide_task([one], dataset, config, None)
    assert accounts([one], decision) == [[LOW, KEPT, QUARANTINED, LOW]]
    assert decision.expert_return == 2.0
    ((key, row),) = rows
    assert key == ("one", 0, 0, 0, 2)
    assert (row["episode"], row["source"]) == ("e/2", "raw/x")
    assert row["reason"] == "spec_mismatch"


def test_an_episode_read_twice_is_told(tmp_path: pathlib.Path) -> None:
    one = block([1.0] * 3, subset_hash=[5, 6, 5], folder=str(tmp_path), agent="one")
    write_footer(one.ref.path, ["e/0", "e/1", "e/0"])
    assert decision_of([one]).duplicate == "e/0"
    assert decision_of([block([1.0] * 3)]).duplicate is None

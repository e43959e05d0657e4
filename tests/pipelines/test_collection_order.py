"""Episodes' numbers give the collection order, however files and parts hold them."""

import dataclasses
from typing import Any

import hypothesis
import numpy as np
from hypothesis import strategies as st

from gato.pipelines import decide
from gato.pipelines.columns import ItemBlock, in_collection_order
from gato.pipelines.fragment import FragmentRef
from gato.schemas.config import BuildConfig, Dataset

DATASET = Dataset(name="toy", format="rlds", paths=("p",))
CONFIG = BuildConfig(text_tokenizer="t", datasets=(DATASET,))


def block(numbers: list[int], part: int, *, numbered: bool = True) -> ItemBlock:
    """Items of these numbers, whose returns and spec follow from them."""
    count = len(numbers)
    values = np.array(numbers, np.int64)
    columns: dict[str, Any] = {
        "subset_hash": values.astype(np.uint64) * np.uint64(1_000_003),
        "returns": np.sin(values * 12.9898) * 100,
        "success": np.full(count, -1, np.int8),
        "num_steps": np.full(count, 10, np.int64),
        "spec": np.where(values % 5 == 2, 8, 7).astype(np.uint64),
        "excluded": np.zeros(count, bool),
        "condemned": values % 7 == 3,
        "train": np.ones(count, bool),
    }
    row = {"reason": "nonfinite", "detail": "", "source": "s", "episode": "e"}
    return ItemBlock(
        ref=FragmentRef(dataset="toy", file_index=0, part=part, path=f"x/{part}"),
        task="walk",
        agent="one",
        rows=np.arange(count, dtype=np.int32),
        problems={int(p): row for p in np.flatnonzero(columns["condemned"])},
        specs={7: "{}", 8: "{}"},
        random_return=None,
        numbers=values if numbered else None,
        **columns,
    )


NUMBERS = st.sets(st.integers(0, 200), min_size=1, max_size=40)


@hypothesis.given(numbers=NUMBERS, data=st.data(), num_parts=st.integers(1, 4))
def test_parts_do_not_matter(numbers: set[int], data: Any, num_parts: int) -> None:
    # Only of episodes of one spec, since others are described from their fragments.
    ordered = sorted(n for n in numbers if n % 5 != 2)
    if not ordered:
        return
    where = [data.draw(st.integers(0, num_parts - 1)) for _ in ordered]
    parts = [
        block([n for n, at in zip(ordered, where, strict=True) if at == part], part)
        for part in range(num_parts)
        if part in where
    ]
    whole = block(ordered, 0)
    limit = data.draw(st.integers(1, len(ordered)))
    ends = [decide.limit_cut(blocks, DATASET, limit) for blocks in (parts, [whole])]
    split, _ = decide.decide_task(parts, DATASET, CONFIG, ends[0])
    joined, _ = decide.decide_task([whole], DATASET, CONFIG, ends[1])
    assert (split.expert_return, split.min_return, split.counts, split.order) == (
        joined.expert_return,
        joined.min_return,
        joined.counts,
        "number",
    )
    verdicts = {
        int(n): int(s)
        for b in parts
        for n, s in zip(b.numbers, decide.classify(b, split), strict=True)  # type: ignore[arg-type]
    }
    assert [verdicts[n] for n in ordered] == decide.classify(whole, joined).tolist()


def test_the_spec_is_that_of_the_lowest_number() -> None:
    later, first = block([4, 9], 0), block([2, 5], 1)
    lowest = min(
        (b.order_key(place), int(b.spec[place]))
        for b in (later, first)
        if (place := b.first(~b.condemned)) is not None
    )
    assert lowest == (("one", 0, 2, 1, 0), 8)


def test_values_are_joined_by_number() -> None:
    blocks = [block([7, 1], 0), block([4, 9], 1)]
    chosen = [np.array([True, True]), np.array([True, False])]
    values = [np.array([70.0, 10.0]), np.array([40.0, 90.0])]
    assert in_collection_order(blocks, chosen, values).tolist() == [10.0, 40.0, 70.0]
    bare = [dataclasses.replace(b, numbers=None) for b in blocks]
    assert in_collection_order(bare, chosen, values).tolist() == [70.0, 10.0, 40.0]


def test_the_task_says_which_order_it_is() -> None:
    numbered, bare = block([1, 4], 0), block([5, 6], 1, numbered=False)
    for blocks, order in (([numbered], "number"), ([numbered, bare], "file")):
        assert decide.decide_task(blocks, DATASET, CONFIG, None)[0].order == order

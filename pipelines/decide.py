"""Decisions of the plan: every item's account (specification.md section 4).

Per task: `max_episodes`, `--limit`, the spec, the expert return, the filter. The
decisions are scalars, so that they can be handed to every worker whatever the number
of episodes; `classify` applies them to the columns of a fragment.
"""

import dataclasses
import enum
import functools
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.columns import (
    ItemBlock,
    OrderKey,
    in_collection_order,
    quarantine_row,
)
from gato.pipelines.fragment import Footer, FragmentRef, read_footer
from gato.schemas.config import BuildConfig, Dataset
from gato.schemas.errors import Reason

NUM_DEMONSTRATIONS = 5
_MAX_WINDOW = 1000


class Status(enum.IntEnum):
    """The account of an item."""

    KEPT = 0
    LOW_RETURN = 1
    EXCLUDED = 2
    QUARANTINED = 3
    NOT_READ = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskDecision:
    """What decides the account of every episode of one task, and the counts.

    Attributes:
        task: The task.
        max_hash: Largest `subset_hash` that `max_episodes` keeps; None keeps all.
        last: Last item within `--limit`; None if there is no limit.
        spec_hash: Hash of the task's spec.
        spec: The spec's JSON; None if no episode could be tokenized.
        by: The filter.
        min_return: Least return that is kept, by return.
        expert_return: See specification.md section 4; None without episodes.
        window: W of the expert return.
        random_return: A random policy's return, if a format said.
        counts: Items by `Status` name.
        reasons: Quarantined items by reason.
        kept_by_agent: Kept episodes of each agent.
        timesteps: Timesteps of kept episodes.
        demonstrations: Best kept training episodes, best first.
        duplicate: The id of an episode that was read twice, or None.
        order: Whether the format's numbers gave the collection order, or the files.
    """

    task: str
    max_hash: int | None
    last: OrderKey | None
    spec_hash: int
    spec: str | None
    by: str
    min_return: float | None
    expert_return: float | None
    window: int | None
    random_return: float | None
    counts: dict[str, int]
    reasons: dict[str, int]
    kept_by_agent: dict[str, int]
    timesteps: int
    demonstrations: tuple[tuple[FragmentRef, int], ...]
    duplicate: str | None
    order: Literal["number", "file"]


def classify(block: ItemBlock, decision: TaskDecision) -> NDArray[np.uint8]:
    """Returns the `Status` of each item of a block, uint8 [n]."""
    excluded = block.excluded.copy()
    if decision.max_hash is not None:
        excluded |= block.subset_hash > np.uint64(decision.max_hash)
    bad = block.condemned | (block.spec != np.uint64(decision.spec_hash))
    low = np.zeros(len(block.rows), np.bool_)
    if decision.min_return is not None:
        low = block.returns < decision.min_return
    elif decision.by == "success":
        low = block.success == 0
    status = np.where(low, Status.LOW_RETURN, Status.KEPT)
    status = np.where(bad, Status.QUARANTINED, status)
    status = np.where(excluded, Status.EXCLUDED, status)
    return np.where(block.after(decision.last), Status.NOT_READ, status).astype("u1")


def expert_return(returns: Sequence[float]) -> tuple[float, int]:
    """Returns the best mean of W consecutive returns, and W = min(1000, ceil(N / 10)).

    Args:
        returns: Of all episodes of a task, in collection order; at least one.

    >>> expert_return([0.0] * 5 + [1.0, 3.0] + [0.0] * 13)
    (2.0, 2)
    """
    window = min(_MAX_WINDOW, math.ceil(len(returns) / 10))
    values = np.asarray(returns, np.float64)
    sums = np.cumsum(np.insert(values, 0, 0.0))
    means = (sums[window:] - sums[:-window]) / window
    # Running sums round; the best few are summed again exactly.
    slack = 1e-9 * max(1.0, float(np.abs(values).max()))
    candidates = np.flatnonzero(means >= means.max() - slack)[:_MAX_WINDOW]
    best = max(math.fsum(values[j : j + window]) / window for j in candidates)
    return best, window


def least_kept_return(expert: float, fraction: float) -> float:
    """Returns the least return that the filter keeps.

    For a negative expert return the literal 0.8 x expert is above the expert and would
    keep nothing; `expert - 0.2 |expert|` is as far below it as for a positive one. The
    bound is that of the decimal numbers, rounded once: in floats 0.8 x 3 is above 2.4.

    >>> least_kept_return(3.0, 0.8), least_kept_return(-3.0, 0.8)
    (2.4, -3.6)
    """
    exact, share = Fraction(repr(expert)), Fraction(repr(fraction))
    return float(share * exact if expert >= 0 else exact - (1 - share) * abs(exact))


def limit_cut(
    blocks: Sequence[ItemBlock], dataset: Dataset, limit: int
) -> OrderKey | None:
    """Returns the last of the first `limit` items, None if there are no more."""
    hashes = _max_hashes(blocks, dataset)
    keys = [
        block.order_key(int(place))
        for block in blocks
        for place in np.flatnonzero(~_excluded(block, hashes.get(block.task)))
    ]
    return sorted(keys)[limit - 1] if len(keys) > limit else None


def _excluded(block: ItemBlock, max_hash: int | None) -> NDArray[np.bool_]:
    if max_hash is None:
        return block.excluded
    return block.excluded | (block.subset_hash > np.uint64(max_hash))


def _max_hashes(blocks: Sequence[ItemBlock], dataset: Dataset) -> dict[str, int]:
    """Returns, for tasks with more than `max_episodes`, the largest hash kept."""
    if dataset.max_episodes is None:
        return {}
    largest = {}
    for task in {block.task for block in blocks}:
        hashes = np.concatenate(
            [b.subset_hash[~b.excluded] for b in blocks if b.task == task]
        )
        if len(hashes) > dataset.max_episodes:
            largest[task] = int(np.sort(hashes)[dataset.max_episodes - 1])
    return largest


def decide_task(
    blocks: Sequence[ItemBlock],
    dataset: Dataset,
    config: BuildConfig,
    last: OrderKey | None,
) -> tuple[TaskDecision, list[tuple[OrderKey, dict[str, Any]]]]:
    """Decides one task.

    Args:
        blocks: Every block of the task, in any order.
        dataset: Its data set.
        config: The build config.
        last: The last item within `--limit`, from `limit_cut`.

    Returns:
        The decision, and the quarantined items' rows with their collection order.
    """
    blocks = sorted(blocks, key=lambda block: block.order_key(0))
    task = blocks[0].task
    max_hash = _max_hashes(blocks, dataset).get(task)
    decision = TaskDecision(
        task=task,
        max_hash=max_hash,
        last=last,
        spec_hash=0,
        spec=None,
        by=dataset.filter.by,
        min_return=None,
        expert_return=None,
        window=None,
        random_return=next(
            (b.random_return for b in blocks if b.random_return is not None), None
        ),
        counts={},
        reasons={},
        kept_by_agent={},
        timesteps=0,
        demonstrations=(),
        duplicate=_duplicate(blocks),
        order="file" if any(b.numbers is None for b in blocks) else "number",
    )
    usable = [~(_excluded(b, max_hash) | b.after(last) | b.condemned) for b in blocks]
    firsts = [
        (block.order_key(place), index, place)
        for index, (block, u) in enumerate(zip(blocks, usable, strict=True))
        if (place := block.first(u)) is not None
    ]
    if firsts:
        _, index, place = min(firsts)
        spec_hash = int(blocks[index].spec[place])
        decision = dataclasses.replace(
            decision, spec_hash=spec_hash, spec=blocks[index].specs.get(spec_hash)
        )
        alike = [
            u & (b.spec == np.uint64(spec_hash))
            for b, u in zip(blocks, usable, strict=True)
        ]
        if decision.spec is not None:
            returns = in_collection_order(blocks, alike, [b.returns for b in blocks])
            best, window = expert_return(returns.tolist())
            decision = dataclasses.replace(decision, expert_return=best, window=window)
            if dataset.filter.by == "return":
                least = least_kept_return(best, config.expert_fraction)
                decision = dataclasses.replace(decision, min_return=least)
    return _count(decision, blocks)


def _duplicate(blocks: Sequence[ItemBlock]) -> str | None:
    if not blocks[0].task:
        return None
    hashes = np.concatenate([b.subset_hash for b in blocks])
    values, counts = np.unique(hashes, return_counts=True)
    if not (counts > 1).any():
        return None
    twice = values[counts > 1][0]
    block = next(b for b in blocks if (b.subset_hash == twice).any())
    return _describe(block, int(np.flatnonzero(block.subset_hash == twice)[0]))[
        "episode"
    ]


@functools.lru_cache(maxsize=2)
def _footer(path: str) -> Footer:
    return read_footer(path)


def _describe(block: ItemBlock, place: int) -> dict[str, Any]:
    """Returns the quarantine row of an episode whose spec is not its task's.

    Names do not cross the shuffle with the columns, so they are read again here.
    """
    return quarantine_row(
        _footer(block.ref.path),
        int(block.rows[place]),
        Reason.SPEC_MISMATCH,
        "an episode's observations and actions must have the keys, kinds, shapes and"
        " bounds of its task's first episode (the manifest's spec); got"
        f" {block.specs.get(int(block.spec[place]), 'none')}",
    )


def _count(
    decision: TaskDecision, blocks: Sequence[ItemBlock]
) -> tuple[TaskDecision, list[tuple[OrderKey, dict[str, Any]]]]:
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    agents: Counter[str] = Counter()
    timesteps = 0
    rows: list[tuple[OrderKey, dict[str, Any]]] = []
    best: list[tuple[float, OrderKey, FragmentRef, int]] = []
    for block in blocks:
        status = classify(block, decision)
        for code in Status:
            counts[code.name] += int(np.count_nonzero(status == code))
        kept = status == Status.KEPT
        timesteps += int(block.num_steps[kept].sum())
        if kept.any():
            agents[block.agent] += int(kept.sum())
        for place in np.flatnonzero(status == Status.QUARANTINED):
            problem = block.problems.get(int(place)) or _describe(block, int(place))
            reasons[problem["reason"]] += 1
            rows.append((block.order_key(int(place)), problem))
        if block.task:
            places = np.flatnonzero(kept & block.train)
            top = places[np.argsort(-block.returns[places], kind="stable")]
            best += [
                (
                    -float(block.returns[p]),
                    block.order_key(p),
                    block.ref,
                    int(block.rows[p]),
                )
                for p in top[:NUM_DEMONSTRATIONS].tolist()
            ]
    best.sort(key=lambda entry: entry[:2])
    decided = dataclasses.replace(
        decision,
        counts=dict(counts),
        reasons=dict(reasons),
        kept_by_agent=dict(sorted(agents.items())),
        timesteps=timesteps,
        demonstrations=tuple((r, row) for _, _, r, row in best[:NUM_DEMONSTRATIONS]),
    )
    return decided, rows

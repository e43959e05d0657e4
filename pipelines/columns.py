"""The columns of a fragment that decide what becomes of its items."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.fragment import Footer, FragmentRef
from gato.schemas.config import BuildConfig, Dataset
from gato.schemas.errors import Reason
from gato.schemas.hashing import fingerprint, keyed_hash, threshold
from gato.schemas.record import PATCH_SIZE

# (agent, file index, number, part, row): the collection order. The number is 0 where
# the format has none.
OrderKey = tuple[str, int, int, int, int]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ItemBlock:
    """The items of one fragment that share task and agent, as columns.

    Attributes:
        ref: The fragment.
        task: Task, "" for documents and items whose task is unknown.
        agent: Agent, likewise.
        rows: int32 [n], rows of the footer.
        subset_hash: uint64 [n], decides `max_episodes`.
        returns: float64 [n].
        success: int8 [n]; -1 unknown.
        num_steps: int64 [n].
        spec: uint64 [n], hash of the episode's spec.
        excluded: bool [n], by the config's tasks.
        condemned: bool [n], by the tokenizer or for its length.
        train: bool [n], the split.
        problems: Quarantine rows of the condemned, by place in the columns.
        specs: The specs' JSON by hash.
        random_return: A random policy's return, if the format says.
        numbers: int64 [n], the format's episode numbers; None where it has none, and
            the file's order counts. One part may hold numbers between another's.
    """

    ref: FragmentRef
    task: str
    agent: str
    rows: NDArray[np.int32]
    subset_hash: NDArray[np.uint64]
    returns: NDArray[np.float64]
    success: NDArray[np.int8]
    num_steps: NDArray[np.int64]
    spec: NDArray[np.uint64]
    excluded: NDArray[np.bool_]
    condemned: NDArray[np.bool_]
    train: NDArray[np.bool_]
    problems: dict[int, dict[str, Any]]
    specs: dict[int, str]
    random_return: float | None
    numbers: NDArray[np.int64] | None = None

    def order_key(self, place: int) -> OrderKey:
        """Returns the collection order of the item at a place of the columns."""
        number = 0 if self.numbers is None else int(self.numbers[place])
        return (*self._prefix, number, self.ref.part, int(self.rows[place]))

    @property
    def _prefix(self) -> tuple[str, int]:
        return (self.agent, self.ref.file_index)

    def first(self, chosen: NDArray[np.bool_]) -> int | None:
        """Returns the place of the first of the chosen items in collection order."""
        places = np.flatnonzero(chosen)
        if not len(places):
            return None
        if self.numbers is None:
            return int(places[0])
        return int(places[np.argmin(self.numbers[places])])

    def after(self, last: OrderKey | None) -> NDArray[np.bool_]:
        """Returns which items come after `last` in collection order."""
        if last is None or self._prefix < last[:2]:
            return np.zeros(len(self.rows), np.bool_)
        if self._prefix > last[:2]:
            return np.ones(len(self.rows), np.bool_)
        number, part, row = last[2:]
        if self.ref.part == part:
            later = self.rows > row
        else:
            later = np.full(len(self.rows), self.ref.part > part)
        if self.numbers is None:
            return later
        return (self.numbers > number) | ((self.numbers == number) & later)


def item_blocks(
    ref: FragmentRef, footer: Footer, dataset: Dataset, config: BuildConfig
) -> list[ItemBlock]:
    """Returns the columns of a fragment, a block for each (task, agent)."""
    tasks, agents = footer.column("task"), footer.column("agent")
    groups: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(zip(tasks, agents, strict=True)):
        groups.setdefault((key[0] or "", key[1] or ""), []).append(row)
    spec_hashes = [int(fingerprint(s)[:15], 16) for s in footer.header["specs"]]
    specs = dict(zip(spec_hashes, footer.header["specs"], strict=True))
    return [
        _block(ref, footer, task, agent, rows, spec_hashes, specs, dataset, config)
        for (task, agent), rows in sorted(groups.items())
    ]


def in_collection_order(
    blocks: Sequence[ItemBlock],
    chosen: Sequence[NDArray[np.bool_]],
    values: Sequence[NDArray[Any]],
) -> NDArray[Any]:
    """Returns the chosen values of several blocks, joined in collection order.

    Args:
        blocks: In any order.
        chosen: Which items, for each block.
        values: One value an item, for each block.
    """
    prefixes = [(block.agent, block.ref.file_index) for block in blocks]
    rank = {prefix: place for place, prefix in enumerate(sorted(set(prefixes)))}
    keys = []
    for block, prefix, mask in zip(blocks, prefixes, chosen, strict=True):
        rows = block.rows[mask].astype(np.int64)
        table = np.empty((4, len(rows)), np.int64)
        numbers = None if block.numbers is None else block.numbers[mask]
        table[0], table[1] = rows, block.ref.part
        table[2], table[3] = 0 if numbers is None else numbers, rank[prefix]
        keys.append(table)
    joined = np.concatenate([v[m] for v, m in zip(values, chosen, strict=True)])
    return joined[np.lexsort(np.concatenate(keys, axis=1))]


def _block(
    ref: FragmentRef,
    footer: Footer,
    task: str,
    agent: str,
    rows: list[int],
    spec_hashes: list[int],
    specs: dict[int, str],
    dataset: Dataset,
    config: BuildConfig,
) -> ItemBlock:
    def values(name: str) -> list[Any]:
        column = footer.column(name)
        return [column[row] for row in rows]

    limit = threshold(config.validation_fraction)
    seed = config.seed
    problems = {}
    for place, row in enumerate(rows):
        problem = _problem(footer, row, config, dataset)
        if problem is not None:
            problems[place] = problem
    condemned = np.zeros(len(rows), np.bool_)
    condemned[list(problems)] = True
    randoms = [value for value in values("random_return") if value is not None]
    ids = values("item_id")
    return ItemBlock(
        ref=ref,
        task=task,
        agent=agent,
        rows=np.array(rows, np.int32),
        subset_hash=np.array(
            [
                keyed_hash(seed, "subset", i or f"{ref.name}/{r}")
                for i, r in zip(ids, rows, strict=True)
            ],
            np.uint64,
        ),
        returns=np.array([r if r is not None else np.nan for r in values("return")]),
        success=np.array(
            [-1 if s is None else int(s) for s in values("success")], "i1"
        ),
        num_steps=np.array([sum(r or ()) for r in values("run_steps")], np.int64),
        spec=np.array(
            [0 if s is None else spec_hashes[s] for s in values("spec")], np.uint64
        ),
        excluded=np.array(values("excluded"), np.bool_),
        condemned=condemned,
        train=np.array(
            [
                keyed_hash(seed, "split", c or "") >= limit
                for c in values("content_hash")
            ],
            np.bool_,
        ),
        problems=problems,
        specs=specs,
        random_return=randoms[0] if randoms else None,
        numbers=(
            np.array([number or 0 for number in values("number")], np.int64)
            if footer.header["order"] == "number"
            else None
        ),
    )


def _problem(
    footer: Footer, row: int, config: BuildConfig, dataset: Dataset
) -> dict[str, Any] | None:
    reason, detail = footer.column("reason")[row], footer.column("detail")[row]
    if footer.column("excluded")[row]:
        return None
    if reason is None:
        longest = _longest_unit(footer, row)
        if longest > config.sequence_length:
            what = "timestep" if footer.column("task")[row] else "pair"
            what = "page's image" if footer.column("image_starts")[row] else what
            reason = Reason.TOO_LONG
            detail = (
                f"a {what} must fit a row of {config.sequence_length} slots"
                f" (sequence_length), got {longest}"
            )
        elif (
            dataset.filter.by == "success"
            and footer.column("task")[row]
            and footer.column("success")[row] is None
        ):
            reason = Reason.MISSING_SUCCESS
            detail = (
                "filter.by is success, but the episode does not say whether it"
                f" succeeded (success_key {dataset.filter.success_key!r})"
            )
    if reason is None:
        return None
    return quarantine_row(footer, row, str(reason), detail)


def _longest_unit(footer: Footer, row: int) -> int:
    """Returns the slots of the longest thing that may not be split."""
    if not footer.column("task")[row] and not footer.column("image_bytes")[row]:
        return 0
    if footer.column("image_starts")[row]:
        return max(image_patches(footer, row))
    return max(footer.column("run_slots")[row], default=0)


def image_patches(footer: Footer, row: int) -> list[int]:
    """Returns the slots of each image of an item."""
    heights, widths = footer.column("image_height")[row], footer.column("image_width")
    return [
        height * width // PATCH_SIZE**2
        for height, width in zip(heights, widths[row], strict=True)
    ]


def quarantine_row(
    footer: Footer, row: int, reason: str, detail: str
) -> dict[str, Any]:
    """Returns a line of `quarantine.jsonl` about one item of a fragment."""
    return {
        "source": footer.column("source")[row],
        "episode": footer.column("item_id")[row],
        "reason": reason,
        "detail": detail,
    }

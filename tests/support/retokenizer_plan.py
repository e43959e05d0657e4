"""What becomes of each item: accounts, expert filter, cuts, and the laws of prompts.

Part of the independent re-tokenizer: imports nothing of ours. Which episode prompts
which and what lies in which split follow from a content hash that no contract gives:
for those there are laws (`prompt_problem`), not predictions.
"""

import collections
import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import retokenizer_values as values
from retokenizer_items import Item


@dataclasses.dataclass
class Task:
    """One task's numbers as the manifest has them."""

    episodes_read: int = 0
    kept: int = 0
    low_return: int = 0
    quarantined: collections.Counter = dataclasses.field(
        default_factory=collections.Counter
    )
    agents: set[str] = dataclasses.field(default_factory=set)
    expert: float | None = None
    window: int | None = None
    timesteps: int = 0


@dataclasses.dataclass
class Plan:
    """The accounts of one data set, in collection order."""

    read: list[Item]
    kept: dict[str, Item]
    excluded: list[Item]
    low_return: list[Item]
    quarantined: list[Item]
    tasks: dict[str, Task]


@dataclasses.dataclass(frozen=True)
class Window:
    """A body: whole timesteps, and whether the hash wants a prompt in front."""

    episode: str
    first_step: int
    num_steps: int
    is_drawn: bool
    has_room: bool


def _is_excluded(task: str, rule: Mapping[str, Any]) -> bool:
    included = any(fnmatch.fnmatchcase(task, p) for p in rule["include"])
    return not included or any(fnmatch.fnmatchcase(task, p) for p in rule["exclude"])


def _mark_mismatches(items: Sequence[Item]) -> None:
    first: dict[str, Any] = {}
    for item in items:
        if item.content is None:
            continue
        if item.signature != first.setdefault(item.task, item.signature):
            item.reason, item.content = "spec_mismatch", None


def _passes(
    item: Item, task: Task, by: str, fraction: float, place: str
) -> bool | None:
    if by == "none":
        return True
    if by == "success":
        return item.success
    assert task.expert is not None, place
    return values.is_expert(item.total, task.expert, fraction)


def make_plan(
    items: Sequence[Item], config: Mapping[str, Any], dataset: Mapping[str, Any]
) -> Plan:
    """Puts every episode into its account (specification.md section 4)."""
    if dataset["max_episodes"]:
        raise NotImplementedError("max_episodes cannot be predicted")
    items = sorted(items, key=lambda item: item.order)
    excluded = [i for i in items if _is_excluded(i.task, dataset["tasks"])]
    remaining = [i for i in items if i not in excluded]
    by = dataset["filter"]["by"]
    _mark_mismatches(remaining)
    for item in remaining:
        if by == "success" and item.reason is None and item.success is None:
            item.reason, item.content = "missing_success", None
    plan = Plan(items, {}, excluded, [], [], collections.defaultdict(Task))
    good: dict[str, list[Item]] = collections.defaultdict(list)
    for item in remaining:
        task = plan.tasks[item.task]
        task.episodes_read += 1
        task.agents.add(item.agent)
        if item.content is None:
            assert item.reason
            task.quarantined[item.reason] += 1
            plan.quarantined.append(item)
        else:
            good[item.task].append(item)
    for name, members in good.items():
        task = plan.tasks[name]
        task.window = values.expert_window(len(members))
        task.expert = values.expert_return([item.total for item in members])
        for item in members:
            if _passes(item, task, by, config["expert_fraction"], item.id):
                plan.kept[item.id] = item
                task.kept += 1
                task.timesteps += len(item.content.steps)  # type: ignore[union-attr]
            else:
                plan.low_return.append(item)
                task.low_return += 1
    return plan


def fitting_steps(steps: Sequence[int], first: int, budget: int) -> int:
    """Returns how many timesteps from `first` on fit the budget."""
    used = count = 0
    for slots in steps[first:]:
        used += slots
        if used > budget:
            break
        count += 1
    return count


def cut(
    episode: str, steps: Sequence[int], config: Mapping[str, Any], fraction: float
) -> list[Window]:
    """Cuts an episode; a window that has no room behind a prompt takes a whole row."""
    whole = config["sequence_length"]
    windows: list[Window] = []
    first = 0
    while first < len(steps):
        drawn = values.is_drawn(
            config["seed"], fraction, "prompt", episode, len(windows)
        )
        budget = whole - config["prompts"]["max_tokens"]
        has_room = steps[first] <= budget
        if not drawn or not has_room:
            budget = whole
        count = fitting_steps(steps, first, budget)
        windows.append(Window(episode, first, count, drawn, has_room))
        first += count
    return windows


def tail_start(steps: Sequence[int], max_tokens: int) -> int:
    """First step of the longest suffix within max_tokens; T if nothing fits."""
    return len(steps) - fitting_steps(list(reversed(steps)), 0, max_tokens)


def prompt_problem(
    mode: str, first: int, count: int, steps: Sequence[int], max_tokens: int
) -> str | None:
    """Says which law of tail or uniform prompts a run of timesteps breaks, if any."""
    tail = tail_start(steps, max_tokens)
    if count < 1:
        return "no timestep"
    if mode == "tail" and (first, count) != (tail, len(steps) - tail):
        return f"a tail of {len(steps)} steps begins at {tail}"
    if mode == "uniform" and not 0 <= first <= tail:
        return f"a uniform prompt begins in [0, {tail}]"
    if mode == "uniform" and count != fitting_steps(steps, first, max_tokens):
        return f"{fitting_steps(steps, first, max_tokens)} timesteps fit"
    if mode not in ("tail", "uniform"):
        return "the mode is tail or uniform"
    return None


def may_not_fit(steps: Sequence[int], max_tokens: int) -> bool:
    """Whether some draw from this provider finds no timestep that fits."""
    tail = tail_start(steps, max_tokens)
    return tail == len(steps) or max(steps[: tail + 1]) > max_tokens

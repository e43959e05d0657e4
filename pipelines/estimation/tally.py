"""Counts of a rehearsal, each item weighted by what it stands for."""

import collections
import dataclasses
import functools
import math
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gato.pipelines import columns, decide, plan
from gato.pipelines.estimation.rehearsal import Rehearsal, RehearsedFragment
from gato.pipelines.segments import ShardLayout
from gato.schemas.config import Dataset
from gato.schemas.errors import Reason
from gato.schemas.record import (
    KIND_MASK,
    PATCH_SIZE,
    PROMPT_BIT,
    Kind,
    Row,
    encode_row,
)
from gato.schemas.tfrecord import FRAME_BYTES
from gato.tokenizers.patches import decode_stored

# Decoding is measured on so many CPU seconds of images, at most.
_DECODE_SECONDS = 1.0
_PROMPTS = {
    plan.TAIL: "tail",
    plan.UNIFORM: "uniform",
    plan.NO_PROVIDER: "no_provider",
    plan.NO_FIT: "no_fit",
    plan.NO_ROOM: "no_room",
}


@dataclasses.dataclass(kw_only=True)
class Tally:
    """Weighted sums over the sample; integers where it is everything.

    Attributes:
        accounts: Items by account: read, kept, low_return, excluded, quarantined.
        quarantined: Items by reason.
        problems: The first few quarantined items, for the user.
        kinds: Slots by `Kind`, padding not counted.
        prompt_tokens: Slots inside prompts.
        targets: Slots that are targets.
        prompts: Windows by what became of their prompt.
        lengths: Segments by their slots.
        extra_bytes: Bytes of rows beyond those that every row has.
        image_bytes: Those of encoded images.
        planned_bytes: Bytes that decide the number of shards, by split.
        decode_seconds: CPU seconds of decoding the images measured.
        decoded_patches: Their patches.
    """

    accounts: collections.defaultdict[str, float]
    quarantined: collections.defaultdict[str, float]
    problems: list[str]
    kinds: NDArray[np.float64]
    prompt_tokens: float = 0.0
    targets: float = 0.0
    prompts: collections.defaultdict[str, float]
    lengths: collections.defaultdict[int, float]
    extra_bytes: float = 0.0
    image_bytes: float = 0.0
    planned_bytes: NDArray[np.float64]
    decode_seconds: float = 0.0
    decoded_patches: int = 0


def count(rehearsal: Rehearsal, dataset: Dataset, is_complete: bool) -> Tally:
    """Returns the weighted counts of a rehearsal.

    Args:
        rehearsal: What became of the sample.
        dataset: The data set's config.
        is_complete: Whether the sample is everything.
    """
    tally = Tally(
        accounts=collections.defaultdict(float),
        quarantined=collections.defaultdict(float),
        problems=[],
        kinds=np.zeros(len(Kind)),
        prompts=collections.defaultdict(float),
        lengths=collections.defaultdict(float),
        planned_bytes=np.zeros(2),
    )
    caps = _caps(rehearsal, None if is_complete else dataset.max_episodes)
    by_row: dict[tuple[str, int], float] = {}
    by_id: dict[str, float] = {}
    for block, fragment in rehearsal.blocks:
        cap = caps[block.task]
        _count_items(tally, rehearsal, fragment, block, cap)
        ids = fragment.footer.column("item_id")
        for row in block.rows.tolist():
            by_row[block.ref.path, row] = fragment.part.weight * cap
            by_id[ids[row]] = fragment.part.weight * cap
    for block in rehearsal.windows:
        _count_windows(tally, block, by_row)
    for row, size in rehearsal.rows():
        _count_row(tally, row, size - empty_row_bytes(rehearsal.layout), by_id)
        _time_images(tally, row)
    return tally


def _caps(rehearsal: Rehearsal, most: int | None) -> dict[str, float]:
    """Returns which share of a task's items `max_episodes` keeps.

    Args:
        rehearsal: What became of the sample.
        most: `max_episodes`; None if the plan has already heeded it.
    """
    found: collections.defaultdict[str, float] = collections.defaultdict(float)
    for block, fragment in rehearsal.blocks:
        found[block.task] += fragment.part.weight * np.count_nonzero(~block.excluded)
    if most is None:
        return dict.fromkeys(found, 1.0)
    return {task: min(1.0, most / max(n, 1.0)) for task, n in found.items()}


def _count_items(
    tally: Tally,
    rehearsal: Rehearsal,
    fragment: RehearsedFragment,
    block: columns.ItemBlock,
    cap: float,
) -> None:
    weight = fragment.part.weight
    status = decide.classify(block, rehearsal.decisions[block.task])
    tally.accounts["read"] += weight * len(status)
    for code in (decide.Status.KEPT, decide.Status.LOW_RETURN):
        number = np.count_nonzero(status == code)
        tally.accounts[code.name.lower()] += weight * cap * number
    excluded = np.count_nonzero(status == decide.Status.EXCLUDED)
    beyond = (1 - cap) * (len(status) - excluded)
    tally.accounts["excluded"] += weight * (excluded + beyond)
    for place in np.flatnonzero(status == decide.Status.QUARANTINED).tolist():
        problem = block.problems.get(place)
        reason = str(Reason.SPEC_MISMATCH) if problem is None else problem["reason"]
        tally.accounts["quarantined"] += weight * cap
        tally.quarantined[reason] += weight * cap
        if len(tally.problems) < 3:
            name = fragment.footer.column("item_id")[block.rows[place]]
            detail = problem["detail"] if problem else "not the task's spec"
            tally.problems.append(f"{name or block.ref.path}: {reason}: {detail}")


def _count_windows(
    tally: Tally, block: plan.WindowBlock, by_row: dict[tuple[str, int], float]
) -> None:
    windows = block.windows
    places = zip(windows["fragment"].tolist(), windows["row"].tolist(), strict=True)
    weights = np.array([by_row[block.fragments[f], row] for f, row in places])
    sizes = weights * plan.window_bytes(windows)
    tally.planned_bytes += np.bincount(windows["split"], sizes, minlength=2)
    tally.prompts["windows"] += weights.sum()
    for code, name in _PROMPTS.items():
        tally.prompts[name] += weights[windows["prompt"] == code].sum()


def _count_row(
    tally: Tally, row: Row, extra_bytes: int, by_id: dict[str, float]
) -> None:
    used = sum(entry["length"] for entry in row.provenance)
    images = sum(len(image) for image in row.images)
    for entry in row.provenance:
        ids = entry.get("documents") or [entry["episode"]]
        # A text's piece is named `<id>#<piece>`.
        weights = [by_id.get(i, by_id.get(i.rpartition("#")[0], 0.0)) for i in ids]
        weight = math.fsum(weights) / len(weights)
        slots = slice(entry["start"], entry["start"] + entry["length"])
        kind = row.kind[slots]
        tally.kinds += weight * np.bincount(kind & KIND_MASK, minlength=len(Kind))
        tally.prompt_tokens += weight * np.count_nonzero(kind & PROMPT_BIT)
        tally.targets += weight * np.count_nonzero(row.loss_mask[slots])
        tally.lengths[entry["length"]] += weight
        share = weight * entry["length"] / used
        tally.extra_bytes += share * extra_bytes
        tally.image_bytes += share * images


def _time_images(tally: Tally, row: Row) -> None:
    if tally.decode_seconds > _DECODE_SECONDS:
        return
    info = row.image_info.tolist()
    begin = time.process_time()
    for data, (_, height, width, encoding) in zip(row.images, info, strict=True):
        decode_stored(data, height, width, encoding)
    tally.decode_seconds += time.process_time() - begin
    tally.decoded_patches += sum(
        (height // PATCH_SIZE) * (width // PATCH_SIZE) for _, height, width, _ in info
    )


@functools.cache
def empty_row_bytes(layout: ShardLayout) -> int:
    """Returns the bytes of a row that nothing stands in, frame included."""
    length = layout.sequence_length
    row = Row(
        tokens=np.zeros(length, layout.dtype),
        kind=np.zeros(length, np.uint8),
        loss_mask=np.zeros(length, np.uint8),
        segment=np.zeros(length, np.uint8),
        local_position=np.zeros(length, np.int16),
        images=(),
        image_info=np.zeros((0, 4), np.int32),
        provenance=[],
    )
    return len(encode_row(row)) + FRAME_BYTES


def relative_error(
    rehearsal: Rehearsal, raw_bytes: int, is_complete: bool
) -> float | None:
    """Returns the standard error of the number of tokens, relative to it.

    A ratio estimate by raw bytes, in two stages: between partitions (each has its own
    tokens per byte), and between the items of those that were read in part.

    Returns:
        None where it cannot be known: one partition of several was read.
    """
    if is_complete:
        return 0.0
    tokens = _kept_tokens(rehearsal)
    parts = [fragment.part for fragment in rehearsal.fragments]
    inside = np.array([part.weight / part.partitions for part in parts])
    sums = inside * [sum(values) for values in tokens]
    sizes = np.array([part.raw_bytes for part in parts])
    if not sums.sum() or not sizes.sum():
        return None
    within = 0.0
    for scale, values in zip(inside, tokens, strict=True):
        if scale > 1 and len(values) > 1:
            spread = len(values) * float(np.var(values, ddof=1))
            within += (1 - 1 / scale) * scale**2 * spread
    unread = max(0.0, 1 - sizes.sum() / raw_bytes)
    between = 0.0
    if unread > 1e-9:
        if len(parts) < 2:
            return None
        residuals = sums - sizes * (sums.sum() / sizes.sum())
        between = unread * len(parts) / (len(parts) - 1) * float((residuals**2).sum())
    return math.sqrt(within + between) / float(sums.sum())


def _kept_tokens(rehearsal: Rehearsal) -> Sequence[list[int]]:
    """Returns the tokens of each item of each fragment, 0 for those not kept."""
    tokens: dict[str, list[int]] = {f.ref.path: [] for f in rehearsal.fragments}
    for block, fragment in rehearsal.blocks:
        status = decide.classify(block, rehearsal.decisions[block.task])
        slots = fragment.footer.column("num_slots")
        for row, code in zip(block.rows.tolist(), status.tolist(), strict=True):
            kept = code == decide.Status.KEPT
            tokens[block.ref.path].append(slots[row] if kept else 0)
    return list(tokens.values())

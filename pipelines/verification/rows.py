"""The laws of rows, over batches (specification.md sections 1 to 4, design.md 4).

Each law is a boolean array over slots [B, L] or segments [S] that is true where it is
broken, so a batch that obeys costs a few passes over its slots.
"""

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.verification.batch import (
    Batch,
    BatchSegments,
    make_segments,
    report,
    report_segments,
)
from gato.pipelines.verification.context import Context
from gato.pipelines.verification.problems import Problems
from gato.pipelines.verification.segments import as_table, parse_segments
from gato.schemas.record import KIND_MASK, MAX_LOCAL_POSITION, PROMPT_BIT, Kind

_OBSERVATIONS = np.zeros(8, bool)
_OBSERVATIONS[
    [
        Kind.TEXT,
        Kind.IMAGE,
        Kind.DISCRETE_OBSERVATION,
        Kind.CONTINUOUS_OBSERVATION,
    ]
] = True
_ACTIONS = np.zeros(8, bool)
_ACTIONS[[Kind.DISCRETE_ACTION, Kind.CONTINUOUS_ACTION]] = True
_NAMES = [kind.name.lower().replace("_", " ") for kind in Kind]


def check_slots(batch: Batch, context: Context, problems: Problems) -> None:
    """Checks kinds, ids and mask values slot by slot."""
    unknown = np.stack([row.kind for row in batch.rows]) > (KIND_MASK | PROMPT_BIT)
    raw = [row.kind for row in batch.rows]
    report(
        problems,
        batch,
        unknown,
        "kind is 0 to 7, plus 8 inside a prompt",
        lambda at: f"got {raw[at[0]][at[1]]}",
    )
    report(
        problems,
        batch,
        batch.prompt & (batch.kind == Kind.PADDING),
        "padding is in no prompt",
        lambda at: "got kind 8",
    )
    first, stop = context.first_id[batch.kind], context.stop_id[batch.kind]

    def found(at: tuple[int, int]) -> str:
        kind = batch.kind[at]
        limits = f"[{context.first_id[kind]}, {context.stop_id[kind]})"
        return f"got {batch.tokens[at]} in a slot of kind {_NAMES[kind]} {limits}"

    outside = (batch.tokens < first) | (batch.tokens >= stop)
    report(problems, batch, outside, "a token lies in the id range of its kind", found)
    report(
        problems,
        batch,
        batch.mask > 1,
        "loss_mask is 0 or 1",
        lambda at: f"got {batch.mask[at]}",
    )


def check_segments(
    batch: Batch, context: Context, problems: Problems
) -> tuple[Batch, BatchSegments]:
    """Checks that segments are contiguous and what provenance says.

    Returns:
        The rows whose structure is sound, and their segments.
    """
    segment = batch.segment.astype(np.int16)
    step = np.diff(segment, axis=1, prepend=np.int16(0))
    padding = segment == 0
    ended = np.zeros_like(padding)
    ended[:, 1:] = np.maximum.accumulate(padding, axis=1)[:, :-1]
    broken = np.where(padding, False, ended | ((step != 0) & (step != 1)))
    broken[:, 0] |= segment[:, 0] != 1
    law = "segments are 1, 2, ... in contiguous runs, then padding"
    report(problems, batch, broken, law, lambda at: f"got segment {segment[at]}")
    unlike = padding != (batch.kind == Kind.PADDING)
    law = "segment is 0 exactly in slots of kind padding"
    report(
        problems,
        batch,
        unlike,
        law,
        lambda at: f"got segment {segment[at]} and kind {batch.kind[at]}",
    )
    sound = ~(broken | unlike).any(axis=1)
    lengths = (~padding).sum(axis=1)
    parsed, documents = [], []
    index = context.task_index
    kept = 0
    for row, (numbers, used) in enumerate(
        zip(segment.max(axis=1), lengths, strict=True)
    ):
        if not sound[row]:
            continue
        try:
            source = batch.rows[row]
            found, further = parse_segments(
                source.provenance, context, index, bool(source.images)
            )
            _check_against_slots(found, int(numbers), int(used), segment[row])
        except ValueError as error:
            sound[row] = False
            problems.add(
                batch.file, f"provenance: {error}", law="prov", place=batch.place(row)
            )
            continue
        parsed += [(kept, *entry) for entry in found]
        documents += [(kept, *entry) for entry in further]
        kept += 1
    problems.unreadable_rows += int((~sound).sum())
    batch = batch if sound.all() else batch.take(sound)
    return batch, make_segments(batch, as_table(parsed), documents)


def _check_against_slots(
    found: list[tuple], numbers: int, used: int, segment: NDArray[np.int16]
) -> None:
    if len(found) != numbers:
        raise ValueError(f"it lists {len(found)} segments, the slots have {numbers}")
    total = found[-1][2] + found[-1][3]
    if total != used:
        raise ValueError(f"its lengths sum to {total}, the segments hold {used} slots")
    for number, _, start, *_ in found:
        if segment[start] != number or (start and segment[start - 1] == number):
            raise ValueError(f"segment {number} does not start at slot {start}")


def check_loss_mask(
    batch: Batch, segments: BatchSegments, context: Context, problems: Problems
) -> None:
    """Checks every mask bit that the manifest's `loss` options decide.

    The text of a question cannot be told from its answer's in a row, so with
    `questions: false` a document's text is free, but for its end, the eos.
    """
    control = np.append(segments.table["control"], False)[segments.of_slot]
    text = batch.kind == Kind.TEXT
    target = _ACTIONS[batch.kind]
    target |= text & (~control | context.loss.text_observations)
    if not context.loss.prompts:
        target &= ~batch.prompt
    target &= ~segments.first
    broken = (batch.mask != 0) != target
    if not context.loss.questions:
        broken &= ~(text & ~control & ~segments.first & (batch.tokens != context.eos))
    law = "text and actions are targets, nothing else is, nor a segment's first slot"

    def found(at: tuple[int, int]) -> str:
        kind = _NAMES[batch.kind[at]]
        where = ", first of its segment" if segments.first[at] else ""
        inside = " of a prompt" if batch.prompt[at] else ""
        return f"got loss_mask {batch.mask[at]} for {kind}{inside}{where}"

    report(problems, batch, broken, law, found)


def check_local_positions(
    batch: Batch, segments: BatchSegments, problems: Problems
) -> int:
    """Checks the index inside each timestep's observation.

    Returns:
        How many slots lie beyond the largest position and are clamped to it.
    """
    control = np.append(segments.table["control"], False)
    if not control.any():
        expected = np.int32(-1)
        clamped = 0
    else:
        inside = _OBSERVATIONS[batch.kind] & control[segments.of_slot]
        before = np.zeros_like(inside)
        before[:, 1:] = inside[:, :-1]
        starts = inside & (~before | segments.first)
        slots = np.arange(inside.shape[1], dtype=np.int32)
        start = np.maximum.accumulate(np.where(starts, slots, 0), axis=1)
        index = np.where(inside, slots - start, -1)
        clamped = int((index > MAX_LOCAL_POSITION).sum())
        expected = np.minimum(index, MAX_LOCAL_POSITION)
    law = (
        "local_position is the index inside the timestep's observation, at most"
        f" {MAX_LOCAL_POSITION}, and -1 elsewhere"
    )
    expected = np.broadcast_to(expected, batch.local.shape)
    report(
        problems,
        batch,
        batch.local != expected,
        law,
        lambda at: f"got {batch.local[at]} instead of {expected[at]}",
    )
    return clamped


def check_prompts(batch: Batch, segments: BatchSegments, problems: Problems) -> None:
    """Checks that the prompt bit covers exactly the prompt's slots."""
    length = np.append(segments.table["prompt_length"], 0)[segments.of_slot]
    expected = segments.offset < length
    law = "kind has its prompt bit exactly over the slots of the segment's prompt"
    report(
        problems,
        batch,
        expected != batch.prompt,
        law,
        lambda at: (
            f"got {'a' if batch.prompt[at] else 'no'} prompt bit {segments.offset[at]}"
            f" slots into a segment whose prompt has {length[at]}"
        ),
    )
    full = segments.table["prompt_length"] >= segments.table["length"]
    report_segments(
        problems,
        batch,
        segments.table,
        full & segments.table["control"],
        "a body follows the prompt",
        lambda _: "got a prompt as long as its segment",
    )


def check_timesteps(
    batch: Batch, segments: BatchSegments, context: Context, problems: Problems
) -> None:
    """Checks that segments are whole timesteps of their task's spec, as many as said.

    Text varies in length, so the other slots are held against the task's pattern by
    their rank among themselves.
    """
    table = segments.table
    separators = batch.kind == Kind.SEPARATOR
    counts = [
        np.bincount(segments.of_slot[separators & where], minlength=len(table) + 1)[:-1]
        for where in (batch.prompt, ~batch.prompt)
    ]
    for name, count, said in zip(
        ("prompt", "body"),
        counts,
        (table["prompt_steps"], table["num_steps"]),
        strict=True,
    ):
        report_segments(
            problems,
            batch,
            table,
            count != said,
            f"num_steps of the {name} is the number of its separators",
            lambda index, count=count, said=said: f"got {said[index]}, {count[index]}",
        )
    _check_patterns(batch, segments, context, problems)


def _check_patterns(
    batch: Batch, segments: BatchSegments, context: Context, problems: Problems
) -> None:
    table = segments.table
    fixed = (batch.kind != Kind.TEXT) & (batch.segment != 0)
    rank = np.cumsum(fixed, axis=1, dtype=np.int32) - fixed
    at_start = rank[table["row"], table["start"]]
    rank -= np.append(at_start, 0)[segments.of_slot]
    tasks = np.append(table["task"], -1)[segments.of_slot]
    ends = table["start"] + table["length"] - 1
    for task in np.unique(table["task"][table["control"]]):
        pattern = context.patterns[task]
        name = context.tasks[task]
        if pattern is None:
            problems.add(batch.file, f"task {name!r} has rows but no spec", law=name)
            continue
        here = tasks == task
        at = rank % len(pattern.kind)
        unlike = here & fixed & (batch.kind != pattern.kind[at])
        if not pattern.has_text:
            unlike |= here & (batch.kind == Kind.TEXT)
        law = f"slots follow the timestep of task {name!r}"

        def found(where: tuple[int, int], at=at, pattern=pattern) -> str:
            wanted = _NAMES[pattern.kind[at[where]]]
            return f"got {_NAMES[batch.kind[where]]} where the spec has {wanted}"

        report(problems, batch, unlike, law, found)
        large = here & fixed & (batch.tokens >= pattern.stop[at])
        large &= _ACTIONS[batch.kind]
        law = f"an action of task {name!r} lies in its space"
        report(problems, batch, large, law, lambda at: f"got {batch.tokens[at]}")
        mine = table["task"] == task
        cut = (at[table["row"], ends] != len(pattern.kind) - 1) & mine
        body = table["start"] + np.minimum(table["prompt_length"], table["length"] - 1)
        cut |= (at[table["row"], body] != 0) & mine
        report_segments(
            problems,
            batch,
            table,
            cut,
            f"prompt and body are whole timesteps of task {name!r}",
            lambda _: "got one that is cut",
        )


def check_documents(batch: Batch, segments: BatchSegments, problems: Problems) -> None:
    """Checks that documents hold text and images only."""
    inside = ~np.append(segments.table["control"], True)[segments.of_slot]
    other = (batch.kind != Kind.TEXT) & (batch.kind != Kind.IMAGE)
    report(
        problems,
        batch,
        inside & other,
        "a document holds text and images",
        lambda at: f"got {_NAMES[batch.kind[at]]}",
    )

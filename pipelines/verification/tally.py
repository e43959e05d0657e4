"""What the rows of a data set add up to, and its agreement with the manifest."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.verification.batch import Batch, BatchSegments
from gato.pipelines.verification.context import Context
from gato.pipelines.verification.problems import Problems
from gato.pipelines.verification.segments import SEGMENT, TAIL, UNIFORM
from gato.schemas.manifest import DatasetManifest
from gato.schemas.record import Kind

MAX_DEMONSTRATIONS = 5
# A segment with its place in the data set.
PLACED = np.dtype([("shard", "u4"), ("record", "u4"), ("split", "u1"), *SEGMENT.descr])
# Returns the id at a placed segment's place, for messages.
Namer = Callable[[np.void], str]


@dataclasses.dataclass(kw_only=True)
class SplitTally:
    """Rows and used slots of one split."""

    rows: int = 0
    tokens: int = 0


class Tally:
    """Counts over all rows of a data set, and the columns that prove coverage.

    Attributes:
        kinds: Slots by kind, prompts included.
        prompt_tokens: Slots inside prompts.
        targets: Set mask bits.
        clamped: Local positions beyond the largest.
        splits: Rows and slots by split.
    """

    def __init__(self, splits: tuple[str, ...]) -> None:
        self.kinds = np.zeros(8, np.int64)
        self.prompt_tokens = 0
        self.targets = 0
        self.clamped = 0
        self.splits = {name: SplitTally() for name in splits}
        self._segments: list[NDArray[np.void]] = []
        self._documents: list[NDArray[np.void]] = []

    def add_slots(self, batch: Batch, split: str) -> None:
        """Counts every slot of a batch."""
        self.kinds += np.bincount(batch.kind.ravel(), minlength=8)
        self.prompt_tokens += int(batch.prompt.sum())
        self.targets += int(batch.mask.sum(dtype=np.int64))
        self.splits[split].rows += len(batch.rows)
        self.splits[split].tokens += batch.kind.size

    def add_segments(
        self, batch: Batch, segments: BatchSegments, split: str, shard: int
    ) -> None:
        """Keeps the segments' columns, a hundred bytes a window."""
        split_number = list(self.splits).index(split)
        for table, kept in (
            (segments.table, self._segments),
            (segments.documents, self._documents),
        ):
            placed = np.zeros(len(table), PLACED)
            for name in SEGMENT.names or ():
                placed[name] = table[name]
            placed["shard"], placed["split"] = shard, split_number
            placed["record"] = batch.records[table["row"]]
            kept.append(placed)

    @property
    def segments(self) -> NDArray[np.void]:
        """All segments of the data set so far."""
        return np.concatenate([np.zeros(0, PLACED), *self._segments])

    @property
    def documents(self) -> NDArray[np.void]:
        """One entry for each document or piece of one."""
        return np.concatenate([np.zeros(0, PLACED), *self._documents])


def _counts(tally: Tally, manifest: DatasetManifest) -> Iterator[tuple[str, int, int]]:
    """Yields what the manifest says and what the rows hold."""
    said = manifest.tokens.model_dump()
    for kind in Kind:
        name = kind.name.lower()
        yield f"tokens.{name}", said[name], int(tally.kinds[kind])
    yield "prompt_tokens", manifest.prompt_tokens, tally.prompt_tokens
    yield "targets", manifest.targets, tally.targets
    yield "local_position_clamped", manifest.local_position_clamped, tally.clamped
    for name, split in tally.splits.items():
        yield f"splits.{name}.rows", manifest.splits[name].rows, split.rows
        yield f"splits.{name}.tokens", manifest.splits[name].tokens, split.tokens
    yield "rows", manifest.rows, sum(split.rows for split in tally.splits.values())


def _control_counts(
    tally: Tally, manifest: DatasetManifest, context: Context
) -> Iterator[tuple[str, int, int]]:
    segments = tally.segments
    control = segments[segments["control"]]
    modes = np.bincount(control["prompt_mode"], minlength=3)
    prompts = manifest.prompts
    yield "prompts.windows", prompts.windows, len(control)
    yield "prompts.prompted", prompts.prompted, int(modes[TAIL] + modes[UNIFORM])
    yield "prompts.tail", prompts.tail, int(modes[TAIL])
    yield "prompts.uniform", prompts.uniform, int(modes[UNIFORM])
    steps = np.bincount(
        control["task"], weights=control["num_steps"], minlength=len(context.tasks)
    ).astype(np.int64)
    for index, task in enumerate(context.tasks):
        said = manifest.tasks[task]
        yield f"tasks.{task}.timesteps", said.timesteps, int(steps[index])
        mine = control[control["task"] == index]
        kept = len(np.unique(mine["item"]))
        yield f"tasks.{task}.kept", said.kept, kept
    yield "timesteps", manifest.timesteps, int(steps.sum())
    items = control if context.control else tally.documents
    name = "episodes" if context.control else "documents"
    yield f"{name}.kept", manifest.accounts.kept, len(np.unique(items["item"]))


def check_counts(
    tally: Tally,
    manifest: DatasetManifest,
    context: Context,
    file: str,
    problems: Problems,
) -> None:
    """Checks every number of the manifest that rows decide."""
    for counts in (_counts(tally, manifest), _control_counts(tally, manifest, context)):
        for name, said, found in counts:
            if said != found:
                problems.add(file, f"{name} is {said}, the shards hold {found}")


def _first_of_groups(values: NDArray) -> NDArray[np.bool_]:
    return np.append(True, values[1:] != values[:-1]) if len(values) else values != 0


def check_episodes(tally: Tally, problems: Problems, name_of: Namer, file: str) -> None:
    """Checks that windows cover each episode once, in one split, of one task."""
    segments = tally.segments
    segments = segments[segments["control"]]
    order = np.lexsort((segments["first_step"], segments["item"]))
    windows = segments[order]
    if not len(windows):
        return
    first = _first_of_groups(windows["item"])
    expected = np.zeros(len(windows), np.int64)
    expected[1:] = windows["first_step"][:-1].astype(np.int64)
    expected[1:] += windows["num_steps"][:-1]
    expected[first] = 0
    begins = windows["first_step"].astype(np.int64)
    for index in np.flatnonzero(begins != expected):
        window = windows[index]
        what = "stands twice" if begins[index] < expected[index] else "is missing"
        step = min(begins[index], expected[index])
        problems.add(
            file,
            f"every timestep of an episode stands once as body: timestep {step} of"
            f" {name_of(window)} {what} (a window of timesteps {begins[index]} to"
            f" {begins[index] + window['num_steps'] - 1})",
            law="once",
            place=_place(window),
        )
    for field, law in (
        ("split", "all windows of an episode are in one split"),
        ("task", "all windows of an episode are of one task"),
        ("agent", "all windows of an episode are of one agent"),
    ):
        changes = ~first & np.append(False, windows[field][1:] != windows[field][:-1])
        for index in np.flatnonzero(changes):
            window = windows[index]
            problems.add(
                file, f"{law}: {name_of(window)} is not", law=law, place=_place(window)
            )
    _check_providers(windows, first, problems, name_of, file)


def _place(window: np.void) -> str:
    return f"record {window['record']} segment {window['number']}"


def _check_providers(
    windows: NDArray[np.void],
    first: NDArray[np.bool_],
    problems: Problems,
    name_of: Namer,
    file: str,
) -> None:
    """Checks prompts against the episodes they are taken from."""
    providers = windows[first]
    last = windows[np.append(np.flatnonzero(first)[1:], len(windows)) - 1]
    ends = last["first_step"].astype(np.int64) + last["num_steps"]
    prompted = windows[windows["prompt_mode"] > 0]
    at = np.searchsorted(providers["item"], prompted["prompt_item"])
    at = np.minimum(at, len(providers) - 1)
    provider = providers[at]
    stops = prompted["prompt_first"].astype(np.int64) + prompted["prompt_steps"]
    known = provider["item"] == prompted["prompt_item"]
    laws = (
        ("a prompt's episode is kept in this data set", ~known),
        ("a prompt comes from the train split", known & (provider["split"] != 0)),
        (
            "a prompt comes from the same task and agent",
            known
            & (
                (provider["task"] != prompted["task"])
                | (provider["agent"] != prompted["agent"])
            ),
        ),
        ("a prompt lies inside its episode", known & (stops > ends[at])),
        (
            "a prompt of mode tail ends with its episode",
            known & (prompted["prompt_mode"] == TAIL) & (stops != ends[at]),
        ),
    )
    for law, broken in laws:
        for window in prompted[broken]:
            problems.add(
                file,
                f"{law}: that of {name_of(window)} is not so",
                law=law,
                place=_place(window),
            )


def check_document_coverage(
    tally: Tally, problems: Problems, name_of: Namer, file: str
) -> None:
    """Checks that each document, or each piece of one, stands once, in one split."""
    documents = tally.documents
    documents = documents[np.lexsort((documents["piece"], documents["item"]))]
    if not len(documents):
        return
    first = _first_of_groups(documents["item"])
    pieces = documents["piece"].astype(np.int64)
    follows = np.append(False, pieces[1:] == pieces[:-1] + 1) & (pieces > 0)
    broken = np.where(first, pieces > 0, ~follows)
    for index in np.flatnonzero(broken):
        law = "every document stands once, its pieces 0, 1, ... each once"
        document = documents[index]
        where = f"piece {pieces[index]}" if pieces[index] >= 0 else "it"
        problems.add(
            file,
            f"{law}: of a document in {name_of(document)}, {where} stands twice or one"
            " before it is missing",
            law=law,
            place=_place(document),
        )
    changes = ~first & np.append(
        False, documents["split"][1:] != documents["split"][:-1]
    )
    for document in documents[changes]:
        law = "all pieces of a document are in one split"
        problems.add(
            file,
            f"{law}: {name_of(document)} is not",
            law=law,
            place=_place(document),
        )


def check_demonstrations(
    demonstrations: Tally,
    tally: Tally,
    context: Context,
    problems: Problems,
    file: str,
) -> None:
    """Checks that demonstrations begin at the first timestep of training episodes."""
    segments = demonstrations.segments
    windows = tally.segments
    training = np.unique(windows["item"][windows["control"] & (windows["split"] == 0)])
    laws = (
        ("a demonstration has no prompt", segments["prompt_mode"] > 0),
        ("a demonstration starts at timestep 0", segments["first_step"] != 0),
        (
            "a demonstration is of a training episode",
            ~np.isin(segments["item"], training),
        ),
    )
    for law, broken in laws:
        for segment in segments[broken]:
            problems.add(file, f"{law}, got another", law=law, place=_place(segment))
    begun = windows[windows["control"] & (windows["first_step"] == 0)]
    episodes = np.bincount(
        begun["task"][begun["split"] == 0], minlength=len(context.tasks)
    )
    wanted = np.minimum(episodes, MAX_DEMONSTRATIONS)
    per_task = np.bincount(segments["task"], minlength=len(context.tasks))
    for task in np.flatnonzero(per_task != wanted):
        problems.add(
            file,
            f"a task has demonstrations of its {wanted[task]} best training episodes"
            f" (at most {MAX_DEMONSTRATIONS}), {context.tasks[task]!r} has"
            f" {per_task[task]}",
        )

"""What a build of one data set would give, extrapolated from its sample.

Everything but rows is a sum of the sample's items, each times the number of items that
it stands for (`sample.py`). Rows follow from the tokens and the share of padding that
the packer leaves when it is given as many segments as a shard holds, drawn from the
sample's; a row of the sample itself has fewer to choose from. Of a sample that holds
everything, all figures are those of the build, times and prices excepted.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from gato.pipelines import finish, plan
from gato.pipelines.discover import expand, settle
from gato.pipelines.estimation.rehearsal import (
    Rehearsal,
    rehearse,
    scratch_folder,
)
from gato.pipelines.estimation.sample import Sample, draw_sample
from gato.pipelines.estimation.tally import (
    Tally,
    count,
    empty_row_bytes,
    relative_error,
)
from gato.pipelines.sources.registry import source_for
from gato.schemas.config import BuildConfig, Dataset
from gato.schemas.hashing import keyed_hash
from gato.schemas.record import Kind
from gato.schemas.shards import SPLITS
from gato.tokenizers.packing import pack_best_fit
from gato.tokenizers.patches import PATCH_BYTES
from gato.tokenizers.text import TextTokenizer

# Segments that a trial packing takes at most; more change the share by under 0.1%.
_TRIAL_SEGMENTS = 20_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetFigures:
    """The figures of one data set.

    Attributes:
        name: The data set.
        items: "episodes" or "documents".
        exact: Whether the sample is everything.
        sampled_items: Items in the sample.
        partitions: Partitions they are of.
        paths: Paths that the globs match.
        raw_bytes: Bytes of the data set.
        share_read: Share of them that the sample covers.
        relative_error: Standard error of the tokens, relative; None if unknown.
        accounts: Items by account.
        quarantined: Items by reason.
        problems: The first quarantined items.
        tokens: Slots of all rows by kind, padding included.
        prompt_tokens: Slots inside prompts.
        targets: Slots that are targets.
        prompts: Windows by what became of their prompt.
        rows: Rows of both splits.
        train_rows: Rows of the training split.
        padding: Share of slots.
        shards: By split.
        shard_bytes: Bytes of all shards.
        tokenize_seconds: CPU seconds of reading and tokenizing everything.
        assemble_seconds: CPU seconds of plan and assembly.
        decode_ms_a_row: CPU milliseconds to decode a row's images; 0 without images.
        raw_row_bytes: Bytes of a row if `image.encoding` were `raw`.
        failure: Why `gato-build` would end without a manifest; None if it would not.
    """

    name: str
    items: str
    exact: bool
    sampled_items: int
    partitions: int
    paths: int
    raw_bytes: int
    share_read: float
    relative_error: float | None
    accounts: Mapping[str, int]
    quarantined: Mapping[str, int]
    problems: list[str]
    tokens: Mapping[str, int]
    prompt_tokens: int
    targets: int
    prompts: Mapping[str, int]
    rows: int
    train_rows: int
    padding: float
    shards: Mapping[str, int]
    shard_bytes: int
    tokenize_seconds: float
    assemble_seconds: float
    decode_ms_a_row: float
    raw_row_bytes: float
    failure: str | None

    @property
    def num_tokens(self) -> int:
        """Slots that are not padding."""
        return sum(self.tokens.values()) - self.tokens["padding"]

    @property
    def row_bytes(self) -> float:
        """Bytes of a row."""
        return self.shard_bytes / self.rows if self.rows else 0.0


def estimate_dataset(
    dataset: Dataset, config: BuildConfig, text: TextTokenizer, num_items: int
) -> DatasetFigures:
    """Estimates one data set; writes nothing outside of memory.

    Args:
        dataset: Its config, paths resolved.
        config: The build config.
        text: Of the build's SentencePiece model.
        num_items: The most episodes or documents to read.

    Raises:
        UsageError: If its globs match nothing, or what is not of its format.
    """
    paths = expand(dataset)
    dataset = settle(dataset, paths)
    source = source_for(dataset.format)
    sample = draw_sample(source, dataset, paths, num_items, config.seed)
    with scratch_folder() as folder:
        rehearsal = rehearse(source, dataset, config, sample, text, folder)
        tally = count(rehearsal, dataset, sample.is_complete)
        rows, train_rows, row_bytes = _rows(rehearsal, tally, sample, config)
    length = config.sequence_length
    used = float(tally.kinds.sum())
    tokens = {kind.name.lower(): round(tally.kinds[kind]) for kind in Kind}
    tokens["padding"] = rows * length - sum(tokens.values())
    sampled = sum(
        sum(size * n for size, n in _lengths(s).items()) for s in rehearsal.summaries
    )
    decode_ms, raw_row_bytes = _decoding(tally, rows, row_bytes)
    return DatasetFigures(
        name=dataset.name,
        items=source.items,
        exact=sample.is_complete,
        sampled_items=sample.num_items,
        partitions=len(sample.partitions),
        paths=len(paths),
        raw_bytes=sample.raw_bytes,
        share_read=sample.share_read,
        relative_error=relative_error(rehearsal, sample.raw_bytes, sample.is_complete),
        accounts={name: round(n) for name, n in tally.accounts.items()},
        quarantined={name: round(n) for name, n in sorted(tally.quarantined.items())},
        problems=tally.problems,
        tokens=tokens,
        prompt_tokens=round(tally.prompt_tokens),
        targets=round(tally.targets),
        prompts={name: round(n) for name, n in tally.prompts.items()},
        rows=rows,
        train_rows=train_rows,
        padding=tokens["padding"] / (rows * length) if rows else 0.0,
        shards=_shards(rehearsal, tally, sample, dataset, config),
        shard_bytes=round(row_bytes * rows),
        tokenize_seconds=sum(
            f.part.partitions * f.open_seconds + f.part.weight * f.item_seconds
            for f in rehearsal.fragments
        ),
        assemble_seconds=(
            rehearsal.assembly_seconds * used / sampled if sampled else 0.0
        ),
        decode_ms_a_row=decode_ms,
        raw_row_bytes=raw_row_bytes,
        failure=finish.judge(
            dataset,
            config,
            list(rehearsal.decisions.values()),
            source.items == "episodes",
        ).failure,
    )


def _lengths(summary: Mapping[str, Any]) -> dict[int, int]:
    counts = summary["counts"]["segment_lengths"]
    return {int(length): number for length, number in counts.items()}


def _rows(
    rehearsal: Rehearsal, tally: Tally, sample: Sample, config: BuildConfig
) -> tuple[int, int, float]:
    """Returns rows, those of the training split, and bytes of a row."""
    if sample.is_complete:
        rows = sum(summary["rows"] for summary in rehearsal.summaries)
        train = sum(
            summary["rows"]
            for summary in rehearsal.summaries
            if summary["name"].startswith(SPLITS[0])
        )
        size = sum(summary["bytes"] for summary in rehearsal.summaries)
        return rows, train, size / rows if rows else 0.0
    used, length = float(tally.kinds.sum()), config.sequence_length
    if not used:
        return 0, 0, 0.0
    share = padding_share(tally.lengths, length, _shard_segments(tally, config))
    rows = max(1, round(used / (length * (1 - share))))
    row_bytes = empty_row_bytes(rehearsal.layout) + tally.extra_bytes / rows
    return rows, round(rows * (1 - config.validation_fraction)), row_bytes


def _shard_segments(tally: Tally, config: BuildConfig) -> int:
    """Returns about how many segments a shard holds."""
    segments = sum(tally.lengths.values())
    shards = max(1.0, float(tally.planned_bytes.sum()) / config.shard_bytes)
    return max(1, round(segments / shards))


def padding_share(
    lengths: Mapping[int, float], row_slots: int, num_segments: int
) -> float:
    """Returns the share of padding that the packer leaves.

    Args:
        lengths: Weights of the segments by their slots.
        row_slots: L.
        num_segments: How many segments a shard holds.

    >>> padding_share({6: 3.0}, 10, 100)
    0.4
    """
    number = min(num_segments, _TRIAL_SEGMENTS)
    sizes = np.array(sorted(lengths))
    ends = np.cumsum([lengths[size] for size in sizes.tolist()])
    # Each length as often as its weight says, in an order that is always the same.
    points = (np.arange(number) + 0.5) / number * ends[-1]
    drawn = sizes[np.minimum(np.searchsorted(ends, points), len(sizes) - 1)]
    order = np.argsort([keyed_hash(0, "trial", place) for place in range(number)])
    packed = pack_best_fit(drawn[order].tolist(), row_slots)
    return 1 - float(drawn.sum()) / (len(packed) * row_slots)


def _shards(
    rehearsal: Rehearsal,
    tally: Tally,
    sample: Sample,
    dataset: Dataset,
    config: BuildConfig,
) -> dict[str, int]:
    if sample.is_complete:
        return dict(rehearsal.shards)
    total, validation = float(tally.planned_bytes.sum()), config.validation_fraction
    sizes = dict(
        zip(SPLITS, (total * (1 - validation), total * validation), strict=True)
    )
    return {
        split: plan.num_shards(split, round(size), dataset, config)
        for split, size in sizes.items()
    }


def _decoding(tally: Tally, rows: int, row_bytes: float) -> tuple[float, float]:
    """Returns milliseconds to decode a row, and bytes of a row with raw images."""
    patches = float(tally.kinds[Kind.IMAGE])
    if not rows or not tally.decoded_patches:
        return 0.0, row_bytes
    milliseconds = 1000 * tally.decode_seconds / tally.decoded_patches
    stored = tally.image_bytes / rows
    raw = row_bytes - stored + PATCH_BYTES * patches / rows
    return milliseconds * patches / rows, raw

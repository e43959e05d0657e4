"""A sample through the real stages of a build, in memory and in one process.

Fragments and shards are made by the code of `gato-build` under `memory://`, which ends
with the process and is removed before. Of a sample that holds everything, the shards
are those of the build.
"""

import collections
import contextlib
import dataclasses
import itertools
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from gato.pipelines import columns, decide, plan
from gato.pipelines.assemble import ShardAssembler
from gato.pipelines.estimation.sample import Head, Sample, SampledPartition
from gato.pipelines.fragment import Footer, FragmentRef, read_footer
from gato.pipelines.segments import ShardLayout
from gato.pipelines.sources.base import Source
from gato.pipelines.tokenize import PartitionTokenizer, fragment_name
from gato.schemas import files
from gato.schemas.config import BuildConfig, Dataset
from gato.schemas.record import Row, decode_row, token_dtype
from gato.schemas.shards import SPLITS, ShardName
from gato.schemas.tfrecord import FRAME_BYTES, iterate_records
from gato.tokenizers.text import TextTokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class RehearsedFragment:
    """One sampled partition, tokenized.

    Attributes:
        part: What was read.
        ref: The fragment.
        footer: Its footer.
        open_seconds: CPU seconds that opening cost, beyond those of an item.
        item_seconds: CPU seconds of all its items, read and tokenized.
    """

    part: SampledPartition
    ref: FragmentRef
    footer: Footer
    open_seconds: float
    item_seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What became of a sample.

    Attributes:
        fragments: Its partitions.
        blocks: The items' columns, each with its fragment.
        decisions: By task; "" for documents.
        windows: The plan.
        shards: Number of shards of each split that were assembled.
        summaries: Of every shard.
        folder: Where the shards lie.
        layout: What their rows look like.
        assembly_seconds: CPU seconds of plan and assembly.
    """

    fragments: list[RehearsedFragment]
    blocks: list[tuple[columns.ItemBlock, RehearsedFragment]]
    decisions: dict[str, decide.TaskDecision]
    windows: list[plan.WindowBlock]
    shards: dict[str, int]
    summaries: list[dict[str, Any]]
    folder: str
    layout: ShardLayout
    assembly_seconds: float

    def rows(self) -> Iterator[tuple[Row, int]]:
        """Yields every row and its bytes, frame included."""
        for summary in self.summaries:
            path = files.join(self.folder, summary["name"])
            for _, data in iterate_records(files.read_bytes(path), path):
                row = decode_row(
                    data,
                    sequence_length=self.layout.sequence_length,
                    dtype=self.layout.dtype,
                    place=path,
                )
                yield row, len(data) + FRAME_BYTES


@contextlib.contextmanager
def scratch_folder() -> Iterator[str]:
    """Gives a folder in memory, removed with all in it at the end."""
    folder = f"memory://gato-plan-{uuid.uuid4().hex}"
    try:
        yield folder
    finally:
        files.remove_folder(folder)


def rehearse(
    source: Source,
    dataset: Dataset,
    config: BuildConfig,
    sample: Sample,
    text: TextTokenizer,
    folder: str,
) -> Rehearsal:
    """Tokenizes, plans and assembles a sample.

    Args:
        source: The reader of the data set's format.
        dataset: Its config.
        config: The build config.
        sample: What to read.
        text: Of the build's SentencePiece model.
        folder: From `scratch_folder`.
    """
    fragments = _tokenize(source, dataset, sample, text, folder)
    # Of a part of a task, max_episodes says nothing; the caller scales by it.
    if not sample.is_complete:
        dataset = dataset.model_copy(update={"max_episodes": None})
    begin = time.process_time()
    blocks = [
        (block, fragment)
        for fragment in fragments
        for block in columns.item_blocks(fragment.ref, fragment.footer, dataset, config)
    ]
    decisions = {}
    for task in sorted({block.task for block, _ in blocks}):
        mine = [block for block, _ in blocks if block.task == task]
        decisions[task], _ = decide.decide_task(mine, dataset, config, None)
    windows = list(_plan(source, config, blocks, decisions))
    shards = _num_shards(windows, dataset, config, sample.is_complete)
    layout = ShardLayout(
        dataset=dataset.name,
        sequence_length=config.sequence_length,
        dtype=token_dtype(text.vocabulary.size),
        loss=config.loss,
        control=source.items == "episodes",
    )
    summaries = _assemble(windows, shards, layout, files.join(folder, "shards"))
    return Rehearsal(
        fragments=fragments,
        blocks=blocks,
        decisions=decisions,
        windows=windows,
        shards=shards,
        summaries=summaries,
        folder=files.join(folder, "shards"),
        layout=layout,
        assembly_seconds=time.process_time() - begin,
    )


def _tokenize(
    source: Source,
    dataset: Dataset,
    sample: Sample,
    text: TextTokenizer,
    folder: str,
) -> list[RehearsedFragment]:
    if sample.partitions:
        # What is done once a process is not counted to the first partition.
        warm = PartitionTokenizer(Head(source, 1), dataset, text)
        warm.run(sample.partitions[0].partition, files.join(folder, "warm"))
    parts = sorted(sample.partitions, key=lambda p: (p.path.index, p.place))
    return [_tokenize_partition(source, dataset, p, text, folder) for p in parts]


def _tokenize_partition(
    source: Source,
    dataset: Dataset,
    part: SampledPartition,
    text: TextTokenizer,
    folder: str,
) -> RehearsedFragment:
    name = fragment_name(
        part.partition,
        part.path.identity,
        dataset,
        text.vocabulary.sentencepiece_sha256,
        None,
    )
    ref = FragmentRef(
        dataset=dataset.name,
        file_index=part.path.index,
        part=part.place,
        path=files.join(folder, "fragments", name),
    )
    times: list[float] = []
    tokenizer = PartitionTokenizer(
        Head(source, part.num_items),
        dataset,
        text,
        on_item=lambda tokens: times.append(time.process_time()),
    )
    begin = time.process_time()
    tokenizer.run(part.partition, ref.path)
    total = time.process_time() - begin
    opening = 0.0
    if len(times) > 1:
        # The first item comes with the opening; the others say what an item costs.
        first = times[0] - begin
        opening = max(0.0, first - (total - first) / (len(times) - 1))
    return RehearsedFragment(
        part=part,
        ref=ref,
        footer=read_footer(ref.path),
        open_seconds=opening,
        item_seconds=total - opening,
    )


def _plan(
    source: Source,
    config: BuildConfig,
    blocks: Sequence[tuple[columns.ItemBlock, RehearsedFragment]],
    decisions: dict[str, decide.TaskDecision],
) -> Iterator[plan.WindowBlock]:
    buckets = collections.defaultdict(list)
    for block, fragment in blocks:
        decision, footer = decisions[block.task], fragment.footer
        if source.items == "documents":
            yield from plan.plan_documents(block, footer, decision, config)
            continue
        for bucket, episodes in plan.kept_episodes(block, footer, decision, config):
            buckets[block.task, block.agent, bucket].append(episodes)
    for key in sorted(buckets):
        yield from plan.plan_bucket(buckets[key], config)


def _num_shards(
    windows: Sequence[plan.WindowBlock],
    dataset: Dataset,
    config: BuildConfig,
    is_complete: bool,
) -> dict[str, int]:
    if not is_complete:
        return dict.fromkeys(SPLITS, 1)
    sizes: collections.Counter[str] = collections.Counter()
    for block in windows:
        sizes.update(dict(plan.split_bytes(block)))
    return {s: plan.num_shards(s, sizes[s], dataset, config) for s in SPLITS}


def _assemble(
    windows: Sequence[plan.WindowBlock],
    shards: dict[str, int],
    layout: ShardLayout,
    folder: str,
) -> list[dict[str, Any]]:
    assigned = collections.defaultdict(list)
    pieces = (plan.assign_shards(block, shards) for block in windows)
    for split, index, block in itertools.chain.from_iterable(pieces):
        assigned[split, index].append(block)
    assembler = ShardAssembler(folder, layout)
    return [
        assembler.assemble(
            ShardName(split=split, index=index, count=shards[split]), blocks
        )
        for (split, index), blocks in sorted(assigned.items())
    ]

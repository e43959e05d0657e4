"""The plan: windows, prompts and shards, as columns (design.md section 2).

What crosses a shuffle is a block of up to 4,096 windows: one NumPy record each, with
fragments named once a block. Never a payload.
"""

import dataclasses
import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.columns import ItemBlock, image_patches
from gato.pipelines.decide import Status, TaskDecision, classify
from gato.pipelines.fragment import Footer, FragmentRef
from gato.pipelines.fragment_data import RUN
from gato.schemas.config import BuildConfig, Dataset
from gato.schemas.hashing import keyed_hash
from gato.schemas.shards import SPLITS
from gato.tokenizers.windows import (
    PromptRule,
    choose_provider,
    cut_page,
    cut_prompt,
    cut_windows,
)

BLOCK_WINDOWS = 4096
BUCKET_EPISODES = 8192
# Bytes of a slot in a record (token, kind, mask, segment, position), and of the rest.
SLOT_BYTES = 7
RECORD_BYTES = 300

# The content of a page's piece, which shares no segment.
PAGE = (1 << 64) - 1
# What became of a window's prompt.
NOT_WANTED, TAIL, UNIFORM, NO_PROVIDER, NO_FIT, NO_ROOM = range(6)

# A window and its prompt's run, by which the data of fragments is read without their
# footers. It costs 140 bytes in memory, and 12 to 31 where it crosses the shuffle.
WINDOW: np.dtype[np.void] = np.dtype(
    [
        ("hash", "<u8"),  # decides shard and order
        ("index", "<i4"),  # k
        ("split", "u1"),
        ("prompt", "u1"),
        ("content", "<u8"),  # of a pair: hash of its document
        *((name, *kind) for name, *kind in RUN.descr),
        *((f"prompt_{name}", *kind) for name, *kind in RUN.descr),
    ]
)
_NO_PROMPT = (0,) * len(RUN.descr)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WindowBlock:
    """Windows with the fragments they point into.

    Attributes:
        fragments: Paths of fragments.
        windows: `WINDOW` records.
    """

    fragments: list[str]
    windows: NDArray[np.void]

    def __reduce__(self) -> tuple[Any, ...]:
        # A local runner holds all that crosses its shuffles, several times over. Most
        # bytes of a record are zeros; byte after byte, and not record after record,
        # they are together.
        planes = self.windows.view(np.uint8).reshape(-1, WINDOW.itemsize).T
        return _unpack, (self.fragments, zlib.compress(planes.tobytes(), 1))

    def take(self, chosen: NDArray[np.integer]) -> "WindowBlock":
        """Returns the block of the chosen windows, with only their fragments."""
        windows = self.windows[chosen]
        used = np.union1d(windows["fragment"], windows["prompt_fragment"])
        windows["fragment"] = np.searchsorted(used, windows["fragment"])
        windows["prompt_fragment"] = np.searchsorted(used, windows["prompt_fragment"])
        return WindowBlock(fragments=[self.fragments[i] for i in used], windows=windows)


def _unpack(fragments: list[str], data: bytes) -> WindowBlock:
    planes = np.frombuffer(zlib.decompress(data), np.uint8)
    records = planes.reshape(WINDOW.itemsize, -1).T.copy()
    return WindowBlock(fragments=fragments, windows=records.view(WINDOW).ravel())


NO_WINDOWS = WindowBlock(fragments=[], windows=np.zeros(0, WINDOW))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EpisodeBlock:
    """Kept episodes of one fragment that share task, agent and bucket.

    Attributes:
        ref: The fragment.
        rows: int32 [n], rows of the footer.
        offsets: int64 [n], where the episodes begin in the data.
        heads: int32 [n], bytes of their headers there.
        episode_ids: [n].
        train: bool [n].
        run_steps: Run-length coded timesteps, [n] lists.
        run_slots: Slots of each run, [n] lists.
        image_bytes: Bytes of each image, [n] lists.
    """

    ref: FragmentRef
    rows: NDArray[np.int32]
    offsets: NDArray[np.int64]
    heads: NDArray[np.int32]
    episode_ids: list[str]
    train: NDArray[np.bool_]
    run_steps: list[list[int]]
    run_slots: list[list[int]]
    image_bytes: list[list[int]]


def kept_episodes(
    block: ItemBlock, footer: Footer, decision: TaskDecision, config: BuildConfig
) -> Iterator[tuple[int, EpisodeBlock]]:
    """Yields (bucket, kept episodes) of a fragment's block.

    A bucket holds about 8,192 episodes, so that a provider can be chosen among all of
    them in one worker.
    """
    kept = np.flatnonzero(classify(block, decision) == Status.KEPT)
    total = decision.kept_by_agent.get(block.agent, 0)
    num_buckets = max(1, math.ceil(total / BUCKET_EPISODES))
    ids = [footer.column("item_id")[row] for row in block.rows[kept]]
    buckets = np.array(
        [keyed_hash(config.seed, "bucket", i) % num_buckets for i in ids], np.int64
    )
    for bucket in np.unique(buckets):
        places = np.flatnonzero(buckets == bucket)
        rows = block.rows[kept[places]]

        def values(name: str, rows: NDArray[np.int32] = rows) -> list[Any]:
            return [footer.column(name)[row] for row in rows]

        yield (
            int(bucket),
            EpisodeBlock(
                ref=block.ref,
                rows=rows,
                offsets=np.array(values("data_offset"), np.int64),
                heads=np.array(values("head_bytes"), np.int32),
                episode_ids=[ids[place] for place in places],
                train=block.train[kept[places]],
                run_steps=values("run_steps"),
                run_slots=values("run_slots"),
                image_bytes=values("image_bytes"),
            ),
        )


@dataclasses.dataclass(frozen=True)
class _Episode:
    episode_id: str
    train: bool
    # RUN's fields from `fragment` to `item_slots`.
    place: tuple[int, ...]
    cumulative_slots: Sequence[int]
    cumulative_image_bytes: Sequence[int] | None

    def run(self, first: int, count: int) -> tuple[int, ...]:
        """Returns a `RUN` record."""
        slots, images = self.cumulative_slots, self.cumulative_image_bytes
        told = (*self.place, first, count, slots[first])
        told += (slots[first + count] - slots[first],)
        if images is None:
            return (*told, 0, 0)
        return (*told, images[first], images[first + count] - images[first])


def _episodes(blocks: Sequence[EpisodeBlock]) -> Iterator[_Episode]:
    for fragment, block in enumerate(blocks):
        for place, episode_id in enumerate(block.episode_ids):
            steps, slots = block.run_steps[place], block.run_slots[place]
            if len(steps) == 1:
                ends: Sequence[int] = range(0, steps[0] * slots[0] + 1, slots[0])
            else:
                ends = np.cumsum(np.insert(np.repeat(slots, steps), 0, 0)).tolist()
            image_ends, images = None, 0
            if sizes := block.image_bytes[place]:
                by_step = np.array(sizes, np.int64).reshape(len(ends) - 1, -1)
                images = by_step.shape[1]
                image_ends = np.cumsum(np.insert(by_step.sum(1), 0, 0)).tolist()
            where = (fragment, block.rows[place], block.offsets[place])
            shape = (len(ends) - 1, len(steps) > 1, images, ends[-1])
            yield _Episode(
                episode_id,
                bool(block.train[place]),
                (*map(int, (*where, block.heads[place])), *map(int, shape)),
                ends,
                image_ends,
            )


def plan_bucket(
    blocks: Sequence[EpisodeBlock], config: BuildConfig
) -> Iterator[WindowBlock]:
    """Yields the windows of all episodes of one bucket of one (task, agent).

    The same for any order of `blocks`: episodes are taken in order of their ids.
    """
    blocks = sorted(blocks, key=lambda b: (b.ref.file_index, b.ref.part))
    episodes = sorted(_episodes(blocks), key=lambda episode: episode.episode_id)
    providers = [episode for episode in episodes if episode.train]
    places = {episode.episode_id: i for i, episode in enumerate(providers)}
    rule = prompt_rule(config)
    records = [
        record
        for episode in episodes
        for record in _windows(episode, providers, places.get(episode.episode_id), rule)
    ]
    yield from _as_blocks(records, [block.ref.path for block in blocks], config)


def prompt_rule(config: BuildConfig) -> PromptRule:
    """Returns the prompt settings of a build config."""
    return PromptRule(
        seed=config.seed,
        sequence_length=config.sequence_length,
        fraction=config.prompts.fraction,
        tail_fraction=config.prompts.tail_fraction,
        max_tokens=config.prompts.max_tokens,
    )


def _windows(
    episode: _Episode,
    providers: Sequence[_Episode],
    own_place: int | None,
    rule: PromptRule,
) -> Iterator[tuple[int, ...]]:
    for window in cut_windows(episode.cumulative_slots, episode.episode_id, rule):
        outcome, prompt_fields = NOT_WANTED, _NO_PROMPT
        if window.wants_prompt:
            chosen = choose_provider(
                len(providers), own_place, episode.episode_id, window.index, rule.seed
            )
            if not window.has_room:
                outcome = NO_ROOM
            elif chosen is None:
                outcome = NO_PROVIDER
            else:
                provider = providers[chosen]
                prompt = cut_prompt(
                    provider.cumulative_slots, episode.episode_id, window.index, rule
                )
                outcome = NO_FIT
                if prompt is not None:
                    outcome = TAIL if prompt.mode == "tail" else UNIFORM
                    prompt_fields = provider.run(prompt.first_step, prompt.num_steps)
        yield (
            keyed_hash(rule.seed, "shard", episode.episode_id, window.index),
            window.index,
            0 if episode.train else 1,
            outcome,
            0,
            *episode.run(window.first_step, window.num_steps),
            *prompt_fields,
        )


def plan_documents(
    block: ItemBlock, footer: Footer, decision: TaskDecision, config: BuildConfig
) -> Iterator[WindowBlock]:
    """Yields the windows of a fragment's documents.

    A text is cut at multiples of L from its start; a pair or question is one window. A
    page is cut where it fills a row, or before the image that would pass its end.
    """
    kept = np.flatnonzero(classify(block, decision) == Status.KEPT)
    length, records = config.sequence_length, []
    for place in kept:
        row = int(block.rows[place])
        slots = footer.column("num_slots")[row]
        sizes = footer.column("image_bytes")[row]
        item_id = footer.column("item_id")[row]
        where = (footer.column("data_offset")[row], footer.column("head_bytes")[row])
        item = (0, row, *where, 1, 0, len(sizes), slots, 0, 1)
        split = 0 if block.train[place] else 1
        content, starts = 0, range(0, slots, length)
        if image_starts := footer.column("image_starts")[row]:
            patches = image_patches(footer, row)
            page = (*item[:4], len(sizes), 0, 1, slots)
            pieces = cut_page(slots, image_starts, patches, length)
            for index, (start, stop, first, last) in enumerate(pieces):
                shard_hash = keyed_hash(config.seed, "shard", item_id, index)
                head = (shard_hash, index, split, NOT_WANTED, PAGE)
                run = (*page, first, last - first, start, stop - start)
                run += (sum(sizes[:first]), sum(sizes[first:last]))
                records.append((*head, *run, *_NO_PROMPT))
            continue
        if sizes:
            content = int(footer.column("content_hash")[row][:16], 16)
            starts = range(1)
        for index, start in enumerate(starts):
            shard_hash = keyed_hash(config.seed, "shard", item_id, index)
            head = (shard_hash, index, split, NOT_WANTED, content)
            stop = slots if sizes else min(start + length, slots)
            run = (*item, start, stop - start, 0, sum(sizes))
            records.append((*head, *run, *_NO_PROMPT))
    yield from _as_blocks(records, [block.ref.path], config)


def _as_blocks(
    records: list[tuple[int, ...]], fragments: list[str], config: BuildConfig
) -> Iterator[WindowBlock]:
    windows = np.array(records, WINDOW)
    if config.shuffle_block:
        windows = _hash_by_block(windows, config.shuffle_block)
    for start in range(0, len(windows), BLOCK_WINDOWS):
        block = WindowBlock(fragments=fragments, windows=windows)
        yield block.take(np.arange(start, min(start + BLOCK_WINDOWS, len(windows))))


def window_bytes(windows: NDArray[np.void]) -> NDArray[np.int64]:
    """Returns the estimated bytes of each window in a shard, prompt included."""
    slots = windows["slots"].astype(np.int64) + windows["prompt_slots"]
    images = windows["image_bytes"].astype(np.int64) + windows["prompt_image_bytes"]
    return SLOT_BYTES * slots + images + RECORD_BYTES


def _hash_by_block(windows: NDArray[np.void], block_bytes: int) -> NDArray[np.void]:
    """Gives runs of one fragment's windows, up to so many bytes, one hash."""
    order = np.lexsort(
        (windows["index"], windows["row"], windows["fragment"], windows["split"])
    )
    windows = windows[order]
    sizes = window_bytes(windows)
    block_hash, room, previous = np.uint64(0), 0, (-1, -1)
    for place in range(len(windows)):
        owner = (int(windows["split"][place]), int(windows["fragment"][place]))
        if owner != previous or sizes[place] > room:
            block_hash, room, previous = windows["hash"][place], block_bytes, owner
        windows["hash"][place] = block_hash
        room -= int(sizes[place])
    return windows


def split_bytes(block: WindowBlock) -> list[tuple[str, int]]:
    """Returns (split, estimated bytes) of a block's windows."""
    sizes = window_bytes(block.windows)
    return [
        (name, int(sizes[block.windows["split"] == code].sum()))
        for code, name in enumerate(SPLITS)
    ]


def num_shards(
    split: str, total_bytes: int, dataset: Dataset, config: BuildConfig
) -> int:
    """Returns how many shards a split gets."""
    if split == SPLITS[0] and dataset.num_shards is not None:
        return dataset.num_shards
    return max(1, math.ceil(total_bytes / config.shard_bytes))


def assign_shards(
    block: WindowBlock, shards: dict[str, int]
) -> Iterator[tuple[str, int, WindowBlock]]:
    """Yields (split, shard, windows) of a block.

    Args:
        block: Windows.
        shards: Number of shards of each split.
    """
    for code, name in enumerate(SPLITS):
        places = np.flatnonzero(block.windows["split"] == code)
        shard = block.windows["hash"][places] % np.uint64(shards[name])
        for index in np.unique(shard):
            yield name, int(index), block.take(places[shard == index])

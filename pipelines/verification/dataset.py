"""One data set's folder, proved against its manifest."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor

import numpy as np

from gato.pipelines.verification import accounts, images, rows, tally
from gato.pipelines.verification.batch import Batch, BatchSegments, make_batch
from gato.pipelines.verification.context import Context, make_context
from gato.pipelines.verification.problems import Problems
from gato.pipelines.verification.shards import read_shard
from gato.schemas import files, tfrecord
from gato.schemas.errors import GatoError
from gato.schemas.manifest import (
    DEMONSTRATIONS_NAME,
    MANIFEST_NAME,
    DatasetManifest,
    load_dataset_manifest,
)
from gato.schemas.record import Row, decode_row
from gato.schemas.shards import SPLITS

_BATCH_ROWS = 256
_BATCH_BYTES = 32 << 20
# Called with (rows, bytes) as they are read.
Advance = Callable[[int, int], None]


def _decode(
    data: bytes, manifest: DatasetManifest, file: str, place: str, problems: Problems
) -> Row | None:
    try:
        return decode_row(
            data,
            sequence_length=manifest.sequence_length,
            dtype=manifest.token_dtype,
            place=place,
        )
    except (GatoError, RecursionError, OverflowError, TypeError) as error:
        problems.unreadable_rows += 1
        text = str(error).removeprefix(f"{place}: ")
        problems.add(file, text, law="decode", place=place)
        return None


def _batches(
    records: Iterable[tuple[int, bytes]],
    manifest: DatasetManifest,
    file: str,
    problems: Problems,
    advance: Advance,
) -> Iterator[Batch]:
    """Stacks the decodable rows of a shard, a few hundred at a time."""
    numbers: list[int] = []
    offsets: list[int] = []
    decoded: list[Row] = []
    size = read = 0

    def full() -> Batch:
        advance(read, size)
        return make_batch(file, numbers, offsets, decoded)

    for number, (offset, data) in enumerate(records):
        read, size = read + 1, size + len(data) + tfrecord.FRAME_BYTES
        place = f"record {number} (byte {offset})"
        row = _decode(data, manifest, file, place, problems)
        if row is not None:
            numbers.append(number)
            offsets.append(offset)
            decoded.append(row)
        if decoded and (len(decoded) >= _BATCH_ROWS or size >= _BATCH_BYTES):
            yield full()
            numbers, offsets, decoded, size, read = [], [], [], 0, 0
    if decoded:
        yield full()


def check_batch(
    batch: Batch,
    context: Context,
    problems: Problems,
    pool: Executor,
) -> tuple[Batch, BatchSegments | None, int]:
    """Holds a batch against every law of rows.

    Returns:
        The rows of sound structure, their segments (None if there are none), and how
        many local positions were clamped.
    """
    rows.check_slots(batch, context, problems)
    batch, segments = rows.check_segments(batch, context, problems)
    if not len(batch.rows):
        return batch, None, 0
    rows.check_loss_mask(batch, segments, context, problems)
    clamped = rows.check_local_positions(batch, segments, problems)
    rows.check_prompts(batch, segments, problems)
    if context.control:
        rows.check_timesteps(batch, segments, context, problems)
    else:
        rows.check_documents(batch, segments, problems)
    if images.check_images(batch, segments, problems, pool) and not context.control:
        images.check_pairs(batch, segments, problems)
    return batch, segments, clamped


def _check_split(
    folder: str,
    split: str,
    manifest: DatasetManifest,
    context: Context,
    problems: Problems,
    counts: tally.Tally,
    advance: Advance,
    pool: Executor,
) -> None:
    for shard, info in enumerate(manifest.splits[split].shards):
        path = files.join(folder, info.name)
        before = counts.splits[split].rows
        unreadable = problems.unreadable_rows
        records = read_shard(folder, info, problems)
        for batch in _batches(records, manifest, path, problems, advance):
            counts.add_slots(batch, split)
            sound, segments, clamped = check_batch(batch, context, problems, pool)
            counts.clamped += clamped
            if segments is not None:
                counts.add_segments(sound, segments, split, shard)
        found = counts.splits[split].rows - before
        if found != info.rows and problems.unreadable_rows == unreadable:
            problems.add(path, f"the manifest says {info.rows} rows, it has {found}")


def _namer(folder: str, manifest: DatasetManifest) -> tally.Namer:
    """Returns a function that reads an id again, so that none is kept in memory."""

    def name_of(window: np.void) -> str:
        with contextlib.suppress(GatoError, OSError, LookupError):
            shard = manifest.splits[SPLITS[window["split"]]].shards[window["shard"]]
            path = files.join(folder, shard.name)
            offsets = tfrecord.parse_index(files.read_bytes(f"{path}.idx"), path)
            start, stop = (int(offsets[window["record"] + n]) for n in (0, 1))
            (framed,) = files.RangeReader(path).read([(start, stop)])
            row = decode_row(
                tfrecord.unframe(framed, path),
                sequence_length=manifest.sequence_length,
                dtype=manifest.token_dtype,
            )
            entry = row.provenance[window["number"] - 1]
            found = entry.get("episode") or entry.get("documents")
            return f"{found!r:.200} in {shard.name}"
        return "an episode"

    return name_of


def _check_demonstrations(
    folder: str,
    manifest: DatasetManifest,
    context: Context,
    problems: Problems,
    counts: tally.Tally,
    pool: Executor,
) -> None:
    """Checks the demonstrations for the policy's prompt: whole rows, unprompted."""
    path = files.join(folder, DEMONSTRATIONS_NAME)
    try:
        data = files.read_bytes(path)
    except FileNotFoundError:
        if context.control:
            problems.add(path, "a data set of episodes has it, and there is none")
        return

    def records() -> Iterator[tuple[int, bytes]]:
        with problems.catching(path, GatoError):
            yield from tfrecord.iterate_records(data, path)

    demonstrations = tally.Tally(SPLITS)
    for batch in _batches(records(), manifest, path, problems, lambda *_: None):
        sound, segments, _ = check_batch(batch, context, problems, pool)
        if segments is not None:
            demonstrations.add_segments(sound, segments, "train", 0)
    tally.check_demonstrations(demonstrations, counts, context, problems, path)


def check_dataset(
    folder: str,
    root: str,
    problems: Problems,
    advance: Advance,
    pool: Executor,
    *,
    require_tokenizer: bool,
) -> DatasetManifest | None:
    """Re-reads every byte of a data set and proves its manifest.

    Args:
        folder: The data set's folder.
        root: Where its tokenizer lies.
        problems: Takes every disagreement.
        advance: Called with rows and bytes as they are read.
        pool: Threads that decode images.
        require_tokenizer: Whether a missing tokenizer is a problem.

    Returns:
        The manifest, or None if it cannot be used.
    """
    file = files.join(folder, MANIFEST_NAME)
    try:
        manifest = load_dataset_manifest(folder)
        context = make_context(manifest, file)
    except (GatoError, OSError, ArithmeticError) as error:
        problems.add(file, str(error).removeprefix(f"{file}: "))
        return None
    accounts.check_accounts(manifest, file, problems)
    accounts.check_vocabulary(manifest, file, problems)
    accounts.check_shard_names(manifest, file, problems)
    accounts.check_folder(folder, manifest, problems)
    if (manifest.episodes is None) == (manifest.documents is None):
        return manifest
    accounts.check_quarantine(folder, manifest, problems)
    accounts.check_tokenizer(root, manifest, problems, required=require_tokenizer)
    if set(manifest.splits) != set(SPLITS):
        return manifest
    counts = tally.Tally(SPLITS)
    for split in SPLITS:
        _check_split(folder, split, manifest, context, problems, counts, advance, pool)
    if problems.unreadable_rows:
        problems.add(
            file,
            f"its counts and the coverage of episodes were not compared, since"
            f" {problems.unreadable_rows} rows could not be used",
        )
        return manifest
    tally.check_counts(counts, manifest, context, file, problems)
    name_of = _namer(folder, manifest)
    tally.check_episodes(counts, problems, name_of, folder)
    tally.check_document_coverage(counts, problems, name_of, folder)
    _check_demonstrations(folder, manifest, context, problems, counts, pool)
    return manifest

"""The records of TFRecord shards, with a verdict on each that is damaged."""

import dataclasses
from collections.abc import Iterator, Sequence

from gato.pipelines.sources.rlds_info import Shard
from gato.schemas import files
from gato.schemas.errors import GatoError, QuarantineError, Reason
from gato.schemas.tfrecord import (
    FRAME_BYTES,
    HEADER_BYTES,
    CorruptRecordError,
    read_length,
    view_record,
)

# Records fetched together where they are read in another order than they lie in.
_BATCH_BYTES = 16 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One record, or what is known of one that is lost.

    Attributes:
        position: Its place in the split.
        shard: The file.
        offset: Its first byte in the file.
        data: Its content; None of one that is lost.
        error: The verdict on one that is lost.
    """

    position: int
    shard: Shard
    offset: int
    data: memoryview | None = None
    error: QuarantineError | None = None


def read_records(shards: Sequence[Shard], first: int) -> Iterator[Record]:
    """Yields the records of consecutive shards in the files' order.

    A record with damaged content costs itself. Where the frame is damaged, the rest of
    the shard is lost: one record for each that was promised, else one.

    Args:
        shards: Files of one split.
        first: Place in the split of the first.
    """
    position = first
    for shard in shards:
        start = position
        for record in _shard_records(shard, start):
            position = record.position + 1
            yield record
        if shard.num_items is not None:
            yield from _missing(shard, position, start + shard.num_items)
            position = start + shard.num_items


def fetch(records: Sequence[Record], lengths: Sequence[int]) -> Iterator[memoryview]:
    """Yields the content of records that were read before, in the order given.

    Args:
        records: In any order.
        lengths: Bytes of each one's content.

    Raises:
        GatoError: If a file has changed since.
    """
    readers: dict[str, files.RangeReader] = {}
    batch: list[tuple[str, tuple[int, int]]] = []
    size = 0
    for record, length in zip(records, lengths, strict=True):
        start = record.offset + HEADER_BYTES
        if batch and size + length > _BATCH_BYTES:
            yield from _fetch_batch(batch, readers)
            batch, size = [], 0
        batch.append((record.shard.path, (start, start + length)))
        size += length
    yield from _fetch_batch(batch, readers)


def _fetch_batch(
    batch: Sequence[tuple[str, tuple[int, int]]], readers: dict[str, files.RangeReader]
) -> Iterator[memoryview]:
    at = 0
    while at < len(batch):
        path = batch[at][0]
        stop = at
        while stop < len(batch) and batch[stop][0] == path:
            stop += 1
        if path not in readers:
            readers[path] = files.RangeReader(path, mapped=False)
        for piece in readers[path].read([span for _, span in batch[at:stop]]):
            yield memoryview(piece)
        at = stop


def _shard_records(shard: Shard, position: int) -> Iterator[Record]:
    """Yields records until the file ends or cannot be read further."""
    stop = None if shard.num_items is None else position + shard.num_items
    offset = 0
    try:
        size = files.size(shard.path)
        with files.open_read(shard.path) as file:
            while offset < size:
                place = f"{shard.path} at byte {offset}"
                header = file.read(HEADER_BYTES)
                length = read_length(header, place)
                file.seek(offset)
                framed = file.read(min(length + FRAME_BYTES, size - offset))
                if len(framed) < length + FRAME_BYTES:
                    raise CorruptRecordError(f"{place}: the file is truncated")
                yield _record(shard, position, offset, framed, place, stop)
                position += 1
                offset += len(framed)
    except (OSError, GatoError) as error:
        lost = range(position, position + 1 if stop is None else stop)
        for place in lost:
            yield Record(
                position=place,
                shard=shard,
                offset=offset,
                error=QuarantineError(
                    Reason.CORRUPT_FILE, f"the shard cannot be read further: {error}"
                ),
            )


def _record(
    shard: Shard,
    position: int,
    offset: int,
    framed: bytes,
    place: str,
    stop: int | None,
) -> Record:
    data = error = None
    try:
        data = view_record(framed, place)
    except CorruptRecordError as corrupt:
        error = QuarantineError(Reason.CORRUPT_RECORD, str(corrupt))
    if stop is not None and position >= stop:
        data = None
        error = QuarantineError(
            Reason.CORRUPT_FILE,
            f"{place}: dataset_info.json promises {shard.num_items} episodes in this"
            " shard; this is one more",
        )
    return Record(position=position, shard=shard, offset=offset, data=data, error=error)


def _missing(shard: Shard, position: int, stop: int) -> Iterator[Record]:
    """Yields a verdict for each record that a shard promised and lacks."""
    for place in range(position, stop):
        yield Record(
            position=place,
            shard=shard,
            offset=0,
            error=QuarantineError(
                Reason.CORRUPT_FILE,
                f"{shard.path}: dataset_info.json promises {shard.num_items} episodes"
                " in this shard; this one is not there",
            ),
        )

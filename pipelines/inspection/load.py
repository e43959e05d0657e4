"""Finds rows by number over the shards of a pattern, with what decodes them."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from gato.schemas import files, tfrecord
from gato.schemas.errors import GatoError, UsageError
from gato.schemas.manifest import (
    TOKENIZER_NAME,
    DatasetManifest,
    load_dataset_manifest,
)
from gato.schemas.record import Row, decode_row
from gato.schemas.shards import find_shards
from gato.tokenizers.decode import DecodedSegment
from gato.tokenizers.decode import decode_row as decode_segments
from gato.tokenizers.text import TextTokenizer
from gato.tokenizers.vocabulary import Vocabulary

# Bytes of one offset of an index.
_ENTRY = 8


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InspectedRow:
    """One row, and what it was made of.

    Attributes:
        path: Its shard.
        number: Its record in the shard, from 0.
        num_rows: Rows of the shard.
        num_bytes: Bytes of the record's data.
        manifest: Of its data set.
        row: As stored.
        segments: Decoded.
        tokenizer: The build's.
    """

    path: str
    number: int
    num_rows: int
    num_bytes: int
    manifest: DatasetManifest
    row: Row
    segments: list[DecodedSegment]
    tokenizer: TextTokenizer


def parent_of(path: str) -> str:
    """Returns the folder of a shard, which is its data set's."""
    return path.rpartition("/")[0] or "."


def _spans(path: str) -> list[tuple[int, int]]:
    """Returns where each record begins and ends, by reading a shard without an index.

    Only demonstrations have none, and they are few.
    """
    data = files.read_bytes(path)
    return [
        (at, at + len(record) + tfrecord.FRAME_BYTES)
        for at, record in tfrecord.iterate_records(data, path)
    ]


@functools.lru_cache(maxsize=8)
def _tokenizer(folder: str, sha256: str) -> TextTokenizer:
    parent = folder.rpartition("/")[0] or "."
    for place in (parent, folder):
        path = files.join(place, TOKENIZER_NAME)
        if files.exists(path):
            tokenizer = TextTokenizer.load(path)
            if tokenizer.vocabulary.sentencepiece_sha256 != sha256:
                raise GatoError(
                    f"{path}: it is not the tokenizer that {folder} was built with"
                    " (its sha256 differs from the manifest's)."
                )
            return tokenizer
    raise GatoError(
        f"{files.join(parent, TOKENIZER_NAME)}: text is decoded with the build's"
        " tokenizer, and there is none. Copy it from the build's output folder."
    )


def _locate(path: str, numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Returns where some records of a shard begin and end, from its index's entries."""
    if not files.exists(f"{path}.idx"):
        spans = _spans(path)
        return [spans[at] for at in numbers]
    index = files.RangeReader(f"{path}.idx", mapped=False)
    pieces = index.read([(_ENTRY * at, _ENTRY * (at + 2)) for at in numbers])
    pairs = [np.frombuffer(piece, "<u8").tolist() for piece in pieces]
    if any(start >= stop for start, stop in pairs):
        raise GatoError(
            f"{path}.idx: offsets must grow from record to record. Run gato-verify on"
            " the shard."
        )
    return pairs


def read_records(
    path: str, numbers: Sequence[int]
) -> Iterator[tuple[int, str, memoryview]]:
    """Yields number, place for messages, and data of some records of a shard.

    Nothing else of the shard is read, where it has an index.

    Raises:
        GatoError: If one is not there, or damaged.
    """
    spans = _locate(path, numbers)
    pieces = files.RangeReader(path).read(spans)
    for number, span, framed in zip(numbers, spans, pieces, strict=True):
        place = f"{path} record {number} at byte {span[0]}"
        yield number, place, tfrecord.view_record(framed, place)


def count_rows(path: str) -> int:
    """Returns the rows of a shard, from the size of its index if there is one."""
    if not files.exists(f"{path}.idx"):
        return len(_spans(path))
    num_bytes = files.size(f"{path}.idx")
    if num_bytes % _ENTRY or not num_bytes:
        # What is wrong with it is the parser's to say.
        tfrecord.parse_index(files.read_bytes(f"{path}.idx"), f"{path}.idx")
    return num_bytes // _ENTRY - 1


def inspect_rows(
    path: str, numbers: Sequence[int], num_rows: int, manifest: DatasetManifest
) -> Iterator[InspectedRow]:
    """Yields some rows of a shard, decoded.

    Args:
        path: The shard.
        numbers: Of its records, from 0.
        num_rows: Rows of the shard.
        manifest: Of its data set.

    Raises:
        GatoError: If one cannot be read.
    """
    tokenizer = _tokenizer(parent_of(path), manifest.vocabulary.sentencepiece_sha256)
    specs = {name: task.spec for name, task in manifest.tasks.items() if task.spec}
    for number, place, data in read_records(path, numbers):
        row = decode_row(
            bytes(data),
            sequence_length=manifest.sequence_length,
            dtype=manifest.token_dtype,
            place=place,
        )
        try:
            segments = decode_segments(
                row,
                specs=specs,
                tokenizer=tokenizer,
                vocabulary=Vocabulary.from_info(manifest.vocabulary),
            )
        except GatoError as error:
            raise GatoError(f"{place}: {error}") from error
        yield InspectedRow(
            path=path,
            number=number,
            num_rows=num_rows,
            num_bytes=len(data),
            manifest=manifest,
            row=row,
            segments=segments,
            tokenizer=tokenizer,
        )


def read_rows(pattern: str, first: int, count: int) -> Iterator[InspectedRow]:
    """Yields rows by number over all shards that a pattern names, in their order.

    Args:
        pattern: As of `find_shards`.
        first: Number of the first row, from 0 over all shards.
        count: How many rows; fewer if there are no more.

    Raises:
        GatoError: If there is no such row, or it cannot be read.
    """
    total, wanted = 0, count
    shards = find_shards(pattern)
    for path in shards:
        num_rows = count_rows(path)
        begin = max(first - total, 0)
        numbers = range(begin, min(begin + wanted, num_rows))
        if numbers:
            manifest = load_dataset_manifest(parent_of(path))
            yield from inspect_rows(path, numbers, num_rows, manifest)
            wanted -= len(numbers)
        total += num_rows
        if not wanted:
            return
    if wanted == count:
        raise UsageError(
            f"--row counts from 0 over the {total} rows of {len(shards)} shards, got"
            f" {first}."
        )

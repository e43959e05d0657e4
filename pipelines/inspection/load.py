"""Finds rows by number over the shards of a pattern, with what decodes them."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator

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
    """

    path: str
    number: int
    num_rows: int
    num_bytes: int
    manifest: DatasetManifest
    row: Row
    segments: list[DecodedSegment]


def _spans(path: str) -> list[tuple[int, int]]:
    """Returns where each record of a shard begins and ends, frames included."""
    try:
        index = files.read_bytes(f"{path}.idx")
    except FileNotFoundError:
        # Demonstrations are few and have none.
        data = files.read_bytes(path)
        return [
            (at, at + len(record) + tfrecord.FRAME_BYTES)
            for at, record in tfrecord.iterate_records(data, path)
        ]
    offsets = tfrecord.parse_index(index, f"{path}.idx").tolist()
    return list(itertools.pairwise(offsets))


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


def _inspect(path: str, number: int, spans: list[tuple[int, int]]) -> InspectedRow:
    folder = path.rpartition("/")[0] or "."
    manifest = load_dataset_manifest(folder)
    place = f"{path} record {number} at byte {spans[number][0]}"
    (framed,) = files.RangeReader(path).read([spans[number]])
    data = tfrecord.unframe(framed, place)
    row = decode_row(
        data,
        sequence_length=manifest.sequence_length,
        dtype=manifest.token_dtype,
        place=place,
    )
    specs = {name: task.spec for name, task in manifest.tasks.items() if task.spec}
    try:
        segments = decode_segments(
            row,
            specs=specs,
            tokenizer=_tokenizer(folder, manifest.vocabulary.sentencepiece_sha256),
            vocabulary=Vocabulary.from_info(manifest.vocabulary),
        )
    except GatoError as error:
        raise GatoError(f"{place}: {error}") from error
    return InspectedRow(
        path=path,
        number=number,
        num_rows=len(spans),
        num_bytes=len(data),
        manifest=manifest,
        row=row,
        segments=segments,
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
        spans = _spans(path)
        begin = max(first - total, 0)
        for number in range(begin, min(begin + wanted, len(spans))):
            yield _inspect(path, number, spans)
            wanted -= 1
        total += len(spans)
        if not wanted:
            return
    if wanted == count:
        raise UsageError(
            f"--row counts from 0 over the {total} rows of {len(shards)} shards, got"
            f" {first}."
        )

"""The sample: the chunks of text with the lowest keyed hashes, up to so many bytes.

A Beam job reads every data set. Each partition keeps those of its chunks that can be
among the lowest and writes them to one file, so no text crosses a shuffle; the command
merges the files. What the sample is follows from the input and the seed alone.
"""

import dataclasses
import io
import json
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa

from gato.pipelines.discover import SourcePath
from gato.pipelines.progress import Reporter
from gato.pipelines.sources.base import Partition, ReadsTexts
from gato.pipelines.sources.registry import source_for
from gato.pipelines.vocabularies.texts import chunks, has_texts, texts_of
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Unreadable
from gato.schemas.errors import QuarantineError
from gato.schemas.hashing import keyed_hash, threshold

_SUFFIX = ".arrow"
_COUNTS = b"counts"
_SCHEMA = pa.schema(
    [("hash", pa.uint64()), ("key", pa.string()), ("text", pa.large_string())]
)

# Hash, id of the chunk, text: the order of the sample.
Chunk = tuple[int, str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleJob:
    """What a worker must know.

    Attributes:
        folder: Where partitions write their files.
        seed: The config's seed.
        sample_bytes: UTF-8 bytes of the sample.
        fraction: Chunks above this share of all hashes are not wanted.
        datasets: By name, their paths resolved.
        progress_port: Where a local display listens; None on a cluster.
    """

    folder: str
    seed: int
    sample_bytes: int
    fraction: float
    datasets: dict[str, Dataset]
    progress_port: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """What was read and what was chosen.

    Attributes:
        chunks: In order of their hashes.
        items: Documents and episodes read.
        unreadable: Of them, those that gave no text for a reason.
        text_bytes: UTF-8 bytes of all text that was read.
        is_cut: Whether the fraction left out chunks that the sample has room for.
    """

    chunks: list[Chunk]
    items: int
    unreadable: int
    text_bytes: int
    is_cut: bool


class SampleTexts(beam.PTransform):
    """Source paths to files of chunks."""

    def __init__(self, job: SampleJob, paths: list[SourcePath]) -> None:
        super().__init__()
        self._job = job
        self._paths = paths

    def expand(self, input_or_inputs: Any) -> Any:
        """Composes the two steps."""
        return (
            input_or_inputs
            | "ListPaths" >> beam.Create(self._paths)
            | "SpreadPaths" >> beam.Reshuffle()
            | "SplitPaths" >> beam.ParDo(_SplitPath(self._job))
            | "SpreadPartitions" >> beam.Reshuffle()
            | "SamplePartitions" >> beam.ParDo(_SamplePartition(self._job))
        )


class _SplitPath(beam.DoFn):
    """A source path to its partitions."""

    def __init__(self, job: SampleJob) -> None:
        self._job = job

    def process(self, path: SourcePath) -> Iterator[tuple[SourcePath, int, Partition]]:
        dataset = self._job.datasets[path.dataset]
        source = source_for(dataset.format)
        parts = source.partition(path.path, path.relative_path, dataset)
        for place, partition in enumerate(parts):
            yield path, place, partition


class _SamplePartition(beam.DoFn):
    """A partition to the name of its file."""

    def __init__(self, job: SampleJob) -> None:
        self._job = job

    def setup(self) -> None:
        self._reporter = Reporter(self._job.progress_port)

    def process(self, element: tuple[SourcePath, int, Partition]) -> Iterator[str]:
        path, place, partition = element
        chosen = _Chosen(self._job, path.dataset)
        source = source_for(chosen.dataset.format)
        read = source.read_texts if isinstance(source, ReadsTexts) else source.read
        for item in read(partition, chosen.dataset):
            self._reporter.add(items=1)
            if not chosen.add(item):
                break
        name = f"{path.dataset}-{path.index:06d}-{place:06d}{_SUFFIX}"
        files.write_atomic(files.join(self._job.folder, name), chosen.as_bytes())
        self._reporter.add(raw_bytes=partition.num_bytes)
        self._reporter.flush()
        yield name


class _Chosen:
    """The lowest chunks of one partition."""

    def __init__(self, job: SampleJob, name: str) -> None:
        self.dataset = job.datasets[name]
        self._job = job
        self._max_hash = threshold(job.fraction)
        self._chunks: list[Chunk] = []
        self._held_bytes = 0
        self._counts = {"items": 0, "unreadable": 0, "text_bytes": 0}

    def add(self, item: Any) -> bool:
        """Takes an item; returns whether reading on can give text."""
        self._counts["items"] += 1
        if isinstance(item, Unreadable):
            self._counts["unreadable"] += 1
            return True
        if isinstance(item, Episode) and not has_texts(item, self.dataset):
            return False
        item_id = item.episode_id if isinstance(item, Episode) else item.document_id
        try:
            texts = texts_of(item, self.dataset)
        except QuarantineError:
            self._counts["unreadable"] += 1
            return True
        number = 0
        for text in texts:
            for chunk in chunks(text):
                self._add_chunk(f"{self.dataset.name}/{item_id}#{number}", chunk)
                number += 1
        return True

    def _add_chunk(self, key: str, text: str) -> None:
        size = len(text.encode())
        self._counts["text_bytes"] += size
        hashed = keyed_hash(self._job.seed, "vocabulary", key)
        if hashed >= self._max_hash:
            return
        self._chunks.append((hashed, key, text))
        self._held_bytes += size
        if self._held_bytes > 2 * self._job.sample_bytes:
            self._chunks = lowest(self._chunks, self._job.sample_bytes)
            self._held_bytes = num_bytes(self._chunks)

    def as_bytes(self) -> bytes:
        """Returns the partition's file."""
        rows = lowest(self._chunks, self._job.sample_bytes)
        hashes, keys, texts = zip(*rows, strict=True) if rows else ((), (), ())
        metadata = {_COUNTS: json.dumps(self._counts).encode()}
        schema = _SCHEMA.with_metadata(metadata)
        table = pa.table([hashes, keys, texts], schema=schema)
        out = io.BytesIO()
        with pa.ipc.new_file(out, schema) as writer:
            writer.write_table(table)
        return out.getvalue()


def num_bytes(chosen: list[Chunk]) -> int:
    """Returns the UTF-8 bytes of chunks."""
    return sum(len(text.encode()) for _, _, text in chosen)


def lowest(chosen: list[Chunk], sample_bytes: int) -> list[Chunk]:
    """Returns the chunks of the lowest hashes, just as many as hold so many bytes.

    >>> lowest([(7, "a", "one"), (3, "b", "two"), (5, "c", "three")], 4)
    [(3, 'b', 'two'), (5, 'c', 'three')]
    """
    ordered = sorted(chosen)
    total = 0
    for count, (_, _, text) in enumerate(ordered):
        if total >= sample_bytes:
            return ordered[:count]
        total += len(text.encode())
    return ordered


def read_sample(job: SampleJob) -> Sample:
    """Merges the partitions' files."""
    merged: list[Chunk] = []
    counts = {"items": 0, "unreadable": 0, "text_bytes": 0}
    for name in files.list_folder(job.folder):
        if not name.endswith(_SUFFIX):
            continue
        data = files.read_bytes(files.join(job.folder, name))
        table = pa.ipc.open_file(io.BytesIO(data)).read_all()
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        merged = lowest([*merged, *rows], job.sample_bytes)
        for key, value in json.loads(table.schema.metadata[_COUNTS]).items():
            counts[key] += value
    is_cut = job.fraction < 1 and num_bytes(merged) < job.sample_bytes
    return Sample(chunks=merged, is_cut=is_cut, **counts)

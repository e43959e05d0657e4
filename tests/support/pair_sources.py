"""Reads pairs and questions through a source in tests, and takes them apart."""

import pathlib
from typing import Any

from webdataset import tariterators

from gato.pipelines.sources.registry import source_for
from gato.schemas.config import Dataset
from gato.schemas.episode import Document, ImagePart, Unreadable
from gato.schemas.record import Row, decode_row
from gato.schemas.tfrecord import iterate_records

# Id, image, texts.
Pair = tuple[str, bytes, tuple[str | bytes, ...]]


def dataset(format: str, **settings: Any) -> Dataset:
    values: dict[str, Any] = {"name": "set", "paths": ("raw/*",)} | settings
    return Dataset(format=format, **values)  # type: ignore[arg-type]


def read(
    format: str, path: pathlib.Path | str, **settings: Any
) -> list[Document | Unreadable]:
    source, config = source_for(format), dataset(format, **settings)
    name = str(path).rpartition("/")[2]
    items: list[Document | Unreadable] = []
    for partition in source.partition(str(path), name, config):
        for item in source.read(partition, config):
            assert isinstance(item, Document | Unreadable)
            items.append(item)
    return items


def pairs(items: list[Document | Unreadable]) -> list[Pair]:
    found = []
    for item in items:
        assert isinstance(item, Document), item
        image, *texts = item.parts
        assert isinstance(image, ImagePart)
        kept = [part.text for part in texts if not isinstance(part, ImagePart)]
        assert len(kept) == len(texts)
        found.append((item.document_id, image.data, tuple(kept)))
    return found


def samples_by_webdataset(path: pathlib.Path) -> list[Pair]:
    """Returns key, JPEG and caption of a tar's samples as webdataset reads them."""
    with path.open("rb") as file:
        stream: Any = file
        members = (
            {**member, "__url__": str(path)}
            for member in tariterators.tar_file_iterator(stream)
        )
        return [
            (f"{path.name}/{s['__key__']}", s["jpg"], (s["txt"].decode(),))
            for s in tariterators.group_by_keys(members)
        ]


def verdicts(items: list[Document | Unreadable]) -> list[tuple[str | None, str]]:
    return [(i.item_id, i.reason) for i in items if isinstance(i, Unreadable)]


def rows(folder: pathlib.Path, sequence_length: int) -> list[Row]:
    """Returns the rows of a data set's shards."""
    return [
        decode_row(record, sequence_length=sequence_length, dtype="uint16")
        for path in sorted(folder.glob("*-of-*.tfrecord"))
        for _, record in iterate_records(path.read_bytes(), str(path))
    ]

"""Reads documents of format text in tests, and takes them apart."""

import pathlib
from typing import Any

from gato.pipelines.sources.text import TextSource
from gato.schemas.config import Dataset
from gato.schemas.episode import Document, TextPart, Unreadable


def dataset(**settings: Any) -> Dataset:
    return Dataset(name="set", format="text", paths=("raw/*",), **settings)


def read(path: pathlib.Path | str, **settings: Any) -> list[Document | Unreadable]:
    source, config = TextSource(), dataset(**settings)
    name = str(path).rpartition("/")[2]
    return [
        item
        for partition in source.partition(str(path), name, config)
        for item in source.read(partition, config)
    ]


def texts_of(items: list[Document | Unreadable]) -> list[str]:
    found = []
    for item in items:
        assert isinstance(item, Document), item
        (part,) = item.parts
        assert isinstance(part, TextPart)
        assert part.eos
        assert not part.question
        found.append(part.text)
    return found


def verdicts(items: list[Document | Unreadable]) -> list[tuple[int, str]]:
    return [(i.number, i.reason) for i in items if isinstance(i, Unreadable)]

"""Reads episodes through a source in tests, and tells the good from the rest."""

import pathlib

from gato.pipelines.sources.registry import source_for
from gato.schemas.config import Dataset
from gato.schemas.episode import Document, Episode, Unreadable


def read(
    path: pathlib.Path | str, relative_path: str, config: Dataset
) -> list[Episode | Unreadable]:
    """Returns all items of a path, partition by partition."""
    source = source_for(config.format)
    items: list[Episode | Unreadable] = []
    for partition in source.partition(str(path), relative_path, config):
        for item in source.read(partition, config):
            assert not isinstance(item, Document)
            items.append(item)
    return items


def episodes(items: list[Episode | Unreadable]) -> list[Episode]:
    """Returns the items, all of which must be good."""
    assert [i for i in items if isinstance(i, Unreadable)] == []
    return [item for item in items if isinstance(item, Episode)]


def verdicts(items: list[Episode | Unreadable]) -> list[tuple[int, str]]:
    """Returns number and reason of those that are not."""
    return [(i.number, i.reason) for i in items if isinstance(i, Unreadable)]

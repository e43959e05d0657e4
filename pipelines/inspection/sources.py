"""Where segments come from: the file or data set that an id of provenance names."""

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any


def source_paths(patterns: Sequence[str], name: str) -> list[str]:
    """Returns the path of an episode or document, or the patterns it may be under.

    An id is the source's path from its folder, or a data set's id which its folder
    ends with, then a number or key; where just one pattern of the config ends so, the
    path is known.

    Args:
        patterns: `paths` of the data set's config.
        name: The id, as provenance has it.

    >>> source_paths(["raw/babyai/*/*-v0", "raw/text/*.txt"], "babyai/goto/noisy-v0/3")
    ['raw/babyai/goto/noisy-v0']
    >>> source_paths(["raw/a/*.txt", "raw/b/*.txt"], "book.txt/7#0")
    ['raw/a/*.txt', 'raw/b/*.txt']
    """
    tail = name.split("/")[:-1]
    found = set()
    for pattern in patterns:
        parts = pattern.split("/")
        ends = parts[len(parts) - len(tail) :] if len(tail) <= len(parts) else []
        if tail and len(ends) == len(tail) and all(map(fnmatch.fnmatch, tail, ends)):
            found.add("/".join([*parts[: len(parts) - len(tail)], *tail]))
    if len(found) == 1 and not any(mark in next(iter(found)) for mark in "*?["):
        return sorted(found)
    return list(patterns)


class Sources:
    """Numbers episodes and documents, and keeps which rows use them.

    Attributes:
        entries: One object each, as the page's model has them.
    """

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self._numbers: dict[tuple[int, str], int] = {}

    def add(
        self, dataset: int, patterns: Sequence[str], name: str, use: Mapping[str, Any]
    ) -> int:
        """Returns the number of an episode or document, which is used here.

        Args:
            dataset: Place of its data set in the page's model.
            patterns: `paths` of the data set's config.
            name: Its id.
            use: Row, segment and role (body, prompt or document).
        """
        key = dataset, name
        if key not in self._numbers:
            paths = source_paths(patterns, name)
            self._numbers[key] = len(self.entries)
            self.entries.append(
                {"dataset": dataset, "name": name, "paths": paths, "uses": []}
            )
        number = self._numbers[key]
        self.entries[number]["uses"].append(dict(use))
        return number

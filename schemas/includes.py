"""`include` of a build config: data sets that stand in files of their own.

An included file holds `dataset` (one data set), `datasets` (a list), or `include`
(more such files); nothing else, so that the keys of a whole build stand in one place.
Its relative paths, and those of its data sets, start from its own folder. A config that
includes is the config with the data sets written out: only their paths are rewritten,
to start from the config's folder.
"""

import dataclasses
import difflib
import posixpath
from collections.abc import Iterator
from typing import Any

import yaml

from gato.schemas import files
from gato.schemas.errors import UsageError

_KEYS = ("dataset", "datasets", "include")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One data set as it stands in a file, not validated yet.

    Attributes:
        content: Its keys and values.
        file: The file, for messages.
        place: Where in it: `dataset` or `datasets.2`.
        folder: The file's folder, from the config's own; empty in the config itself.
    """

    content: Any
    file: str
    place: str
    folder: str


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would drop one in silence."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str | bytes, path: str) -> Any:
    """Returns what a YAML file holds.

    Raises:
        UsageError: If it is not YAML, or holds a key twice.
    """
    try:
        return yaml.load(text, _UniqueKeyLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not YAML: {error}") from error


def relocate(folder: str, path: str) -> str:
    """Returns a path that started from `folder`, from where that folder starts.

    >>> relocate("datasets", "../../raw/*"), relocate("datasets", "gs://b/raw/*")
    ('../raw/*', 'gs://b/raw/*')
    """
    joined = files.join(folder, path)
    store, separator, below = joined.rpartition("://")
    return store + separator + posixpath.normpath(below)


def gather(content: dict[str, Any], path: str) -> list[Entry]:
    """Returns every data set of a config's `include`, in order, then its own.

    Args:
        content: What the config holds.
        path: The config, whose folder `include` starts from.

    Raises:
        UsageError: If a file is not there, is not what can be included, or includes
            itself; or if two data sets have one name.
    """
    base = posixpath.dirname(path)
    entries = list(_entries(content, path, base, "", (relocate("", path),)))
    if "include" in content:
        _check_names(entries)
    return entries


def _entries(
    content: dict[str, Any], path: str, base: str, folder: str, above: tuple[str, ...]
) -> Iterator[Entry]:
    """Yields the data sets of one file.

    Args:
        content: What it holds.
        path: The file.
        base: The config's folder.
        folder: The file's folder, from there.
        above: The files that led here, this one last.
    """
    if "include" in content:
        for index, name in enumerate(_names(content["include"], path)):
            relative = relocate(folder, name)
            full = relocate(base, relative)
            if full in above:
                chain = " -> ".join([*above[above.index(full) :], full])
                raise UsageError(
                    f"{path}: include.{index}: a file cannot include itself: {chain}"
                )
            below = _load(full, name, f"{path}: include.{index}")
            inner = posixpath.dirname(relative)
            yield from _entries(below, full, base, inner, (*above, full))
    found: list[tuple[str, Any]] = []
    if len(above) > 1 and "dataset" in content:
        found = [("dataset", content["dataset"])]
    listed = content.get("datasets")
    if isinstance(listed, list):
        found += [(f"datasets.{index}", each) for index, each in enumerate(listed)]
    for place, each in found:
        yield Entry(content=each, file=path, place=place, folder=folder)


def _names(include: Any, path: str) -> list[str]:
    if not isinstance(include, list) or not all(isinstance(n, str) for n in include):
        raise UsageError(
            f"{path}: include: this is a list of files, such as"
            f" [datasets/babyai.yaml], got {include!r:.200}"
        )
    return include


def _load(full: str, name: str, place: str) -> dict[str, Any]:
    """Returns what an included file holds, its keys checked."""
    try:
        text = files.read_bytes(full)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(
            f"{place}: no such file {name!r} ({full}). Files are named from the folder"
            " of the one that includes them."
        ) from error
    content = parse_yaml(text, full)
    if not isinstance(content, dict) or not content:
        raise UsageError(
            f"{full}: an included file is a mapping with {', '.join(_KEYS)}, got"
            f" {type(content).__name__}"
        )
    for key in content:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, n=1, cutoff=0.0)[0]
            raise UsageError(
                f"{full}: {key}: unknown key {key!r}; did you mean {near!r}? An"
                f" included file has {', '.join(_KEYS)}; keys of the whole build stand"
                " in the config that includes it."
            )
    if not isinstance(content.get("datasets", []), list):
        raise UsageError(
            f"{full}: datasets: this is a list of data sets, got"
            f" {type(content['datasets']).__name__}; a single one is a 'dataset'"
        )
    return content


def _check_names(entries: list[Entry]) -> None:
    """Refuses two data sets of one name, which may stand in two files."""
    seen: dict[str, Entry] = {}
    for entry in entries:
        name = entry.content.get("name") if isinstance(entry.content, dict) else None
        if not isinstance(name, str):
            continue  # validation tells
        if name in seen:
            other = seen[name]
            raise UsageError(
                f"{entry.file}: {entry.place}.name: data sets' names are unique, got"
                f" {name!r}, which {other.file}: {other.place} has too"
            )
        seen[name] = entry

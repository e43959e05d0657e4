"""Folders of NumPy archives, each an episode, as several formats have them."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.sources import base
from gato.pipelines.sources.stored_episode import EpisodeMaker, Stored
from gato.schemas import files
from gato.schemas.episode import Episode, Unreadable
from gato.schemas.errors import QuarantineError, Reason

# What an archive holds by name, read when it is asked for.
Arrays = Mapping[str, NDArray[Any]]


def episode_names(path: str, suffixes: tuple[str, ...]) -> list[str]:
    """Returns the names in a folder that end in one of some suffixes, sorted."""
    return [name for name in files.list_folder(path) if name.endswith(suffixes)]


def partition_folder(
    path: str, relative_path: str, suffixes: tuple[str, ...]
) -> list[base.Partition]:
    """Splits a folder into ranges of at most 256 MiB; units are files by name."""
    names = set(episode_names(path, suffixes))
    found = files.versions_below(path).items()
    num_bytes = sum(size for name, (size, _) in found if name in names)
    return base.number_ranges(path, relative_path, range(len(names)), num_bytes)


def read_folder(
    maker: EpisodeMaker,
    suffixes: tuple[str, ...],
    stored: Callable[[Arrays], Stored],
) -> Iterator[Episode | Unreadable]:
    """Yields the episode of each file of the range in order of their names."""
    partition = maker.partition
    names = episode_names(partition.path, suffixes)
    stop = len(names) if partition.stop is None else partition.stop

    def load(number: int) -> Stored:
        if number >= len(names):
            raise QuarantineError(
                Reason.CORRUPT_FILE, f"the folder has only {len(names)} files now"
            )
        with open_npz(files.join(partition.path, names[number])) as arrays:
            return stored(arrays)

    yield from maker.each(range(partition.start, stop), load)


@contextlib.contextmanager
def open_npz(path: str) -> Iterator[Arrays]:
    """Opens an archive of `numpy.savez`, whatever its suffix.

    Pickled objects are not read: they can run any code.

    Raises:
        QuarantineError: If it is something else.
        Exception: Whatever NumPy raises of a damaged file.
    """
    with files.open_read(path) as file:
        if file.read(2) != b"PK":
            raise QuarantineError(
                Reason.CORRUPT_FILE,
                f"{path.rpartition('/')[2]} must be an archive of arrays (numpy.savez)",
            )
        file.seek(0)
        loaded: Any = np.load(file, allow_pickle=False)
        with loaded:
            yield loaded


def array(arrays: Arrays, key: str) -> NDArray[Any]:
    """Returns an array of an archive.

    Raises:
        QuarantineError: MISSING_FIELD if it is not there.
    """
    if key not in arrays:
        raise QuarantineError(
            Reason.MISSING_FIELD,
            f"an episode must have {key!r}, got {', '.join(sorted(arrays))}",
        )
    return arrays[key]


def component_of(path: str, known: Sequence[str], offset: int = 0) -> str:
    """Returns the last folder of a path that is known, or one before or after it.

    The path's own name if there is none.

    >>> component_of("raw/expert/bigfish/part", ["bigfish", "maze"])
    'bigfish'
    """
    parts = [part for part in path.rstrip("/").split("/") if part]
    for place in reversed(range(len(parts))):
        if parts[place] in known and 0 <= place + offset < len(parts):
            return parts[place + offset]
    return parts[-1]

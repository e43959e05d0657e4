"""HDF5 files as the readers of episodes use them, local or in a store."""

import contextlib
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gato.schemas import files
from gato.schemas.errors import QuarantineError, Reason, UsageError

SUFFIXES = (".hdf5", ".h5")


@contextlib.contextmanager
def open_hdf5(path: str, cache_bytes: int | None = None) -> Iterator[h5py.File]:
    """Opens a file for reading.

    Args:
        path: Local path or URL.
        cache_bytes: Of decompressed chunks, each data set's; None for 1 MiB.

    Raises:
        OSError: If it is not there, truncated, or no HDF5 file.
    """
    with contextlib.ExitStack() as stack:
        # The library's own file access is the fastest where it can be used.
        local = files.is_local(path)
        source: Any = (
            files.local_path(path)
            if local
            else stack.enter_context(files.open_read(path))
        )
        options: dict[str, Any] = (
            {} if cache_bytes is None else {"rdcc_nbytes": cache_bytes}
        )
        yield stack.enter_context(h5py.File(source, "r", **options))


def check_is_hdf5(path: str, format: str, example: str) -> None:
    """Checks that a path names an HDF5 file.

    Raises:
        UsageError: If it is a folder or has another suffix.
    """
    if files.is_folder(path) or not path.endswith(SUFFIXES):
        raise UsageError(
            f"{path}: a path of format {format} is an HDF5 file"
            f" ({', '.join(SUFFIXES)}), such as {example}"
        )


def read_values(file: h5py.File, path: str) -> NDArray[Any]:
    """Returns a data set's values.

    They are in this machine's byte order, so that equal episodes have equal dtypes.

    Raises:
        QuarantineError: MISSING_FIELD if it is not there.
        OSError: If its bytes are damaged.
    """
    # The low-level interface takes half the time of `file[path][()]`.
    try:
        dataset = h5py.h5d.open(file.id, path.encode())
    except KeyError as error:
        if path in file:
            raise
        raise missing(path) from error
    dtype = dataset.dtype.newbyteorder("=")
    if dtype.kind == "O":
        return np.asarray(h5py.Dataset(dataset)[()], object)
    values = np.empty(dataset.shape, dtype)
    dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
    return values


def open_values(file: h5py.File, path: str) -> h5py.Dataset:
    """Returns a data set, whose decompressed chunks are kept while it is held.

    Raises:
        QuarantineError: MISSING_FIELD if it is not there.
    """
    found = file.get(path)
    if not isinstance(found, h5py.Dataset):
        raise missing(path)
    return found


def read_range(values: h5py.Dataset, start: int, stop: int) -> NDArray[Any]:
    """Returns a range along the first axis, in this machine's byte order.

    Raises:
        OSError: If its bytes are damaged.
    """
    found = values[start:stop]
    return found.astype(found.dtype.newbyteorder("="), copy=False)


def leaves(file: h5py.File, path: str) -> list[str]:
    """Returns the paths below `path` of all data sets; of a data set, "" alone.

    Raises:
        QuarantineError: MISSING_FIELD if there is nothing at `path`.
    """
    found = file.get(path)
    if isinstance(found, h5py.Dataset):
        return [""]
    if not isinstance(found, h5py.Group):
        raise missing(path)
    names: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            names.append(name)

    found.visititems(visit)
    return sorted(names)


def missing(path: str) -> QuarantineError:
    """Returns the verdict on an episode that lacks a data set or group."""
    return QuarantineError(
        Reason.MISSING_FIELD, f"an episode must have {path!r}; it is not there"
    )

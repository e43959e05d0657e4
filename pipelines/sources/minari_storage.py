"""The three layouts in which Minari stores episodes: HDF5, Arrow and Parquet.

A storage reads one episode's columns whole, several times faster than step by step.
Errors of the libraries below pass through it; `minari.py` turns them into verdicts.

HDF5: `main_data.hdf5` with a group `episode_<n>` of `observations` (T + 1 values; Dict
spaces are groups, Tuple spaces groups of `_index_<i>`), `actions` (T), `rewards` (T),
`infos/<key>` (T + 1 or T).
Arrow and Parquet: `<n>/part-0.<format>` with T + 1 rows, of which actions and rewards
are padded, and `<n>/metadata.json` with `total_steps`; arrays are flattened to lists of
a fixed size, Dict and Tuple spaces are structs (of `0`, `1`, ...).
"""

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gato.pipelines.sources import hdf5
from gato.pipelines.sources.minari_spaces import Leaf, Path, flat_key
from gato.schemas import files
from gato.schemas.episode import Column
from gato.schemas.errors import QuarantineError, Reason

_MAIN_FILE = "main_data.hdf5"
_EPISODE = re.compile(rb"^episode_(\d+)$")
_ALONE = {"observations": "observation", "actions": "action"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredEpisode:
    """One episode's columns.

    Attributes:
        observations: T + 1 or T values each, by flattened key.
        actions: Likewise T values.
        rewards: As stored, [T] or [T, 1].
        success: The values of the first success key that is there, or None.
    """

    observations: dict[str, Column]
    actions: dict[str, Column]
    rewards: NDArray[Any]
    success: NDArray[Any] | None


class Storage(Protocol):
    """One data set's `data` folder, open for reading."""

    def numbers(self) -> list[int]:
        """Returns the numbers of the episodes that are there, sorted."""
        ...

    def num_bytes(self) -> int:
        """Returns the bytes of all episodes."""
        ...

    def load(self, number: int, success_keys: Sequence[str]) -> StoredEpisode:
        """Returns one episode.

        Raises:
            QuarantineError: If it lacks a field or disagrees with its spaces.
            Exception: Whatever the format's library raises on damaged bytes.
        """
        ...


class Hdf5Storage:
    """`main_data.hdf5`."""

    def __init__(
        self,
        file: h5py.File,
        path: str,
        observations: tuple[Leaf, ...] | None,
        actions: tuple[Leaf, ...] | None,
    ) -> None:
        self._file = file
        self._path = path
        self._leaves = {"observations": observations, "actions": actions}

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        folder: str,
        observations: tuple[Leaf, ...] | None,
        actions: tuple[Leaf, ...] | None,
    ) -> Iterator["Hdf5Storage"]:
        """Opens the file of a `data` folder.

        Raises:
            OSError: If it is not there, truncated, or no HDF5 file.
        """
        path = files.join(folder, _MAIN_FILE)
        with hdf5.open_hdf5(path) as file:
            yield cls(file, path, observations, actions)

    def numbers(self) -> list[int]:
        """Returns the numbers of the episodes that are there, sorted."""
        matches = map(_EPISODE.match, self._file.id)
        return sorted(int(match[1]) for match in matches if match)

    def num_bytes(self) -> int:
        """Returns the bytes of the file."""
        return files.size(self._path)

    def load(self, number: int, success_keys: Sequence[str]) -> StoredEpisode:
        """Returns one episode."""
        name = f"episode_{number}"
        success = None
        for key in success_keys:
            with contextlib.suppress(QuarantineError):  # another key, or none
                success = self._read(f"{name}/infos/{key}")
                break
        return StoredEpisode(
            observations=self._columns(name, "observations"),
            actions=self._columns(name, "actions"),
            rewards=self._read(f"{name}/rewards"),
            success=success,
        )

    def _columns(self, name: str, field: str) -> dict[str, Column]:
        leaves = self._leaves[field]
        if leaves is None:
            leaves = tuple(_found_leaves(self._file, f"{name}/{field}", field, ()))
        columns = {}
        for leaf in leaves:
            parts = (f"_index_{p}" if isinstance(p, int) else p for p in leaf.path)
            stored = self._read("/".join((name, field, *parts)))
            # JPEG images of one length make one array [T, length]. This, and not the
            # metadata's `jpeg_encoding`, tells them: older sets lack it, and small
            # images are stored raw in spite of it.
            image = stored.dtype == np.uint8 and len(leaf.shape or ()) in (2, 3)
            encoded = image and stored.ndim == 2
            columns[leaf.key] = leaf.column(list(stored) if encoded else stored)
        return columns

    def _read(self, path: str) -> NDArray[Any]:
        return hdf5.read_values(self._file, path)


def _found_leaves(file: h5py.File, name: str, field: str, path: Path) -> Iterator[Leaf]:
    """Yields a leaf for each data set below `name`, where there is no space."""
    if name not in file:
        raise hdf5.missing(name)
    found = file[name]
    if isinstance(found, h5py.Group):
        for child in sorted(found):
            place = child.removeprefix("_index_")
            step = int(place) if place != child and place.isdecimal() else child
            yield from _found_leaves(file, f"{name}/{child}", field, (*path, step))
    elif isinstance(found, h5py.Dataset):
        is_text = h5py.check_string_dtype(found.dtype) is not None
        yield Leaf(
            path=path,
            key=flat_key(path, _ALONE[field]),
            kind="text" if is_text else "unknown",
        )


class ArrowStorage:
    """One folder an episode, in Arrow's IPC format or Parquet."""

    def __init__(
        self,
        folder: str,
        observations: tuple[Leaf, ...] | None,
        actions: tuple[Leaf, ...] | None,
    ) -> None:
        self._folder = folder
        self._leaves = {"observations": observations, "actions": actions}

    def numbers(self) -> list[int]:
        """Returns the numbers of the episodes that are there, sorted."""
        names = files.list_folder(self._folder)
        return sorted(int(name) for name in names if name.isdecimal())

    def num_bytes(self) -> int:
        """Returns the bytes of all episodes' tables."""
        return sum(
            files.size(path)
            for number in self.numbers()
            for path in self._part_paths(number)
        )

    def load(self, number: int, success_keys: Sequence[str]) -> StoredEpisode:
        """Returns one episode."""
        infos = [f"infos.{key.replace('/', '.')}" for key in success_keys]
        table = self._read(number, ["observations", "actions", "rewards", *infos])
        num_steps = self._num_steps(number, table.num_rows)
        success = None
        if "infos" in table.column_names:
            for key in success_keys:
                with contextlib.suppress(QuarantineError):
                    found = _child(table, "infos", tuple(key.split("/")))
                    success = np.asarray(_values(found))
                    break
        rewards = np.asarray(_values(_child(table, "rewards", ())))
        return StoredEpisode(
            observations=self._columns(table, "observations", table.num_rows),
            actions=self._columns(table, "actions", num_steps),
            rewards=rewards[:num_steps],
            success=success,
        )

    def _part_paths(self, number: int) -> list[str]:
        folder = files.join(self._folder, str(number))
        return [
            files.join(folder, name)
            for name in files.list_folder(folder)
            if name.endswith((".arrow", ".parquet"))
        ]

    def _read(self, number: int, columns: list[str]) -> pa.Table:
        """Returns an episode's table, of Parquet only the columns asked for."""
        tables = []
        for path in self._part_paths(number):
            with files.open_read(path) as file:
                if path.endswith(".parquet"):
                    table = pq.ParquetFile(file).read(columns, use_threads=False)
                else:
                    table = pa.ipc.open_file(file.read()).read_all()
                tables.append(table)
        if not tables:
            raise FileNotFoundError(
                f"an episode's folder must hold part-0.arrow or part-0.parquet, got"
                f" {files.list_folder(files.join(self._folder, str(number)))}"
            )
        return pa.concat_tables(tables)

    def _num_steps(self, number: int, num_rows: int) -> int:
        path = files.join(self._folder, str(number), "metadata.json")
        if not files.exists(path):
            return num_rows - 1
        num_steps = json.loads(files.read_bytes(path)).get("total_steps", num_rows - 1)
        if num_steps not in (num_rows, num_rows - 1):
            raise QuarantineError(
                Reason.WRONG_SHAPE,
                "an episode of T steps must have T + 1 or T rows, got"
                f" {num_rows} rows and total_steps {num_steps} in its metadata.json",
            )
        return int(num_steps)

    def _columns(self, table: pa.Table, field: str, length: int) -> dict[str, Column]:
        leaves = self._leaves[field]
        if leaves is None:
            found = _child(table, field, ())
            leaves = tuple(_struct_leaves(found.type, field, ()))
        columns = {}
        for leaf in leaves:
            values = _values(_child(table, field, leaf.path).slice(0, length))
            if isinstance(values, np.ndarray) and leaf.shape and values.ndim == 2:
                with contextlib.suppress(ValueError):  # Leaf.column says it better
                    values = values.reshape(len(values), *leaf.shape)
            columns[leaf.key] = leaf.column(values)
        return columns


def _child(table: pa.Table, field: str, path: Path) -> pa.Array:
    """Returns the array of a field inside nested structs."""
    if field not in table.column_names:
        raise hdf5.missing(field)
    array = table[field].combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    for depth, step in enumerate(path):
        is_struct = pa.types.is_struct(array.type)
        if not is_struct or array.type.get_field_index(str(step)) < 0:
            raise hdf5.missing("/".join(map(str, (field, *path[: depth + 1]))))
        array = array.field(str(step))
    return array


def _values(array: pa.Array) -> NDArray[Any] | list[Any]:
    """Returns [T, ...] numbers, or T texts or encoded images."""
    if array.null_count:
        raise QuarantineError(
            Reason.MISSING_FIELD,
            f"a column has a value for each step, got {array.null_count} nulls among"
            f" {len(array)}",
        )
    if pa.types.is_fixed_size_list(array.type):
        inner = array.flatten()
        values = inner.to_numpy(zero_copy_only=False)
        return values.reshape(len(array), array.type.list_size)
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        return array.to_numpy()
    if pa.types.is_boolean(array.type):
        return array.to_numpy(zero_copy_only=False)
    return array.to_pylist()


def _struct_leaves(type_: pa.DataType, field: str, path: Path) -> Iterator[Leaf]:
    """Yields a leaf for each array below a field, where there is no space."""
    if pa.types.is_struct(type_):
        for child in type_:
            yield from _struct_leaves(child.type, field, (*path, child.name))
    else:
        yield Leaf(path=path, key=flat_key(path, _ALONE[field]), kind="unknown")

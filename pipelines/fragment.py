"""Fragments: one partition tokenized once, addressable by runs of timesteps.

A fragment is two files. `<name>.data` holds item after item: a header, then flat
little-endian arrays and encoded images (`fragment_data`). `<name>.footer`, written
last, is one TFRecord frame around an Arrow table with a row for every item read, good
or not; its presence means the fragment is complete. The plan is made from footers, and
shards from the data alone. Flat arrays and not Arrow batches, since a window then is
read by its exact bytes: a shard that shares batches with every other shard would read
each batch again (docs/benchmarks.md: at most 4x).
"""

import dataclasses
import functools
import json
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gato.pipelines.fragment_data import encode_item
from gato.schemas import files
from gato.schemas.errors import GatoError
from gato.schemas.manifest import TaskSpec
from gato.schemas.tfrecord import frame, unframe
from gato.tokenizers.timestep import TokenizedItem

_FORMAT_VERSION = 2

FOOTER_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("number", pa.int64()),
        ("task", pa.string()),
        ("agent", pa.string()),
        ("source", pa.string()),
        ("return", pa.float64()),
        ("success", pa.bool_()),
        ("random_return", pa.float64()),
        ("excluded", pa.bool_()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("spec", pa.int32()),
        ("content_hash", pa.string()),
        ("data_offset", pa.int64()),
        ("head_bytes", pa.int32()),
        ("num_slots", pa.int64()),
        ("run_steps", pa.list_(pa.int32())),
        ("run_slots", pa.list_(pa.int32())),
        ("image_bytes", pa.list_(pa.int32())),
        ("image_height", pa.list_(pa.int32())),
        ("image_width", pa.list_(pa.int32())),
        ("image_encoding", pa.list_(pa.int32())),
        ("image_starts", pa.list_(pa.int32())),
    ]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FragmentRef:
    """Where a fragment stands; small enough to cross shuffles.

    Attributes:
        dataset: The data set's name.
        file_index: Place of the source path among the data set's sorted paths.
        part: Place of the partition in that path.
        path: Path without `.data` and `.footer`; ends with the fragment's name.
    """

    dataset: str
    file_index: int
    part: int
    path: str

    @property
    def name(self) -> str:
        """The fingerprint that names the fragment."""
        return self.path.rsplit("/", 1)[-1]


def run_lengths(values: NDArray[np.integer]) -> tuple[list[int], list[int]]:
    """Returns (counts, values) of the runs of equal values.

    >>> run_lengths(np.array([4, 4, 4, 5]))
    ([3, 1], [4, 5])
    """
    if len(values) < 2:
        return [1] * len(values), values.tolist()
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    counts = np.diff(np.append(starts, len(values)))
    return counts.tolist(), values[starts].tolist()


class FragmentWriter:
    """Writes the data as items come, and the footer at the end."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._offset = 0
        self._crc = 0
        self._columns: dict[str, list[Any]] = {name: [] for name in FOOTER_SCHEMA.names}
        self._specs: list[str] = []
        self.num_tokens = 0
        self.reencoded = 0

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._crc = google_crc32c.extend(self._crc, data)
        self._offset += len(data)

    def add(
        self,
        item: TokenizedItem | None = None,
        spec: TaskSpec | None = None,
        **columns: Any,
    ) -> None:
        """Adds one item: its columns, and its arrays unless it was condemned."""
        values = dict.fromkeys(FOOTER_SCHEMA.names)
        values.update(columns)
        values.setdefault("excluded", False)
        values["excluded"] = bool(values["excluded"])
        if spec is not None:
            text = spec.model_dump_json()
            if text not in self._specs:
                self._specs.append(text)
            values["spec"] = self._specs.index(text)
        if item is not None:
            run_steps, run_slots = run_lengths(item.step_slots)
            head_bytes, parts = encode_item(item, columns)
            values.update(
                content_hash=item.content_hash,
                data_offset=self._offset,
                head_bytes=head_bytes,
                num_slots=len(item.tokens),
                run_steps=run_steps,
                run_slots=run_slots,
                image_bytes=[len(image) for image in item.images],
                image_height=item.image_info[:, 0].tolist(),
                image_width=item.image_info[:, 1].tolist(),
                image_encoding=item.image_info[:, 2].tolist(),
                image_starts=item.image_starts,
            )
            for part in parts:
                self._write(part)
            self.num_tokens += len(item.tokens)
            self.reencoded += item.reencoded
        for name, value in values.items():
            self._columns[name].append(value)

    def footer(self, **metadata: Any) -> bytes:
        """Returns the bytes of the footer file."""
        header = {
            "format_version": _FORMAT_VERSION,
            "specs": self._specs,
            "data_bytes": self._offset,
            "data_crc32c": self._crc,
            "reencoded": self.reencoded,
            **metadata,
        }
        schema = FOOTER_SCHEMA.with_metadata({"gato": json.dumps(header)})
        table = pa.Table.from_pydict(self._columns, schema=schema)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_table(table)
        return frame(sink.getvalue().to_pybytes())


class Footer:
    """The table and header of a fragment's footer."""

    def __init__(self, data: bytes, path: str) -> None:
        """Parses and checks a footer file.

        Raises:
            GatoError: If it is corrupt or of another format version.
        """
        try:
            self.table = pa.ipc.open_stream(unframe(data, path)).read_all()
            self.header = json.loads((self.table.schema.metadata or {})[b"gato"])
        except (pa.ArrowInvalid, KeyError, ValueError) as error:
            raise GatoError(f"{path}: not a fragment's footer: {error}") from error
        if self.header["format_version"] != _FORMAT_VERSION:
            raise GatoError(
                f"{path}: a fragment of format {_FORMAT_VERSION} is needed, got"
                f" {self.header['format_version']}."
            )
        self._columns: dict[str, list[Any]] = {}

    def __len__(self) -> int:
        return self.table.num_rows

    def column(self, name: str) -> list[Any]:
        """Returns a column as Python values; None where an item has none."""
        if name not in self._columns:
            has_column = name in self.table.column_names  # earlier ones lack the last
            values = self.table.column(name).to_pylist() if has_column else None
            self._columns[name] = values or [None] * len(self)
        return self._columns[name]

    @functools.cached_property
    def specs(self) -> list[TaskSpec]:
        """The distinct specs of the fragment's episodes."""
        return [TaskSpec.model_validate_json(text) for text in self.header["specs"]]

    def item(self, row: int) -> dict[str, Any]:
        """Returns the columns of one item, without converting those of the others."""
        return self.table.slice(row, 1).to_pylist()[0]


def read_footer(path: str) -> Footer:
    """Reads `<path>.footer`.

    Raises:
        GatoError: If it is corrupt.
        FileNotFoundError: If there is none.
    """
    return Footer(files.read_bytes(f"{path}.footer"), f"{path}.footer")


def is_complete(path: str) -> bool:
    """Whether the footer reads well and the data has the length that it says."""
    try:
        footer = read_footer(path)
        return files.size(f"{path}.data") == footer.header["data_bytes"]
    except (GatoError, FileNotFoundError):
        return False

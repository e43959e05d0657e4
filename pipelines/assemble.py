"""Assembly: the planned windows of one shard to records, index and summary.

A shard is written as `<name>`, then `<name>.idx`, and last `<name>.json`, whose
presence and fingerprint let a resumed build skip it. Writing again gives the same
bytes.
"""

import collections
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines import plan
from gato.pipelines.fragment_data import FragmentData
from gato.pipelines.segments import ShardLayout, group_windows, read_segments
from gato.schemas import files
from gato.schemas.hashing import fingerprint
from gato.schemas.record import PROMPT_BIT, Kind, Row, encode_row
from gato.schemas.shards import ShardName
from gato.schemas.tfrecord import frame, pack_index
from gato.tokenizers.packing import pack_best_fit
from gato.tokenizers.rows import RowBuilder

# Bumped when the same plan would give other bytes.
ASSEMBLY_VERSION = 1
# Payload that is read, and so held, at once.
_CHUNK_BYTES = 16 << 20
_ROWS_AT_ONCE = 64
_OUTCOMES = {
    plan.TAIL: "tail",
    plan.UNIFORM: "uniform",
    plan.NO_PROVIDER: "no_provider",
    plan.NO_FIT: "no_fit",
    plan.NO_ROOM: "no_room",
}


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """A shard's windows in their order, over one table of fragments."""

    fragments: list[str]
    windows: NDArray[np.void]

    @property
    def fingerprint(self) -> str:
        names = [path.rsplit("/", 1)[-1] for path in self.fragments]
        return fingerprint(self.windows.tobytes(), *names)


def merge_blocks(blocks: Sequence[plan.WindowBlock]) -> _Plan:
    """Joins the blocks of one shard and puts the windows in order of (hash, id)."""
    fragments = sorted({path for block in blocks for path in block.fragments})
    place = {path: i for i, path in enumerate(fragments)}
    parts = []
    for block in blocks:
        table = np.array([place[path] for path in block.fragments], np.int32)
        windows = block.windows.copy()
        if len(windows):
            windows["fragment"] = table[windows["fragment"]]
            windows["prompt_fragment"] = table[windows["prompt_fragment"]]
        parts.append(windows)
    windows = np.concatenate(parts) if parts else np.zeros(0, plan.WINDOW)
    order = np.lexsort(
        (windows["index"], windows["row"], windows["fragment"], windows["hash"])
    )
    return _Plan(fragments, windows[order])


class ShardAssembler:
    """Writes the shards of one data set."""

    def __init__(
        self,
        folder: str,
        layout: ShardLayout,
        on_rows: Callable[[int, int, int], None] = lambda rows, size, windows: None,
        data: FragmentData | None = None,
    ) -> None:
        """Prepares assembly.

        Args:
            folder: The data set's folder in the output.
            layout: What its rows look like.
            on_rows: Called with (rows, bytes, windows in them) as they are written.
            data: Shared by the shards of a worker, each of which reads of nearly
                every fragment.
        """
        self._folder = folder
        self._layout = layout
        self._on_rows = on_rows
        self._data = data or FragmentData(layout.dtype)
        self._builder = RowBuilder(
            sequence_length=layout.sequence_length,
            dtype=layout.dtype,
            loss=layout.loss,
            control=layout.control,
        )

    def assemble(
        self, name: ShardName, blocks: Sequence[plan.WindowBlock]
    ) -> dict[str, Any]:
        """Writes one shard, unless it stands already, and returns its summary."""
        merged = merge_blocks(blocks)
        layout = json.dumps(
            dataclasses.asdict(self._layout) | {"loss": self._layout.loss.model_dump()}
        )
        plan_fingerprint = fingerprint(
            f"assembly {ASSEMBLY_VERSION}", str(name), layout, merged.fingerprint
        )
        done = self._finished(name, plan_fingerprint)
        if done is not None:
            self._on_rows(done["rows"], done["bytes"], len(merged.windows))
            return done
        summary = self._write(name, merged)
        summary["plan_fingerprint"] = plan_fingerprint
        files.write_atomic(
            files.join(self._folder, name.summary_name),
            (json.dumps(summary, indent=1, sort_keys=True) + "\n").encode(),
        )
        return summary

    def _finished(
        self, name: ShardName, plan_fingerprint: str
    ) -> dict[str, Any] | None:
        try:
            path = files.join(self._folder, name.summary_name)
            summary = json.loads(files.read_bytes(path))
            if summary["plan_fingerprint"] != plan_fingerprint:
                return None
            stands = files.size(files.join(self._folder, str(name))) == summary["bytes"]
            index_bytes = files.size(files.join(self._folder, name.index_name))
            stands &= index_bytes == 8 * (summary["rows"] + 1)
            return summary if stands else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _write(self, name: ShardName, merged: _Plan) -> dict[str, Any]:
        counts = _Counts(merged.windows, self._layout)
        digest, offsets, position = hashlib.sha256(), [], 0
        with files.open_atomic(files.join(self._folder, str(name))) as file:
            for rows, clamped in self._rows(merged):
                counts.add(rows, clamped)
                before = position
                for row in rows:
                    data = frame(encode_row(row))
                    file.write(data)
                    digest.update(data)
                    offsets.append(position)
                    position += len(data)
                windows = sum(len(row.provenance) for row in rows)
                self._on_rows(len(rows), position - before, windows)
        index = pack_index(offsets, position)
        files.write_atomic(files.join(self._folder, name.index_name), index)
        return {
            "name": str(name),
            "rows": len(offsets),
            "bytes": position,
            "sha256": digest.hexdigest(),
            "idx_sha256": hashlib.sha256(index).hexdigest(),
            "counts": counts.as_dict(),
        }

    def _rows(self, merged: _Plan) -> Iterator[tuple[list[Row], int]]:
        """Yields groups of rows, in order, and their clamped local positions."""
        groups = group_windows(merged.windows, self._layout)
        sizes = merged.windows["slots"] + merged.windows["prompt_slots"]
        lengths = [int(sizes[group].sum()) for group in groups]
        packed = pack_best_fit(lengths, self._layout.sequence_length)
        payload = plan.window_bytes(merged.windows)
        chunk: list[list[list[int]]] = []
        held = 0
        for row in packed:
            chunk.append([groups[segment] for segment in row])
            held += sum(int(payload[group].sum()) for group in chunk[-1])
            if held >= _CHUNK_BYTES:
                yield from self._build(merged, chunk)
                chunk, held = [], 0
        yield from self._build(merged, chunk)

    def _build(
        self, merged: _Plan, chunk: list[list[list[int]]]
    ) -> Iterator[tuple[list[Row], int]]:
        groups = [group for row in chunk for group in row]
        if not groups:
            return
        segments = iter(
            read_segments(
                self._data, merged.fragments, merged.windows, groups, self._layout
            )
        )
        for start in range(0, len(chunk), _ROWS_AT_ONCE):
            rows = chunk[start : start + _ROWS_AT_ONCE]
            yield self._builder.build(
                [list(itertools.islice(segments, len(row))) for row in rows]
            )


class _Counts:
    """What a shard holds, for the manifest."""

    def __init__(self, windows: NDArray[np.void], layout: ShardLayout) -> None:
        self._kinds = np.zeros(len(Kind), np.int64)
        self._prompt_tokens = self._targets = self._clamped = 0
        self._lengths: collections.Counter[int] = collections.Counter()
        control = layout.control
        self._timesteps = int(windows["count"].sum()) if control else 0
        self._prompts = {"windows": len(windows) if control else 0, "prompted": 0}
        for code, name in _OUTCOMES.items():
            self._prompts[name] = int(np.count_nonzero(windows["prompt"] == code))
        self._prompts["prompted"] = self._prompts["tail"] + self._prompts["uniform"]

    def add(self, rows: Sequence[Row], clamped: int) -> None:
        codes = np.stack([row.kind for row in rows])
        # Sixteen codes: the kinds outside prompts, then inside.
        by_code = np.bincount(codes.ravel(), minlength=2 * PROMPT_BIT)
        outside, inside = by_code[:PROMPT_BIT], by_code[PROMPT_BIT : 2 * PROMPT_BIT]
        self._kinds += outside + inside
        self._prompt_tokens += int(inside.sum())
        self._targets += sum(int(np.count_nonzero(row.loss_mask)) for row in rows)
        self._clamped += clamped
        for row in rows:
            self._lengths.update(entry["length"] for entry in row.provenance)

    def as_dict(self) -> dict[str, Any]:
        names = [kind.name.lower() for kind in Kind]
        return {
            "tokens": dict(zip(names, self._kinds.tolist(), strict=True)),
            "prompt_tokens": self._prompt_tokens,
            "targets": self._targets,
            "local_position_clamped": self._clamped,
            "timesteps": self._timesteps,
            "prompts": self._prompts,
            "segment_lengths": {str(k): v for k, v in sorted(self._lengths.items())},
        }

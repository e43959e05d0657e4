"""Assembly: the planned windows of one shard to records, index and summary.

A shard is written as `<name>`, then `<name>.idx`, and last `<name>.json`, whose
presence and fingerprint let a resumed build skip it. Writing again gives the same
bytes.
"""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines import plan
from gato.pipelines.fragment import Footer, FragmentReader, Run, Slice
from gato.schemas import files
from gato.schemas.config import Loss
from gato.schemas.hashing import fingerprint
from gato.schemas.record import PROMPT_BIT, Kind, Row, encode_row
from gato.schemas.shards import ShardName
from gato.schemas.tfrecord import frame, pack_index
from gato.tokenizers.packing import pack_best_fit
from gato.tokenizers.rows import RowBuilder, Segment

# Bumped when the same plan would give other bytes.
ASSEMBLY_VERSION = 1
MAX_PAIRS = 5
_OPEN_FRAGMENTS = 64
# Payload that is read, and so held, at once.
_CHUNK_BYTES = 16 << 20
_ROWS_AT_ONCE = 64
_PROMPT_MODES = {plan.TAIL: "tail", plan.UNIFORM: "uniform"}
_OUTCOMES = {
    plan.TAIL: "tail",
    plan.UNIFORM: "uniform",
    plan.NO_PROVIDER: "no_provider",
    plan.NO_FIT: "no_fit",
    plan.NO_ROOM: "no_room",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardLayout:
    """What the rows of a data set's shards look like.

    Attributes:
        dataset: The data set's name, for provenance.
        sequence_length: L.
        dtype: dtype of the tokens.
        loss: What is a target.
        control: Whether windows are timesteps of episodes (else documents).
    """

    dataset: str
    sequence_length: int
    dtype: str
    loss: Loss
    control: bool


class FragmentCache:
    """Keeps the readers of the fragments used last."""

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self._readers: collections.OrderedDict[str, FragmentReader] = (
            collections.OrderedDict()
        )

    def reader(self, path: str) -> FragmentReader:
        """Returns the reader of a fragment, opened if need be."""
        if path in self._readers:
            self._readers.move_to_end(path)
        else:
            self._readers[path] = FragmentReader(path, self._dtype)
            if len(self._readers) > _OPEN_FRAGMENTS:
                self._readers.popitem(last=False)
        return self._readers[path]


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
        cache: FragmentCache | None = None,
    ) -> None:
        """Prepares assembly.

        Args:
            folder: The data set's folder in the output.
            layout: What its rows look like.
            on_rows: Called with (rows, bytes, windows in them) as they are written.
            cache: Shared by the shards of a worker: every shard reads of every
                fragment, whose footer is slow to parse.
        """
        self._folder = folder
        self._layout = layout
        self._on_rows = on_rows
        self._cache = cache or FragmentCache(layout.dtype)
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
        groups = self._segments(merged)
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

    def _segments(self, merged: _Plan) -> list[list[int]]:
        """Returns the windows of each segment: one, or up to five pairs."""
        windows = merged.windows
        whole = windows["image_bytes"] > 0
        if self._layout.control or not whole.any():
            return [[i] for i in range(len(windows))]
        hashes = self._content_hashes(merged)
        groups: list[list[int]] = []
        room, images = 0, set[str]()
        for i in range(len(windows)):
            slots = int(windows["slots"][i])
            joins = whole[i] and slots <= room and hashes[i] not in images
            if joins and len(groups[-1]) < MAX_PAIRS:
                groups[-1].append(i)
                images.add(hashes[i])
                room -= slots
            else:
                groups.append([i])
                # Nothing joins a text's piece.
                room = self._layout.sequence_length - slots if whole[i] else 0
                images = {hashes[i]}
        return groups

    def _content_hashes(self, merged: _Plan) -> list[str]:
        hashes = [""] * len(merged.windows)
        for fragment, path in enumerate(merged.fragments):
            places = np.flatnonzero(merged.windows["fragment"] == fragment)
            column = self._cache.reader(path).footer.column("content_hash")
            for place in places:
                hashes[place] = column[merged.windows["row"][place]]
        return hashes

    def _build(
        self, merged: _Plan, chunk: list[list[list[int]]]
    ) -> Iterator[tuple[list[Row], int]]:
        wanted = [i for row in chunk for group in row for i in group]
        bodies, prompts = self._read(merged, wanted)
        for start in range(0, len(chunk), _ROWS_AT_ONCE):
            yield self._builder.build(
                [
                    [self._segment(merged, group, bodies, prompts) for group in row]
                    for row in chunk[start : start + _ROWS_AT_ONCE]
                ]
            )

    def _read(
        self, merged: _Plan, wanted: list[int]
    ) -> tuple[dict[int, Slice], dict[int, Slice]]:
        """Reads bodies and prompts of the wanted windows, fragment by fragment."""
        windows = merged.windows
        requests: dict[int, list[tuple[int, bool, Run]]] = {}
        for i in wanted:
            w = windows[i]
            # Pieces of a text are counted in slots.
            by_slots = not self._layout.control and w["image_bytes"] == 0
            run = Run(int(w["row"]), int(w["first"]), int(w["count"]), by_slots)
            requests.setdefault(int(w["fragment"]), []).append((i, False, run))
            if w["prompt"] in _PROMPT_MODES:
                run = Run(
                    int(w["prompt_row"]), int(w["prompt_first"]), int(w["prompt_count"])
                )
                fragment = int(w["prompt_fragment"])
                requests.setdefault(fragment, []).append((i, True, run))
        bodies: dict[int, Slice] = {}
        prompts: dict[int, Slice] = {}
        for fragment, asked in sorted(requests.items()):
            reader = self._cache.reader(merged.fragments[fragment])
            slices = reader.read([run for _, _, run in asked])
            for (i, is_prompt, _), piece in zip(asked, slices, strict=True):
                (prompts if is_prompt else bodies)[i] = piece
        return bodies, prompts

    def _segment(
        self,
        merged: _Plan,
        group: list[int],
        bodies: dict[int, Slice],
        prompts: dict[int, Slice],
    ) -> Segment:
        pieces = [bodies[i] for i in group]
        if self._layout.control:
            (i,) = group
            provenance = self._episode_provenance(merged, i, prompts.get(i))
            if i in prompts:
                pieces.insert(0, _as_prompt(prompts[i]))
        else:
            ids = [self._document_id(merged, i) for i in group]
            provenance = {"dataset": self._layout.dataset, "documents": ids}
        if len(pieces) == 1:
            tokens, kind = pieces[0].tokens, pieces[0].kind
            step_slots, image_info = pieces[0].step_slots, pieces[0].image_info
        else:
            tokens = np.concatenate([p.tokens for p in pieces])
            kind = np.concatenate([p.kind for p in pieces])
            step_slots = np.concatenate([p.step_slots for p in pieces])
            image_info = np.concatenate([p.image_info for p in pieces])
        return Segment(
            tokens=tokens,
            kind=kind,
            step_slots=step_slots,
            images=[image for p in pieces for image in p.images],
            image_info=image_info,
            provenance=provenance,
        )

    def _episode_provenance(
        self, merged: _Plan, i: int, prompt: Slice | None
    ) -> dict[str, Any]:
        w = merged.windows[i]
        footer = self._cache.reader(merged.fragments[w["fragment"]]).footer
        row = int(w["row"])
        told = None
        if prompt is not None:
            provider = self._cache.reader(merged.fragments[w["prompt_fragment"]])
            told = {
                "mode": _PROMPT_MODES[int(w["prompt"])],
                "episode": provider.footer.column("item_id")[int(w["prompt_row"])],
                "first_step": int(w["prompt_first"]),
                "num_steps": int(w["prompt_count"]),
                "length": len(prompt.tokens),
            }
        run = (int(w["first"]), int(w["count"]))
        return episode_provenance(self._layout, footer, row, *run, prompt=told)

    def _document_id(self, merged: _Plan, i: int) -> str:
        w = merged.windows[i]
        footer = self._cache.reader(merged.fragments[w["fragment"]]).footer
        row = int(w["row"])
        document_id = footer.column("item_id")[row]
        cut = w["image_bytes"] == 0 and footer.column("num_slots")[row] > w["slots"]
        return f"{document_id}#{w['index']}" if cut else document_id


def episode_provenance(
    layout: ShardLayout,
    footer: Footer,
    row: int,
    first_step: int,
    num_steps: int,
    prompt: dict[str, Any] | None,
) -> dict[str, Any]:
    """Returns a control segment's provenance, without its place in a row."""
    return {
        "dataset": layout.dataset,
        "task": footer.column("task")[row],
        "agent": footer.column("agent")[row],
        "episode": footer.column("item_id")[row],
        "first_step": first_step,
        "num_steps": num_steps,
        "return": footer.column("return")[row],
        "success": footer.column("success")[row],
        "prompt": prompt,
    }


def _as_prompt(piece: Slice) -> Slice:
    return dataclasses.replace(piece, kind=piece.kind | np.uint8(PROMPT_BIT))


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

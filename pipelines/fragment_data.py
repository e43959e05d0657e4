"""Runs of timesteps out of the data of fragments, by exact bytes and no footer.

Every shard reads of nearly every fragment. What it needs of an item therefore stands
in `.data` beside the item's tokens, and where it stands is carried by the window: a
footer tells of all items of its fragment, so that reading footers here would cost
shards times documents.
"""

import collections
import dataclasses
import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.schemas import files
from gato.schemas.errors import GatoError
from gato.tokenizers.timestep import TokenizedItem

# Timesteps [first, first + count) of one item of a fragment.
RUN: np.dtype[np.void] = np.dtype(
    [
        ("fragment", "<i4"),  # place in a table of fragments
        ("row", "<i4"),  # the item's row in the footer
        ("offset", "<i8"),  # of the item in the data
        ("head", "<i4"),  # bytes of its header
        ("steps", "<i4"),  # its timesteps; of a page, its images
        ("varied", "u1"),  # whether they differ in length
        ("images", "<u2"),  # of each timestep
        ("item_slots", "<i4"),  # of the whole item
        ("first", "<i4"),
        ("count", "<i4"),
        ("first_slot", "<i4"),  # slots before the run
        ("slots", "<i4"),
        ("image_offset", "<i8"),  # bytes of the images before the run
        ("image_bytes", "<u4"),
    ]
)
_STEP_BYTES = 4
# Header, timesteps, images' table, tokens, kinds, images.
_PARTS = 6
# Of an image: bytes, height, width, encoding.
_IMAGE_COLUMNS = 4
_TABLE_BYTES = 4 * _IMAGE_COLUMNS
# What is kept of an item besides its arrays: what provenance tells.
_ABOUT = ("item_id", "task", "agent", "return", "success")
_NO_IMAGES = np.zeros((0, 3), np.int32)
# Open files, of which a process may have 1,024.
_OPEN_FILES = 256


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """The arrays of one run.

    Attributes:
        about: The item's columns that tell where it comes from.
        tokens: [n].
        kind: uint8 [n].
        step_slots: int32 [T]; of a text, cut or not, its one entry.
        images: Encoded images in slot order.
        image_info: int32 [m, 3]; height, width, encoding.
    """

    about: dict[str, Any]
    tokens: NDArray[np.integer]
    kind: NDArray[np.uint8]
    step_slots: NDArray[np.int32]
    images: list[bytes]
    image_info: NDArray[np.int32]


def is_varied(step_slots: NDArray[np.integer]) -> bool:
    """Whether timesteps differ in length; if not, their lengths are not stored."""
    return bool((step_slots[1:] != step_slots[:-1]).any())


def encode_item(
    item: TokenizedItem, columns: dict[str, Any]
) -> tuple[int, list[bytes]]:
    """Returns the bytes of the item's header, and its parts in the order of the file.

    Header (JSON), int32 slots of each timestep if they vary, int32 [n, 4] of images,
    tokens, kinds, images: all of one timestep is found by arithmetic.
    """
    about = {key: columns[key] for key in _ABOUT if columns.get(key) is not None}
    head = json.dumps(about, separators=(",", ":")).encode()
    sizes = np.array([len(image) for image in item.images], np.int32)
    table = np.column_stack([sizes, item.image_info]).astype("<i4")
    steps = item.step_slots.astype("<i4") if is_varied(item.step_slots) else sizes[:0]
    arrays = (steps, table, item.tokens, item.kind)
    return len(head), [head, *(array.tobytes() for array in arrays), *item.images]


def part_ranges(
    runs: NDArray[np.void], token_bytes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns where the parts of runs begin and how long they are, both int64 [n, 6].

    The parts are those of `encode_item`; the images are one.
    """
    run = {name: runs[name].astype(np.int64) for name in RUN.names or ()}
    steps = run["offset"] + run["head"]
    table = steps + _STEP_BYTES * run["steps"] * run["varied"]
    tokens = table + _TABLE_BYTES * run["steps"] * run["images"]
    kinds = tokens + token_bytes * run["item_slots"]
    images = kinds + run["item_slots"]
    starts = (
        run["offset"],
        steps + _STEP_BYTES * run["first"] * run["varied"],
        table + _TABLE_BYTES * run["first"] * run["images"],
        tokens + token_bytes * run["first_slot"],
        kinds + run["first_slot"],
        images + run["image_offset"],
    )
    sizes = (
        run["head"],
        _STEP_BYTES * run["count"] * run["varied"],
        _TABLE_BYTES * run["count"] * run["images"],
        token_bytes * run["slots"],
        run["slots"],
        run["image_bytes"],
    )
    return np.column_stack(starts), np.column_stack(sizes)


class FragmentData:
    """Reads runs, and keeps the files open that were used last."""

    def __init__(self, dtype: str) -> None:
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._open: collections.OrderedDict[str, files.RangeReader] = (
            collections.OrderedDict()
        )

    def read(self, fragments: Sequence[str], runs: NDArray[np.void]) -> list[Slice]:
        """Returns the arrays of each run, in the order given.

        Args:
            fragments: The paths that `runs` points into.
            runs: `RUN` records.

        Raises:
            GatoError: If the data is shorter than it was, or not what it was.
        """
        starts, sizes = part_ranges(runs, self._dtype.itemsize)
        order = np.argsort(runs["fragment"], kind="stable")
        number, firsts = np.unique(runs["fragment"][order], return_index=True)
        slices: dict[int, Slice] = {}
        groups = np.split(order, firsts[1:]) if len(order) else []
        paths = [f"{fragments[fragment]}.data" for fragment in number.tolist()]
        spans = [_Spans(starts[p].ravel(), sizes[p].ravel()) for p in groups]
        wanted = (
            (self._file(path), each.wanted)
            for path, each in zip(paths, spans, strict=True)
        )
        blobs = files.read_each(wanted)
        for path, places, each in zip(paths, groups, spans, strict=True):
            pieces = each.cut(next(blobs))
            for n, place in enumerate(places.tolist()):
                parts = pieces[_PARTS * n : _PARTS * (n + 1)]
                slices[place] = self._slice(runs[place], parts, path)
        return [slices[place] for place in range(len(runs))]

    def _file(self, path: str) -> files.RangeReader:
        if path in self._open:
            self._open.move_to_end(path)
        else:
            self._open[path] = files.RangeReader(path, mapped=False)
            if len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)
        return self._open[path]

    def _slice(
        self, run: NDArray[np.void], parts: Sequence[memoryview], path: str
    ) -> Slice:
        head, steps, table, tokens, kind, blob = parts
        try:
            about = json.loads(bytes(head))
        except ValueError as error:
            raise GatoError(
                f"{path}: bytes {run['offset']} to {run['offset'] + run['head']} must"
                f" be the header of item {run['row']}, got {bytes(head[:40])!r}. The"
                " file was damaged; remove it and build again."
            ) from error
        if len(steps):
            step_slots = np.frombuffer(steps, "<i4")
        else:
            count = max(1, int(run["count"]))  # a page's piece may have no image
            step_slots = np.full(count, len(kind) // count, np.int32)
        images, image_info = [], _NO_IMAGES
        if len(table):
            rows = np.frombuffer(table, "<i4").reshape(-1, _IMAGE_COLUMNS)
            image_info = rows[:, 1:]
            stops = np.cumsum(rows[:, 0], dtype=np.int64).tolist()
            images = [bytes(blob[a:b]) for a, b in itertools.pairwise([0, *stops])]
        return Slice(
            about=about,
            tokens=np.frombuffer(tokens, self._dtype),
            kind=np.frombuffer(kind, np.uint8),
            step_slots=step_slots,
            images=images,
            image_info=image_info,
        )


class _Spans:
    """Ranges of a file in any order, neighbours in one request.

    A gap is read along if it is no longer than the range behind it: so never more than
    twice what is asked for, whatever the order.
    """

    def __init__(self, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        """Plans the requests.

        Args:
            starts: Where the ranges begin.
            sizes: Their bytes.
        """
        self._count = len(starts)
        order = np.argsort(starts, kind="stable")
        self._order = order = order[sizes[order] > 0]
        begins, stops = starts[order], starts[order] + sizes[order]
        reach = np.maximum.accumulate(stops)
        apart = np.ones(len(order), bool)
        apart[1:] = begins[1:] - reach[:-1] > sizes[order][1:]
        firsts = np.flatnonzero(apart)
        lasts = np.append(firsts[1:], len(order))[: len(firsts)] - 1
        group_starts, group_stops = begins[firsts], reach[lasts]
        self.wanted = list(
            zip(group_starts.tolist(), group_stops.tolist(), strict=True)
        )
        self._group = np.cumsum(apart) - 1
        self._begins = begins - group_starts[self._group]
        self._stops = stops - group_starts[self._group]

    def cut(self, read: Sequence[bytes | memoryview]) -> list[memoryview]:
        """Returns the ranges out of what `wanted` gave."""
        pieces = [memoryview(b"")] * self._count
        blobs = [memoryview(blob) for blob in read]
        for place, group, begin, stop in zip(
            self._order.tolist(),
            self._group.tolist(),
            self._begins.tolist(),
            self._stops.tolist(),
            strict=True,
        ):
            pieces[place] = blobs[group][begin:stop]
        return pieces


def read_together(
    file: files.RangeReader, starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> list[memoryview]:
    """Reads ranges of a file in any order, neighbours in one request."""
    spans = _Spans(starts, sizes)
    return spans.cut(file.read(spans.wanted))

"""The laws of images: where a row's images stand, and that their bytes decode."""

from collections.abc import Iterable
from concurrent.futures import Executor

import cv2
import numpy as np
from numpy.typing import NDArray

from gato.pipelines.verification.batch import Batch, BatchSegments
from gato.pipelines.verification.problems import Problems
from gato.schemas.record import PATCH_SIZE, Encoding, Kind, Row

_SIGNATURES = {Encoding.PNG: b"\x89PNG\r\n\x1a\n", Encoding.JPEG: b"\xff\xd8"}


def check_layout(row: Row, segment_start: NDArray[np.int64]) -> str | None:
    """Returns what is wrong with `image_info`, or None.

    Args:
        row: The row.
        segment_start: int64 [L], the first slot of each slot's segment.
    """
    info = row.image_info.astype(np.int64)
    slots = np.flatnonzero((row.kind & 7) == Kind.IMAGE)
    if len(info) != len(row.images):
        return f"image_info lists {len(info)} images, the row holds {len(row.images)}"
    if not len(info):
        found = f"slot {slots[0]} is of an image" if len(slots) else ""
        return f"{found}, the row holds none" if found else None
    first, height, width, encoding = info.T
    sides = info[:, 1:3]
    if (sides <= 0).any() or (sides % PATCH_SIZE).any():
        bad = int(np.argmax(((sides <= 0) | (sides % PATCH_SIZE != 0)).any(axis=1)))
        return (
            f"an image's sides are multiples of {PATCH_SIZE}, image {bad} has"
            f" {height[bad]}x{width[bad]}"
        )
    if (encoding < 0).any() or (encoding > max(Encoding)).any():
        return f"encodings are 0 (raw), 1 (PNG) and 2 (JPEG), got {encoding.tolist()}"
    patches = (height // PATCH_SIZE) * (width // PATCH_SIZE)
    if patches.sum() != len(slots):
        return f"the images have {patches.sum()} patches, the row {len(slots)} slots"
    ends = np.cumsum(patches)
    expected = np.arange(len(slots)) - np.repeat(ends - patches, patches)
    expected += np.repeat(first, patches)
    if (slots != expected).any():
        bad = int(np.searchsorted(ends, np.argmax(slots != expected), side="right"))
        return (
            f"image {bad} takes {patches[bad]} consecutive image slots from slot"
            f" {first[bad]}, and the row's kinds say otherwise"
        )
    last = first + patches - 1
    if (segment_start[first] != segment_start[last]).any():
        bad = int(np.argmax(segment_start[first] != segment_start[last]))
        return f"image {bad} lies in one segment, and ends in another than it begins"
    return None


def check_image(data: bytes, height: int, width: int, encoding: int) -> str | None:
    """Returns what is wrong with one image's bytes, or None.

    Args:
        data: The stored bytes.
        height: Rows that `image_info` says.
        width: Columns likewise.
        encoding: `Encoding`.
    """
    if encoding == Encoding.RAW:
        if len(data) != height * width * 3:
            return (
                f"a raw image of {height}x{width} has {height * width * 3} bytes,"
                f" got {len(data)}"
            )
        return None
    name = Encoding(encoding).name
    if not data.startswith(_SIGNATURES[Encoding(encoding)]):
        return f"image_info says {name}, the bytes begin with {data[:8].hex()!r}"
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        return f"the {name} does not decode: {error.err}"
    if pixels is None:
        return f"the {name} does not decode"
    if pixels.shape[:2] != (height, width):
        return (
            f"image_info says {height}x{width}, the {name} decodes to"
            f" {pixels.shape[0]}x{pixels.shape[1]}"
        )
    if pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (1,), (3,)):
        return (
            "a stored image is 8-bit grey or RGB, without alpha, got"
            f" {pixels.dtype} {list(pixels.shape)}"
        )
    return None


def _check_one(job: tuple[bytes, int, int, int]) -> str | None:
    return check_image(*job)


def check_pairs(batch: Batch, segments: BatchSegments, problems: Problems) -> None:
    """Checks that no two pairs of one image share a segment."""
    for entry in segments.table[segments.table["num_items"] > 1]:
        row = batch.rows[entry["row"]]
        first = row.image_info[:, 0]
        stop = entry["start"] + entry["length"]
        inside = np.flatnonzero((first >= entry["start"]) & (first < stop))
        if len({row.images[index] for index in inside}) < len(inside):
            law = "two pairs of one image never share a segment"
            place = f"{batch.place(entry['row'])} segment {entry['number']}"
            problems.add(batch.file, law, law=law, place=place)


def check_images(
    batch: Batch, segments: BatchSegments, problems: Problems, pool: Executor
) -> bool:
    """Checks layout and bytes of every image of a batch.

    Returns:
        Whether the layout holds in every row.
    """
    sound = True
    has_slots = (batch.kind == Kind.IMAGE).any(axis=1)
    starts = np.append(segments.table["start"], -1).astype(np.int64)
    jobs: list[tuple[bytes, int, int, int]] = []
    places: list[tuple[int, int, int]] = []
    for index, row in enumerate(batch.rows):
        if not (has_slots[index] or row.images or len(row.image_info)):
            continue
        wrong = check_layout(row, starts[segments.of_slot[index]])
        if wrong is not None:
            sound = False
            place = batch.place(index)
            problems.add(batch.file, wrong, law="layout", place=place)
            continue
        for number, (data, info) in enumerate(
            zip(row.images, row.image_info.tolist(), strict=True)
        ):
            slot, height, width, encoding = info
            jobs.append((data, height, width, encoding))
            places.append((index, slot, number))
    found: Iterable[str | None] = pool.map(_check_one, jobs, chunksize=1)
    for (index, slot, number), wrong in zip(places, found, strict=True):
        if wrong is not None:
            problems.add(
                batch.file,
                f"image {number}: {wrong}",
                law="image",
                place=batch.place(index, slot),
            )
    return sound

r"""Conceptual Captions: lines `caption<TAB>url` without header, images kept locally.

CC12M has `url<TAB>caption`: where only the first of the two is a URL, it is the image.
Lines are taken as they stand (no quoting), and a document's id ends in its line's
number, from 0. Nothing is downloaded. The image of `http(s)://...` is the file in
`images` (the TSV's own folder) that has the URL's base name; that of `file://...`, or
of a name without scheme, the file of that name there. Two URLs of one base name would
share a file, of which at most one is right, so both are `missing_image`: let
img2dataset fetch such sets, whose tars are read with format webdataset.
"""

import array
import functools
import hashlib
from collections.abc import Callable, Iterator

import numpy as np

from gato.pipelines.sources import base, compressed, image_folder
from gato.pipelines.sources.annotation_json import not_utf8, version
from gato.pipelines.sources.image_folder import NamedImage, Pending, PicturedSource
from gato.pipelines.sources.line_ranges import (
    items_of_lines,
    open_range,
    shared_line_ranges,
)
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import TextPart, Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError

# Bytes of a partition: about 6,000 lines, so with images of 100 KB about 600 MB.
PARTITION_BYTES = 1 << 20

_MAX_LINE_BYTES = 1 << 20
_HTTP = ("http://", "https://")
_FILE = "file://"
_BOM = b"\xef\xbb\xbf"


class CaptionsTsvSource(PicturedSource):
    """Captioned images of a TSV; partitions are ranges of lines."""

    def files(self, path: str) -> list[str]:
        """Returns the TSV.

        Raises:
            UsageError: If it is a folder or has another suffix.
        """
        name = path.removesuffix(compressed.compression(path))
        if files.is_folder(path) or not name.endswith(".tsv"):
            raise UsageError(
                f"{path}: a path of format captions_tsv is a .tsv (and .gz or .zst"
                " after it), such as Train_GCC-training.tsv"
            )
        return [path]

    def folder(self, path: str, dataset: Dataset) -> str:
        """Returns the data set's `images`, else the TSV's own folder."""
        return dataset.images or path.rpartition("/")[0] or "."

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Splits an uncompressed TSV into ranges of lines."""
        return shared_line_ranges(
            path,
            relative_path,
            self.folder(path, dataset),
            is_plain=not compressed.compression(path),
            most_bytes=PARTITION_BYTES,
        )

    def pending(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Pending | Unreadable]:
        """Yields each line's pair, or the verdict on it."""
        return _items(partition, self.folder(partition.path, dataset))


SOURCE: base.Source = CaptionsTsvSource()


def _items(partition: base.Partition, folder: str) -> Iterator[Pending | Unreadable]:
    @functools.cache
    def shared() -> frozenset[int]:
        return _shared_names(partition.path, version(partition.path))

    def item(number: int, line: bytes | None, item_id: str) -> Pending:
        image, caption = _pair(number, line, folder, shared)
        return Pending(
            document_id=item_id,
            number=number,
            parts=(NamedImage(image), TextPart(text=caption)),
        )

    yield from items_of_lines(partition, _lines(partition), item)


def _lines(partition: base.Partition) -> Iterator[tuple[int, bytes | None]]:
    with open_range(partition) as pieces:
        yield from compressed.lines(pieces, partition.first_number, _MAX_LINE_BYTES)


def _fields(number: int, line: bytes | None) -> tuple[str, str]:
    """Returns image and caption as they stand in a line.

    Raises:
        QuarantineError: TOO_LONG, NOT_UTF8, CORRUPT_RECORD, MISSING_FIELD or EMPTY.
    """
    place = f"line {number + 1}"
    if line is None:
        raise QuarantineError(
            Reason.TOO_LONG, f"{place} must not exceed {_MAX_LINE_BYTES >> 10} KiB"
        )
    try:
        text = (line.removeprefix(_BOM) if number == 0 else line).decode()
    except UnicodeDecodeError as error:
        raise not_utf8(place, error) from error
    fields = text.removesuffix("\r").split("\t")
    if len(fields) != 2:
        raise QuarantineError(
            Reason.CORRUPT_RECORD,
            f"{place} must be a caption and a URL with a tab between them, got"
            f" {len(fields)} fields",
        )
    caption, image = fields
    if caption.startswith(_HTTP) and not image.startswith(_HTTP):
        image, caption = fields
    if not image:
        raise QuarantineError(Reason.MISSING_FIELD, f"{place} must have a URL")
    if not caption:
        raise QuarantineError(Reason.EMPTY, f"{place}: a caption must not be empty")
    return image, caption


def _pair(
    number: int,
    line: bytes | None,
    folder: str,
    shared: Callable[[], frozenset[int]],
) -> tuple[str, str]:
    """Returns the image's name in its folder, and the caption."""
    image, caption = _fields(number, line)
    if image.startswith(_HTTP):
        name = image_folder.base_name(image)
        if not name:
            raise QuarantineError(
                Reason.MISSING_IMAGE,
                f"line {number + 1}: a URL must end in the image's name, got {image!r}",
            )
        if _hash(name) in shared():
            raise QuarantineError(
                Reason.MISSING_IMAGE,
                f"line {number + 1}: the images of two URLs cannot both be {name!r}, as"
                f" {image!r} and another line would have it",
            )
    else:
        name = image.removeprefix(_FILE).removeprefix(folder.rstrip("/") + "/")
    return image_folder.check_name(name), caption


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


@functools.lru_cache(maxsize=4)
def _shared_names(path: str, version: tuple[int, str]) -> frozenset[int]:
    """Returns the hashes of base names that different URLs of a file have.

    Reads the whole file, once a process while it stays the same; holds 16 bytes a line.
    """
    names, urls = array.array("Q"), array.array("Q")
    try:
        for number, line in _lines(base.Partition(path=path, relative_path="")):
            try:
                image, _ = _fields(number, line)
            except QuarantineError:  # told when the line is read
                continue
            if image.startswith(_HTTP):
                names.append(_hash(image_folder.base_name(image)))
                urls.append(_hash(image))
    except compressed.CorruptStreamError:  # likewise
        pass
    pairs = np.unique(np.array([names, urls], np.uint64).T, axis=0)
    found, counts = np.unique(pairs[:, 0], return_counts=True)
    return frozenset(found[counts > 1].tolist())

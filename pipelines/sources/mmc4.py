"""MMC4: JSON lines of sentences and the images matched to them, interleaved pages.

A line has `text_list`, a page's sentences, and `image_info`, a list of images of which
each has `image_name`, `raw_url` and `matched_text_index`, its sentence (allenai/mmc4,
README.md, at 1f51091). An image stands before its sentence, images of one sentence in
their own order, as mlfoundations/open_flamingo reads the set (open_flamingo/train/
data.py, at 0086047); sentences are joined by a space, as there. All images count, also
those of a low `matched_sim`.

Images are read from the folder `images` beside the file, or where the option `images`
says, under `image_name`, as the set's own downloader names them. A document's
id ends in its line's number, from 0. `pages.py` says what a page becomes.
"""

import contextlib
import zipfile
from collections.abc import Iterator

import msgspec

from gato.pipelines.sources import base, compressed, image_folder
from gato.pipelines.sources.annotation_json import decode_entry, missing
from gato.pipelines.sources.image_folder import NamedImage, Pending, PicturedSource
from gato.pipelines.sources.line_ranges import (
    items_of_lines,
    open_range,
    shared_line_ranges,
)
from gato.pipelines.sources.pages import page
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError

# Bytes of a partition: about 1,000 pages, whose images are read too.
PARTITION_BYTES = 8 << 20

_MAX_LINE_BYTES = 64 << 20
_BOM = b"\xef\xbb\xbf"
_BETWEEN_SENTENCES = " "


class _Image(msgspec.Struct):
    image_name: str | None = None
    raw_url: str | None = None
    matched_text_index: int | None = None


class _Page(msgspec.Struct):
    text_list: list[str] | None = None
    image_info: list[_Image] | None = None


_PAGE = msgspec.json.Decoder(_Page)


class Mmc4Source(PicturedSource):
    """Interleaved pages of JSON lines; partitions are ranges of lines."""

    def files(self, path: str) -> list[str]:
        """Returns the JSON lines.

        Raises:
            UsageError: If it is a folder or has another suffix.
        """
        name = path.removesuffix(compressed.compression(path)).removesuffix(".zip")
        if files.is_folder(path) or not name.endswith(".jsonl"):
            raise UsageError(
                f"{path}: a path of format mmc4 is a .jsonl (and .zip, .gz or .zst"
                " after it), such as docs_no_face_shard_0_v3.jsonl.zip"
            )
        return [path]

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Splits an uncompressed file into ranges of lines."""
        return shared_line_ranges(
            path,
            relative_path,
            self.folder(path, dataset),
            is_plain=path.endswith(".jsonl"),
            most_bytes=PARTITION_BYTES,
        )

    def pending(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Pending | Unreadable]:
        """Yields each line's page, or the verdict on it."""
        return items_of_lines(partition, _lines(partition), _page)


SOURCE: base.Source = Mmc4Source()


def _lines(partition: base.Partition) -> Iterator[tuple[int, bytes | None]]:
    is_zip = partition.path.endswith(".zip")
    with _open_zip(partition.path) if is_zip else open_range(partition) as pieces:
        yield from compressed.lines(pieces, partition.first_number, _MAX_LINE_BYTES)


@contextlib.contextmanager
def _open_zip(path: str) -> Iterator[Iterator[bytes]]:
    with files.open_read(path) as file, zipfile.ZipFile(file) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
        if len(names) != 1:
            raise compressed.CorruptStreamError(
                f"a .zip must hold the one .jsonl, this has {len(names)} files"
            )
        with archive.open(names[0]) as member:
            yield compressed.chunks(member, "")


def _page(number: int, line: bytes | None, item_id: str) -> Pending:
    place = f"line {number + 1}"
    if line is None:
        raise QuarantineError(
            Reason.TOO_LONG, f"{place} must not exceed {_MAX_LINE_BYTES >> 20} MiB"
        )
    raw = msgspec.Raw(line.removeprefix(_BOM) if number == 0 else line)
    entry = decode_entry(_PAGE, raw, place)
    if entry.text_list is None:
        raise missing(place, "text_list")
    if entry.image_info is None:
        raise missing(place, "image_info")
    before: dict[int, list[NamedImage]] = {}
    for index, image in enumerate(entry.image_info):
        name, at = _image(
            image, len(entry.text_list), f"image_info[{index}] of {place}"
        )
        before.setdefault(at, []).append(NamedImage(name))
    parts: list[str | NamedImage] = []
    for index, sentence in enumerate(entry.text_list):
        parts += before.get(index, [])
        parts.append(sentence)
    return page(item_id, number, parts, _BETWEEN_SENTENCES)


def _image(image: _Image, num_texts: int, place: str) -> tuple[str, int]:
    """Returns an image's name, and the place of its sentence."""
    name = image.image_name
    if name is None and image.raw_url is not None:
        name = image_folder.base_name(image.raw_url)
    if name is None:
        raise missing(place, "image_name")
    index = image.matched_text_index
    if index is None:
        raise missing(place, "matched_text_index")
    if not 0 <= index < num_texts:
        raise QuarantineError(
            Reason.CORRUPT_RECORD,
            f"{place}: matched_text_index must be that of one of {num_texts} texts, got"
            f" {index}",
        )
    return image_folder.check_name(name), index

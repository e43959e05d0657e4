"""COCO captions: `annotations` with a caption and an `image_id`, `images` with names.

One document is one annotation, in the file's order; its id is the annotation's. The
images lie in the folder `images` beside the JSON, or where the option `images` says,
under the `file_name` of their entries. Without pycocotools: it would hold every entry
as a dict.
"""

import dataclasses
import functools
from collections.abc import Iterator

import msgspec

from gato.pipelines.sources import annotation_json, base, image_folder
from gato.pipelines.sources.annotation_json import decode_entry, missing
from gato.pipelines.sources.image_folder import NamedImage, Pending, PicturedSource
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import TextPart, Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError

# Annotations of a partition: with images of 150 KB, as COCO's are, about 600 MB.
PARTITION_ITEMS = 4096


class _Lists(msgspec.Struct):
    images: list[msgspec.Raw] | None = None
    annotations: list[msgspec.Raw] | None = None


class _Image(msgspec.Struct):
    id: int | str | None = None
    file_name: str | None = None


class _Id(msgspec.Struct):
    id: int | str | None = None


class _Annotation(msgspec.Struct):
    id: int | str | None = None
    image_id: int | str | None = None
    caption: str | None = None


_IMAGE = msgspec.json.Decoder(_Image)
_ID = msgspec.json.Decoder(_Id)
_ANNOTATION = msgspec.json.Decoder(_Annotation)


@dataclasses.dataclass(frozen=True)
class _Captions:
    """A file's annotations, undecoded, and the names of its images.

    Attributes:
        annotations: In the file's order.
        repeated: Places of those whose id an earlier one has.
        names: Of the images by id, or the verdict on an image.
        unknown: What is wrong with the first image entry that cannot be read.
    """

    annotations: list[msgspec.Raw]
    repeated: frozenset[int]
    names: dict[str, str | QuarantineError]
    unknown: str


class CocoSource(PicturedSource):
    """Captioned images; partitions are ranges of annotations."""

    def files(self, path: str) -> list[str]:
        """Returns the captions JSON.

        Raises:
            UsageError: If it is a folder or has another suffix.
        """
        if files.is_folder(path) or not path.endswith(".json"):
            raise UsageError(
                f"{path}: a path of format coco is a captions JSON, such as"
                " annotations/captions_val2014.json"
            )
        return [path]

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Splits the annotations into ranges."""
        try:
            count = len(_captions(path).annotations)
        except QuarantineError:  # read() tells
            return [base.Partition(path=path, relative_path=relative_path)]
        folder = self.folder(path, dataset)
        size = files.size(path) + image_folder.num_bytes(folder)
        return base.item_ranges(path, relative_path, count, size, PARTITION_ITEMS)

    def pending(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Pending | Unreadable]:
        """Yields each annotation's pair, or the verdict on it."""
        return _items(partition)


SOURCE: base.Source = CocoSource()


def _captions(path: str) -> _Captions:
    """Returns a file's content, parsed once a process while it stays the same.

    Raises:
        QuarantineError: CORRUPT_FILE or MISSING_FIELD.
    """
    return _parsed(path, annotation_json.version(path))


@functools.lru_cache(maxsize=2)
def _parsed(path: str, version: tuple[int, str]) -> _Captions:
    lists = annotation_json.load_lists(path, _Lists)
    annotations = annotation_json.required(lists.annotations, "annotations", path)
    images = annotation_json.required(lists.images, "images", path)
    names: dict[str, str | QuarantineError] = {}
    unknown = ""
    for number, raw in enumerate(images):
        try:
            image = decode_entry(_IMAGE, raw, f"images[{number}]")
            if image.id is None:
                raise missing(f"images[{number}]", "id")
        except QuarantineError as error:
            unknown = unknown or f"; {error.detail}"
            continue
        name = _image_name(image, f"images[{number}]")
        if names.setdefault(str(image.id), name) != name:
            names[str(image.id)] = QuarantineError(
                Reason.CORRUPT_RECORD,
                f"an image must have one entry, {image.id!r} has another as"
                f" images[{number}]",
            )
    ids = annotation_json.all_ids(annotations, _ID, lambda entry: entry.id)
    return _Captions(annotations, annotation_json.repeated(ids), names, unknown)


def _image_name(image: _Image, place: str) -> str | QuarantineError:
    if image.file_name is None:
        return missing(place, "file_name")
    try:
        return image_folder.check_name(image.file_name)
    except QuarantineError as error:
        return error


def _items(partition: base.Partition) -> Iterator[Pending | Unreadable]:
    try:
        captions = _captions(partition.path)
    except QuarantineError as error:
        yield base.unreadable(partition, None, partition.first_number, error)
        return
    numbers = range(len(captions.annotations))[partition.start : partition.stop]
    for number in numbers:
        item_id = f"{partition.relative_path}/{number}"
        place = f"annotations[{number}]"
        try:
            entry = decode_entry(_ANNOTATION, captions.annotations[number], place)
            if entry.id is None:
                raise missing(place, "id")
            item_id = f"{partition.relative_path}/{entry.id}"
            if number in captions.repeated:
                raise QuarantineError(
                    Reason.CORRUPT_RECORD,
                    f"an annotation's id must be its own, {place} has that of an"
                    f" earlier one: {entry.id!r}",
                )
            yield Pending(
                document_id=item_id,
                number=number,
                parts=(
                    NamedImage(_image_of(entry, captions, place)),
                    TextPart(text=_caption(entry, place)),
                ),
            )
        except QuarantineError as error:
            yield base.unreadable(partition, item_id, number, error)


def _caption(entry: _Annotation, place: str) -> str:
    if entry.caption is None:
        raise missing(place, "caption")
    if not entry.caption:
        raise QuarantineError(Reason.EMPTY, f"{place}: a caption must not be empty")
    return entry.caption


def _image_of(entry: _Annotation, captions: _Captions, place: str) -> str:
    if entry.image_id is None:
        raise missing(place, "image_id")
    name = captions.names.get(str(entry.image_id))
    if name is None:
        raise QuarantineError(
            Reason.MISSING_IMAGE,
            f"{place} must name an image of the list images, none there has the id"
            f" {entry.image_id!r}{captions.unknown}",
        )
    if isinstance(name, QuarantineError):
        raise name
    return name

"""Images of a folder by name, as the formats need them whose images lie in files.

Names come from the data, so none may leave the folder. Images of a store are fetched
a few at a time, ahead of use; an image that stands in several items, one after the
other, is read once.
"""

import abc
import collections
import concurrent.futures
import dataclasses
import errno
import functools
import threading
from collections.abc import Iterator
from typing import Literal

from gato.pipelines.sources import base
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Document, ImagePart, TextPart, Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError

_SUFFIXES = ("jpg", "jpeg", "png", "webp")
# A larger file is no image that is meant, and would have to be held in memory.
_MAX_BYTES = 64 << 20
# A buffer for the largest would take longer to get than most images to read.
_FIRST_BYTES = 256 << 10
_READS_AHEAD = 8

_Image = bytes | QuarantineError


@dataclasses.dataclass(frozen=True)
class NamedImage:
    """An image that is yet to be read.

    Attributes:
        name: Relative to the folder, if that is known.
        stem: Its name without suffix, where `name` is not known or not there.
    """

    name: str | None
    stem: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pending:
    """A document whose images are yet to be read.

    Attributes:
        document_id: Its id.
        number: Its place in the file.
        parts: Texts and images in order.
        is_page: Whether it is an interleaved page.
    """

    document_id: str
    number: int
    parts: tuple[TextPart | NamedImage, ...]
    is_page: bool = False


class PicturedSource(abc.ABC):
    """What the readers of documents share whose images lie in a folder."""

    items: Literal["episodes", "documents"] = "documents"
    order: Literal["number", "file"] = "file"

    def folder(self, path: str, dataset: Dataset) -> str:
        """Returns the data set's `images`, else the folder `images` beside `path`."""
        return dataset.images or beside(path, "images")

    def beside(self, path: str, dataset: Dataset) -> list[str]:
        """Returns what is read besides a path: the folder of its images.

        Raises:
            UsageError: If it is not there.
        """
        folder = self.folder(path, dataset)
        if not files.is_folder(folder):
            raise UsageError(
                f"{path}: its images must lie in a folder, and {folder!r} is none. Give"
                f" data set {dataset.name!r} images: FOLDER"
            )
        return [folder]

    @abc.abstractmethod
    def pending(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Pending | Unreadable]:
        """Yields a partition's documents without their images, or the verdicts."""

    def read(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Document | Unreadable]:
        """Yields a partition's documents, or the verdicts on them."""
        folder = self.folder(partition.path, dataset)
        items = self.pending(partition, dataset)
        yield from read_images(items, folder, partition.path)

    def read_texts(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Document | Unreadable]:
        """Yields the documents' texts alone, or the verdicts on them."""
        items = self.pending(partition, dataset)
        yield from without_images(items, partition.path)


def beside(path: str, name: str) -> str:
    """Returns the path of what lies in the same folder."""
    folder, slash, _ = path.rpartition("/")
    return folder + slash + name


def check_name(name: str) -> str:
    """Returns a name that stays inside its folder.

    Raises:
        QuarantineError: UNSAFE_PATH.
    """
    parts = name.replace("\\", "/").split("/")
    if not parts[0] or ".." in parts or ":" in parts[0] or "\0" in name:
        raise leaves_folder(name)
    return name


def leaves_folder(name: str) -> QuarantineError:
    """Returns the verdict on a name that leaves its folder."""
    return QuarantineError(
        Reason.UNSAFE_PATH, f"an image must lie inside its folder, got {name!r}"
    )


def base_name(url: str) -> str:
    """Returns the name under which an image of a URL is kept, else `url` itself.

    >>> base_name("https://a.org/b/c.jpg?w=3"), base_name("b/c.jpg")
    ('c.jpg', 'b/c.jpg')
    """
    if not url.startswith(("http://", "https://")):
        return url
    path = url.split("://", 1)[1].split("#", 1)[0].split("?", 1)[0]
    return path.rpartition("/")[2]


def with_images(partitions: list[base.Partition], folder: str) -> list[base.Partition]:
    """Shares the bytes of a folder's images among the partitions that need them."""
    images = _num_bytes_once(folder)
    total = sum(part.num_bytes for part in partitions) or 1
    before = 0
    shared = []
    for part in partitions:
        after = before + part.num_bytes
        more = images * after // total - images * before // total
        shared.append(dataclasses.replace(part, num_bytes=part.num_bytes + more))
        before = after
    return shared


@functools.lru_cache(maxsize=8)
def _num_bytes_once(folder: str) -> int:
    # Thousands of files may share a folder of millions, and this only shows progress.
    return num_bytes(folder)


def num_bytes(folder: str) -> int:
    """Returns the bytes of all files below a folder; 0 if it is not there."""
    if not files.is_folder(folder):
        return 0
    return sum(size for size, _ in files.versions_below(folder).values())


def read_images(
    items: Iterator[Pending | Unreadable], folder: str, source: str
) -> Iterator[Document | Unreadable]:
    """Yields each item with its image, or the verdict on it.

    Args:
        items: In order.
        folder: Of the images.
        source: The path that items are read from.
    """
    reads = _forward if files.is_local(folder) else _ahead
    for item, images in reads(items, _Folder(folder)):
        if isinstance(item, Unreadable):
            yield item
            continue
        try:
            parts = tuple(_parts(item, images))
        except QuarantineError as error:
            yield Unreadable(
                source=source,
                item_id=item.document_id,
                number=item.number,
                reason=error.reason,
                detail=error.detail,
            )
        else:
            yield _document(item, source, parts)


def _parts(item: Pending, images: list[_Image]) -> Iterator[TextPart | ImagePart]:
    """Yields an item's parts, each image's bytes in its place.

    Raises:
        QuarantineError: The verdict on the first image that has one.
    """
    data = iter(images)
    for part in item.parts:
        if isinstance(part, TextPart):
            yield part
        elif isinstance(found := next(data), QuarantineError):
            raise found
        else:
            yield ImagePart(data=found)


def without_images(
    items: Iterator[Pending | Unreadable], source: str
) -> Iterator[Document | Unreadable]:
    """Yields each item with its texts alone."""
    for item in items:
        if isinstance(item, Unreadable):
            yield item
        else:
            texts = [part for part in item.parts if isinstance(part, TextPart)]
            yield _document(item, source, tuple(texts))


def _document(
    item: Pending, source: str, parts: tuple[TextPart | ImagePart, ...]
) -> Document:
    return Document(
        document_id=item.document_id,
        source=source,
        number=item.number,
        parts=parts,
        is_page=item.is_page,
    )


class _Folder:
    """Reads images by name, or by name without suffix."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._by_stem: dict[str, str] | None = None
        self._lock = threading.Lock()

    def read(self, image: NamedImage) -> _Image:
        """Returns an image's bytes, or why there are none."""
        data = None if image.name is None else self._content(image.name)
        if data is None and image.stem is not None:
            name = self._names().get(image.stem)
            data = None if name is None else self._content(name)
        if data is None:
            known = (image.name, image.stem and f"{image.stem}.*")
            names = " or ".join(repr(name) for name in known if name)
            return QuarantineError(
                Reason.MISSING_IMAGE, f"an image must be there, {names} is not"
            )
        if len(data) > _MAX_BYTES:
            return QuarantineError(
                Reason.IMAGE_TOO_LARGE,
                f"an image must not exceed {_MAX_BYTES >> 20} MiB,"
                f" {image.name or image.stem!r} does",
            )
        return data

    def _content(self, name: str) -> bytes | None:
        """Returns up to a byte more than an image may have; None if it is not there."""
        try:
            with files.open_read(files.join(self._path, name)) as file:
                data = file.read(_FIRST_BYTES)
                if len(data) == _FIRST_BYTES:
                    data += file.read(_MAX_BYTES + 1 - _FIRST_BYTES)
                return data
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except OSError as error:
            # What fails otherwise is the machine or the store, not the data.
            if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
                return None
            raise

    def _names(self) -> dict[str, str]:
        """Returns the images right in the folder by name without suffix.

        Of several it is the first in the order of `_SUFFIXES`.
        """
        with self._lock:
            if self._by_stem is None:
                found: dict[str, tuple[int, str]] = {}
                for name in files.list_folder(self._path):
                    stem, _, suffix = name.rpartition(".")
                    if stem and suffix.lower() in _SUFFIXES:
                        entry = (_SUFFIXES.index(suffix.lower()), name)
                        found[stem] = min(entry, found.get(stem, entry))
                self._by_stem = {stem: name for stem, (_, name) in found.items()}
            return self._by_stem


_Read = Iterator[tuple[Pending | Unreadable, list[_Image]]]


def _images(item: Pending | Unreadable) -> list[NamedImage]:
    parts = item.parts if isinstance(item, Pending) else ()
    return [part for part in parts if isinstance(part, NamedImage)]


def _forward(items: Iterator[Pending | Unreadable], folder: _Folder) -> _Read:
    last, data = NamedImage(None), b""
    for item in items:
        read: list[_Image] = []
        for image in _images(item):
            if image != last:
                last, data = image, folder.read(image)
            read.append(data)
        yield item, read


def _ahead(items: Iterator[Pending | Unreadable], folder: _Folder) -> _Read:
    """Reads the next images while the first is used; holds at most a few."""
    waiting: collections.deque[
        tuple[Pending | Unreadable, list[concurrent.futures.Future[_Image]]]
    ] = collections.deque()
    last = NamedImage(None)
    future: concurrent.futures.Future[_Image] = concurrent.futures.Future()
    num_images = 0
    pool = concurrent.futures.ThreadPoolExecutor(_READS_AHEAD)
    try:
        for item in items:
            futures = []
            for image in _images(item):
                if image != last:
                    last, future = image, pool.submit(folder.read, image)
                futures.append(future)
            waiting.append((item, futures))
            num_images += max(1, len(futures))
            while num_images > _READS_AHEAD:
                first, done = waiting.popleft()
                num_images -= max(1, len(done))
                yield first, [each.result() for each in done]
        while waiting:
            first, done = waiting.popleft()
            yield first, [each.result() for each in done]
    finally:
        pool.shutdown(cancel_futures=True)

"""WebDataset tars as (image, caption) documents, without webdataset itself.

A sample is the run of members with one key: the path up to the first dot of its last
component, as in `000/17.jpg`, `000/17.txt`, `000/17.json`. Members without a key, or
with other extensions, are no part of a pair. A tar may be gzip or zstd compressed.

The caption is the `.txt`, else `caption` of the `.json`; with `text_key`, it is the
member with that extension, else that key of the `.json`.
"""

import contextlib
import dataclasses
import io
import json
from collections.abc import Iterator
from typing import IO, Literal

from gato.pipelines.sources import base, compressed, tar
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Document, ImagePart, TextPart, Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError
from gato.schemas.hashing import fingerprint

_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst")
_IMAGES = ("jpg", "jpeg", "png", "webp")
# A larger member is no image or caption, and would have to be held in memory.
_MAX_MEMBER_BYTES = 64 << 20


@dataclasses.dataclass
class _Sample:
    """The members of one key that may be needed, with their data or a verdict."""

    key: str
    number: int
    data: dict[str, bytes] = dataclasses.field(default_factory=dict)
    verdict: QuarantineError | None = None

    def condemn(self, reason: Reason, detail: str) -> None:
        """Keeps the first verdict."""
        self.verdict = self.verdict or QuarantineError(reason, detail)


class WebdatasetSource:
    """Image and caption pairs of tars; partitions are ranges of members."""

    items: Literal["episodes", "documents"] = "documents"
    order: Literal["number", "file"] = "file"

    def files(self, path: str) -> list[str]:
        """Returns the path itself.

        Raises:
            UsageError: If it is a folder or has another suffix.
        """
        if files.is_folder(path):
            raise UsageError(
                f"{path}: a path of format webdataset is a tar, this is a folder. Give"
                f" a glob such as {files.join(path, '*.tar')}"
            )
        if not path.endswith(_SUFFIXES):
            raise UsageError(
                f"{path}: a path of format webdataset ends in one of"
                f" {', '.join(_SUFFIXES)}"
            )
        return [path]

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Splits an uncompressed tar at samples into ranges of about 256 MiB."""
        size = 0
        with contextlib.suppress(OSError):  # it vanished; read() tells
            size = files.size(path)
        whole = base.Partition(path=path, relative_path=relative_path, num_bytes=size)
        if _compression(path) or size <= base.MAX_PARTITION_BYTES:
            return [whole]
        try:
            starts = _sample_starts(path)
        except (OSError, tar.CorruptTarError):  # read() tells
            return [whole]
        stops = [start for start, _ in starts[1:]]
        return [
            dataclasses.replace(
                whole,
                start=start,
                stop=stop,
                first_number=number,
                num_bytes=(size if stop is None else stop) - start,
            )
            for (start, number), stop in zip(starts, [*stops, None], strict=True)
        ]

    def read(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Document | Unreadable]:
        """Yields each sample's pair, or the verdict on it."""
        seen: set[bytes] = set()
        sample = _Sample(key="", number=partition.first_number - 1)
        wanted = _wanted(dataset)
        is_cut = False  # whether the damage is inside the last sample
        try:
            with _open(partition.path) as file:
                for member in tar.members(file, partition.start, partition.stop):
                    if (split := _split_name(member)) is None:
                        continue
                    key, extension = split
                    if key != sample.key or sample.number < partition.first_number:
                        yield from _finished(partition, sample, dataset)
                        is_cut = False
                        sample = _next_sample(key, sample.number + 1, seen)
                    is_cut = True
                    _take(sample, member, extension, wanted, file)
                    is_cut = False
            yield from _finished(partition, sample, dataset)
        except (OSError, ValueError) as error:
            yield from _damaged(partition, sample, dataset, error, is_cut)


SOURCE: base.Source = WebdatasetSource()


def _compression(path: str) -> str:
    return ".gz" if path.endswith(".tgz") else compressed.compression(path)


@contextlib.contextmanager
def _open(path: str) -> Iterator[IO[bytes] | io.RawIOBase]:
    with files.open_read(path) as file:
        suffix = _compression(path)
        if suffix:
            yield compressed.ForwardFile(compressed.chunks(file, suffix))
        else:
            yield file


def _split_name(member: tar.Member) -> tuple[str, str] | None:
    """Returns key and extension; None of what belongs to no sample."""
    if member.is_folder:
        return None
    name = member.name.removeprefix("./")
    folder, slash, last = name.rpartition("/")
    stem, dot, extension = last.partition(".")
    if not stem or not dot:
        return None
    return folder + slash + stem, extension.lower()


def _is_unsafe(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or ".." in parts or parts[0].endswith(":")


def _wanted(dataset: Dataset) -> frozenset[str]:
    captions = {"txt"} if dataset.text_key is None else {dataset.text_key.lower()}
    return frozenset({*_IMAGES, *captions, "json"})


def _next_sample(key: str, number: int, seen: set[bytes]) -> _Sample:
    sample = _Sample(key=key, number=number)
    digest = _digest(key)
    if digest in seen:
        sample.condemn(
            Reason.CORRUPT_RECORD,
            f"a tar must hold each key once, its members side by side; {key!r} stands"
            " again",
        )
    seen.add(digest)
    return sample


def _digest(key: str) -> bytes:
    # Half the memory of the keys themselves, of which a tar may have a million.
    return bytes.fromhex(fingerprint(key.encode("utf-8", "surrogateescape")))


def _take(
    sample: _Sample,
    member: tar.Member,
    extension: str,
    wanted: frozenset[str],
    file: IO[bytes] | io.RawIOBase,
) -> None:
    """Adds a member's data, or the verdict on it, to its sample."""
    if _is_unsafe(member.name):
        sample.condemn(
            Reason.UNSAFE_PATH, f"a member must stay inside the tar: {member.name!r}"
        )
    if extension not in wanted or sample.verdict is not None:
        return
    if not member.is_file:
        sample.condemn(
            Reason.UNSUPPORTED,
            f"a member must be a file, {member.name!r} is a link, device or pipe",
        )
    elif member.size > _MAX_MEMBER_BYTES:
        is_image = extension in _IMAGES
        sample.condemn(
            Reason.IMAGE_TOO_LARGE if is_image else Reason.TOO_LONG,
            f"a member must not exceed {_MAX_MEMBER_BYTES >> 20} MiB, {member.name!r}"
            f" has {member.size} bytes",
        )
    elif extension in sample.data:
        sample.condemn(
            Reason.CORRUPT_RECORD,
            f"a sample must have one member of an extension, {member.name!r} stands"
            " twice",
        )
    else:
        sample.data[extension] = member.read(file)


def _finished(
    partition: base.Partition, sample: _Sample, dataset: Dataset
) -> Iterator[Document | Unreadable]:
    """Yields what a sample is, once all its members are read."""
    if sample.number < partition.first_number:
        return  # none was begun
    try:
        yield _document(partition, sample, dataset)
    except QuarantineError as error:
        yield _unreadable(partition, sample, error)


def _damaged(
    partition: base.Partition,
    sample: _Sample,
    dataset: Dataset,
    error: Exception,
    is_cut: bool,
) -> Iterator[Document | Unreadable]:
    """Yields the last sample, if it is whole, and the verdict on the rest."""
    verdict = QuarantineError(
        Reason.CORRUPT_FILE, f"the tar cannot be read further: {error}"
    )
    for item in _finished(partition, sample, dataset):
        # What it lacks may stand behind the damage.
        lacks = isinstance(item, Unreadable) and item.reason in (
            Reason.MISSING_FIELD,
            Reason.MISSING_IMAGE,
        )
        if is_cut or lacks:
            yield _unreadable(partition, sample, verdict)
            return
        yield item
    yield Unreadable(
        source=partition.path,
        item_id=None,
        number=sample.number + 1,
        reason=verdict.reason,
        detail=verdict.detail,
    )


def _unreadable(
    partition: base.Partition, sample: _Sample, error: QuarantineError
) -> Unreadable:
    return Unreadable(
        source=partition.path,
        item_id=_item_id(partition, sample),
        number=sample.number,
        reason=error.reason,
        detail=error.detail,
    )


def _item_id(partition: base.Partition, sample: _Sample) -> str:
    # A name that is not UTF-8 holds surrogates, which no manifest can.
    key = sample.key.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return f"{partition.relative_path}/{key}"


def _document(partition: base.Partition, sample: _Sample, dataset: Dataset) -> Document:
    if sample.verdict is not None:
        raise sample.verdict
    image = next((sample.data[e] for e in _IMAGES if e in sample.data), None)
    if image is None:
        raise QuarantineError(
            Reason.MISSING_IMAGE,
            f"a sample must have one of {', '.join(_IMAGES)}, got"
            f" {', '.join(sample.data) or 'none of the members needed'}",
        )
    return Document(
        document_id=_item_id(partition, sample),
        source=partition.path,
        number=sample.number,
        parts=(ImagePart(data=image), TextPart(text=_caption(sample, dataset))),
    )


def _caption(sample: _Sample, dataset: Dataset) -> str:
    extension = "txt" if dataset.text_key is None else dataset.text_key.lower()
    if extension in sample.data and extension != "json":
        try:
            caption = sample.data[extension].decode()
        except UnicodeDecodeError as error:
            raise QuarantineError(
                Reason.NOT_UTF8, f"the .{extension} must be UTF-8: {error}"
            ) from error
    else:
        caption = _json_caption(sample, dataset.text_key or "caption")
    if not caption:
        raise QuarantineError(Reason.EMPTY, "a caption must not be empty")
    return caption


def _json_caption(sample: _Sample, key: str) -> str:
    if "json" not in sample.data:
        raise QuarantineError(
            Reason.MISSING_FIELD,
            f"a sample must have a .txt, or {key!r} in a .json; it has neither",
        )
    try:
        content = json.loads(sample.data["json"].decode())
        caption = content.get(key)
    except (ValueError, AttributeError, RecursionError) as error:
        raise QuarantineError(
            Reason.CORRUPT_RECORD, f"the .json must be one JSON object: {error!r}"
        ) from error
    if caption is None:
        raise QuarantineError(
            Reason.MISSING_FIELD, f"the .json must have the caption under {key!r}"
        )
    if not isinstance(caption, str):
        raise QuarantineError(
            Reason.WRONG_DTYPE,
            f"{key!r} of the .json must be a string, got {type(caption).__name__}",
        )
    try:
        caption.encode()
    except UnicodeEncodeError as error:
        raise QuarantineError(
            Reason.NOT_UTF8, f"{key!r} of the .json must be Unicode: {error}"
        ) from error
    return caption


def _sample_starts(path: str) -> list[tuple[int, int]]:
    """Returns (offset, number) of the sample that begins each range.

    A tar in which a key stands again is one range, whose read finds it.
    """
    seen: set[bytes] = set()
    starts = [(0, 0)]
    key = None
    number = -1
    with files.open_read(path) as file:
        for member in tar.members(file, 0, None):
            split = _split_name(member)
            if split is None or split[0] == key:
                continue
            key = split[0]
            number += 1
            digest = _digest(key)
            if digest in seen:
                return [(0, 0)]
            seen.add(digest)
            if member.offset - starts[-1][0] >= base.MAX_PARTITION_BYTES:
                starts.append((member.offset, number))
    return starts

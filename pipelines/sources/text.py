r"""Plain text, JSON lines and Parquet columns as documents.

| file | a document is | its id ends in |
|---|---|---|
| `.txt` | the file, a line or a paragraph (`document`) | the line where it begins |
| `.jsonl`, `.json` | `text_key` of a line's object (C4, Dolma) | `id`, else the line |
| `.parquet` | `text_key` of a row | `id`, else the row |

Lines and rows count from 0; all but Parquet may end in `.gz` or `.zst`. Text is taken
as stored, without the line's own end (`\n` or `\r\n`); blank lines are separators.
"""

import functools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from gato.pipelines.sources import base, compressed
from gato.pipelines.sources.line_ranges import line_ranges, open_range
from gato.pipelines.sources.parquet_rows import partition_parquet
from gato.pipelines.sources.text_parquet import read_parquet
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Document, TextPart, Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError

# A text above this, or a longer line, is more likely a wrong format than a document.
MAX_TEXT_BYTES = 64 << 20

_SUFFIX = re.compile(r"\.(txt|jsonl|json|parquet)(?:\.(?:gz|zst))?$")
_BOM = b"\xef\xbb\xbf"

# (number, text or verdict, the format's own id)
_Item = tuple[int, Any, Any]


class TextSource:
    """Documents of text files."""

    items: Literal["episodes", "documents"] = "documents"
    order: Literal["number", "file"] = "file"

    def files(self, path: str) -> list[str]:
        """Returns the path itself.

        Raises:
            UsageError: If it is a folder or has another suffix.
        """
        _kind(path)
        if files.is_folder(path):
            raise UsageError(
                f"{path}: a path of format text is a file, this is a folder. Give a"
                f" glob such as {files.join(path, '*.jsonl.gz')}"
            )
        return [path]

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Splits uncompressed lines, paragraphs and Parquet at 256 MiB.

        Raises:
            UsageError: If a large .txt leaves open what a document is.
        """
        whole = base.Partition(path=path, relative_path=relative_path)
        try:
            size = files.size(path)
        except OSError:  # it vanished; read() tells
            return [whole]
        kind = _kind(path)
        unit = _unit(kind, dataset)
        if kind == "txt" and dataset.document is None and size > MAX_TEXT_BYTES:
            raise UsageError(
                f"{path}: a .txt above {MAX_TEXT_BYTES >> 20} MiB must say what a"
                f" document is, this has {size >> 20} MiB. Give data set"
                f" {dataset.name!r} document: line, paragraph or file"
            )
        if kind == "parquet":
            try:
                return partition_parquet(path, relative_path)
            except Exception:  # whatever pyarrow raises of a damaged file; read() tells
                pass
        elif unit != "file" and not compressed.compression(path):
            try:
                return list(line_ranges(path, relative_path, size, unit))
            except OSError:  # it vanished; read() tells
                pass
        return [base.Partition(path=path, relative_path=relative_path, num_bytes=size)]

    def read(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Document | Unreadable]:
        """Yields the documents of a file, or of a range of it."""
        number = partition.first_number
        try:
            for number, text, own_id in _items(partition, dataset):
                yield _document(partition, number, text, own_id)
                number += 1
        except Exception as error:  # whatever damaged bytes raise in the libraries
            yield Unreadable(
                source=partition.path,
                item_id=None,
                number=number,
                task=None,
                agent=None,
                reason=Reason.CORRUPT_FILE,
                detail=f"the file cannot be read from item {number} on: {error!r}",
            )


SOURCE: base.Source = TextSource()


def _kind(path: str) -> str:
    match = _SUFFIX.search(path)
    if match is None or (match[1] == "parquet" and compressed.compression(path)):
        raise UsageError(
            f"{path}: a path of format text ends in .txt, .jsonl or .json (and .gz or"
            " .zst after it), or in .parquet"
        )
    return match[1]


def _unit(kind: str, dataset: Dataset) -> Literal["file", "line", "paragraph"]:
    return (dataset.document or "file") if kind == "txt" else "line"


def _items(partition: base.Partition, dataset: Dataset) -> Iterator[_Item]:
    kind = _kind(partition.path)
    text_key = dataset.text_key or "text"
    if kind == "parquet":
        yield from read_parquet(partition, text_key)
        return
    with open_range(partition) as pieces:
        if _unit(kind, dataset) == "file":
            yield 0, _whole(pieces, dataset), None
            return
        lines = compressed.lines(pieces, partition.first_number, MAX_TEXT_BYTES)
        if kind != "txt":
            yield from _records(lines, text_key)
        elif dataset.document == "line":
            yield from _nonblank(lines)
        else:
            yield from _paragraphs(lines)


def _whole(pieces: Iterator[bytes], dataset: Dataset) -> bytes | QuarantineError:
    held = []
    length = 0
    for piece in pieces:
        length += len(piece)
        if dataset.document is None and length > MAX_TEXT_BYTES:
            return _too_long("a .txt whose data set does not choose `document`")
        held.append(piece)
    return b"".join(held)


def _too_long(what: str) -> QuarantineError:
    return QuarantineError(
        Reason.TOO_LONG,
        f"{what} must not exceed {MAX_TEXT_BYTES >> 20} MiB; this one does",
    )


def _nonblank(lines: Iterator[tuple[int, bytes | None]]) -> Iterator[_Item]:
    for number, line in lines:
        if line is None:
            yield number, _too_long("a line"), None
        elif line and not line.isspace():
            yield number, line.removesuffix(b"\r"), None


def _paragraphs(lines: Iterator[tuple[int, bytes | None]]) -> Iterator[_Item]:
    """Yields runs of lines between blank ones, with their inner line ends."""
    first = length = 0
    held: list[bytes] = []
    for number, line in lines:
        if line is not None and (not line or line.isspace()):
            if length:
                yield first, _joined(held, length), None
            held, length = [], 0
            continue
        if not length:
            first = number
        length += MAX_TEXT_BYTES + 1 if line is None else len(line) + 1
        if line is None or length > MAX_TEXT_BYTES + 1:
            held = []
        else:
            held.append(line)
    if length:
        yield first, _joined(held, length), None


def _joined(held: list[bytes], length: int) -> bytes | QuarantineError:
    if length > MAX_TEXT_BYTES + 1:
        return _too_long("a paragraph")
    return b"\n".join(held).removesuffix(b"\r")


def _records(
    lines: Iterator[tuple[int, bytes | None]], text_key: str
) -> Iterator[_Item]:
    good = _reader_of_good(text_key)
    for number, line in lines:
        if line is None:
            yield number, _too_long("a line"), None
        elif (record := good(line)) is not None:
            yield number, *record
        elif line and not line.isspace():
            yield number, *_record(number, line, text_key)


@functools.lru_cache(maxsize=8)
def _reader_of_good(text_key: str) -> Callable[[bytes], tuple[str, Any] | None]:
    """Returns what gives text and id of a good line, three times as fast as `json`.

    It decodes nothing else, and leaves every line that it refuses to `json`, which
    takes NaN and lone surrogates in other fields, and says what is wrong. The other way
    round, it takes numbers of over 4,300 digits there, which Python does not.
    """
    if text_key == "id":
        return lambda line: None
    decode = msgspec.json.Decoder(
        msgspec.defstruct(
            "Record",
            [("text", str | None, None), ("own_id", Any, None)],
            rename={"text": text_key, "own_id": "id"},
        )
    ).decode

    def good(line: bytes) -> tuple[str, Any] | None:
        try:
            record: Any = decode(line)
            # What is skipped must be UTF-8 too.
            if record.text and (line.isascii() or line.decode()):
                return record.text, record.own_id
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            pass
        return None

    return good


def _record(number: int, line: bytes, text_key: str) -> tuple[Any, Any]:
    """Returns the text, or the verdict, and the record's own id."""
    try:
        decoded = (line.removeprefix(_BOM) if number == 0 else line).decode()
        record = json.loads(decoded)
    except UnicodeDecodeError as error:
        return _not_utf8(f"line {number + 1}", error), None
    except (ValueError, RecursionError) as error:
        return QuarantineError(
            Reason.CORRUPT_RECORD,
            f"line {number + 1} must be one JSON object: {error}",
        ), None
    if not isinstance(record, dict):
        return QuarantineError(
            Reason.CORRUPT_RECORD,
            f"line {number + 1} must be one JSON object, got {type(record).__name__}",
        ), None
    if record.get(text_key) is None:
        return QuarantineError(
            Reason.MISSING_FIELD,
            f"line {number + 1} must have {text_key!r} (text_key), got"
            f" {', '.join(map(repr, list(record)[:10])) or 'nothing'}",
        ), record.get("id")
    return record[text_key], record.get("id")


def _not_utf8(place: str, error: UnicodeError) -> QuarantineError:
    return QuarantineError(Reason.NOT_UTF8, f"{place} must be UTF-8: {error}")


def _checked(text: Any, place: str) -> str | QuarantineError:
    """Returns the text as str, or the verdict on it."""
    if isinstance(text, QuarantineError):
        return text
    if text is None:
        return QuarantineError(Reason.MISSING_FIELD, f"{place} must not be null")
    if not isinstance(text, str | bytes):
        return QuarantineError(
            Reason.WRONG_DTYPE, f"{place} must be a string, got {type(text).__name__}"
        )
    if not text:
        return QuarantineError(Reason.EMPTY, f"{place} must not be empty")
    try:
        if isinstance(text, bytes):
            return text.decode()
        if not text.isascii():
            text.encode()  # JSON can write lone surrogates
    except UnicodeError as error:
        return _not_utf8(place, error)
    return text


def _document(
    partition: base.Partition, number: int, text: Any, own_id: Any
) -> Document | Unreadable:
    has_id = isinstance(own_id, str | int) and not isinstance(own_id, bool)
    name = own_id if has_id and own_id != "" else number
    item_id = f"{partition.relative_path}/{name}"
    is_row = partition.path.endswith(".parquet")
    place = f"the text of row {number}" if is_row else f"the text of line {number + 1}"
    checked = _checked(text, place)
    if isinstance(checked, QuarantineError):
        return Unreadable(
            source=partition.path,
            item_id=item_id,
            number=number,
            reason=checked.reason,
            detail=checked.detail,
        )
    return Document(
        document_id=item_id,
        source=partition.path,
        number=number,
        parts=(TextPart(text=checked),),
    )

"""Entries of a JSON file that holds one object with long lists, as COCO's and VQA's do.

A list is cut into its entries' bytes, which are decoded one by one with msgspec: a bad
entry costs one, fields that are not read cost nothing, and a list of 443,000 entries is
never a list of Python dicts. The file's bytes are held while its entries are.
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from gato.schemas import files
from gato.schemas.errors import QuarantineError, Reason

_BOM = b"\xef\xbb\xbf"
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]|(?P<lone>u[dD][89a-fA-F]..)|.)", re.DOTALL
)
_T = TypeVar("_T")


def load_lists(path: str, type_: type[_T]) -> _T:
    """Returns the file's object as a struct whose lists are of `msgspec.Raw`.

    Args:
        path: Local path or URL.
        type_: A `msgspec.Struct`; what it does not name is skipped.

    Raises:
        QuarantineError: CORRUPT_FILE.
    """
    try:
        return _decoded(files.read_bytes(path), type_)
    except (OSError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise QuarantineError(
            Reason.CORRUPT_FILE,
            f"{_name(path)} must be one JSON object with the format's lists: {error}",
        ) from error


def _decoded(data: bytes, type_: type[_T]) -> _T:
    body = memoryview(data)[len(_BOM) * data.startswith(_BOM) :]
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # msgspec refuses a lone surrogate even in what it skips. As bytes that are no
        # UTF-8 it costs only the entry where it stands.
        marked = _ESCAPE.sub(lambda m: b"\xff" * 6 if m["lone"] else m[0], body)
        return msgspec.json.decode(marked, type=type_)


def required(entries: list[msgspec.Raw] | None, key: str, path: str) -> Any:
    """Returns a list that the file must have.

    Raises:
        QuarantineError: MISSING_FIELD.
    """
    if entries is None:
        raise QuarantineError(
            Reason.MISSING_FIELD, f"{_name(path)} must have the list {key!r}"
        )
    return entries


def decode_entry(decoder: msgspec.json.Decoder[_T], raw: msgspec.Raw, place: str) -> _T:
    """Returns one entry of a list.

    Args:
        decoder: Of a struct all of whose fields may be missing.
        raw: The entry's bytes.
        place: Where it stands, for messages, as `questions[3]`.

    Raises:
        QuarantineError: CORRUPT_RECORD, NOT_UTF8 or WRONG_DTYPE.
    """
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        is_object = bytes(raw).lstrip().startswith(b"{")
        raise QuarantineError(
            Reason.WRONG_DTYPE if is_object else Reason.CORRUPT_RECORD,
            f"{place}: {error}",
        ) from error
    except UnicodeError as error:
        raise not_utf8(place, error) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise QuarantineError(
            Reason.CORRUPT_RECORD, f"{place} must be a JSON object: {error}"
        ) from error


def all_ids(
    entries: list[msgspec.Raw],
    decoder: msgspec.json.Decoder[_T],
    id_of: Callable[[_T], int | str | None],
) -> list[str | None]:
    """Returns the id of each entry as text; None where it has none."""
    ids: list[str | None] = []
    for raw in entries:
        try:
            found = id_of(decode_entry(decoder, raw, ""))
        except QuarantineError:  # told when the entry is read
            found = None
        ids.append(None if found is None else str(found))
    return ids


def repeated(ids: list[str | None]) -> frozenset[int]:
    """Returns the places of ids that stand before.

    >>> sorted(repeated(["1", None, "2", "1", None]))
    [3]
    """
    seen: set[str] = set()
    places = set()
    for place, entry_id in enumerate(ids):
        if entry_id is None:
            continue
        if entry_id in seen:
            places.add(place)
        seen.add(entry_id)
    return frozenset(places)


def version(path: str) -> tuple[int, str]:
    """Returns the file's version, by which what was parsed of it is known again.

    Raises:
        QuarantineError: CORRUPT_FILE, if it is gone.
    """
    try:
        return files.version(path)
    except OSError as error:
        raise QuarantineError(
            Reason.CORRUPT_FILE, f"{_name(path)} cannot be read: {error}"
        ) from error


def not_utf8(place: str, error: Exception) -> QuarantineError:
    """Returns the verdict on a text that is no Unicode."""
    return QuarantineError(Reason.NOT_UTF8, f"{place} must be UTF-8: {error}")


def missing(place: str, key: str) -> QuarantineError:
    """Returns the verdict on an entry without one of its fields."""
    return QuarantineError(Reason.MISSING_FIELD, f"{place} must have {key!r}")


def _name(path: str) -> str:
    return path.rpartition("/")[2]

"""Provenance: what each segment of a row says it is, as columns."""

import hashlib
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.verification.context import Context

# 26 small integers a window instead of its JSON: a data set has millions of them.
SEGMENT = np.dtype(
    [
        ("row", "u4"),
        ("number", "u1"),
        ("control", "?"),
        ("start", "i4"),
        ("length", "i4"),
        ("task", "i4"),
        ("agent", "i4"),
        ("item", "u8"),
        ("piece", "i4"),
        ("first_step", "i4"),
        ("num_steps", "i4"),
        ("num_items", "i4"),
        ("prompt_mode", "u1"),
        ("prompt_length", "i4"),
        ("prompt_item", "u8"),
        ("prompt_first", "i4"),
        ("prompt_steps", "i4"),
    ]
)
NO_PROMPT, TAIL, UNIFORM = 0, 1, 2
_MODES = {"tail": TAIL, "uniform": UNIFORM}
_LARGEST = 2**31 - 1


def hash_id(item_id: str) -> int:
    """Returns 64 bits that stand for an episode's or document's id."""
    data = item_id.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _integer(entry: dict[str, Any], key: str, low: int) -> int:
    value = entry.get(key)
    if type(value) is not int or not low <= value <= _LARGEST:
        raise ValueError(f"{key} must be an integer of at least {low}, got {value!r}")
    return value


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} must be a text, got {value!r:.80}")
    return value


def _check_outcome(entry: dict[str, Any]) -> None:
    value = entry.get("return")
    finite = type(value) is int or (isinstance(value, float) and math.isfinite(value))
    if not finite:
        raise ValueError(f"return must be a finite number, got {value!r:.80}")
    if not (entry.get("success", 0) is None or isinstance(entry["success"], bool)):
        raise ValueError("success must be true, false or null")


def _prompt(prompt: Any, episode: str, context: Context) -> tuple[int, ...]:
    if prompt is None:
        return (NO_PROMPT, 0, 0, 0, 0)
    if not isinstance(prompt, dict) or prompt.get("mode") not in _MODES:
        raise ValueError(f"prompt has mode tail or uniform, got {prompt!r:.120}")
    provider = _text(prompt, "episode")
    if provider == episode:
        raise ValueError(f"an episode never prompts itself, {episode!r} does")
    length = _integer(prompt, "length", 1)
    if length > context.max_prompt_tokens:
        raise ValueError(
            f"a prompt has at most {context.max_prompt_tokens} slots"
            f" (config.prompts), got {length}"
        )
    steps = _integer(prompt, "first_step", 0), _integer(prompt, "num_steps", 1)
    return (_MODES[prompt["mode"]], length, hash_id(provider), *steps)


def _control_segment(
    entry: dict[str, Any], context: Context, task_index: dict[str, int]
) -> tuple[int, ...]:
    if not context.control:
        raise ValueError("a data set of documents has no episodes")
    task, agent = _text(entry, "task"), _text(entry, "agent")
    if task not in task_index:
        raise ValueError(f"task {task!r} is not among the manifest's tasks")
    number = task_index[task]
    if agent not in context.agents[number]:
        raise ValueError(f"agent {agent!r} is not among the agents of task {task!r}")
    episode = _text(entry, "episode")
    if "prompt" not in entry:
        raise ValueError("prompt is missing (null where there is none)")
    _check_outcome(entry)
    return (
        number,
        context.agents[number].index(agent),
        hash_id(episode),
        -1,
        _integer(entry, "first_step", 0),
        _integer(entry, "num_steps", 1),
        1,
        *_prompt(entry["prompt"], episode, context),
    )


def split_piece(document_id: str) -> tuple[str, int]:
    """Returns a document's id without its `#k`, and k, or -1 if it was not cut.

    >>> split_piece("c4.json/7#2"), split_piece("c4.json/7")
    (('c4.json/7', 2), ('c4.json/7', -1))
    """
    stem, mark, piece = document_id.rpartition("#")
    if mark and piece.isdecimal() and piece.isascii() and len(piece) < 9:
        return stem, int(piece)
    return document_id, -1


def _document_segment(
    entry: dict[str, Any], context: Context, has_images: bool
) -> list[tuple[int, ...]]:
    if context.control:
        raise ValueError("a data set of episodes has no documents")
    documents = entry.get("documents")
    if (
        not isinstance(documents, list)
        or not documents
        or not all(isinstance(document, str) for document in documents)
    ):
        raise ValueError(f"documents must be a list of ids, got {documents!r:.80}")
    rows = []
    for document in documents:
        # Only texts and pages are cut, so a pair's id may end in `#k` of its own.
        is_whole = has_images and not context.pages
        stem, piece = (document, -1) if is_whole else split_piece(document)
        rows.append((-1, -1, hash_id(stem), piece, 0, 0, len(documents)) + (0,) * 5)
    return rows


def parse_segments(
    provenance: Any, context: Context, task_index: dict[str, int], has_images: bool
) -> tuple[list[tuple[Any, ...]], list[tuple[int, ...]]]:
    """Returns the segments of a row and, for documents, every further document.

    Rows have `SEGMENT`'s fields after `row`. Starts follow from the lengths here; a
    start that says otherwise is an error.

    Raises:
        ValueError: Which segment breaks which rule.
    """
    if not isinstance(provenance, list) or not provenance:
        raise ValueError(f"provenance is a list of segments, got {provenance!r:.80}")
    segments: list[tuple[Any, ...]] = []
    documents: list[tuple[int, ...]] = []
    expected = 0
    for number, entry in enumerate(provenance, 1):
        try:
            if not isinstance(entry, dict):
                raise ValueError(f"an object is meant, got {entry!r:.80}")
            if entry.get("dataset") != context.dataset:
                raise ValueError(
                    f"dataset must be {context.dataset!r}, got"
                    f" {entry.get('dataset')!r:.80}"
                )
            start, length = _integer(entry, "start", 0), _integer(entry, "length", 1)
            if start != expected:
                raise ValueError(f"it starts at slot {expected}, and says {start}")
            expected += length
            control = "documents" not in entry
            if control:
                rest = _control_segment(entry, context, task_index)
            else:
                rest, *_ = rows = _document_segment(entry, context, has_images)
                documents += [(number, *row) for row in rows]
            segments.append((number, control, start, length, *rest))
        except ValueError as error:
            raise ValueError(f"segment {number}: {error}") from error
    return segments, documents


def as_table(rows: Iterable[tuple[Any, ...]]) -> NDArray[np.void]:
    """Returns segments, each with its row's number in front, as a `SEGMENT` array."""
    return np.array(list(rows), SEGMENT)

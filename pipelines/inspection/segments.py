"""Decoded segments: provenance, then timesteps or documents, value by value."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from gato.pipelines.inspection.slots import LOOKS, PROMPT_COLOR
from gato.schemas.record import KIND_MASK, Kind, Row
from gato.tokenizers.decode import (
    DecodedItem,
    DecodedPart,
    DecodedSegment,
    DecodedTimestep,
    Value,
)
from gato.tokenizers.pictures import draw_image

# Timesteps shown from the front and from the end of a prompt or a body.
_FIRST, _LAST = 2, 1
_MOST_CHARACTERS = 1200
_VALUE_LINES = 2
# Most cells of an image, which shrinks to them.
_COLUMNS, _LINES = 32, 14
_LABEL = 9
_KEY = 14


def printable(text: str) -> str:
    r"""Returns a text whose control characters are escaped; new lines stay.

    >>> printable("a\x1b[2J")
    'a\\x1b[2J'
    """
    return "".join(
        each if each.isprintable() or each == "\n" else repr(each)[1:-1]
        for each in text
    )


def _cut(text: str, most: int) -> str:
    """Returns a text cut to so many characters, saying how many were left out."""
    if len(text) <= most:
        return text
    return f"{text[:most]}… and {len(text) - most:,} more characters"


def _shape(value: NDArray[Any]) -> str:
    return "x".join(map(str, value.shape))


def _mark(row: Row, start: int, stop: int) -> str:
    """Returns whether slots are targets: all, some or none."""
    bits = row.loss_mask[start:stop] != 0
    if not len(bits) or not bits.any():
        return "○"
    return "●" if bits.all() else "◐"


def format_value(value: Value, most: int) -> str:
    """Returns a text in quotes, or numbers with their shape, in one line."""
    if isinstance(value, str):
        return _cut(f"“{printable(value)}”".replace("\n", "⏎"), most)
    if value.ndim == 0:
        return f"{value.item():.4g}" if value.dtype.kind == "f" else str(value.item())
    flat = value.ravel()
    shown = [
        f"{number:.3g}" if flat.dtype.kind == "f" else str(number)
        for number in flat[: most // 2].tolist()
    ]
    shape = f"{_shape(value)}  " if value.ndim > 1 else ""
    line = shape
    for number, text in enumerate(shown):
        tail = f"… ({flat.size} numbers)" if number + 1 < flat.size else ""
        if len(line) + len(text) + len(tail) > most:
            return f"{line}… ({flat.size} numbers)"
        line += f"{text} "
    return line.rstrip()


def _style(row: Row, item: DecodedItem | DecodedPart, color: bool) -> str:
    if not color or item.start == item.stop:
        return ""
    return LOOKS[Kind(int(row.kind[item.start] & KIND_MASK))].color


def _timestep(
    row: Row, step: DecodedTimestep, width: int, color: bool
) -> RenderableType:
    images = [item for item in step.observations if item.kind == "image"]
    taken = _LABEL + _KEY + 6
    columns = min(_COLUMNS, width // 4)
    beside = columns + 2 if images and width >= 72 else 0
    room = max(16, width - taken - beside)
    lines = Table.grid(padding=(0, 1, 0, 0))
    lines.add_column(width=1)
    lines.add_column(width=_KEY, no_wrap=True, overflow="ellipsis")
    lines.add_column(overflow="fold")
    for item in (*step.observations, *step.actions):
        style = _style(row, item, color)
        action = item in step.actions
        key = f"→ {item.key}" if action else item.key
        if item.kind == "image" and isinstance(item.value, np.ndarray):
            text = _shape(item.value[..., 0])
        else:
            text = format_value(item.value, _VALUE_LINES * room)
        lines.add_row(
            _mark(row, item.start, item.stop),
            Text(printable(key) or "(value)", "bold" if action else "dim"),
            Text(text, style),
        )
    label = Text(f"step {step.step}")
    if step.prompt:
        label.append("\nprompt", PROMPT_COLOR if color else "")
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=_LABEL)
    grid.add_column(width=room + _KEY + 4)
    cells: list[RenderableType] = [label, lines]
    if images:
        drawn = Group(
            *(
                draw_image(item.value, columns=columns, lines=_LINES, color=color)
                for item in images
                if isinstance(item.value, np.ndarray)
            )
        )
        if beside:
            grid.add_column(width=beside)
            cells.append(drawn)
        else:
            cells[1] = Group(lines, drawn)
    grid.add_row(*cells)
    return grid


def _chosen(
    steps: Sequence[DecodedTimestep],
) -> Iterator[DecodedTimestep | int]:
    """Yields the timesteps to show, and how many are left out between."""
    if len(steps) <= _FIRST + _LAST + 1:
        yield from steps
        return
    yield from steps[:_FIRST]
    yield len(steps) - _FIRST - _LAST
    yield from steps[-_LAST:]


def _steps(entry: Mapping[str, Any]) -> str:
    first = entry["first_step"]
    if entry["num_steps"] == 1:
        return f"step {first}"
    return f"steps {first} to {first + entry['num_steps'] - 1}"


def _title(number: int, segment: DecodedSegment, color: bool) -> Text:
    entry = segment.provenance
    title = Text(f"segment {number} ", "bold")
    slots = f"slots {segment.start} to {segment.stop - 1}"
    if "documents" in entry:
        names = ", ".join(map(str, entry["documents"]))
        title.append(_cut(printable(names), 160), "cyan" if color else "")
        title.append(f"  {slots}", "dim")
        return title
    title.append(printable(str(entry["episode"])), "cyan" if color else "")
    title.append(f"  {_steps(entry)}, {slots}", "dim")
    return title


def _facts(segment: DecodedSegment, color: bool) -> Iterator[Text]:
    entry = segment.provenance
    if "documents" in entry:
        return
    success = {True: ", success", False: ", no success", None: ""}[entry["success"]]
    yield Text(
        f"task {printable(str(entry['task']))}, agent"
        f" {printable(str(entry['agent']))}, return {entry['return']:.4g}{success}",
        "dim",
    )
    prompt = entry["prompt"]
    if prompt is not None:
        place = {"tail": "the end of", "uniform": "a run of"}[prompt["mode"]]
        yield Text(
            f"prompt: {place} {printable(str(prompt['episode']))},"
            f" {_steps(prompt)}, {prompt['length']} slots",
            PROMPT_COLOR if color else "",
        )


def _part(row: Row, part: DecodedPart, columns: int, color: bool) -> RenderableType:
    mark = _mark(row, part.start, part.stop)
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    if isinstance(part.value, str):
        text = Text(
            _cut(printable(part.value), _MOST_CHARACTERS), _style(row, part, color)
        )
        text.append(" (end)" if part.ended else " … goes on in another row", "dim")
        grid.add_row(mark, text)
    else:
        drawn = draw_image(part.value, columns=columns, lines=_LINES, color=color)
        size = Text(f"image {_shape(part.value[..., 0])}", "dim")
        grid.add_row(mark, Group(size, drawn))
    return grid


def _document(
    row: Row, parts: Sequence[DecodedPart], width: int, color: bool
) -> Iterator[RenderableType]:
    """Yields parts in order, a text beside the image it follows."""
    columns = min(_COLUMNS, width // 3)
    at = 0
    while at < len(parts):
        drawn = _part(row, parts[at], columns, color)
        beside = parts[at + 1 : at + 2]
        if parts[at].kind == "image" and beside and beside[0].kind == "text":
            grid = Table.grid(padding=(0, 2, 0, 0))
            grid.add_column(width=columns + 2)
            grid.add_column()
            grid.add_row(drawn, _part(row, beside[0], columns, color))
            yield grid
            at += 1
        else:
            yield drawn
        at += 1


def draw_segment(
    number: int, row: Row, segment: DecodedSegment, *, width: int, color: bool
) -> RenderableType:
    """Returns one segment, its longest middles left out.

    Args:
        number: From 1.
        row: The row it is of.
        segment: Decoded.
        width: Characters of a line.
        color: Whether the terminal has colours.
    """
    parts: list[RenderableType] = [
        Rule(_title(number, segment, color), align="left", style="dim"),
        *_facts(segment, color),
    ]
    for prompt in (True, False):
        steps = [step for step in segment.timesteps if step.prompt == prompt]
        for step in _chosen(steps):
            if isinstance(step, int):
                text = Text(f"⋮ {step} more timesteps", "dim")
                parts.append(Padding(text, (0, 0, 0, _LABEL + 1)))
            else:
                parts.append(_timestep(row, step, width, color))
    parts += _document(row, segment.parts, width, color)
    return Group(*parts)

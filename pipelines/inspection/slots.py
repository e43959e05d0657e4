"""A row's slots as a map: a character each, with segments, and counts by kind."""

import dataclasses

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gato.schemas.record import KIND_MASK, PROMPT_BIT, Kind, Row


@dataclasses.dataclass(frozen=True)
class Look:
    """How a kind is drawn: its colour, and its letter where there are no colours."""

    name: str
    color: str
    letter: str


LOOKS = {
    Kind.PADDING: Look("padding", "grey37", "."),
    Kind.TEXT: Look("text", "#5fafff", "t"),
    Kind.IMAGE: Look("image", "#ffaf5f", "i"),
    Kind.DISCRETE_OBSERVATION: Look("discrete observation", "#87d787", "d"),
    Kind.CONTINUOUS_OBSERVATION: Look("continuous observation", "#5fd7d7", "c"),
    Kind.SEPARATOR: Look("separator", "grey70", "|"),
    Kind.DISCRETE_ACTION: Look("discrete action", "#ff5f87", "a"),
    Kind.CONTINUOUS_ACTION: Look("continuous action", "#d787ff", "x"),
}
PROMPT_COLOR = "#d7af00"
_MARGIN = 7


def legend(row: Row, *, color: bool) -> Text:
    """Returns what the characters of the map mean, for the kinds in this row."""
    text = Text()
    for kind in np.unique(row.kind & KIND_MASK):
        look = LOOKS[Kind(int(kind))]
        if text:
            text.append("   ")
        if color:
            text.append("·" if kind == Kind.PADDING else "█", look.color)
        else:
            text.append(look.letter)
        text.append(f"\u00a0{look.name}".replace(" ", "\u00a0"))
    text.append("\n")
    if color:
        text.append(
            "█\u00a0target   ▀\u00a0not\u00a0a\u00a0target   1──\u00a0segment   "
        )
    else:
        text.append("upper\u00a0case:\u00a0target   1──\u00a0segment   ")
    text.append("╌╌", PROMPT_COLOR if color else "")
    text.append("\u00a0prompt")
    return text


def _marks(row: Row) -> list[str]:
    """Returns one character a slot: segment numbers, prompts and bodies."""
    prompt = (row.kind & PROMPT_BIT) != 0
    marks = np.where(row.segment == 0, " ", np.where(prompt, "╌", "─")).tolist()
    starts = np.flatnonzero(np.diff(row.segment.astype(int), prepend=0) > 0)
    for start in starts.tolist():
        for at, digit in enumerate(str(row.segment[start])):
            if start + at < len(marks):
                marks[start + at] = digit
    return marks


def _cell(kind: int, target: bool, color: bool) -> tuple[str, str]:
    look = LOOKS[Kind(kind)]
    if not color:
        return (look.letter.upper() if target else look.letter), ""
    if kind == Kind.PADDING:
        return "·", look.color
    return ("█" if target else "▀"), look.color


def slot_map(row: Row, *, width: int, color: bool) -> Text:
    """Returns the row's slots, line by line, under the marks of its segments.

    Args:
        row: The row.
        width: Characters of a line.
        color: Whether the terminal has colours.
    """
    cells = max(8, (width - _MARGIN) // 8 * 8)
    kinds = (row.kind & KIND_MASK).tolist()
    targets = (row.loss_mask != 0).tolist()
    prompt = ((row.kind & PROMPT_BIT) != 0).tolist()
    marks = _marks(row)
    used = np.flatnonzero(row.segment)
    # Padding beyond the line that the last segment ends on says nothing.
    shown = -(-(int(used[-1]) + 1) // cells) * cells if len(used) else cells
    text = Text(no_wrap=True)
    for begin in range(0, min(shown, len(kinds)), cells):
        stop = min(begin + cells, len(kinds))
        text.append(" " * _MARGIN)
        for at in range(begin, stop):
            style = (
                PROMPT_COLOR if prompt[at] else "bold" if marks[at] != "─" else "dim"
            )
            text.append(marks[at], style if color else "")
        text.append(f"\n{begin:>{_MARGIN - 2}}  ", "dim")
        for at in range(begin, stop):
            text.append(*_cell(kinds[at], targets[at], color))
        text.append("\n")
    left = len(kinds) - min(shown, len(kinds))
    if left:
        text.append(f"{'':{_MARGIN}}and {left} slots of padding\n", "dim")
    return text


def kind_table(row: Row, *, width: int, color: bool) -> RenderableType:
    """Returns slots and targets by kind, with bars."""
    kinds = row.kind & KIND_MASK
    slots = np.bincount(kinds, minlength=8)
    targets = np.bincount(kinds[row.loss_mask != 0], minlength=8)
    bar = max(8, min(48, width - 60))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("kind")
    for name in ("slots", "share", "targets"):
        table.add_column(name, justify="right")
    table.add_column("")
    for kind in np.flatnonzero(slots):
        look = LOOKS[Kind(int(kind))]
        style = look.color if color else ""
        share = slots[kind] / len(kinds)
        length = max(1, round(share * bar))
        table.add_row(
            Text(look.name, style),
            str(slots[kind]),
            f"{100 * share:.1f}%",
            str(targets[kind] or "-"),
            Text(("█" if color else "#") * length, style),
        )
    prompt = int(np.count_nonzero(row.kind & PROMPT_BIT))
    total = int(np.count_nonzero(row.loss_mask))
    line = Text(
        f"targets {total} ({100 * total / len(kinds):.1f}%), slots in prompts {prompt},"
        f" images {len(row.images)}, segments {len(row.provenance)}",
        "dim",
    )
    return Group(table, line)

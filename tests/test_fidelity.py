"""docs/fidelity.md quotes every line of the specification, and names what there is.

Reads the two documents and the syntax trees of the files that are named; imports none.
"""

import ast
import functools
import itertools
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SPECIFICATION = "docs/specification.md"
DOCUMENT = "docs/fidelity.md"
NOT_DONE, NOTHING = "Not done yet", "Nothing to do"
DONE_COLUMNS = ["line", "done by", "held by", "note"]
COLUMNS = {
    NOT_DONE: ["line", "what is missing", "there once"],
    NOTHING: ["line", "why"],
}
FORMS = (
    "under its section's heading `| words of the line | folder/file.py:name |"
    " tests/test_file.py::test_name | note or empty |`, under '## Not done yet'"
    " `| words | what is missing | file that will do it, or empty |`, or under"
    " '## Nothing to do' `| words | why |`"
)


class Unit(NamedTuple):
    """What at least one row must quote: a line, or an entry of a list in a line."""

    section: str
    start: int
    text: str


class Row(NamedTuple):
    """One row of a table of the document."""

    section: str
    number: int
    cells: list[str]

    @property
    def place(self) -> str:
        """The row's line, for messages."""
        return f"{DOCUMENT}:{self.number}: {self.cells[0]!r}"


def sections(text: str) -> Iterator[tuple[str, int, int, str]]:
    """Yields (section, line number, offset, line) of all but empty lines and rulers."""
    section, offset = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#"):
            section = line.lstrip("# ")
        elif line.strip() and not re.fullmatch(r"\|[-| ]+\|", line):
            yield section, number, offset, line
        offset += len(line) + 1


def units(specification: str) -> Iterator[Unit]:
    """Yields the lines of the specification; of a numbered list in one, each entry."""
    for section, _, offset, line in sections(specification):
        entries = [line]
        if line.startswith("1. "):
            entries = re.split(r"(?<=\.) (?=\d+\. )", line)
        for entry in entries:
            yield Unit(section, offset, entry)
            offset += len(entry) + 1


def split_cells(line: str) -> list[str]:
    cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
    return [cell.strip().replace(r"\|", "|") for cell in cells]


def table_rows(document: str) -> Iterator[Row]:
    """Yields the rows of all tables, headers included."""
    for section, number, _, line in sections(document):
        if line.startswith("|"):
            yield Row(section, number, split_cells(line))


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@functools.cache
def definitions(path: pathlib.Path) -> frozenset[str]:
    """Returns functions, classes, their members, and constants of a module."""
    found: set[str] = set()

    def add(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                add(node.body, f"{prefix}{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else []
            if isinstance(node, ast.AnnAssign):
                targets = [node.target]
            for target in targets:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        found.add(prefix + name.id)

    add(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return frozenset(found)


def is_there(root: pathlib.Path, name: str) -> bool:
    """Whether `file`, `file:name` or `file::test` exists."""
    file, _, wanted = name.partition(":")
    path = root / file
    if not wanted:
        return path.exists()
    return path.is_file() and wanted.lstrip(":") in definitions(path)


def cell_problems(row: Row, root: pathlib.Path) -> Iterator[str]:
    """Yields what is wrong with the cells beside a row's quote."""
    columns = COLUMNS.get(row.section, DONE_COLUMNS)
    if len(row.cells) != len(columns):
        yield (
            f"{row.place} has {len(row.cells)} cells; here they are"
            f" {', '.join(columns)}. A | inside a cell is written \\|."
        )
        return
    if row.section in COLUMNS:
        if not row.cells[1]:
            yield f"{row.place}: write under {columns[1]!r} what a reader must know."
        if row.section == NOT_DONE:
            for name in named(row.cells[2]):
                if is_there(root, name):
                    yield (
                        f"{row.place}: `{name}` is there now. Move the row to its"
                        " section with the function that does it and the test that"
                        " holds it, or say what else it waits for."
                    )
        return
    for column, cell, pattern in (
        ("done by", row.cells[1], r"(?!tests/)[^:]+\.py:[^:]+"),
        ("held by", row.cells[2], r"tests/[^:]+\.py::test_\w+"),
    ):
        names = named(cell)
        if not names:
            yield f"{row.place}: nothing is named under {column!r}: {FORMS}."
        for name in names:
            if not re.fullmatch(pattern, name):
                yield f"{row.place}: `{name}` under {column!r} has not the form {FORMS}"
            elif not is_there(root, name):
                yield (
                    f"{row.place}: `{name}` under {column!r} is not there. Was it"
                    " renamed or moved? Name what does the same now, or if nothing"
                    f" does, move the row to '## {NOT_DONE}'."
                )
            elif names.count(name) > 1:
                yield f"{row.place}: `{name}` is listed twice under {column!r}."


def problems(specification: str, document: str, root: pathlib.Path) -> list[str]:
    """Returns what makes the document untrue or incomplete, each with what to do."""
    found: list[str] = []
    lines = list(units(specification))
    titles = {unit.section for unit in lines}
    quoted: set[Unit] = set()
    spans: list[tuple[int, int, Row]] = []
    for row in table_rows(document):
        if row.cells in (DONE_COLUMNS, *COLUMNS.values()):
            continue
        found += cell_problems(row, root)
        quote = row.cells[0]
        times = specification.count(quote) if quote else 0
        if times != 1:
            found.append(
                f"{row.place} stands {times} times in {SPECIFICATION}, and must once."
                " Quote other or more of its words, exactly as they stand there."
            )
            continue
        start = specification.index(quote)
        at = [unit for unit in lines if unit.start <= start]
        unit = at[-1] if at else lines[0]
        if row.section not in {*COLUMNS, unit.section}:
            where = "an unknown section" if row.section not in titles else "another one"
            found.append(
                f"{row.place} stands under {row.section!r}, {where}; its line is of"
                f" '## {unit.section}'."
            )
        quoted.add(unit)
        spans.append((start, start + len(quote), row))
    spans.sort(key=lambda span: span[:2])
    for (_, stop, one), (start, _, other) in itertools.pairwise(spans):
        if start < stop:
            found.append(
                f"{other.place} ({other.section}) quotes words that line {one.number}"
                f" ({one.section}) quotes too. Join the rows, or quote other words."
            )
    for unit in lines:
        if unit not in quoted:
            found.append(
                f"{SPECIFICATION}, section {unit.section!r}: no row of {DOCUMENT}"
                f" quotes words of {unit.text!r}. Write one, {FORMS}."
            )
    return found


def test_the_document_is_true_and_complete() -> None:
    specification = (ROOT / SPECIFICATION).read_text("utf-8")
    found = problems(specification, (ROOT / DOCUMENT).read_text("utf-8"), ROOT)
    assert not found, "\n".join(found)


# The check itself, on a specification of four lines.

RULES = """# Rules

| kind | ids |
|---|---|
| text \\ pieces | [0, 9) |

## 1 Ids
- Bins are floored. Decoding takes the centre.

## 8 Mistakes
1. Off by one: 1024. 2. No clip.
"""
TRUE = """# Fidelity

## 1 Ids
| line | done by | held by | note |
|---|---|---|---|
| Bins are floored. | `code.py:floor`, `code.py:Bins.number` | `tests/a.py::test_a` | |

## 8 Mistakes
| line | done by | held by | note |
|---|---|---|---|
| Off by one | `code.py:LIMIT` | `tests/a.py::test_a` | a deviation |

## Not done yet
| line | what is missing | there once |
|---|---|---|
| Decoding takes | all of it | `policy.py`, `code.py:decode` |
| No clip. | the clip | |

## Nothing to do
| line | why |
|---|---|
| kind \\| ids | a header |
| [0, 9) | of another model |
"""


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "code.py").write_text(
        "LIMIT: int = 3\ndef floor(): ...\nclass Bins:\n    def number(self): ...\n"
    )
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "a.py").write_text("def test_a(): ...\n")
    return tmp_path


def test_a_true_document_has_no_problems(root: pathlib.Path) -> None:
    assert problems(RULES, TRUE, root) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("`code.py:floor`", "`code.py:ceil`", "`code.py:ceil` .* is not there"),
        ("Bins.number", "Bins.digit", "is not there"),
        ("code.py:LIMIT", "cods.py:LIMIT", "is not there"),
        ("`code.py:LIMIT`", "", "nothing is named under 'done by'"),
        ("code.py:LIMIT", "code.py", "has not the form"),
        ("test_a` | a", "test_b` | a", "`tests/a.py::test_b` .* is not there"),
        ("`tests/a.py::test_a` | a", "| a", "nothing is named under 'held by'"),
        ("Bins.number", "Bins.number`, `code.py:floor", "listed twice"),
        ("| Off by one |", "| Off by two |", "stands 0 times"),
        ("| Off by one |", "| 1024. 2. No |", "quotes words that line"),
        ("| Off by one |", "| o |", "stands [1-9]\\d? times"),
        ("| Decoding takes |", "| Bins are |", "quotes words that line"),
        ("| No clip. | the clip | |\n", "", r"no row .* quotes words of '2\. No"),
        ("| kind \\| ids | a header |\n", "", "no row .* quotes words of"),
        ("| kind \\| ids |", "| kind | ids |", "has 3 cells"),
        ("| the clip |", "| |", "what a reader must know"),
        ("policy.py", "code.py", "`code.py` is there now"),
        ("code.py:decode", "code.py:floor", "`code.py:floor` is there now"),
        ("## 8 Mistakes\n", "## 8 Errors\n", "its line is of '## 8 Mistakes'"),
        ("Bins are floored.", "Off by", "its line is of '## 8 Mistakes'"),
    ],
)
def test_damage_is_told(root: pathlib.Path, old: str, new: str, said: str) -> None:
    assert old in TRUE
    found = problems(RULES, TRUE.replace(old, new), root)
    assert any(re.search(said, message) for message in found), found


def test_a_new_line_of_the_specification_is_told(root: pathlib.Path) -> None:
    for new in ("- A rule.\n", "| a | row |\n", "3. A third.\n"):
        (message,) = problems(RULES + new, TRUE, root)
        assert "no row of docs/fidelity.md quotes words of" in message

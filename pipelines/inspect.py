"""`gato-inspect GLOB`: rows back to text, images, numbers and actions.

    gato-inspect out/babyai                                     its first row
    gato-inspect 'out/babyai/train-*.tfrecord' --row 7          the eighth
    gato-inspect out/captions/train-00000-of-00001.tfrecord --rows 3 --no_color
    gato-inspect out --html build.html                          a page of the build

In the terminal each row is drawn as a map of its slots, coloured by kind, full where
the slot is a target, with segments and prompts marked; then counts by kind, then what
each segment says. Colours are left out when the output is no terminal.

A page has no need of a network: the build's figures, then 100 rows to browse, taken
evenly over the data sets and their shards by the index, so of a build of any size.
"""

import argparse
import io
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from gato.pipelines.command import run_command
from gato.pipelines.inspection.load import InspectedRow, read_rows
from gato.pipelines.inspection.page import make_page
from gato.pipelines.inspection.segments import draw_segment
from gato.pipelines.inspection.slots import kind_table, legend, slot_map
from gato.schemas import files
from gato.schemas.errors import UsageError

_WIDEST = 120
_PAGE_ROWS = 100
_EXAMPLES = """examples:
  gato-inspect out/babyai                                the first row
  gato-inspect 'out/babyai/train-*.tfrecord' --row 7     the eighth
  gato-inspect out/captions --rows 3 --no_color          three rows, no colours
  gato-inspect out --html build.html                     a page: figures and 100 rows
"""


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"0 or more is meant, got {value}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gato-inspect",
        description="Decodes rows back to text, images, numbers and actions.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "pattern",
        metavar="GLOB",
        help="a shard, a quoted pattern of shards, a data set's folder, or a build's",
    )
    parser.add_argument(
        "--row",
        type=_count,
        metavar="N",
        help="the first row to show, from 0 over all shards (0; a page samples rows)",
    )
    parser.add_argument(
        "--rows",
        type=_count,
        metavar="K",
        help=f"how many rows to show (1; {_PAGE_ROWS} on a page)",
    )
    parser.add_argument(
        "--html",
        metavar="F",
        help="write one self-contained page here, a file or URL, instead",
    )
    parser.add_argument(
        "--no_color", action="store_true", help="letters in place of colours"
    )
    return parser


def draw_row(inspected: InspectedRow, console: Console, *, color: bool) -> None:
    """Prints one row.

    Args:
        inspected: The row.
        console: Where it is printed.
        color: Whether it has colours.
    """
    row, width = inspected.row, console.width
    title = Text(f" {inspected.path} ", "bold", overflow="ellipsis", no_wrap=True)
    manifest = inspected.manifest
    facts = Text(
        f"row {inspected.number} of {inspected.num_rows}, data set {manifest.dataset},"
        f" {manifest.sequence_length} slots, {inspected.num_bytes:,} bytes"
    )
    console.print(Panel(facts, title=title, title_align="left", border_style="grey50"))
    console.print(slot_map(row, width=width, color=color))
    console.print(legend(row, color=color))
    console.print()
    console.print(kind_table(row, width=width, color=color))
    console.print()
    for number, segment in enumerate(inspected.segments, 1):
        console.print(draw_segment(number, row, segment, width=width, color=color))
        console.print()


def make_console(no_color: bool) -> tuple[Console, bool]:
    """Returns the console, at most 120 columns wide, and whether it has colours."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character gets a question mark for it.
        sys.stdout.reconfigure(errors="replace")
    console = Console(no_color=no_color or None, highlight=False)
    color = console.color_system is not None and not console.no_color
    if console.width > _WIDEST:
        console.width = _WIDEST
    return console, color


def write_page(pattern: str, path: str, *, first: int | None, count: int) -> None:
    """Writes a build's page, and says what it holds.

    Args:
        pattern: Of the shards.
        path: Where the page is written.
        first: The first of the rows that follow each other; None samples.
        count: How many rows.

    Raises:
        GatoError: If there is nothing to show, or it cannot be read, or `path` is a
            folder.
    """
    if files.is_folder(path):
        raise UsageError(
            f"--html takes the file to write, and {path!r} is a folder. Name the page:"
            f" {files.join(path, 'build.html')}"
        )
    page = make_page(pattern, first=first, count=count)
    files.write_atomic(path, page.content)
    left_out = f" ({page.left_out} more had no room)" if page.left_out else ""
    print(
        f"{path}: {page.num_rows} rows of {page.num_datasets} data sets{left_out},"
        f" {len(page.content):,} bytes"
    )


def run(argv: Sequence[str] | None = None) -> int:
    """Shows the rows that the arguments name, or writes their page.

    Raises:
        GatoError: If there is no such row, or it cannot be read.
    """
    arguments = _parser().parse_args(argv)
    if arguments.html is not None:
        count = _PAGE_ROWS if arguments.rows is None else arguments.rows
        write_page(arguments.pattern, arguments.html, first=arguments.row, count=count)
        return 0
    first = arguments.row or 0
    count = 1 if arguments.rows is None else arguments.rows
    console, color = make_console(arguments.no_color)
    for row in read_rows(arguments.pattern, first, count):
        draw_row(row, console, color=color)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_command(run, argv)


if __name__ == "__main__":
    sys.exit(main())

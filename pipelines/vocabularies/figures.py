"""What a vocabulary is worth on text that it was not trained on."""

import collections
import dataclasses
from collections.abc import Sequence

import rich.box
import rich.console
import rich.table

from gato.tokenizers.text import TextTokenizer

_SHOWN = 12
# The pieces <unk>, <s>, </s> come first, then the 256 bytes.
_FIRST_BYTE, _NUM_BYTES = 3, 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """Counts over a text.

    Attributes:
        num_bytes: UTF-8 bytes.
        num_characters: Characters, line ends not counted.
        covered: Of them, those that are in a piece, not spelt in bytes.
        tokens: Ids.
        fallback: Of them, those that are single bytes, line ends not counted.
        unknown: Of them, those that stand for what cannot be read back.
        pieces: How often each id stands.
    """

    num_bytes: int
    num_characters: int
    covered: int
    tokens: int
    fallback: int
    unknown: int
    pieces: collections.Counter[int]


def measure(tokenizer: TextTokenizer, texts: Sequence[str]) -> Figures:
    """Counts the tokens of texts."""
    pieces: collections.Counter[int] = collections.Counter()
    characters: collections.Counter[str] = collections.Counter()
    for text in texts:
        pieces.update(tokenizer.encode_list(text))
        characters.update(text)
    del characters["\n"]
    known = _known_characters(tokenizer)
    is_byte = set(range(_FIRST_BYTE, _FIRST_BYTE + _NUM_BYTES))
    is_byte.remove(_FIRST_BYTE + ord("\n"))
    return Figures(
        num_bytes=sum(len(text.encode()) for text in texts),
        num_characters=characters.total(),
        covered=sum(n for c, n in characters.items() if c in known),
        tokens=pieces.total(),
        fallback=sum(n for i, n in pieces.items() if i in is_byte),
        unknown=pieces[0],
        pieces=pieces,
    )


def _known_characters(tokenizer: TextTokenizer) -> set[str]:
    """Returns the characters that are pieces, and the space."""
    singles = tokenizer.pieces()[_FIRST_BYTE + _NUM_BYTES :]
    return {piece for piece in singles if len(piece) == 1} | {" "}


def print_figures(
    tokenizer: TextTokenizer,
    figures: Figures,
    title: str,
    console: rich.console.Console,
) -> None:
    """Prints the report."""
    table = rich.table.Table(box=rich.box.SIMPLE, title=title, title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    tokens, characters = max(figures.tokens, 1), max(figures.num_characters, 1)
    for name, value in (
        ("text", f"{figures.num_bytes:,} bytes"),
        ("tokens", f"{figures.tokens:,}"),
        ("bytes a token", f"{figures.num_bytes / tokens:.3f}"),
        ("coverage (characters in pieces)", f"{figures.covered / characters:.4%}"),
        ("tokens that are bytes, not line ends", f"{figures.fallback / tokens:.4%}"),
        ("unknown tokens", f"{figures.unknown / tokens:.4%}"),
        ("pieces in use", f"{len(figures.pieces):,} of {tokenizer.vocabulary.text:,}"),
        ("decode(encode(x)) == x", "yes" if tokenizer.round_trips else "no"),
        ("engine", tokenizer.engine),
    ):
        table.add_row(name, value)
    console.print(table)
    pieces = tokenizer.pieces()
    frequent = [pieces[i] for i, _ in figures.pieces.most_common(_SHOWN)]
    longest = sorted(pieces, key=lambda piece: (-len(piece), piece))[:_SHOWN]
    for name, shown in (("most frequent", frequent), ("longest", longest)):
        listed = " ".join(map(repr, shown))
        console.print(f"{name}: {listed}", markup=False, highlight=False)

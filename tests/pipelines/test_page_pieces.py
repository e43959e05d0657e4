"""Pages longer than a row: text may be split, an image never, and nothing is lost."""

import itertools
import json
import pathlib

import numpy as np
import page_sets
import pair_sources
import raw_inputs
from building import run_build
from episodes import text_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from gato.pipelines import verify
from gato.schemas.config import Image
from gato.schemas.episode import Document
from gato.schemas.manifest import load_dataset_manifest
from gato.tokenizers.documents import tokenize_document
from gato.tokenizers.windows import cut_page

LENGTH = 64


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)), max_size=12),
    st.integers(0, 30),
)
def test_pieces_hold_every_slot_once_and_whole_images(
    parts: list[tuple[int, int]], tail: int
) -> None:
    starts, patches, slots = [], [], 0
    for text, image in parts:
        starts.append(slots + text)
        patches.append(image)
        slots += text + image
    slots += tail
    pieces = cut_page(slots, starts, patches, 10)
    edges = [0, *(stop for _, stop, _, _ in pieces)]
    assert edges[-1] == slots
    assert [start for start, *_ in pieces] == edges[:-1]
    assert all(0 < stop - start <= 10 for start, stop, _, _ in pieces)
    shown = []
    for start, stop, first, last in pieces:
        shown += range(first, last)
        for place in range(first, last):
            assert start <= starts[place]
            assert starts[place] + patches[place] <= stop
    assert shown == list(range(len(parts)))
    # A piece ends early only before an image that does not fit.
    for start, stop, _, last in pieces[:-1]:
        if stop - start < 10:
            assert starts[last] == stop
            assert stop - start + patches[last] > 10


def build(root: pathlib.Path, side: int, code: int = 0) -> pathlib.Path:
    """Builds one page longer than three rows, and four short ones."""
    words = "word " * 90
    long: tuple[int | str, ...] = (words, 0, "between", 1, words, 2, 3)
    rows = [page_sets.obelics_row(page) for page in (long, *page_sets.PAGES)]
    page_sets.write_obelics(root / "raw", rows)
    page_sets.write_images(root / "raw" / "images", side)
    config = raw_inputs.write_config(
        root / "build.yaml",
        [{"name": "pages", "format": "obelics", "paths": ["raw/*.parquet"]}],
        sequence_length=LENGTH,
        prompts={"max_tokens": 16},
        max_quarantine_fraction=1,
        validation_fraction=0,
    )
    assert run_build(config, root / "out") == code
    return root / "out"


def test_a_long_page_is_cut_and_comes_back(tmp_path: pathlib.Path) -> None:
    output = build(tmp_path, side=64)  # 16 patches
    pieces: dict[str, dict[int, tuple[list[int], list[int], list[bytes]]]] = {}
    for row in pair_sources.rows(output / "pages", LENGTH):
        for number, segment in enumerate(row.provenance, 1):
            (name,) = segment["documents"]  # no page shares a segment
            stem, _, piece = name.partition("#")
            slots = np.flatnonzero(row.segment == number)
            firsts = row.image_info[:, 0]
            images = [
                image
                for image, first in zip(row.images, firsts, strict=True)
                if slots[0] <= first <= slots[-1]
            ]
            content = row.tokens[slots].tolist(), row.kind[slots].tolist(), images
            pieces.setdefault(stem, {})[int(piece or 0)] = content
    assert len(pieces) == 5
    source = pair_sources.read(
        "obelics", tmp_path / "raw" / "train-00000-of-01439.parquet"
    )
    tokenizer = text_tokenizer()
    for document in source:
        assert isinstance(document, Document)
        item = tokenize_document(document, Image(), tokenizer)
        found = pieces[document.document_id]
        ordered = [found[piece] for piece in range(len(found))]
        tokens, kinds, images = (
            list(itertools.chain.from_iterable(parts))
            for parts in zip(*ordered, strict=True)
        )
        assert tokens == item.tokens.tolist()
        assert kinds == item.kind.tolist()
        assert images == item.images
    assert len(pieces["train-00000-of-01439.parquet/0"]) > 3
    assert verify.main([str(output)]) == 0
    accounts = load_dataset_manifest(str(output / "pages")).accounts
    assert (accounts.read, accounts.kept) == (5, 5)


def test_an_image_longer_than_a_row_is_too_long(tmp_path: pathlib.Path) -> None:
    output = build(tmp_path, side=160, code=1)  # 100 patches, so none is kept
    lines = (output / "pages" / "quarantine.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 5
    for line in lines:
        assert json.loads(line)["reason"] == "too_long"
        assert "a page's image must fit a row of 64 slots" in line

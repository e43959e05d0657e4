"""Format text reads Dolma and The Pile as they are published, fields and packing."""

import gzip
import json
import pathlib
from typing import Any

import pytest
import raw_inputs
import zstandard
from text_documents import read, texts_of

from gato.schemas.episode import Document


def dolma(number: int, text: str) -> dict[str, Any]:
    """A line as allenai/dolma documents it (docs/data-format.md)."""
    return {
        "id": f"cc_en_head-{number:04d}",
        "text": text,
        "source": "common-crawl",
        "added": "2023-04-11T09:57:03.044571+00:00",
        "created": "2020-01-17T12:48:45Z",
        "metadata": {"url": "http://a.org", "length": len(text), "scores": [0.5, None]},
    }


def pile(number: int, text: str) -> dict[str, Any]:
    """A line as EleutherAI/the-pile writes it: the text and its subset's name."""
    return {"text": text, "meta": {"pile_set_name": "Pile-CC"}}


@pytest.mark.parametrize(
    ("name", "record", "last_id"),
    [
        ("cc_en_head-0000.json.gz", dolma, "cc_en_head-0039"),
        ("cc_en_head-0000.jsonl.zst", dolma, "cc_en_head-0039"),
        ("00.jsonl.zst", pile, "39"),
    ],
)
def test_published_lines(
    tmp_path: pathlib.Path, name: str, record: Any, last_id: str
) -> None:
    texts = raw_inputs.texts(4, 40)
    lines = [json.dumps(record(n, text)) + "\n" for n, text in enumerate(texts)]
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress("".join(lines).encode()))
    else:  # in frames, as tools that pack in parallel write them
        pack = zstandard.ZstdCompressor().compress
        halves = ("".join(lines[:17]), "".join(lines[17:]))
        path.write_bytes(b"".join(pack(half.encode()) for half in halves))
    items = read(path)
    assert texts_of(items) == texts
    assert isinstance(items[39], Document)
    assert items[39].document_id == f"{name}/{last_id}"

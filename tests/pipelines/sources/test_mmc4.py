"""Interleaved pages of MMC4's JSON lines, beside what json reads of them."""

import gzip
import json
import pathlib
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import page_sets
import pair_sources
import pytest
from pair_sources import dataset, verdicts

from gato.pipelines.sources import mmc4
from gato.pipelines.sources.mmc4 import Mmc4Source
from gato.schemas.episode import Document, ImagePart, TextPart, Unreadable
from gato.schemas.errors import Reason, UsageError

NAME = "docs_no_face_shard_0_v3.jsonl"


def read(path: pathlib.Path | str, **settings: Any) -> list[Document | Unreadable]:
    return pair_sources.read("mmc4", path, **settings)


def contents(document: Document | Unreadable) -> list[str | bytes]:
    assert isinstance(document, Document), document
    return [p.data if isinstance(p, ImagePart) else p.text for p in document.parts]


def reference(path: pathlib.Path) -> list[list[str | bytes]]:
    """Puts a mark before each matched sentence and joins, as OpenFlamingo does."""
    pages = []
    for line in path.read_text("utf-8").splitlines():
        info = json.loads(line)
        sentences = list(info["text_list"])
        names: dict[int, list[str]] = {}
        for image in info["image_info"]:
            names.setdefault(image["matched_text_index"], []).append(
                image["image_name"]
            )
        page: list[str | bytes] = []
        for index, sentence in enumerate(sentences):
            for name in names.get(index, []):
                page.append((path.parent / "images" / name).read_bytes())
            if page and isinstance(page[-1], str):
                page[-1] += " " + sentence
            else:
                page.append(sentence)
        pages.append(page)
    return pages


def test_reads_what_json_reads(tmp_path: pathlib.Path) -> None:
    path = page_sets.write_mmc4(tmp_path)
    items = read(path)
    expected = reference(path)
    assert len(expected[0]) == 5
    assert [contents(item) for item in items] == expected
    assert [item.number for item in items] == [0, 1, 2, 3]
    for item in items:
        assert isinstance(item, Document)
        assert isinstance(item.parts[-1], TextPart)
        eos = [part.eos for part in item.parts if isinstance(part, TextPart)]
        assert eos == [*[False] * (len(eos) - 1), True]


def test_packed_files(tmp_path: pathlib.Path) -> None:
    path = page_sets.write_mmc4(tmp_path)
    expected = [contents(item) for item in read(path)]
    packed = tmp_path / f"{NAME}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert [contents(item) for item in read(packed)] == expected
    zipped = tmp_path / f"{NAME}.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, NAME)
    assert [contents(item) for item in read(zipped)] == expected
    whole = zipped.read_bytes()
    for damaged in (b"", whole[:-30], whole[:60] + b"\0\0\0\0" + whole[64:]):
        zipped.write_bytes(damaged)
        assert verdicts(read(zipped))[-1] == (None, Reason.CORRUPT_FILE)
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.jsonl", b"")
        archive.writestr("b.jsonl", b"")
    assert verdicts(read(zipped)) == [(None, Reason.CORRUPT_FILE)]


@pytest.mark.parametrize("size", [1, 500])
def test_ranges_read_the_same(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = page_sets.write_mmc4(tmp_path)
    whole = read(path)
    monkeypatch.setattr(mmc4, "PARTITION_BYTES", size)
    parts = Mmc4Source().partition(str(path), NAME, dataset("mmc4"))
    assert len(parts) > 1
    assert read(path) == whole


def image(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda line: line["image_info"][0].update(changes)


def page(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda line: line.update(changes)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (image(image_name="gone.jpg"), Reason.MISSING_IMAGE),
        (image(image_name="../a.jpg"), Reason.UNSAFE_PATH),
        (image(image_name=None, raw_url=None), Reason.MISSING_FIELD),
        (image(matched_text_index=None), Reason.MISSING_FIELD),
        (image(matched_text_index=2), Reason.CORRUPT_RECORD),
        (image(matched_text_index=-1), Reason.CORRUPT_RECORD),
        (image(matched_text_index="1"), Reason.WRONG_DTYPE),
        (page(text_list=None), Reason.MISSING_FIELD),
        (page(image_info=None), Reason.MISSING_FIELD),
        (page(text_list=[1]), Reason.WRONG_DTYPE),
        (page(text_list=["\ud800", "b"]), Reason.CORRUPT_RECORD),
    ],
)
def test_a_bad_line_costs_one(
    tmp_path: pathlib.Path, edit: Callable[[dict[str, Any]], None], reason: Reason
) -> None:
    lines = [page_sets.mmc4_line(each) for each in page_sets.PAGES]
    edit(lines[1])
    items = read(page_sets.write_mmc4(tmp_path, lines))
    assert verdicts(items) == [(f"{NAME}/1", reason)]
    assert [item.number for item in items] == [0, 1, 2, 3]


def test_lines_that_are_none(tmp_path: pathlib.Path) -> None:
    path = page_sets.write_mmc4(tmp_path)
    bad = b'{"image_info": [], "text_list": ["\xff"]}\n'
    path.write_bytes(b"{\n\n[]\n" + bad + path.read_bytes())
    assert verdicts(read(path)) == [
        (f"{NAME}/0", Reason.CORRUPT_RECORD),
        (f"{NAME}/2", Reason.CORRUPT_RECORD),
        (f"{NAME}/3", Reason.NOT_UTF8),
    ]
    path.unlink()
    assert verdicts(read(path)) == [(None, Reason.CORRUPT_FILE)]
    for wrong in (tmp_path, tmp_path / "a.json"):
        with pytest.raises(UsageError, match=r"is a \.jsonl"):
            Mmc4Source().files(str(wrong))


def test_texts_without_images_and_pickling(tmp_path: pathlib.Path) -> None:
    path = page_sets.write_mmc4(tmp_path)
    source = pickle.loads(pickle.dumps(Mmc4Source()))
    (part,) = source.partition(str(path), NAME, dataset("mmc4"))
    texts = [contents(item) for item in source.read_texts(part, dataset("mmc4"))]
    expected = [[p for p in each if isinstance(p, str)] for each in reference(path)]
    assert texts == expected

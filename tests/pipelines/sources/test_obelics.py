"""Interleaved pages of OBELICS' Parquet, beside what pyarrow reads of it."""

import pathlib
import pickle
from typing import Any

import fsspec
import page_sets
import pair_sources
import pyarrow.parquet as pq
import pytest
import raw_inputs
from building import run_build
from pair_sources import dataset, verdicts

from gato.pipelines import verify
from gato.pipelines.sources import obelics
from gato.pipelines.sources.obelics import ObelicsSource
from gato.schemas.episode import Document, ImagePart, TextPart, Unreadable
from gato.schemas.errors import Reason, UsageError
from gato.schemas.manifest import load_dataset_manifest

NAME = "train-00000-of-01439.parquet"


def read(path: pathlib.Path | str, **settings: Any) -> list[Document | Unreadable]:
    return pair_sources.read("obelics", path, **settings)


def contents(document: Document | Unreadable) -> list[str | bytes]:
    assert isinstance(document, Document), document
    return [p.data if isinstance(p, ImagePart) else p.text for p in document.parts]


def reference(path: pathlib.Path) -> list[list[str | bytes]]:
    """Reads as a data set's own card shows it: one of image and text at each index."""
    pages = []
    for row in pq.read_table(path).to_pylist():
        page: list[str | bytes] = []
        for url, text in zip(row["images"], row["texts"], strict=True):
            if text is not None:
                page.append(text)
            else:
                name = url.rpartition("/")[2].partition("?")[0]
                page.append((path.parent / "images" / name).read_bytes())
        pages.append(page)
    return pages


def test_reads_what_pyarrow_reads(tmp_path: pathlib.Path) -> None:
    path = page_sets.write_obelics(tmp_path)
    items = read(path)
    expected = reference(path)
    expected[2].append("")  # the end of a page that an image ends
    assert [contents(item) for item in items] == expected
    for number, item in enumerate(items):
        assert isinstance(item, Document)
        assert (item.document_id, item.number) == (f"{NAME}/{number}", number)
        last = len(item.parts) - 1
        for place, part in enumerate(item.parts):
            if isinstance(part, TextPart):
                assert (part.eos, part.question) == (place == last, False)


def test_texts_without_an_image_between_are_one(tmp_path: pathlib.Path) -> None:
    row = page_sets.obelics_row(("a", "b", 0, "c", "d"))
    (item,) = read(page_sets.write_obelics(tmp_path, [row]))
    image = (tmp_path / "images" / page_sets.NAMES[0]).read_bytes()
    assert contents(item) == ["a\n\nb", image, "c\n\nd"]


def test_ranges_of_row_groups(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = page_sets.write_obelics(tmp_path, group=1)
    whole = read(path)
    monkeypatch.setattr(obelics, "PARTITION_BYTES", 1)
    parts = ObelicsSource().partition(str(path), NAME, dataset("obelics"))
    assert [part.num_items for part in parts] == [1, 1, 1, 1]
    assert read(path) == whole


def test_a_page_with_a_missing_image_costs_one(tmp_path: pathlib.Path) -> None:
    path = page_sets.write_obelics(tmp_path)
    (tmp_path / "images" / page_sets.NAMES[2]).unlink()
    items = read(path)
    assert verdicts(items) == [(f"{NAME}/1", Reason.MISSING_IMAGE)]
    assert isinstance(items[1], Unreadable)
    assert page_sets.NAMES[2] in items[1].detail


def test_names_and_another_folder(tmp_path: pathlib.Path) -> None:
    rows = [page_sets.obelics_row(page) for page in page_sets.PAGES]
    rows[0]["images"] = [None, page_sets.NAMES[0], None, "below/b.jpg", None]
    path = page_sets.write_obelics(tmp_path, rows)
    photos = (tmp_path / "images").rename(tmp_path / "photos")
    (photos / "below").mkdir()
    (photos / "below" / "b.jpg").write_bytes((photos / page_sets.NAMES[1]).read_bytes())
    assert verdicts(read(path, images=str(photos))) == []
    with pytest.raises(UsageError, match="images: FOLDER"):
        ObelicsSource().beside(str(path), dataset("obelics"))


@pytest.mark.parametrize(
    ("images", "texts", "reason"),
    [
        ([None], [None], Reason.CORRUPT_RECORD),
        (["a.jpg"], ["a"], Reason.CORRUPT_RECORD),
        (["a.jpg"], [None, "a"], Reason.WRONG_SHAPE),
        (None, ["a"], Reason.WRONG_DTYPE),
        (["../a.jpg", None], [None, "a"], Reason.UNSAFE_PATH),
        (["http://a.org/", None], [None, "a"], Reason.UNSAFE_PATH),
    ],
)
def test_a_bad_row_costs_one(
    tmp_path: pathlib.Path, images: Any, texts: Any, reason: Reason
) -> None:
    rows = [page_sets.obelics_row(page) for page in page_sets.PAGES]
    rows[1] |= {"images": images, "texts": texts}
    items = read(page_sets.write_obelics(tmp_path, rows))
    assert verdicts(items) == [(f"{NAME}/1", reason)]
    assert [item.number for item in items] == [0, 1, 2, 3]


def test_other_columns_and_damage(tmp_path: pathlib.Path) -> None:
    path = page_sets.write_obelics(tmp_path, [{"images": ["a.jpg"], "text": "a"}] * 3)
    assert [reason for _, reason in verdicts(read(path))] == [Reason.MISSING_FIELD] * 3
    content = page_sets.write_obelics(tmp_path).read_bytes()
    for cut in (0, 3, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        assert verdicts(read(path)) == [(None, Reason.CORRUPT_FILE)]
    path.unlink()
    assert verdicts(read(path)) == [(None, Reason.CORRUPT_FILE)]
    for wrong in (tmp_path, tmp_path / "a.json"):
        with pytest.raises(UsageError, match="is a Parquet file"):
            ObelicsSource().files(str(wrong))


def test_texts_without_images_and_pickling(tmp_path: pathlib.Path) -> None:
    path = page_sets.write_obelics(tmp_path)
    source = pickle.loads(pickle.dumps(ObelicsSource()))
    (part,) = source.partition(str(path), NAME, dataset("obelics"))
    texts = [contents(item) for item in source.read_texts(part, dataset("obelics"))]
    one, two, three = page_sets.TEXTS
    assert texts == [[one, two, three], [one], [two, ""], [three]]


def test_reads_from_another_store(tmp_path: pathlib.Path) -> None:
    path = page_sets.write_obelics(tmp_path)
    (tmp_path / "images" / page_sets.NAMES[2]).unlink()
    store = fsspec.filesystem("memory")
    try:
        store.put(str(tmp_path), "/obelics", recursive=True)
        there, here = read(f"memory://obelics/{NAME}"), read(path)
        assert verdicts(there) == verdicts(here) != []
        for item, expected in zip(there, here, strict=True):
            if isinstance(item, Document):
                assert contents(item) == contents(expected)
    finally:
        store.rm("/obelics", recursive=True)


def test_builds_and_verifies(tmp_path: pathlib.Path) -> None:
    page_sets.write_obelics(tmp_path / "raw")
    config = raw_inputs.write_config(
        tmp_path / "build.yaml",
        [{"name": "pages", "format": "obelics", "paths": ["raw/*.parquet"]}],
        sequence_length=256,
        prompts={"max_tokens": 64},
    )
    assert run_build(config, tmp_path / "out") == 0
    assert verify.main([str(tmp_path / "out")]) == 0
    accounts = load_dataset_manifest(str(tmp_path / "out" / "pages")).accounts
    assert (accounts.read, accounts.kept) == (4, 4)

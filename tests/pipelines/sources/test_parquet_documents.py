"""Documents through our own Parquet format, and what its reader says of damage."""

import itertools
import pathlib
import re
from typing import Any

import building
import pair_sources
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import raw_inputs
from building import run_build
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_sources import dataset, verdicts

from gato.pipelines import discover, estimate, verify
from gato.pipelines.sources import base
from gato.pipelines.sources.canonical_writer import EpisodeWriter
from gato.pipelines.sources.document_writer import DocumentWriter
from gato.pipelines.sources.parquet_documents import ParquetDocumentsSource
from gato.schemas import files
from gato.schemas.episode import Document, ImagePart, Unreadable
from gato.schemas.errors import Reason, UsageError
from gato.schemas.manifest import load_dataset_manifest

# One of each kind, as the writer takes it.
DOCUMENTS: tuple[dict[str, Any], ...] = (
    {"text": "naïve 東京\n\n and more"},
    {"image": b"\x89PNG...", "caption": "a cat"},
    {"image": b"\xff\xd8...", "question": "How many?", "answer": "two"},
    {"parts": ["before ", b"\x89PNG...", "between", b"\xff\xd8...", "after"]},
)


def read(path: pathlib.Path | str, **options: Any) -> list[Document | Unreadable]:
    return pair_sources.read("parquet_documents", path, **options)


def write(path: pathlib.Path | str, rows: Any, **options: Any) -> None:
    with DocumentWriter(str(path), **options) as writer:
        for row in rows:
            writer.add(**row)


def parts_of(item: Document | Unreadable) -> list[tuple[str | bytes, bool, bool]]:
    """Returns content, eos and question of each part."""
    assert isinstance(item, Document), item
    return [
        (p.data, False, False)
        if isinstance(p, ImagePart)
        else (p.text, p.eos, p.question)
        for p in item.parts
    ]


def expected_parts(row: dict[str, Any]) -> list[tuple[str | bytes, bool, bool]]:
    """Says again what a row becomes, by the documentation."""
    if "text" in row:
        return [(row["text"], True, False)]
    if "caption" in row:
        return [(row["image"], False, False), (row["caption"], True, False)]
    if "question" in row:
        asked = f"Q: {row['question']} A:"
        image, answer = row["image"], row["answer"]
        return [(image, False, False), (asked, False, True), (answer, True, False)]
    joined: list[str | bytes] = []
    for is_text, run in itertools.groupby(row["parts"], lambda p: isinstance(p, str)):
        together = list(run)
        joined += ["\n\n".join(together)] if is_text else together
    joined += [""] if isinstance(joined[-1], bytes) else []
    last = len(joined) - 1
    return [(p, i == last and isinstance(p, str), False) for i, p in enumerate(joined)]


TEXT = st.text(min_size=1, max_size=9)
IMAGE = st.binary(min_size=1, max_size=9)
PAGE = st.lists(TEXT | IMAGE, min_size=1, max_size=6).filter(
    lambda parts: any(isinstance(part, str) for part in parts)
)
KINDS: tuple[dict[str, Any], ...] = (
    {"text": TEXT},
    {"image": IMAGE, "caption": TEXT},
    {"image": IMAGE, "question": TEXT, "answer": TEXT},
    {"parts": PAGE},
)
ROWS = st.sampled_from(KINDS).flatmap(
    lambda kind: st.lists(st.fixed_dictionaries(kind), min_size=1, max_size=6)
)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.sampled_from([1, 20, 1 << 20]))
def test_round_trip(rows: list[dict[str, Any]], group: int) -> None:
    path = "memory://test_parquet_documents/0.parquet"
    write(path, rows, row_group_bytes=group)
    items = read(path)
    files.remove(path)
    assert [parts_of(item) for item in items] == [expected_parts(row) for row in rows]
    for number, item in enumerate(items):
        assert isinstance(item, Document)
        assert (item.document_id, item.number) == (f"0.parquet/{number}", number)
        assert item.is_page == ("parts" in rows[0])


@pytest.mark.parametrize("limit", [1, 10**9])
def test_partitions_are_ranges_of_row_groups(
    tmp_path: pathlib.Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": f"text {number} " * 9} for number in range(20)]
    path = tmp_path / "0.parquet"
    write(path, rows, row_group_bytes=200)
    monkeypatch.setattr(base, "MAX_PARTITION_BYTES", limit)
    parts = ParquetDocumentsSource().partition(str(path), "0", dataset("parquet"))
    assert (len(parts) > 3) == (limit == 1)
    assert sum(part.num_items or 0 for part in parts) == 20
    assert [parts_of(item)[0][0] for item in read(path)] == [r["text"] for r in rows]


def test_what_others_write(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "0.parquet"
    table = pa.table(
        {
            "caption": pa.array(["a", "a"]).dictionary_encode(),
            "info/id": [7, None],
            "image": pa.array([b"1", b"2"], pa.large_binary()),
        }
    )
    pq.write_table(table, path)
    rows = [{"image": b"1", "caption": "a"}, {"image": b"2", "caption": "a"}]
    assert list(map(parts_of, read(path))) == list(map(expected_parts, rows))
    parts = [[{"image": b"1"}, {"text": "one"}], [{"text": "two"}]]
    type_ = pa.large_list(pa.struct([("image", pa.binary()), ("text", pa.string())]))
    pq.write_table(pa.table({"parts": pa.array(parts, type_)}), path)
    rows = [{"parts": [b"1", "one"]}, {"parts": ["two"]}]
    assert list(map(parts_of, read(path))) == list(map(expected_parts, rows))


def part(text: Any = None, image: Any = None) -> dict[str, Any]:
    return {"text": text, "image": image}


@pytest.mark.parametrize(
    ("columns", "reason", "words"),
    [
        ({"text": ["a", None]}, Reason.MISSING_FIELD, "the text of row 1"),
        ({"text": [b"a", b""]}, Reason.EMPTY, "must not be empty"),
        ({"text": [b"a", b"\xff"]}, Reason.NOT_UTF8, "must be UTF-8"),
        (
            {"image": [b"1", None], "caption": ["a", "b"]},
            Reason.MISSING_IMAGE,
            "the image of row 1 must be an encoded image, it is null",
        ),
        (
            {"image": [b"1", b""], "question": ["a", "b"], "answer": ["c", "d"]},
            Reason.MISSING_IMAGE,
            "it is empty",
        ),
        (
            {"image": [b"1", b"2"], "question": ["a", "b"], "answer": ["c", None]},
            Reason.MISSING_FIELD,
            "the answer of row 1",
        ),
        ({"parts": [[part("a")], None]}, Reason.MISSING_FIELD, "must not be null"),
        ({"parts": [[part("a")], []]}, Reason.EMPTY, "must have text or images"),
        ({"parts": [[part("a")], [part("")]]}, Reason.EMPTY, "text or images"),
        (
            {"parts": [[part("a")], [part("a", b"1")]]},
            Reason.CORRUPT_RECORD,
            "parts[0] of row 1: just one of text and image",
        ),
        (
            {"parts": [[part("a", None)], [part("a"), part()]]},
            Reason.CORRUPT_RECORD,
            "parts[1] of row 1",
        ),
        (
            {"parts": [[part("a")], [part("a"), part(None, b"")]]},
            Reason.MISSING_IMAGE,
            "parts[1] of row 1",
        ),
        (
            {"parts": [[part(b"a")], [part(b"\xff")]]},
            Reason.NOT_UTF8,
            "parts[0] of row 1",
        ),
    ],
)
def test_one_bad_document_costs_one(
    tmp_path: pathlib.Path, columns: dict[str, Any], reason: Reason, words: str
) -> None:
    path = tmp_path / "0.parquet"
    types = {
        "parts": pa.list_(pa.struct([("text", pa.binary()), ("image", pa.binary())]))
    }
    arrays = {name: pa.array(v, types.get(name)) for name, v in columns.items()}
    pq.write_table(pa.table(arrays), path)
    good, bad = read(path)
    assert isinstance(good, Document)
    assert isinstance(bad, Unreadable)
    assert (bad.item_id, bad.reason) == ("0.parquet/1", reason)
    assert words in bad.detail


@pytest.mark.parametrize(
    ("table", "reason", "words"),
    [
        ({"text": ["a"], "url": ["b"]}, Reason.MISSING_FIELD, "got text, url"),
        ({"caption": ["a"]}, Reason.MISSING_FIELD, "image and caption"),
        ({"text": [1.0]}, Reason.WRONG_DTYPE, "of type string, got double"),
        ({"parts": [["a"]]}, Reason.WRONG_DTYPE, "'parts' is of type list"),
        ({"parts": [[{"text": "a"}]]}, Reason.WRONG_DTYPE, "'parts' is of type"),
    ],
)
def test_files_that_hold_neither_are_refused(
    tmp_path: pathlib.Path, table: dict[str, Any], reason: Reason, words: str
) -> None:
    path = tmp_path / "0.parquet"
    pq.write_table(pa.table(table), path)
    (item,) = read(path)
    assert isinstance(item, Unreadable)
    assert (item.item_id, item.reason) == (None, reason)
    assert words in item.detail
    if reason is Reason.MISSING_FIELD:
        # Read as what it is called, it is refused with both rules.
        (item,) = pair_sources.read("parquet", path)
        assert isinstance(item, Unreadable)
        assert "a timestep has a column 'episode_id'" in item.detail
        assert "a file of documents has the columns text; image and" in item.detail


def test_another_version_and_damage(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "0.parquet"
    write(path, [{"text": "long enough to be damaged " * 9}] * 4, row_group_bytes=300)
    whole = path.read_bytes()
    chunk = pq.ParquetFile(path).metadata.row_group(1).column(0)
    damaged = bytearray(whole)
    damaged[chunk.data_page_offset : chunk.data_page_offset + 30] = b"\xff" * 30
    path.write_bytes(damaged)
    groups = pq.ParquetFile(path).num_row_groups
    lost = verdicts(read(path))
    assert 0 < len(lost) < 4
    assert groups > 1
    assert {reason for _, reason in lost} == {Reason.CORRUPT_FILE}
    for content in (whole[:-9], b"", b"PAR1"):
        path.write_bytes(content)
        assert verdicts(read(path)) == [(None, Reason.CORRUPT_FILE)]
    path.unlink()
    assert verdicts(read(path)) == [(None, Reason.CORRUPT_FILE)]
    table = pa.table({"text": ["a"]}).replace_schema_metadata({"gato_documents": "2"})
    pq.write_table(table, path)
    assert verdicts(read(path)) == [(None, Reason.UNSUPPORTED)]
    with pytest.raises(UsageError, match="is a Parquet file, such as raw/pages"):
        ParquetDocumentsSource().files(str(tmp_path))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, "got nothing"),
        ({"image": b"1"}, "a document has text; image and caption; "),
        ({"text": "a", "parts": ["a"]}, "got text, parts"),
        ({"caption": "a", "image": b"1"}, "which was text, got image and caption"),
        ({"text": ""}, "text is text, got ''"),
        ({"text": b"a"}, "text is text, got b'a'"),
        ({"text": "\ud800"}, "text is Unicode text"),
        ({"image": "1", "caption": "a"}, "image is the bytes of an encoded image"),
        ({"parts": []}, "a page has text among its parts, got 0 images"),
        ({"parts": [b"1"]}, "a page has text among its parts, got 1 images"),
        ({"parts": ["a", 7]}, "parts[1] is text, got 7"),
        ({"parts": ["a", b""]}, "parts[1] is the bytes of"),
    ],
)
def test_what_cannot_be_written(
    tmp_path: pathlib.Path, row: dict[str, Any], words: str
) -> None:
    first = [{"text": "a"}] if "which was" in words else []

    with pytest.raises(ValueError, match=re.escape(words)):
        write(tmp_path / "0.parquet", [*first, row])
    assert list(tmp_path.iterdir()) == []


def test_writers_that_are_not_used_as_meant(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"a file of documents ends in \.parquet"):
        DocumentWriter("a.csv")
    path = tmp_path / "0.parquet"
    with pytest.raises(ValueError, match="holds at least one document"):
        write(path, [])
    with pytest.raises(ValueError, match="DocumentWriter is used in a `with` block"):
        DocumentWriter(str(path)).add(text="a")
    assert list(tmp_path.iterdir()) == []


def write_episode(path: pathlib.Path) -> None:
    with EpisodeWriter(str(path)) as writer:
        zeros = [0.0, 0.0]
        writer.add(
            episode_id="0",
            observations=["a", "b"],
            actions={"x": zeros},
            rewards=zeros,
        )


def settled(folder: pathlib.Path, **options: Any) -> str:
    config = dataset("parquet", paths=(f"{folder}/*",), **options)
    return discover.settle(config, discover.expand(config)).format


def test_the_first_file_says_what_a_data_set_holds(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "1.parquet", DOCUMENTS[:1])
    assert settled(tmp_path) == "parquet_documents"
    (tmp_path / "0.parquet").write_bytes(b"PAR1")
    assert settled(tmp_path) == "parquet_documents"
    with pytest.raises(UsageError, match=r"condition_on_return .* holds documents"):
        settled(tmp_path, condition_on_return=True)
    write_episode(tmp_path / "0.parquet")
    assert settled(tmp_path, condition_on_return=True) == "parquet"
    # A file of the other kind is refused, whichever is the first.
    (item,) = pair_sources.read("parquet", tmp_path / "1.parquet")
    assert isinstance(item, Unreadable)
    assert item.reason is Reason.UNSUPPORTED
    assert "Give documents a data set of their own" in item.detail
    (item,) = read(tmp_path / "0.parquet")
    assert isinstance(item, Unreadable)
    assert item.reason is Reason.MISSING_FIELD
    assert "got episode_id, step" in item.detail


@pytest.mark.slow
def test_a_build_reads_every_kind(tmp_path: pathlib.Path, capsys: Any) -> None:
    (tmp_path / "raw").mkdir()
    one, two = (sample.image for sample in raw_inputs.captioned_images(0, 2))
    rows: tuple[dict[str, Any], ...] = (
        {"text": "a text of its own " * 60},
        {"image": one, "caption": "a picture"},
        {"image": two, "question": "What is it?", "answer": "a picture"},
        {"parts": ["before", one, "between " * 90, two]},
    )
    for number, row in enumerate(rows):
        write(tmp_path / "raw" / f"{number}.parquet", [row] * 3)
    config = raw_inputs.write_config(
        tmp_path / "build.yaml",
        [{"name": "mixed", "format": "parquet", "paths": ["raw/*.parquet"]}],
        **building.SETTINGS,
    )
    assert estimate.main(["--config", str(config)]) == 0
    capsys.readouterr()
    assert run_build(config, tmp_path / "out") == 0
    assert verify.main([str(tmp_path / "out")]) == 0
    manifest = load_dataset_manifest(str(tmp_path / "out" / "mixed"))
    assert manifest.documents is not None
    assert (manifest.documents.read, manifest.documents.kept) == (12, 12)
    assert manifest.tokens.image > 0

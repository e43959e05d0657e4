"""Documents of text files, beside what json, gzip and pyarrow read."""

import gzip
import json
import pathlib
import pickle
import tracemalloc
import unittest.mock
from collections.abc import Callable
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import raw_inputs
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from text_documents import dataset, read, texts_of, verdicts

from gato.pipelines.sources import base, text
from gato.pipelines.sources.text import TextSource
from gato.schemas.episode import Document, Unreadable
from gato.schemas.errors import Reason, UsageError

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def json_lines(records: list[Any]) -> bytes:
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode()


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("name", ["c4.json", "c4.jsonl"])
def test_json_lines(tmp_path: pathlib.Path, name: str, suffix: str) -> None:
    documents = raw_inputs.texts(0, 50)
    records = [{"text": t, "timestamp": "2019", "url": "u"} for t in documents]
    path = tmp_path / (name + suffix)
    path.write_bytes(PACKERS[suffix](json_lines(records)))
    items = read(path)
    assert texts_of(items) == documents
    assert [i.number for i in items] == list(range(50))
    ids = [i.document_id for i in items if isinstance(i, Document)]
    assert ids == [f"{name}{suffix}/{n}" for n in range(50)]


def test_ids_of_the_format_and_another_key(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "dolma.jsonl"
    records = [
        {"body": "a", "id": "doc-9"},
        {"body": "b", "id": 7},
        {"body": "c", "id": None},
        {"body": "d", "id": ""},
        {"body": "e", "id": True},
        {"id": "doc-10"},
    ]
    path.write_bytes(json_lines(records))
    items = read(path, text_key="body")
    assert [i.document_id if isinstance(i, Document) else i.item_id for i in items] == [
        f"dolma.jsonl/{name}" for name in ("doc-9", 7, 2, 3, 4, "doc-10")
    ]
    assert verdicts(items) == [(5, Reason.MISSING_FIELD)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", Reason.CORRUPT_RECORD),
        (b'{"text": "a\x00b"}', Reason.CORRUPT_RECORD),
        (b'["text"]', Reason.CORRUPT_RECORD),
        (b'"text"', Reason.CORRUPT_RECORD),
        (b"[" * 100_000, Reason.CORRUPT_RECORD),
        (b'{"text": %s}' % (b"9" * 5000), Reason.CORRUPT_RECORD),
        (b"{}", Reason.MISSING_FIELD),
        (b'{"text": null}', Reason.MISSING_FIELD),
        (b'{"text": 3}', Reason.WRONG_DTYPE),
        (b'{"text": ["a"]}', Reason.WRONG_DTYPE),
        (b'{"text": ""}', Reason.EMPTY),
        (b'{"text": "T\xfcr"}', Reason.NOT_UTF8),
        (b'{"text": "\\ud800"}', Reason.NOT_UTF8),
    ],
)
def test_a_bad_line_costs_one(
    tmp_path: pathlib.Path, line: bytes, reason: Reason
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "one"}\n\n' + line + b'\n{"text": "two"}')
    items = read(path)
    assert [i.number for i in items] == [0, 2, 3]
    assert verdicts(items) == [(2, reason)]
    assert isinstance(items[1], Unreadable)
    assert "line 3" in items[1].detail
    assert items[1].item_id == "a.jsonl/2"
    assert texts_of([items[0], items[2]]) == ["one", "two"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "id", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.lists(st.tuples(JSON, st.booleans()), max_size=5),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3),
    st.sampled_from(["text", "id", "x"]),
)
def test_good_lines_are_read_as_json_reads_them(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[tuple[Any, bool]],
    changes: list[tuple[int, int]],
    text_key: str,
) -> None:
    lines = [json.dumps(value, ensure_ascii=ascii) for value, ascii in records]
    content = bytearray("\n".join(lines).encode("utf-8", "surrogatepass"))
    for at, byte in changes:
        content[at : at + 1] = bytes([byte])
    path = tmp_path_factory.mktemp("json") / "a.jsonl"
    path.write_bytes(content)
    items = read(path, text_key=text_key)
    with unittest.mock.patch.object(
        text, "_reader_of_good", return_value=lambda line: None
    ):
        assert read(path, text_key=text_key) == items


def test_other_fields_do_not_matter_unless_they_are_not_utf8(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"text": "one", "x": NaN}\n'
        b'{"text": "two", "x": "\\ud800"}\n'
        b'{"text": "none", "text": "three"}\n'
        b'{"te\\u0078t": "four", "id": 123456789012345678901234567890}\n'
        b'{"text": "five", "x": %s}\n'
        b'{"text": "no", "x": "T\xfcr"}\n' % (b"9" * 5000)
    )
    *good, bad = read(path)
    assert texts_of(good) == ["one", "two", "three", "four", "five"]
    assert isinstance(good[3], Document)
    assert good[3].document_id == "a.jsonl/123456789012345678901234567890"
    assert verdicts([bad]) == [(5, Reason.NOT_UTF8)]


def test_a_byte_order_mark_before_the_first_record(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"text": "one"}\r\n')
    assert texts_of(read(path)) == ["one"]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_truncation_keeps_the_good_documents(
    tmp_path: pathlib.Path, suffix: str
) -> None:
    generator = np.random.default_rng(0)
    documents = [generator.bytes(400).hex() for _ in range(3000)]
    packed = PACKERS[suffix](json_lines([{"text": t} for t in documents]))
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(packed[: len(packed) * 2 // 3])
    *good, last = read(path)
    assert 1000 < len(good) < 2100
    assert texts_of(good) == documents[: len(good)]
    assert isinstance(last, Unreadable)
    assert (last.item_id, last.reason) == (None, Reason.CORRUPT_FILE)
    assert last.number == len(good)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("content", [b"", b"no compressed data at all"])
def test_what_is_not_compressed_at_all(
    tmp_path: pathlib.Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(content)
    assert verdicts(read(path)) == [(0, Reason.CORRUPT_FILE)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.json.gz", "a.parquet"])
def test_a_file_that_vanished(tmp_path: pathlib.Path, name: str) -> None:
    assert verdicts(read(tmp_path / name)) == [(0, Reason.CORRUPT_FILE)]


def test_a_file_that_shrank_since_it_was_split(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines([{"text": "one"}, {"text": "two"}]))
    (partition,) = TextSource().partition(str(path), "a.jsonl", dataset())
    path.write_bytes(json_lines([{"text": "one"}]))
    items = list(TextSource().read(partition, dataset()))
    assert texts_of(items[:1]) == ["one"]
    assert verdicts(items) == [(1, Reason.CORRUPT_FILE)]


# Plain text

STORY = "\ufeff Once\r\nupon  \n\n \t\r\na time\n\nthe\nend\n"


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (None, {0: STORY}),
        ("file", {0: STORY}),
        (
            "line",
            {0: "\ufeff Once", 1: "upon  ", 4: "a time", 6: "the", 7: "end"},
        ),
        ("paragraph", {0: "\ufeff Once\r\nupon  ", 4: "a time", 6: "the\nend"}),
    ],
)
def test_plain_text_is_taken_as_stored(
    tmp_path: pathlib.Path, suffix: str, document: Any, expected: dict[int, str]
) -> None:
    path = tmp_path / f"story.txt{suffix}"
    path.write_bytes(PACKERS[suffix](STORY.encode()))
    items = read(path, document=document)
    assert dict(zip([i.number for i in items], texts_of(items), strict=True)) == (
        expected
    )
    ids = [i.document_id for i in items if isinstance(i, Document)]
    assert ids == [f"story.txt{suffix}/{n}" for n in expected]


def test_a_large_text_must_choose(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "MAX_TEXT_BYTES", 30)
    path = tmp_path / "a.txt"
    path.write_bytes(b"words and words\n" * 2)
    with pytest.raises(UsageError, match="document: line, paragraph or file"):
        read(path)
    assert len(texts_of(read(path, document="file"))[0]) == 32
    assert len(read(path, document="line")) == 2
    # What a compressed text comes to is known only once it is read.
    packed = tmp_path / "a.txt.gz"
    packed.write_bytes(gzip.compress(b"words " * 1000, mtime=0))
    monkeypatch.setattr(text, "MAX_TEXT_BYTES", 100)
    assert verdicts(read(packed)) == [(0, Reason.TOO_LONG)]


def test_lines_and_paragraphs_beyond_the_limit(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "MAX_TEXT_BYTES", 20)
    path = tmp_path / "a.txt"
    long_line = b"x" * 21
    path.write_bytes(
        b"ok\n" + long_line + b"\n\nten bytes.\nten bytes.\n\n" + b"y" * 20
    )
    items = read(path, document="line")
    assert verdicts(items) == [(1, Reason.TOO_LONG)]
    assert len(items) == 5
    items = read(path, document="paragraph")
    assert verdicts(items) == [(0, Reason.TOO_LONG), (3, Reason.TOO_LONG)]
    assert texts_of(items[2:]) == ["y" * 20]


def test_text_that_is_not_utf8_or_empty(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\nT\xfcr\ntwo\n")
    items = read(path, document="line")
    assert verdicts(items) == [(1, Reason.NOT_UTF8)]
    assert verdicts(read(path)) == [(0, Reason.NOT_UTF8)]
    path.write_bytes(b"")
    assert verdicts(read(path)) == [(0, Reason.EMPTY)]
    assert read(path, document="line") == []


# Ranges


@given(
    st.text(alphabet="ab \r\n", max_size=60),
    st.integers(1, 20),
    st.sampled_from(["line", "paragraph"]),
)
def test_ranges_of_any_size_read_the_same(
    tmp_path_factory: pytest.TempPathFactory, content: str, size: int, unit: str
) -> None:
    path = tmp_path_factory.mktemp("range") / "a.txt"
    path.write_bytes(content.encode())
    whole = read(path, document=unit)
    with unittest.mock.patch.object(base, "MAX_PARTITION_BYTES", size):
        parts = TextSource().partition(str(path), "a.txt", dataset(document=unit))
        assert read(path, document=unit) == whole
    stops = [part.stop for part in parts]
    assert [part.start for part in parts] == [0, *stops[:-1]]
    assert stops[-1] == len(content)
    assert sum(part.num_bytes for part in parts) == len(content)


def test_ranges_of_json_lines(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = raw_inputs.write_jsonl(tmp_path / "a.jsonl", raw_inputs.texts(1, 500))
    whole = read(path)
    monkeypatch.setattr(base, "MAX_PARTITION_BYTES", path.stat().st_size // 7)
    parts = TextSource().partition(str(path), "a.jsonl", dataset())
    assert 6 <= len(parts) <= 8
    assert read(path) == whole
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert len(TextSource().partition(str(packed), "a", dataset())) == 1


def test_compressed_documents_stream_in_flat_memory(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    line = json.dumps({"text": "x" * 100_000}).encode() + b"\n"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(600):
            file.write(line)
    source, config = TextSource(), dataset()
    (partition,) = source.partition(str(path), "a", config)
    tracemalloc.start()
    try:
        count = sum(1 for _ in source.read(partition, config))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 600
    assert peak < 8 << 20


# Paths


def test_paths_of_another_kind(tmp_path: pathlib.Path) -> None:
    for wrong in ("a.md", "a", "a.gz", "a.txt.bz2", "a.parquet.gz"):
        with pytest.raises(UsageError, match=r"ends in \.txt"):
            TextSource().files(str(tmp_path / wrong))
    folder = tmp_path / "folder.txt"
    folder.mkdir()
    with pytest.raises(UsageError, match="this is a folder"):
        TextSource().files(str(folder))


def test_reads_from_another_store(tmp_path: pathlib.Path) -> None:
    documents = raw_inputs.texts(6, 20)
    local = raw_inputs.write_jsonl(tmp_path / "a.jsonl", documents)
    table = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": documents}), table)
    store = fsspec.filesystem("memory")
    try:
        store.pipe("/text/a.jsonl.gz", gzip.compress(local.read_bytes()))
        store.pipe("/text/a.parquet", table.read_bytes())
        for name in ("a.jsonl.gz", "a.parquet"):
            url = f"memory://text/{name}"
            assert TextSource().files(url) == [url]
            assert texts_of(read(url)) == documents
    finally:
        store.rm("/text", recursive=True)


def test_is_picklable() -> None:
    assert pickle.loads(pickle.dumps(TextSource())).items == "documents"

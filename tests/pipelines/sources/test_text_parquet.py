"""Documents of Parquet columns, beside what was written with pyarrow."""

import pathlib
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import raw_inputs
from text_documents import dataset, read, texts_of, verdicts

from gato.pipelines.sources import base
from gato.pipelines.sources.text import TextSource
from gato.schemas.episode import Document
from gato.schemas.errors import Reason


def write_parquet(
    path: pathlib.Path, columns: dict[str, Any], rows: int = 10
) -> pathlib.Path:
    pq.write_table(pa.table(columns), path, row_group_size=rows)
    return path


@pytest.mark.parametrize(
    "type_",
    [
        pa.string(),
        pa.large_string(),
        pa.binary(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
    ids=str,
)
def test_parquet_columns(tmp_path: pathlib.Path, type_: pa.DataType) -> None:
    documents = raw_inputs.texts(2, 35)
    column = pa.array(documents).cast(type_)
    path = write_parquet(tmp_path / "a.parquet", {"text": column, "n": range(35)})
    items = read(path)
    assert texts_of(items) == documents
    assert [i.number for i in items] == list(range(35))


def test_ranges_of_row_groups(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = raw_inputs.texts(3, 95)
    columns = {"body": documents, "id": [f"id-{n}" for n in range(95)]}
    path = write_parquet(tmp_path / "a.parquet", columns)
    whole = read(path, text_key="body")
    assert texts_of(whole) == documents
    assert isinstance(whole[94], Document)
    assert whole[94].document_id == "a.parquet/id-94"
    monkeypatch.setattr(base, "MAX_PARTITION_BYTES", path.stat().st_size // 4)
    parts = TextSource().partition(str(path), "a.parquet", dataset())
    assert 4 <= len(parts) <= 6
    assert [p.first_number for p in parts] == [p.start * 10 for p in parts]
    assert read(path, text_key="body") == whole


def test_bad_parquet_rows_cost_one_each(tmp_path: pathlib.Path) -> None:
    values = pa.array([b"a", None, b"", b"T\xfcr", b"b"], pa.binary())
    # As another writer's would be: a string column that holds no UTF-8.
    array = pa.Array.from_buffers(
        pa.string(), len(values), values.buffers(), values.null_count
    )
    path = write_parquet(tmp_path / "a.parquet", {"text": array})
    items = read(path)
    assert verdicts(items) == [
        (1, Reason.MISSING_FIELD),
        (2, Reason.EMPTY),
        (3, Reason.NOT_UTF8),
    ]
    assert texts_of([items[0], items[4]]) == ["a", "b"]


def test_parquet_without_the_column_or_of_another_type(tmp_path: pathlib.Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": range(25)})
    assert verdicts(read(path)) == [(n, Reason.WRONG_DTYPE) for n in range(25)]
    items = read(path, text_key="body")
    assert verdicts(items) == [(n, Reason.MISSING_FIELD) for n in range(25)]


def test_a_truncated_parquet_file(tmp_path: pathlib.Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": raw_inputs.texts(4, 20)})
    path.write_bytes(path.read_bytes()[:-10])
    assert verdicts(read(path)) == [(0, Reason.CORRUPT_FILE)]


def test_a_damaged_row_group_costs_its_rows(tmp_path: pathlib.Path) -> None:
    documents = raw_inputs.texts(5, 30)
    path = write_parquet(tmp_path / "a.parquet", {"text": documents})
    offset = pq.read_metadata(path).row_group(1).column(0).dictionary_page_offset
    assert offset is not None
    content = bytearray(path.read_bytes())
    content[offset : offset + 40] = b"\xff" * 40
    path.write_bytes(content)
    items = read(path)
    assert verdicts(items) == [(n, Reason.CORRUPT_FILE) for n in range(10, 20)]
    assert texts_of(items[:10] + items[20:]) == documents[:10] + documents[20:]

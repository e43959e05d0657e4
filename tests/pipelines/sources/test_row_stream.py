"""Rows of Parquet in order, and what a damaged row group costs."""

import itertools
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gato.pipelines.sources.parquet_rows import open_parquet
from gato.pipelines.sources.row_stream import RowStream, stored_column
from gato.schemas.errors import QuarantineError, Reason


def write(path: pathlib.Path, num_rows: int = 60, group: int = 20) -> pathlib.Path:
    table = pa.table({"row": np.arange(num_rows), "other": np.zeros(num_rows)})
    pq.write_table(table, path, row_group_size=group, compression="gzip")
    return path


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    cuts=st.lists(st.integers(0, 60), min_size=2, max_size=8),
    batch_rows=st.integers(1, 70),
)
def test_takes_any_ascending_ranges(
    tmp_path: pathlib.Path, cuts: list[int], batch_rows: int
) -> None:
    path = tmp_path / "a.parquet"
    if not path.exists():
        write(path)
    bounds = sorted(set(cuts))
    with open_parquet(str(path)) as file:
        rows = RowStream(file, ["row"], bounds[0], batch_rows)
        for start, stop in itertools.pairwise(bounds):
            taken = rows.take(start, stop)
            assert taken["row"].to_pylist() == list(range(start, stop))


def test_a_damaged_row_group_costs_its_own_rows(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "a.parquet")
    chunk = pq.read_metadata(path).row_group(1).column(0)
    content = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content[start : start + chunk.total_compressed_size] = bytes(
        chunk.total_compressed_size
    )
    path.write_bytes(bytes(content))
    with open_parquet(str(path)) as file:
        rows = RowStream(file, ["row"])
        assert rows.take(0, 20).num_rows == 20
        for start, stop in ((15, 25), (25, 40), (30, 45)):
            with pytest.raises(QuarantineError) as caught:
                rows.take(start, stop)
            assert caught.value.reason == Reason.CORRUPT_FILE
            assert "row group 1" in caught.value.detail
        assert rows.take(45, 60)["row"].to_pylist() == list(range(45, 60))
        with pytest.raises(QuarantineError, match="which has 60"):
            rows.take(55, 61)


def test_images_of_structs_are_bytes() -> None:
    images = [{"bytes": b"a", "path": None}, {"bytes": b"b", "path": "x"}]
    both = pa.chunked_array([pa.array(images), pa.array(images)])
    assert stored_column(both, "image") == [b"a", b"b", b"a", b"b"]
    with pytest.raises(QuarantineError, match="nulls"):
        stored_column(pa.chunked_array([pa.array([{"bytes": None}])]), "image")

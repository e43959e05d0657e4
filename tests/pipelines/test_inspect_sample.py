"""What a page of gato-inspect is made from: chosen rows, sources, thresholds, bins."""

import pathlib
from typing import Any

import handmade
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gato.pipelines.inspection import overview, page, sample, sources
from gato.schemas import files
from gato.schemas.manifest import load_dataset_manifest

MODEL = pathlib.Path(__file__).parents[1] / "testdata/vocabulary/text32k.model"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("sample") / "out"
    model = MODEL.read_bytes()
    handmade.write_dataset(out / "toy", handmade.control_rows(), model=model)
    return out


@given(total=st.integers(0, 10**9), count=st.integers(0, 300))
def test_spread_numbers_differ_and_lie_below(total: int, count: int) -> None:
    numbers = sample.spread(total, count)
    assert len(set(numbers)) == len(numbers) == min(total, count)
    assert all(0 <= number < total for number in numbers)
    assert numbers == sorted(numbers)


@given(st.lists(st.integers(0, 500), max_size=20), st.integers(0, 1000))
def test_shares_are_as_equal_as_they_can_be(available: list[int], count: int) -> None:
    shares = sample.allot(available, count)
    assert sum(shares) == min(count, sum(available))
    assert all(share <= most for share, most in zip(shares, available, strict=True))
    short = [s for s, most in zip(shares, available, strict=True) if s < most]
    # Who could take more has within one of what anybody has.
    assert not short or min(short) >= max(shares) - 1


def test_of_a_huge_build_few_shards_are_asked(build) -> None:
    manifest = load_dataset_manifest(str(build / "toy"))
    shards = tuple((f"gs://b/toy/{n}", 1_000_000) for n in range(10_000))
    huge = sample.SampledDataset(folder="gs://b/toy", manifest=manifest, shards=shards)
    chosen = sample.choose_rows(huge, 100)
    assert len(chosen) == 32
    assert sum(len(numbers) for _, numbers in chosen) == 100
    assert all(0 <= n < 1_000_000 for _, numbers in chosen for n in numbers)


def test_only_chosen_rows_are_read(tmp_path, monkeypatch) -> None:
    model = MODEL.read_bytes()
    rows = [handmade.row("toy", handmade.window(n, 0, 6)) for n in range(200)]
    shards = {"train": [rows[:100], rows[100:]], "validation": []}
    folder = handmade.write_dataset(tmp_path / "toy", shards, model=model)
    monkeypatch.setattr(page, "_SURVEYED_ROWS", 6)
    read: list[int] = []
    ranges = files.RangeReader.read

    def counted(self: files.RangeReader, wanted: Any) -> Any:
        read.extend(stop - start for start, stop in wanted)
        return ranges(self, wanted)

    whole: list[str] = []
    read_bytes = files.read_bytes
    monkeypatch.setattr(files.RangeReader, "read", counted)
    monkeypatch.setattr(
        files, "read_bytes", lambda path: (whole.append(path), read_bytes(path))[1]
    )
    model_shown, _ = page.page_model(str(folder), first=None, count=4)
    assert len(model_shown["rows"]) == 4
    assert [row["number"] for row in model_shown["rows"]] == [25, 75, 25, 75]
    total = sum(path.stat().st_size for path in folder.glob("*.tfrecord"))
    assert sum(read) < total / 10
    assert not [path for path in whole if path.endswith((".tfrecord", ".idx"))]
    assert model_shown["datasets"][0]["survey"] == {"rows": 6, "complete": False}


@pytest.mark.parametrize(
    ("patterns", "name", "expected"),
    [
        (["gs://b/raw/*/*-v0"], "toy/a/b-v0/7", ["gs://b/raw/*/*-v0"]),
        (["gs://b/raw/*/*/*-v0"], "toy/a/b-v0/7", ["gs://b/raw/toy/a/b-v0"]),
        (["/r/*.tar"], "x.tar/000012", ["/r/x.tar"]),
        (["/r/x.tar", "/s/*.tar"], "x.tar/000012", ["/r/x.tar", "/s/*.tar"]),
        (["/r/*.txt"], "b.txt/0#3", ["/r/b.txt"]),
        (["/r/*/*.txt"], "b.txt/0", ["/r/*/*.txt"]),
        (["/r/*"], "lonely", ["/r/*"]),
        ([], "a/0", []),
    ],
)
def test_paths_of_sources(patterns, name, expected) -> None:
    assert sources.source_paths(patterns, name) == expected


@pytest.mark.parametrize(
    ("dataset", "fraction", "value", "why"),
    [
        ({"filter": {"by": "return"}}, 0.8, 1.2, "0.8 of the expert return 1.5"),
        ({"filter": {"by": "return"}}, None, None, "unknown"),
        ({"filter": {"by": "none"}}, 0.8, None, "the filter is off"),
        ({"filter": {"by": "success"}}, 0.8, None, "by success"),
        ({}, 0.8, None, "unknown"),
    ],
)
def test_thresholds(build, dataset, fraction, value, why) -> None:
    (task,) = load_dataset_manifest(str(build / "toy")).tasks.values()
    config = {"dataset": dataset}
    if fraction is not None:
        config["expert_fraction"] = fraction
    told = overview.threshold(config, task)
    assert told["value"] == value
    assert why in told["why"]
    without = task.model_copy(update={"expert_return": None})
    assert overview.threshold(config, without)["value"] is None


def test_histograms() -> None:
    assert overview.histogram([]) is None
    one = overview.histogram([1.5, 1.5])
    assert one == {"least": 1.5, "most": 1.5, "low": 1.5, "high": 1.5, "counts": [2]}
    whole = overview.histogram([6, 6, 8])
    assert whole is not None
    assert (whole["low"], whole["high"], whole["counts"]) == (5.5, 8.5, [2, 0, 1])
    many = overview.histogram(np.linspace(0, 1, 1000).tolist())
    assert many is not None
    assert sum(many["counts"]) == 1000
    assert len(many["counts"]) == 24

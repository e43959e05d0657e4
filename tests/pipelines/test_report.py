"""The summary and the progress of `gato-build`, as a terminal or a pipe shows them."""

import io
import pathlib
import time
from typing import Any

import building
import pytest
import rich.console

from gato.pipelines import progress, report
from gato.schemas.manifest import DatasetManifest, load_dataset_manifest


def console(width: int) -> rich.console.Console:
    return rich.console.Console(file=io.StringIO(), width=width)


def printed(where: rich.console.Console) -> str:
    assert isinstance(where.file, io.StringIO)
    return where.file.getvalue()


@pytest.fixture
def manifests(undisturbed: Any) -> list[DatasetManifest]:
    folders = (undisturbed.output / name for name in ("walk", "pairs", "text"))
    return [load_dataset_manifest(str(folder)) for folder in folders]


@pytest.mark.parametrize("width", [80, 120])
def test_the_summary_fits_and_cuts_nothing(
    manifests: list[DatasetManifest], width: int
) -> None:
    name = "a_data_set_of_a_long_name"
    large = manifests[0].model_copy(
        update={"dataset": name, "rows": 123_456_789, "sequence_length": 1024}
    )
    where = console(width)
    report.print_summary([*manifests, large], {"text"}, where)
    text = printed(where)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text
    head = lines[1].split()
    assert head[:2] == ["data", "set"]
    rows = {cells[0]: cells[1:] for cells in map(str.split, lines) if len(cells) == 7}
    for manifest in manifests:
        accounts, slots = manifest.accounts, manifest.rows * manifest.sequence_length
        assert rows[manifest.dataset][:4] == [
            f"{accounts.read:,}",
            f"{accounts.kept:,}",
            f"{manifest.rows:,}",
            f"{slots - manifest.tokens.padding:,}",
        ]
    assert "123.5 M" in text
    assert "126.4 G" in text
    joined = " ".join(text.split())
    assert (
        f"{manifests[0].accounts.low_return:,} left out by the expert filter" in joined
    )
    assert joined.count("finished before, with the same input and config") == 1


def test_quarantine_is_told_with_reasons_and_file(
    manifests: list[DatasetManifest],
) -> None:
    documents = manifests[2].accounts.model_copy(
        update={"quarantined": {"corrupt_image": 2, "too_long": 1}}
    )
    where = console(200)
    damaged = manifests[2].model_copy(update={"documents": documents})
    report.print_summary([damaged], set(), where)
    assert (
        "3 quarantined: 2 corrupt_image, 1 too_long (see text/quarantine.jsonl)"
        in printed(where)
    )


def test_nothing_finished_prints_nothing() -> None:
    where = console(80)
    report.print_summary([], set(), where)
    assert printed(where) == ""


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (9_999_999, "9,999,999"),
        (10_000_000, "10.0 M"),
        (1_234_567_890, "1.2 G"),
        (5 * 10**12, "5.0 T"),
    ],
)
def test_numbers_stay_short(number: int, text: str) -> None:
    assert report.short_number(number) == text


def wait_for(display: progress.Display, expected: dict[str, int]) -> None:
    deadline = time.monotonic() + 10
    while display.totals() != expected:
        assert time.monotonic() < deadline, display.totals()
        time.sleep(0.02)


def test_stages_percent_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)
    where = console(80)
    with progress.Display(1000, where) as display:
        reporter = progress.Reporter(display.port)
        other = progress.Reporter(display.port)
        # What an earlier run left says nothing about the speed of this one.
        reporter.add(items=3, tokens=40, reused_bytes=500)
        reporter.flush()
        other.add(items=2, tokens=60, raw_bytes=250)
        other.flush()
        wait_for(
            display,
            {"items": 5, "tokens": 100, "reused_bytes": 500, "raw_bytes": 250},
        )
        assert display._where()[:2] == ("tokenizing", "75%")
        assert display._where()[2].endswith("left")
        assert display._counted()[:2] == ("5 items", "100 tokens")
        reporter.add(planned_fragments=2)
        reporter.flush()
        wait_for(display, display.totals() | {"planned_fragments": 2})
        assert display._where() == ("planning",)
        reporter.add(planned_windows=8)
        other.add(windows=2, rows=1, row_bytes=3_000_000)
        reporter.flush()
        other.flush()
        done = {"planned_windows": 8, "windows": 2, "rows": 1, "row_bytes": 3_000_000}
        wait_for(display, display.totals() | done)
        assert display._where()[:2] == ("assembling", "25%")
        assert "3.0 MB written" in display._counted()
        time.sleep(0.5)
    assert "assembling  25%" in printed(where)


def test_a_reporter_without_a_display_is_silent() -> None:
    reporter = progress.Reporter(None)
    reporter.add(items=1)
    reporter.flush()
    assert reporter._counts == {}


def test_the_command_prints_the_summary(
    undisturbed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config, output = undisturbed.config, undisturbed.output
    assert building.run_build(config, pathlib.Path(output), "--keep_fragments") == 0
    text = capsys.readouterr().err
    assert "finished before" in text
    assert "Next: gato-verify" in text

"""Fragments: what is written is read back, run by run, and damage is told."""

import io
import itertools
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from gato.pipelines import fragment, fragment_data
from gato.pipelines.fragment import FragmentWriter
from gato.pipelines.fragment_data import RUN, FragmentData, Slice
from gato.schemas import files
from gato.schemas.errors import GatoError
from gato.schemas.tfrecord import frame
from gato.tokenizers.timestep import TokenizedItem


def an_item(
    seed: int, step_slots: list[int], images_per_step: int = 0, dtype: str = "<u2"
) -> TokenizedItem:
    generator = np.random.default_rng(seed)
    count = sum(step_slots)
    images = len(step_slots) * images_per_step
    return TokenizedItem(
        tokens=generator.integers(0, 30_000, count).astype(dtype),
        kind=generator.integers(0, 32, count).astype(np.uint8),
        step_slots=np.array(step_slots, np.int32),
        images=[generator.bytes(int(n)) for n in generator.integers(1, 99, images)],
        image_info=generator.integers(1, 64, (images, 3)).astype(np.int32),
        content_hash=f"{seed:032x}",
        reencoded=images,
    )


def write(path: str, items: list[TokenizedItem | None]) -> None:
    with files.open_atomic(f"{path}.data") as file:
        writer = FragmentWriter(file)
        for number, item in enumerate(items):
            if item is None:
                writer.add(item_id=f"e/{number}", reason="nonfinite", detail="NaN")
            else:
                told: dict[str, Any] = {"return": 0.5 * number}
                writer.add(item, item_id=f"e/{number}", **told)
    files.write_atomic(f"{path}.footer", writer.footer(note="kept"))


def run_of(footer: fragment.Footer, row: int, first: int, count: int) -> tuple:
    """Returns a `RUN` record of timesteps, from the footer, summed naively."""
    item = footer.item(row)
    steps = np.repeat(item["run_slots"], item["run_steps"]).tolist()
    sizes = item["image_bytes"]
    each = len(sizes) // len(steps)
    return (
        0,
        row,
        item["data_offset"],
        item["head_bytes"],
        len(steps),
        len(set(steps)) > 1,
        each,
        item["num_slots"],
        first,
        count,
        sum(steps[:first]),
        sum(steps[first : first + count]),
        sum(sizes[: first * each]),
        sum(sizes[first * each : (first + count) * each]),
    )


def read(path: str, runs: Sequence[tuple], dtype: str = "uint16") -> list[Slice]:
    return FragmentData(dtype).read([path], np.array(list(runs), RUN))


def assert_run(found: Slice, item: TokenizedItem, first: int, count: int) -> None:
    begin = int(item.step_slots[:first].sum())
    stop = begin + int(item.step_slots[first : first + count].sum())
    np.testing.assert_array_equal(found.tokens, item.tokens[begin:stop])
    np.testing.assert_array_equal(found.kind, item.kind[begin:stop])
    np.testing.assert_array_equal(
        found.step_slots, item.step_slots[first : first + count]
    )
    each = len(item.images) // len(item.step_slots)
    chosen = slice(first * each, (first + count) * each)
    assert found.images == item.images[chosen]
    np.testing.assert_array_equal(found.image_info, item.image_info[chosen])


ITEMS = st.lists(
    st.tuples(
        st.one_of(
            st.lists(st.integers(1, 9), min_size=1, max_size=12),
            st.builds(lambda n, t: [n] * t, st.integers(1, 9), st.integers(1, 40)),
        ),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=5,
)


@hypothesis.given(ITEMS, st.data(), st.sampled_from(["<u2", "<i4"]))
def test_any_run_reads_back(
    tmp_path_factory: pytest.TempPathFactory,
    shapes: list[tuple[list[int], int]],
    data: st.DataObject,
    dtype: str,
) -> None:
    items = [an_item(n, *shape, dtype=dtype) for n, shape in enumerate(shapes)]
    path = str(tmp_path_factory.mktemp("fragment") / "f")
    with_bad = [None, *items]
    write(path, with_bad)
    footer = fragment.read_footer(path)
    runs = []
    for _ in range(4):
        row = data.draw(st.integers(1, len(items)))
        steps = len(items[row - 1].step_slots)
        first = data.draw(st.integers(0, steps - 1))
        runs.append((row, first, data.draw(st.integers(1, steps - first))))
    found = read(path, [run_of(footer, *run) for run in runs], np.dtype(dtype).name)
    for (row, first, count), piece in zip(runs, found, strict=True):
        assert piece.about == {"item_id": f"e/{row}", "return": 0.5 * row}
        assert_run(piece, items[row - 1], first, count)


def test_runs_are_read_from_their_fragments(tmp_path: pathlib.Path) -> None:
    paths = [str(tmp_path / name) for name in "ab"]
    items = [an_item(n, [4] * 9, images_per_step=n) for n in range(2)]
    runs = []
    for number, path in enumerate(paths):
        write(path, [items[number]])
        footer = fragment.read_footer(path)
        pathlib.Path(f"{path}.footer").unlink()
        for first in (6, 0, 3):
            runs.append((number, *run_of(footer, 0, first, 2)[1:]))
    order = [3, 0, 5, 1, 4, 2]
    asked = np.array([runs[i] for i in order], RUN)
    found = FragmentData("uint16").read(paths, asked)
    for run, piece in zip(asked, found, strict=True):
        assert_run(piece, items[run["fragment"]], int(run["first"]), 2)


def test_of_a_text_any_slots_are_read(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "f")
    text = an_item(0, [1000])
    write(path, [text])
    whole = run_of(fragment.read_footer(path), 0, 0, 1)
    (piece,) = read(path, [(*whole[:10], 256, 300, 0, 0)])
    np.testing.assert_array_equal(piece.tokens, text.tokens[256:556])
    np.testing.assert_array_equal(piece.kind, text.kind[256:556])
    assert piece.step_slots.tolist() == [300]


@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 99)), max_size=30)
)
def test_at_most_twice_what_is_asked_for_is_read(
    tmp_path_factory: pytest.TempPathFactory, ranges: list[tuple[int, int]]
) -> None:
    content = np.random.default_rng(0).bytes(1000)
    path = tmp_path_factory.mktemp("ranges") / "f"
    path.write_bytes(content)
    got: list[tuple[int, int]] = []

    class Counting(files.RangeReader):
        def read(self, ranges: list[tuple[int, int]]) -> list[bytes | memoryview]:
            got.extend(ranges)
            return super().read(ranges)

    asked = np.array(ranges, np.int64).reshape(-1, 2)
    reader = Counting(str(path), mapped=False)
    found = fragment_data.read_together(reader, asked[:, 0], asked[:, 1])
    assert [bytes(piece) for piece in found] == [
        content[start : start + size] for start, size in ranges
    ]
    assert sum(stop - start for start, stop in got) <= 2 * asked[:, 1].sum()
    # No byte is read twice, and neighbours are one request.
    assert all(a[1] < b[0] for a, b in itertools.pairwise(got))


def test_the_footer_has_a_row_for_every_item(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "f")
    varied = an_item(1, [3, 3, 5, 3], images_per_step=2)
    write(path, [None, varied])
    assert fragment.is_complete(path)
    footer = fragment.read_footer(path)
    assert len(footer) == 2
    assert footer.column("item_id") == ["e/0", "e/1"]
    assert footer.column("reason") == ["nonfinite", None]
    assert footer.column("return") == [None, 0.5]
    assert footer.column("run_steps") == [None, [2, 1, 1]]
    assert footer.column("run_slots") == [None, [3, 5, 3]]
    assert footer.item(1)["run_slots"] == [3, 5, 3]
    assert footer.item(0)["head_bytes"] is None
    assert footer.header["note"] == "kept"
    assert footer.header["reencoded"] == 8


def test_equal_items_give_equal_bytes() -> None:
    written = []
    for _ in range(2):
        file = io.BytesIO()
        writer = FragmentWriter(file)
        writer.add(an_item(3, [4, 4], 1), item_id="e/0")
        written.append((file.getvalue(), writer.footer()))
    assert written[0] == written[1]


@pytest.fixture
def complete(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "f"
    write(str(path), [an_item(0, [5] * 30, images_per_step=1)])
    return path


def test_without_its_footer_a_fragment_is_not_complete(complete: pathlib.Path) -> None:
    complete.with_suffix(".footer").unlink()
    assert not fragment.is_complete(str(complete))
    with pytest.raises(FileNotFoundError):
        fragment.read_footer(str(complete))


def test_any_flipped_byte_of_a_footer_is_found(complete: pathlib.Path) -> None:
    footer = complete.with_suffix(".footer")
    good = footer.read_bytes()
    for place in range(0, len(good), 41):
        footer.write_bytes(
            good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :]
        )
        assert not fragment.is_complete(str(complete)), place
    footer.write_bytes(good)
    assert fragment.is_complete(str(complete))


@pytest.mark.parametrize("left", [0, 11, 200, -1])
def test_a_truncated_footer_is_found(complete: pathlib.Path, left: int) -> None:
    footer = complete.with_suffix(".footer")
    footer.write_bytes(footer.read_bytes()[:left])
    assert not fragment.is_complete(str(complete))
    with pytest.raises(GatoError, match=r"f\.footer"):
        fragment.read_footer(str(complete))


def test_a_frame_that_is_no_footer_is_told(complete: pathlib.Path) -> None:
    footer = complete.with_suffix(".footer")
    footer.write_bytes(frame(b"not Arrow"))
    with pytest.raises(GatoError, match="not a fragment's footer"):
        fragment.read_footer(str(complete))
    assert not fragment.is_complete(str(complete))


def test_truncated_data_is_told(complete: pathlib.Path) -> None:
    data = complete.with_suffix(".data")
    data.write_bytes(data.read_bytes()[:-1])
    assert not fragment.is_complete(str(complete))
    run = run_of(fragment.read_footer(str(complete)), 0, 29, 1)
    with pytest.raises(GatoError, match="truncated"):
        read(str(complete), [run])


def test_a_damaged_header_is_told(complete: pathlib.Path) -> None:
    data = complete.with_suffix(".data")
    data.write_bytes(b"\xff" + data.read_bytes()[1:])
    run = run_of(fragment.read_footer(str(complete)), 0, 3, 1)
    with pytest.raises(GatoError, match=re.escape("f.data: bytes 0 to")):
        read(str(complete), [run])


def test_lost_data_is_not_complete(complete: pathlib.Path) -> None:
    complete.with_suffix(".data").unlink()
    assert not fragment.is_complete(str(complete))

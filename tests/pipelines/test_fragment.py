"""Fragments: what is written is read back, run by run, and damage is told."""

import io
import pathlib
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from gato.pipelines import fragment
from gato.pipelines.fragment import FragmentReader, FragmentWriter, Run
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


def assert_run(found: Any, item: TokenizedItem, first: int, count: int) -> None:
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
    reader = FragmentReader(path, dtype.strip("<").replace("u2", "uint16"))
    runs = []
    for _ in range(4):
        row = data.draw(st.integers(1, len(items)))
        steps = len(items[row - 1].step_slots)
        first = data.draw(st.integers(0, steps - 1))
        runs.append(Run(row, first, data.draw(st.integers(1, steps - first))))
    for run, found in zip(runs, reader.read(runs), strict=True):
        assert_run(found, items[run.row - 1], run.first, run.count)


def test_pieces_of_a_text_are_counted_in_slots(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "f")
    text = an_item(0, [1000])
    write(path, [text])
    (piece,) = FragmentReader(path, "uint16").read([Run(0, 256, 300, by_slots=True)])
    np.testing.assert_array_equal(piece.tokens, text.tokens[256:556])
    np.testing.assert_array_equal(piece.kind, text.kind[256:556])
    assert piece.step_slots.tolist() == [300]


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
    assert footer.step_slots(1).tolist() == [3, 3, 5, 3]
    assert footer.cumulative_slots(1) == [0, 3, 6, 11, 14]
    assert footer.images_per_step(1) == 2
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
    reader = FragmentReader(str(complete), "uint16")
    with pytest.raises(GatoError, match="truncated"):
        reader.read([Run(0, 29, 1)])


def test_lost_data_is_not_complete(complete: pathlib.Path) -> None:
    complete.with_suffix(".data").unlink()
    assert not fragment.is_complete(str(complete))

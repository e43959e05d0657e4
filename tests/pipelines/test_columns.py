"""Columns of a fragment: what is too long for a row is condemned, and no more."""

import pathlib
from typing import Any

import numpy as np

from gato.pipelines.columns import item_blocks
from gato.pipelines.fragment import FragmentRef, FragmentWriter, read_footer
from gato.schemas import files
from gato.schemas.config import BuildConfig, Dataset, Prompts
from gato.tokenizers.timestep import TokenizedItem

LENGTH = 100


def an_item(step_slots: list[int], images: int = 0) -> TokenizedItem:
    return TokenizedItem(
        tokens=np.zeros(sum(step_slots), np.uint16),
        kind=np.ones(sum(step_slots), np.uint8),
        step_slots=np.array(step_slots, np.int32),
        images=[b"image"] * images,
        image_info=np.ones((images, 3), np.int32),
        content_hash="0" * 32,
        reencoded=0,
    )


def problems_of(
    path: pathlib.Path, items: list[TokenizedItem], **columns: Any
) -> dict[int, Any]:
    """Returns the quarantine rows by item, in rows of 100 slots."""
    with files.open_atomic(f"{path}.data") as file:
        writer = FragmentWriter(file)
        for number, item in enumerate(items):
            writer.add(item, item_id=f"x/{number}", number=number, **columns)
    footer = writer.footer(order="number", partition={})
    files.write_atomic(f"{path}.footer", footer)
    dataset = Dataset(name="toy", format="minari", paths=("p",))
    config = BuildConfig(
        text_tokenizer="t",
        datasets=(dataset,),
        sequence_length=LENGTH,
        prompts=Prompts(max_tokens=50),
    )
    ref = FragmentRef(dataset="toy", file_index=0, part=0, path=str(path))
    (block,) = item_blocks(ref, read_footer(str(path)), dataset, config)
    assert block.condemned.tolist() == [n in block.problems for n in range(len(items))]
    return block.problems


def test_a_timestep_fills_a_row_and_no_more(tmp_path: pathlib.Path) -> None:
    items = [an_item([LENGTH, 3, LENGTH]), an_item([3, LENGTH + 1, 3])]
    columns = {"task": "walk", "agent": "one", "return": 1.0}
    found = problems_of(tmp_path / "fragment", items, **columns)
    assert list(found) == [1]
    assert (found[1]["episode"], found[1]["reason"]) == ("x/1", "too_long")
    assert "a row of 100 slots (sequence_length), got 101" in found[1]["detail"]


def test_a_pair_fills_a_row_and_no_more_and_texts_are_cut(
    tmp_path: pathlib.Path,
) -> None:
    items = [an_item([LENGTH], 1), an_item([LENGTH + 1], 1), an_item([5 * LENGTH])]
    found = problems_of(tmp_path / "fragment", items)
    assert list(found) == [1]
    assert found[1]["reason"] == "too_long"
    assert "a pair must fit a row of 100 slots" in found[1]["detail"]
    assert "got 101" in found[1]["detail"]

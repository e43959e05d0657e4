"""The independent re-tokenizer on documents: accepts rows written by hand, can fail."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import retokenizer
import retokenizer_segments as segments
from retokenizer_items import Item, Tokens
from retokenizer_plan import Plan
from retokenizer_shards import DecodedRow, check_layout

LENGTH = 12
WHITE = np.full((16, 16, 3), 255, np.uint8)
BLACK = np.zeros((16, 32, 3), np.uint8)


def document(tokens: list[int], pixels: Any = None) -> Tokens:
    """Slots of a text, or of an image with its caption."""
    slots = 0 if pixels is None else pixels.shape[1] // 16
    return Tokens(
        tokens=np.array([0] * slots + tokens),
        kind=np.array([2] * slots + [1] * len(tokens)),
        mask=np.array([0] * slots + [1] * len(tokens)),
        local=np.full(slots + len(tokens), -1),
        steps=[slots + len(tokens)],
        images=[] if pixels is None else [(0, pixels)],
    )


def checker(items: list[Item]) -> segments.DocumentChecker:
    kept = {item.id: item for item in items}
    config = {"sequence_length": LENGTH}
    dataset = {"name": "toy", "image": {"encoding": "png"}}
    return segments.DocumentChecker(config, dataset, Plan(items, kept, [], [], [], {}))


def pairs() -> segments.DocumentChecker:
    """Three pairs, of which a/0 and a/1 show one image."""
    captions = {"a/0": ([5, 2], WHITE), "a/1": ([6, 2], WHITE), "a/2": ([7, 2], BLACK)}
    items = [
        Item(
            name,
            ("", "a", n),
            content=document(tokens, pixels),
            image=pixels.tobytes(),
        )
        for n, (name, (tokens, pixels)) in enumerate(captions.items())
    ]
    return checker(items)


def row(
    tokens: list[int],
    kind: list[int],
    images: list[tuple[int, Any]],
    entries: list[dict],
) -> DecodedRow:
    padding = [0] * (LENGTH - len(tokens))
    segment = np.zeros(LENGTH, np.int64)
    mask = (np.array(kind + padding) == 1).astype(np.int64)
    for number, entry in enumerate(entries, start=1):
        segment[entry["start"] : entry["start"] + entry["length"]] = number
        mask[entry["start"]] = 0
    info = [(slot, *pixels.shape[:2], 1) for slot, pixels in images]
    return DecodedRow(
        place="row",
        tokens=np.array(tokens + padding),
        kind=np.array(kind + padding),
        loss_mask=mask,
        segment=segment,
        local_position=np.full(LENGTH, -1),
        images=[pixels for _, pixels in images],
        image_info=np.array(info, np.int64).reshape(-1, 4),
        provenance=entries,
    )


def entry(documents: list[str], start: int, length: int) -> dict:
    keys = {"dataset": "toy", "documents": documents}
    return keys | {"start": start, "length": length}


def pair_row() -> DecodedRow:
    return row(
        [0, 0, 7, 2, 0, 5, 2, 0, 6, 2],
        [2, 2, 1, 1, 2, 1, 1, 2, 1, 1],
        [(0, BLACK), (4, WHITE), (7, WHITE)],
        [entry(["a/2", "a/0"], 0, 7), entry(["a/1"], 7, 3)],
    )


def check(found: segments.DocumentChecker, rows: list[tuple[DecodedRow, str]]) -> None:
    for each, split in rows:
        check_layout(each)
        for item in each.provenance:
            found.check_segment(each, item, split)
    found.finish()


def test_accepts_pairs_written_by_hand() -> None:
    found = pairs()
    check(found, [(pair_row(), "train")])
    assert found.pairs == {2: 1, 1: 1}
    assert (found.segments, found.images) == (2, 3)


def one_image_twice() -> DecodedRow:
    return row(
        [0, 5, 2, 0, 6, 2, 0, 0, 7, 2],
        [2, 1, 1, 2, 1, 1, 2, 2, 1, 1],
        [(0, WHITE), (3, WHITE), (6, BLACK)],
        [entry(["a/0", "a/1"], 0, 6), entry(["a/2"], 6, 4)],
    )


def wrong_pixel() -> DecodedRow:
    good = pair_row()
    spoilt = WHITE.copy()
    spoilt[3, 4, 1] = 254
    return dataclasses.replace(good, images=[BLACK, spoilt, WHITE])


def missing_pair() -> DecodedRow:
    return row(
        [0, 0, 7, 2, 0, 5, 2],
        [2, 2, 1, 1, 2, 1, 1],
        [(0, BLACK), (4, WHITE)],
        [entry(["a/2", "a/0"], 0, 7)],
    )


def unknown_document() -> DecodedRow:
    good = pair_row()
    good.provenance[1]["documents"] = ["a/3"]
    return good


def late_image() -> DecodedRow:
    good = pair_row()
    good.image_info[1, 0] = 5
    return good


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (one_image_twice, "number of distinct images"),
        (wrong_pixel, "pixels at"),
        (missing_pair, "missing documents"),
        (unknown_document, "there is no document"),
        (late_image, "image slots"),
    ],
)
def test_refuses_damaged_pairs(make: Callable[[], DecodedRow], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check(pairs(), [(make(), "train")])


def test_refuses_one_image_in_both_splits() -> None:
    first = row(
        [0, 0, 7, 2, 0, 5, 2],
        [2, 2, 1, 1, 2, 1, 1],
        [(0, BLACK), (4, WHITE)],
        [entry(["a/2", "a/0"], 0, 7)],
    )
    second = row([0, 6, 2], [2, 1, 1], [(0, WHITE)], [entry(["a/1"], 0, 3)])
    check(pairs(), [(first, "train"), (second, "train")])
    with pytest.raises(AssertionError, match=r"split, as a/0's"):
        check(pairs(), [(first, "train"), (second, "validation")])


LONG = list(range(100, 117))


def texts() -> segments.DocumentChecker:
    """A document of 17 tokens, which is cut at 12, and one of exactly 12."""
    items = [
        Item("t/0", ("", "t", 0), content=document(LONG)),
        Item("t/1", ("", "t", 1), content=document(LONG[:12])),
        Item("t/2", ("", "t", 2), content=document([9, 2])),
    ]
    return checker(items)


def text_rows(last: list[dict]) -> list[tuple[DecodedRow, str]]:
    whole = [1] * 12
    return [
        (row(LONG[:12], whole, [], [entry(["t/0#0"], 0, 12)]), "train"),
        (row(LONG[:12], whole, [], [entry(["t/1"], 0, 12)]), "train"),
        (row([*LONG[12:], 9, 2], [1] * 7, [], last), "train"),
    ]


def test_texts_are_cut_at_the_length_and_never_joined() -> None:
    apart = [entry(["t/0#1"], 0, 5), entry(["t/2"], 5, 2)]
    check(texts(), text_rows(apart))
    with pytest.raises(AssertionError, match="number of texts"):
        check(texts(), text_rows([entry(["t/0#1", "t/2"], 0, 7)]))
    with pytest.raises(AssertionError, match="there is no document"):
        check(texts(), text_rows([entry(["t/0"], 0, 5), entry(["t/2"], 5, 2)]))


def test_reads_defaults_of_nested_settings(tmp_path: Any) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("prompts: {max_tokens: 9}\ndatasets: [{name: a, image: {}}]\n")
    config = retokenizer.load_config(path)
    assert config["prompts"] == {
        "fraction": 0.25,
        "tail_fraction": 0.5,
        "max_tokens": 9,
    }
    assert config["datasets"][0]["image"]["encoding"] == "png"

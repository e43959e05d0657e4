"""What the RLDS reader says of damaged folders: one row for what is lost."""

import pathlib
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from episode_source import verdicts
from rlds_sets import (
    WALK_STEP,
    dataset,
    encode_example,
    image,
    named,
    read,
    sequence,
    shard_path,
    tensor,
    text,
    walk,
    write,
    write_walks,
)

from gato.pipelines.sources import rlds_fallback
from gato.pipelines.sources.rlds import RldsSource
from gato.schemas.episode import Episode, Unreadable
from gato.schemas.errors import Reason, UsageError
from gato.schemas.tfrecord import FRAME_BYTES, HEADER_BYTES, frame

Items = list[Episode | Unreadable]


def kept(items: Items) -> list[int]:
    return [item.number for item in items if isinstance(item, Episode)]


def frame_starts(path: pathlib.Path) -> list[int]:
    content = path.read_bytes()
    starts, at = [], 0
    while at < len(content):
        starts.append(at)
        at += int.from_bytes(content[at : at + 8], "little") + FRAME_BYTES
    return starts


@pytest.mark.parametrize("numbered", [True, False])
def test_a_truncated_shard_costs_what_it_lost(
    tmp_path: pathlib.Path, numbered: bool
) -> None:
    settings: dict[str, Any] = {} if numbered else {"episode": {}}
    path = write_walks(tmp_path, [[0, 1, 2, 3], [4]], **settings)
    shard = shard_path(path, 0, 2)
    shard.write_bytes(shard.read_bytes()[: frame_starts(shard)[2] + 40])
    items = read(path)
    assert kept(items) == [0, 1, 4]
    assert verdicts(items) == [(2, Reason.CORRUPT_FILE), (3, Reason.CORRUPT_FILE)]
    lost = [item for item in items if isinstance(item, Unreadable)]
    ids = [None, None] if numbered else [f"toy/1.0.0/train/{n}" for n in (2, 3)]
    assert [item.item_id for item in lost] == ids
    assert "truncated" in lost[0].detail
    assert shard.name in lost[0].detail


def test_a_shard_cut_between_records(tmp_path: pathlib.Path) -> None:
    path = write_walks(tmp_path, [[0, 1, 2], [3]], episode={})
    shard = shard_path(path, 0, 2)
    shard.write_bytes(shard.read_bytes()[: frame_starts(shard)[1]])
    items = read(path)
    assert kept(items) == [0, 3]
    assert verdicts(items) == [(1, Reason.CORRUPT_FILE), (2, Reason.CORRUPT_FILE)]


def test_more_records_than_promised(tmp_path: pathlib.Path) -> None:
    path = write_walks(tmp_path, [[0, 1], [3]], episode={})
    shard = shard_path(path, 0, 2)
    shard.write_bytes(shard.read_bytes() + frame(encode_example(walk(2, 1))))
    items = read(path)
    assert kept(items) == [0, 1, 2]
    assert verdicts(items) == [(2, Reason.CORRUPT_FILE)]
    assert "one more" in next(i for i in items if isinstance(i, Unreadable)).detail


def test_a_missing_shard(tmp_path: pathlib.Path) -> None:
    path = write_walks(tmp_path, [[0, 1], [2]])
    shard_path(path, 0, 2).unlink()
    items = read(path)
    assert kept(items) == [2]
    assert verdicts(items) == [(0, Reason.CORRUPT_FILE), (1, Reason.CORRUPT_FILE)]


@pytest.mark.parametrize("numbered", [True, False])
def test_damaged_content_costs_its_record(
    tmp_path: pathlib.Path, numbered: bool
) -> None:
    settings: dict[str, Any] = {} if numbered else {"episode": {}}
    path = write_walks(tmp_path, [[0, 1, 2]], **settings)
    shard = shard_path(path)
    content = bytearray(shard.read_bytes())
    content[frame_starts(shard)[1] + HEADER_BYTES + 50] ^= 1
    shard.write_bytes(content)
    items = read(path)
    assert kept(items) == [0, 2]
    assert verdicts(items) == [(1, Reason.CORRUPT_RECORD)]


def test_a_damaged_length_costs_the_rest(tmp_path: pathlib.Path) -> None:
    path = write_walks(tmp_path, [[0, 1, 2]])
    shard = shard_path(path)
    content = bytearray(shard.read_bytes())
    content[frame_starts(shard)[1]] ^= 1
    shard.write_bytes(content)
    items = read(path)
    assert kept(items) == [0]
    assert verdicts(items) == [(1, Reason.CORRUPT_FILE), (2, Reason.CORRUPT_FILE)]


def test_no_lengths_and_damage_cost_one_row(tmp_path: pathlib.Path) -> None:
    splits = [{"name": "train", "numShards": "1"}]
    path = write_walks(tmp_path, [[0, 1, 2]], splits=splits)
    shard = shard_path(path)
    shard.write_bytes(shard.read_bytes()[:-1])
    assert verdicts(read(path)) == [(2, Reason.CORRUPT_FILE)]


def test_no_example_at_all(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, [[walk(0, 2), b"\xff" * 30, b""]])
    items = read(path)
    assert kept(items) == [0]
    # Neither has a number, nor anything else.
    assert verdicts(items) == [(1, Reason.MISSING_FIELD), (2, Reason.MISSING_FIELD)]
    path = write(tmp_path, [[walk(0, 2), b"\xff" * 30, b""]], episode={})
    assert verdicts(read(path)) == [
        (1, Reason.CORRUPT_RECORD),
        (2, Reason.MISSING_FIELD),
    ]


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 99999])
def test_bad_json_costs_the_folder(
    tmp_path: pathlib.Path, name: str, content: bytes
) -> None:
    path = write_walks(tmp_path, [[0, 1]])
    (path / name).write_bytes(content)
    (item,) = read(path)
    assert isinstance(item, Unreadable)
    assert (item.item_id, item.reason) == (None, Reason.CORRUPT_FILE)
    assert name in item.detail


def test_files_that_vanish_after_partition(tmp_path: pathlib.Path) -> None:
    path = write_walks(tmp_path, [[0, 1]])
    (partition,) = RldsSource().partition(str(path), "x", dataset())
    (path / "features.json").unlink()
    items = list(RldsSource().read(partition, dataset()))
    assert verdicts(items) == [(0, Reason.CORRUPT_FILE), (1, Reason.CORRUPT_FILE)]


def damaged(what: str) -> dict[str, Any]:
    values: dict[str, Any] = walk(1, 3)
    match what.split():
        case ["no", "steps"]:
            values = {"episode_id": [1]}
        case ["no", name]:
            del values[f"steps/{name}"]
        case ["short", name]:
            values[f"steps/{name}"] = values[f"steps/{name}"][:-1]
        case ["narrow", name]:
            values[f"steps/{name}"] = values[f"steps/{name}"].ravel()[:-1]
        case ["integer", name]:
            values[f"steps/{name}"] = [1, 2, 3, 4]
        case ["text", name]:
            values[f"steps/{name}"] = [b"a"] * 4
        case ["empty"]:
            values |= {k: v[:0] for k, v in values.items() if k.startswith("steps")}
        case ["lone"]:
            values |= {k: v[-1:] for k, v in values.items() if k.startswith("steps")}
    return values


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("no observation", Reason.MISSING_FIELD),
        ("no action", Reason.MISSING_FIELD),
        ("no reward", Reason.MISSING_FIELD),
        ("no is_last", Reason.MISSING_FIELD),
        ("no steps", Reason.MISSING_FIELD),
        ("short observation", Reason.WRONG_SHAPE),
        ("short reward", Reason.WRONG_SHAPE),
        ("short is_last", Reason.WRONG_SHAPE),
        ("narrow observation", Reason.WRONG_SHAPE),
        ("integer action", Reason.WRONG_DTYPE),
        ("text reward", Reason.WRONG_DTYPE),
        ("text is_last", Reason.WRONG_DTYPE),
        ("empty", Reason.EMPTY),
        ("lone", Reason.EMPTY),
    ],
)
def test_one_damaged_episode_costs_one(
    tmp_path: pathlib.Path, what: str, reason: Reason
) -> None:
    items = read(write(tmp_path, [[walk(0, 2), damaged(what), walk(2, 2)]]))
    assert verdicts(items) == [(1, reason)]
    assert kept(items) == [0, 2]
    lost = next(item for item in items if isinstance(item, Unreadable))
    assert lost.item_id == "toy/1.0.0/train/1"
    assert (lost.task, lost.agent) == ("toy", "toy/1.0.0")


def observing(
    path: pathlib.Path, node: dict[str, Any], values: dict[str, Any]
) -> list[tuple[int, str]]:
    """Returns the verdicts on episodes of three steps with this observation."""
    episode = {k: v for k, v in walk(0, 2).items() if k != "steps/observation"}
    episode |= {f"steps/observation{key}": value for key, value in values.items()}
    step = WALK_STEP | {"observation": node}
    return verdicts(read(write(path, [[episode]], step=step)))


def png(*shape: int) -> bytes:
    return cv2.imencode(".png", np.zeros(shape, np.uint8))[1].tobytes()


def test_images_that_are_none(tmp_path: pathlib.Path) -> None:
    good = png(16, 16, 3)
    small = png(7, 7, 3)
    for images, reason in (
        ([b"", good, good], Reason.MISSING_IMAGE),
        ([good, b"", good], Reason.MISSING_IMAGE),
        ([good[:20], good, good], Reason.CORRUPT_IMAGE),
        ([small, small[:-30], small], Reason.CORRUPT_IMAGE),
        ([small, png(7, 8, 3), small], Reason.WRONG_SHAPE),
    ):
        found = observing(tmp_path, image(-1, -1, 3), {"": images})
        assert found == [(0, reason)], images


def test_values_that_are_not_what_features_json_says(tmp_path: pathlib.Path) -> None:
    zipped = tensor("uint8", 4, encoding="zlib")
    raw = tensor("float64", 2, encoding="bytes")
    free = tensor("int32", -1, -1, encoding="zlib")
    bomb = zlib.compress(bytes(50_000_000))
    four = zlib.compress(bytes(4))
    rows = "/ragged_row_lengths_0"
    flat = "/ragged_flat_values"
    for node, values, reason in (
        (text(), {"": [b"T\xfcr", b"", b""]}, Reason.NOT_UTF8),
        (tensor("uint8"), {"": [1, 256, 0]}, Reason.WRONG_DTYPE),
        (zipped, {"": [four, b"junk", four]}, Reason.CORRUPT_RECORD),
        (zipped, {"": [four, four[:-5], four]}, Reason.CORRUPT_RECORD),
        (zipped, {"": [bomb] * 3}, Reason.WRONG_SHAPE),
        (raw, {"": [bytes(16), bytes(15), bytes(16)]}, Reason.WRONG_SHAPE),
        (raw, {"": [bytes(16)] * 2}, Reason.WRONG_SHAPE),
        (raw, {"": [1, 2, 3]}, Reason.WRONG_DTYPE),
        (free, {"/value": [four] * 3}, Reason.MISSING_FIELD),
        (
            free,
            {"/value": [four] * 3, "/shape": [1, 1, 2, 1, 1, 1]},
            Reason.WRONG_SHAPE,
        ),
        (
            sequence(tensor("int64")),
            {rows: [1, 2, 0], flat: [1, 2, 3]},
            Reason.WRONG_SHAPE,
        ),
        (
            sequence(tensor("int64")),
            {rows: [2, 2, 2], flat: [1, 2, 3]},
            Reason.WRONG_SHAPE,
        ),
        (sequence(tensor("int64")), {rows: [1, 1]}, Reason.WRONG_SHAPE),
    ):
        found = observing(tmp_path, node, values)
        assert found == [(0, reason)], (node, values)


def test_what_the_padding_step_holds_is_not_looked_at(tmp_path: pathlib.Path) -> None:
    assert observing(tmp_path, text(), {"": [b"a", b"b", b"\xff"]}) == []
    good = png(16, 16, 3)
    assert observing(tmp_path, image(16, 16, 3), {"": [good, good, b"junk"]}) == []


def test_a_missing_optional_feature_is_left_out(tmp_path: pathlib.Path) -> None:
    observation = named(
        {"state": tensor("float32", 3), "goal": tensor("int32", optional=True)}
    )
    values: dict[str, Any] = walk(0, 2)
    values["steps/observation/state"] = values.pop("steps/observation")
    other = walk(1, 2)
    other["steps/observation/state"] = other.pop("steps/observation")
    other["steps/observation/goal"] = np.array([4, 5, 6])
    path = write(
        tmp_path, [[values, other]], step=WALK_STEP | {"observation": observation}
    )
    items = read(path)
    assert [sorted(i.observations) for i in items if isinstance(i, Episode)] == [
        ["state"],
        ["goal", "state"],
    ]


def test_flipped_bytes_never_raise(tmp_path: pathlib.Path) -> None:
    """Frames are made anew, so that what is inside is reached."""
    generator = np.random.default_rng(0)
    whole = [encode_example(walk(number, 3)) for number in range(4)]
    num_lost = 0
    for _ in range(80):
        records = []
        for record in whole:
            damaged = bytearray(record)
            for at in generator.integers(0, len(record), 2):
                damaged[at] ^= int(generator.integers(1, 256))
            records.append(bytes(damaged))
        items = read(write(tmp_path, [records], episode={}))
        assert [item.number for item in items] == [0, 1, 2, 3]
        num_lost += len(verdicts(items))
    assert num_lost > 0


def test_changed_bytes_of_features_json_never_raise(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rlds_fallback, "_PACKAGE", "not_installed")
    path = write_walks(tmp_path, [[0, 1]])
    generator = np.random.default_rng(0)
    file = path / "features.json"
    whole = file.read_text()
    num_told = 0
    for at in generator.integers(0, len(whole), 200).tolist():
        file.write_text(whole[:at] + "7" + whole[at + 1 :])
        try:
            num_told += len(verdicts(read(path)))
        except UsageError:
            num_told += 1
    assert num_told > 0

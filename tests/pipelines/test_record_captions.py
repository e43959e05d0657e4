"""Captioned scenes: the picture shows the state, and the caption says what is true."""

import gc
import hashlib
import io
import json
import pathlib
import re
import tarfile
import warnings
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from webdataset.compat import WebDataset

from gato.pipelines import record
from gato.pipelines.recorders import captions, scenes

RGB = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "purple": (112, 39, 195),
    "yellow": (255, 255, 0),
    "grey": (100, 100, 100),
}
NUMBERS = {"a": 1, "no": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
NUMBERS |= {"six": 6}
WORD = "(blue|green|grey|purple|red|yellow)"
KIND = "(ball|box|key)"
COUNT = rf"({'|'.join(NUMBERS)})"

seeds = st.integers(0, 2**64 - 1)
numbers = st.integers(0, 10**9)


def _singular(kind: str) -> str:
    return {"boxes": "box", "doors": "door"}.get(kind, kind.removesuffix("s"))


def _things_as_said(text: str) -> list[str]:
    """Returns `a red ball, two grey keys and a box` as a sorted list of things."""
    said = []
    for phrase in re.split(r", | and ", text):
        match = re.fullmatch(rf"{COUNT} {WORD} (balls?|box|boxes|keys?)", phrase)
        assert match, phrase
        count, color, kind = NUMBERS[match[1]], match[2], _singular(match[3])
        assert (count == 1) == (kind == match[3]), phrase
        said += [f"{color} {kind}"] * count
    return sorted(said)


def _check_contents(scene: dict[str, Any], sentence: str) -> bool:
    match = re.fullmatch(
        r"(?:A room with |The picture shows |This room holds )?(.*?)"
        r"(?: in a room(?: with (.*))?)?\.",
        sentence,
    )
    assert match
    things = match[1][0].lower() + match[1][1:]
    there = sorted(f"{t['color']} {t['kind']}" for t in scene["things"])
    articles = {"open": "an open", "closed": "a closed", "locked": "a locked"}
    doors = sorted(f"{articles[d['state']]} {d['color']} door" for d in scene["doors"])
    said = sorted(re.split(r", | and ", match[2])) if match[2] else doors
    return _things_as_said(things) == there and said == doors


def _only(scene: dict[str, Any], color: str, kind: str) -> dict[str, Any]:
    found = [t for t in scene["things"] if (t["color"], t["kind"]) == (color, kind)]
    assert len(found) == 1, "`the` needs exactly one"
    return found[0]


def _inside(value: int, size: int, third: int) -> bool:
    """Whether a cell lies in a third of the cells between two walls."""
    return third / 3 <= (value - 1) / (size - 2) < (third + 1) / 3


def _check_place(scene: dict[str, Any], thing: dict[str, Any], where: str) -> bool:
    words = where.split()
    across = 0 if "left" in words else 2 if "right" in words else 1
    down = 0 if "top" in words else 2 if "bottom" in words else 1
    assert ("centre" in words) == (across == down == 1)
    return _inside(thing["column"], scene["columns"], across) and _inside(
        thing["row"], scene["rows"], down
    )


def _check_relation(one: dict[str, Any], how: str, two: dict[str, Any]) -> bool:
    across, down = two["column"] - one["column"], two["row"] - one["row"]
    return {
        "left of": across > 0 and across >= abs(down),
        "right of": across < 0 and -across >= abs(down),
        "above": down > 0 and down > abs(across),
        "below": down < 0 and -down > abs(across),
        "next to": abs(across) + abs(down) == 1,
    }[how]


def _kinds(scene: dict[str, Any], kind: str) -> int:
    return sum(thing["kind"] == kind for thing in scene["things"])


def is_true(scene: dict[str, Any], sentence: str) -> bool:
    """Whether a sentence after the first is true; an unknown form is an error."""
    doors = [(d["side"], d["color"], d["state"]) for d in scene["doors"]]
    if sentence in ("There is no door.", "The walls have no doors."):
        return not doors
    if m := re.fullmatch(
        rf"The (\w+) wall has a {WORD} door, which is (\w+)\.", sentence
    ):
        return (m[1], m[2], m[3]) in doors
    if m := re.fullmatch(
        rf"There is an? (\w+) {WORD} door in the (\w+) wall\.", sentence
    ):
        return (m[3], m[2], m[1]) in doors
    if m := re.fullmatch(
        rf"The door in the (\w+) wall is {WORD} and (\w+)\.", sentence
    ):
        return (m[1], m[2], m[3]) in doors
    if m := re.fullmatch(rf"The {WORD} {KIND} is (.*) of the room\.", sentence):
        return _check_place(scene, _only(scene, m[1], m[2]), m[3])
    if m := re.fullmatch(
        rf"The {WORD} {KIND} lies in column (\d+), row (\d+)\.", sentence
    ):
        thing = _only(scene, m[1], m[2])
        return (thing["column"], thing["row"]) == (int(m[3]), int(m[4]))
    if m := re.fullmatch(
        rf"The {WORD} {KIND} is (left of|right of|above|below|next to) the"
        rf" {WORD} {KIND}\.",
        sentence,
    ):
        one, two = _only(scene, m[1], m[2]), _only(scene, m[4], m[5])
        return _check_relation(one, m[3], two)
    if m := re.fullmatch(rf"There (is|are) {COUNT} (\w+)\.", sentence):
        count = NUMBERS[m[2]]
        assert (count == 1) == (m[1] == "is")
        return _kinds(scene, _singular(m[3])) == count
    if m := re.fullmatch(rf"The room has {COUNT} (\w+) and {COUNT} doors?\.", sentence):
        kinds = _kinds(scene, _singular(m[2]))
        return (NUMBERS[m[1]], NUMBERS[m[3]]) == (kinds, len(doors))
    if m := re.fullmatch(r"The (?:red triangle points|agent looks) (\w+)\.", sentence):
        return m[1] == scene["agent_direction"]
    raise AssertionError(f"an unknown form: {sentence}")


def _check_caption(scene: dict[str, Any], caption: str) -> None:
    sentences = re.findall(r"[^.]+\.", caption)
    assert 1 <= len(sentences) <= 3
    assert _check_contents(scene, sentences[0]), (caption, scene)
    for sentence in sentences[1:]:
        assert is_true(scene, sentence.strip()), (caption, scene)


def _check_picture(scene: dict[str, Any], image: NDArray[np.uint8]) -> None:
    assert image.shape == (16 * scene["rows"], 16 * scene["columns"], 3)
    shown = {
        (thing["column"], thing["row"]): thing["color"] for thing in scene["things"]
    }
    shown[scene["agent_column"], scene["agent_row"]] = "red"
    assert len(shown) == len(scene["things"]) + 1
    for row in range(1, scene["rows"] - 1):
        for column in range(1, scene["columns"] - 1):
            cell = image[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            # The grid's lines are at the left and the top.
            inner = cell[2:, 2:].reshape(-1, 3).astype(int)
            color = shown.pop((column, row), None)
            if color is None:
                assert not inner.any()
            else:
                assert (np.abs(inner - RGB[color]).max(axis=1) < 40).any()
    assert not shown
    for door in scene["doors"]:
        top, left = 16 * door["row"], 16 * door["column"]
        cell = image[top : top + 16, left : left + 16].reshape(-1, 3).astype(int)
        assert (np.abs(cell - RGB[door["color"]]).max(axis=1) < 70).any()
        assert (cell != RGB["grey"]).any(axis=1).sum() > 60
        on_wall = {
            "left": door["column"] == 0,
            "right": door["column"] == scene["columns"] - 1,
            "top": door["row"] == 0,
            "bottom": door["row"] == scene["rows"] - 1,
        }
        assert on_wall[door["side"]]


@settings(deadline=None)
@given(seed=seeds, number=numbers)
def test_captions_are_true_and_pictures_show_the_scene(seed: int, number: int) -> None:
    content = captions.draw(seed, number)
    state = json.loads(content["json"])
    decoded = cv2.imdecode(np.frombuffer(content["png"], np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.uint8)
    assert state["caption"] == content["txt"].decode()
    assert (state["height"], state["width"]) == image.shape[:2]
    assert state["sha256"] == hashlib.sha256(content["png"]).hexdigest()
    _check_caption(state["scene"], state["caption"])
    _check_picture(state["scene"], image)


def test_the_truth_test_can_fail() -> None:
    thing = {"kind": "ball", "color": "red", "column": 1, "row": 1}
    scene = {"columns": 8, "rows": 6, "things": [thing], "doors": []}
    assert is_true(scene, "The red ball is in the top left of the room.")
    assert not is_true(scene, "The red ball is at the top of the room.")
    assert not is_true(scene, "There are two balls.")
    assert not _check_contents(scene, "A room with a blue ball.")


def test_sentences_vary() -> None:
    said = [scenes.describe(scenes.draw_scene(0, i), 0, i) for i in range(300)]
    assert len(set(said)) > 290
    forms = {re.sub(rf"\b({WORD}|{KIND})\b", "_", s.split(". ")[-1]) for s in said}
    assert len(forms) > 60


def _tars(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


def _command(output: pathlib.Path, *more: str) -> list[str]:
    sizes = ("--scenes", "7", "--scenes_per_tar", "3")
    return ["captions", "--output", str(output), *sizes, *more]


def test_the_same_command_writes_the_same_bytes_and_only_what_is_missing(
    tmp_path: pathlib.Path,
) -> None:
    assert record.main(_command(tmp_path / "a")) == 0
    assert record.main(_command(tmp_path / "b", "--workers", "2")) == 0
    tars = _tars(tmp_path / "a")
    assert list(tars) == [f"scenes-0000{i}.tar" for i in range(3)]
    assert _tars(tmp_path / "b") == tars
    (tmp_path / "a" / "scenes-00001.tar").unlink()
    kept = (tmp_path / "a" / "scenes-00000.tar").stat().st_mtime_ns
    assert record.main(_command(tmp_path / "a")) == 0
    assert _tars(tmp_path / "a") == tars
    assert (tmp_path / "a" / "scenes-00000.tar").stat().st_mtime_ns == kept


def test_tars_hold_one_triple_a_scene_and_webdataset_reads_them(
    tmp_path: pathlib.Path,
) -> None:
    assert record.main(_command(tmp_path)) == 0
    names = []
    for content in _tars(tmp_path).values():
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            names += tar.getnames()
    wanted = [f"{i:08d}.{e}" for i in range(7) for e in ("png", "txt", "json")]
    assert names == wanted
    urls = [str(path) for path in sorted(tmp_path.glob("*.tar"))]
    with warnings.catch_warnings():
        # webdataset leaves its files to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        samples = list(WebDataset(urls, shardshuffle=False))
        gc.collect()
    assert [sample["__key__"] for sample in samples] == [f"{i:08d}" for i in range(7)]
    for i, sample in enumerate(samples):
        assert sample["txt"] == captions.draw(0, i)["txt"]


def test_scenes_of_another_recipe_are_refused(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record.main(_command(tmp_path)) == 0
    assert record.main(_command(tmp_path, "--seed", "1")) == 2
    assert "Give another --output" in capsys.readouterr().err


def test_no_scenes_is_a_usage_error(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record.main(_command(tmp_path / "o", "--scenes", "0")) == 2
    assert "--scenes is at least 1, got 0" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()

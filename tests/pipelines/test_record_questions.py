"""Questions on scenes: VQAv2's files, and answers that follow from the picture.

Each answer is derived again from the question's words and a grid of cells, by code
that shares nothing with what asked.
"""

import collections
import json
import pathlib
import re
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import assert_refused, changes, refusals

from gato.pipelines import record
from gato.pipelines.recorders import questions, scene_questions, scenes
from gato.pipelines.sources.base import Partition
from gato.pipelines.sources.vqa import VqaSource
from gato.schemas.config import Dataset
from gato.schemas.episode import Document, ImagePart, TextPart

COLOR = "(blue|green|grey|purple|red|yellow)"
KIND = "(ball|box|key)"
KINDS = "(balls|boxes|keys)"
SIDE = "(top|bottom|left|right)"
STATE = "(open|closed|locked)"
TRIANGLE = "red triangle"
SINGULAR = {"balls": "ball", "boxes": "box", "keys": "key"}

Grid = dict[tuple[int, int], str]


def _grid(scene: scenes.Scene) -> Grid:
    """Returns what stands in each cell, the empty ones and the wall included."""
    last_column, last_row = scene.columns - 1, scene.rows - 1
    grid = {
        (column, row): "wall"
        if column in (0, last_column) or row in (0, last_row)
        else "nothing"
        for column in range(scene.columns)
        for row in range(scene.rows)
    }
    for door in scene.doors:
        assert grid[door.column, door.row] == "wall"
        grid[door.column, door.row] = f"{door.color} door"
    inside = [(t.column, t.row, f"{t.color} {t.kind}") for t in scene.things]
    inside.append((scene.agent_column, scene.agent_row, TRIANGLE))
    for column, row, what in inside:
        assert grid[column, row] == "nothing"
        grid[column, row] = what
    return grid


def _where(grid: Grid, what: str) -> tuple[int, int]:
    found = [place for place, there in grid.items() if there == what]
    assert len(found) == 1, f"`the {what}` needs exactly one, there are {len(found)}"
    return found[0]


def _objects(grid: Grid) -> list[tuple[str, str]]:
    """Returns (colour, kind) of all balls, boxes and keys."""
    said = [re.fullmatch(f"{COLOR} {KIND}", what) for what in grid.values()]
    return [(match[1], match[2]) for match in said if match]


def _only(found: list[str]) -> str:
    assert len(found) == 1, f"`the` needs exactly one, got {found}"
    return found[0]


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def _farther(grid: Grid, one: str, way: str, two: str) -> bool:
    (column, row), (other_column, other_row) = _where(grid, one), _where(grid, two)
    return {
        "farther left": column < other_column,
        "farther right": other_column < column,
        "higher up": row < other_row,
        "lower down": other_row < row,
    }[way]


def _in_half(scene: scenes.Scene, grid: Grid, what: str, half: str) -> bool:
    column, row = _where(grid, what)
    # Centres of the cell and of the room, in cells.
    centre, middle = column + 0.5, scene.columns / 2
    if half in ("top", "bottom"):
        centre, middle = row + 0.5, scene.rows / 2
    assert centre != middle, "the middle is in no half"
    return (centre < middle) == (half in ("top", "left"))


def _door_states(scene: scenes.Scene, color: str) -> list[str]:
    return [door.state for door in scene.doors if door.color == color]


def answer(scene: scenes.Scene, text: str) -> tuple[str, str]:
    """Returns the answer and its type; an unknown form is an error."""
    grid = _grid(scene)
    objects = _objects(grid)
    kinds = collections.Counter(kind for _, kind in objects)
    colors = {kind: [c for c, k in objects if k == kind] for kind in SINGULAR.values()}
    if m := re.fullmatch(rf"Is there a {COLOR} {KIND}\?", text):
        return _yes((m[1], m[2]) in objects), "yes/no"
    if m := re.fullmatch(rf"Is the {KIND} {COLOR}\?", text):
        return _yes(_only(colors[m[1]]) == m[2]), "yes/no"
    if m := re.fullmatch(rf"Is the {COLOR} door {STATE}\?", text):
        found = _only(_door_states(scene, m[1]))
        assert (found, m[2]) != ("locked", "closed"), "a locked door is closed, too"
        return _yes(found == m[2]), "yes/no"
    way = "(farther left|farther right|higher up|lower down)"
    if m := re.fullmatch(
        rf"Is the ({COLOR} {KIND}) {way} than the ({COLOR} {KIND})\?", text
    ):
        return _yes(_farther(grid, m[1], m[4], m[5])), "yes/no"
    if m := re.fullmatch(
        rf"Is the ({COLOR} {KIND}) in the {SIDE} half of the room\?", text
    ):
        return _yes(_in_half(scene, grid, m[1], m[4])), "yes/no"
    if m := re.fullmatch(rf"Are there more {KINDS} than {KINDS}\?", text):
        return _yes(kinds[SINGULAR[m[1]]] > kinds[SINGULAR[m[2]]]), "yes/no"
    if m := re.fullmatch(r"Does the red triangle point (left|right|up|down)\?", text):
        return _yes(scene.agent_direction == m[1]), "yes/no"
    if text == "How many balls, boxes and keys are there?":
        return str(len(objects)), "number"
    if m := re.fullmatch(rf"How many {KINDS} are there\?", text):
        return str(kinds[SINGULAR[m[1]]]), "number"
    if m := re.fullmatch(rf"How many {COLOR} {KINDS} are there\?", text):
        return str(objects.count((m[1], SINGULAR[m[2]]))), "number"
    if text == "How many doors are there?":
        return str(sum(what.endswith("door") for what in grid.values())), "number"
    # Not closed ones: a locked door is closed, too.
    if m := re.fullmatch(r"How many (open|locked) doors are there\?", text):
        states = [door.state for door in scene.doors]
        return str(states.count(m[1])), "number"
    return _other(scene, grid, objects, colors, text), "other"


def _other(
    scene: scenes.Scene,
    grid: Grid,
    objects: list[tuple[str, str]],
    colors: dict[str, list[str]],
    text: str,
) -> str:
    doors = {door.side: door for door in scene.doors}
    if m := re.fullmatch(rf"What color is the {KIND}\?", text):
        return _only(colors[m[1]])
    if m := re.fullmatch(rf"What color is the door in the {SIDE} wall\?", text):
        return doors[m[1]].color
    if m := re.fullmatch(rf"What kind of object is {COLOR}\?", text):
        # Doors and the triangle have a colour, too.
        _only([what for what in grid.values() if what.startswith(m[1])])
        return _only([kind for color, kind in objects if color == m[1]])
    if m := re.fullmatch(rf"Which wall is the {COLOR} door in\?", text):
        column, row = _where(grid, f"{m[1]} door")
        walls = {
            "left": column == 0,
            "right": column == scene.columns - 1,
            "top": row == 0,
            "bottom": row == scene.rows - 1,
        }
        return _only([side for side, there in walls.items() if there])
    if m := re.fullmatch(
        rf"Is the door in the {SIDE} wall open, closed or locked\?", text
    ):
        return doors[m[1]].state
    if text == "Which way does the red triangle point?":
        return scene.agent_direction
    if m := re.fullmatch(
        r"What is in the (top|bottom) (left|right) corner of the room\?", text
    ):
        row = 1 if m[1] == "top" else scene.rows - 2
        return grid[1 if m[2] == "left" else scene.columns - 2, row]
    if m := re.fullmatch(
        rf"What is directly (to the left of|to the right of|above|below) the"
        rf" ({COLOR} {KIND})\?",
        text,
    ):
        column, row = _where(grid, m[2])
        column += (m[1] == "to the right of") - (m[1] == "to the left of")
        return grid[column, row + (m[1] == "below") - (m[1] == "above")]
    raise AssertionError(f"an unknown form: {text}")


@settings(deadline=None)
@given(seed=st.integers(0, 2**64 - 1), number=st.integers(0, 10**9))
def test_answers_are_true_and_questions_unambiguous(seed: int, number: int) -> None:
    scene = scenes.draw_scene(seed, number)
    asked = scene_questions.ask(scene, seed, number, scene_questions.MAX_QUESTIONS)
    assert len({question.text for question in asked}) == len(asked)
    assert len(asked) == scene_questions.MAX_QUESTIONS
    for question in asked:
        wanted = (question.answer, question.answer_type)
        assert answer(scene, question.text) == wanted, (question, scene)
        assert question.text.lower().startswith(question.question_type + " ")
    assert asked == scene_questions.ask(scene, seed, number, len(asked))
    assert asked[:3] == scene_questions.ask(scene, seed, number, 3)


def test_the_truth_test_can_fail() -> None:
    scene = scenes.Scene(
        columns=7,
        rows=5,
        things=(
            scenes.Thing(kind="ball", color="blue", column=1, row=1),
            scenes.Thing(kind="key", color="blue", column=3, row=3),
        ),
        doors=(),
        agent_column=2,
        agent_row=1,
        agent_direction="up",
    )
    assert answer(scene, "How many keys are there?") == ("1", "number")
    assert answer(scene, "What is directly to the right of the blue ball?") == (
        TRIANGLE,
        "other",
    )
    for ambiguous in (
        "What kind of object is blue?",
        "Is the blue key in the left half of the room?",
        "What color is the box?",
    ):
        with pytest.raises(AssertionError):
            answer(scene, ambiguous)


def test_no_answer_can_be_guessed_from_the_form_alone() -> None:
    answers: dict[str, collections.Counter[str]] = collections.defaultdict(
        collections.Counter
    )
    for number in range(1500):
        scene = scenes.draw_scene(3, number)
        for question in scene_questions.ask(scene, 3, number, 6):
            form = re.sub(rf"\b{COLOR}\b", "C", question.text)
            form = re.sub(rf"\b{KINDS}\b", "Ks", re.sub(rf"\b{KIND}\b", "K", form))
            form = re.sub(rf"\b(up|down|{SIDE}|{STATE})\b", "_", form)
            answers[form][question.answer] += 1
    common = {form: counts for form, counts in answers.items() if counts.total() > 60}
    assert len(common) > 15
    for form, counts in common.items():
        (_, most), *_ = counts.most_common(1)
        assert most < 0.75 * counts.total(), (form, counts)


def _command(output: pathlib.Path, *more: str) -> list[str]:
    sizes = ("--scenes", "7", "--questions", "4")
    return ["questions", "--output", str(output), *sizes, *more]


@pytest.fixture
def small_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three jobs for seven scenes."""
    monkeypatch.setattr(questions, "_SCENES_PER_JOB", 3)


def _load(folder: pathlib.Path, name: str) -> Any:
    return json.loads((folder / name).read_bytes())


QUESTIONS = "v2_OpenEnded_mscoco_train2014_questions.json"
ANNOTATIONS = "v2_mscoco_train2014_annotations.json"


def test_the_files_are_those_of_vqav2(tmp_path: pathlib.Path, small_jobs: None) -> None:
    assert record.main(_command(tmp_path)) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        QUESTIONS,
        ANNOTATIONS,
        "images",
        "recipe_train2014.json",
    }
    asked, answered = _load(tmp_path, QUESTIONS), _load(tmp_path, ANNOTATIONS)
    about = {"info", "license", "data_type", "data_subtype"}
    assert set(asked) == about | {"task_type", "questions"}
    assert set(answered) == about | {"annotations"}
    assert asked["task_type"] == "Open-Ended"
    assert (asked["data_type"], asked["data_subtype"]) == ("mscoco", "train2014")
    ids = [1000 * image + place for image in range(1, 8) for place in range(4)]
    assert [q["question_id"] for q in asked["questions"]] == ids
    assert [a["question_id"] for a in answered["annotations"]] == ids
    for question, annotation in zip(
        asked["questions"], answered["annotations"], strict=True
    ):
        assert set(question) == {"image_id", "question", "question_id"}
        assert set(annotation) == {
            "question_type",
            "multiple_choice_answer",
            "answers",
            "image_id",
            "answer_type",
            "question_id",
        }
        assert annotation["image_id"] == question["image_id"]
        assert question["image_id"] == question["question_id"] // 1000
        answers = annotation["answers"]
        assert [a["answer_id"] for a in answers] == list(range(1, 11))
        assert {a["answer"] for a in answers} == {annotation["multiple_choice_answer"]}
        assert {a["answer_confidence"] for a in answers} == {"yes"}
        assert annotation["answer_type"] in ("yes/no", "number", "other")
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert names == [f"COCO_train2014_{image:012d}.jpg" for image in range(1, 8)]


def test_pictures_show_the_scenes_that_are_asked_about(tmp_path: pathlib.Path) -> None:
    assert record.main(_command(tmp_path)) == 0
    seed = questions.Options(output=tmp_path).drawing_seed
    asked, answered = _load(tmp_path, QUESTIONS), _load(tmp_path, ANNOTATIONS)
    for image_id in range(1, 8):
        scene = scenes.draw_scene(seed, image_id - 1)
        path = tmp_path / "images" / f"COCO_train2014_{image_id:012d}.jpg"
        stored = cv2.imread(str(path))
        assert stored is not None
        drawn = scenes.render(scene)[..., ::-1].astype(int)
        assert stored.shape == drawn.shape
        # Lossy: lines blur a little, what is where does not.
        assert np.abs(stored.astype(int) - drawn).mean() < 4
        pairs = zip(asked["questions"], answered["annotations"], strict=True)
        for question, annotation in pairs:
            if question["image_id"] == image_id:
                wanted = (
                    annotation["multiple_choice_answer"],
                    annotation["answer_type"],
                )
                assert answer(scene, question["question"]) == wanted


def test_the_build_reads_what_was_recorded(tmp_path: pathlib.Path) -> None:
    assert record.main(_command(tmp_path)) == 0
    path = str(tmp_path / QUESTIONS)
    dataset = Dataset.model_validate(
        {"name": "questions", "format": "vqa", "paths": [path]}
    )
    partition = Partition(path=path, relative_path=QUESTIONS)
    documents = list(VqaSource().read(partition, dataset))
    annotations = _load(tmp_path, ANNOTATIONS)["annotations"]
    asked = _load(tmp_path, QUESTIONS)["questions"]
    assert len(documents) == 28
    for document, question, annotation in zip(
        documents, asked, annotations, strict=True
    ):
        assert isinstance(document, Document), document
        image, text, reply = document.parts
        assert isinstance(image, ImagePart)
        name = f"COCO_train2014_{question['image_id']:012d}.jpg"
        assert image.data == (tmp_path / "images" / name).read_bytes()
        assert isinstance(text, TextPart)
        assert text.text == f"Q: {question['question']} A:"
        assert isinstance(reply, TextPart)
        assert reply.text == annotation["multiple_choice_answer"]


def _contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in changes(folder)}


def test_the_same_command_writes_the_same_bytes(
    tmp_path: pathlib.Path, small_jobs: None
) -> None:
    assert record.main(_command(tmp_path / "a")) == 0
    before = changes(tmp_path / "a")
    assert record.main(_command(tmp_path / "a")) == 0
    assert changes(tmp_path / "a") == before
    assert record.main(_command(tmp_path / "b", "--workers", "2")) == 0
    assert _contents(tmp_path / "b") == _contents(tmp_path / "a")


def test_a_recording_that_was_stopped_redoes_only_what_is_missing(
    tmp_path: pathlib.Path, small_jobs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert record.main(_command(tmp_path / "whole")) == 0
    draw = questions._draw
    drawn = []

    def stop_at_third(job: questions._Job, advance: Any) -> None:
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(job.first)
        draw(job, advance)

    monkeypatch.setattr(questions, "_draw", stop_at_third)
    assert record.main(_command(tmp_path / "stopped")) == 130
    assert drawn == [0, 3]
    assert not (tmp_path / "stopped" / QUESTIONS).exists()
    images = changes(tmp_path / "stopped" / "images")
    assert len(images) == 6

    monkeypatch.setattr(questions, "_draw", draw)
    assert record.main(_command(tmp_path / "stopped")) == 0
    assert _contents(tmp_path / "stopped") == _contents(tmp_path / "whole")
    after = changes(tmp_path / "stopped" / "images")
    assert {name: after[name] for name in images} == images


def test_parts_of_one_folder_share_no_scene(tmp_path: pathlib.Path) -> None:
    assert record.main(_command(tmp_path)) == 0
    assert record.main(_command(tmp_path, "--data_subtype", "val2014")) == 0
    images = [path.read_bytes() for path in (tmp_path / "images").iterdir()]
    assert len(images) == len(set(images)) == 14
    captioned = {repr(scenes.draw_scene(0, number)) for number in range(200)}
    seed = questions.Options(output=tmp_path).drawing_seed
    asked = {repr(scenes.draw_scene(seed, number)) for number in range(200)}
    assert not captioned & asked


def test_questions_of_another_recipe_are_refused(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record.main(_command(tmp_path)) == 0
    message = "Give another --output"
    assert_refused(_command(tmp_path, "--seed", "1"), tmp_path, capsys, message)


test_a_wrong_option_starts_nothing = refusals(
    _command,
    ("--scenes", "0", "--scenes is at least 1, got 0"),
    ("--questions", "11", "--questions is from 1 to 10, got 11"),
    ("--data_subtype", "train_2014", "letters, digits and '-'"),
    ("--seed", "-1", "2**64"),
)

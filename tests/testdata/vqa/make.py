"""Writes questions as VQAv2 and OK-VQA have them, and what the VQA API reads of them.

    pip install --no-deps salesforce-lavis==1.0.2 && pip install numpy pillow
    python make.py

writes `vqav2/`, `okvqa/` and `images/` beside this file, as they were written on
2026-11-22. The VQA API (PythonHelperTools/vqaTools/vqa.py, version 0.9, of
https://github.com/GT-Vision-Lab/VQA) is what VQAv2 is published with, and what OK-VQA,
of the same keys, is evaluated with. salesforce-lavis has it for Python 3; the rest of
that package, and what it depends on, are not needed. Keys are those of
https://visualqa.org/download.html and https://okvqa.allenai.org/download.html.

`read.json` in each folder has a line for each question, in the order in which the API
gives them: its id, its text, the file of its image (named as the API's vqaDemo.py
does), the ten answers, and `multiple_choice_answer` or null.
"""

import importlib.metadata
import importlib.util
import json
import pathlib
from typing import Any

import numpy as np
from PIL import Image

SUBTYPE = "val2014"
IDS = (262148, 42, 393225)
QUESTIONS = (
    "Where is he looking?",
    "Wie viele Hunde läufen über die Straße?",
    'What does the sign say after "stop"?',
    "Is it 東京? ",
)
# By how many of the ten give each answer; where two lead, the questions' own choice is
# that which comes first in the alphabet.
ANSWERS: tuple[dict[str, int], ...] = (
    {"down": 8, "at table": 1, "skateboard": 1},
    {"2": 4, "two": 3, "1": 3},
    {"no parking": 5, "nothing": 5},
    {"yes": 10},
)
KINDS = ("other", "number", "other", "yes/no")


def _answers(place: int, is_ok_vqa: bool) -> list[dict[str, Any]]:
    given = [word for word, count in ANSWERS[place].items() for _ in range(count)]
    given = given[place:] + given[:place]
    return [
        {"answer_id": number, "answer": word}
        | ({"raw_answer": word.title()} if is_ok_vqa else {})
        | {"answer_confidence": "yes" if number % 3 else "maybe"}
        for number, word in enumerate(given, 1)
    ]


def _annotation(
    question_id: int, image_id: int, place: int, is_ok_vqa: bool
) -> dict[str, Any]:
    entry = {
        "question_type": "eight" if is_ok_vqa else "where is the",
        "answers": _answers(place, is_ok_vqa),
        "image_id": image_id,
        "answer_type": "other" if is_ok_vqa else KINDS[place],
        "question_id": question_id,
    }
    if is_ok_vqa:
        return entry | {"confidence": 3}
    return entry | {"multiple_choice_answer": next(iter(ANSWERS[place]))}


def _write(folder: pathlib.Path, is_ok_vqa: bool) -> tuple[pathlib.Path, pathlib.Path]:
    folder.mkdir(exist_ok=True)
    common = {
        "info": {"description": "as published", "year": 2017, "version": "2.0"},
        "data_type": "mscoco",
        "data_subtype": SUBTYPE,
        "license": {"url": "http://creativecommons.org/licenses/by/4.0/", "name": "A"},
    }
    asked, annotated = [], []
    for image_id in IDS:
        for place, question in enumerate(QUESTIONS):
            question_id = image_id * 1000 + place
            asked.append(
                {"image_id": image_id, "question": question, "question_id": question_id}
            )
            annotated.append(_annotation(question_id, image_id, place, is_ok_vqa))
    version = "" if is_ok_vqa else "v2_"
    questions = folder / f"{version}OpenEnded_mscoco_{SUBTYPE}_questions.json"
    annotations = folder / f"{version}mscoco_{SUBTYPE}_annotations.json"
    content: dict[str, Any] = common | {"task_type": "Open-Ended", "questions": asked}
    questions.write_text(json.dumps(content), "utf-8")
    annotations.write_text(json.dumps(common | {"annotations": annotated}), "utf-8")
    return questions, annotations


def _api() -> Any:
    """Returns the module of the API, without the package around it."""
    files = importlib.metadata.files("salesforce-lavis") or []
    (found,) = (file for file in files if file.match("vqa_tools/vqa.py"))
    spec = importlib.util.spec_from_file_location("vqa", found.locate())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read(questions: pathlib.Path, annotations: pathlib.Path) -> list[list[Any]]:
    vqa = _api().VQA(str(annotations), str(questions))
    lines = []
    for question_id in vqa.getQuesIds():
        (annotation,) = vqa.loadQA(question_id)
        asked = vqa.qqa[question_id]
        image = f"COCO_{SUBTYPE}_{str(asked['image_id']).zfill(12)}.jpg"
        answers = [answer["answer"] for answer in annotation["answers"]]
        choice = annotation.get("multiple_choice_answer")
        lines.append([question_id, asked["question"], image, answers, choice])
    return lines


def main(root: pathlib.Path) -> None:
    """Writes both data sets and the images, then reads them."""
    (root / "images").mkdir(exist_ok=True)
    y, x = np.mgrid[:24, :32]
    for place, image_id in enumerate(IDS):
        pixels = np.stack([x * 8, y * 10, 0 * x + 80 * place], -1).astype(np.uint8)
        name = f"COCO_{SUBTYPE}_{image_id:012d}.jpg"
        Image.fromarray(pixels).save(root / "images" / name)
    for name in ("vqav2", "okvqa"):
        lines = _read(*_write(root / name, name == "okvqa"))
        text = ",\n".join(json.dumps(line) for line in lines)
        (root / name / "read.json").write_text(f"[\n{text}\n]\n", "utf-8")


if __name__ == "__main__":
    main(pathlib.Path(__file__).parent)

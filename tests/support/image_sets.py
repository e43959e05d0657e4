"""Writes small COCO captions and VQAv2 or OK-VQA folders, as the formats lay them out.

    path = image_sets.write_coco(tmp_path / "raw", captions=5)
    path = image_sets.write_vqa(tmp_path / "raw", num_images=3, is_ok_vqa=True)

Images lie in the folder `images` beside the JSON. Everything is a function of the seed.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import raw_inputs

Edit = Callable[[dict[str, Any]], Any]

SUBTYPE = "val2014"
# Real ids have six digits or fewer, and leave gaps.
IMAGE_IDS = (42, 73, 581929, 9, 100000, 7, 1234, 66, 500, 31, 2, 90210)


def image_name(image_id: int) -> str:
    return f"COCO_{SUBTYPE}_{image_id:012d}.jpg"


def write_images(
    folder: pathlib.Path, num_images: int, seed: int = 0, side: int = 40
) -> list[int]:
    """Writes JPEGs under VQAv2's names and returns their image ids."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    ids: list[int] = list(IMAGE_IDS[:num_images])
    for image_id in ids:
        pixels = generator.integers(0, 256, (side, side, 3)).astype(np.uint8)
        data = raw_inputs.encode_image(pixels, ".jpg")
        (folder / image_name(image_id)).write_bytes(data)
    return ids


def _write(path: pathlib.Path, content: dict[str, Any], edit: Edit | None) -> None:
    if edit is not None:
        edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def write_coco(
    root: pathlib.Path,
    *,
    num_images: int = 3,
    captions: int = 2,
    seed: int = 0,
    edit: Edit | None = None,
) -> pathlib.Path:
    """Writes captions of which no two neighbours are of one image.

    Args:
        root: The folder.
        num_images: At most 12.
        captions: Of each image.
        seed: Decides images and captions.
        edit: Changes the content before it is written.
    """
    ids = write_images(root / "images", num_images, seed)
    generator = np.random.default_rng(seed)
    content = {
        "info": {"description": "toy", "year": 2014},
        "licenses": [{"id": 1, "name": "none", "url": ""}],
        "images": [
            {"id": i, "file_name": image_name(i), "height": 40, "width": 40}
            for i in ids
        ],
        "annotations": [
            {
                "id": 1000 + 7 * number,
                "image_id": ids[number % num_images],
                "caption": raw_inputs.sentence(generator, 1 + number % 9),
            }
            for number in range(num_images * captions)
        ],
    }
    path = root / f"captions_{SUBTYPE}.json"
    _write(path, content, edit)
    return path


def answers_of(given: list[str], is_ok_vqa: bool = False) -> list[dict[str, Any]]:
    return [
        {
            "answer": answer,
            "answer_confidence": "yes",
            "answer_id": number,
            **({"raw_answer": answer.upper()} if is_ok_vqa else {}),
        }
        for number, answer in enumerate(given, 1)
    ]


def write_vqa(
    root: pathlib.Path,
    *,
    num_images: int = 3,
    questions: int = 2,
    seed: int = 0,
    is_ok_vqa: bool = False,
    edit_questions: Edit | None = None,
    edit_annotations: Edit | None = None,
) -> pathlib.Path:
    """Writes questions, grouped by image, and their annotations in another order.

    Args:
        root: The folder.
        num_images: At most 12.
        questions: On each image.
        seed: Decides images, questions and answers.
        is_ok_vqa: Whether annotations have no `multiple_choice_answer`.
        edit_questions: Changes the questions' content before it is written.
        edit_annotations: Changes the annotations' content before it is written.
    """
    ids = write_images(root / "images", num_images, seed)
    generator = np.random.default_rng(seed)
    common = {"data_type": "mscoco", "data_subtype": SUBTYPE, "info": {}, "license": {}}
    asked, annotated = [], []
    for image_id in ids:
        for number in range(questions):
            question_id = image_id * 1000 + number
            asked.append(
                {
                    "image_id": image_id,
                    "question": raw_inputs.sentence(generator, 1 + number) + "?",
                    "question_id": question_id,
                }
            )
            words = [str(w) for w in generator.choice(raw_inputs.WORDS[:6], 10)]
            entry = {
                "question_type": "what",
                "answers": answers_of(words, is_ok_vqa),
                "image_id": image_id,
                "answer_type": "other",
                "question_id": question_id,
            }
            if is_ok_vqa:
                entry["confidence"] = 3
            else:
                entry["multiple_choice_answer"] = words[0]
            annotated.append(entry)
    version = "" if is_ok_vqa else "v2_"
    path = root / f"{version}OpenEnded_mscoco_{SUBTYPE}_questions.json"
    content = {**common, "task_type": "Open-Ended", "questions": asked}
    _write(path, content, edit_questions)
    _write(
        root / f"{version}mscoco_{SUBTYPE}_annotations.json",
        {**common, "annotations": annotated[::-1]},
        edit_annotations,
    )
    return path

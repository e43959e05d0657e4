"""Records rendered scenes with questions and answers, in the files of VQAv2.

    DIR/v2_OpenEnded_mscoco_<data_subtype>_questions.json
    DIR/v2_mscoco_<data_subtype>_annotations.json
    DIR/images/COCO_<data_subtype>_<image_id, 12 digits>.jpg

Scene i is image i + 1, and its question k has the id 1000 * image_id + k, as VQAv2
counts. All ten answers are the true one. Workers draw ranges of scenes; what they ask
lies in a hidden folder until all is there, and becomes the two JSON files last.
"""

import dataclasses
import json
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import rich.console

from gato.pipelines.recorders import pool, scene_questions, scenes, workplace
from gato.pipelines.recorders.scene_questions import MAX_QUESTIONS, Question
from gato.schemas import files
from gato.schemas.errors import GatoError, UsageError
from gato.schemas.hashing import keyed_hash

# VQAv2 names images .jpg. At this quality and without subsampling of colours, the
# lines and colours of a drawing look as they were drawn.
_JPEG = (
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)
_SCENES_PER_JOB = 250
_LISTS = ("questions", "annotations")
_ABOUT = {
    "info": {
        "description": "Rendered grid scenes with questions and true answers.",
        "url": "",
        "version": "1.0",
        "year": 2026,
        "contributor": "gato-record",
        "date_created": "",
    },
    "license": {
        "url": "https://www.apache.org/licenses/LICENSE-2.0",
        "name": "Apache License 2.0",
    },
    "data_type": "mscoco",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to draw and ask.

    Attributes:
        output: The folder of the files.
        scenes: How many pictures.
        questions: How many on each.
        data_subtype: VQAv2's name of a part, such as train2014; names the files.
        seed: Decides every scene and question.
        workers: How many processes.
    """

    output: pathlib.Path
    scenes: int = 1000
    questions: int = 5
    data_subtype: str = "train2014"
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        for name in ("scenes", "workers"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} is at least 1, got {getattr(self, name)}")
        if not 1 <= self.questions <= MAX_QUESTIONS:
            raise UsageError(
                f"--questions is from 1 to {MAX_QUESTIONS}, got {self.questions}"
            )
        if not 0 <= self.seed < 1 << 64:
            raise UsageError(f"--seed is in [0, 2**64), got {self.seed}")
        if not re.fullmatch("[A-Za-z0-9-]+", self.data_subtype):
            # Readers take the names of the files apart at `_`.
            raise UsageError(
                "--data_subtype is made of letters, digits and '-', such as train2014,"
                f" got {self.data_subtype!r}"
            )

    @property
    def drawing_seed(self) -> int:
        """What decides scenes and questions: no two parts, nor captions, share any."""
        return keyed_hash(self.seed, "questions", self.data_subtype)

    @property
    def paths(self) -> dict[str, pathlib.Path]:
        """The questions' and the annotations' file."""
        part = f"mscoco_{self.data_subtype}"
        return {
            "questions": self.output / f"v2_OpenEnded_{part}_questions.json",
            "annotations": self.output / f"v2_{part}_annotations.json",
        }

    @property
    def parts(self) -> pathlib.Path:
        """The folder of what is finished of the two files."""
        return self.output / f".recording_{self.data_subtype}"

    def image_path(self, image_id: int) -> pathlib.Path:
        """Returns where VQAv2 has an image."""
        name = f"COCO_{self.data_subtype}_{image_id:012d}.jpg"
        return self.output / "images" / name


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
    options: Options
    first: int
    stop: int

    def part(self, name: str) -> pathlib.Path:
        return self.options.parts / f"{self.first:09d}.{name}"

    def is_done(self) -> bool:
        return all(self.part(name).exists() for name in _LISTS)


def _image(scene: scenes.Scene) -> bytes:
    pixels = cv2.cvtColor(scenes.render(scene), cv2.COLOR_RGB2BGR)
    encoded, jpeg = cv2.imencode(".jpg", pixels, _JPEG)
    if not encoded:
        raise GatoError("OpenCV could not write a picture as JPEG")
    return jpeg.tobytes()


def _entries(image_id: int, asked: Sequence[Question]) -> Iterator[dict[str, Any]]:
    """Yields each question's entry in `questions` and in `annotations`."""
    for place, question in enumerate(asked):
        question_id = 1000 * image_id + place
        yield {
            "questions": {
                "image_id": image_id,
                "question": question.text,
                "question_id": question_id,
            },
            "annotations": {
                "question_type": question.question_type,
                "multiple_choice_answer": question.answer,
                "answers": [
                    {
                        "answer": question.answer,
                        "answer_confidence": "yes",
                        "answer_id": answer_id,
                    }
                    for answer_id in range(1, 11)
                ],
                "image_id": image_id,
                "answer_type": question.answer_type,
                "question_id": question_id,
            },
        }


def _draw(job: _Job, advance: Callable[[], None]) -> None:
    """Writes a range's images, then its entries, as JSON without the brackets."""
    options, seed = job.options, job.options.drawing_seed
    lists: dict[str, list[str]] = {name: [] for name in _LISTS}
    for number in range(job.first, job.stop):
        scene = scenes.draw_scene(seed, number)
        image_id = number + 1
        files.write_atomic(str(options.image_path(image_id)), _image(scene))
        asked = scene_questions.ask(scene, seed, number, options.questions)
        for entry in _entries(image_id, asked):
            for name in _LISTS:
                lists[name].append(json.dumps(entry[name]))
        advance()
    for name in _LISTS:
        files.write_atomic(str(job.part(name)), ", ".join(lists[name]).encode())


def _join(options: Options, jobs: Sequence[_Job]) -> None:
    """Writes the two JSON files; the questions, which a build names, come last."""
    for name in reversed(_LISTS):
        about = _ABOUT | {"data_subtype": options.data_subtype}
        if name == "questions":
            about["task_type"] = "Open-Ended"
        with files.open_atomic(str(options.paths[name])) as file:
            file.write(json.dumps(about)[:-1].encode() + f', "{name}": ['.encode())
            for job in jobs:
                file.write(b"" if job is jobs[0] else b", ")
                file.write(job.part(name).read_bytes())
            file.write(b"]}")


def record(options: Options) -> None:
    """Writes what is not there yet.

    Raises:
        UsageError: If the folder holds other scenes, or another recorder writes there.
    """
    recipe = {
        "scenes": options.scenes,
        "questions": options.questions,
        "seed": options.seed,
    }
    name = f"recipe_{options.data_subtype}.json"
    workplace.check_recipe(options.output / name, recipe)
    there = options.paths["questions"].exists()
    if not there or options.parts.exists():
        with workplace.locked(options.parts):
            if not there:
                _record(options)
            shutil.rmtree(options.parts)
    rich.console.Console().print(
        f"{options.scenes * options.questions:,} questions on {options.scenes:,} scenes"
        f" in {options.paths['questions']}{' (was there)' * there}",
        soft_wrap=True,
    )


def _record(options: Options) -> None:
    starts = range(0, options.scenes, _SCENES_PER_JOB)
    jobs = [
        _Job(
            options=options,
            first=first,
            stop=min(first + _SCENES_PER_JOB, options.scenes),
        )
        for first in starts
    ]
    missing = [job for job in jobs if not job.is_done()]
    pool.run_all(
        _draw,
        missing,
        workers=options.workers,
        title="Asking about scenes",
        items="scenes",
        expected=sum(job.stop - job.first for job in missing),
    )
    _join(options, jobs)

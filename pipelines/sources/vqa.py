"""VQAv2 and OK-VQA: a questions JSON, and an annotations JSON with the answers.

One document is one question, in the questions' order: the image, `Q: {question} A:`
and `{answer}`, two encodings, so that inference sees the trained prefix. Its id is the
question's. The answer is `multiple_choice_answer`, else the most frequent of `answers`,
ties by code point. An annotation without question counts as one more item, after them.

The annotations are the one `*annotations.json` beside the questions whose name ends in
the same `<data_type>_<data_subtype>_`, images are `COCO_<data_subtype>_<12 digits>.jpg`
in the folder `images`, else `<image_id>.*`; options name others.
"""

import collections
import dataclasses
import functools
from collections.abc import Iterator

import msgspec

from gato.pipelines.sources import annotation_json, base, image_folder
from gato.pipelines.sources.annotation_json import decode_entry, missing
from gato.pipelines.sources.image_folder import NamedImage, Pending, PicturedSource
from gato.pipelines.sources.questions import question_parts
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import TextPart, Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError

# Questions of a partition, of which five or six share an image of about 150 KB.
PARTITION_ITEMS = 4096

_QUESTIONS = "questions.json"
_ANNOTATIONS = "annotations.json"


class _QuestionLists(msgspec.Struct):
    questions: list[msgspec.Raw] | None = None
    data_subtype: str | None = None


class _AnnotationLists(msgspec.Struct):
    annotations: list[msgspec.Raw] | None = None


class _Question(msgspec.Struct):
    question_id: int | str | None = None
    image_id: int | str | None = None
    question: str | None = None


class _QuestionId(msgspec.Struct):
    question_id: int | str | None = None


class _Answer(msgspec.Struct):
    answer: str | None = None


class _Annotation(msgspec.Struct):
    multiple_choice_answer: str | None = None


class _Answers(msgspec.Struct):
    """Ten dicts, decoded only where they decide."""

    answers: list[_Answer] | None = None


_QUESTION = msgspec.json.Decoder(_Question)
_QUESTION_ID = msgspec.json.Decoder(_QuestionId)
_ANNOTATION = msgspec.json.Decoder(_Annotation)
_ANSWERS = msgspec.json.Decoder(_Answers)


@dataclasses.dataclass(frozen=True)
class _Questions:
    """Questions, undecoded, with their answers.

    Attributes:
        questions: In the file's order.
        repeated: Places of those whose id an earlier one has.
        data_subtype: As val2014; part of the images' names.
        answers: By the question's id, or the verdict on an annotation.
        strays: Annotations that are of no question: id (None if it has none), verdict.
    """

    questions: list[msgspec.Raw]
    repeated: frozenset[int]
    data_subtype: str | None
    answers: dict[str, str | QuarantineError]
    strays: list[tuple[str | None, QuarantineError]]

    @property
    def num_items(self) -> int:
        """Questions and stray annotations."""
        return len(self.questions) + len(self.strays)


class VqaSource(PicturedSource):
    """Questions on images; partitions are ranges of questions."""

    def files(self, path: str) -> list[str]:
        """Returns the questions JSON.

        Raises:
            UsageError: If it is a folder, has another suffix or is the annotations.
        """
        wrong = files.is_folder(path) or not path.endswith(".json")
        if wrong or path.endswith(_ANNOTATIONS):
            raise UsageError(
                f"{path}: a path of format vqa is a questions JSON, such as"
                " v2_OpenEnded_mscoco_val2014_questions.json"
            )
        return [path]

    def beside(self, path: str, dataset: Dataset) -> list[str]:
        """Returns the annotations JSON and the folder of the images.

        Raises:
            UsageError: If one is not there, or several annotations could be meant.
        """
        annotations = find_annotations(path, dataset)
        return [annotations, *super().beside(path, dataset)]

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Splits the questions into ranges."""
        annotations = find_annotations(path, dataset)
        try:
            count = _questions(path, annotations).num_items
        except QuarantineError:  # read() tells
            return [base.Partition(path=path, relative_path=relative_path)]
        size = files.size(path) + files.size(annotations)
        size += image_folder.num_bytes(self.folder(path, dataset))
        return base.item_ranges(path, relative_path, count, size, PARTITION_ITEMS)

    def pending(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Pending | Unreadable]:
        """Yields each question with its answer, or the verdict on it."""
        return _items(partition, dataset)


SOURCE: base.Source = VqaSource()


def find_annotations(path: str, dataset: Dataset) -> str:
    """Returns the annotations of a questions JSON.

    Raises:
        UsageError: If there are none, or several that could be meant.
    """
    if dataset.annotations is not None:
        if not files.exists(dataset.annotations):
            raise UsageError(
                f"datasets.{dataset.name}.annotations: no such file"
                f" {dataset.annotations!r}"
            )
        return dataset.annotations
    folder, _, name = path.rpartition("/")
    beside = [n for n in files.list_folder(folder or ".") if n.endswith(_ANNOTATIONS)]
    ending = _annotations_ending(name)
    found = [n for n in beside if n == ending or n.endswith("_" + ending)]
    if len(found) == 1:
        return image_folder.beside(path, found[0])
    which = (
        f"{len(found)} do: {', '.join(found)}"
        if found
        else (
            f"none does; beside it are {', '.join(beside) or 'no annotations at all'}"
        )
    )
    raise UsageError(
        f"{path}: one annotations JSON beside the questions must end in {ending!r},"
        f" {which}. Give data set {dataset.name!r} annotations: FILE"
    )


def _annotations_ending(name: str) -> str:
    """Returns how the annotations' name ends, of the questions'.

    >>> _annotations_ending("v2_OpenEnded_mscoco_val2014_questions.json")
    'mscoco_val2014_annotations.json'
    """
    words = [word for word in name.removesuffix(_QUESTIONS).split("_") if word]
    if not name.endswith(_QUESTIONS):
        words = []
    return "_".join([*words[-2:], _ANNOTATIONS])


def _questions(path: str, annotations: str) -> _Questions:
    """Returns questions and answers, parsed once a process while they stay the same.

    Raises:
        QuarantineError: CORRUPT_FILE or MISSING_FIELD.
    """
    versions = (annotation_json.version(path), annotation_json.version(annotations))
    return _parsed(path, annotations, versions)


@functools.lru_cache(maxsize=2)
def _parsed(
    path: str, annotations: str, versions: tuple[tuple[int, str], ...]
) -> _Questions:
    answers, strays = _answers(annotations)
    lists = annotation_json.load_lists(path, _QuestionLists)
    questions = annotation_json.required(lists.questions, "questions", path)
    known = annotation_json.all_ids(questions, _QUESTION_ID, _id_of)
    without = answers.keys() - set(known)
    for question_id in [key for key in answers if key in without]:
        del answers[question_id]
        verdict = QuarantineError(
            Reason.MISSING_FIELD,
            "an annotation must have its question, and no question has the id"
            f" {question_id!r}",
        )
        strays.append((question_id, verdict))
    return _Questions(
        questions=questions,
        repeated=annotation_json.repeated(known),
        data_subtype=lists.data_subtype,
        answers=answers,
        strays=strays,
    )


def _id_of(entry: _QuestionId) -> int | str | None:
    return entry.question_id


def _answers(
    path: str,
) -> tuple[dict[str, str | QuarantineError], list[tuple[str | None, QuarantineError]]]:
    """Returns the answers by question, and the annotations that are of none.

    Only they outlive the annotations' bytes, which are five times as large.
    """
    lists = annotation_json.load_lists(path, _AnnotationLists)
    answers: dict[str, str | QuarantineError] = {}
    strays: list[tuple[str | None, QuarantineError]] = []
    same: dict[str, str] = {}  # a few answers are most of them
    entries = annotation_json.required(lists.annotations, "annotations", path)
    for number, raw in enumerate(entries):
        place = f"annotations[{number}]"
        key = None
        answer: str | QuarantineError
        try:
            key = _question_id(raw, place)
            answer = _answer(raw, place)
            answer = same.setdefault(answer, answer)
        except QuarantineError as error:
            answer = error
        if key is None:
            if isinstance(answer, QuarantineError):
                strays.append((None, answer))
        elif key in answers:
            answers[key] = QuarantineError(
                Reason.CORRUPT_RECORD,
                f"a question must have one annotation, {key!r} has another as {place}",
            )
        else:
            answers[key] = answer
    return answers, strays


def _question_id(raw: msgspec.Raw, place: str) -> str:
    question_id = decode_entry(_QUESTION_ID, raw, place).question_id
    if question_id is None:
        raise missing(place, "question_id")
    return str(question_id)


def _answer(raw: msgspec.Raw, place: str) -> str:
    """Returns the answer of an annotation.

    Raises:
        QuarantineError: EMPTY, MISSING_FIELD, NOT_UTF8 or WRONG_DTYPE.
    """
    answer = decode_entry(_ANNOTATION, raw, place).multiple_choice_answer
    if answer is None:
        answer = _most_frequent(decode_entry(_ANSWERS, raw, place).answers, place)
    if not answer:
        raise QuarantineError(Reason.EMPTY, f"{place}: an answer must not be empty")
    return answer


def _most_frequent(entries: list[_Answer] | None, place: str) -> str:
    counts: collections.Counter[str] = collections.Counter()
    for entry in entries or ():
        if entry.answer is None:
            raise missing(f"each of {place}.answers", "answer")
        counts[entry.answer] += 1
    if not counts:
        raise QuarantineError(
            Reason.MISSING_FIELD,
            f"{place} must have 'multiple_choice_answer', or 'answers' of at least one",
        )
    return min(counts, key=lambda answer: (-counts[answer], answer))


def _items(
    partition: base.Partition, dataset: Dataset
) -> Iterator[Pending | Unreadable]:
    path = partition.path
    try:
        questions = _questions(path, find_annotations(path, dataset))
    except QuarantineError as error:
        yield base.unreadable(partition, None, partition.first_number, error)
        return
    first_stray = len(questions.questions)
    for number in range(questions.num_items)[partition.start : partition.stop]:
        if number < first_stray:
            yield _item(partition, questions, number)
            continue
        question_id, verdict = questions.strays[number - first_stray]
        name = number if question_id is None else question_id
        item_id = f"{partition.relative_path}/{name}"
        yield base.unreadable(partition, item_id, number, verdict)


def _item(
    partition: base.Partition, questions: _Questions, number: int
) -> Pending | Unreadable:
    item_id = f"{partition.relative_path}/{number}"
    place = f"questions[{number}]"
    try:
        entry = decode_entry(_QUESTION, questions.questions[number], place)
        if entry.question_id is None:
            raise missing(place, "question_id")
        item_id = f"{partition.relative_path}/{entry.question_id}"
        if number in questions.repeated:
            raise QuarantineError(
                Reason.CORRUPT_RECORD,
                f"a question's id must be its own, {place} has that of an earlier one:"
                f" {entry.question_id!r}",
            )
        image, stem = _image(entry, questions.data_subtype, place)
        return Pending(
            document_id=item_id,
            number=number,
            parts=(NamedImage(image, stem), *_texts(entry, questions, place)),
        )
    except QuarantineError as error:
        return base.unreadable(partition, item_id, number, error)


def _image(
    entry: _Question, data_subtype: str | None, place: str
) -> tuple[str | None, str]:
    """Returns the name that VQAv2 gives the image, and the one it has elsewhere."""
    if entry.image_id is None:
        raise missing(place, "image_id")
    stem = str(entry.image_id)
    if "/" in image_folder.check_name(stem) or "\\" in stem:
        raise image_folder.leaves_folder(stem)
    if not data_subtype:
        return None, stem
    name = f"COCO_{data_subtype}_{stem.zfill(12)}.jpg"
    return image_folder.check_name(name), stem


def _texts(
    entry: _Question, questions: _Questions, place: str
) -> tuple[TextPart, TextPart]:
    if entry.question is None:
        raise missing(place, "question")
    if not entry.question:
        raise QuarantineError(Reason.EMPTY, f"{place}: a question must not be empty")
    answer = questions.answers.get(str(entry.question_id))
    if answer is None:
        raise QuarantineError(
            Reason.MISSING_FIELD,
            f"a question must have its annotation, and none has the question_id"
            f" {entry.question_id!r}",
        )
    if isinstance(answer, QuarantineError):
        raise answer
    return question_parts(entry.question, answer)

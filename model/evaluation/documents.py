"""Captions and answers on held-back images, written greedily and compared.

Examples are single pairs of a data set's validation split: the image and, of VQA, the
question are read as they were tokenized, and the rest is written up to its end. Texts
are compared in lower case, white space apart:

    exact match   the same text, in percent
    token F1      harmonic mean of precision and recall of its words, in percent, since
                  a caption can be right in other words

The most frequent text of the examples shows what a model could reach without looking.
"""

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import rich.table

from gato.model.control import ControlDataset
from gato.model.evaluation.scores import Score, score
from gato.model.evaluation.suite import (
    SuiteDocuments,
    Training,
    open_data,
    read_suite,
    training_of,
    was_seen,
)
from gato.model.policy import Policy
from gato.model.prefix import Prefix, join, slots_of
from gato.model.weights import Trained
from gato.schemas import files
from gato.schemas.errors import UsageError
from gato.schemas.hashing import keyed_hash
from gato.schemas.record import Kind, Row, decode_row
from gato.schemas.tfrecord import iterate_records
from gato.tokenizers.vocabulary import Vocabulary

_QUESTIONS = ("vqa",)
_CAPTIONS = ("captions_tsv", "coco", "webdataset")
_BLOCK = 256


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """One pair.

    Attributes:
        document_id: As in the build.
        image: Its slots.
        question: Those of the question; none of a caption.
        wanted: Ids of the text to be written, without eos.
    """

    document_id: str
    image: Prefix
    question: Prefix
    wanted: list[int]


class Exam:
    """The examples of one data set.

    Attributes:
        name: In the suite.
        kind: questions or captions.
        held_out: Whether no pair of the data set was trained on.
        examples: In the order of a hash of their ids, so that fewer are among more.
    """

    def __init__(
        self, name: str, entry: SuiteDocuments, data: ControlDataset, training: Training
    ) -> None:
        """Reads the validation split.

        Raises:
            UsageError: If there are no pairs in it.
        """
        self.name = name
        self.data = data
        form = data.manifest.config["dataset"]["format"]
        if form not in _QUESTIONS + _CAPTIONS:
            raise UsageError(
                f"{data.folder}: documents of a suite are captions or questions, this"
                f" data set is of format {form!r}. Take it out of the suite."
            )
        self.kind = "questions" if form in _QUESTIONS else "captions"
        what = "Build and train on one build, or name the data set otherwise."
        self.held_out = not was_seen(data, training, what)
        found = sorted(
            _read(data, self.kind == "questions"),
            key=lambda one: keyed_hash(0, "exam", one.document_id),
        )
        self.examples = found[: entry.examples]
        if not self.examples:
            raise UsageError(
                f"{data.folder}: its validation split holds no pair to be tested on."
                " Build it with a larger validation_fraction."
            )


def load_exams(path: str, trained: Trained) -> list[Exam]:
    """Returns the documents of a suite file.

    Raises:
        UsageError: If the file is no suite, or names what is not there.
        GatoError: If a data set is of another build than the checkpoint's.
    """
    training = training_of(trained)
    return [
        Exam(name, entry, open_data(path, entry.data, training), training)
        for name, entry in read_suite(path).documents.items()
    ]


def _read(data: ControlDataset, has_questions: bool) -> Iterator[Example]:
    manifest = data.manifest
    for shard in manifest.splits["validation"].shards:
        path = files.join(data.folder, shard.name)
        for offset, record in iterate_records(files.read_bytes(path), path):
            row = decode_row(
                record,
                sequence_length=manifest.sequence_length,
                dtype=manifest.token_dtype,
                place=f"{path} at byte {offset}",
            )
            yield from _pairs(row, data, has_questions)


def _pairs(row: Row, data: ControlDataset, has_questions: bool) -> Iterator[Example]:
    whole = slots_of(row)
    eos = data.text.vocabulary.eos
    ends = np.flatnonzero((whole.tokens == eos) & (whole.kind == Kind.TEXT)).tolist()
    ids = [one for about in row.provenance for one in about["documents"]]
    start = 0
    for name, end in zip(ids, ends, strict=True):
        pair = whole.part(start, end)
        start = end + 1
        at = int(np.count_nonzero(pair.kind == Kind.IMAGE))
        texts = pair.tokens[at:].tolist()
        asked = _question_length(texts, data) if has_questions else 0
        yield Example(
            document_id=name,
            image=pair.part(0, at),
            question=pair.part(at, at + asked),
            wanted=texts[asked:],
        )


def _question_length(ids: Sequence[int], data: ControlDataset) -> int:
    """Returns where the question ends: both texts were encoded apart."""
    for length in range(1, len(ids)):
        text = data.text.decode(ids[:length])
        if text.endswith(" A:") and data.text.encode_list(text) == ids[:length]:
            return length
    raise UsageError(
        f"{data.folder}: a question reads 'Q: ... A:', got {data.text.decode(ids)!r}."
        " Was it built with this text tokenizer?"
    )


def normal(text: str) -> str:
    """Returns a text as it is compared.

    >>> normal("  A red  Ball ")
    'a red ball'
    """
    return " ".join(text.lower().split())


def token_f1(written: str, wanted: str) -> float:
    """Returns the harmonic mean of precision and recall of words, from 0 to 1.

    >>> token_f1("a red ball", "the red ball")
    0.6666666666666666
    """
    one, other = normal(written).split(), normal(wanted).split()
    common = sum((collections.Counter(one) & collections.Counter(other)).values())
    return 2 * common / (len(one) + len(other)) if one or other else 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Marks:
    """How an exam went.

    Attributes:
        exam: The exam.
        written: Text of each example.
        exact: Share of exact matches, in percent.
        f1: Mean token F1, in percent.
        constant: Exact matches of the examples' most frequent text, in percent.
    """

    exam: Exam
    written: tuple[str, ...]
    exact: Score
    f1: Score
    constant: float

    def as_json(self) -> dict[str, Any]:
        """Returns all of it."""
        decode = self.exam.data.text.decode
        return {
            "data": self.exam.data.folder,
            "kind": self.exam.kind,
            "held_out": self.exam.held_out,
            "exact_match": self.exact.as_json(),
            "token_f1": self.f1.as_json(),
            "most_frequent": self.constant,
            "examples": [
                {
                    "document": example.document_id,
                    "question": decode(example.question.tokens),
                    "wanted": decode(example.wanted),
                    "written": text,
                }
                for example, text in zip(self.exam.examples, self.written, strict=True)
            ],
        }


def sit(exam: Exam, trained: Trained, rows: int, *, shuffled: bool = False) -> Marks:
    """Writes the texts of all examples, and marks them.

    Args:
        exam: The examples.
        trained: The checkpoint.
        rows: Examples at a time.
        shuffled: Whether each is shown the image of the next one instead of its own.
    """
    examples = exam.examples
    images = [one.image for one in examples]
    if shuffled:
        images = images[1:] + images[:1]
    policy = Policy(
        trained.model,
        trained.params,
        Vocabulary.from_info(trained.vocabulary),
        rows=min(rows, len(examples)),
        block=_BLOCK,
        images=True,
    )
    # One that writes on after the longest wanted text is wrong already.
    most = max(len(one.wanted) for one in examples) + 1
    texts: list[str] = []
    for first in range(0, len(examples), policy.rows):
        chosen = range(first, min(first + policy.rows, len(examples)))
        policy.start(
            {
                number - first: join([images[number], examples[number].question])
                for number in chosen
            }
        )
        written = policy.write(range(len(chosen)), most)
        texts += [exam.data.text.decode(written[row]) for row in range(len(chosen))]
    return _mark(exam, texts)


def _mark(exam: Exam, texts: Sequence[str]) -> Marks:
    wanted = [normal(exam.data.text.decode(one.wanted)) for one in exam.examples]
    pairs = list(zip(texts, wanted, strict=True))
    exact = np.array([100.0 * (normal(text) == right) for text, right in pairs])
    f1 = np.array([100.0 * token_f1(text, right) for text, right in pairs])
    exact_score, f1_score = (score([one], [exam.name]).tasks[0] for one in (exact, f1))
    (_, times), *_ = collections.Counter(wanted).most_common(1)
    return Marks(
        exam=exam,
        written=tuple(texts),
        exact=exact_score,
        f1=f1_score,
        constant=100 * times / len(wanted),
    )


def marks_table(marks: Sequence[Marks]) -> rich.table.Table:
    """Returns the marks of exams for reading."""
    made = rich.table.Table(title="written on held-back images, greedily")
    made.add_column("documents")
    made.add_column("data")
    numbers = ("examples", "exact %", "95% interval", "token F1 %", "95% interval")
    for title in (*numbers, "most frequent %"):
        made.add_column(title, justify="right")
    for one in marks:
        made.add_row(
            f"{one.exam.name} ({one.exam.kind})",
            "held out" if one.exam.held_out else "validation split",
            str(len(one.written)),
            *one.exact.cells(),
            *one.f1.cells(),
            f"{one.constant:.1f}",
        )
    return made

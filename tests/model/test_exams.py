"""Captions and answers on held-back pairs: what is asked, written and compared."""

import json

import numpy as np
import pytest
import yaml
from small_models import random_params, small_config, small_model
from suites import BUILD, trained

from gato.model import evaluate
from gato.model.checkpoint import Checkpoints
from gato.model.evaluation import documents
from gato.model.evaluation.documents import load_exams, sit, token_f1
from gato.model.policy import Policy
from gato.model.prefix import document
from gato.model.shards import find_datasets
from gato.schemas.errors import UsageError
from gato.schemas.record import Kind, decode_row
from gato.schemas.tfrecord import iterate_records
from gato.tokenizers.documents import question


def write(path, **datasets):
    entries = {
        name: {"data": str(BUILD / name)} | changes
        for name, changes in datasets.items()
    }
    path.write_text(yaml.safe_dump({"documents": entries}))
    return str(path)


def exam(tmp_path, name, **changes):
    (found,) = load_exams(write(tmp_path / "s.yaml", **{name: changes}), trained())
    return found


@pytest.mark.parametrize("name", ["questions", "captions"])
def test_every_held_back_pair_is_asked_once_as_it_was_built(tmp_path, name):
    found = exam(tmp_path, name)
    path = BUILD / name / "validation-00000-of-00001.tfrecord"
    shown = []
    for _, data in iterate_records(path.read_bytes(), str(path)):
        row = decode_row(data, sequence_length=512, dtype="uint16", place="")
        for entry in row.provenance:
            shown += entry["documents"]
    assert sorted(one.document_id for one in found.examples) == sorted(shown)
    decode = found.data.text.decode
    for one in found.examples:
        assert set(one.image.kind.tolist()) == {Kind.IMAGE}
        assert len(one.image.patches) == len(one.image)
        assert decode(one.wanted)
        assert "A:" not in decode(one.wanted)
        asked = decode(one.question.tokens)
        if name == "captions":
            assert asked == ""
        else:
            assert asked.startswith("Q: ")
            assert asked.endswith("? A:")
    few = exam(tmp_path, name, examples=3)
    assert [one.document_id for one in few.examples] == [
        one.document_id for one in found.examples[:3]
    ]


def test_what_is_read_is_what_the_policy_makes_of_image_and_question(tmp_path):
    found = exam(tmp_path, "questions", examples=4)
    tokenizer = found.data.text
    for one in found.examples:
        text = tokenizer.decode(one.question.tokens)
        made = document(tokenizer, text=question(text[3:-3]))
        np.testing.assert_array_equal(made.tokens, one.question.tokens)
        np.testing.assert_array_equal(made.kind, one.question.kind)
        np.testing.assert_array_equal(made.local_position, one.question.local_position)


class Oracle(Policy):
    """Writes what belongs to the image and question it was started with."""

    answers: dict[tuple[bytes, bytes], list[int]]

    def __init__(self, *parts, rows, **options):
        self.rows = rows
        self._started = {}

    def start(self, prefixes):
        self._started = {row: one for row, one in prefixes.items() if one is not None}

    def write(self, rows, max_tokens):
        written = {}
        for row in rows:
            one = self._started[row]
            key = (one.patches.tobytes(), one.tokens[one.kind == Kind.TEXT].tobytes())
            written[row] = np.array(self.answers.get(key, [])[:max_tokens], np.int32)
        return written


@pytest.fixture
def oracle(monkeypatch):
    def known(examples):
        Oracle.answers = {
            (one.image.patches.tobytes(), one.question.tokens.tobytes()): one.wanted
            for one in examples
        }
        monkeypatch.setattr(documents, "Policy", Oracle)

    return known


def test_right_answers_are_marked_right_and_wrong_images_lose_them(tmp_path, oracle):
    found = exam(tmp_path, "questions")
    oracle(found.examples)
    marks = sit(found, trained(), 4)
    assert (marks.exact.mean, marks.f1.mean) == (100, 100)
    assert len(marks.written) == len(found.examples)
    shuffled = sit(found, trained(), 4, shuffled=True)
    assert shuffled.exact.mean < 60
    oracle(found.examples[:5])
    some = sit(found, trained(), 4)
    share = 100 * 5 / len(found.examples)
    # Two pairs may be alike in image and question.
    assert share <= some.exact.mean < 2 * share
    assert some.exact.low < some.exact.mean < some.exact.high
    told = some.as_json()
    assert [one["written"] != "" for one in told["examples"][:5]] == [True] * 5
    answers = [one["wanted"] for one in told["examples"]]
    most = max(answers.count(one) for one in answers)
    assert told["most_frequent"] == pytest.approx(100 * most / len(answers))


def test_words_are_compared_without_case_and_order():
    assert token_f1("a red ball", "The red  Ball") == pytest.approx(2 / 3)
    assert token_f1("", "ball") == 0
    assert token_f1("ball ball", "ball") == pytest.approx(2 / 3)
    assert documents.normal(" Two\nBalls ") == "two balls"


def test_other_data_is_refused(tmp_path):
    suite = write(tmp_path / "s.yaml", babyai={})
    with pytest.raises(UsageError, match="'minari'"):
        load_exams(suite, trained())
    with pytest.raises(UsageError, match="another build"):
        load_exams(
            write(tmp_path / "s.yaml", captions={}),
            trained(datasets={"captions": "other"}),
        )
    (tmp_path / "s.yaml").write_text("{}")
    with pytest.raises(UsageError, match="domains, documents, or both"):
        load_exams(str(tmp_path / "s.yaml"), trained())


def test_the_command_writes_captions_and_answers(tmp_path, capsys):
    config = small_config(blocks=1)
    globs = [f"{BUILD}/{name}/train-*.tfrecord" for name in ("captions", "babyai")]
    datasets = find_datasets(globs)
    size = datasets[0].manifest.vocabulary.size
    model = small_model(512, vocabulary_size=size, blocks=1)
    checkpoints = Checkpoints(str(tmp_path / "run"), config, datasets)
    checkpoints.save(2, {"params": random_params(model), "optimizer": {}, "step": 2})
    checkpoints.close()
    suite = write(tmp_path / "s.yaml", captions={"examples": 3}, questions={})
    command = ["--checkpoint", str(tmp_path / "run"), "--suite", suite, "--batch", "4"]
    assert evaluate.main(command) == 0
    found = json.loads((tmp_path / "run/evaluation/s-2.json").read_text())
    captions, questions = (found["documents"][k] for k in ("captions", "questions"))
    assert len(captions["examples"]) == 3
    assert (captions["held_out"], questions["held_out"]) == (False, True)
    assert 0 <= questions["exact_match"]["low"] <= questions["exact_match"]["high"]
    shown = capsys.readouterr().out
    assert "captions (captions)" in shown
    assert "questions (questions)" in shown

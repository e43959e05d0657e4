"""Questions on images of VQAv2 and OK-VQA, beside what `json` reads of them."""

import collections
import json
import pathlib
import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

import fsspec
import image_sets
import numpy as np
import pair_sources
import pytest
import raw_inputs
from building import build_message, run_build
from pair_sources import dataset, pairs, verdicts

from gato.pipelines import verify
from gato.pipelines.sources import vqa
from gato.pipelines.sources.vqa import VqaSource, find_annotations
from gato.schemas.episode import Document, TextPart, Unreadable
from gato.schemas.errors import Reason, UsageError
from gato.schemas.manifest import load_dataset_manifest

NAME = "v2_OpenEnded_mscoco_val2014_questions.json"
ANNOTATIONS = "v2_mscoco_val2014_annotations.json"

Content = dict[str, Any]


def read(path: pathlib.Path | str, **settings: Any) -> list[Document | Unreadable]:
    return pair_sources.read("vqa", path, **settings)


def annotations_path(path: pathlib.Path) -> pathlib.Path:
    (found,) = path.parent.glob("*annotations.json")
    return found


def most_frequent(entry: Content) -> str:
    counts = collections.Counter(answer["answer"] for answer in entry["answers"])
    most = max(counts.values())
    return min(answer for answer, count in counts.items() if count == most)


def reference(path: pathlib.Path) -> list[pair_sources.Pair]:
    """Reads as the VQA API does: annotations by question id, questions in order."""
    asked = json.loads(path.read_text("utf-8"))
    annotated = json.loads(annotations_path(path).read_text("utf-8"))["annotations"]
    answers = {
        entry["question_id"]: entry.get("multiple_choice_answer")
        or most_frequent(entry)
        for entry in annotated
    }
    return [
        (
            f"{path.name}/{entry['question_id']}",
            (
                path.parent
                / "images"
                / f"COCO_{asked['data_subtype']}_{entry['image_id']:012d}.jpg"
            ).read_bytes(),
            (f"Q: {entry['question']} A:", answers[entry["question_id"]]),
        )
        for entry in asked["questions"]
    ]


@pytest.mark.parametrize("is_ok_vqa", [False, True])
def test_reads_what_json_reads(tmp_path: pathlib.Path, is_ok_vqa: bool) -> None:
    path = image_sets.write_vqa(
        tmp_path, num_images=8, questions=4, is_ok_vqa=is_ok_vqa
    )
    items = read(path)
    assert pairs(items) == reference(path)
    assert [item.number for item in items] == list(range(32))
    for item in items:
        assert isinstance(item, Document)
        _, question, answer = item.parts
        assert isinstance(question, TextPart)
        assert isinstance(answer, TextPart)
        assert (question.question, question.eos) == (True, False)
        assert (answer.question, answer.eos) == (False, True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["b", "a", "b"], "b"),
        (["b", "a"], "a"),
        # By code point: capitals first, and not as any language sorts.
        (["b", "a", "é", "Z"], "Z"),
        (["\U0001f600", "\uff21"], "\uff21"),
        (["yes"], "yes"),
    ],
)
def test_the_most_frequent_answer(
    tmp_path: pathlib.Path, given: list[str], expected: str
) -> None:
    def edit(content: Content) -> None:
        content["annotations"][0]["answers"] = image_sets.answers_of(given)

    path = image_sets.write_vqa(
        tmp_path, num_images=1, questions=1, is_ok_vqa=True, edit_annotations=edit
    )
    assert pairs(read(path))[0][2][1] == expected


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_ranges_read_the_same(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = image_sets.write_vqa(
        tmp_path, num_images=4, edit_questions=lambda c: c["questions"].pop(3)
    )
    whole = read(path)
    assert len(whole) == 8
    monkeypatch.setattr(vqa, "PARTITION_ITEMS", size)
    parts = VqaSource().partition(str(path), NAME, dataset("vqa"))
    assert len(parts) == -(-8 // size)
    assert sum(part.num_items or 0 for part in parts) == 8
    everything = [path, annotations_path(path), *(tmp_path / "images").iterdir()]
    assert sum(part.num_bytes for part in parts) == sum(
        file.stat().st_size for file in everything
    )
    assert read(path) == whole


def test_images_under_their_plain_ids(tmp_path: pathlib.Path) -> None:
    path = image_sets.write_vqa(tmp_path)
    expected = reference(path)
    folder = tmp_path / "images"
    for image_id in image_sets.IMAGE_IDS[:3]:
        (folder / image_sets.image_name(image_id)).rename(folder / f"{image_id}.JPG")
    # Others of the same id that are no image, or come after .jpg.
    (folder / "42.txt").write_bytes(b"no image")
    (folder / "42.png").write_bytes(b"another")
    (folder / "4.2.jpg").write_bytes(b"another")
    assert pairs(read(path)) == expected
    content = json.loads(path.read_text())
    del content["data_subtype"]
    path.write_text(json.dumps(content))
    assert pairs(read(path)) == expected


# Bad entries


def question(**changes: Any) -> dict[str, Any]:
    """Changes the third question, whose id is 73000; `...` removes a field."""
    return {"edit_questions": lambda content: _change(content["questions"][2], changes)}


def annotation(**changes: Any) -> dict[str, Any]:
    """Changes the third question's annotation."""

    def edit(content: Content) -> None:
        (entry,) = (e for e in content["annotations"] if e["question_id"] == 73000)
        _change(entry, changes)

    return {"edit_annotations": edit}


def _change(entry: Content, changes: Content) -> None:
    entry |= changes
    for key, value in changes.items():
        if value is ...:
            del entry[key]


def of_annotations(
    edit: Callable[[list[Any]], Any],
) -> dict[str, Any]:
    return {"edit_annotations": lambda content: edit(content["annotations"])}


def without_choice(answers: Any) -> dict[str, Any]:
    return annotation(multiple_choice_answer=..., answers=answers)


def drop(entries: list[Any]) -> None:
    entries[:] = [entry for entry in entries if entry["question_id"] != 73000]


def repeat(entries: list[Any]) -> None:
    entries += [entry for entry in entries if entry["question_id"] == 73000]


NO_ANNOTATION = "none has the question_id"


@pytest.mark.parametrize(
    ("edits", "item", "reason", "words"),
    [
        (question(question=...), 73000, Reason.MISSING_FIELD, "'question'"),
        (question(question=None), 73000, Reason.MISSING_FIELD, "questions[2]"),
        (question(image_id=...), 73000, Reason.MISSING_FIELD, "'image_id'"),
        (question(question=3), 2, Reason.WRONG_DTYPE, "questions[2]"),
        (question(image_id=[]), 2, Reason.WRONG_DTYPE, "questions[2]"),
        (question(question=""), 73000, Reason.EMPTY, "question"),
        (question(question="a\udc00"), 2, Reason.NOT_UTF8, "questions[2]"),
        (question(image_id=404), 73000, Reason.MISSING_IMAGE, "'404.*'"),
        (question(image_id="../73"), 73000, Reason.UNSAFE_PATH, "'../73'"),
        (question(image_id="a/73"), 73000, Reason.UNSAFE_PATH, "'a/73'"),
        (question(question_id=42000), 42000, Reason.CORRUPT_RECORD, "questions[2]"),
        (of_annotations(drop), 73000, Reason.MISSING_FIELD, NO_ANNOTATION),
        (of_annotations(repeat), 73000, Reason.CORRUPT_RECORD, "73000"),
        (annotation(multiple_choice_answer=7), 73000, Reason.WRONG_DTYPE, "annot"),
        (annotation(multiple_choice_answer=""), 73000, Reason.EMPTY, "answer"),
        (annotation(multiple_choice_answer="\ud800"), 73000, Reason.NOT_UTF8, "annot"),
        (without_choice(...), 73000, Reason.MISSING_FIELD, "'answers'"),
        (without_choice(None), 73000, Reason.MISSING_FIELD, "'answers'"),
        (without_choice([]), 73000, Reason.MISSING_FIELD, "'answers'"),
        (without_choice([{}]), 73000, Reason.MISSING_FIELD, "'answer'"),
        (without_choice(["yes"]), 73000, Reason.WRONG_DTYPE, "answers"),
        (without_choice([{"answer": 3}]), 73000, Reason.WRONG_DTYPE, "answers"),
        (without_choice("yes"), 73000, Reason.WRONG_DTYPE, "answers"),
    ],
)
def test_a_bad_entry_costs_one(
    tmp_path: pathlib.Path,
    edits: dict[str, Any],
    item: int,
    reason: Reason,
    words: str,
) -> None:
    items = read(image_sets.write_vqa(tmp_path, **edits))
    bad = [i for i in items if isinstance(i, Unreadable) and i.number == 2]
    assert [(i.item_id, i.reason) for i in bad] == [(f"{NAME}/{item}", reason)]
    assert words in bad[0].detail
    # With another id for the question, its annotation is of none.
    renamed = "edit_questions" in edits and item == 42000
    assert len(items) == 6 + renamed
    assert len(verdicts(items)) == 1 + renamed


def test_annotations_without_question_are_counted(tmp_path: pathlib.Path) -> None:
    def stray(entries: list[Any]) -> None:
        entries.insert(0, {"question_id": 5, "multiple_choice_answer": "a"})
        entries.insert(3, {"multiple_choice_answer": "a"})
        entries.insert(4, "no object")
        entries.insert(5, {"question_id": [1]})

    path = image_sets.write_vqa(tmp_path, **of_annotations(stray))
    items = read(path)
    assert len([i for i in items if isinstance(i, Document)]) == 6
    assert verdicts(items) == [
        (f"{NAME}/6", Reason.MISSING_FIELD),
        (f"{NAME}/7", Reason.CORRUPT_RECORD),
        (f"{NAME}/8", Reason.WRONG_DTYPE),
        (f"{NAME}/5", Reason.MISSING_FIELD),
    ]
    assert [i.number for i in items] == list(range(10))


def test_a_data_subtype_cannot_leave_the_folder(tmp_path: pathlib.Path) -> None:
    def leave(content: Content) -> None:
        content["data_subtype"] = "../../val2014"

    items = read(image_sets.write_vqa(tmp_path, edit_questions=leave))
    assert [reason for _, reason in verdicts(items)] == [Reason.UNSAFE_PATH] * 6


def test_entries_that_are_not_utf8_cost_one(tmp_path: pathlib.Path) -> None:
    path = image_sets.write_vqa(
        tmp_path,
        **question(question="TuDU"),
        edit_annotations=lambda c: _change(
            c["annotations"][0], {"multiple_choice_answer": "TuDU"}
        ),
    )
    for file in (path, annotations_path(path)):
        file.write_bytes(file.read_bytes().replace(b"TuDU", b"T\xfcDU"))
    assert verdicts(read(path)) == [
        (f"{NAME}/2", Reason.NOT_UTF8),
        (f"{NAME}/581929001", Reason.NOT_UTF8),
    ]


@pytest.mark.parametrize("which", [NAME, ANNOTATIONS])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", Reason.CORRUPT_FILE),
        (b"<html>404</html>", Reason.CORRUPT_FILE),
        (b"[]", Reason.CORRUPT_FILE),
        (b"{}", Reason.MISSING_FIELD),
        (b'{"questions": 3, "annotations": 3}', Reason.CORRUPT_FILE),
    ],
)
def test_what_is_no_vqa_json(
    tmp_path: pathlib.Path, which: str, content: bytes, reason: Reason
) -> None:
    path = image_sets.write_vqa(tmp_path)
    whole = (tmp_path / which).read_bytes()
    (tmp_path / which).write_bytes(content)
    items = read(path)
    assert verdicts(items) == [(None, reason)]
    assert isinstance(items[0], Unreadable)
    assert which in items[0].detail
    for length in range(0, len(whole) - 1, 197):
        (tmp_path / which).write_bytes(whole[:length])
        assert verdicts(read(path)) == [(None, Reason.CORRUPT_FILE)]


# Which annotations


@pytest.mark.parametrize(
    ("name", "others", "expected"),
    [
        (NAME, [ANNOTATIONS], ANNOTATIONS),
        (NAME, ["v2_mscoco_train2014_annotations.json", ANNOTATIONS], ANNOTATIONS),
        (
            "OpenEnded_mscoco_val2014_questions.json",
            ["mscoco_val2014_annotations.json"],
            None,
        ),
        ("val_questions.json", ["val_annotations.json", "x.json"], None),
        ("questions.json", ["annotations.json"], None),
    ],
)
def test_finds_the_annotations(
    tmp_path: pathlib.Path, name: str, others: list[str], expected: str | None
) -> None:
    for other in (name, *others):
        (tmp_path / other).touch()
    found = find_annotations(str(tmp_path / name), dataset("vqa"))
    assert found == str(tmp_path / (expected or others[0]))


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([], "no annotations at all"),
        (["v2_mscoco_train2014_annotations.json"], "v2_mscoco_train2014_annotations"),
        (["v2_xmscoco_val2014_annotations.json"], "v2_xmscoco_val2014_annotations"),
        (
            ["mscoco_val2014_annotations.json", ANNOTATIONS],
            f"2 do: mscoco_val2014_annotations.json, {ANNOTATIONS}",
        ),
    ],
)
def test_annotations_that_are_not_one_are_listed(
    tmp_path: pathlib.Path, others: list[str], words: str
) -> None:
    for other in (NAME, *others):
        (tmp_path / other).touch()
    with pytest.raises(UsageError, match="annotations: FILE") as caught:
        find_annotations(str(tmp_path / NAME), dataset("vqa"))
    assert words in str(caught.value)
    chosen = tmp_path / "elsewhere.json"
    settings = {"annotations": str(chosen)}
    with pytest.raises(UsageError, match="no such file"):
        find_annotations(str(tmp_path / NAME), dataset("vqa", **settings))
    chosen.touch()
    found = find_annotations(str(tmp_path / NAME), dataset("vqa", **settings))
    assert found == str(chosen)


def test_paths_of_another_kind(tmp_path: pathlib.Path) -> None:
    for wrong in (tmp_path, tmp_path / "a.tar", tmp_path / ANNOTATIONS):
        with pytest.raises(UsageError, match="questions JSON"):
            VqaSource().files(str(wrong))


def test_reads_from_another_store(tmp_path: pathlib.Path) -> None:
    path = image_sets.write_vqa(tmp_path, num_images=8, questions=3)
    folder = tmp_path / "images"
    (folder / image_sets.image_name(42)).unlink()
    (folder / image_sets.image_name(7)).rename(folder / "7.jpeg")
    expected = read(path)
    assert len(verdicts(expected)) == 3
    store = fsspec.filesystem("memory")
    try:
        store.put(str(tmp_path), "/vqa", recursive=True)
        items = read(f"memory://vqa/{NAME}")
        assert verdicts(items) == verdicts(expected)
        assert pairs([i for i in items if isinstance(i, Document)]) == pairs(
            [i for i in expected if isinstance(i, Document)]
        )
    finally:
        store.rm("/vqa", recursive=True)


def test_is_picklable() -> None:
    assert pickle.loads(pickle.dumps(VqaSource())).items == "documents"


def test_answers_outlive_the_annotations_in_little_memory(
    tmp_path: pathlib.Path,
) -> None:
    words = [str(word) for word in np.random.default_rng(0).choice(raw_inputs.WORDS, 9)]
    common = {"data_subtype": "val2014"}
    asked = [
        {"question_id": n, "image_id": n // 5, "question": "What is on it?"}
        for n in range(20_000)
    ]
    annotated = [
        {
            "question_id": n,
            "answers": image_sets.answers_of(words),
            "multiple_choice_answer": words[n % 9],
        }
        for n in range(20_000)
    ]
    path, annotations = tmp_path / NAME, tmp_path / ANNOTATIONS
    path.write_text(json.dumps({**common, "questions": asked}))
    annotations.write_text(json.dumps({**common, "annotations": annotated}))
    del asked, annotated
    (tmp_path / "images").mkdir()
    tracemalloc.start()
    try:
        VqaSource().partition(str(path), NAME, dataset("vqa"))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    sizes = (path.stat().st_size, annotations.stat().st_size)
    # Both files' bytes and what a question takes; a dict a question takes 4 times it.
    assert peak < 1.1 * sum(sizes) + 500 * 20_000
    assert held < 1.1 * sizes[0] + 400 * 20_000


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (ANNOTATIONS, "one annotations JSON beside the questions must end in"),
        ("images", "its images must lie in a folder"),
    ],
)
def test_a_build_without_annotations_or_images_is_refused(
    tmp_path: pathlib.Path, capsys: Any, gone: str, words: str
) -> None:
    image_sets.write_vqa(tmp_path)
    (tmp_path / gone).rename(tmp_path / "elsewhere")
    entry = {"name": "vqa", "format": "vqa", "paths": [NAME]}
    config = raw_inputs.write_config(tmp_path / "build.yaml", [entry])
    message = build_message(capsys, config, tmp_path / "out")
    assert (message.code, words in message.text) == (2, True), message
    assert "Traceback" not in message.text


def test_builds_and_verifies(tmp_path: pathlib.Path) -> None:
    path = image_sets.write_vqa(tmp_path / "raw", num_images=8, questions=4)
    annotations_path(path).rename(tmp_path / "answers.json")
    entry = {
        "name": "vqa",
        "format": "vqa",
        "paths": ["raw/*questions.json"],
        "annotations": "answers.json",
    }
    config = raw_inputs.write_config(
        tmp_path / "build.yaml",
        [entry],
        sequence_length=256,
        prompts={"max_tokens": 64},
        loss={"questions": False},
    )
    assert run_build(config, tmp_path / "out") == 0
    assert verify.main([str(tmp_path / "out")]) == 0
    manifest = load_dataset_manifest(str(tmp_path / "out" / "vqa"))
    assert (manifest.accounts.read, manifest.accounts.kept) == (32, 32)
    segments = [
        segment["documents"]
        for row in pair_sources.rows(tmp_path / "out" / "vqa", 256)
        for segment in row.provenance
    ]
    assert max(map(len, segments)) == 5
    for documents in segments:
        images = {int(d.rpartition("/")[2]) // 1000 for d in documents}
        assert len(images) == len(documents)

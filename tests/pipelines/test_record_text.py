"""Recorded text: what Python ships, one document a topic or module, always the same."""

import json
import pathlib
import pydoc_data.topics
import sysconfig
from typing import Any

import pytest

from gato.pipelines import record
from gato.pipelines.recorders import text


def _lines(path: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("text")
    assert record.main(["text", "--output", str(folder)]) == 0
    return folder


def test_topics_are_those_of_pydoc(recorded: pathlib.Path) -> None:
    written = {
        line["source"]: line["text"] for line in _lines(recorded / "topics.jsonl")
    }
    topics = pydoc_data.topics.topics
    assert len(written) == len(topics)
    for name, content in topics.items():
        assert written[f"pydoc_data.topics/{name}"].strip() == content.strip()


def test_a_modules_docstrings_are_its_document(recorded: pathlib.Path) -> None:
    lines = _lines(recorded / "docstrings.jsonl")
    sources = [line["source"] for line in lines]
    assert sources == sorted(sources)
    assert len(set(sources)) == len(sources)
    document = lines[sources.index("stdlib/textwrap.py")]["text"]
    import textwrap

    assert document.startswith(str(textwrap.__doc__).strip())
    assert "Remove any common leading whitespace" in document


def test_docstrings_by_hand() -> None:
    source = b'"""Module."""\nclass A:\n    """Class."""\n    def f(self):\n'
    source += b'        """Method\n        of two lines."""\n\ndef g():\n    return 1\n'
    assert text.docstrings(source) == "Module.\n\nClass.\n\nMethod\nof two lines."


def test_the_same_command_writes_the_same_text(
    recorded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert record.main(["text", "--output", str(tmp_path)]) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(path.name for path in recorded.iterdir())
    for name in names:
        assert (tmp_path / name).read_bytes() == (recorded / name).read_bytes()


def test_text_that_is_there_is_not_touched(recorded: pathlib.Path) -> None:
    (recorded / "topics.jsonl").write_text("damaged")
    before = {path: path.stat().st_mtime_ns for path in recorded.iterdir()}
    # A build knows its input by the time of its last change.
    assert record.main(["text", "--output", str(recorded)]) == 0
    changed = {p.name for p, time in before.items() if p.stat().st_mtime_ns != time}
    assert changed == {"topics.jsonl"}
    assert len(_lines(recorded / "topics.jsonl")) == len(pydoc_data.topics.topics)


def test_python_without_any_text_is_an_error(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "nothing"))
    monkeypatch.setitem(__import__("sys").modules, "pydoc_data.topics", None)
    assert record.main(["text", "--output", str(tmp_path / "o")]) == 1
    assert "full installation of Python" in capsys.readouterr().err

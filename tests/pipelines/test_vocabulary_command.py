"""`gato-vocabulary`: the same model each time, its settings, figures and refusals."""

import pathlib
import re
from typing import Any

import building
import image_sets
import numpy as np
import pytest
import raw_inputs
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from gato.pipelines import run_vocabulary, verify, vocabulary
from gato.pipelines.vocabularies import figures, sample, texts, training
from gato.schemas.errors import GatoError
from gato.schemas.manifest import load_root_manifest
from gato.tokenizers.text import TextTokenizer

SIZE = 1100


def words(seed: int, count: int) -> list[str]:
    """Returns made-up words: enough of them for a vocabulary of a thousand pieces."""
    generator = np.random.default_rng(seed)
    return [
        "".join(chr(97 + int(c)) for c in generator.integers(0, 26, n))
        for n in generator.integers(3, 9, count)
    ]


def documents(seed: int, count: int) -> list[str]:
    generator = np.random.default_rng(seed)
    known = words(0, 400)
    return [
        "  ".join(generator.choice(known, int(n))) + "\nnaïve 北京\t12.5\n"
        for n in generator.integers(5, 80, count)
    ]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A config of every kind of text, whose tokenizer is not there yet."""
    root = tmp_path_factory.mktemp("vocabulary")
    for number in range(4):
        path = root / "raw" / "text" / f"{number}.jsonl"
        raw_inputs.write_jsonl(path, documents(number, 60))
    with (root / "raw" / "text" / "3.jsonl").open("ab") as file:
        file.write(b'{"text": 3}\n')
    image_sets.write_coco(root / "raw" / "coco", num_images=4, captions=5)
    image_sets.write_vqa(root / "raw" / "vqa", num_images=4, questions=3)
    raw = root / "raw" / "minari"
    raw_inputs.write_minari(raw, "toy/grid/expert-v0", raw_inputs.grids(0, 6))
    walks = raw_inputs.random_walks(0, 3)
    raw_inputs.write_minari(raw, "toy/walk/expert-v0", walks)
    return raw_inputs.write_config(
        root / "build.yaml",
        [
            {"name": "text", "format": "text", "paths": ["raw/text/*.jsonl"]},
            {"name": "coco", "format": "coco", "paths": ["raw/coco/*.json"]},
            {"name": "vqa", "format": "vqa", "paths": ["raw/vqa/*questions.json"]},
            {"name": "control", "format": "minari", "paths": ["raw/minari/toy/*/*"]},
        ],
        text_tokenizer="vocab/own.model",
        sequence_length=512,
        prompts={"max_tokens": 64},
        max_quarantine_fraction=0.1,
    )


def train(config: pathlib.Path, output: pathlib.Path, *options: str) -> int:
    arguments = ["--config", str(config), "--output", str(output), *options]
    return vocabulary.main(arguments)


@pytest.fixture(scope="module")
def model(config: pathlib.Path) -> pathlib.Path:
    """The model that the config names."""
    path = config.parent / "vocab" / "own.model"
    assert train(config, path, "--size", str(SIZE)) == 0
    assert [p.name for p in path.parent.iterdir()] == ["own.model"]
    return path


def test_the_model_has_the_settings_of_the_specification(model: pathlib.Path) -> None:
    processor: Any = sentencepiece.SentencePieceProcessor(model_file=str(model))
    assert processor.get_piece_size() == SIZE
    assert (processor.unk_id(), processor.bos_id(), processor.eos_id()) == (0, 1, 2)
    assert processor.pad_id() == -1
    pieces = [processor.id_to_piece(i) for i in range(SIZE)]
    assert pieces[3:259] == [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = TextTokenizer.load(str(model))
    assert tokenizer.engine == "kitoken"
    assert tokenizer.round_trips
    for text in ("  two  spaces \n\n", "\tﬁ Å é é", "never seen: Ω🤖\x01"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_every_kind_of_text_is_in_the_sample(model: pathlib.Path) -> None:
    pieces = TextTokenizer.load(str(model)).pieces()
    # Of questions, of captions and missions, and of documents alone.
    assert {"Q", "A"} <= set(pieces)
    assert any("door" in piece or "key" in piece for piece in pieces)
    assert {"北", "ï"} <= set(pieces)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_same_bytes_whatever_the_workers(
    config: pathlib.Path, model: pathlib.Path, tmp_path: pathlib.Path, workers: int
) -> None:
    options = ["--size", str(SIZE), "--direct_num_workers", str(workers)]
    assert train(config, tmp_path / "again.model", *options) == 0
    assert (tmp_path / "again.model").read_bytes() == model.read_bytes()


def test_seed_and_sample_decide(
    config: pathlib.Path, model: pathlib.Path, tmp_path: pathlib.Path, capsys: Any
) -> None:
    options = ["--size", str(SIZE), "--sample_bytes", "50KB"]
    models = []
    for seed in (0, 1):
        changed = config.with_name(f"seed{seed}.yaml")
        changed.write_text(config.read_text() + f"seed: {seed}\n")
        assert train(changed, tmp_path / f"{seed}.model", *options) == 0
        said = " ".join(capsys.readouterr().err.split())
        taken = re.search(r"([\d,]+) of ([\d,]+) bytes of text sampled", said)
        assert taken is not None
        sampled, total = (int(n.replace(",", "")) for n in taken.groups())
        assert 50_000 <= sampled < 50_000 + texts.CHUNK_CHARACTERS < total
        assert "(1 could not be read)" in said
        models.append((tmp_path / f"{seed}.model").read_bytes())
    assert len({*models, model.read_bytes()}) == 3


def test_the_report_is_about_text_held_back(
    config: pathlib.Path, model: pathlib.Path, capsys: Any
) -> None:
    # The same command again: the model stands, and is the same.
    assert train(config, model, "--size", str(SIZE)) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "on text held back from training" in out
    assert re.search(r"bytes a token [1-9]\.\d{3} ", out)
    assert re.search(r"coverage \(characters in pieces\) (100|\d\d)\.\d{4}%", out)
    assert "unknown tokens 0.0000%" in out
    assert "decode(encode(x)) == x yes" in out
    assert "longest:" in out


def test_figures_by_hand(model: pathlib.Path) -> None:
    tokenizer = TextTokenizer.load(str(model))
    known = words(0, 400)[0]
    measured = figures.measure(tokenizer, [f"{known}\n", "Ωa"])
    assert measured.num_bytes == len(known) + 1 + 3
    assert measured.num_characters == len(known) + 2
    assert measured.covered == len(known) + 1
    assert measured.fallback == 2  # of Ω; the line's end does not count
    assert measured.unknown == 0
    assert measured.tokens == len(tokenizer.encode(f"{known}\n")) + len(
        tokenizer.encode("Ωa")
    )


def test_a_build_uses_it(
    config: pathlib.Path, model: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert building.run_build(config, tmp_path / "out") == 0
    assert verify.main([str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "tokenizer.model").read_bytes() == model.read_bytes()
    assert set(load_root_manifest(str(tmp_path / "out")).datasets) == {
        "text",
        "coco",
        "vqa",
        "control",
    }


# What is refused


def message(
    capsys: Any, config: pathlib.Path, output: pathlib.Path, *options: str
) -> tuple[int, str]:
    capsys.readouterr()
    code = train(config, output, *options)
    said = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in said
    return code, said


def test_a_size_that_the_text_does_not_hold(
    config: pathlib.Path, tmp_path: pathlib.Path, capsys: Any
) -> None:
    output = tmp_path / "a.model"
    code, said = message(capsys, config, output, "--size", "32000")
    assert code == 1
    most = re.search(r"--size 32000 is more than .* Give --size (\d+) or less", said)
    assert most is not None
    assert not list(tmp_path.iterdir())
    assert train(config, output, "--size", most[1]) == 0
    too_many = str(int(most[1]) + 1)
    assert message(capsys, config, tmp_path / "b.model", "--size", too_many)[0] == 1


def test_too_little_text(tmp_path: pathlib.Path, capsys: Any) -> None:
    raw_inputs.write_jsonl(tmp_path / "a.jsonl", ["a few words", "and a few more"])
    entry = {"name": "text", "format": "text", "paths": ["a.jsonl"]}
    config = raw_inputs.write_config(tmp_path / "build.yaml", [entry])
    code, said = message(capsys, config, tmp_path / "a.model")
    assert code == 1
    assert re.search(r"too little to train a vocabulary on: it holds \d+ pieces", said)
    raw_inputs.write_jsonl(tmp_path / "a.jsonl", [""])
    code, said = message(capsys, config, tmp_path / "a.model")
    assert code == 1
    assert "none of the 1 items of its data sets has text" in said
    assert "(1 could not be read)" in said


def test_too_many_characters_for_the_size() -> None:
    every = "".join(chr(c) for c in range(0x4E00, 0x4E00 + 2000))
    with pytest.raises(GatoError, match=r"Give --size 22\d\d or more"):
        training.train([every] * 3, 1100)


def test_wrong_usage(
    config: pathlib.Path, model: pathlib.Path, tmp_path: pathlib.Path, capsys: Any
) -> None:
    output = tmp_path / "a.model"
    for options, words_said in (
        (("--size", "1023"), "--size must be at least 1024"),
        (("--sample_bytes", "lots"), "--sample_bytes: a size is a number"),
        (("--sample_bytes", "0"), "--sample_bytes is at least 1"),
        (("--sise", "3000"), "did you mean --size?"),
        (("--runner", "Nothing"), "--runner is DirectRunner"),
    ):
        code, said = message(capsys, config, output, *options)
        assert (code, words_said in said) == (2, True), said
    code, said = message(capsys, tmp_path / "none.yaml", output)
    assert (code, "no such build config" in said) == (2, True)
    code, said = message(capsys, config, tmp_path)
    assert (code, "is a folder" in said) == (2, True)
    assert not list(tmp_path.iterdir())
    other = tmp_path / "other.model"
    other.write_bytes(b"somebody's model")
    code, said = message(capsys, config, other, "--size", str(SIZE))
    assert (code, "--overwrite to replace it" in said) == (2, True)
    assert other.read_bytes() == b"somebody's model"
    assert train(config, other, "--size", str(SIZE), "--overwrite") == 0
    assert other.read_bytes() == model.read_bytes()


def test_help_has_examples(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        vocabulary.main(["--help"])
    assert "gato-vocabulary --config build.yaml --output" in capsys.readouterr().out


# The sample


@given(st.text(alphabet="ab \n", max_size=200), st.integers(1, 30))
def test_chunks_are_the_text(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "CHUNK_CHARACTERS", size)
        found = list(texts.chunks(text))
    assert "".join(found) == text
    assert all(0 < len(chunk) <= size for chunk in found)


def test_chunks_end_at_line_ends_then_at_spaces() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "CHUNK_CHARACTERS", 10)
        assert list(texts.chunks("one\ntwo three four")) == [
            "one\n",
            "two three",
            " four",
        ]
        assert list(texts.chunks("0123456789ab")) == ["0123456789", "ab"]


CHUNKS = st.lists(
    st.tuples(st.integers(0, 20), st.text("kx", max_size=2), st.text("té", max_size=5)),
    max_size=20,
)


@given(st.lists(CHUNKS, max_size=4), st.integers(1, 40))
def test_the_lowest_of_parts_are_the_lowest_of_all(
    parts: list[list[sample.Chunk]], limit: int
) -> None:
    everything = [chunk for part in parts for chunk in part]
    whole = sample.lowest(everything, limit)
    merged: list[sample.Chunk] = []
    for part in parts:
        merged = sample.lowest([*merged, *sample.lowest(part, limit)], limit)
    assert merged == whole
    assert whole == sorted(everything)[: len(whole)]
    if len(whole) < len(everything):
        assert sample.num_bytes(whole) >= limit
    if whole:
        assert sample.num_bytes(whole[:-1]) < limit


def test_a_first_pass_that_keeps_too_little_is_followed_by_another(
    config: pathlib.Path,
    model: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_vocabulary, "_first_fraction", lambda *_: 0.01)
    passes = []
    real = run_vocabulary._run_job

    def counting(job: sample.SampleJob, *rest: Any) -> None:
        passes.append(job.fraction)
        real(job, *rest)

    monkeypatch.setattr(run_vocabulary, "_run_job", counting)
    assert train(config, tmp_path / "a.model", "--size", str(SIZE)) == 0
    assert passes == [0.01, 1.0]
    assert (tmp_path / "a.model").read_bytes() == model.read_bytes()


def test_equal_texts_are_held_back_together() -> None:
    twice = [(n, str(n), f"text {n % 50}") for n in range(100)]
    drawn = sample.Sample(
        chunks=twice, items=100, unreadable=0, text_bytes=0, is_cut=False
    )
    trained, held_back = run_vocabulary._split(drawn, 0)
    assert not set(trained) & set(held_back)
    assert len(trained) + len(held_back) == 100

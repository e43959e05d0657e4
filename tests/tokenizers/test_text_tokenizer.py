"""Text: SentencePiece's ids from either engine, exact bytes in, exact text out."""

import functools
import hashlib
import io
import pathlib
import pickle
import random

import kitoken
import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given
from hypothesis import strategies as st

from gato.schemas.errors import QuarantineError, Reason, UsageError
from gato.tokenizers.text import TextTokenizer, clean

MODEL = pathlib.Path(__file__).parents[1] / "testdata/vocabulary/text32k.model"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@functools.cache
def published() -> tuple[TextTokenizer, sentencepiece.SentencePieceProcessor]:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(MODEL))
    return TextTokenizer.load(str(MODEL)), processor


@functools.cache
def train(**options) -> bytes:
    """Trains a model on made words."""
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(900)]
    lines = [" ".join(rng.choices(words, k=12)) for _ in range(400)]
    settings = {
        "vocab_size": 1100,
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "minloglevel": 2,
    }
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, **(settings | options)
    )
    return model.getvalue()


def test_published_model():
    tokenizer, _ = published()
    assert tokenizer.vocabulary.text == 32_000
    assert tokenizer.vocabulary.eos == 2
    assert tokenizer.vocabulary.size == 33_025
    digest = hashlib.sha256(MODEL.read_bytes()).hexdigest()
    assert tokenizer.vocabulary.sentencepiece_sha256 == digest
    assert tokenizer.engine == "kitoken"
    assert tokenizer.round_trips


@given(TEXTS)
@example("")
@example("<s>a</s> <unk><0x0A><pad>")
@example("   three   spaces   ")
@example("\n\ttabs\r\n \u3000 \u00a0")
@example("\u2581a \u2581")
@example("a\x00b\x01\x7f\x80")
@example("日本語 🤖 👩‍👩‍👧 e\u0301 \u00e9 ﬁ İ")
@example("x" * 5000)
@example(" " * 500)
def test_ids_are_those_of_sentencepiece(text):
    tokenizer, processor = published()
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert ids.tolist() == processor.encode(clean(text))


@given(TEXTS.filter(lambda text: "\u2581" not in text))
def test_round_trip(text):
    # U+2581 is how SentencePiece writes a space, so it alone cannot come back.
    tokenizer, _ = published()
    assert tokenizer.decode(tokenizer.encode(text)) == clean(text)


@given(TEXTS)
def test_text_never_becomes_a_control_piece(text):
    tokenizer, _ = published()
    ids = tokenizer.encode(f"</s>{text}<s>")
    assert not {0, 1, tokenizer.vocabulary.eos} & set(ids.tolist())


@given(st.lists(TEXTS))
def test_batch_is_one_by_one(texts):
    tokenizer, _ = published()
    batch = tokenizer.encode_batch([*texts, b"bytes"])
    assert [ids.tolist() for ids in batch] == [
        tokenizer.encode(text).tolist() for text in [*texts, b"bytes"]
    ]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (b"go\0\0\0", "go"),
        ("go\0", "go"),
        (b"\xef\xbb\xbfgo", "go"),
        ("\ufeffgo\0", "go"),
        ("\ufeff\ufeffgo", "\ufeffgo"),
        ("go\ufeff", "go\ufeff"),
        ("\0go \n", "\0go \n"),
        ("a\0b", "a\0b"),
        ("  a  ", "  a  "),
        (b"", ""),
        ("\0\0", ""),
    ],
)
def test_only_a_leading_bom_and_padding_are_removed(stored, expected):
    assert clean(stored) == expected


@pytest.mark.parametrize("stored", [b"\xff", b"a\xc3", b"\xed\xa0\x80", "\ud800"])
def test_not_utf8(stored):
    with pytest.raises(QuarantineError) as caught:
        published()[0].encode(stored)
    assert caught.value.reason == Reason.NOT_UTF8


def test_eos_decodes_to_nothing_and_other_ids_are_refused():
    tokenizer, _ = published()
    ids = [*tokenizer.encode("a b").tolist(), tokenizer.vocabulary.eos]
    assert tokenizer.decode(ids) == "a b"
    for wrong in (-1, 32_000):
        with pytest.raises(ValueError, match="32000"):
            tokenizer.decode([wrong])


def test_one_instance_a_process_and_pickles():
    tokenizer, _ = published()
    assert TextTokenizer.load(str(MODEL)) is tokenizer
    assert TextTokenizer.load(f"file://{MODEL}") is tokenizer
    assert pickle.loads(pickle.dumps(tokenizer)) is tokenizer


def test_our_own_kind_of_model():
    tokenizer = TextTokenizer.from_bytes(train())
    assert (tokenizer.engine, tokenizer.round_trips) == ("kitoken", True)
    assert tokenizer.vocabulary.text == 1100


def test_unigram_stays_with_sentencepiece():
    tokenizer = TextTokenizer.from_bytes(train(model_type="unigram"))
    assert (tokenizer.engine, tokenizer.round_trips) == ("sentencepiece", True)
    assert tokenizer.decode(tokenizer.encode("é 日 x")) == "é 日 x"


def test_normalising_model_is_recorded_and_exact():
    model = train(normalization_rule_name="nmt_nfkc", remove_extra_whitespaces=True)
    tokenizer = TextTokenizer.from_bytes(model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    assert not tokenizer.round_trips
    for text in ("  two  spaces ", "ﬁne \uff21", "\u2581 x", "a\tb\n"):
        assert tokenizer.encode(text).tolist() == processor.encode(text)


def test_doubt_falls_back_to_sentencepiece(monkeypatch):
    class Wrong:
        @staticmethod
        def from_sentencepiece(model):
            return Wrong()

        def encode(self, text, specials):
            return published()[1].encode(text)[:500]  # right on short texts only

    class Broken:
        @staticmethod
        def from_sentencepiece(model):
            raise RuntimeError("no")

    for engine in (Wrong, Broken):
        monkeypatch.setattr(kitoken, "Kitoken", engine)
        tokenizer = TextTokenizer(MODEL.read_bytes())
        assert tokenizer.engine == "sentencepiece"
        assert tokenizer.encode("hello world").tolist() == [6312, 28709, 1526]


def test_model_without_eos_is_refused():
    with pytest.raises(UsageError, match="eos"):
        TextTokenizer.from_bytes(train(eos_id=-1))


def test_small_model_is_refused():
    with pytest.raises(UsageError, match=r"at least 1024 pieces.* has 1000"):
        TextTokenizer.from_bytes(train(vocab_size=1000))


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x0a\x05ab"])
def test_no_model(tmp_path, content):
    path = tmp_path / "text.model"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"text\.model.*SentencePiece"):
        TextTokenizer.load(str(path))


def test_no_file(tmp_path):
    for path in (tmp_path / "absent.model", tmp_path):
        with pytest.raises(UsageError, match="no such SentencePiece model"):
            TextTokenizer.load(str(path))

"""Text to SentencePiece ids and back (specification.md section 1, "Text").

SentencePiece is the reference. For BPE models kitoken gives the same ids 2-4 times as
fast; it is used only after it reproduced SentencePiece on a battery of hostile strings
and on the model's own pieces, once per process. For unigram models it is slower, and
wrong on byte fallback.
"""

import functools
import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import kitoken
import numpy as np
import sentencepiece
from numpy.typing import NDArray

from gato.schemas import files
from gato.schemas.errors import QuarantineError, Reason, UsageError
from gato.tokenizers.vocabulary import NUM_BINS, Vocabulary

# Fields of sentencepiece_model.proto. Its generated module cannot be imported with the
# protobuf that Beam pins.
_TRAINER_SPEC, _MODEL_TYPE = 2, 3
_UNIGRAM, _BPE = 1, 2

_ROUND_TRIP_TEST = (
    "Pick up  the red ball,\n\tthen go to (3.5, -2):  café, ﬁne, 北京, Ωμέγα, 🤖!\r\n  "
)
_BATTERY = (
    "",
    " ",
    "  ",
    "   leading and trailing   ",
    "\n",
    "\n\n\n",
    "\t\ttabs\tand\r\nreturns\r",
    "a",
    "Hello, world! It's 12:34:56.789 -- isn't it?",
    "<s>",
    "</s>",
    "<unk><s> x </s> <pad>",
    " <s> </s> <unk> <0x0A> <0xFF> [INST] <|im_start|>",
    "\x00\x01\x02\x1b\x7f\x80\x9f",
    "a\x00b\x00",
    "\u2581\u2581x\u2581 \u2581",
    "\ufeffbom \ufffd \U0010ffff \ue000",
    "e\u0301 \u00e9 \u212b \ufb01 \u00bd \uff21 \u3000 \u00a0 \u200b \u2028 \u00ad",
    "日本語のテキスト、中文文本。한국어 텍스트",
    "עברית العربية हिन्दी ไทย",
    "🤖👩‍👩‍👧‍👦🇩🇪 🫠",
    "x" * 300,
    " " * 70 + "def f():\n" + " " * 8 + "return 0\n",
    "aaaaaaaa" * 9 + "\n" * 9,
    "0123456789" * 9,
    "ÀÈÌ İıßς ŉ Ǆ",
    "http://example.com/a?b=c&d=%20#e_f-g",
)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] > 0x7F:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1


def _proto_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields (field, number or bytes) of a serialized protobuf message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        else:
            length = {1: 8, 5: 4}[wire]
        yield tag >> 3, data[at : at + length]
        at += length


def _is_bpe(model_bytes: bytes) -> bool:
    """Whether a SentencePiece model says that it is BPE."""
    model_type: int | bytes = _UNIGRAM
    for field, value in _proto_fields(model_bytes):
        if field == _TRAINER_SPEC and isinstance(value, bytes):
            model_type = dict(_proto_fields(value)).get(_MODEL_TYPE, _UNIGRAM)
    return model_type == _BPE


def _own_pieces(processor: Any) -> list[str]:
    """Returns texts that together hold every piece, in three orders."""
    ids = [
        i
        for i in range(processor.get_piece_size())
        if not (processor.is_control(i) or processor.is_unknown(i))
    ]
    shuffled = list(ids)
    random.Random(0).shuffle(shuffled)
    pieces = [processor.id_to_piece(i).replace("\u2581", " ") for i in shuffled]
    return [processor.decode(ids), processor.decode(shuffled), "\n".join(pieces)]


def _checked_kitoken(processor: Any, model_bytes: bytes) -> Any | None:
    """Returns kitoken's engine if it gives SentencePiece's ids, else None."""
    if not _is_bpe(model_bytes):
        return None
    try:
        engine = kitoken.Kitoken.from_sentencepiece(model_bytes)
        for text in (*_BATTERY, _ROUND_TRIP_TEST, *_own_pieces(processor)):
            if engine.encode(text, False) != processor.encode(text):
                return None
    except Exception:  # whatever it refuses, SentencePiece reads
        return None
    return engine


def clean(text: str | bytes) -> str:
    r"""Returns text as it is encoded: UTF-8, no leading BOM, no trailing NULs.

    Args:
        text: As a source stored it; NULs pad fixed-width strings.

    Raises:
        QuarantineError: NOT_UTF8.

    >>> clean(b"go\x00\x00")
    'go'
    """
    try:
        if isinstance(text, str):
            if not text.isascii():
                text.encode()  # a lone surrogate is no text
        else:
            text = bytes(text).decode("utf-8")
    except UnicodeError as error:
        raise QuarantineError(
            Reason.NOT_UTF8, f"text is strict UTF-8: {error}"
        ) from error
    return text.rstrip("\0").removeprefix("\ufeff")


class TextTokenizer:
    """A SentencePiece model. Pickles as the model's bytes, loaded once per process.

    Attributes:
        vocabulary: Id ranges that follow from the model.
        engine: "kitoken" or "sentencepiece"; the ids are the same.
        round_trips: Whether `decode(encode(x)) == x` holds on a test string.
        model_bytes: The model's file.
    """

    def __init__(self, model_bytes: bytes) -> None:
        """Loads a model; use `load` or `from_bytes`, which do so once.

        Raises:
            UsageError: If the bytes are no model, the model has no eos, or fewer pieces
                than there are discrete values.
        """
        processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(model_bytes)
        except (RuntimeError, TypeError, ValueError) as error:
            raise UsageError(
                "text_tokenizer must be a SentencePiece model (.model), and the file is"
                f" none: {error}"
            ) from error
        pieces, eos = processor.get_piece_size(), processor.eos_id()
        if eos < 0:
            raise UsageError(
                "text_tokenizer must have an end-of-text piece (eos), since every text"
                " ends with it, and the model has none. Train it with eos_id >= 0."
            )
        if pieces < NUM_BINS:
            raise UsageError(
                f"text_tokenizer must have at least {NUM_BINS} pieces, since discrete"
                f" values share their ids, and the model has {pieces}. Train a larger"
                " one."
            )
        self._processor: Any = processor
        self._kitoken = _checked_kitoken(processor, model_bytes)
        self.engine = "sentencepiece" if self._kitoken is None else "kitoken"
        self.model_bytes = model_bytes
        self.vocabulary = Vocabulary(
            text=pieces,
            eos=eos,
            sentencepiece_sha256=hashlib.sha256(model_bytes).hexdigest(),
        )
        decoded = processor.decode(processor.encode(_ROUND_TRIP_TEST))
        self.round_trips = decoded == _ROUND_TRIP_TEST

    @classmethod
    def load(cls, path: str) -> "TextTokenizer":
        """Returns the tokenizer of a model file, local or at a URL.

        Raises:
            UsageError: If there is no such file, or the model cannot be used.
        """
        try:
            model_bytes = files.read_bytes(path)
        except (FileNotFoundError, IsADirectoryError) as error:
            raise UsageError(
                f"{path}: no such SentencePiece model. Check text_tokenizer in the"
                " build config."
            ) from error
        try:
            return cls.from_bytes(model_bytes)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error

    @classmethod
    def from_bytes(cls, model_bytes: bytes) -> "TextTokenizer":
        """Returns the tokenizer of a model's bytes, one instance per process.

        Raises:
            UsageError: If the model cannot be used.
        """
        return _from_bytes(model_bytes)

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        return _from_bytes, (self.model_bytes,)

    def pieces(self) -> list[str]:
        """Returns every piece as SentencePiece writes it, in order of the ids."""
        return [self._processor.id_to_piece(i) for i in range(self.vocabulary.text)]

    def encode_list(self, text: str) -> list[int]:
        """Returns the ids of text that `clean` returned, without bos or eos."""
        if self._kitoken is not None:
            # False: "<s>" in a text is text, never the control piece.
            return self._kitoken.encode(text, False)
        return self._processor.encode(text)

    def encode(self, text: str | bytes) -> NDArray[np.int32]:
        """Returns the ids of a text, int32 [n], without bos or eos.

        Raises:
            QuarantineError: NOT_UTF8.
        """
        return np.array(self.encode_list(clean(text)), np.int32)

    def encode_batch(self, texts: Sequence[str | bytes]) -> list[NDArray[np.int32]]:
        """Returns what `encode` returns for each text.

        Raises:
            QuarantineError: NOT_UTF8.
        """
        return [self.encode(text) for text in texts]

    def decode(self, ids: NDArray[np.integer] | Sequence[int]) -> str:
        """Returns the text of ids; eos and other control pieces give nothing.

        Raises:
            ValueError: If an id is not a text id.
        """
        numbers = np.asarray(ids, np.int64)
        if numbers.size and (
            numbers.min() < 0 or numbers.max() >= self.vocabulary.text
        ):
            raise ValueError(
                f"text ids lie in [0, {self.vocabulary.text}), got {numbers.min()} to"
                f" {numbers.max()}"
            )
        return self._processor.decode(numbers.tolist())


@functools.lru_cache(maxsize=4)
def _from_bytes(model_bytes: bytes) -> TextTokenizer:
    return TextTokenizer(model_bytes)

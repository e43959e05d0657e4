"""SentencePiece's trainer with the settings of the specification's section 1, "Text".

Identity normalisation, white space kept, byte fallback, eos. BPE, since for BPE models
there is an engine that gives SentencePiece's ids 2 to 4 times as fast (`kitoken`), and
for unigram models there is none that is right.
"""

import io
import re
from collections.abc import Iterator, Sequence

import sentencepiece

from gato.schemas.errors import GatoError, UsageError
from gato.tokenizers.vocabulary import NUM_BINS

# 256 bytes, <unk>, <s> and </s> are in every model.
_TOO_HIGH = re.compile(r"Please set it to a value <= (\d+)")
_TOO_LOW = re.compile(r"smaller than required_chars\. (\d+) vs (\d+)")
# Rarer characters become bytes. Of a corpus in one script this leaves out next to none.
_CHARACTER_COVERAGE = 0.9999
# Chunks are shorter, so that no line is ever left out for its length.
_MAX_LINE_BYTES = 1 << 20


def check_size(size: int) -> None:
    """Refuses a size of which no build could use the model.

    Raises:
        UsageError: If discrete values would find no piece to share an id with.
    """
    if size < NUM_BINS:
        raise UsageError(
            f"--size must be at least {NUM_BINS}, since discrete values share the ids"
            f" of the first {NUM_BINS} pieces, got {size}."
        )


def train(texts: Sequence[str], size: int) -> bytes:
    """Returns the model's bytes, the same for the same texts in the same order.

    Args:
        texts: Each is trained on line by line; the lines' ends become bytes.
        size: Pieces of the model.

    Raises:
        GatoError: If the texts do not hold that many pieces, or need more.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            byte_fallback=True,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            character_coverage=_CHARACTER_COVERAGE,
            max_sentence_length=_MAX_LINE_BYTES,
            # One thread and no sampling of its own: the same bytes each time.
            num_threads=1,
            input_sentence_size=0,
            shuffle_input_sentence=False,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _explained(str(error), size, texts) from error
    return model.getvalue()


def _lines(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        # It leaves out a line that holds a NUL, which no piece may hold.
        yield from filter(None, re.split("[\n\0]", text))


def _explained(message: str, size: int, texts: Sequence[str]) -> GatoError:
    amount = f"{sum(len(text.encode()) for text in texts):,} bytes of text"
    if match := _TOO_HIGH.search(message):
        most = int(match[1])
        if most < NUM_BINS:
            return GatoError(
                f"{amount} are too little to train a vocabulary on: it holds {most}"
                f" pieces at most, and a model must have {NUM_BINS}. Add text to the"
                " config's data sets."
            )
        return GatoError(
            f"--size {size} is more than {amount} hold, {most} at most. Give --size"
            f" {most} or less, a larger --sample_bytes, or more text."
        )
    if match := _TOO_LOW.search(message):
        return GatoError(
            f"--size {size} is too small for {amount}: its characters alone need"
            f" {match[2]}. Give --size {match[2]} or more."
        )
    return GatoError(f"SentencePiece cannot train on {amount}: {message}")

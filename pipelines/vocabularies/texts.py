"""What of a data set is text to train a vocabulary on, in chunks that have a hash.

Documents, captions, questions, answers and text observations, cleaned as they are when
they are tokenized. A text that an episode holds at many timesteps counts once. Chunks
have at most 16 Ki characters and end at a line's end where they can: a sample of them
does not hang on a few long documents.
"""

from collections.abc import Iterable, Iterator

from gato.pipelines.tokenize import is_included
from gato.schemas.config import Dataset
from gato.schemas.episode import Document, Episode, TextPart
from gato.schemas.errors import QuarantineError
from gato.tokenizers.spec import column_type, selected_keys
from gato.tokenizers.text import clean

CHUNK_CHARACTERS = 16 << 10


def texts_of(item: Document | Episode, dataset: Dataset) -> list[str]:
    """Returns the texts of an item, none of them empty.

    Raises:
        QuarantineError: NOT_UTF8, or what is wrong with an episode.
    """
    found: Iterable[str | bytes]
    if isinstance(item, Document):
        found = [part.text for part in item.parts if isinstance(part, TextPart)]
    else:
        found = _observed(item, dataset)
    return [text for text in map(clean, found) if text]


def _observed(episode: Episode, dataset: Dataset) -> Iterator[str | bytes]:
    """Yields each distinct text observation, in order."""
    if not is_included(episode.task, dataset):
        return
    for key in selected_keys(episode.observations, dataset):
        column = episode.observations[key]
        if column_type(column).storage == "text":
            for text in dict.fromkeys(column):
                if isinstance(text, str | bytes):
                    yield text


def has_texts(episode: Episode, dataset: Dataset) -> bool:
    """Whether an episode has text observations; the rest of its file is alike."""
    try:
        return any(
            column_type(episode.observations[key]).storage == "text"
            for key in selected_keys(episode.observations, dataset)
        )
    except QuarantineError:
        return True  # it says nothing of the others


def chunks(text: str) -> Iterator[str]:
    """Yields the text in pieces, cut after a line's end, a space, or anywhere.

    >>> [len(chunk) for chunk in chunks("x" * 40_000)]
    [16384, 16384, 7232]
    """
    start = 0
    while len(text) - start > CHUNK_CHARACTERS:
        stop = start + CHUNK_CHARACTERS
        end = max(text.rfind("\n", start, stop), -1)
        if end < start:
            end = text.rfind(" ", start + 1, stop) - 1
        stop = stop if end < start else end + 1
        yield text[start:stop]
        start = stop
    if start < len(text):
        yield text[start:]

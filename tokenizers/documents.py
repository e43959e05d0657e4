"""Documents to tokens: texts, (image, caption) pairs, questions, interleaved pages.

Parts keep the page's order. Every text that ends something (a document, a caption, an
answer) is followed by the model's eos; a question is not, so that it encodes as it does
at inference (specification.md sections 1 and 4).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.schemas import config
from gato.schemas.episode import Document, ImagePart, TextPart
from gato.schemas.errors import QuarantineError, Reason
from gato.schemas.record import Kind, token_dtype
from gato.tokenizers.image import (
    DOCUMENT_MAX_PATCHES,
    StoredImage,
    make_rule,
    store_encoded,
)
from gato.tokenizers.image_header import read_header
from gato.tokenizers.text import TextTokenizer, clean
from gato.tokenizers.timestep import (
    QUESTION_BIT,
    TokenizedItem,
    hash_content,
    image_table,
)

# Plain numbers: NumPy takes twice as long to fill with an enum's member.
_IMAGE, _TEXT = int(Kind.IMAGE), int(Kind.TEXT)
_QUESTION = _TEXT | QUESTION_BIT


def question(text: str) -> str:
    """Returns the text that stands before an answer.

    >>> question("What color is the box?")
    'Q: What color is the box? A:'
    """
    return f"Q: {text} A:"


class _ImageStore:
    """Stores an image once where documents in a row hold the same bytes.

    VQAv2's questions on an image stand together, five or six in a row.
    """

    def __init__(self) -> None:
        self._last: tuple[bytes, config.Image, StoredImage] | None = None

    def store(self, data: bytes, options: config.Image) -> StoredImage:
        """Returns the image as records hold it."""
        last = self._last  # once: another thread may replace it
        if last is not None and last[0] is data and last[1] is options:
            return last[2]
        header = read_header(data)
        rule = make_rule(*header.size, options, DOCUMENT_MAX_PATCHES)
        stored = store_encoded(data, header, rule)
        self._last = data, options, stored
        return stored


_images = _ImageStore()


def _text_ids(
    part: TextPart, text: str, tokenizer: TextTokenizer, dtype: np.dtype[np.integer]
) -> NDArray[np.integer]:
    ids = tokenizer.encode_list(text)
    if part.eos:
        ids.append(tokenizer.vocabulary.eos)
    return np.array(ids, dtype)


def _join(pieces: list[NDArray[Any]]) -> NDArray[Any]:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def tokenize_document(
    document: Document, image: config.Image, tokenizer: TextTokenizer
) -> TokenizedItem:
    """Returns the tokens of one document; its slots are one entry of `step_slots`.

    Args:
        document: Texts and encoded images in the order of the page.
        image: The data set's image options; at most 196 patches unless they say more.
        tokenizer: Of the build's SentencePiece model.

    Raises:
        QuarantineError: EMPTY without any text, NOT_UTF8, or what is wrong with an
            image.
    """
    dtype = np.dtype(token_dtype(tokenizer.vocabulary.size))
    tokens: list[NDArray[np.integer]] = []
    kinds: list[NDArray[np.uint8]] = []
    texts: list[bytes] = []
    images: list[StoredImage] = []
    image_starts: list[int] = []
    num_slots = 0
    for part in document.parts:
        if isinstance(part, ImagePart):
            image_starts.append(num_slots)
            stored = _images.store(part.data, image)
            images.append(stored)
            tokens.append(np.zeros(stored.num_patches, dtype))
            kind = _IMAGE
        else:
            text = clean(part.text)
            texts.append(text.encode())
            tokens.append(_text_ids(part, text, tokenizer, dtype))
            kind = _QUESTION if part.question else _TEXT
        kinds.append(np.full(len(tokens[-1]), kind, np.uint8))
        num_slots += len(tokens[-1])
    if not any(texts):
        raise QuarantineError(
            Reason.EMPTY,
            f"a document has text; its {len(document.parts)} parts hold none",
        )
    data = [stored.data for stored in images]
    # An image's captions and questions must fall into one split, so only the image
    # counts where there is one.
    hashed = data or [b"\0".join(texts)]
    joined = _join(tokens)
    return TokenizedItem(
        tokens=joined,
        kind=_join(kinds),
        step_slots=np.array([len(joined)], np.int32),
        images=data,
        image_info=image_table(images),
        content_hash=hash_content(*hashed),
        reencoded=sum(stored.reencoded for stored in images),
        image_starts=tuple(image_starts) if document.is_page and images else None,
    )

"""Documents: order of parts, eos, question bits, images and hashes."""

import hashlib

import numpy as np
import pytest
from episodes import text_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from image_files import GREY, RGB, png

from gato.schemas.config import Image
from gato.schemas.episode import Document, ImagePart, TextPart
from gato.schemas.errors import QuarantineError, Reason
from gato.schemas.record import Encoding, Kind
from gato.tokenizers.documents import tokenize_document
from gato.tokenizers.patches import decode_stored
from gato.tokenizers.timestep import QUESTION_BIT

EOS = 2
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 30, 3), np.uint8)
PICTURE = png(PIXELS, RGB)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def tokenize(*parts, **options):
    document = Document(
        document_id="a.txt/0", source="raw/a.txt", number=0, parts=parts
    )
    return tokenize_document(document, Image(**options), text_tokenizer())


def ids(text):
    return text_tokenizer().encode(text).tolist()


def test_text_by_hand():
    item = tokenize(TextPart(text="hello world"))
    assert item.tokens.tolist() == [6312, 28709, 1526, EOS]
    assert item.tokens.dtype == np.uint16
    assert item.kind.tolist() == [Kind.TEXT] * 4
    assert item.kind.dtype == np.uint8
    assert item.step_slots.tolist() == [4]
    assert item.step_slots.dtype == np.int32
    assert item.images == []
    assert item.image_info.shape == (0, 3)
    digest = hashlib.blake2b(b"hello world", digest_size=16)
    assert item.content_hash == digest.hexdigest()


@given(TEXT)
def test_any_text_comes_back(text):
    if not text.rstrip("\0").removeprefix("\ufeff"):
        return
    item = tokenize(TextPart(text=text))
    assert item.tokens.tolist() == [*ids(text), EOS]
    assert tokenize(TextPart(text=text.encode())).content_hash == item.content_hash


def test_pair():
    item = tokenize(ImagePart(data=PICTURE), TextPart(text="a cat"))
    caption = [*ids("a cat"), EOS]
    assert item.tokens.tolist() == [0] * 4 + caption
    assert item.kind.tolist() == [Kind.IMAGE] * 4 + [Kind.TEXT] * len(caption)
    assert item.step_slots.tolist() == [4 + len(caption)]
    assert item.image_info.tolist() == [[32, 32, Encoding.PNG]]
    pixels = decode_stored(item.images[0], 32, 32, Encoding.PNG)
    np.testing.assert_array_equal(pixels[:20, :30], PIXELS)


def test_question_has_its_bit_and_no_eos():
    question = TextPart(text="Q: what? A:", eos=False, question=True)
    item = tokenize(ImagePart(data=PICTURE), question, TextPart(text="red"))
    asked = ids("Q: what? A:")
    answer = [*ids("red"), EOS]
    assert item.tokens.tolist() == [0] * 4 + asked + answer
    expected = [Kind.TEXT | QUESTION_BIT] * len(asked) + [Kind.TEXT] * len(answer)
    assert item.kind[4:].tolist() == expected
    # Two encodings, so that inference sees the trained prefix.
    assert item.tokens[4 : 4 + len(asked)].tolist() == asked


def test_documents_share_nothing():
    # Mistake 14: one dict reused for every VQA example.
    first = tokenize(ImagePart(data=PICTURE), TextPart(text="one"))
    kept = first.tokens.copy(), list(first.images), first.image_info.copy()
    second = tokenize(ImagePart(data=PICTURE), TextPart(text="two"))
    for array in (second.tokens, second.kind, second.step_slots, second.image_info):
        array[...] = 9
    second.images.append(b"")
    np.testing.assert_array_equal(first.tokens, kept[0])
    assert first.images == kept[1]
    np.testing.assert_array_equal(first.image_info, kept[2])


def test_page_keeps_its_order():
    small = png(RNG.integers(0, 256, (16, 16), np.uint8), GREY)
    item = tokenize(
        TextPart(text="a", eos=False),
        ImagePart(data=PICTURE),
        TextPart(text="b", eos=False),
        ImagePart(data=small),
        TextPart(text="c"),
    )
    a, b, c = (ids(text) for text in "abc")
    assert item.tokens.tolist() == [*a, 0, 0, 0, 0, *b, 0, *c, EOS]
    assert item.image_info.tolist() == [[32, 32, 1], [16, 16, 1]]


def test_large_images_are_scaled_to_196_patches_unless_told_otherwise():
    large = ImagePart(data=png(np.zeros((480, 640), np.uint8), GREY))
    text = TextPart(text="a")
    assert tokenize(large, text).image_info.tolist() == [[192, 256, 1]]
    assert tokenize(large, text, max_patches=4).image_info.tolist() == [[32, 32, 1]]
    resized = tokenize(large, text, resize=(16, 48), encoding="raw")
    assert resized.image_info.tolist() == [[16, 48, 0]]
    more = tokenize(large, text, max_patches=10_000)
    assert more.image_info.tolist() == [[480, 640, 1]]


def test_keep():
    fitting = png(RNG.integers(0, 256, (16, 16, 3), np.uint8), RGB)
    text = TextPart(text="a")
    item = tokenize(
        ImagePart(data=fitting), ImagePart(data=PICTURE), text, encoding="keep"
    )
    assert item.images[0] == fitting
    assert item.reencoded == 1


def test_an_images_captions_share_a_hash():
    first = tokenize(ImagePart(data=PICTURE), TextPart(text="one"))
    second = tokenize(ImagePart(data=PICTURE), TextPart(text="two"))
    assert first.content_hash == second.content_hash
    digest = hashlib.blake2b(first.images[0], digest_size=16)
    assert first.content_hash == digest.hexdigest()
    other = tokenize(ImagePart(data=png(PIXELS + 1, RGB)), TextPart(text="one"))
    assert other.content_hash != first.content_hash


def test_texts_differ_in_hash_by_where_they_are_cut():
    first = tokenize(TextPart(text="ab"), TextPart(text="c"))
    second = tokenize(TextPart(text="a"), TextPart(text="bc"))
    assert first.content_hash != second.content_hash


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ((), Reason.EMPTY),
        ((TextPart(text=""),), Reason.EMPTY),
        ((TextPart(text=b"\0\0"),), Reason.EMPTY),
        ((ImagePart(data=PICTURE),), Reason.EMPTY),
        ((ImagePart(data=PICTURE), TextPart(text="")), Reason.EMPTY),
        ((TextPart(text=b"caf\xe9"),), Reason.NOT_UTF8),
        ((ImagePart(data=PICTURE[:-20]), TextPart(text="a")), Reason.CORRUPT_IMAGE),
        ((ImagePart(data=b"<html>"), TextPart(text="a")), Reason.CORRUPT_IMAGE),
        ((ImagePart(data=b"GIF89a"), TextPart(text="a")), Reason.UNSUPPORTED),
    ],
)
def test_quarantined(parts, reason):
    with pytest.raises(QuarantineError) as caught:
        tokenize(*parts)
    assert caught.value.reason == reason

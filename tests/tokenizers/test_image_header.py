"""Headers: sizes before pixels, and damage told from health."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    PNG_SIGNATURE,
    RGB,
    RGBA,
    chunk,
    exif,
    png,
    with_jpeg_exif,
)

from gato.schemas.errors import QuarantineError, Reason
from gato.schemas.record import Encoding
from gato.tokenizers.image_header import is_image, read_header

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 30, 3), np.uint8)
PNG = png(PIXELS, RGB)


def encoded(suffix: str, pixels=PIXELS, *options: int) -> bytes:
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


JPEG = encoded(".jpg")
WEBP = encoded(".webp")
WEBP_LOSSLESS = encoded(".webp", PIXELS, cv2.IMWRITE_WEBP_QUALITY, 101)
WEBP_ALPHA = encoded(".webp", np.dstack([PIXELS, PIXELS[..., 0]]))


@pytest.mark.parametrize(
    ("data", "encoding", "plain"),
    [
        (PNG, Encoding.PNG, True),
        (encoded(".png"), Encoding.PNG, True),
        (encoded(".png", PIXELS[..., 0]), Encoding.PNG, True),
        (png(PIXELS[..., 0], GREY), Encoding.PNG, True),
        (png(PIXELS[..., :2], GREY_ALPHA), Encoding.PNG, False),
        (png(np.dstack([PIXELS, PIXELS[..., :1]]), RGBA), Encoding.PNG, False),
        (png(PIXELS.astype(np.uint16), RGB, depth=16), Encoding.PNG, False),
        (png(PIXELS, RGB, extra=chunk(b"tRNS", bytes(6))), Encoding.PNG, False),
        (
            png(PIXELS[..., 0] % 2, PALETTE, extra=chunk(b"PLTE", bytes(6))),
            Encoding.PNG,
            False,
        ),
        (JPEG, Encoding.JPEG, True),
        (encoded(".jpg", PIXELS[..., 0]), Encoding.JPEG, True),
        (encoded(".jpg", PIXELS, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), Encoding.JPEG, True),
        (WEBP, None, False),
        (WEBP_LOSSLESS, None, False),
        (WEBP_ALPHA, None, False),
    ],
)
def test_header(data, encoding, plain):
    header = read_header(data)
    assert (header.height, header.width) == header.size == (20, 30)
    assert (header.encoding, header.plain) == (encoding, plain)
    assert header.orientation == 1
    assert is_image(data)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation, order):
    content = exif(orientation, order)
    files = [
        with_jpeg_exif(JPEG, orientation, order),
        png(PIXELS, RGB, extra=chunk(b"eXIf", content)),
    ]
    for data in files:
        header = read_header(data)
        assert header.orientation == orientation
        assert header.size == ((30, 20) if orientation > 4 else (20, 30))


@pytest.mark.parametrize("content", [b"", b"MM", b"MM\0*\xff\xff\xff\xff", exif(9)])
def test_damaged_exif_is_upright(content):
    assert read_header(png(PIXELS, RGB, extra=chunk(b"eXIf", content))).orientation == 1


@pytest.mark.parametrize("data", [PNG, JPEG, WEBP, WEBP_LOSSLESS])
def test_truncated_anywhere_is_corrupt(data):
    for length in range(len(data) - 1):
        with pytest.raises(QuarantineError) as caught:
            read_header(data[:length])
        assert caught.value.reason == Reason.CORRUPT_IMAGE


def test_any_changed_byte_of_a_png_is_corrupt():
    for place in range(len(PNG_SIGNATURE), len(PNG) - 4):
        changed = bytearray(PNG)
        changed[place] ^= 1
        with pytest.raises(QuarantineError) as caught:
            read_header(bytes(changed))
        assert caught.value.reason == Reason.CORRUPT_IMAGE


@given(st.binary(max_size=200), st.sampled_from([b"", PNG_SIGNATURE, b"\xff\xd8\xff"]))
def test_noise_is_corrupt(noise, prefix):
    with pytest.raises(QuarantineError):
        read_header(prefix + noise)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<!DOCTYPE html>",
        PNG_SIGNATURE + chunk(b"IEND", b""),
        PNG.replace(chunk(b"IEND", b""), b""),
        png(PIXELS, 5),
        png(PIXELS[:0], RGB, width=30),
        b"\xff\xd8\xff\xd9",
    ],
)
def test_corrupt(data):
    with pytest.raises(QuarantineError) as caught:
        read_header(data)
    assert caught.value.reason == Reason.CORRUPT_IMAGE


def test_thumbnail_end_marker_does_not_hide_truncation():
    whole = with_jpeg_exif(JPEG, 1)
    content = b"Exif\0\0" + exif(1) + JPEG  # a thumbnail has an EOI of its own
    segment = b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content
    embedded = whole[:2] + segment + JPEG[2:]
    assert read_header(embedded).size == (20, 30)
    with pytest.raises(QuarantineError, match="truncated"):
        read_header(embedded[:-2])


@pytest.mark.parametrize("suffix", [".bmp", ".tiff"])
def test_other_formats_are_named(suffix):
    data = encoded(suffix)
    assert not is_image(data)
    with pytest.raises(QuarantineError, match=suffix[1:].upper()) as caught:
        read_header(data)
    assert caught.value.reason == Reason.UNSUPPORTED


def test_decompression_bomb_is_refused_by_its_header():
    size = (20_000).to_bytes(4, "big") * 2
    ihdr = chunk(b"IHDR", size + bytes((8, RGB, 0, 0, 0)))
    bomb = PNG_SIGNATURE + ihdr + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")
    with pytest.raises(QuarantineError, match="20000 x 20000") as caught:
        read_header(bomb)
    assert caught.value.reason == Reason.IMAGE_TOO_LARGE

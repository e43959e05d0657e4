"""Images: exact pixels for every kind of file, sizes, stored bytes and patches."""

import math

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
    turn_upright,
    with_jpeg_exif,
)

from gato.schemas import config
from gato.schemas.errors import GatoError, QuarantineError, Reason
from gato.schemas.record import Encoding
from gato.tokenizers.image import (
    decode_image,
    encode_image,
    make_rule,
    scaled_size,
    store_encoded,
    store_pixels,
    to_rgb,
)
from gato.tokenizers.image_header import read_header
from gato.tokenizers.patches import decode_stored, patches

RNG = np.random.default_rng(0)
SAMPLES = RNG.integers(0, 256, (20, 30, 4), np.uint8)
COLOUR, GREYS, ALPHA = SAMPLES[..., :3], SAMPLES[..., 0], SAMPLES[..., 3]


def over_white(colour, alpha):
    share = alpha[..., None] / 255
    return np.round(colour * share + 255 * (1 - share)).astype(np.uint8)


def grey_to_rgb(grey):
    return np.stack([grey] * 3, axis=-1)


def store(data: bytes, **options):
    header = read_header(data)
    return store_encoded(data, header, make_rule(*header.size, config.Image(**options)))


def test_rgb_and_grey():
    np.testing.assert_array_equal(decode_image(png(COLOUR, RGB)), COLOUR)
    np.testing.assert_array_equal(decode_image(png(GREYS, GREY)), grey_to_rgb(GREYS))


def test_alpha_lies_over_white():
    np.testing.assert_array_equal(
        decode_image(png(SAMPLES, RGBA)), over_white(COLOUR, ALPHA)
    )
    grey_alpha = np.dstack([GREYS, ALPHA])
    np.testing.assert_array_equal(
        decode_image(png(grey_alpha, GREY_ALPHA)),
        over_white(grey_to_rgb(GREYS), ALPHA),
    )


def test_opaque_and_transparent_ends():
    ends = np.array([[[7, 8, 9, 255], [7, 8, 9, 0]]], np.uint8)
    assert to_rgb(ends).tolist() == [[[7, 8, 9], [255, 255, 255]]]


def test_sixteen_bits_are_shifted():
    wide = RNG.integers(0, 65_536, (20, 30, 4)).astype(np.uint16)
    for samples, color in ((wide[..., :3], RGB), (wide[..., 0], GREY)):
        found = decode_image(png(samples, color, depth=16))
        expected = (samples >> 8).astype(np.uint8)
        if expected.ndim == 2:
            expected = grey_to_rgb(expected)
        np.testing.assert_array_equal(found, expected)
    shifted = (wide >> 8).astype(np.uint8)
    np.testing.assert_array_equal(
        decode_image(png(wide, RGBA, depth=16)),
        over_white(shifted[..., :3], shifted[..., 3]),
    )


def test_palette():
    colours = bytes(range(10, 16))
    indices = GREYS % 2
    table = np.frombuffer(colours, np.uint8).reshape(2, 3)
    plain = png(indices, PALETTE, extra=chunk(b"PLTE", colours))
    np.testing.assert_array_equal(decode_image(plain), table[indices])
    extra = chunk(b"PLTE", colours) + chunk(b"tRNS", bytes((255, 51)))
    alpha = np.array([255, 51])[indices]
    np.testing.assert_array_equal(
        decode_image(png(indices, PALETTE, extra=extra)),
        over_white(table[indices], alpha),
    )


@pytest.mark.parametrize("key", [int(GREYS[0, 0]), 0])
def test_transparent_grey_is_white(key):
    data = png(GREYS, GREY, extra=chunk(b"tRNS", key.to_bytes(2, "big")))
    expected = grey_to_rgb(np.where(np.equal(GREYS, key), 255, GREYS).astype(np.uint8))
    np.testing.assert_array_equal(decode_image(data), expected)


def test_transparent_grey_of_one_and_sixteen_bits():
    bits = png(
        np.full((4, 1), 0b01010000, np.uint8),
        GREY,
        depth=1,
        width=4,
        extra=chunk(b"tRNS", b"\0\0"),
    )
    assert (decode_image(bits) == 255).all()
    wide = RNG.integers(0, 65_536, (8, 8)).astype(np.uint16)
    key = int(wide[0, 0])
    data = png(wide, GREY, depth=16, extra=chunk(b"tRNS", key.to_bytes(2, "big")))
    expected = np.where(wide == key, 255, wide >> 8).astype(np.uint8)
    np.testing.assert_array_equal(decode_image(data), grey_to_rgb(expected))


def test_transparent_colour_is_white():
    key = b"".join(int(v).to_bytes(2, "big") for v in COLOUR[0, 0])
    found = decode_image(png(COLOUR, RGB, extra=chunk(b"tRNS", key)))
    assert (COLOUR.reshape(-1, 3) == COLOUR[0, 0]).all(-1).sum() == 1
    expected = COLOUR.copy()
    expected[0, 0] = 255
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_removed(orientation):
    data = png(COLOUR, RGB, extra=chunk(b"eXIf", exif(orientation)))
    expected = turn_upright(COLOUR, orientation)
    np.testing.assert_array_equal(decode_image(data), expected)
    stored = store(data)
    assert read_header(stored.data).orientation == 1
    height, width = expected.shape[:2]
    pixels = decode_stored(*stored[:4])
    np.testing.assert_array_equal(pixels[:height, :width], expected)

    jpeg = encode_image(COLOUR, "jpeg")[0]
    turned = decode_image(with_jpeg_exif(jpeg, orientation))
    np.testing.assert_array_equal(turned, turn_upright(decode_image(jpeg), orientation))


def test_webp():
    bgr = cv2.cvtColor(SAMPLES, cv2.COLOR_RGBA2BGRA)
    lossless = (cv2.IMWRITE_WEBP_QUALITY, 101)
    data = cv2.imencode(".webp", bgr[..., :3], lossless)[1].tobytes()
    np.testing.assert_array_equal(decode_image(data), COLOUR)
    assert store(data, encoding="keep").encoding == Encoding.PNG


def test_png_whose_pixels_are_short_is_corrupt():
    whole = png(COLOUR, RGB)
    header = whole[: whole.index(b"IDAT") - 4]
    short = png(COLOUR[:5], RGB)
    data = header + short[short.index(b"IDAT") - 4 :]  # every CRC is right
    with pytest.raises(QuarantineError) as caught:
        decode_image(data)
    assert caught.value.reason == Reason.CORRUPT_IMAGE


def test_jpeg_without_its_tables_is_corrupt():
    jpeg = encode_image(COLOUR, "jpeg")[0]
    place = jpeg.index(b"\xff\xdb")
    length = int.from_bytes(jpeg[place + 2 : place + 4], "big") + 2
    with pytest.raises(QuarantineError) as caught:
        decode_image(jpeg[:place] + jpeg[place + length :])
    assert caught.value.reason == Reason.CORRUPT_IMAGE


SIDES = st.integers(1, 3000)


def close(side, exact):
    return abs(side - max(1, exact)) <= 0.5


@given(SIDES, SIDES, st.integers(1, 300))
def test_scaled_size(height, width, max_patches):
    new_height, new_width = scaled_size(height, width, max_patches)

    def count(height, width):
        return math.ceil(height / 16) * math.ceil(width / 16)

    assert count(new_height, new_width) <= max_patches
    if count(height, width) <= max_patches:
        assert (new_height, new_width) == (height, width)
        return
    assert 1 <= new_height <= height
    assert 1 <= new_width <= width
    # One side fills whole patches; the other keeps the aspect to half a pixel.
    by_height = new_height % 16 == 0 and close(new_width, width * new_height / height)
    by_width = new_width % 16 == 0 and close(new_height, height * new_width / width)
    assert by_height or by_width


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 40))
def test_no_larger_scale_fits(height, width, max_patches):
    new_height, new_width = scaled_size(height, width, max_patches)
    if (new_height, new_width) == (height, width):
        return
    # Any scale above the chosen one spills over a patch border somewhere.
    if new_height % 16 == 0 and new_height / height >= new_width / width - 1e-9:
        scale = new_height / height
    else:
        scale = new_width / width
    scale *= 1 + 1e-6
    rows, columns = math.ceil(height * scale / 16), math.ceil(width * scale / 16)
    assert rows * columns > max_patches


def test_published_document_sizes():
    assert scaled_size(224, 224, 196) == (224, 224)
    assert scaled_size(225, 225, 196) == (224, 224)
    assert scaled_size(480, 640, 196) == (192, 256)
    assert scaled_size(1, 100_000, 196) == (1, 196 * 16)


def test_padding_is_zero_at_bottom_and_right():
    stored = store_pixels(COLOUR, make_rule(20, 30, config.Image()))
    assert (stored.height, stored.width, stored.num_patches) == (32, 32, 4)
    pixels = decode_stored(*stored[:4])
    np.testing.assert_array_equal(pixels[:20, :30], COLOUR)
    assert not pixels[20:].any()
    assert not pixels[:, 30:].any()


def test_resize_is_by_area():
    image = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    rule = make_rule(64, 64, config.Image(resize=(32, 16)))
    pixels = decode_stored(*store_pixels(image, rule)[:4])
    blocks = image.reshape(32, 2, 16, 4, 3).mean((1, 3))
    assert np.abs(pixels - blocks).max() <= 0.5


def test_rules():
    options = config.Image(max_patches=4)
    rule = make_rule(100, 50, options)
    assert rule.resize == scaled_size(100, 50, 4)
    assert (rule.height // 16) * (rule.width // 16) <= 4
    assert make_rule(100, 50, config.Image()).resize is None
    assert make_rule(500, 500, config.Image(), 196).resize == (224, 224)
    both = config.Image(resize=(16, 32), max_patches=1)
    assert make_rule(100, 50, both).resize == (16, 32)


@pytest.mark.parametrize("encoding", ["png", "raw", "keep"])
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 9), st.booleans())
def test_lossless_encodings(encoding, rows, columns, seed, photograph):
    shape = (16 * rows, 16 * columns, 3)
    image = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    data, stored = encode_image(image, encoding, photograph)
    assert stored == (Encoding.RAW if encoding == "raw" else Encoding.PNG)
    np.testing.assert_array_equal(decode_stored(data, *shape[:2], stored), image)
    assert encode_image(image, encoding, photograph)[0] == data


def test_jpeg_is_close():
    down, across = np.mgrid[0:64, 0:64].astype(np.uint8)
    image = np.dstack([2 * down, 2 * across, down + across])
    data, stored = encode_image(image, "jpeg")
    assert stored == Encoding.JPEG
    difference = decode_stored(data, 64, 64, stored).astype(int) - image
    assert np.abs(difference).mean() < 5


def fitting(channels: int):
    shape = (16, 32, channels) if channels > 1 else (16, 32)
    return RNG.integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    "data",
    [
        png(fitting(3), RGB),
        png(fitting(1), GREY),
        encode_image(fitting(3), "jpeg")[0],
        cv2.imencode(".jpg", fitting(1))[1].tobytes(),
    ],
)
def test_keep_passes_the_source_bytes(data):
    stored = store(data, encoding="keep")
    assert stored.data is data
    assert not stored.reencoded
    # Grey counts three channels when read.
    assert decode_stored(*stored[:4]).shape == (16, 32, 3)
    np.testing.assert_array_equal(decode_stored(*stored[:4]), decode_image(data))


@pytest.mark.parametrize(
    "data",
    [
        png(fitting(4), RGBA),
        png(fitting(2), GREY_ALPHA),
        png(fitting(3).astype(np.uint16), RGB, depth=16),
        png(fitting(3), RGB, extra=chunk(b"tRNS", bytes(6))),
        png(fitting(1) % 2, PALETTE, extra=chunk(b"PLTE", bytes(6))),
        png(fitting(3), RGB, extra=chunk(b"eXIf", exif(3))),
        with_jpeg_exif(encode_image(fitting(3), "jpeg")[0], 6),
        png(COLOUR, RGB),
        encode_image(COLOUR, "jpeg")[0],
    ],
)
def test_keep_reencodes_what_decoders_would_read_differently(data):
    stored = store(data, encoding="keep")
    assert stored.encoding == Encoding.PNG
    assert stored.reencoded
    pixels = decode_image(data)
    height, width = pixels.shape[:2]
    np.testing.assert_array_equal(decode_stored(*stored[:4])[:height, :width], pixels)


def test_keep_reencodes_what_is_resized():
    data = png(fitting(3), RGB)
    stored = store(data, encoding="keep", resize=(16, 16))
    assert (stored.height, stored.width, stored.reencoded) == (16, 16, True)
    assert not store(data, encoding="keep", resize=(16, 32)).reencoded


def test_other_encodings_are_not_counted_as_reencoded():
    assert not store(png(COLOUR, RGB), encoding="png").reencoded


def test_patches_in_raster_order():
    image = RNG.integers(0, 256, (32, 48, 3), np.uint8)
    found = patches(image)
    assert found.shape == (6, 768)
    for number in range(6):
        row, column = divmod(number, 3)
        block = image[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        np.testing.assert_array_equal(found[number], block.ravel())


def test_stored_image_of_another_size_is_refused():
    data, encoding = encode_image(fitting(3), "png")
    with pytest.raises(GatoError, match="must be 32 x 16, got 16 x 32"):
        decode_stored(data, 32, 16, encoding)
    with pytest.raises(GatoError, match="no image"):
        decode_stored(b"", 16, 32, encoding)
    with pytest.raises(GatoError, match="1536 bytes"):
        decode_stored(b"abc", 16, 32, Encoding.RAW)


def test_png_signature_alone_is_corrupt():
    with pytest.raises(QuarantineError):
        store(PNG_SIGNATURE)

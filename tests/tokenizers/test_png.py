"""Frames decoded together: the same pixels as OpenCV's, or None."""

import zlib

import cv2
import image_files
import numpy as np
import pytest

from gato.schemas.errors import GatoError
from gato.schemas.record import Encoding
from gato.tokenizers import png
from gato.tokenizers.image import encode_image
from gato.tokenizers.patches import decode_stored, decode_stored_all

RNG = np.random.default_rng(0)


def frames(count: int, height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(16, 16), (64, 80), (16, 320), (208, 160)])
def test_frames_as_opencv_reads_them(size):
    images = frames(9, *size)
    images[1:5] >>= 6  # compresses: several IDAT chunks are not all that is read
    stored = [encode_image(image, "png")[0] for image in images]
    found = png.decode_all(stored, *size)
    assert found is not None
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(
        found, [decode_stored(one, size[0], size[1], Encoding.PNG) for one in stored]
    )


def test_views_of_a_record_are_read():
    images = frames(2, 16, 32)
    stored = [memoryview(encode_image(image, "png")[0]) for image in images]
    np.testing.assert_array_equal(png.decode_all(stored, 16, 32), images)


def _written(image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".png", image[..., ::-1], options)[1].tobytes()


def test_other_files_are_left_to_opencv():
    image = frames(1, 16, 32)[0]
    other = {
        "the filter Sub": encode_image(image, "png", photograph=True)[0],
        "several filters": _written(np.cumsum(image, 1, np.uint8)),
        "grey": cv2.imencode(".png", image[..., 0])[1].tobytes(),
        "another size": encode_image(frames(1, 32, 16)[0], "png")[0],
        "JPEG": encode_image(image, "jpeg")[0],
        "nothing": b"",
    }
    good = encode_image(image, "png")[0]
    for what, data in other.items():
        assert png.decode_all([good, data], 16, 32) is None, what


def test_damage_is_never_pixels():
    """Cut or changed anywhere, this file is refused or reads as it would have."""
    image = np.random.default_rng(0).integers(0, 8, (16, 16, 3), np.uint8)
    good = encode_image(image, "png")[0]
    for stop in range(len(good) - 12):  # what remains lacks more than its end mark
        assert png.decode_all([good[:stop]], 16, 16) is None
    for at in range(len(good)):
        changed = bytearray(good)
        changed[at] ^= 1
        found = png.decode_all([bytes(changed)], 16, 16)
        assert found is None or np.array_equal(found[0], image)


def test_a_bomb_is_not_inflated():
    """A stream that goes on past the pixels its header promises is refused."""
    good = encode_image(frames(1, 16, 16)[0], "png")[0]
    begin, end = len(png.header_of(16, 16)) + 4, len(good) - 12
    stream = zlib.decompress(good[begin + 8 : end - 4])
    for more, same in ((b"", True), (b"\2", False), (bytes(1 << 20), False)):
        data = image_files.chunk(b"IDAT", zlib.compress(stream + more))
        found = png.decode_all([good[:begin] + data + good[end:]], 16, 16)
        assert (found is not None) == same


@pytest.mark.parametrize("encoding", ["png", "raw", "jpeg"])
@pytest.mark.parametrize("count", [1, 12])
def test_all_images_of_a_run(encoding, count):
    stored = [encode_image(image, encoding) for image in frames(count, 32, 16)]
    data, kind = [one for one, _ in stored], stored[0][1]
    found = decode_stored_all(data, 32, 16, kind)
    expected = [decode_stored(one, 32, 16, kind) for one in data]
    np.testing.assert_array_equal(found, expected)
    data[count - 1] = data[count - 1][:40]
    with pytest.raises(GatoError, match=f"^image {count + 6}: "):
        decode_stored_all(data, 32, 16, kind, first=7)

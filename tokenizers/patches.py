"""A record's images back to pixels, and pixels to 16x16 patches."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from gato.schemas.errors import GatoError
from gato.schemas.record import PATCH_SIZE, Encoding
from gato.tokenizers import png
from gato.tokenizers.image import CHANNELS

PATCH_BYTES = PATCH_SIZE * PATCH_SIZE * CHANNELS
_PATCH_LINE = np.dtype((np.void, PATCH_SIZE * CHANNELS))
# Fewer images than this are not faster decoded together.
_MANY = 8


def decode_stored(
    data: bytes | memoryview, height: int, width: int, encoding: int
) -> NDArray[np.uint8]:
    """Returns the pixels of a record's image, uint8 [height, width, 3].

    Args:
        data: A value of the record's `images`.
        height: Of its `image_info`.
        width: Likewise.
        encoding: Likewise, an `Encoding`.

    Raises:
        GatoError: If the bytes are not that image.
    """
    buffer = np.frombuffer(data, np.uint8)
    shape = (height, width, CHANNELS)
    if encoding == Encoding.RAW:
        if buffer.size != math.prod(shape):
            raise GatoError(
                f"a raw image of {height} x {width} has {math.prod(shape)} bytes, the"
                f" record holds {buffer.size}; the shard was not written by gato-build"
                " or is damaged. Run gato-verify on it."
            )
        return buffer.reshape(shape)
    image = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB) if buffer.size else None
    if image is None or image.shape != shape:
        found = "no image" if image is None else f"{image.shape[0]} x {image.shape[1]}"
        raise GatoError(
            f"a stored image must be {height} x {width}, got {found}; the shard was not"
            " written by gato-build or is damaged. Run gato-verify on it."
        )
    return image.astype(np.uint8, copy=False)


def decode_stored_all(
    data: Sequence[bytes | memoryview],
    height: int,
    width: int,
    encoding: int,
    first: int = 0,
) -> NDArray[np.uint8]:
    """Returns the pixels of a record's images of one size, uint8 [n, height, width, 3].

    Args:
        data: Values of the record's `images`.
        height: Of their `image_info`.
        width: Likewise.
        encoding: Likewise, an `Encoding`.
        first: Number of the first in its record, for the message.

    Raises:
        GatoError: If the bytes of one are not such an image.
    """
    shape = (len(data), height, width, CHANNELS)
    if encoding == Encoding.RAW:
        if {len(one) for one in data} == {math.prod(shape[1:])}:
            return np.frombuffer(b"".join(data), np.uint8).reshape(shape)
    elif encoding == Encoding.PNG and len(data) >= _MANY:
        frames = png.decode_all(data, height, width)
        if frames is not None:
            return frames
    pixels = np.empty(shape, np.uint8)
    for index, one in enumerate(data):
        try:
            pixels[index] = decode_stored(one, height, width, encoding)
        except GatoError as error:
            raise GatoError(f"image {first + index}: {error}") from error
    return pixels


def patches(
    images: NDArray[np.uint8], out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Returns the 16x16 patches of images in raster order, uint8 [..., n, 768].

    Args:
        images: uint8 [..., H, W, 3], C order; sides are multiples of 16.
        out: Where to put them, uint8 in C order; made if None.
    """
    *some, height, width, _ = images.shape
    rows, columns = height // PATCH_SIZE, width // PATCH_SIZE
    if out is None:
        out = np.empty((*some, rows * columns, PATCH_BYTES), np.uint8)
    # A patch's line of 48 bytes moves whole: twice as fast as byte by byte.
    lines = images.reshape(-1, PATCH_SIZE * CHANNELS).view(_PATCH_LINE)
    into = out.reshape(-1, PATCH_SIZE * CHANNELS).view(_PATCH_LINE)
    into.reshape(-1, columns, PATCH_SIZE)[:] = lines.reshape(
        -1, PATCH_SIZE, columns
    ).swapaxes(1, 2)
    return out

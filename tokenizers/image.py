"""Images to stored bytes and 16x16 patches, and back (specification.md section 1).

Stored images decode to exactly H x W x 3, 8 bit, in every decoder: grey repeats, alpha
lies over white, 16 bit is shifted to 8, the EXIF orientation is applied and removed.
Sides are multiples of 16: zeros are padded at the bottom and the right, or the image is
resized with an area filter.
"""

from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gato.schemas import config, manifest
from gato.schemas.errors import GatoError, QuarantineError, Reason
from gato.schemas.record import PATCH_SIZE, Encoding
from gato.tokenizers.image_header import ImageHeader, read_header

DOCUMENT_MAX_PATCHES = 196
CHANNELS = 3

# Named in full, so that a changed default cannot change bytes. Against OpenCV's own
# default, which is _PHOTOGRAPH_PNG, _FRAME_PNG was measured to take 0.24 to 0.93 of the
# bytes in 0.5 to 1.0 of the time on frames of BabyAI and four Atari games, and 0.8 to
# 1.0 of the bytes in 1.6 to 2.4 of the time on photographs.
_FRAME_PNG = (
    cv2.IMWRITE_PNG_COMPRESSION,
    2,
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_DEFAULT,
    cv2.IMWRITE_PNG_FILTER,
    cv2.IMWRITE_PNG_FILTER_UP,
)
_PHOTOGRAPH_PNG = (
    cv2.IMWRITE_PNG_COMPRESSION,
    1,
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_RLE,
    cv2.IMWRITE_PNG_FILTER,
    cv2.IMWRITE_PNG_FILTER_SUB,
)
_JPEG_OPTIONS = (cv2.IMWRITE_JPEG_QUALITY, 95)
# The file's orientation is read from its header, the same for all formats.
_RGB = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


class StoredImage(NamedTuple):
    """An image as records hold it.

    Attributes:
        data: Encoded bytes.
        height: Rows, a multiple of 16.
        width: Columns, a multiple of 16.
        encoding: How `data` is encoded.
        reencoded: Whether `keep` was asked for and could not be had.
    """

    data: bytes
    height: int
    width: int
    encoding: Encoding
    reencoded: bool

    @property
    def num_patches(self) -> int:
        """Slots that the image takes."""
        return (self.height // PATCH_SIZE) * (self.width // PATCH_SIZE)


def _pad_up(side: int) -> int:
    return -(-side // PATCH_SIZE) * PATCH_SIZE


def scaled_size(height: int, width: int, max_patches: int) -> tuple[int, int]:
    """Returns the largest size of the same aspect that pads to at most so many patches.

    Images that fit keep their size; nothing is scaled up. Integer arithmetic, so that
    machines agree.

    >>> scaled_size(480, 640, 196)
    (192, 256)
    >>> scaled_size(100, 30, 196)
    (100, 30)
    """
    rows, columns = _pad_up(height) // PATCH_SIZE, _pad_up(width) // PATCH_SIZE
    if rows * columns <= max_patches:
        return height, width
    # The largest scale fills whole patches in one direction: it is 16r/h or 16c/w.
    r = max(
        (
            r
            for r in range(1, max_patches + 1)
            if r * -(-width * r // height) <= max_patches
        ),
        default=0,
    )
    c = max(
        (
            c
            for c in range(1, max_patches + 1)
            if c * -(-height * c // width) <= max_patches
        ),
        default=0,
    )
    if r * width >= c * height:
        return PATCH_SIZE * r, max(
            1, (2 * PATCH_SIZE * r * width + height) // (2 * height)
        )
    return max(1, (2 * PATCH_SIZE * c * height + width) // (2 * width)), PATCH_SIZE * c


def make_rule(
    height: int,
    width: int,
    options: config.Image,
    default_max_patches: int | None = None,
) -> manifest.ImageRule:
    """Returns how images of one size become patches.

    Args:
        height: Rows of the source image, orientation applied.
        width: Columns, likewise.
        options: The data set's `image`; `resize` wins over `max_patches`.
        default_max_patches: Used where `max_patches` is null; None keeps the size.
    """
    max_patches = options.max_patches or default_max_patches
    resize = options.resize
    if resize is None and max_patches is not None:
        size = scaled_size(height, width, max_patches)
        resize = None if size == (height, width) else size
    height, width = resize or (height, width)
    return manifest.ImageRule(
        height=_pad_up(height),
        width=_pad_up(width),
        resize=resize,
        encoding=options.encoding,
    )


def to_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns RGB of grey (repeated), RGB or RGBA (over white) pixels.

    Args:
        image: uint8 [..., 1 | 3 | 4].

    Returns:
        uint8 [..., 3].
    """
    channels = image.shape[-1]
    if channels == 1:
        return np.repeat(image, CHANNELS, axis=-1)
    if channels == CHANNELS:
        return image
    alpha = image[..., 3:].astype(np.uint32)
    blended = image[..., :3] * alpha + 255 * (255 - alpha)
    return ((blended + 127) // 255).astype(np.uint8)


def _orient(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Returns the image upright, given its EXIF orientation."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


def _decode_unchanged(
    data: NDArray[np.uint8], header: ImageHeader
) -> NDArray[np.uint8]:
    """Decodes what has alpha, 16 bits or a palette; blending is ours, not OpenCV's."""
    decoded = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise ValueError("OpenCV cannot decode it")
    image: NDArray[Any] = decoded
    if image.ndim == 2:
        image = image[:, :, None]
    key = None
    if header.grey_key is not None and image.shape[2] == 1:
        # OpenCV drops a grey PNG's transparent value, and scales 1, 2, 4 bits to 8.
        scale = 255 // ((1 << header.depth) - 1) if header.depth < 8 else 1
        key = image == header.grey_key * scale
    if image.dtype == np.uint16:
        image = image >> 8
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"its samples are {image.dtype}")
    image = image.astype(np.uint8, copy=False)
    if key is not None:
        image = np.where(key, np.uint8(255), image)
    if image.shape[2] >= CHANNELS:  # OpenCV's order is BGR
        image = image[:, :, [2, 1, 0, 3][: image.shape[2]]]
    return to_rgb(image)


def decode_image(data: bytes, header: ImageHeader | None = None) -> NDArray[np.uint8]:
    """Returns the upright RGB pixels of a PNG, JPEG or WebP, uint8 [H, W, 3].

    Raises:
        QuarantineError: CORRUPT_IMAGE, UNSUPPORTED or IMAGE_TOO_LARGE.
    """
    header = header or read_header(data)
    buffer = np.frombuffer(data, np.uint8)
    try:
        if header.plain or header.encoding == Encoding.JPEG:
            image = cv2.imdecode(buffer, _RGB)
        else:
            image = _decode_unchanged(buffer, header)
        if image is None:
            raise ValueError("OpenCV cannot decode it")
        if image.shape != (header.height, header.width, CHANNELS):
            raise ValueError(
                f"its header says {header.height} x {header.width}, its pixels are"
                f" {image.shape[0]} x {image.shape[1]}"
            )
    except (cv2.error, ValueError) as error:
        raise QuarantineError(
            Reason.CORRUPT_IMAGE, f"an image of {len(data)} bytes: {error}"
        ) from error
    return _orient(image.astype(np.uint8, copy=False), header.orientation)


def _fit(image: NDArray[np.uint8], rule: manifest.ImageRule) -> NDArray[np.uint8]:
    """Returns the image resized and padded as the rule says."""
    if rule.resize is not None and rule.resize != image.shape[:2]:
        height, width = rule.resize
        resized = cv2.resize(
            np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_AREA
        )
        image = resized.astype(np.uint8, copy=False)
    if image.shape[:2] == (rule.height, rule.width):
        return np.ascontiguousarray(image)
    padded = np.zeros((rule.height, rule.width, CHANNELS), np.uint8)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded


def encode_image(
    image: NDArray[np.uint8],
    encoding: Literal["png", "jpeg", "raw", "keep"],
    photograph: bool = False,
) -> tuple[bytes, Encoding]:
    """Returns the stored bytes of pixels, the same for the same pixels.

    Args:
        image: uint8 [H, W, 3], RGB.
        encoding: jpeg loses (quality 95); keep means png, since pixels have no bytes.
        photograph: Whether PNG is tuned for photographs or for drawn frames.
    """
    if encoding == "raw":
        return image.tobytes(), Encoding.RAW
    if encoding == "jpeg":
        stored, suffix, options = Encoding.JPEG, ".jpg", _JPEG_OPTIONS
    else:
        stored, suffix = Encoding.PNG, ".png"
        options = _PHOTOGRAPH_PNG if photograph else _FRAME_PNG
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise GatoError(f"OpenCV could not write an image of shape {image.shape}")
    return data.tobytes(), stored


def store_pixels(
    image: NDArray[np.uint8], rule: manifest.ImageRule, photograph: bool = False
) -> StoredImage:
    """Returns pixels as records hold them.

    Args:
        image: uint8 [H, W, 1 | 3 | 4].
        rule: The size it gets, and the encoding.
        photograph: Whether PNG is tuned for photographs or for drawn frames.
    """
    fitted = _fit(to_rgb(image), rule)
    data, encoding = encode_image(fitted, rule.encoding, photograph)
    return StoredImage(data, rule.height, rule.width, encoding, rule.encoding == "keep")


def store_encoded(
    data: bytes, header: ImageHeader, rule: manifest.ImageRule
) -> StoredImage:
    """Returns an encoded image as records hold it, its own bytes under `keep`.

    `keep` passes 8-bit grey or RGB PNG and JPEG without alpha or EXIF orientation whose
    sides need neither padding nor resizing; its pixels are then never decoded.

    Raises:
        QuarantineError: CORRUPT_IMAGE.
    """
    if rule.encoding == "keep" and _can_keep(header, rule):
        encoding = header.encoding or Encoding.PNG
        return StoredImage(data, rule.height, rule.width, encoding, False)
    return store_pixels(decode_image(data, header), rule, photograph=True)


def _can_keep(header: ImageHeader, rule: manifest.ImageRule) -> bool:
    return (
        header.encoding is not None
        and header.plain
        and header.orientation == 1
        and header.size == (rule.height, rule.width)
        and rule.resize in (None, header.size)
    )

"""What an encoded image's bytes say about it, read without decoding any pixel.

Guards the decoder: sizes are checked before memory is asked for, and truncated or
damaged files are told from whole ones (PNG by its chunks' CRCs and IEND, JPEG by its
EOI, WebP by its RIFF length), which not every OpenCV release does.
"""

import dataclasses
import struct
import zlib

from gato.schemas.errors import QuarantineError, Reason
from gato.schemas.record import Encoding

# More would be a decompression bomb, or a mistake.
MAX_PIXELS = 64_000_000

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_OTHER_FORMATS = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_PNG_GREY, _PNG_RGB = 0, 2
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Start-of-frame markers; of these only baseline, extended and progressive are common
# enough that every decoder reads them.
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PLAIN_SOF = frozenset({0xC0, 0xC1, 0xC2})
_ORIENTATION_TAG = 0x0112


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """An encoded image, as its header describes it.

    Attributes:
        encoding: PNG or JPEG; None for a format that is decoded but never stored.
        height: Rows as stored in the file, before any orientation is applied.
        width: Columns, likewise.
        plain: 8-bit grey or RGB without alpha.
        orientation: EXIF orientation, 1 (upright) to 8.
        grey_key: The grey value that a PNG declares transparent, in the file's depth.
        depth: Bits a sample.
    """

    encoding: Encoding | None
    height: int
    width: int
    plain: bool
    orientation: int = 1
    grey_key: int | None = None
    depth: int = 8

    @property
    def size(self) -> tuple[int, int]:
        """Height and width with the orientation applied."""
        if self.orientation >= 5:  # these transpose
            return self.width, self.height
        return self.height, self.width


def is_image(data: bytes) -> bool:
    """Whether bytes begin as a PNG, JPEG or WebP does."""
    return data.startswith((_PNG, _JPEG)) or (
        data.startswith(b"RIFF") and data[8:12] == b"WEBP"
    )


def read_header(data: bytes) -> ImageHeader:
    """Returns what an image's bytes say about it.

    Raises:
        QuarantineError: CORRUPT_IMAGE if they are truncated, damaged or no image,
            UNSUPPORTED for other formats, IMAGE_TOO_LARGE above 64 megapixels.
    """
    try:
        if data.startswith(_PNG):
            header = _read_png(data)
        elif data.startswith(_JPEG):
            header = _read_jpeg(data)
        elif is_image(data):
            header = _read_webp(data)
        else:
            raise _unknown_format(data)
    except (struct.error, IndexError) as error:
        raise _corrupt(data, "it ends inside a header") from error
    if header.height < 1 or header.width < 1:
        raise _corrupt(data, f"its size is {header.height} x {header.width}")
    if header.height * header.width > MAX_PIXELS:
        raise QuarantineError(
            Reason.IMAGE_TOO_LARGE,
            f"images have at most {MAX_PIXELS} pixels, got {header.height} x"
            f" {header.width}",
        )
    return header


def _corrupt(data: bytes, what: str) -> QuarantineError:
    return QuarantineError(
        Reason.CORRUPT_IMAGE, f"an image of {len(data)} bytes cannot be read: {what}"
    )


def _unknown_format(data: bytes) -> QuarantineError:
    for magic, name in _OTHER_FORMATS.items():
        if data.startswith(magic):
            return QuarantineError(
                Reason.UNSUPPORTED, f"images are PNG, JPEG or WebP, got {name}"
            )
    return _corrupt(data, f"it begins with {data[:8]!r}, as no PNG, JPEG or WebP does")


def _orientation(tiff: bytes) -> int:
    """Returns the orientation of EXIF data, 1 where it says none or is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(tiff[:2]))
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, offset)
        for entry in range(entries):
            tag, _, _, value = struct.unpack_from(
                f"{order}HHIH", tiff, offset + 2 + 12 * entry
            )
            if tag == _ORIENTATION_TAG:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def _read_png(data: bytes) -> ImageHeader:
    view = memoryview(data)
    at, kind = len(_PNG), b""
    width = height = depth = color = 0
    orientation, grey_key, transparent, has_pixels = 1, None, False, False
    while kind != b"IEND":
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        content = view[at + 8 : at + 8 + length]
        (crc,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(view[at + 4 : at + 8 + length]) != crc:
            raise _corrupt(data, f"the CRC of its chunk {kind!r} at byte {at} is wrong")
        if (at == len(_PNG)) != (kind == b"IHDR"):
            raise _corrupt(data, f"its chunk at byte {at} is {kind!r}")
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack_from(">IIBB", content)
            if color not in _PNG_CHANNELS:
                raise _corrupt(data, f"its colour type is {color}")
        elif kind == b"tRNS":
            transparent = True
            if color == _PNG_GREY:
                (grey_key,) = struct.unpack_from(">H", content)
        elif kind == b"eXIf":
            orientation = _orientation(bytes(content))
        elif kind == b"IDAT":
            has_pixels = True
        at += 12 + length
    if not has_pixels:
        raise _corrupt(data, "it has no IDAT chunk")
    plain = depth == 8 and color in (_PNG_GREY, _PNG_RGB) and not transparent
    return ImageHeader(
        encoding=Encoding.PNG,
        height=height,
        width=width,
        plain=plain,
        orientation=orientation,
        grey_key=grey_key,
        depth=depth,
    )


def _read_jpeg(data: bytes) -> ImageHeader:
    at, orientation = 2, 1
    frame: tuple[int, int, int, int, int] | None = None
    while True:
        if data[at] != 0xFF:
            raise _corrupt(data, f"there is no marker at byte {at}")
        while data[at] == 0xFF:  # fill bytes may precede a marker
            at += 1
        marker = data[at]
        at += 1
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        if marker == 0xD9:
            raise _corrupt(data, "it ends before any scan")
        (length,) = struct.unpack_from(">H", data, at)
        if marker in _SOF:
            frame = (marker, *struct.unpack_from(">BHHB", data, at + 2))
        elif marker == 0xE1 and data[at + 2 : at + 8] == b"Exif\0\0":
            orientation = _orientation(data[at + 8 : at + length])
        at += length
        if marker == 0xDA:
            break
    if frame is None:
        raise _corrupt(data, "a scan comes before any frame header")
    # Inside a scan, 0xFF is always followed by a zero or a restart marker.
    if data.find(b"\xff\xd9", at) < 0:
        raise _corrupt(data, "its end-of-image marker is missing; it is truncated")
    sof, depth, height, width, components = frame
    if depth != 8:
        raise QuarantineError(
            Reason.UNSUPPORTED, f"JPEG samples have 8 bits, got {depth}"
        )
    return ImageHeader(
        encoding=Encoding.JPEG,
        height=height,
        width=width,
        plain=sof in _PLAIN_SOF and components in (1, 3),
        orientation=orientation,
    )


def _read_webp(data: bytes) -> ImageHeader:
    (length,) = struct.unpack_from("<I", data, 4)
    if length + 8 > len(data):
        raise _corrupt(data, f"its header says {length + 8} bytes; it is truncated")
    size: tuple[int, int] | None = None
    at, orientation = 12, 1
    while at + 8 <= length + 8:
        kind = data[at : at + 4]
        (chunk,) = struct.unpack_from("<I", data, at + 4)
        start = at + 8
        if kind == b"VP8X":
            width = int.from_bytes(data[start + 4 : start + 7], "little") + 1
            height = int.from_bytes(data[start + 7 : start + 10], "little") + 1
            size = (height, width)
        elif kind == b"VP8 " and size is None:
            width, height = struct.unpack_from("<HH", data, start + 6)
            size = (height & 0x3FFF, width & 0x3FFF)
        elif kind == b"VP8L" and size is None:
            (bits,) = struct.unpack_from("<I", data, start + 1)
            size = ((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1)
        elif kind == b"ANIM":
            raise QuarantineError(
                Reason.UNSUPPORTED, "images are still, got an animated WebP"
            )
        elif kind == b"EXIF":
            exif = data[start : start + chunk].removeprefix(b"Exif\0\0")
            orientation = _orientation(exif)
        at = start + chunk + chunk % 2
    if size is None:
        raise _corrupt(data, "it has no picture chunk")
    return ImageHeader(
        encoding=None,
        height=size[0],
        width=size[1],
        plain=False,
        orientation=orientation,
    )

"""Image files made byte by byte, of kinds that OpenCV does not write."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6


def chunk(kind: bytes, content: bytes) -> bytes:
    """Returns one PNG chunk with its CRC."""
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def png(
    samples: NDArray[np.unsignedinteger],
    color: int,
    *,
    depth: int = 8,
    extra: bytes = b"",
    width: int | None = None,
) -> bytes:
    """Returns a PNG of packed rows.

    Args:
        samples: uint8 or uint16 [H, W(, channels)], or packed bytes [H, n].
        color: The PNG's colour type.
        depth: Bits a sample.
        extra: Chunks between IHDR and IDAT.
        width: Columns, where rows are packed.
    """
    height = samples.shape[0]
    rows = samples.astype(">u2") if depth == 16 else samples
    pixels = b"".join(b"\0" + row.tobytes() for row in rows)
    size = struct.pack(">II", width or samples.shape[1], height)
    return (
        PNG_SIGNATURE
        + chunk(b"IHDR", size + bytes((depth, color, 0, 0, 0)))
        + extra
        + chunk(b"IDAT", zlib.compress(pixels))
        + chunk(b"IEND", b"")
    )


def png_bomb(side: int = 50_000) -> bytes:
    """Returns a small, whole PNG that claims `side` x `side` black pixels.

    Its data is that of a few rows: a decoder that trusts the header asks for 7.5 GB.
    """
    rows = zlib.compress(bytes(100 * (3 * side + 1)), 9)
    header = struct.pack(">II", side, side) + bytes((8, RGB, 0, 0, 0))
    return (
        PNG_SIGNATURE
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def exif(orientation: int, order: str = ">") -> bytes:
    """Returns EXIF data that holds an orientation and nothing else."""
    magic = b"MM\0*" if order == ">" else b"II*\0"
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return magic + struct.pack(f"{order}IH", 8, 1) + entry + b"\0\0\0\0"


def with_jpeg_exif(data: bytes, orientation: int, order: str = ">") -> bytes:
    """Returns a JPEG with an EXIF segment after its start marker."""
    content = b"Exif\0\0" + exif(orientation, order)
    segment = b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
    return data[:2] + segment + data[2:]


def turn_upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Returns the stored image as a viewer shows it (EXIF 2.3, table of tag 274)."""
    return {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 1),
    }[orientation](image)

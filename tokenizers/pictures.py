"""Images as coloured characters: two pixels a cell, or a ramp of grey."""

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.style import Style
from rich.text import Text

_RAMP = " .:-=+*#%@"
# A cell is about twice as high as wide, and holds two pixels.
_PIXELS_A_CELL = 2


def _shrink(image: NDArray[np.uint8], columns: int, lines: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    scale = min(columns / width, _PIXELS_A_CELL * lines / height, 1)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def draw_image(
    image: NDArray[np.uint8], *, columns: int, lines: int, color: bool
) -> Text:
    """Returns an image as characters.

    Args:
        image: uint8 [H, W, 3].
        columns: Most cells in width.
        lines: Most cells in height.
        color: Whether the terminal has colours.
    """
    pixels = _shrink(image, columns, lines)
    if len(pixels) % _PIXELS_A_CELL:
        pixels = np.concatenate([pixels, pixels[-1:]])
    if not color:
        grey = pixels.mean(axis=2).reshape(-1, 2, pixels.shape[1]).mean(axis=1)
        ramp = np.array(list(_RAMP))
        cells = ramp[np.minimum(grey * len(_RAMP) / 256, len(_RAMP) - 1).astype(int)]
        return Text("\n".join("".join(line) for line in cells), no_wrap=True)
    text = Text(no_wrap=True)
    for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
        if text:
            text.append("\n")
        for above, below in zip(upper, lower, strict=True):
            style = Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below))
            text.append("▀", style)
    return text

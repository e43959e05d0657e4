"""Token ids of single values, written from the specification and nothing else.

Part of the independent re-tokenizer: imports nothing of ours. Bins are computed in
float64 and, next to a threshold, decided again in exact arithmetic.
"""

import decimal
import fractions
import functools
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 1024
TEXT, IMAGE, DISCRETE, CONTINUOUS, SEPARATOR = 1, 2, 3, 4, 5
DISCRETE_ACTION, CONTINUOUS_ACTION, PROMPT = 6, 7, 8

# A float64 bin coordinate (at most 1024) is right to about 1e-12.
_NEAR = 1e-6
_CONTEXT = decimal.Context(prec=60)
_LN_RANGE = _CONTEXT.ln(decimal.Decimal(100 * 256 + 1))


def keyed_hash(seed: int, purpose: str, *ids: str | int) -> int:
    """h(purpose, ids...): 64 bits of blake2b keyed by the seed."""
    message = "\0".join([purpose, *(str(i) for i in ids)]).encode("utf-8")
    digest = hashlib.blake2b(message, digest_size=8, key=seed.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little")


def is_drawn(seed: int, fraction: float, purpose: str, *ids: str | int) -> bool:
    """Whether h(purpose, ids...) falls below `fraction`."""
    return keyed_hash(seed, purpose, *ids) < fractions.Fraction(fraction) * 2**64


@functools.cache
def _exact_observation_bin(value: float) -> int:
    squashed = _CONTEXT.divide(
        _CONTEXT.ln(100 * abs(decimal.Decimal(value)) + 1), _LN_RANGE
    )
    if value < 0:
        squashed = -squashed
    coordinate = _CONTEXT.multiply(_CONTEXT.add(squashed, decimal.Decimal(1)), 512)
    floor = int(coordinate.to_integral_value(decimal.ROUND_FLOOR))
    return min(max(floor, 0), NUM_BINS - 1)


def observation_bins(values: NDArray[Any]) -> NDArray[np.int64]:
    """Mu-law, clip, 1024 uniform bins; values are finite, of any shape."""
    values = np.asarray(values, np.float64)
    squashed = np.sign(values) * np.log1p(100.0 * np.abs(values)) / np.log(25601.0)
    coordinate = (np.clip(squashed, -1.0, 1.0) + 1.0) * 512.0
    bins = np.clip(np.floor(coordinate), 0, NUM_BINS - 1).astype(np.int64)
    bins[values == 0] = 512
    near = np.abs(coordinate - np.round(coordinate)) < _NEAR
    near &= (values != 0) & (np.abs(values) < 257)
    for place in zip(*np.nonzero(near), strict=True):
        bins[place] = _exact_observation_bin(float(values[place]))
    return bins


@functools.cache
def _exact_action(value: float, low: float, high: float) -> fractions.Fraction:
    """The value mapped affinely from [low, high] to [-1, 1], without rounding."""
    exact, bottom, top = (fractions.Fraction(x) for x in (value, low, high))
    return 2 * (exact - bottom) / (top - bottom) - 1


def action_bins(
    values: NDArray[Any], low: NDArray[Any], high: NDArray[Any], clip: bool
) -> NDArray[np.int64] | None:
    """Bins of actions [T, A] with bounds [A]; None if one is out of range.

    Bounds of -1 and 1 are no scaling. The outermost bins take 1e-3 beyond them.
    """
    values = np.asarray(values, np.float64)
    low, high = (np.broadcast_to(b, values.shape) for b in (low, high))
    if clip:
        values = np.minimum(np.maximum(values, low), high)
    scaled = 2.0 * (values - low) / (high - low) - 1.0
    if (np.abs(scaled) > 1.0 + 1e-3).any():
        return None
    coordinate = (scaled + 1.0) * 512.0
    bins = np.floor(coordinate).astype(np.int64)
    near = np.abs(coordinate - np.round(coordinate)) < _NEAR
    for place in zip(*np.nonzero(near), strict=True):
        exact = _exact_action(*(float(a[place]) for a in (values, low, high)))
        bins[place] = (exact + 1) * 512 // 1
    return np.clip(bins, 0, NUM_BINS - 1)


def pad_image(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[H, W, 1|3|4] -> RGB with zeros at bottom and right to multiples of 16."""
    height, width, channels = pixels.shape
    if channels == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    if channels == 4:
        alpha = pixels[..., 3:].astype(np.float64) / 255
        flat = pixels[..., :3] * alpha + 255 * (1 - alpha)
        pixels = np.round(flat).astype(np.uint8)
    return np.pad(pixels, ((0, -height % 16), (0, -width % 16), (0, 0)))


def num_patches(pixels: NDArray[np.uint8]) -> int:
    """Slots of a padded image."""
    return pixels.shape[0] // 16 * (pixels.shape[1] // 16)


def clean_text(text: str | bytes) -> str | None:
    """Strict UTF-8 without a leading BOM and padding NULs; None if not UTF-8."""
    if isinstance(text, str):
        return text.removeprefix("\ufeff").rstrip("\0")
    try:
        return clean_text(bytes(text).decode("utf-8", "strict"))
    except UnicodeDecodeError:
        return None


def expert_window(num_episodes: int) -> int:
    """W = min(1000, ceil(0.1 * N)), the ceiling of the exact tenth."""
    return min(1000, -(-num_episodes // 10))


def expert_return(returns: Sequence[float]) -> float:
    """The largest mean of W consecutive returns, in collection order."""
    window = expert_window(len(returns))
    starts = range(len(returns) - window + 1)
    return max(math.fsum(returns[j : j + window]) / window for j in starts)


def is_expert(total: float, expert: float, fraction: float) -> bool:
    """return >= fraction * expert; below zero, expert - (1 - fraction) * |expert|.

    The bound is computed exactly from the decimal fraction and rounded once.
    """
    share = fractions.Fraction(str(fraction))
    best = fractions.Fraction(expert)
    bound = share * best if best >= 0 else best - (1 - share) * abs(best)
    return total >= float(bound)

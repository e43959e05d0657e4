"""Spaces as Minari's metadata.json writes them, and how a stored column becomes ours.

Gymnasium is not needed to read them. A space is flattened to leaves; the key of a leaf
joins the names of its Dict spaces and the places of its Tuple spaces with `/`. A space
that is a single leaf has the key `observation` or `action`.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gato.schemas.episode import Column, Space
from gato.schemas.errors import QuarantineError, Reason

_NO_SPACE = Space()

# Paths through Dict (names) and Tuple (places) spaces.
Path = tuple[str | int, ...]


def flat_key(path: Path, alone: str) -> str:
    """Returns the flattened key of a path; `alone` for a space that is one leaf.

    >>> flat_key(("arm", 0), "observation"), flat_key((), "observation")
    ('arm/0', 'observation')
    """
    return "/".join(map(str, path)) or alone


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaf:
    """One item of an observation or action.

    Attributes:
        path: Where it lies in nested spaces.
        key: Its flattened key.
        kind: What its space is; "unknown" where the metadata has no space.
        shape: Shape of one value; None where the metadata has no space.
        start: First value of a Discrete or MultiDiscrete space, subtracted on reading:
            a number or int64, of `shape`.
        space: What `Episode.action_spaces` says of it.
    """

    path: Path
    key: str
    kind: Literal["box", "integers", "text", "unknown"]
    shape: tuple[int, ...] | None = None
    start: int | NDArray[np.int64] = 0
    space: Space = _NO_SPACE

    def column(self, stored: Any) -> Column:
        """Returns T values as an `Episode` holds them.

        JPEG images are decoded to uint8 [T, H, W(, 3)] here, so that bytes never
        have to be told from text further on.

        Args:
            stored: An array [T, ...] of numbers, or T texts, or T encoded images (bytes
                or uint8 arrays).

        Raises:
            QuarantineError: If it does not agree with the space.
        """
        first = stored[0] if len(stored) else None
        if self.kind == "text" or isinstance(first, str):
            return _texts(stored, self.key)
        is_bytes = not isinstance(stored, np.ndarray) or stored.dtype.kind == "O"
        if is_bytes and (self.shape is None or len(self.shape) in (2, 3)):
            return _decode_images(stored, self.shape, self.key)
        if is_bytes or stored.dtype.kind not in "biuf":
            raise QuarantineError(
                Reason.WRONG_DTYPE,
                f"{self.key} must be numbers as its space says, got"
                f" {type(first).__name__ if is_bytes else stored.dtype}",
            )
        if self.kind == "integers":
            return self._integers(stored)
        return self._reshaped(stored)

    def _reshaped(self, values: NDArray[Any]) -> NDArray[Any]:
        if self.shape is None or values.shape[1:] == self.shape:
            return values
        if math.prod(values.shape[1:]) != math.prod(self.shape):
            raise QuarantineError(
                Reason.WRONG_SHAPE,
                f"{self.key} must have shape {self.shape} as its space says, got"
                f" {values.shape[1:]}",
            )
        return values.reshape(len(values), *self.shape)

    def _integers(self, values: NDArray[Any]) -> NDArray[Any]:
        if values.dtype.kind == "f":
            raise QuarantineError(
                Reason.WRONG_DTYPE,
                f"{self.key} must be integers as its space says, got {values.dtype}",
            )
        values = self._reshaped(values)
        if np.any(self.start):
            return values.astype(np.int64) - self.start
        return values


def _texts(stored: Any, key: str) -> list[str]:
    """Returns T texts of str or UTF-8 bytes."""
    values = stored.tolist() if isinstance(stored, np.ndarray) else stored
    try:
        return [v if isinstance(v, str) else bytes.decode(v) for v in values]
    except UnicodeDecodeError as error:
        raise QuarantineError(
            Reason.NOT_UTF8, f"{key} must be UTF-8: {error}"
        ) from error
    except TypeError as error:
        raise QuarantineError(
            Reason.WRONG_DTYPE, f"{key} must be texts as its space says: {error}"
        ) from error


def _decode_images(
    stored: Sequence[Any] | NDArray[Any], shape: tuple[int, ...] | None, key: str
) -> NDArray[np.uint8]:
    """Returns uint8 [T, H, W] or [T, H, W, 3] of T encoded images."""
    images: list[NDArray[np.uint8]] = []
    for index, data in enumerate(stored):
        image = _decode_image(data)
        if image is None:
            raise QuarantineError(
                Reason.CORRUPT_IMAGE,
                f"{key}: image {index} of {len(stored)} cannot be decoded",
            )
        expected = shape or (images[0].shape if images else image.shape)
        if image.shape != expected:
            raise QuarantineError(
                Reason.WRONG_SHAPE,
                f"{key}: image {index} must have shape {expected}, got {image.shape}",
            )
        images.append(image)
    return np.stack(images) if images else np.zeros((0, *(shape or ())), np.uint8)


def _decode_image(data: Any) -> NDArray[np.uint8] | None:
    try:
        encoded = np.frombuffer(data, np.uint8)
        image = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    except (cv2.error, TypeError, ValueError, BufferError):
        return None
    if image is not None and image.ndim == 3:
        image = np.ascontiguousarray(image[..., 2::-1])
    return None if image is None else image.astype(np.uint8, copy=False)


def parse_space(text: Any, alone: str) -> tuple[Leaf, ...] | None:
    """Returns the leaves of a space as metadata.json has it; None if it has none.

    Args:
        text: The JSON string under `observation_space` or `action_space`.
        alone: The key of a space that is one leaf: `observation` or `action`.

    Raises:
        QuarantineError: If it is no space, or one of a type that is not supported.
    """
    if text is None:
        return None
    try:
        content = json.loads(text) if isinstance(text, str) else text
        return tuple(_leaves(content, (), alone))
    except QuarantineError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise QuarantineError(
            Reason.CORRUPT_FILE,
            f"metadata.json: {alone}_space must be a space in JSON: {error!r}",
        ) from error


def _leaves(space: dict[str, Any], path: Path, alone: str) -> Iterator[Leaf]:
    match space["type"]:
        case "Dict":
            for name, child in space["subspaces"].items():
                yield from _leaves(child, (*path, name), alone)
        case "Tuple":
            for place, child in enumerate(space["subspaces"]):
                yield from _leaves(child, (*path, place), alone)
        case name if name in _PARSERS:
            key = flat_key(path, alone)
            yield Leaf(path=path, key=key, **_PARSERS[name](space, alone == "action"))
        case name:
            raise QuarantineError(
                Reason.UNSUPPORTED,
                f"a space must be one of Dict, Tuple, {', '.join(_PARSERS)}, got"
                f" {name!r} at {flat_key(path, alone)!r} of the {alone} space",
            )


def _box(space: dict[str, Any], is_action: bool) -> dict[str, Any]:
    shape = tuple(space["shape"])
    fields: dict[str, Any] = {"kind": "box", "shape": shape}
    # Bounds of observations are not used, and an image's are long lists.
    if is_action:
        fields["space"] = bounded_space(
            space["low"], space["high"], shape, np.dtype(space["dtype"])
        )
    return fields


def bounded_space(
    low: ArrayLike, high: ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Space:
    """Returns what bounds, of `shape` or broadcast to it, say of an action."""
    low = np.broadcast_to(np.asarray(low, np.float64), shape)
    high = np.broadcast_to(np.asarray(high, np.float64), shape)
    integer = dtype.kind in "biu" and low.size
    num_values = int(high.max()) + 1 if integer and low.min() >= 0 else None
    return Space(num_values=num_values, low=low, high=high)


def _discrete(space: dict[str, Any], is_action: bool) -> dict[str, Any]:
    return {
        "kind": "integers",
        "shape": (),
        "start": int(space.get("start", 0)),
        "space": Space(num_values=int(space["n"])),
    }


def _multi_discrete(space: dict[str, Any], is_action: bool) -> dict[str, Any]:
    nvec = np.asarray(space["nvec"], np.int64)
    start = np.asarray(space.get("start", np.zeros_like(nvec)), np.int64)
    return {
        "kind": "integers",
        "shape": nvec.shape,
        "start": start,
        "space": Space(num_values=int(nvec.max(initial=1))),
    }


def _multi_binary(space: dict[str, Any], is_action: bool) -> dict[str, Any]:
    size = space["n"]
    shape = tuple(size) if isinstance(size, list) else (int(size),)
    return {"kind": "integers", "shape": shape, "space": Space(num_values=2)}


def _text(space: dict[str, Any], is_action: bool) -> dict[str, Any]:
    return {"kind": "text", "shape": ()}


_PARSERS = {
    "Box": _box,
    "Discrete": _discrete,
    "MultiDiscrete": _multi_discrete,
    "MultiBinary": _multi_binary,
    "Text": _text,
}

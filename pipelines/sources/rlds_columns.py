"""Columns of an episode from one `tf.train.Example`, as features.json describes them.

How tensorflow-datasets stores N values of a leaf (one a step):

- a tensor: all numbers in one list, as int64 or float32; with encoding `bytes` or
  `zlib`, N byte strings; with several free sides, those under `/value` and N shapes
  under `/shape`;
- text and images: N byte strings;
- inside a sequence: the values of all steps under `/ragged_flat_values`, and how many
  each has under `/ragged_row_lengths_<depth>`.

bfloat16, which NumPy lacks, becomes float32; of the other types nothing is lost.
"""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gato.pipelines.sources.rlds_features import STEPS, Leaf
from gato.pipelines.sources.rlds_wire import Feature, WireError
from gato.schemas.episode import Column
from gato.schemas.errors import QuarantineError, Reason
from gato.schemas.record import PATCH_SIZE
from gato.tokenizers.image import decode_image
from gato.tokenizers.image_header import is_image, read_header

Features = Mapping[str, Feature]

# What one zlib string may unfold to where its shape does not say.
_MAX_VALUE_BYTES = 256 << 20


def step_columns(
    key: str,
    leaf: Leaf,
    features: Features,
    num_stored: int,
    num_steps: int,
    as_array: bool = False,
) -> dict[str, Column]:
    """Returns a leaf's values in the first `num_steps` of `num_stored` steps.

    Args:
        key: Its flattened key.
        leaf: Not of kind "unknown".
        features: The parsed Example.
        num_stored: Steps in the Example.
        num_steps: Steps that are timesteps; the values of others are not looked at.
        as_array: Whether images are decoded. Those with a side below 16, which are
            grids rather than pictures, always are.

    Returns:
        Columns by key: one, or of several texts or images a step one for each, whose
        keys end in `/<place>`; none of an optional leaf that the episode lacks.

    Raises:
        QuarantineError: If it disagrees with features.json.
    """
    name, extra = f"{STEPS}/{leaf.name}", ()
    if leaf.optional and name not in features:
        return {}
    stored, count = num_stored, num_steps
    for depth in range(len(leaf.sequence)):
        lengths = _integers(features, f"{name}/ragged_row_lengths_{depth}")
        _check_count(f"{name}/ragged_row_lengths_{depth}", len(lengths), stored)
        length = _common_length(name, lengths[:count])
        stored, count, extra = int(lengths.sum()), count * length, (*extra, length)
    if leaf.sequence:
        name += "/ragged_flat_values"
    if leaf.kind == "tensor":
        values = _tensor(leaf, features, name, stored, count)
        return {key: values.reshape(num_steps, *extra, *values.shape[1:])}
    strings, width = _strings(leaf, features, name, stored)
    strings = strings[: count * width]
    each = math.prod(extra) * width
    if not extra and (leaf.kind == "image" or not leaf.shape):
        return {key: _string_column(key, strings, leaf, as_array)}
    return {
        f"{key}/{place}": _string_column(key, strings[place::each], leaf, as_array)
        for place in range(each)
    }


def episode_values(leaf: Leaf, features: Features) -> NDArray[Any] | list[str] | None:
    """Returns the values of a leaf beside `steps`, flat; None if it has none.

    Raises:
        QuarantineError: If it disagrees with features.json.
    """
    if leaf.sequence or leaf.kind in ("image", "unknown"):
        return None
    if leaf.optional and leaf.name not in features:
        return None
    if leaf.kind == "tensor":
        return _tensor(leaf, features, leaf.name, 1, 1).reshape(-1)
    return _texts(leaf.name, _strings(leaf, features, leaf.name, 1)[0])


def count_values(leaf: Leaf, features: Features) -> int:
    """Returns the steps in an Example, from a leaf that has one number each.

    Raises:
        QuarantineError: If it is not there or damaged.
    """
    feature = _find(features, f"{STEPS}/{leaf.name}")
    if leaf.kind != "tensor" or leaf.encoding != "none":
        return len(_wired(leaf.name, feature.strings)) // math.prod(_fixed(leaf))
    read = feature.floats if feature.kind == "float" else feature.integers
    return len(_wired(leaf.name, read)) // max(1, math.prod(_fixed(leaf)))


def can_count(leaf: Leaf) -> bool:
    """Whether `count_values` applies: no sequence, one fixed shape."""
    is_fixed = None not in leaf.shape and 0 not in leaf.shape
    return not leaf.sequence and is_fixed and leaf.kind != "unknown"


def _fixed(leaf: Leaf) -> tuple[int, ...]:
    is_whole = leaf.kind == "image" or leaf.encoding != "none"
    return () if is_whole else tuple(size or 0 for size in leaf.shape)


def _find(features: Features, name: str) -> Feature:
    try:
        return features[name]
    except KeyError:
        raise QuarantineError(
            Reason.MISSING_FIELD,
            f"an episode must have {name!r}, as features.json says; it is not there",
        ) from None
    except WireError as error:
        raise QuarantineError(Reason.CORRUPT_RECORD, f"{name!r}: {error}") from error


def _wired(name: str, read: Any) -> Any:
    try:
        return read()
    except WireError as error:
        raise QuarantineError(Reason.CORRUPT_RECORD, f"{name!r}: {error}") from error


def _wrong_kind(name: str, expected: str, found: str) -> QuarantineError:
    return QuarantineError(
        Reason.WRONG_DTYPE,
        f"{name!r} must be a list of {expected}, as features.json says, got {found}",
    )


def _check_count(name: str, found: int, expected: int) -> None:
    if found != expected:
        raise QuarantineError(
            Reason.WRONG_SHAPE, f"{name!r} must have {expected} values, got {found}"
        )


def _integers(features: Features, name: str) -> NDArray[np.int64]:
    feature = _find(features, name)
    if feature.kind not in ("int64", None):
        raise _wrong_kind(name, "int64", feature.kind or "nothing")
    return _wired(name, feature.integers)


def _common_length(name: str, lengths: NDArray[np.int64]) -> int:
    if not len(lengths):
        return 0
    low, high = int(lengths.min()), int(lengths.max())
    if low != high or low < 0:
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"{name!r}: a timestep's shape must not change within an episode, got"
            f" sequences of {low} to {high} values. Leave it out with"
            " observations.exclude.",
        )
    return low


def _tensor(
    leaf: Leaf, features: Features, name: str, stored: int, count: int
) -> NDArray[Any]:
    """Returns the first `count` of `stored` values, [count, *shape]."""
    if leaf.encoding != "none":
        return _encoded_tensor(leaf, features, name, stored, count)
    if leaf.dtype in ("bfloat16", "float16", "float32", "float64"):
        feature = _find(features, name)
        if feature.kind not in ("float", None):
            raise _wrong_kind(name, "float", feature.kind or "nothing")
        flat = _wired(name, feature.floats)
        if leaf.dtype not in ("float32", "bfloat16"):
            flat = flat.astype(leaf.dtype)
    else:
        flat = _cast_integers(name, _integers(features, name), leaf.dtype)
    shape = _full_shape(name, leaf.shape, len(flat), stored)
    return flat.reshape(stored, *shape)[:count]


def _cast_integers(name: str, values: NDArray[np.int64], dtype: str) -> NDArray[Any]:
    if dtype == "int64":
        return values
    if dtype == "uint64":  # stored as the int64 of the same bits
        return values.view(np.uint64)
    cast = values.astype(dtype)
    if dtype != "bool" and not (cast == values).all():
        raise QuarantineError(
            Reason.WRONG_DTYPE,
            f"{name!r} must be {dtype}, as features.json says, got values from"
            f" {values.min()} to {values.max()}",
        )
    return cast


def _full_shape(
    name: str, shape: tuple[int | None, ...], size: int, count: int
) -> tuple[int, ...]:
    """Returns the shape of one of `count` values that have `size` numbers together."""
    fixed = math.prod(side for side in shape if side is not None)
    free = 0
    if None in shape and count * fixed:
        free = size // (count * fixed)
    full = tuple(free if side is None else side for side in shape)
    if count * math.prod(full) != size:
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"{name!r} must have shape {list(shape)} in each of {count} values, as"
            f" features.json says, got {size} numbers together",
        )
    return full


def _encoded_tensor(
    leaf: Leaf, features: Features, name: str, stored: int, count: int
) -> NDArray[Any]:
    dtype = np.dtype("uint16" if leaf.dtype == "bfloat16" else leaf.dtype)
    shape = leaf.shape
    if shape.count(None) > 1:
        shapes = _integers(features, f"{name}/shape")
        _check_count(f"{name}/shape", len(shapes), stored * len(shape))
        shape = _common_shape(name, shapes.reshape(stored, -1)[:count])
        name += "/value"
    feature = _find(features, name)
    if feature.kind not in ("bytes", None):
        raise _wrong_kind(name, "bytes", feature.kind or "nothing")
    size = dtype.itemsize * math.prod(side for side in shape if side is not None)
    table = None
    if leaf.encoding == "bytes" and None not in shape:
        table = feature.blocks(size)
    if table is not None:
        _check_count(name, len(table), stored)
        raw = np.ascontiguousarray(table[:count])
        values = raw.view(dtype) if size else np.zeros((count, 0), dtype)
        values = values.reshape(count, *shape)
    else:
        strings = _wired(name, feature.strings)
        _check_count(name, len(strings), stored)
        limit = _MAX_VALUE_BYTES if None in shape else size
        if leaf.encoding == "zlib":
            strings = [_inflate(name, s, limit) for s in strings[:count]]
        values = _stacked(name, strings[:count], dtype, shape)
    if leaf.dtype == "bfloat16":  # the upper half of a float32
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values


def _common_shape(name: str, shapes: NDArray[np.int64]) -> tuple[int, ...]:
    if len(shapes) and (shapes != shapes[0]).any():
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"{name!r}: a timestep's shape must not change within an episode, got"
            f" {np.unique(shapes, axis=0)[:2].tolist()}. Leave it out with"
            " observations.exclude.",
        )
    return tuple(shapes[0].tolist()) if len(shapes) else ()


def _inflate(name: str, data: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        value = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise QuarantineError(
            Reason.CORRUPT_RECORD, f"{name!r} must be zlib data: {error}"
        ) from error
    if not inflater.eof and len(value) <= limit:
        raise QuarantineError(
            Reason.CORRUPT_RECORD, f"{name!r}: its zlib data is truncated"
        )
    return value


def _stacked(
    name: str, strings: list[bytes], dtype: np.dtype, shape: tuple[int | None, ...]
) -> NDArray[Any]:
    sizes = {len(string) for string in strings}
    size = sizes.pop() if sizes else 0
    if sizes or size % dtype.itemsize:
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"{name!r}: each value must have the same whole number of {dtype}s, got"
            f" {size} and {sorted(sizes)} bytes",
        )
    numbers = len(strings) * size // dtype.itemsize
    full = _full_shape(name, shape, numbers, len(strings))
    return np.frombuffer(b"".join(strings), dtype).reshape(len(strings), *full)


def _strings(
    leaf: Leaf, features: Features, name: str, stored: int
) -> tuple[list[bytes], int]:
    """Returns all byte strings of a leaf, and how many one value has."""
    feature = _find(features, name)
    if feature.kind not in ("bytes", None):
        raise _wrong_kind(name, "bytes", feature.kind or "nothing")
    strings = _wired(name, feature.strings)
    shape = () if leaf.kind == "image" else leaf.shape
    return strings, math.prod(_full_shape(name, shape, len(strings), stored))


def _string_column(
    key: str, strings: list[bytes], leaf: Leaf, as_array: bool
) -> Column:
    # Some data sets hold encoded images in plain string tensors.
    if not strings or (leaf.kind == "text" and not is_image(strings[0])):
        return _texts(key, strings)
    for place, data in enumerate(strings):
        if not data:
            raise QuarantineError(
                Reason.MISSING_IMAGE, f"{key!r}: step {place} has no image"
            )
    if not (as_array or min(read_header(strings[0]).size) < PATCH_SIZE):
        return strings
    channels = leaf.shape[2] if len(leaf.shape) == 3 else None
    images = [_pixels(data, channels) for data in strings]
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"{key!r}: a timestep's shape must not change within an episode, got"
            f" {shapes[:2]}",
        )
    return np.stack(images)


def _pixels(data: bytes, channels: int | None) -> NDArray[Any]:
    if channels == 3:
        return decode_image(data)
    read_header(data)  # refuses what is no image, or too large a one
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise QuarantineError(
            Reason.CORRUPT_IMAGE, f"an image of {len(data)} bytes cannot be decoded"
        )
    if image.ndim == 2:
        image = image[:, :, None]
    elif image.shape[2] >= 3:
        image = image[:, :, [2, 1, 0, 3][: image.shape[2]]]
    if channels not in (None, image.shape[2]):
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"an image must have {channels} channels, as features.json says, got"
            f" {image.shape[2]}",
        )
    return image


def _texts(key: str, strings: list[bytes]) -> list[str]:
    try:
        return [string.decode() for string in strings]
    except UnicodeDecodeError as error:
        raise QuarantineError(
            Reason.NOT_UTF8, f"{key!r} must be UTF-8: {error}"
        ) from error

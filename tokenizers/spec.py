"""A task's timestep as its first episode shows it (design.md section 3)."""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gato.schemas.config import Dataset
from gato.schemas.episode import Column, Episode, Space
from gato.schemas.errors import QuarantineError, Reason, UsageError
from gato.schemas.manifest import ActionSpec, ImageRule, ObservationSpec, TaskSpec
from gato.schemas.record import PATCH_SIZE
from gato.tokenizers.image import make_rule
from gato.tokenizers.image_header import is_image, read_header
from gato.tokenizers.returns import RETURN_KEY
from gato.tokenizers.vocabulary import NUM_BINS

_Kind = Literal["text", "image", "discrete", "continuous"]
_IMAGE_CHANNELS = (1, 3, 4)
TEXT_DTYPE = "str"


class ColumnType(NamedTuple):
    """What a column holds.

    Attributes:
        storage: "text", "encoded" (images as bytes) or "array".
        dtype: NumPy name; "str" for text, "uint8" for encoded images.
        shape: Of one timestep's value; empty for text.
    """

    storage: Literal["text", "encoded", "array"]
    dtype: str
    shape: tuple[int, ...]


def column_type(column: Column) -> ColumnType:
    """Returns what a column holds, from its first value.

    Raises:
        QuarantineError: EMPTY, WRONG_DTYPE, or what is wrong with an encoded image.
    """
    if isinstance(column, np.ndarray) and column.dtype.kind in "biuf":
        return ColumnType("array", column.dtype.name, column.shape[1:])
    if len(column) == 0:
        raise QuarantineError(Reason.EMPTY, "an episode has timesteps, got none")
    first = column[0]
    if isinstance(first, bytes) and is_image(first):
        return ColumnType("encoded", "uint8", (*read_header(first).size, 3))
    if isinstance(first, str | bytes):
        return ColumnType("text", TEXT_DTYPE, ())
    found = column.dtype if isinstance(column, np.ndarray) else type(first).__name__
    raise QuarantineError(
        Reason.WRONG_DTYPE, f"values are numbers, texts or images, got {found}"
    )


def _looks_like_image(shape: tuple[int, ...]) -> bool:
    return (
        len(shape) == 3 and shape[2] in _IMAGE_CHANNELS and min(shape[:2]) >= PATCH_SIZE
    )


def _infer_kind(found: ColumnType) -> _Kind:
    if found.storage == "text":
        return "text"
    if found.storage == "encoded":
        return "image"
    if found.dtype == "uint8" and _looks_like_image(found.shape):
        return "image"
    return "continuous" if np.dtype(found.dtype).kind == "f" else "discrete"


def _allows(found: ColumnType, kind: _Kind) -> bool:
    """Whether a column can be read as a kind that the config asks for."""
    if found.storage != "array":
        return kind == _infer_kind(found)
    if kind == "image":
        channels = found.shape[2:] or (1,)  # [H, W] is grey
        return (
            found.dtype == "uint8"
            and len(found.shape) in (2, 3)
            and channels[0] in _IMAGE_CHANNELS
        )
    if kind == "discrete":
        return np.dtype(found.dtype).kind in "biu"
    return kind == "continuous"


def _matches(key: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)


def selected_keys(columns: Mapping[str, Column], dataset: Dataset) -> list[str]:
    """Returns the observation keys that the config includes, in lexicographic order.

    Raises:
        QuarantineError: MISSING_FIELD if there is none.
    """
    rule = dataset.observations
    keys = sorted(
        key
        for key in columns
        if _matches(key, rule.include) and not _matches(key, rule.exclude)
    )
    if not keys:
        raise QuarantineError(
            Reason.MISSING_FIELD,
            f"a timestep has an observation; of {sorted(columns)} none is left by"
            f" include {list(rule.include)} and exclude {list(rule.exclude)}",
        )
    return keys


def _observation_spec(key: str, column: Column, dataset: Dataset) -> ObservationSpec:
    try:
        found = column_type(column)
    except QuarantineError as error:
        raise QuarantineError(
            error.reason, f"observation {key!r}: {error.detail}"
        ) from error
    kind = dataset.observations.kinds.get(key, _infer_kind(found))
    if not _allows(found, kind):
        raise UsageError(
            f"{dataset.name}: observations.kinds says that {key!r} is {kind}, but it"
            f" holds {found.dtype} of shape {list(found.shape)}: text must be strings,"
            " images uint8 [H, W, 1|3|4] or [H, W], discrete values integers or"
            " booleans. Change the kind, or exclude the key."
        )
    image: ImageRule | None = None
    if kind == "image":
        image = make_rule(found.shape[0], found.shape[1], dataset.image)
    return ObservationSpec(
        key=key, kind=kind, dtype=found.dtype, shape=found.shape, image=image
    )


def _finite_bounds(
    space: Space, shape: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Returns (low, high), flat, if both are known and span a finite range."""
    if space.low is None or space.high is None:
        return None
    try:
        low, high = (
            np.broadcast_to(np.asarray(bound, np.float64), shape).ravel()
            for bound in (space.low, space.high)
        )
    except ValueError as error:
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"bounds of an action have its shape {list(shape)}, got"
            f" {list(np.shape(space.low))}",
        ) from error
    with np.errstate(over="ignore", invalid="ignore"):
        usable = np.isfinite(high - low) & (high > low)
    return (low, high) if usable.all() else None


def _continuous_spec(
    key: str,
    shape: tuple[int, ...],
    space: Space,
    explicit: tuple[tuple[float, ...], tuple[float, ...]] | None,
    dataset: Dataset,
) -> ActionSpec:
    scale = dataset.actions.scale
    if explicit is not None:
        low, high = explicit
    elif scale == "none":
        low = high = None
    else:
        bounds = _finite_bounds(space, shape)
        if bounds is None and scale == "space":
            raise UsageError(
                f"{dataset.name}: actions.scale is 'space', but the format gives no"
                f" finite bounds low < high for action {key!r}. Write them as"
                " [[low...], [high...]], or use 'none' for actions in [-1, 1]."
            )
        if bounds is not None and scale == "auto":
            already = bool((bounds[0] == -1).all() and (bounds[1] == 1).all())
            bounds = None if already else bounds
        low, high = (None, None) if bounds is None else map(_floats, bounds)
    return ActionSpec(
        key=key,
        kind="continuous",
        shape=shape,
        low=low,
        high=high,
        scale="none" if low is None else "space",
    )


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(values.tolist())


def _action_specs(episode: Episode, dataset: Dataset) -> list[ActionSpec]:
    found: dict[str, ColumnType] = {}
    for key in sorted(episode.actions):
        kind = column_type(episode.actions[key])
        if kind.storage != "array":
            raise QuarantineError(
                Reason.UNSUPPORTED,
                f"action {key!r}: actions are numbers, got {kind.storage}",
            )
        found[key] = kind
    continuous = [k for k, t in found.items() if np.dtype(t.dtype).kind == "f"]
    explicit = _explicit_bounds([found[key].shape for key in continuous], dataset)
    specs = []
    for key, kind in found.items():
        space = episode.action_spaces.get(key, Space())
        if key in continuous:
            bounds = explicit[continuous.index(key)] if explicit else None
            specs.append(_continuous_spec(key, kind.shape, space, bounds, dataset))
        else:
            specs.append(
                ActionSpec(
                    key=key,
                    kind="discrete",
                    shape=kind.shape,
                    num_values=space.num_values
                    or (2 if kind.dtype == "bool" else None),
                )
            )
    return specs


def _explicit_bounds(
    shapes: Sequence[tuple[int, ...]], dataset: Dataset
) -> list[tuple[tuple[float, ...], tuple[float, ...]]] | None:
    """Returns (low, high) of each continuous item, cut from the config's lists.

    The lists run over all continuous items in key order, row-major.
    """
    scale = dataset.actions.scale
    if isinstance(scale, str):
        return None
    low, high = scale
    sizes = [int(np.prod(shape)) for shape in shapes]
    if sum(sizes) != len(low):
        raise UsageError(
            f"{dataset.name}: actions.scale gives {len(low)} bounds, but the continuous"
            f" actions have {sum(sizes)} dimensions. Give one low and one high for"
            " each, in lexicographic order of the keys, row-major."
        )
    bounds, at = [], 0
    for size in sizes:
        bounds.append((low[at : at + size], high[at : at + size]))
        at += size
    return bounds


def infer_spec(episode: Episode, dataset: Dataset) -> TaskSpec:
    """Returns order, kinds, image rules and action ranges of an episode's timesteps.

    Args:
        episode: Its columns' dtypes and shapes decide, and its action spaces; its
            return is among them where the data set is conditioned on it.
        dataset: Includes, excludes and overrides.

    Raises:
        QuarantineError: MISSING_FIELD without an observation or an action, EMPTY, or
            what is wrong with a column.
        UsageError: If the config asks for what the data cannot give.
    """
    keys = selected_keys(episode.observations, dataset)
    if dataset.condition_on_return:
        # Asked for by its own option, whatever the patterns say.
        keys = sorted({*keys, RETURN_KEY})
    if not episode.actions:
        raise QuarantineError(
            Reason.MISSING_FIELD, "a timestep has an action; the episode has none"
        )
    return TaskSpec(
        observations=tuple(
            _observation_spec(key, episode.observations[key], dataset) for key in keys
        ),
        actions=tuple(_action_specs(episode, dataset)),
    )


def num_values(spec: ActionSpec) -> int:
    """Returns n of a discrete action with ids [0, n)."""
    return min(spec.num_values or NUM_BINS, NUM_BINS)

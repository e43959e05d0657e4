"""Episodes to tokens: order, separator, kinds; and action tokens back to actions.

One timestep is `[observation tokens, separator, action tokens]`; items stand in
lexicographic order of their flattened keys, tensors row-major (specification.md section
2). The builder and the policy call the same code with the same spec.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.schemas.episode import Column
from gato.schemas.errors import QuarantineError, Reason
from gato.schemas.manifest import ActionSpec, ObservationSpec, TaskSpec
from gato.schemas.record import Kind, token_dtype
from gato.tokenizers import continuous, discrete
from gato.tokenizers.action_scale import ActionScale
from gato.tokenizers.image import StoredImage, store_encoded, store_pixels
from gato.tokenizers.image_header import read_header
from gato.tokenizers.slots import Block, join_blocks
from gato.tokenizers.spec import column_type, num_values
from gato.tokenizers.spec import infer_spec as infer_spec
from gato.tokenizers.text import TextTokenizer
from gato.tokenizers.vocabulary import NUM_BINS

# On top of `Kind` inside fragments only: the slot is text of a question.
QUESTION_BIT = 16


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TokenizedItem:
    """One episode or document as tokens, N slots, T timesteps.

    Attributes:
        tokens: uint16 or int32 [N]; 0 in image slots.
        kind: uint8 [N]; `Kind`, maybe with `QUESTION_BIT`.
        step_slots: int32 [T]; slots of each timestep, one entry for a document.
        images: Encoded images in slot order.
        image_info: int32 [n, 3]; height, width, `Encoding`.
        content_hash: 32 hex digits; equal content has equal hashes.
        reencoded: Images that `keep` could not pass through.
        image_starts: The first slot of each image of an interleaved page, between which
            it may be cut; None of what is no page, or has no images.
    """

    tokens: NDArray[np.integer]
    kind: NDArray[np.uint8]
    step_slots: NDArray[np.int32]
    images: list[bytes]
    image_info: NDArray[np.int32]
    content_hash: str
    reencoded: int
    image_starts: tuple[int, ...] | None = None


def image_table(images: list[StoredImage]) -> NDArray[np.int32]:
    """Returns `image_info`, int32 [n, 3]."""
    if not images:
        return np.zeros((0, 3), np.int32)
    rows = [(image.height, image.width, image.encoding) for image in images]
    return np.array(rows, np.int32)


def hash_content(*parts: Any) -> str:
    """Returns 32 hex digits of blake2b over buffers, one after the other."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(part)
    return state.hexdigest()


def _num_steps(columns: Mapping[str, Column]) -> int:
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"all columns of an episode have one entry a timestep, got {lengths}",
        )
    steps = next(iter(lengths.values()))
    if steps == 0:
        raise QuarantineError(Reason.EMPTY, "an episode has timesteps, got none")
    return steps


def _numbers(column: Column, kinds: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Returns a column's array once dtype and shape are what the spec says."""
    array = np.asarray(column)
    if array.dtype.kind not in kinds:
        expected = "floats" if kinds == "f" else "integers or booleans"
        raise QuarantineError(
            Reason.WRONG_DTYPE, f"the task's spec says {expected}, got {array.dtype}"
        )
    if array.shape[1:] != shape:
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"the task's spec says shape {list(shape)}, got {list(array.shape[1:])}",
        )
    return array


class TimestepTokenizer:
    """Tokenizes the timesteps of one task."""

    def __init__(
        self, spec: TaskSpec, tokenizer: TextTokenizer, clip: bool = False
    ) -> None:
        """Prepares tokenization.

        Args:
            spec: The task's timestep.
            tokenizer: Of the build's SentencePiece model.
            clip: Whether actions are clipped to the bounds in use before scaling.
        """
        self.spec = spec
        self._tokenizer = tokenizer
        self._vocabulary = tokenizer.vocabulary
        self._dtype = np.dtype(token_dtype(tokenizer.vocabulary.size))
        self._clip = clip
        self._scales = {
            action.key: ActionScale(action.low, action.high)
            for action in spec.actions
            if action.low is not None and action.high is not None
        }

    def encode(
        self, observations: Mapping[str, Column], actions: Mapping[str, Column]
    ) -> TokenizedItem:
        """Returns the tokens of T timesteps.

        Args:
            observations: Columns by key; keys that the spec does not name are ignored.
            actions: Likewise.

        Raises:
            QuarantineError: If a column is missing, or a value cannot be a token.
        """
        observed = _pick(observations, self.spec.observations, "observation")
        acted = _pick(actions, self.spec.actions, "action")
        both = {f"observation {k}": c for k, c in observed.items()}
        steps = _num_steps(both | {f"action {k}": c for k, c in acted.items()})
        blocks, images = self._observation_blocks(observed)
        separator = np.full((steps, 1), self._vocabulary.separator, self._dtype)
        blocks.append(Block(Kind.SEPARATOR, separator))
        for spec in self.spec.actions:
            with _naming(f"action {spec.key!r}"):
                blocks.append(self._action_block(spec, acted[spec.key]))
        return self._assemble(blocks, images, steps)

    def encode_observations(self, observations: Mapping[str, Column]) -> TokenizedItem:
        """Returns the observation tokens of T timesteps, for the policy.

        Raises:
            QuarantineError: If a column is missing, or a value cannot be a token.
        """
        observed = _pick(observations, self.spec.observations, "observation")
        steps = _num_steps(observed)
        blocks, images = self._observation_blocks(observed)
        return self._assemble(blocks, images, steps)

    def action_ranges(self) -> NDArray[np.int32]:
        """Returns the ids each action token may have, int32 [A, 2]: [low, high)."""
        first = self._vocabulary.first_continuous
        ranges: list[tuple[int, int]] = []
        for spec in self.spec.actions:
            bounds = (first, first + NUM_BINS)
            if spec.kind == "discrete":
                bounds = (0, num_values(spec))
            ranges += [bounds] * int(np.prod(spec.shape))
        return np.array(ranges, np.int32).reshape(-1, 2)

    def decode_actions(
        self, tokens: NDArray[np.integer]
    ) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """Returns actions in the environment's own units, [..., *shape] by key.

        Args:
            tokens: Integers [..., A], ids within `action_ranges`.

        Raises:
            ValueError: If an id is outside its range, or A is another number.
        """
        tokens = np.asarray(tokens, np.int64)
        ranges = self.action_ranges()
        if tokens.shape[-1:] != (len(ranges),):
            raise ValueError(
                f"a timestep has {len(ranges)} action tokens, got {tokens.shape[-1:]}"
            )
        outside = (tokens < ranges[:, 0]) | (tokens >= ranges[:, 1])
        if outside.any():
            place = tuple(int(i) for i in np.argwhere(outside)[0])
            low, high = ranges[place[-1]].tolist()
            raise ValueError(
                f"action token {place[-1]} lies in [{low}, {high}), got"
                f" {tokens[place]}; mask the logits to action_ranges()."
            )
        decoded, at = {}, 0
        for spec in self.spec.actions:
            size = int(np.prod(spec.shape))
            own = tokens[..., at : at + size]
            shape = (*tokens.shape[:-1], *spec.shape)
            decoded[spec.key] = self._decode_action(spec, own).reshape(shape)
            at += size
        return decoded

    def _decode_action(
        self, spec: ActionSpec, tokens: NDArray[np.int64]
    ) -> NDArray[np.float64] | NDArray[np.int64]:
        if spec.kind == "discrete":
            return discrete.decode(tokens)
        bins = tokens - self._vocabulary.first_continuous
        scale = self._scales.get(spec.key)
        return continuous.decode_action(bins) if scale is None else scale.decode(bins)

    def _observation_blocks(
        self, columns: Mapping[str, Column]
    ) -> tuple[list[Block], list[StoredImage]]:
        blocks: list[Block] = []
        by_item: list[list[StoredImage]] = []
        for spec in self.spec.observations:
            column = columns[spec.key]
            with _naming(f"observation {spec.key!r}"):
                if spec.kind == "image":
                    images = list(_store_frames(spec, column))
                    by_item.append(images)
                    # All frames of an item have the size of its rule.
                    shape = (len(images), images[0].num_patches)
                    zeros = np.zeros(shape, self._dtype)
                    blocks.append(Block(Kind.IMAGE, zeros))
                elif spec.kind == "text":
                    blocks.append(self._text_block(column))
                else:
                    blocks.append(self._number_block(spec, column))
        # Slot order: all of a timestep's images before the next timestep's.
        return blocks, [image for step in zip(*by_item, strict=True) for image in step]

    def _number_block(self, spec: ObservationSpec, column: Column) -> Block:
        kinds = "f" if np.dtype(spec.dtype).kind == "f" else "biu"
        array = _numbers(column, kinds, spec.shape)
        if spec.kind == "discrete":
            return Block(Kind.DISCRETE_OBSERVATION, _flat_steps(discrete.encode(array)))
        bins = continuous.encode_observation(array)
        return Block(Kind.CONTINUOUS_OBSERVATION, self._bin_ids(bins))

    def _action_block(self, spec: ActionSpec, column: Column) -> Block:
        if spec.kind == "discrete":
            array = _numbers(column, "biu", spec.shape)
            ids = discrete.encode(array, num_values(spec))
            return Block(Kind.DISCRETE_ACTION, _flat_steps(ids))
        array = continuous.to_float64(_numbers(column, "f", spec.shape))
        scale = self._scales.get(spec.key)
        if scale is None:
            array = np.clip(array, -1, 1) if self._clip else array
            bins = continuous.encode_action(array)
        else:
            flat = _flat_steps(array)
            bins = scale.encode(scale.clip(flat) if self._clip else flat)
        return Block(Kind.CONTINUOUS_ACTION, self._bin_ids(bins))

    def _bin_ids(self, bins: NDArray[np.int16]) -> NDArray[np.integer]:
        ids = _flat_steps(bins).astype(self._dtype)
        ids += self._dtype.type(self._vocabulary.first_continuous)
        return ids

    def _text_block(self, column: Column) -> Block:
        """Encodes each distinct text once: a mission stays the same for an episode."""
        texts = column.tolist() if isinstance(column, np.ndarray) else column
        number: dict[str | bytes, int] = {}
        try:
            places = np.array([number.setdefault(t, len(number)) for t in texts])
        except TypeError as error:
            raise QuarantineError(Reason.WRONG_DTYPE, "texts are strings") from error
        for text in number:
            if not isinstance(text, str | bytes):
                raise QuarantineError(
                    Reason.WRONG_DTYPE, f"texts are strings, got {text!r:.50}"
                )
        encoded = self._tokenizer.encode_batch(list(number))
        sizes = np.array([len(ids) for ids in encoded], np.int64)
        flat = np.concatenate(encoded).astype(self._dtype)
        if (sizes == sizes[0]).all():
            return Block(Kind.TEXT, flat.reshape(len(sizes), int(sizes[0]))[places])
        starts = np.cumsum(sizes) - sizes
        return Block(Kind.TEXT, flat, sizes[places], starts[places])

    def _assemble(
        self, blocks: list[Block], images: list[StoredImage], steps: int
    ) -> TokenizedItem:
        tokens, kind, step_slots = join_blocks(blocks, steps, self._dtype)
        data = [image.data for image in images]
        little_endian = tokens.astype(tokens.dtype.newbyteorder("<"), copy=False)
        return TokenizedItem(
            tokens=tokens,
            kind=kind,
            step_slots=step_slots,
            images=data,
            image_info=image_table(images),
            content_hash=hash_content(little_endian, *data),
            reencoded=sum(image.reencoded for image in images),
        )


class _naming:
    """Says which item of a timestep a verdict is about."""

    def __init__(self, item: str) -> None:
        self._item = item

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, QuarantineError):
            raise QuarantineError(
                error.reason, f"{self._item}: {error.detail}"
            ) from error


def _pick(
    columns: Mapping[str, Column],
    specs: tuple[ObservationSpec, ...] | tuple[ActionSpec, ...],
    what: str,
) -> dict[str, Column]:
    missing = [spec.key for spec in specs if spec.key not in columns]
    if missing:
        raise QuarantineError(
            Reason.MISSING_FIELD,
            f"the task's spec names {what} {missing[0]!r}, got {sorted(columns)}",
        )
    return {spec.key: columns[spec.key] for spec in specs}


def _flat_steps(array: NDArray[Any]) -> NDArray[Any]:
    """Returns [T, n] of [T, *shape], row-major."""
    return array.reshape(len(array), -1)


def _store_frames(spec: ObservationSpec, column: Column) -> Iterator[StoredImage]:
    rule = spec.image
    if rule is None:
        raise ValueError(f"the spec of image {spec.key!r} has no image rule")
    if column_type(column).storage == "encoded":
        for data in column:
            if not isinstance(data, bytes):
                raise QuarantineError(
                    Reason.WRONG_DTYPE, f"images are bytes, got {type(data).__name__}"
                )
            header = read_header(data)
            if (*header.size, 3) != spec.shape:
                raise QuarantineError(
                    Reason.WRONG_SHAPE,
                    f"the task's spec says {list(spec.shape)}, got an image of"
                    f" {list(header.size)}",
                )
            yield store_encoded(data, header, rule)
        return
    frames = _numbers(column, "biu", spec.shape)
    if frames.dtype != np.uint8:
        raise QuarantineError(
            Reason.WRONG_DTYPE, f"pixels are uint8, got {frames.dtype}"
        )
    if frames.ndim == 3:
        frames = frames[..., None]
    for frame in frames:
        yield store_pixels(frame, rule)

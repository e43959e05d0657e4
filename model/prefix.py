"""What the policy feeds: slots of timesteps, of demonstrations and of documents.

All of it comes from the builder's own tokenizers, so the model meets at deployment the
ids, kinds, local positions and pixels that it was trained on.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gato.schemas.config import Image
from gato.schemas.episode import Document, ImagePart, TextPart
from gato.schemas.record import (
    KIND_MASK,
    MAX_LOCAL_POSITION,
    PATCH_SIZE,
    Kind,
    Row,
)
from gato.tokenizers.documents import tokenize_document
from gato.tokenizers.patches import PATCH_BYTES, decode_stored, patches
from gato.tokenizers.text import TextTokenizer
from gato.tokenizers.timestep import TokenizedItem


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Prefix:
    """Slots in order, n of them, with their images' P patches.

    Attributes:
        tokens: int32 [n]; 0 in image slots.
        kind: uint8 [n]; `Kind` without further bits.
        local_position: int16 [n]; -1 where there is none.
        patches: uint8 [P, 768], one for each image slot in order.
        patch_grid: int32 [P, 4]; as `gato.model.batch.Batch.patch_grid_GP4`.
    """

    tokens: NDArray[np.int32]
    kind: NDArray[np.uint8]
    local_position: NDArray[np.int16]
    patches: NDArray[np.uint8]
    patch_grid: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.tokens)

    def part(self, start: int, stop: int) -> "Prefix":
        """Returns the slots [start, stop) with their patches."""
        first, last = (
            int(np.count_nonzero(self.kind[:at] == Kind.IMAGE)) for at in (start, stop)
        )
        return Prefix(
            tokens=self.tokens[start:stop],
            kind=self.kind[start:stop],
            local_position=self.local_position[start:stop],
            patches=self.patches[first:last],
            patch_grid=self.patch_grid[first:last],
        )


def join(parts: Sequence[Prefix]) -> Prefix:
    """Returns the parts, at least one, one after the other."""
    return Prefix(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(Prefix)
        }
    )


def single(token: int, kind: Kind) -> Prefix:
    """Returns one slot without a local position: a separator, an action, text."""
    return _make(np.array([token]), np.array([kind], np.uint8), False, [], _NO_IMAGES)


_NO_IMAGES = np.zeros((0, 3), np.int32)


def observation(item: TokenizedItem) -> Prefix:
    """Returns one timestep's observation (`TimestepTokenizer.encode_observations`)."""
    return _make(item.tokens, item.kind, True, item.images, item.image_info)


def _make(
    tokens: NDArray[np.integer],
    kind: NDArray[np.uint8],
    local: bool,
    images: Sequence[bytes],
    image_info: NDArray[np.int32],
) -> Prefix:
    position = np.full(len(tokens), -1, np.int16)
    if local:
        position = np.minimum(np.arange(len(tokens)), MAX_LOCAL_POSITION)
    pixels, grid = _patches(images, image_info)
    return Prefix(
        tokens=tokens.astype(np.int32),
        kind=kind & np.uint8(KIND_MASK),
        local_position=position.astype(np.int16),
        patches=pixels,
        patch_grid=grid,
    )


def _patches(
    images: Sequence[bytes], image_info: NDArray[np.int32]
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    pixels, grids = [np.zeros((0, PATCH_BYTES), np.uint8)], [np.zeros((0, 4), np.int32)]
    for data, (height, width, encoding) in zip(
        images, image_info.tolist(), strict=True
    ):
        pixels.append(
            patches(np.ascontiguousarray(decode_stored(data, height, width, encoding)))
        )
        rows, columns = height // PATCH_SIZE, width // PATCH_SIZE
        place = np.indices((rows, columns), np.int32).reshape(2, -1).T
        count = np.tile(np.array([rows, columns], np.int32), (len(place), 1))
        grids.append(np.concatenate([place, count], axis=1))
    return np.concatenate(pixels), np.concatenate(grids)


def demonstration(row: Row, max_tokens: int) -> Prefix:
    """Returns the longest run of whole timesteps from a row's start that fits.

    Args:
        row: Of `demonstrations.tfrecord`: one unprompted segment from slot 0.
        max_tokens: Slots that it may take; fewer than the first timestep has: none.
    """
    used = int(row.provenance[0]["length"])
    ends = np.append(np.flatnonzero(row.local_position[:used] == 0)[1:], used)
    fitting = ends[ends <= max_tokens]
    stop = int(fitting[-1]) if len(fitting) else 0
    return slots_of(row).part(0, stop)


def slots_of(row: Row) -> Prefix:
    """Returns all of a record's slots, the images decoded."""
    pixels, grid = _patches(row.images, row.image_info[:, 1:])
    return Prefix(
        tokens=row.tokens.astype(np.int32),
        kind=row.kind & np.uint8(KIND_MASK),
        local_position=row.local_position,
        patches=pixels,
        patch_grid=grid,
    )


def document(
    tokenizer: TextTokenizer,
    *,
    image: bytes | None = None,
    text: str | None = None,
    options: Image | None = None,
) -> Prefix:
    """Returns what stands before a caption, an answer or a text's continuation.

    Args:
        tokenizer: Of the build's SentencePiece model.
        image: An encoded image, first.
        text: What follows it, such as that of `gato.tokenizers.documents.question`;
            None before a caption.
        options: The data set's image options in its manifest; the defaults if None.

    Raises:
        QuarantineError: If the image or the text cannot be tokens.
        ValueError: If there is neither.
    """
    if image is None and text is None:
        raise ValueError("what is written follows an image or a text, got neither")
    parts: list[TextPart | ImagePart] = []
    if image is not None:
        parts.append(ImagePart(data=image))
    # No document is without text: before a caption one stands in, and is cut off.
    parts.append(TextPart(text="." if text is None else text, eos=False))
    whole = Document(document_id="", source="", number=0, parts=tuple(parts))
    item = tokenize_document(whole, options or Image(), tokenizer)
    made = _make(item.tokens, item.kind, False, item.images, item.image_info)
    return made.part(0, len(made.patches)) if text is None else made

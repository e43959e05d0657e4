"""Interleaves the tokens of several items timestep by timestep, vectorised."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gato.schemas.record import Kind

# Tokens [N], kinds [N] and slots of each timestep [T].
Slots = tuple[NDArray[np.integer], NDArray[np.uint8], NDArray[np.int32]]


class Block(NamedTuple):
    """The slots of one item over all timesteps.

    Attributes:
        kind: Of every slot.
        tokens: [T, n], the same n at every timestep; or flat, where texts differ.
        lengths: int [T], slots of each timestep; None if all have n.
        starts: int [T], where a timestep's slots begin in flat tokens; likewise.
    """

    kind: Kind
    tokens: NDArray[np.integer]
    lengths: NDArray[np.int64] | None = None
    starts: NDArray[np.int64] | None = None


def join_blocks(
    blocks: Sequence[Block], steps: int, dtype: np.dtype[np.integer]
) -> Slots:
    """Returns the slots of all items: a timestep's blocks in order, then the next's.

    Args:
        blocks: In the order of a timestep.
        steps: T.
        dtype: Of the tokens.

    Returns:
        Tokens, dtype [N]; kinds, uint8 [N]; slots of each timestep, int32 [T].
    """
    if all(block.lengths is None for block in blocks):
        return _join_equal(blocks, steps, dtype)
    return _join_ragged(blocks, steps, dtype)


def _join_equal(
    blocks: Sequence[Block], steps: int, dtype: np.dtype[np.integer]
) -> Slots:
    """Joins blocks in which every timestep has as many slots as the next."""
    widths = [block.tokens.shape[1] for block in blocks]
    tokens = np.concatenate([block.tokens for block in blocks], axis=1, dtype=dtype)
    kinds = np.repeat(np.array([b.kind for b in blocks], np.uint8), widths)
    step_slots = np.full(steps, tokens.shape[1], np.int32)
    return tokens.reshape(-1), np.tile(kinds, steps), step_slots


def _join_ragged(
    blocks: Sequence[Block], steps: int, dtype: np.dtype[np.integer]
) -> Slots:
    """Joins blocks of which some have texts of different lengths."""
    lengths = np.stack(
        [
            np.full(steps, block.tokens.shape[1])
            if block.lengths is None
            else block.lengths
            for block in blocks
        ],
        axis=1,
    )
    ends = np.cumsum(lengths).reshape(lengths.shape)
    begins = ends - lengths
    kinds = np.tile(np.array([block.kind for block in blocks], np.uint8), steps)
    kind = np.repeat(kinds, lengths.ravel())
    tokens = np.empty(len(kind), dtype)
    for place, block in enumerate(blocks):
        begin = begins[:, place]
        if block.lengths is None or block.starts is None:
            slots = begin[:, None] + np.arange(block.tokens.shape[1])
            tokens[slots] = block.tokens
            continue
        # Slot i of a timestep comes from flat[start + i] and goes to begin + i.
        total = int(block.lengths.sum())
        first = np.cumsum(block.lengths) - block.lengths
        within = np.arange(total) - np.repeat(first, block.lengths)
        target = np.repeat(begin, block.lengths) + within
        tokens[target] = block.tokens[np.repeat(block.starts, block.lengths) + within]
    return tokens, kind, lengths.sum(axis=1).astype(np.int32)

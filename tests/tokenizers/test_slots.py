"""Interleaving items by timestep, against a plain loop."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gato.schemas.record import Kind
from gato.tokenizers.slots import Block, join_blocks


@st.composite
def blocks_and_steps(draw):
    """Blocks, T, and each block's tokens as lists by timestep."""
    steps = draw(st.integers(1, 6))
    blocks, plain = [], []
    for kind in draw(st.lists(st.sampled_from(list(Kind)), min_size=1, max_size=5)):
        if draw(st.booleans()):
            size = draw(st.integers(0, 4))
            tokens = np.array(
                draw(
                    st.lists(
                        st.integers(0, 99), min_size=size * steps, max_size=size * steps
                    )
                ),
                np.uint16,
            ).reshape(steps, size)
            blocks.append(Block(kind, tokens))
            plain.append(tokens.tolist())
            continue
        texts = draw(
            st.lists(st.lists(st.integers(0, 99), max_size=4), min_size=1, max_size=3)
        )
        chosen = draw(
            st.lists(st.integers(0, len(texts) - 1), min_size=steps, max_size=steps)
        )
        sizes = np.array([len(text) for text in texts])
        flat = np.array([token for text in texts for token in text], np.uint16)
        starts = np.cumsum(sizes) - sizes
        blocks.append(Block(kind, flat, sizes[chosen], starts[chosen]))
        plain.append([texts[place] for place in chosen])
    return blocks, steps, plain


@given(blocks_and_steps())
def test_join(case):
    blocks, steps, plain = case
    tokens, kind, step_slots = join_blocks(blocks, steps, np.dtype(np.uint16))
    expected_tokens, expected_kinds, expected_slots = [], [], []
    for step in range(steps):
        before = len(expected_tokens)
        for block, lists in zip(blocks, plain, strict=True):
            expected_tokens += lists[step]
            expected_kinds += [block.kind] * len(lists[step])
        expected_slots.append(len(expected_tokens) - before)
    assert tokens.tolist() == expected_tokens
    assert kind.tolist() == expected_kinds
    assert step_slots.tolist() == expected_slots
    assert (tokens.dtype, kind.dtype, step_slots.dtype) == (
        np.uint16,
        np.uint8,
        np.int32,
    )


def test_wide_tokens():
    narrow = Block(Kind.DISCRETE_ACTION, np.array([[7]], np.uint16))
    wide = Block(Kind.SEPARATOR, np.array([[70_000]], np.int32))
    tokens, _, _ = join_blocks([wide, narrow], 1, np.dtype(np.int32))
    assert tokens.dtype == np.int32
    assert tokens.tolist() == [70_000, 7]

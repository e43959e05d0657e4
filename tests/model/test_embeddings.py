"""Patch positions by the paper's example, their draws, and the pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from gato.model import embeddings
from gato.model.embeddings import ResidualPatches


def interval(index, count):
    low, high = embeddings.patch_intervals(jnp.int32(index), jnp.int32(count))
    return int(low), int(high)


def test_the_example_of_the_paper():
    # An image 80 wide and 64 high; the patch in row 1, column 2.
    rows, columns = interval(1, 64 // 16), interval(2, 80 // 16)
    assert rows == (32, 64)
    assert columns == (51, 77)
    assert int(embeddings.mean_position(*map(jnp.int32, rows))) == 48
    assert int(embeddings.mean_position(*map(jnp.int32, columns))) == 64


@settings(deadline=None)
@given(st.data())
def test_intervals_tile_the_side_and_positions_stay_in_the_table(data):
    count = data.draw(st.integers(1, 1024))
    index = data.draw(st.integers(0, count - 1))
    uniform = data.draw(st.floats(0, 1, exclude_max=True, width=32))
    low, high = interval(index, count)
    assert low == int(np.floor(128 * index / count + 0.5))
    assert high >= low + 1
    if count <= 128 and index + 1 < count:
        assert interval(index + 1, count)[0] == high
    drawn = int(
        embeddings.sampled_position(
            jnp.int32(low), jnp.int32(high), jnp.float32(uniform)
        )
    )
    assert min(low, 127) <= drawn < max(min(high, 128), 1)
    mean = int(embeddings.mean_position(jnp.int32(low), jnp.int32(high)))
    assert 0 <= mean <= 127


@pytest.fixture(scope="module")
def draws():
    def both(key, source, index):
        return [
            embeddings._patch_uniforms(key, source, index, purpose)
            for purpose in (0, 1)
        ]

    return jax.jit(both)


def test_draws_are_shared_by_a_patch_row_and_differ_by_step_row_and_image(draws):
    key = jax.random.key(0)
    source = np.array([[0, 0], [0, 0], [0, 0], [1, 0], [0, 1]], np.int32)
    index = np.array([0, 0, 1, 0, 0], np.int32)
    rows, columns = (np.asarray(one) for one in draws(key, source, index))
    assert rows[0] == rows[1]
    # Another patch row, another batch row, another image, another side, another step.
    later, _ = draws(jax.random.fold_in(key, 1), source, index)
    assert len({float(x) for x in (*rows[1:], columns[0], later[0])}) == 6
    again, _ = draws(key, source, index)
    np.testing.assert_array_equal(rows, again)


def test_draws_cover_their_interval_evenly(draws):
    source = np.stack([np.arange(4000), np.zeros(4000)], 1).astype(np.int32)
    uniform, _ = draws(jax.random.key(3), source, np.full(4000, 1, np.int32))
    low, high = jnp.int32(51), jnp.int32(77)
    drawn = np.asarray(embeddings.sampled_position(low, high, uniform))
    counts = np.bincount(drawn, minlength=128)
    assert counts[:51].sum() == counts[77:].sum() == 0
    assert counts[51:77].min() > 0.6 * 4000 / 26


def test_pixels_are_scaled_by_the_side_of_a_patch():
    pixels = embeddings.normalize_pixels(jnp.array([0, 255], jnp.uint8))
    np.testing.assert_allclose(pixels, [-0.25, 0.25])


def convolve_slowly(image, kernel):
    """3 x 3 over [16, 16, C], zeros around."""
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    out = np.zeros((16, 16, kernel.shape[3]))
    for i in range(3):
        for j in range(3):
            out += padded[i : i + 16, j : j + 16] @ kernel[i, j]
    return out


def branch_slowly(image, scale, shift, kernel):
    """Norm over groups of two channels, GELU, convolution."""
    groups = image.reshape(16, 16, 32, 2)
    mean = groups.mean((0, 1, 3), keepdims=True)
    deviation = np.sqrt(groups.var((0, 1, 3), keepdims=True) + 1e-5)
    normed = ((groups - mean) / deviation).reshape(16, 16, 64) * scale + shift
    cubic = np.sqrt(2 / np.pi) * (normed + 0.044715 * normed**3)
    return convolve_slowly(0.5 * normed * (1 + np.tanh(cubic)), kernel)


def test_the_residual_block_equals_a_slow_reference():
    generator = np.random.default_rng(0)
    block = ResidualPatches(5, nnx.Rngs(0))
    block.scale_2C[...] = jnp.array(generator.normal(1, 0.3, (2, 64)))
    block.shift_2C[...] = jnp.array(generator.normal(0, 0.3, (2, 64)))
    pixels = generator.uniform(-0.25, 0.25, (2, 768)).astype(np.float32)
    found = np.asarray(block(jnp.array(pixels), jnp.dtype("float32")))
    names = ("lift", "first", "second", "scale_2C", "shift_2C", "project_CD")
    lift, first, second, scale, shift, project = (
        np.asarray(getattr(block, name)[...], np.float64) for name in names
    )
    for number, patch in enumerate(pixels):
        lifted = convolve_slowly(patch.reshape(16, 16, 3), lift)
        inner = branch_slowly(lifted, scale[0], shift[0], first)
        whole = lifted + branch_slowly(inner, scale[1], shift[1], second)
        pooled = whole.reshape(4, 4, 4, 4, 64).mean((1, 3)).ravel()
        np.testing.assert_allclose(found[number], pooled @ project, atol=2e-5)

"""Fused attention: equal to the plain one, chosen by rule, split over a mesh."""

import functools
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo
from small_models import small_config

from gato.model.attention import attend
from gato.model.kernels import attend_fused, choose, cudnn, splash
from gato.model.sharding import make_mesh
from gato.model.train import main
from gato.schemas.errors import UsageError


def device(platform: str, kind: str, capability: str | None = None) -> Any:
    return types.SimpleNamespace(
        platform=platform, device_kind=kind, compute_capability=capability
    )


CPU = device("cpu", "cpu")
V3, V4 = device("tpu", "TPU v3"), device("tpu", "TPU v4")
V5E = device("tpu", "TPU v5 lite")
A100, H100 = device("gpu", "A100", "8.0"), device("gpu", "H100", "9.0")
T4, AMD = device("gpu", "T4", "7.5"), device("gpu", "MI300X", "gfx942")


def arrays(rows: int, length: int, heads: int, size: int, dtype: Any = np.float32):
    """Queries, keys, values and weights of what comes out; packed segments."""
    generator = np.random.default_rng(0)
    parts = generator.normal(size=(4, rows, length, heads, size)).astype(dtype)
    # Segments that begin inside a block of 128 and at its edge, of one slot, padding.
    borders = [0, 5, 6, 100, 128, 200, length - 30]
    segment = np.searchsorted(borders, np.arange(length), side="right")
    segment[length - 30 :] = 0
    segments = np.stack([np.roll(segment, 40 * row) for row in range(rows)])
    segments[-1] = np.where(segments[-1] > 0, 1, 0)
    return *parts, segments.astype(np.uint8)


def output_and_gradients(attention, *given):
    *parts, weights, segments = given

    def value(query, key, value_):
        mixed = attention(query, key, value_, segments)
        return (mixed.astype(jnp.float32) * weights).sum(), mixed

    run = jax.jit(jax.grad(value, argnums=(0, 1, 2), has_aux=True))
    gradients, mixed = run(*parts)
    return [np.asarray(array, np.float32) for array in (mixed, *gradients)]


def check_equal(found, expected):
    for array, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, wanted, atol=2e-5, rtol=2e-5)
        assert np.abs(wanted).max() > 0.1


@pytest.mark.parametrize(("length", "size"), [(256, 32), (384, 8)])
def test_splash_equals_plain_attention(length, size):
    given = arrays(2, length, 2, size)
    found = output_and_gradients(functools.partial(splash, interpret=True), *given)
    check_equal(found, output_and_gradients(attend, *given))


def test_a_split_kernel_equals_a_whole_one():
    given = arrays(4, 256, 2, 8)
    expected = output_and_gradients(attend, *given)
    with jax.set_mesh(make_mesh({"data": 2, "fsdp": 2, "tensor": 2})):
        fused = functools.partial(attend_fused, "splash", interpret=True)
        found = output_and_gradients(fused, *given)
    check_equal(found, expected)


@pytest.mark.parametrize("sizes", [None, {"data": 2, "fsdp": 2, "tensor": 2}])
def test_cudnn_is_lowered_forward_and_backward(monkeypatch, sizes):
    """The custom calls are there; there is no GPU here to run them."""
    version = types.SimpleNamespace(cudnn_get_version=lambda: 91002)
    monkeypatch.setattr(fused_attention_stablehlo, "cuda_versions", version)
    shape = jax.ShapeDtypeStruct((4, 128, 2, 32), jnp.bfloat16)
    segment = jax.ShapeDtypeStruct((4, 128), jnp.uint8)

    def value(query, key, value_, segment):
        mixed = attend_fused("cudnn", query, key, value_, segment)
        return mixed.astype(jnp.float32).sum()

    def text(function):
        traced = jax.jit(function).trace(shape, shape, shape, segment)
        return traced.lower(lowering_platforms=("cuda",)).as_text()

    def both():
        return text(value), text(jax.grad(value, argnums=(0, 1, 2)))

    if sizes is None:
        forward, backward = both()
        rows, heads = 4, 2
    else:
        with jax.set_mesh(make_mesh(sizes)):
            forward, backward = both()
        rows, heads = 1, 1
    assert "@__cudnn$fmhaScaleBiasSoftmax(" in forward
    assert "@__cudnn$fmhaScaleBiasSoftmaxBackward(" in backward
    assert "\\22mask_type\\22: \\22CAUSAL\\22" in forward
    # The bias of segments, and queries as one device sees them.
    assert f"tensor<{rows}x1x128x128xbf16>" in forward
    assert f"tensor<{rows}x128x{heads}x32xbf16>" in forward


def test_what_cudnn_is_told_is_plain_attention():
    """Its bias and causal mask, given to JAX's own reference of that function."""
    query, key, value, _, segments = map(jnp.asarray, arrays(2, 256, 2, 8))
    found = {}

    def stand_in(query, key, value, *, mask, is_causal, implementation):
        found.update(implementation=implementation)
        return real(query, key, value, mask=mask, is_causal=is_causal)

    real = jax.nn.dot_product_attention
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.nn, "dot_product_attention", stand_in)
        mixed = cudnn(query, key, value, segments)
    assert found == {"implementation": "cudnn"}
    expected = attend(query, key, value, segments)
    np.testing.assert_allclose(mixed, expected, atol=2e-5)


@pytest.mark.parametrize(
    ("where", "length", "changes", "kernel"),
    [
        (CPU, 1024, {}, "xla"),
        (V3, 1024, {}, "xla"),
        (V4, 1024, {}, "splash"),
        (V5E, 1024, {"positions": "learned", "compute_dtype": "float32"}, "splash"),
        (V5E, 1000, {}, "xla"),
        (V5E, 1024, {"positions": "xl"}, "xla"),
        (V5E, 1024, {"attention": "xla"}, "xla"),
        (H100, 1024, {}, "cudnn"),
        (H100, 1024, {"positions": "xl"}, "xla"),
        (H100, 1024, {"compute_dtype": "float32"}, "xla"),
        (H100, 1024, {"head_size": 12}, "xla"),
        (H100, 1024, {"head_size": 256}, "cudnn"),
        (A100, 1024, {"head_size": 256}, "xla"),
        (H100, 1023, {}, "xla"),
        (T4, 1024, {}, "xla"),
        (AMD, 1024, {}, "xla"),
    ],
)
def test_auto_takes_the_fused_kernel_where_its_rules_allow(
    where, length, changes, kernel
):
    changes = {"compute_dtype": "bfloat16"} | changes
    choice = choose(small_config(**changes).model, length, where)
    assert choice.kernel == kernel
    assert choice.reason


@pytest.mark.parametrize(
    ("attention", "where", "length", "changes", "said"),
    [
        ("splash", V3, 1024, {}, "TPU v4 or later, got TPU v3"),
        ("splash", CPU, 1024, {}, "TPU v4 or later, got cpu"),
        ("splash", V4, 1000, {}, "multiple of 128 slots, got 1000"),
        ("splash", V4, 1024, {"positions": "xl"}, "splash takes no scores of distan"),
        ("cudnn", H100, 1024, {"positions": "xl"}, "cudnn takes no scores of distance"),
        ("cudnn", CPU, 1024, {}, "NVIDIA GPUs .* got cpu"),
        ("cudnn", T4, 1024, {}, "capability 8.0 or more, got T4"),
        ("cudnn", AMD, 1024, {}, "NVIDIA GPUs .* got MI300X"),
        ("cudnn", H100, 1024, {"compute_dtype": "float32"}, "bfloat16, got float32"),
        ("cudnn", H100, 1024, {"head_size": 12}, "multiple of 8 .* got 12"),
        ("cudnn", A100, 1024, {"head_size": 136}, "at most 128 on A100, got 136"),
        ("cudnn", H100, 1023, {}, "even number of slots, got 1023"),
    ],
)
def test_a_kernel_that_cannot_run_is_refused_with_its_rule(
    attention, where, length, changes, said
):
    changes = {"compute_dtype": "bfloat16", "attention": attention} | changes
    with pytest.raises(UsageError, match=f"model.attention={attention}: .*{said}"):
        choose(small_config(**changes).model, length, where)


def test_training_refuses_a_kernel_that_cannot_run_here(capsys):
    assert main(["--describe", "--set", "model.attention=splash"]) == 2
    assert "splash takes TPU v4 or later, got cpu" in capsys.readouterr().err
    assert main(["--describe", "--set", "model.attention=flash"]) == 2
    assert "the choices are auto, xla, splash, cudnn" in capsys.readouterr().err
    assert main(["--describe"]) == 0
    assert '"attention": "xla"' in capsys.readouterr().out

"""Fused attention, and which attention a run uses on the devices it has.

`model.attention` names one; `auto` takes the fused kernel of the devices wherever its
rules allow, and says which it took and why. One named outright that cannot run is an
error: nothing falls back in silence.

    xla      `attention.attend`; every device, the only one of positions `xl`
    splash   Pallas for TPU v4 and later; causal blocks above the diagonal are skipped
    cudnn    cuDNN's, on NVIDIA GPUs; segments go as a bias of 2 L^2 bytes a row

Splash is compared with `xla` in Pallas' interpreter and compiled for v4 and v5e; cuDNN
is lowered and no more. Neither has been run on its hardware.
"""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from gato.model.config import ModelConfig
from gato.model.sharding import BATCH_AXES
from gato.schemas.errors import UsageError

# The largest that divides a row is taken; its least is a rule of Splash.
_SPLASH_BLOCKS = (512, 256, 128)
# By `jax.Device.platform`.
_FUSED = {"tpu": "splash", "gpu": "cudnn"}
_TOO_OLD_FOR_SPLASH = ("TPU v2", "TPU v3")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """The attention of a run.

    Attributes:
        kernel: `xla`, `splash` or `cudnn`.
        reason: Why that one.
    """

    kernel: str
    reason: str


def _capability(device: Any) -> tuple[int, int] | None:
    """Returns an NVIDIA GPU's compute capability, None of another device."""
    found = re.fullmatch(
        r"(\d+)\.(\d+)", str(getattr(device, "compute_capability", ""))
    )
    return (int(found[1]), int(found[2])) if found else None


def _against_splash(config: ModelConfig, length: int, device: Any) -> str | None:
    if device.platform != "tpu" or device.device_kind in _TOO_OLD_FOR_SPLASH:
        # libtpu: "Unsupported matmul RHS type on target".
        return (
            f"splash takes TPU v4 or later, got {device.device_kind} (for v2 and v3 its"
            " matrix products do not compile)"
        )
    if length % _SPLASH_BLOCKS[-1]:
        return f"splash takes rows of a multiple of 128 slots, got {length}"
    return None


def _against_cudnn(config: ModelConfig, length: int, device: Any) -> str | None:
    capability = _capability(device)
    if device.platform != "gpu" or capability is None or capability < (8, 0):
        return (
            "cudnn takes NVIDIA GPUs of compute capability 8.0 or more, got"
            f" {device.device_kind}"
        )
    if config.compute_dtype != "bfloat16":
        return f"cudnn takes compute_dtype bfloat16, got {config.compute_dtype}"
    largest = 256 if capability >= (9, 0) else 128
    if config.head_size % 8 or config.head_size > largest:
        return (
            f"cudnn takes a head_size that is a multiple of 8 and at most {largest} on"
            f" {device.device_kind}, got {config.head_size}"
        )
    if length % 2:
        return f"cudnn takes rows of an even number of slots, got {length}"
    return None


def _against(kernel: str, config: ModelConfig, length: int, device: Any) -> str | None:
    """Returns what keeps a kernel from running, in words; None if nothing does."""
    if kernel == "xla":
        return None
    if config.positions == "xl":
        return (
            f"{kernel} takes no scores of distances, which positions xl add to the"
            " products; positions rope and learned have none"
        )
    rules = {"splash": _against_splash, "cudnn": _against_cudnn}
    return rules[kernel](config, length, device)


def choose(config: ModelConfig, length: int, device: Any) -> Choice:
    """Returns the attention for rows of a length on such devices.

    Args:
        config: Whose `attention` may be `auto`.
        length: L.
        device: One of the mesh's, `jax.Device`; it need not be attached.

    Raises:
        UsageError: If the one that the config names cannot run.
    """
    if config.attention != "auto":
        if reason := _against(config.attention, config, length, device):
            raise UsageError(
                f"model.attention={config.attention}: {reason}. auto takes what fits."
            )
        return Choice(kernel=config.attention, reason="as model.attention says")
    fused = _FUSED.get(device.platform)
    if fused is None:
        reason = f"no fused kernel runs on {device.device_kind}"
        return Choice(kernel="xla", reason=reason)
    if reason := _against(fused, config, length, device):
        return Choice(kernel="xla", reason=reason)
    return Choice(kernel=fused, reason=f"auto, on {device.device_kind}")


def splash(
    query_BLHK: jax.Array,
    key_BLHK: jax.Array,
    value_BLHK: jax.Array,
    segment_BL: jax.Array,
    *,
    interpret: bool = False,
) -> jax.Array:
    """Returns what `attention.attend` does, [B, L, H, K], by Splash attention.

    Args:
        query_BLHK: Queries; L is a multiple of 128.
        key_BLHK: Keys.
        value_BLHK: Values.
        segment_BL: Of the slots.
        interpret: Whether Pallas plays the TPU, step by step: for tests.
    """
    # Half a second of importing, which a run without Splash is spared.
    from jax.experimental.pallas.ops.tpu import splash_attention

    _, length, heads, head_size = query_BLHK.shape
    block = next(size for size in _SPLASH_BLOCKS if length % size == 0)
    mask = splash_attention.CausalMask((length, length))
    kernel = splash_attention.make_splash_mha_single_device(
        splash_attention.MultiHeadMask([mask] * heads),
        block_sizes=splash_attention.BlockSizes(
            block_q=block,
            block_kv=block,
            block_q_dkv=block,
            block_kv_dkv=block,
            block_q_dq=block,
            block_kv_dq=block,
        ),
        interpret=interpret,
    )

    def row(query: Any, key: Any, value: Any, segment: Any) -> Any:
        segments = splash_attention.SegmentIds(q=segment, kv=segment)
        return kernel(query, key, value, segment_ids=segments)

    # Splash scales nothing, and takes heads before slots.
    mixed_BHLK = jax.vmap(row)(
        (query_BLHK * head_size**-0.5).swapaxes(1, 2),
        key_BLHK.swapaxes(1, 2),
        value_BLHK.swapaxes(1, 2),
        segment_BL.astype(jnp.int32),
    )
    return mixed_BHLK.swapaxes(1, 2)


def cudnn(
    query_BLHK: jax.Array,
    key_BLHK: jax.Array,
    value_BLHK: jax.Array,
    segment_BL: jax.Array,
) -> jax.Array:
    """Returns what `attention.attend` does, [B, L, H, K], by cuDNN's flash attention.

    JAX offers cuDNN's causal mask but not its packed layout, so slots of other segments
    get a bias of a large negative number.
    """
    same_B1LM = segment_BL[:, None, :, None] == segment_BL[:, None, None, :]
    return jax.nn.dot_product_attention(
        query_BLHK,
        key_BLHK,
        value_BLHK,
        mask=same_B1LM,
        is_causal=True,
        implementation="cudnn",
    )


_KERNELS: dict[str, Callable[..., jax.Array]] = {"splash": splash, "cudnn": cudnn}


def attend_fused(
    kernel: str,
    query_BLHK: jax.Array,
    key_BLHK: jax.Array,
    value_BLHK: jax.Array,
    segment_BL: jax.Array,
    **options: Any,
) -> jax.Array:
    """Returns what `attention.attend` does, each device working on its rows and heads.

    The compiler cannot split a kernel over a mesh by itself.

    Args:
        kernel: `splash` or `cudnn`.
        query_BLHK: Queries.
        key_BLHK: Keys.
        value_BLHK: Values.
        segment_BL: Of the slots.
        options: Of the kernel.
    """
    run = functools.partial(_KERNELS[kernel], **options)
    if not jax.sharding.get_abstract_mesh().empty:
        split = P(BATCH_AXES, None, "tensor", None)
        run = jax.shard_map(
            run,
            in_specs=(split, split, split, P(BATCH_AXES, None)),
            out_specs=split,
            # Pallas' outputs do not say over which axes they vary.
            check_vma=False,
        )
    return run(query_BLHK, key_BLHK, value_BLHK, segment_BL)

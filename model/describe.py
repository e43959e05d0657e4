"""What a configuration would cost: parameters, FLOPs a token, memory a device.

FLOPs per token = 6 * (blocks * (4 d H K + 1.5 d F) + V d) + 6 * blocks * H * K * L: a
forward and a backward pass, causal attention counted half, V the padded table, the
patch embedder apart, recomputation not counted. Positions `xl` add
3 * blocks * H * K * L, their product of queries and distances.
"""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from gato.model.config import TrainConfig, table_rows
from gato.model.embeddings import PATCH_VALUES
from gato.model.sharding import AXES, parameter_spec
from gato.model.step import Model, make_initial_state

# The residual patch embedder: multiply-adds of its convolutions on 16 x 16 pixels.
_CONVOLUTIONS = 256 * 9 * 64 * (3 + 64 + 64)
_POOLED_VALUES = 1024
# By `jax.Device.device_kind`: dense bfloat16 FLOP/s of one JAX device, as its maker
# states them. On TPU v2 and v3 a device is one of a chip's two cores.
_PEAKS = {
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "TPU v2": 45e12 / 2,
    "TPU v3": 123e12 / 2,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
}


def flops_per_token(
    config: TrainConfig, *, vocabulary_size: int, sequence_length: int
) -> float:
    """Returns the training FLOPs of one slot, by the formula above."""
    model = config.model
    inner = model.heads * model.head_size
    block = 4 * model.width * inner + 1.5 * model.width * model.feed_forward
    products = model.blocks * block + table_rows(vocabulary_size) * model.width
    scores = 9 if model.positions == "xl" else 6
    return 6 * products + scores * model.blocks * inner * sequence_length


def flops_per_patch(config: TrainConfig) -> float:
    """Returns the training FLOPs of one image patch, on top of its slot's."""
    if config.model.patch_embedder == "linear":
        return 6.0 * PATCH_VALUES * config.model.width
    return 6.0 * (_CONVOLUTIONS + _POOLED_VALUES * config.model.width)


def peak_flops(device_kind: str) -> float | None:
    """Returns the dense bfloat16 FLOP/s of a device, None where they are not known.

    >>> peak_flops("TPU v4") / 1e12
    275.0
    """
    return _PEAKS.get(device_kind)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What training costs, against what the devices could do at most.

    Attributes:
        flops_per_token: Of one slot.
        flops_per_patch: Of one image patch, on top of its slot's.
        peak: FLOP/s of all devices; None where they are not known.
    """

    flops_per_token: float
    flops_per_patch: float
    peak: float | None

    def utilization(self, tokens: int, patches: int, seconds: float) -> float | None:
        """Returns the model FLOPs utilization (MFU), by the formula of this module."""
        if self.peak is None:
            return None
        flops = tokens * self.flops_per_token + patches * self.flops_per_patch
        return flops / seconds / self.peak


def work_of(model: Model, device_kind: str, num_devices: int) -> Work:
    """Returns what a model costs on so many devices of a kind."""
    peak = peak_flops(device_kind)
    return Work(
        flops_per_token=flops_per_token(
            model.config,
            vocabulary_size=model.vocabulary_size,
            sequence_length=model.sequence_length,
        ),
        flops_per_patch=flops_per_patch(model.config),
        peak=None if peak is None else peak * num_devices,
    )


def count_parameters(tree: Any) -> int:
    """Returns the number of values in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _bytes_per_device(tree: Any, mesh: dict[str, int]) -> int:
    total = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        axes = [axis for axis in parameter_spec(path, len(leaf.shape)) if axis]
        parts = math.prod(mesh[axis] for axis in axes)
        total += math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize // parts
    return total


def describe(model: Model, mesh: dict[str, int]) -> dict[str, Any]:
    """Returns the description as JSON; nothing is allocated and no device asked.

    Args:
        model: With config, vocabulary and sequence length.
        mesh: Size of each axis.
    """
    config = model.config
    state = jax.eval_shape(make_initial_state(model))
    params = state["params"]
    sizes = {
        "vocabulary_size": model.vocabulary_size,
        "sequence_length": model.sequence_length,
    }
    held = _bytes_per_device(params, mesh)
    return {
        "model": config.name,
        "parameters": count_parameters(params),
        "parameters_by_part": {
            "token_table": count_parameters(params["embed"]["table_VD"]),
            "patch_embedder": count_parameters(params["embed"]["patches"]),
            "blocks": count_parameters(params["blocks"]),
        },
        **sizes,
        "attention": config.model.attention,
        "flops_per_token": flops_per_token(config, **sizes),
        "flops_per_patch": flops_per_patch(config),
        "mesh": {axis: mesh[axis] for axis in AXES},
        "batch_size": config.data.batch_size,
        "memory": {
            "parameter_bytes_per_device": held,
            "optimizer_bytes_per_device": _bytes_per_device(state["optimizer"], mesh),
            "gradient_bytes_per_device": held,
        },
    }

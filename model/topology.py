"""TPU slices that need not be there: their devices, for compiling ahead of time.

The slice is described by libtpu, whose compiler works on any Linux machine; nothing
here asks for a TPU.
"""

import dataclasses
import importlib.util
import os
from typing import Any

from jax.experimental import topologies

from gato.model.describe import peak_flops
from gato.schemas.errors import UsageError

_GIB = 1 << 30
# By `jax.Device.device_kind`: memory of one JAX device, as its maker states it. On TPU
# v2 and v3 a device is one of a chip's two cores.
_MEMORY = {
    "TPU v2": 8 * _GIB,
    "TPU v3": 16 * _GIB,
    "TPU v4": 32 * _GIB,
    "TPU v5 lite": 16 * _GIB,
    "TPU v5": 95 * _GIB,
    "TPU v5p": 95 * _GIB,
    "TPU v6 lite": 32 * _GIB,
}
# Without these libtpu asks a metadata server, in vain and for minutes, what it is on.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v3-8",
}
# From v4 on a chip's cores are one device; only for v4 libtpu must be told.
_OPTIONS = {"v4": {"chip_config_name": "megacore"}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
    """A slice.

    Attributes:
        name: As given, such as `v3:16x16`.
        devices: To compile for, `jax.Device`s.
        chips: How many; a chip of TPU v2 or v3 is two devices.
        memory: Bytes of one device.
        peak: Dense bfloat16 FLOP/s of one device.
    """

    name: str
    devices: list[Any]
    chips: int
    memory: int
    peak: float

    @property
    def device_kind(self) -> str:
        """As JAX names it on the hardware."""
        return self.devices[0].device_kind


def _check_compiler() -> None:
    path = os.environ.get("TPU_LIBRARY_PATH")
    if not (path and os.path.isfile(path)) and not importlib.util.find_spec("libtpu"):
        raise UsageError(
            "compiling for a TPU needs libtpu's compiler (Linux x86-64, 684 MB), which"
            " is not installed. pip install 'gato-pipelines[compile]'"
        )


def get_topology(name: str) -> Topology:
    """Returns a slice by name.

    Args:
        name: Generation and grid of chips, such as `v3:16x16` or `v4:4x4x4`.

    Raises:
        UsageError: If libtpu is not installed, knows no such slice, or its figures are
            not known here.
    """
    _check_compiler()
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    generation, colon, grid = name.partition(":")
    try:
        if not (colon and grid):
            raise ValueError("no grid is given")
        described = topologies.get_topology_desc(
            name, "tpu", **_OPTIONS.get(generation, {})
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            "--topology takes a generation and a grid of chips that such slices have,"
            f" as v3:16x16, v4:4x4x4 or v5e:4x4, got {name!r}: {reason}"
        ) from error
    devices: list[Any] = described.devices
    kind = devices[0].device_kind
    memory, peak = _MEMORY.get(kind), peak_flops(kind)
    if memory is None or peak is None:
        raise UsageError(
            f"--topology {name}: memory and peak of {kind!r} are not known here. Known"
            f" are {', '.join(_MEMORY)}."
        )
    # On every TPU each chip has coordinates, which its cores share.
    chips = {tuple(device.coords) for device in devices}
    return Topology(
        name=name, devices=devices, chips=len(chips), memory=memory, peak=peak
    )

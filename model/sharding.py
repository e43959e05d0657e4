"""The mesh (data, fsdp, tensor) and the one table that says what is split over it.

Rows are split over `data` and `fsdp`; parameters, their moments and gradients over
`fsdp` by width and over `tensor` by heads, hidden units and table rows.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from gato.model.config import TrainConfig
from gato.schemas.errors import UsageError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")

# Last part of a parameter's path -> its logical axes, without the leading block axis.
_LOGICAL: dict[str, tuple[str | None, ...]] = {
    "table_VD": ("vocabulary", "width"),
    "query_DHK": ("width", "heads", None),
    "key_DHK": ("width", "heads", None),
    "value_DHK": ("width", "heads", None),
    "output_HKD": ("heads", None, "width"),
    "distance_DHK": ("width", "heads", None),
    "content_bias_HK": ("heads", None),
    "distance_bias_HK": ("heads", None),
    "gated_D2F": ("width", None, "hidden"),
    "down_FD": ("hidden", "width"),
    "project_CD": (None, "width"),
    "rows_QD": (None, "width"),
    "columns_QD": (None, "width"),
    "local_QD": (None, "width"),
    "positions_LD": (None, "width"),
}
_PHYSICAL = {
    "vocabulary": "tensor",
    "heads": "tensor",
    "hidden": "tensor",
    "width": "fsdp",
    None: None,
}


def parse_mesh(text: str | None, num_devices: int) -> dict[str, int]:
    """Returns the size of each axis; by default all devices share the rows.

    Args:
        text: Such as `data=2,fsdp=4,tensor=1`; axes left out are 1, but `data`, left
            out, takes the devices that remain.
        num_devices: Devices there are.

    Raises:
        UsageError: If an axis is unknown or a size is not a positive integer.
    """
    sizes: dict[str, int] = {}
    for part in (text or "").split(","):
        if not part:
            continue
        name, _, size = part.partition("=")
        if name not in AXES or not size.isdigit() or int(size) < 1:
            raise UsageError(
                f"--mesh: axes are {', '.join(AXES)} with positive sizes, as in"
                f" data=2,fsdp=4,tensor=1, got {part!r}"
            )
        sizes[name] = int(size)
    others = math.prod(size for name, size in sizes.items() if name != "data")
    sizes.setdefault("data", max(1, num_devices // others))
    return {name: sizes.get(name, 1) for name in AXES}


def check_mesh(sizes: dict[str, int], config: TrainConfig) -> None:
    """Checks that rows and parameters divide over the mesh.

    Raises:
        UsageError: If they do not, with the sizes.
    """
    model = config.model
    rows = sizes["data"] * sizes["fsdp"] * config.microbatches
    shared = "data * fsdp" + " * microbatches" * (config.microbatches > 1)
    for what, value, axes, size in (
        ("batch_size", config.data.batch_size, shared, rows),
        ("model.width", model.width, "fsdp", sizes["fsdp"]),
        ("model.heads", model.heads, "tensor", sizes["tensor"]),
        ("model.feed_forward / 2", model.feed_forward // 2, "tensor", sizes["tensor"]),
        ("the token table's multiple", 128, "tensor", sizes["tensor"]),
    ):
        if value % size:
            raise UsageError(
                f"--mesh: {what} must divide by {axes}, got {value} and {size}. Choose"
                " other axis sizes."
            )


def make_mesh(sizes: dict[str, int]) -> Mesh:
    """Returns the mesh over the first devices; of several hosts, over all.

    Raises:
        UsageError: If there are too few devices, or a host would have none.
    """
    count, found = math.prod(sizes.values()), jax.device_count()
    if jax.process_count() > 1 and count != found:
        raise UsageError(
            f"--mesh: several hosts use all their devices, and {sizes} needs {count} of"
            f" {found}. Leave out data, which then takes the rest."
        )
    if count > found:
        raise UsageError(
            f"--mesh: {sizes} needs {count} devices, this machine has {found}."
            " For virtual CPU devices set"
            f" XLA_FLAGS=--xla_force_host_platform_device_count={count}."
        )
    return mesh_of(sizes, jax.devices()[:count])


def mesh_of(sizes: dict[str, int], devices: Sequence[Any]) -> Mesh:
    """Returns the mesh over all the `jax.Device`s given; they need not be attached.

    Raises:
        UsageError: If the axes cannot be laid on the grid that the chips form.
    """
    try:
        return jax.make_mesh(
            tuple(sizes[name] for name in AXES),
            AXES,
            axis_types=(AxisType.Auto,) * len(AXES),
            devices=devices,
        )
    except NotImplementedError as error:
        reason = str(error).partition(". ")[0]
        raise UsageError(
            f"--mesh: {sizes} cannot be laid on the grid of the"
            f" {devices[0].device_kind} chips: {reason}. Choose axis sizes that are"
            " products of the grid's sides."
        ) from error


def owned_groups(mesh: Mesh, groups: int) -> tuple[int, ...]:
    """Returns which of the groups of rows of a batch this host's devices hold.

    Args:
        mesh: Of all hosts; its order of devices decides.
        groups: Of the global batch, a multiple of the batch axes' size.
    """
    split = NamedSharding(mesh, P(BATCH_AXES))
    parts = split.addressable_devices_indices_map((groups,)).values()
    return tuple(sorted({g for part in parts if part for g in range(groups)[part[0]]}))


def parameter_spec(path: tuple[Any, ...], rank: int) -> P:
    """Returns how one parameter is split; what the table does not name is replicated.

    Args:
        path: Key path of the parameter (or of a moment of it).
        rank: Its number of dimensions; stacked blocks have one more, in front.
    """
    for step in reversed(path):
        name = getattr(step, "key", getattr(step, "name", None))
        if name in _LOGICAL:
            axes = tuple(_PHYSICAL[axis] for axis in _LOGICAL[name])
            return P(*(None,) * (rank - len(axes)), *axes)
    return P()


def tree_shardings(tree: Any, mesh: Mesh) -> Any:
    """Returns the sharding of each leaf of a state of parameters and moments."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, parameter_spec(path, np.ndim(leaf))),
        tree,
    )


def constrain(array: jax.Array, *axes: Any) -> jax.Array:
    """Fixes how an array inside the step is split; nothing without a mesh."""
    if jax.sharding.get_abstract_mesh().empty:
        return array
    return jax.lax.with_sharding_constraint(array, P(*axes))

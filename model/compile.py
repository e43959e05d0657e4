"""gato-compile: compiles the training step for a TPU slice, on any Linux machine.

    gato-compile --topology v3:16x16 --model 1.18b --mfu 0.4 --price 2.00

The step is the one that gato-train runs, for the mesh and batch given, through the
compiler that the slice itself would use (libtpu's, ahead of time). So memory and
collectives are those of the real program; hours and dollars are a model, FLOPs over
peak at the utilization stated. Nothing is run, and no speed is measured or claimed.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from gato.model.batch import Batch
from gato.model.checkpoint import abstract_state
from gato.model.collectives import read_traffic
from gato.model.command import run_command
from gato.model.config import PAPER_LENGTH, PAPER_VOCABULARY, override
from gato.model.configs import PRESETS
from gato.model.describe import describe, work_of
from gato.model.kernels import Choice, choose
from gato.model.options import add_overrides, resolve_config
from gato.model.sharding import AXES, BATCH_AXES, check_mesh, mesh_of, parse_mesh
from gato.model.step import Model, jit_train_step, make_initial_state, state_shardings
from gato.model.topology import Topology, get_topology
from gato.schemas.errors import GatoError, UsageError

# Without --mesh, parameters are split until they, their moments and their gradients
# take no more of a device's memory than this; the rest is for activations.
_STATE_SHARE = 1 / 8
_GIB = 1 << 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What training would cost if the devices were used as well as stated.

    Attributes:
        mfu: Model FLOPs utilization, stated and not measured.
        seconds_per_step: FLOPs over peak times utilization.
        hours: Of all steps, without validation, checkpoints and restarts.
        chip_hours: Hours times chips.
        price_per_chip_hour: As given.
        dollars: Chip-hours times price; None without one.
    """

    mfu: float
    seconds_per_step: float
    hours: float
    chip_hours: float
    price_per_chip_hour: float | None
    dollars: float | None


def model_cost(
    flops_per_step: float,
    steps: int,
    *,
    peak: float,
    mfu: float,
    chips: int,
    price: float | None,
) -> Cost:
    """Returns the modelled cost.

    Args:
        flops_per_step: Of the whole batch, recomputation not counted.
        steps: Updates of the whole run.
        peak: FLOP/s of all devices.
        mfu: In (0, 1].
        chips: That are paid for.
        price: Dollars a chip-hour.

    >>> model_cost(4e15, 900, peak=2e16, mfu=0.5, chips=8, price=2.0).dollars
    1.6
    """
    seconds = flops_per_step / (peak * mfu)
    hours = steps * seconds / 3600
    return Cost(
        mfu=mfu,
        seconds_per_step=seconds,
        hours=hours,
        chip_hours=hours * chips,
        price_per_chip_hour=price,
        dollars=None if price is None else hours * chips * price,
    )


def abstract_batch(model: Model, mesh: Mesh, patches_per_row: int) -> Batch:
    """Returns the shapes of one batch on a mesh.

    Args:
        model: With its batch size and length.
        mesh: Rows and pools are split over its batch axes.
        patches_per_row: How many a pool holds for each of its rows.
    """
    config = model.config
    rows = config.data.batch_size
    groups = mesh.shape["data"] * mesh.shape["fsdp"] * config.microbatches
    slots = (rows, model.sequence_length)
    pool = (groups, rows // groups * patches_per_row)
    shapes = Batch(
        tokens_BL=(slots, "int32"),
        kind_BL=(slots, "uint8"),
        loss_mask_BL=(slots, "uint8"),
        segment_BL=(slots, "uint8"),
        local_position_BL=(slots, "int16"),
        dataset_B=((rows,), "int32"),
        row_B=((rows,), "int32"),
        patches_GPC=((*pool, 768), "uint8"),
        patch_grid_GP4=((*pool, 4), "int32"),
        patch_source_GP2=((*pool, 2), "int32"),
    )
    sharding = NamedSharding(mesh, P(BATCH_AXES))
    return Batch(
        *(
            jax.ShapeDtypeStruct(shape, jnp.dtype(dtype), sharding=sharding)
            for shape, dtype in shapes
        )
    )


def lower_step(model: Model, mesh: Mesh, patches_per_row: int) -> jax.stages.Lowered:
    """Returns the training step, lowered on shapes alone."""
    with jax.set_mesh(mesh):
        shapes = jax.eval_shape(make_initial_state(model))
        state = abstract_state(shapes, state_shardings(model, mesh))
        batch = abstract_batch(model, mesh, patches_per_row)
        return jit_train_step(model, mesh, 1).lower(state, batch)


def default_mesh(model: Model, topology: Topology) -> dict[str, int]:
    """Returns axes whose `fsdp` is the smallest power of two that leaves room.

    For the published sizes on v3:16x16 that is data 32, fsdp 16.
    """
    count, fsdp = len(topology.devices), 1
    while True:
        sizes = {"data": count // fsdp, "fsdp": fsdp, "tensor": 1}
        held = sum(describe(model, sizes)["memory"].values())
        if held <= topology.memory * _STATE_SHARE or count % (2 * fsdp):
            return sizes
        fsdp *= 2


def _compile(lowered: jax.stages.Lowered, topology: Topology) -> jax.stages.Compiled:
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        reason = " ".join(str(error).split())
        if "RESOURCE_EXHAUSTED" not in reason:
            raise GatoError(
                f"{topology.name}: the compiler refused the step: {reason[:600]}"
            ) from error
        raise GatoError(
            f"{topology.name}: the step does not fit the {topology.memory / _GIB:g} GiB"
            f" of a {topology.device_kind} device: {reason[:300]}. Split parameters"
            " further (--mesh fsdp=...), take the batch in parts (--set"
            " microbatches=...) or keep less (--set model.remat=attention)."
        ) from error


def _memory(compiled: jax.stages.Compiled, topology: Topology) -> dict[str, int]:
    """Returns bytes a device, as the compiler laid them out."""
    sizes: Any = compiled.memory_analysis()
    parts = {
        "arguments": sizes.argument_size_in_bytes,
        "outputs": sizes.output_size_in_bytes,
        "outputs_in_arguments": sizes.alias_size_in_bytes,
        "temporaries": sizes.temp_size_in_bytes,
        "code": sizes.generated_code_size_in_bytes,
    }
    total = sum(parts.values()) - 2 * parts["outputs_in_arguments"]
    return {**parts, "total": total, "device": topology.memory}


def _prepare(
    arguments: argparse.Namespace, topology: Topology
) -> tuple[Model, dict[str, int], Choice]:
    """Returns what is compiled: the model, the mesh's axes and the attention."""
    config = resolve_config(arguments)
    length, count = arguments.sequence_length, len(topology.devices)
    attention = choose(config.model, length, topology.devices[0])
    model = Model(
        override(config, "model.attention", attention.kernel),
        vocabulary_size=PAPER_VOCABULARY,
        sequence_length=length,
    )
    sizes = default_mesh(model, topology)
    if arguments.mesh:
        sizes = parse_mesh(arguments.mesh, count)
    if (used := math.prod(sizes.values())) != count:
        raise UsageError(
            f"--mesh: {sizes} has {used} places and {topology.name} {count} devices"
            f" ({topology.chips} chips). Leave out data, which then takes the rest."
        )
    check_mesh(sizes, config)
    return model, sizes, attention


def _report(arguments: argparse.Namespace) -> dict[str, Any]:
    topology = get_topology(arguments.topology)
    model, sizes, attention = _prepare(arguments, topology)
    steps, rows = model.config.steps, model.config.data.batch_size
    given = arguments.patches
    patches = model.sequence_length if given is None else given
    mesh = mesh_of(sizes, topology.devices)
    began = time.perf_counter()
    lowered = lower_step(model, mesh, patches)
    lowering = time.perf_counter() - began
    compiled = _compile(lowered, topology)
    compiling = time.perf_counter() - began - lowering
    # libtpu always has the text; of JAX's other compilers some have none.
    text = compiled.as_text() or ""
    if arguments.hlo:
        pathlib.Path(arguments.hlo).write_text(text, encoding="utf-8")
    traffic = read_traffic(text)
    work = work_of(model, topology.device_kind, mesh.size)
    flops = rows * model.sequence_length * work.flops_per_token
    flops += rows * patches * work.flops_per_patch
    cost = model_cost(
        flops,
        steps,
        peak=topology.peak * mesh.size,
        mfu=arguments.mfu,
        chips=topology.chips,
        price=arguments.price,
    )
    described = describe(model, sizes)
    return {
        "topology": topology.name,
        "device_kind": topology.device_kind,
        "devices": mesh.size,
        "chips": topology.chips,
        **{key: value for key, value in described.items() if key != "memory"},
        "attention_reason": attention.reason,
        "state_per_device": described["memory"],
        "patches_per_row": patches,
        "memory_per_device": _memory(compiled, topology),
        "collectives": traffic.by_kind(),
        "loops_counted_once": traffic.unknown_loops,
        "flops_per_step": flops,
        "steps": steps,
        "modelled": dataclasses.asdict(cost),
        "seconds": {"lowering": lowering, "compiling": compiling},
    }


def _lines(report: dict[str, Any]) -> list[str]:
    """Returns the report for people."""
    memory, cost = report["memory_per_device"], report["modelled"]
    mesh = ",".join(f"{axis}={report['mesh'][axis]}" for axis in AXES)
    share = memory["total"] / memory["device"]
    lines = [
        f"{report['topology']}: {report['chips']} chips, {report['devices']}"
        f" {report['device_kind']} devices; compiled in"
        f" {report['seconds']['compiling']:.0f} s, and not run",
        f"{report['model']}: {report['parameters'] / 1e6:.1f} M parameters; batch"
        f" {report['batch_size']} x {report['sequence_length']} slots,"
        f" {report['patches_per_row']} patches a row; --mesh {mesh}",
        f"attention: {report['attention']} ({report['attention_reason']})",
        f"memory a device: {memory['total'] / _GIB:.2f} of {memory['device'] / _GIB:g}"
        f" GiB ({share:.0%})",
    ]
    for name in ("arguments", "outputs", "outputs_in_arguments", "temporaries", "code"):
        words = name.replace("_", " ")
        lines.append(f"  {words:22}{memory[name] / _GIB:8.3f} GiB")
    lines.append("collectives      in the program   runs a step   GB a step and device")
    for kind, found in report["collectives"].items():
        lines.append(
            f"  {kind:20}{found['instructions']:9,}{found['runs']:14,}"
            f"{found['bytes'] / 1e9:16.3f}"
        )
    if report["loops_counted_once"]:
        lines.append(
            f"  {report['loops_counted_once']} loops of unknown length counted once"
        )
    days = cost["hours"] / 24
    lines += [
        f"{report['flops_per_step']:.3e} FLOPs a step (recomputation not counted)",
        f"modelled, at an MFU of {cost['mfu']:g} that was not measured:"
        f" {cost['seconds_per_step']:.3g} s a step, {cost['hours']:,.1f} h"
        f" ({days:.1f} days) for {report['steps']:,} steps,"
        f" {cost['chip_hours']:,.0f} chip-hours",
    ]
    if cost["dollars"] is not None:
        lines.append(
            f"modelled, at ${cost['price_per_chip_hour']:g} a chip-hour:"
            f" ${cost['dollars']:,.0f}"
        )
    return lines


def _number(
    convert: Callable[[str], Any], rule: str, holds: Callable[[Any], bool]
) -> Callable[[str], Any]:
    """Returns the type of an argument whose values keep a rule."""

    def parse(text: str) -> Any:
        try:
            if holds(value := convert(text)):
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"{rule}, got {text!r}")

    return parse


_EXAMPLES = """examples:
  gato-compile --topology v3:16x16 --model 1.18b --price 2.00
  gato-compile --topology v5e:16x16 --model 1.18b --set model.positions=rope
  gato-compile --topology v4:4x4x4 --model 364m --mesh data=64,fsdp=1 --json

Needs libtpu (pip install 'gato-pipelines[compile]'); no TPU. Memory and collectives are
the compiler's, hours and dollars are modelled."""


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser."""
    parser = argparse.ArgumentParser(
        prog="gato-compile",
        description="Compiles the training step for a TPU slice, without one.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--topology", required=True, metavar="SLICE", help="as v3:16x16 or v4:4x4x4")
    add("--model", choices=list(PRESETS), default="tiny", help="preset (%(default)s)")
    add("--batch_size", type=int, help="rows of the global batch")
    add("--steps", type=int, help="updates of the whole run")
    add("--mesh", metavar="SIZES", help="as data=32,fsdp=16; else chosen to leave room")
    add_overrides(parser, "any key of the config, as model.remat=block")
    add(
        "--sequence_length",
        type=_number(int, "a count of at least 1", lambda n: n >= 1),
        default=PAPER_LENGTH,
        metavar="L",
        help="slots of a row (%(default)s)",
    )
    add(
        "--patches",
        type=_number(int, "a count of at least 0", lambda n: n >= 0),
        metavar="N",
        help="image patches a row; else as many as slots, the most there can be",
    )
    add(
        "--mfu",
        type=_number(float, "a share in (0, 1]", lambda x: 0 < x <= 1),
        default=0.4,
        metavar="SHARE",
        help="of peak FLOP/s that hours are modelled at (%(default)s; not measured)",
    )
    add(
        "--price",
        type=_number(float, "dollars of at least 0", lambda x: 0 <= x < math.inf),
        metavar="DOLLARS",
        help="a chip-hour",
    )
    add("--hlo", metavar="FILE", help="write the compiled program's text here")
    add("--json", action="store_true", help="print all figures as JSON")
    return parser


def _execute(arguments: argparse.Namespace) -> None:
    # Where libtpu is installed, JAX would otherwise look for TPUs here.
    jax.config.update("jax_platforms", "cpu")
    report = _report(arguments)
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        print("\n".join(_lines(report)))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 1 for failure or 2 for usage."""
    return run_command(_execute, make_parser(), argv, "nothing was kept")


if __name__ == "__main__":
    sys.exit(main())

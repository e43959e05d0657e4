"""gato-compile: what it reads in compiled programs, what it models, what it refuses.

What needs libtpu is skipped where that is not installed.
"""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import types
from typing import Any

import jax
import pytest
from small_models import small_config

from gato.model import compile as compile_command
from gato.model import topology
from gato.model.batch import Batch
from gato.model.collectives import Collective, num_bytes, read_traffic
from gato.model.compile import abstract_batch, default_mesh, lower_step, model_cost
from gato.model.config import PAPER_LENGTH, PAPER_VOCABULARY
from gato.model.configs import PRESETS
from gato.model.sharding import make_mesh
from gato.model.step import Model
from gato.schemas.errors import UsageError

GIB = 1 << 30
# As libtpu 0.0.42 writes for v3 and v5e, shortened: a loop of 4 by its condition, one
# of 6 by its configuration, a conditional, pieces of one transfer, and what starts and
# is done elsewhere.
PROGRAM = """HloModule jit_train_step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %add.1 = f32[]{:T(256)} add(%x, %y)
}

%all-reduce-scatter.1 (input.1: f32[256,128]) -> f32[256,64] {
  %input.1 = f32[256,128]{0,1:T(8,128)} parameter(0)
  %all-reduce.9 = f32[256,128]{0,1:T(8,128)} all-reduce(%input.1), channel_id=9, \
replica_groups={{0,2}}, to_apply=%add
  ROOT %dynamic-slice.1 = f32[256,64]{0,1:T(8,128)} dynamic-slice(%all-reduce.9)
}

%async_collective_fusion.1 (p.1: bf16[8,32]) -> (bf16[8,32], bf16[8,128]) {
  %p.1 = bf16[8,32]{1,0:T(8,128)(2,1)} parameter(0)
  %all-gather.1 = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} all-gather(%p.1), channel_id=5, \
replica_groups={{0,1,2,3}}, dimensions={1}
  ROOT %tuple.1 = (bf16[8,32]{1,0}, bf16[8,128]{1,0}) tuple(%p.1, %all-gather.1)
}

%async_collective_fusion.2 (p.2: bf16[8,32]) -> (bf16[8,32], bf16[8,128]) {
  %p.2 = bf16[8,32]{1,0:T(8,128)(2,1)} parameter(0)
  %all-gather.2 = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} all-gather(%p.2), channel_id=5, \
replica_groups={{0,1,2,3}}, dimensions={1}
  ROOT %tuple.2 = (bf16[8,32]{1,0}, bf16[8,128]{1,0}) tuple(%p.2, %all-gather.2)
}

%body.1 (carry.1: (s32[], bf16[8,32])) -> (s32[], bf16[8,32]) {
  %carry.1 = (s32[]{:T(256)}, bf16[8,32]{1,0}) parameter(0)
  %element.1 = bf16[8,32]{1,0} get-tuple-element(%carry.1), index=1
  %fusion.1 = (bf16[8,32]{1,0}, bf16[8,128]{1,0}) fusion(%element.1), kind=kCustom, \
calls=%async_collective_fusion.1
  %fusion.2 = (bf16[8,32]{1,0}, bf16[8,128]{1,0}) fusion(%element.1), kind=kCustom, \
calls=%async_collective_fusion.2
  ROOT %tuple.3 = (s32[]{:T(256)}, bf16[8,32]{1,0}) tuple(%element.1, %element.1)
}

%condition.1 (carry.2: (s32[], bf16[8,32])) -> pred[] {
  %constant.1 = s32[]{:T(256)} constant(4)
  %carry.2 = (s32[]{:T(256)}, bf16[8,32]{1,0}) parameter(0)
  %element.2 = s32[]{:T(256)} get-tuple-element(%carry.2), index=0
  ROOT %lt.1 = pred[]{:T(1024)} compare(%element.2, %constant.1), direction=LT
}

%branch.1 (p.3: f32[256,128]) -> f32[256,64] {
  %p.3 = f32[256,128]{0,1} parameter(0)
  ROOT %fusion.3 = f32[256,64]{0,1} fusion(%p.3), kind=kCustom, \
calls=%all-reduce-scatter.1
}

%branch.2 (p.4: f32[256,128]) -> f32[256,64] {
  %p.4 = f32[256,128]{0,1} parameter(0)
  ROOT %slice.1 = f32[256,64]{0,1} slice(%p.4), slice={[0:256], [0:64]}
}

%body.2 (carry.3: (s32[], f32[256,128])) -> (s32[], f32[256,128]) {
  %carry.3 = (s32[], f32[256,128]{0,1}) parameter(0)
  %element.3 = f32[256,128]{0,1} get-tuple-element(%carry.3), index=1
  %conditional.1 = f32[256,64]{0,1} conditional(%element.3, %element.3, %element.3), \
branch_computations={%branch.1, %branch.2}
  %while.2 = (s32[]{:T(256)}, bf16[8,32]{1,0}) while(%element.3), \
condition=%condition.1, body=%body.1
  ROOT %tuple.4 = (s32[], f32[256,128]{0,1}) tuple(%element.3, %element.3)
}

%condition.2 (carry.4: (s32[], f32[256,128])) -> pred[] {
  %carry.4 = (s32[], f32[256,128]{0,1}) parameter(0)
  ROOT %done.1 = pred[] custom-call(%carry.4), custom_call_target="Done"
}

ENTRY %main.1 (given.1: bf16[8,32], given.2: f32[256,128]) -> f32[] {
  %given.1 = bf16[8,32]{1,0} parameter(0)
  %given.2 = f32[256,128]{0,1} parameter(1)
  %while.1 = (s32[], f32[256,128]{0,1}) while(%given.2), condition=%condition.2, \
body=%body.2, backend_config={"known_trip_count":{"n":"3"}}
  %all-gather-start.1 = (bf16[8,32]{1,0}, bf16[16,32]{1,0}) \
all-gather-start(%given.1), channel_id=20, dimensions={0}
  %all-gather-done.1 = bf16[16,32]{1,0} all-gather-done(%all-gather-start.1)
  %all-reduce.1 = (f32[256,128]{0,1}, /*index=1*/pred[3]{0}) \
all-reduce(%given.2, %given.2), channel_id=21, to_apply=%add
  ROOT %zero.1 = f32[] constant(0)
}
"""


def test_collectives_are_counted_by_what_runs():
    traffic = read_traffic(PROGRAM)
    assert traffic.unknown_loops == 0
    assert sorted(traffic.collectives, key=lambda one: (one.kind, one.runs)) == [
        Collective(kind="all-gather", bytes=16 * 32 * 2, runs=1),
        # Two pieces of one transfer, in a loop of 4 in one of 3.
        Collective(kind="all-gather", bytes=8 * 128 * 2, runs=12),
        Collective(kind="all-reduce", bytes=2 * 256 * 128 * 4, runs=1),
        # In a branch of the loop of 3; what goes in counts, and not the kept half.
        Collective(kind="reduce-scatter", bytes=256 * 128 * 4, runs=3),
    ]
    assert traffic.by_kind() == {
        "all-gather": {"instructions": 2, "runs": 13, "bytes": 1024 + 12 * 2048},
        "all-reduce": {"instructions": 1, "runs": 1, "bytes": 262144},
        "reduce-scatter": {"instructions": 1, "runs": 3, "bytes": 3 * 131072},
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [("direction=LT", "direction=NE"), ("constant(4)", "copy(%x)")],
)
def test_a_loop_of_unknown_length_is_told_and_counted_once(old, new):
    assert old in PROGRAM
    traffic = read_traffic(PROGRAM.replace(old, new))
    assert traffic.unknown_loops == 1
    assert traffic.by_kind()["all-gather"]["runs"] == 1 + 3


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("f32[]{:T(256)}", 4),
        ("s4[3]{0}", 2),
        ("bf16[2,3]{1,0:T(4,128)(2,1)S(1)}", 12),
        ("(u8[7]{0}, f8e4m3fn[5]{0}, /*index=2*/c64[2]{0})", 7 + 5 + 16),
        ("f32[0,128]{1,0}", 0),
        ("token[]", 0),
    ],
)
def test_bytes_of_a_shape(shape, expected):
    assert num_bytes(shape) == expected


def test_a_program_of_this_machine_is_read():
    """What JAX compiles for 8 CPU devices: one sum over all of 4 * 6 floats."""
    mesh = make_mesh({"data": 8, "fsdp": 1, "tensor": 1})
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    summed = jax.jit(lambda x: x.sum(0), out_shardings=whole)
    given = jax.ShapeDtypeStruct((16, 4, 6), "float32", sharding=rows)
    traffic = read_traffic(summed.lower(given).compile().as_text() or "")
    assert traffic.collectives == (Collective(kind="all-reduce", bytes=96, runs=1),)


def test_cost_by_hand():
    # 1e15 / (8e15 * 0.25) = 0.5 s; 7,200 steps are an hour of 256 chips.
    cost = model_cost(1e15, 7200, peak=8e15, mfu=0.25, chips=256, price=2.0)
    assert cost.seconds_per_step == 0.5
    assert (cost.hours, cost.chip_hours, cost.dollars) == (1, 256, 512)
    free = model_cost(1e15, 7200, peak=8e15, mfu=0.25, chips=256, price=None)
    assert free.dollars is None


def a_slice(count: int, memory: int) -> Any:
    return types.SimpleNamespace(devices=[None] * count, memory=memory)


@pytest.mark.parametrize(
    ("name", "count", "memory", "fsdp"),
    [
        ("1.18b", 512, 16 * GIB, 16),
        ("1.18b", 8, 16 * GIB, 8),
        ("tiny", 4, 16 * GIB, 1),
        ("1.18b", 64, 95 * GIB, 2),
    ],
)
def test_parameters_are_split_until_there_is_room(name, count, memory, fsdp):
    model = Model(
        PRESETS[name](), vocabulary_size=PAPER_VOCABULARY, sequence_length=PAPER_LENGTH
    )
    sizes = default_mesh(model, a_slice(count, memory))
    assert sizes == {"data": count // fsdp, "fsdp": fsdp, "tensor": 1}


def test_the_step_is_lowered_for_the_batch_that_the_loader_would_give():
    model = Model(small_config(), vocabulary_size=200, sequence_length=16)
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 1})
    batch = abstract_batch(model, mesh, 3)
    assert isinstance(batch, Batch)
    assert batch.tokens_BL.shape == (4, 16)
    assert batch.patches_GPC.shape == (4, 3, 768)
    text = lower_step(model, mesh, 3).as_text()
    assert "tensor<4x3x768xui8>" in text
    assert text.count("jax.buffer_donor") + text.count("tf.aliasing_output") > 0


def test_without_libtpu_it_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    assert compile_command.main(["--topology", "v3:2x2"]) == 2
    said = capsys.readouterr().err
    assert "pip install 'gato-pipelines[compile]'" in said


def test_a_slice_that_libtpu_does_not_know_is_refused(monkeypatch):
    def unknown(*_args, **_options):
        raise RuntimeError("INVALID_ARGUMENT: Invalid TPU external name: TPU v9")

    monkeypatch.setattr(topology, "_check_compiler", lambda: None)
    monkeypatch.setattr("jax.experimental.topologies.get_topology_desc", unknown)
    for variable in ("TPU_SKIP_MDS_QUERY", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "")
    with pytest.raises(UsageError, match=r"'v9:2x2': .*Invalid TPU external name"):
        topology.get_topology("v9:2x2")
    with pytest.raises(UsageError, match="got 'v3': no grid is given"):
        topology.get_topology("v3")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--mfu", "1.5"], r"a share in \(0, 1\], got '1.5'"),
        (["--price", "x"], "dollars of at least 0, got 'x'"),
        (["--patches", "-1"], "a count of at least 0"),
        (["--sequence_length", "0"], "a count of at least 1"),
    ],
)
def test_arguments_that_keep_no_rule_are_refused(capsys, given, said):
    with pytest.raises(SystemExit) as stopped:
        compile_command.main(["--topology", "v3:2x2", *given])
    assert stopped.value.code == 2

    assert re.search(said, capsys.readouterr().err)


SMALL = (
    "--model=tiny --batch_size=8 --sequence_length=128 --patches=2 --set=model.width=64"
    " --set=model.blocks=2 --set=model.heads=2 --set=model.feed_forward=64"
)


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec("libtpu"), reason="libtpu is not installed"
)
@pytest.mark.parametrize(
    ("name", "mesh", "devices", "attention"),
    [
        ("v3:2x2", "fsdp=2,tensor=2", 8, "xla"),
        ("v4:2x2x1", "fsdp=2,tensor=2", 4, "splash"),
        ("v5e:2x2", "fsdp=2", 4, "splash"),
    ],
)
def test_the_step_is_compiled_for_real_slices(
    tmp_path: pathlib.Path, name, mesh, devices, attention
):
    text = tmp_path / "step.hlo"
    # A process of its own: here XLA has flags for quick compilation.
    done = subprocess.run(
        [
            *(sys.executable, "-m", "gato.model.compile", "--json"),
            *(f"--topology={name}", f"--mesh={mesh}", f"--hlo={text}", "--price=2"),
            *SMALL.split(),
        ],
        env={**os.environ, "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["devices"], report["chips"]) == (devices, 4)
    assert report["attention"] == attention
    # Pallas' kernels are custom calls: forward, and two backward.
    kernels = text.read_text().count('custom_call_target="tpu_custom_call"')
    assert kernels == (3 if attention == "splash" else 0)
    memory = report["memory_per_device"]
    held = sum(report["state_per_device"].values())
    assert 0.5 * held < memory["arguments"] < 1.5 * held
    assert memory["total"] < memory["device"]
    assert report["loops_counted_once"] == 0
    assert {"all-gather", "all-reduce"} <= report["collectives"].keys()
    assert report["modelled"]["dollars"] > 0

"""A build's peak memory does not grow with its input (docs/benchmarks.md).

The full series, 1x, 4x and 16x, is `pytest -m long tests/pipelines/test_memory.py`, and
prints its figures with `-s`.
"""

import dataclasses
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import raw_inputs

# Prints the peak of a build in a process of its own: `import` is before, `build` after.
SCRIPT = """
import sys
from gato.pipelines import build

def peak():
    with open("/proc/self/status") as status:
        return next(int(l.split()[1]) << 10 for l in status if l.startswith("VmHWM"))

imported = peak()
code = build.main(sys.argv[1:])
print(imported, peak())
sys.exit(code)
"""
MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Peak:
    """Bytes of resident memory: once imported, and at the most."""

    imported: int
    build: int


def write_input(root: pathlib.Path, copies: int) -> pathlib.Path:
    """Writes `copies` times about 15 MB of images, 2 MB of floats and 1 MB of text.

    Each copy is files of its own, so that a worker's part has the same size.
    """
    raw = root / "raw"
    for number in range(copies):
        generator = np.random.default_rng(number)
        samples = [
            raw_inputs.Captioned(
                key=f"{number}-{n}",
                image=raw_inputs.encode_image(
                    generator.integers(0, 256, (112, 112, 3)).astype(np.uint8)
                ),
                caption=raw_inputs.sentence(generator, 8),
            )
            for n in range(400)
        ]
        raw_inputs.write_webdataset(raw / "pairs" / f"{number}.tar", samples)
        walks = raw_inputs.random_walks(
            number, 60, steps=(60, 100), dimensions=39, actions=4
        )
        raw_inputs.write_minari(raw, f"toy/walk{number}/a-v0", walks)
        texts = raw_inputs.texts(number, 500, words=(100, 500))
        raw_inputs.write_jsonl(raw / "text" / f"{number}.jsonl", texts)
    return raw_inputs.write_config(
        root / "build.yaml",
        [
            {
                "name": "pairs",
                "format": "webdataset",
                "paths": ["raw/pairs/*.tar"],
                "image": {"encoding": "keep"},
            },
            {
                "name": "walk",
                "format": "minari",
                "paths": ["raw/toy/*/*"],
                "task": "walk",
                "agent": "one",
                "filter": {"by": "none"},
            },
            {"name": "text", "format": "text", "paths": ["raw/text/*"]},
        ],
        shard_bytes="4MB",
    )


def peak_of_build(root: pathlib.Path, copies: int, patch: str = "") -> Peak:
    config = write_input(root / f"{copies}x", copies)
    command = [sys.executable, "-c", patch + SCRIPT, "--config", str(config)]
    done = subprocess.run(
        [*command, "--output", str(root / f"out{copies}")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"MALLOC_ARENA_MAX": "2"},
    )
    assert done.returncode == 0, done.stderr
    imported, build = map(int, done.stdout.split()[-2:])
    print(f"{copies}x: imported {imported / MIB:.0f} MiB, peak {build / MIB:.0f} MiB")
    return Peak(imported, build)


def assert_flat(small: Peak, large: Peak) -> None:
    # A payload that crossed a shuffle would be held at least once; the plan alone,
    # some 100 bytes a row, is all that may.
    assert large.build <= 1.1 * small.build, (small, large)
    assert large.build < 1500 * MIB


@pytest.mark.slow
def test_memory_is_flat_at_four_times_the_input(tmp_path: pathlib.Path) -> None:
    assert_flat(peak_of_build(tmp_path, 1), peak_of_build(tmp_path, 4))


@pytest.mark.long
def test_memory_is_flat_at_sixteen_times_the_input(tmp_path: pathlib.Path) -> None:
    peaks = [peak_of_build(tmp_path, copies) for copies in (1, 4, 16)]
    assert_flat(peaks[0], peaks[1])
    assert_flat(peaks[0], peaks[2])


@pytest.mark.long
def test_the_measure_sees_what_is_held(tmp_path: pathlib.Path) -> None:
    """With every record kept the same builds are not flat."""
    holding = """
from gato.pipelines import assemble
held, real = [], assemble.encode_row
assemble.encode_row = lambda row: held.append(real(row)) or held[-1]
"""
    small = peak_of_build(tmp_path, 1, holding)
    large = peak_of_build(tmp_path, 4, holding)
    assert large.build > 1.1 * small.build

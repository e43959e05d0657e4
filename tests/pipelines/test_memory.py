"""A build's peak memory does not grow with its input (docs/benchmarks.md).

The full series, 1x, 4x and 16x, is `pytest -m long tests/pipelines/test_memory.py`, and
prints its figures with `-s`.
"""

import dataclasses
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pytest
import raw_inputs

# A process of its own prints its peak, before and after: of a build, ...
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
# ... and of a reader that reads every partition of a config's only data set, in order.
READ_SCRIPT = SCRIPT.replace(
    "build.main(sys.argv[1:])", "read_all(sys.argv[sys.argv.index('--config') + 1])"
).replace(
    "imported =",
    """
def read_all(config):
    (dataset,) = load_config(config).datasets
    source = source_for(dataset.format)
    (path,) = expand(dataset)
    for part in source.partition(path.path, path.relative_path, dataset):
        for item in source.read(part, dataset):
            assert isinstance(item, Document), item
    return 0

from gato.pipelines.discover import expand
from gato.pipelines.sources.registry import source_for
from gato.schemas.config import load_config
from gato.schemas.episode import Document
imported =""",
)
MIB = 1 << 20
PLAN_BYTES_A_WINDOW = 400


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


def write_large_tar(root: pathlib.Path, num_bytes: int) -> dict[str, Any]:
    """Writes one tar of photographs and captions, of so many bytes."""
    generator = np.random.default_rng(0)
    images = [
        raw_inputs.encode_image(
            generator.integers(0, 256, (224, 224, 3)).astype(np.uint8), ".jpg"
        )
        for _ in range(50)
    ]
    (root / "raw").mkdir(parents=True)
    with tarfile.open(root / "raw" / "large.tar", "w") as tar:
        for number in range(num_bytes // (len(images[0]) + 2048)):
            caption = f"picture {number}".encode()
            for extension, data in (("jpg", images[number % 50]), ("txt", caption)):
                member = tarfile.TarInfo(f"{number:08d}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return {
        "name": "pairs",
        "format": "webdataset",
        "paths": ["raw/*.tar"],
        "image": {"encoding": "keep"},
    }


def write_large_hdf5(root: pathlib.Path, num_bytes: int) -> dict[str, Any]:
    """Writes one Minari data set of floats, of so many bytes, by copying episodes."""
    walks = raw_inputs.random_walks(0, 50, steps=(500, 501), dimensions=39, actions=4)
    folder = raw_inputs.write_minari(root / "raw", "toy/walk/a-v0", walks)
    path = folder / "data" / "main_data.hdf5"
    copies = num_bytes // path.stat().st_size
    with h5py.File(path, "a") as file:
        for number in range(50, 50 * copies):
            file.copy(f"episode_{number % 50}", f"episode_{number}")
            file[f"episode_{number}"].attrs["id"] = number
    metadata = json.loads((folder / "data" / "metadata.json").read_text())
    metadata["total_episodes"] *= copies
    metadata["total_steps"] *= copies
    (folder / "data" / "metadata.json").write_text(json.dumps(metadata))
    return {
        "name": "walk",
        "format": "minari",
        "paths": ["raw/toy/*/*"],
        "filter": {"by": "none"},
    }


def write_large_text(root: pathlib.Path, num_bytes: int) -> dict[str, Any]:
    """Writes one text of so many bytes, of lines of 1 to 9 KB."""
    texts = raw_inputs.texts(0, 300, words=(250, 2000))
    block = "".join(" ".join(text.split()) + "\n" for text in texts).encode()
    path = root / "raw" / "large.txt"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        for _ in range(max(1, num_bytes // len(block))):
            file.write(block)
    return {
        "name": "text",
        "format": "text",
        "paths": ["raw/*.txt"],
        "document": "line",
    }


def peaks_of_texts(
    tmp_path: pathlib.Path, sizes: tuple[int, int], script: str
) -> tuple[list[Peak], int]:
    """Returns the peaks with texts of two sizes, and the larger's windows, at most."""
    peaks, windows = [], 0
    for num_bytes in sizes:
        root = tmp_path / str(num_bytes)
        config = raw_inputs.write_config(
            root / "build.yaml", [write_large_text(root, num_bytes)]
        )
        what = "reading" if script == READ_SCRIPT else "building"
        label = f"{what} a text of {num_bytes / 1e9:.2f} GB"
        peaks.append(peak_of(config, root / "out", label, script=script))
        if script == SCRIPT:
            path = root / "out" / "text" / "manifest.json"
            manifest = json.loads(path.read_text())
            # A document's last window may be short, the others fill rows.
            windows = manifest["documents"]["kept"] + manifest["rows"]
        shutil.rmtree(root)
    return peaks, windows


def peak_of_build(root: pathlib.Path, copies: int, patch: str = "") -> Peak:
    config = write_input(root / f"{copies}x", copies)
    return peak_of(config, root / f"out{copies}", f"{copies}x", patch)


def peak_of(
    config: pathlib.Path,
    output: pathlib.Path,
    label: str,
    patch: str = "",
    script: str = SCRIPT,
) -> Peak:
    """Builds in a process of its own, and prints and returns its peak."""
    command = [sys.executable, "-c", patch + script, "--config", str(config)]
    done = subprocess.run(
        [*command, "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"MALLOC_ARENA_MAX": "2"},
    )
    assert done.returncode == 0, done.stderr
    imported, build = map(int, done.stdout.split()[-2:])
    print(f"{label}: imported {imported / MIB:.0f} MiB, peak {build / MIB:.0f} MiB")
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
@pytest.mark.parametrize("write", [write_large_tar, write_large_hdf5])
def test_memory_is_flat_on_one_file_of_two_gigabytes(
    tmp_path: pathlib.Path, write: Callable[[pathlib.Path, int], dict[str, Any]]
) -> None:
    peaks, windows = [], 0
    for num_bytes in (256_000_000, 2_000_000_000):
        root = tmp_path / str(num_bytes)
        entry = write(root, num_bytes)
        config = raw_inputs.write_config(root / "build.yaml", [entry])
        label = f"{write.__name__} {num_bytes / 1e9:.2f} GB"
        peaks.append(peak_of(config, root / "out", label))
        manifest = json.loads(
            (root / "out" / entry["name"] / "manifest.json").read_text()
        )
        windows = manifest["prompts"]["windows"]
        shutil.rmtree(root)
    # One bucket of 8,192 episodes is planned at a time, and the small input is less.
    plan = PLAN_BYTES_A_WINDOW * windows
    assert peaks[1].build <= 1.1 * peaks[0].build + plan, (peaks, plan)
    assert peaks[1].build < 1500 * MIB


def test_reading_a_text_is_flat(tmp_path: pathlib.Path) -> None:
    # The larger one is more than a partition.
    assert_flat(*peaks_of_texts(tmp_path, (16_000_000, 320_000_000), READ_SCRIPT)[0])


@pytest.mark.long
def test_reading_a_text_of_five_gigabytes_is_flat(tmp_path: pathlib.Path) -> None:
    sizes = (300_000_000, 5_000_000_000)
    assert_flat(*peaks_of_texts(tmp_path, sizes, READ_SCRIPT)[0])


@pytest.mark.long
def test_building_a_text_of_five_gigabytes_is_flat(tmp_path: pathlib.Path) -> None:
    sizes = (300_000_000, 5_000_000_000)
    (small, large), windows = peaks_of_texts(tmp_path, sizes, SCRIPT)
    plan = PLAN_BYTES_A_WINDOW * windows
    assert large.build <= 1.1 * small.build + plan, (small, large, plan)
    assert large.build < 1500 * MIB


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

"""Makes the sample of this folder: records, builds, and notes by which versions.

    python tests/testdata/sample/make.py
    python tests/testdata/sample/make.py --output another_folder

`build` and `versions.json` are committed. The same versions on the same kind of machine
make the same bytes, manifests included; tests/test_sample.py compares.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import sys
import tempfile

import numpy as np

from gato.pipelines import build, record

FOLDER = pathlib.Path(__file__).resolve().parent
COMMANDS = (
    "babyai --output raw --levels BabyAI-GoToObj-v0,BabyAI-PickupLoc-v0 --episodes 6",
    "metaworld --output raw --tasks button-press-v3,reach-v3 --episodes 4"
    " --max_steps 60",
    "captions --output raw/captions --scenes 60",
    "questions --output raw/questions --scenes 16",
)
# What decides a byte of the sample, beside this project.
PACKAGES = (
    "apache-beam",
    "h5py",
    "metaworld",
    "minari",
    "minigrid",
    "mujoco",
    "numpy",
    "opencv-python-headless",
    "pyarrow",
    "sentencepiece",
)


def versions() -> dict[str, str]:
    """Returns what the bytes depend on: packages, and what NumPy finds in the CPU."""
    extensions = np.show_config(mode="dicts")["SIMD Extensions"]  # type: ignore[index]
    return {
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "machine": platform.machine(),
        "numpy_extensions": " ".join(sorted(extensions.get("found", ()))),
    }


def make(folder: pathlib.Path) -> None:
    """Records and builds in an empty folder; leaves the build in `sample/build`.

    Relative paths enter the manifests, so that they say nothing of the machine.
    """
    sample = folder / "sample"
    sample.mkdir()
    shutil.copy(FOLDER / "sample.yaml", sample)
    shutil.copytree(FOLDER.parent / "vocabulary", folder / "vocabulary")
    with contextlib.chdir(sample):
        for command in COMMANDS:
            if record.main(command.split()):
                sys.exit(f"gato-record {command} failed")
        for path in pathlib.Path().rglob("*"):
            # A fingerprint covers when its files were written.
            os.utime(path, (0, 0))
        if build.main(["--config", "sample.yaml", "--output", "build"]):
            sys.exit("gato-build failed")


def main() -> None:
    """Replaces the build and its versions in a folder."""
    parser = argparse.ArgumentParser(description="Makes the sample again.")
    parser.add_argument("--output", type=pathlib.Path, default=FOLDER)
    parser.add_argument(
        "--versions", action="store_true", help="only print what versions.json would be"
    )
    arguments = parser.parse_args()
    text = json.dumps(versions(), indent=1)
    if arguments.versions:
        print(text)
        return
    output = arguments.output
    with tempfile.TemporaryDirectory() as folder:
        make(pathlib.Path(folder))
        shutil.rmtree(output / "build", ignore_errors=True)
        shutil.copytree(pathlib.Path(folder) / "sample" / "build", output / "build")
    (output / "versions.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

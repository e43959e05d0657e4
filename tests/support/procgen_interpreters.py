"""Interpreters for Procgen's recorder: one with a toy game, and the real one if any."""

import os
import pathlib
import sys

import pytest

TOY = pathlib.Path(__file__).parent / "toy_procgen"
REAL = os.environ.get("GATO_PROCGEN_PYTHON")

needs_procgen = pytest.mark.skipif(
    REAL is None,
    reason="GATO_PROCGEN_PYTHON names no interpreter that imports procgen",
)


def make_toy(folder: pathlib.Path) -> str:
    """Returns an interpreter that finds `toy_procgen` where others find procgen."""
    about = folder / "procgen_mirror-0.0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: procgen-mirror\nVersion: 0.0.1\n"
    )
    python = folder / "python"
    # -I keeps PYTHONPATH out as well; -P does what is left of it.
    python.write_text(
        '#!/bin/sh\nif [ "$1" != -I ]; then exit 9; fi\nshift\n'
        f'PYTHONPATH="{TOY}:{folder}" exec "{sys.executable}" -P "$@"\n'
    )
    python.chmod(0o755)
    return str(python)

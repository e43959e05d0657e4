"""The files that packaging reads, copied, so that building leaves no traces here."""

import pathlib
import shutil

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = ("model", "pipelines", "schemas", "tokenizers")
_FILES = ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py")


def copy_sources(folder: pathlib.Path) -> pathlib.Path:
    """Copies what a clone has for packaging into `folder`; returns its setup.py."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder / name)
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    return folder / "setup.py"

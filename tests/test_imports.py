"""Who may import whom: `schemas` nothing of ours, `tokenizers` schemas, and so on."""

import ast
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MAY_IMPORT = {
    "schemas": {"schemas"},
    "tokenizers": {"schemas", "tokenizers"},
    "pipelines": {"schemas", "tokenizers", "pipelines"},
    "model": {"schemas", "tokenizers", "model"},
}
FRAMEWORKS = {"jax", "jaxlib", "flax", "optax", "orbax", "grain"}
SIMULATORS = {"gymnasium", "minari", "minigrid", "dm_control", "metaworld", "ale_py"}
# Third-party modules that no module of a folder may import, anywhere in it, but those
# named in EXCEPTIONS.
FORBIDDEN = {
    "schemas": FRAMEWORKS | SIMULATORS | {"apache_beam", "tensorflow"},
    "tokenizers": FRAMEWORKS | SIMULATORS | {"apache_beam", "tensorflow"},
    "pipelines": FRAMEWORKS | SIMULATORS | {"tensorflow"},
    "model": {"apache_beam", "tensorflow"},
}
EXCEPTIONS = {
    # For users of TensorFlow, who import it themselves.
    "schemas/tensorflow.py": {"tensorflow"},
}
# The recorder steps environments; it is a program of its own beside the Beam job.
RECORDER = ("pipelines/recorders/", "pipelines/record.py")


def imports(path: pathlib.Path) -> Iterator[str]:
    """Yields the full names of the modules a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(folder: str) -> list[pathlib.Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert len(found) > 5
    return found


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_folders_import_in_one_direction(folder: str) -> None:
    wrong = [
        (str(path.relative_to(ROOT)), name)
        for path in modules(folder)
        for name in imports(path)
        if name.startswith("gato.") and name.split(".")[1] not in MAY_IMPORT[folder]
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_folders_keep_frameworks_out(folder: str) -> None:
    wrong = []
    for path in modules(folder):
        relative = str(path.relative_to(ROOT))
        allowed = EXCEPTIONS.get(relative, set())
        if relative.startswith(RECORDER):
            allowed = SIMULATORS
        for name in imports(path):
            if name.split(".")[0] in FORBIDDEN[folder] - allowed:
                wrong.append((relative, name))
    assert wrong == []


def loaded_by(module: str) -> set[str]:
    """Returns the top-level names that importing a module loads."""
    script = (
        f"import sys, {module};"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_trainer_loads_neither_beam_nor_tensorflow() -> None:
    loaded = loaded_by("gato.model.train")
    assert "jax" in loaded
    assert not loaded & {"apache_beam", "tensorflow"}

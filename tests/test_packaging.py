"""What an install adds and needs, from the sdist that Beam's `--setup_file` makes."""

import email
import importlib
import importlib.metadata
import os
import pathlib
import subprocess
import sys
import sysconfig
import tarfile
import venv
from email.message import Message
from typing import Any

import pytest
import source_tree
from apache_beam.runners.portability.stager import Stager
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.slow

# What the extras bring: nothing of it may be needed by a Beam worker.
EXTRAS_ONLY = (
    "ale_py",
    "dm_control",
    "flax",
    "grain",
    "gymnasium",
    "hypothesis",
    "jax",
    "jaxlib",
    "jaxtyping",
    "metaworld",
    "minari",
    "minigrid",
    "mujoco",
    "optax",
    "orbax",
    "pytest",
    "tensorboardX",
    "tensorflow",
    "tensorflow_datasets",
    "webdataset",
)
# Of these folders a worker may import every module but the recorders' environments.
WORKER_FOLDERS = ("schemas", "tokenizers", "pipelines")
NEED_EXTRAS = "gato.pipelines.recorders."

IMPORT_ALL = """
import importlib, pathlib, sys
import gato.schemas
for name in {blocked!r}:
    sys.modules[name] = None
root = pathlib.Path(gato.schemas.__file__).parents[1]
assert root == pathlib.Path({site!r}) / "gato", root
for folder in {folders!r}:
    for path in sorted((root / folder).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(("gato", *parts)).removesuffix(".__init__")
        if not name.startswith({skipped!r}):
            importlib.import_module(name)
            print(name)
"""


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The archive as `--setup_file ./setup.py` stages it."""
    root = tmp_path_factory.mktemp("sdist")
    setup = source_tree.copy_sources(root / "sources")
    return pathlib.Path(Stager._build_setup_package(str(setup), str(root)))


def run(*command: Any, **environment: str) -> str:
    ended = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


class Installed:
    """A clean environment that the sdist was installed in, and nothing else."""

    def __init__(self, folder: pathlib.Path, sdist: pathlib.Path) -> None:
        venv.create(folder, symlinks=True)
        self.python = folder / "bin" / "python"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.site = folder / "lib" / version / "site-packages"
        self.before = set(os.listdir(self.site))
        # What pip does with an sdist, in two steps: the build needs setuptools, which
        # is here, and no index.
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
        offline = ("--no-deps", "--no-index", "--quiet")
        wheels = folder / "wheels"
        build = ("wheel", "--no-build-isolation", "--wheel-dir", wheels)
        run(*pip, *build, *offline, sdist)
        (wheel,) = wheels.iterdir()
        run(*pip, "--python", self.python, "install", *offline, wheel)
        self.added = set(os.listdir(self.site)) - self.before
        self.scripts = {path.name for path in (folder / "bin").glob("gato-*")}
        # From here on the packages of this environment are visible behind ours.
        (self.site / "others.pth").write_text(sysconfig.get_path("purelib"))

    def metadata(self) -> Message:
        (info,) = self.site.glob("gato_pipelines-*.dist-info")
        return email.message_from_string((info / "METADATA").read_text("utf-8"))


@pytest.fixture(scope="module")
def installed(
    sdist: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    return Installed(tmp_path_factory.mktemp("clean"), sdist)


def test_there_is_no_gato_folder() -> None:
    """It would shadow the installed package for whoever runs from the root."""
    assert not (source_tree.ROOT / "gato").exists()


def test_the_sdist_holds_what_it_builds_from(sdist: pathlib.Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "setup.py"} <= names
    for folder in source_tree.FOLDERS:
        ours = {
            str(path.relative_to(source_tree.ROOT))
            for path in (source_tree.ROOT / folder).rglob("*.py")
        }
        assert ours <= names, ours - names
        assert f"{folder}/py.typed" in names
    assert not any(name.startswith(("tests", "gato/")) for name in names)


def test_an_install_adds_only_gato(installed: Installed) -> None:
    version = installed.metadata()["Version"]
    assert installed.added == {"gato", f"gato_pipelines-{version}.dist-info"}
    assert set(os.listdir(installed.site / "gato")) == set(source_tree.FOLDERS)
    for folder in source_tree.FOLDERS:
        assert (installed.site / "gato" / folder / "py.typed").exists()


def test_what_a_worker_imports_needs_no_extra(installed: Installed) -> None:
    code = IMPORT_ALL.format(
        blocked=EXTRAS_ONLY,
        site=str(installed.site),
        folders=WORKER_FOLDERS,
        skipped=NEED_EXTRAS,
    )
    # -P: no folder of the current directory stands before the install.
    names = run(installed.python, "-P", "-c", code).split()
    assert {"gato.pipelines.stages", "gato.tokenizers.text"} <= set(names)


def test_the_model_folder_is_there_and_describes_itself(installed: Installed) -> None:
    code = "import gato.model, gato.model.config; print(gato.model.config.__file__)"
    path = run(installed.python, "-P", "-c", code).strip()
    assert path == str(installed.site / "gato" / "model" / "config.py")


def base_requirements(metadata: Message) -> list[Requirement]:
    """Returns what an install without extras requires."""
    every = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    return [r for r in every if r.marker is None or r.marker.evaluate({"extra": ""})]


def closure(requirements: list[Requirement]) -> set[str]:
    """Returns the names of all that is required, from what is installed here."""
    seen: set[tuple[str, str]] = set()
    pending = [(r.name, extra) for r in requirements for extra in ("", *r.extras)]
    while pending:
        name, extra = pending.pop()
        if (canonicalize_name(name), extra) in seen:
            continue
        seen.add((canonicalize_name(name), extra))
        for text in importlib.metadata.distribution(name).requires or ():
            required = Requirement(text)
            if required.marker is None or required.marker.evaluate({"extra": extra}):
                pending += [(required.name, e) for e in ("", *required.extras)]
    return {name for name, _ in seen}


def test_a_base_install_has_neither_jax_nor_tensorflow(installed: Installed) -> None:
    names = closure(base_requirements(installed.metadata()))
    assert {"apache-beam", "google-cloud-storage", "numpy", "pyarrow"} <= names
    assert not names & {
        *("flax", "gymnasium", "jax", "jaxlib", "minari", "optax", "tensorboardx"),
        *("tensorflow", "tensorflow-cpu", "tensorflow-datasets", "torch"),
    }


def test_extras_and_versions_are_stated(installed: Installed) -> None:
    metadata = installed.metadata()
    assert metadata["Name"] == "gato-pipelines"
    assert SpecifierSet(metadata["Requires-Python"]) == SpecifierSet(">=3.11,<3.14")
    assert metadata["License-Expression"] or metadata["License"] == "Apache-2.0"
    extras = metadata.get_all("Provides-Extra", [])
    known = ["all", "compile", "dev", "envlogger", "envs", "rlds", "train", "video"]
    assert sorted(extras) == known
    # `all` is what the lock is resolved from.
    every = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    by_extra = {
        extra: {
            r.name for r in every if r.marker and r.marker.evaluate({"extra": extra})
        }
        for extra in extras
    }
    parts = ("dev", "envs", "rlds", "train", "video")
    assert by_extra["all"] == set().union(*(by_extra[part] for part in parts))


COMMANDS = {
    "gato-build",
    "gato-compile",
    "gato-evaluate",
    "gato-export",
    "gato-finetune",
    "gato-inspect",
    "gato-plan",
    "gato-record",
    "gato-train",
    "gato-verify",
    "gato-vocabulary",
}


def test_the_commands_are_installed_and_run(installed: Installed) -> None:
    assert installed.scripts == COMMANDS
    script = installed.python.with_name("gato-build")
    assert "usage: gato-build" in run(script, "--help")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_examples(name: str, capsys: Any) -> None:
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name=name)
    with pytest.raises(SystemExit) as stop:
        entry.load()(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: {name}" in text
    assert f"\n  {name} " in text.partition("examples:")[2]

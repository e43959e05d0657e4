"""The examples of docs/add_a_source.md run as they stand there."""

import pathlib
import re
import shutil
import sys
import types
from typing import Any

import building
import numpy as np
import pytest
import raw_inputs

from gato.pipelines import verify
from gato.pipelines.sources import canonical_columns, document_columns, registry
from gato.pipelines.sources.base import Source
from gato.schemas import formats
from gato.schemas.errors import UsageError
from gato.schemas.manifest import load_dataset_manifest

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "add_a_source.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)


def run_block(text: str) -> dict[str, Any]:
    module = types.ModuleType("example")
    exec(compile(text, "docs/add_a_source.md", "exec"), module.__dict__)
    return module.__dict__


@pytest.fixture
def with_npz(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adds the example's reader by the file and the line that the document shows."""
    _, _, reader, line = blocks("python")
    name = "gato.pipelines.sources.npz"
    module = types.ModuleType(name)
    vars(module).update(run_block(reader))
    monkeypatch.setitem(sys.modules, name, module)
    ((key, value),) = eval("{" + line.strip() + "}", {"Format": formats.Format}).items()
    monkeypatch.setitem(formats.FORMATS, key, value)


def write_raw(root: pathlib.Path) -> None:
    """Writes CSV logs through the example's exporter, and archives, one damaged."""
    export = run_block(blocks("python")[0])["export"]
    (root / "raw" / "push").mkdir(parents=True)
    logs = []
    generator = np.random.default_rng(0)
    for number in range(6):
        steps = 3 + number
        table = np.column_stack(
            [
                generator.normal(size=(steps, 2)),
                generator.integers(0, 3, steps),
                np.arange(steps) == steps - 1,
            ]
        )
        logs.append(str(root / f"{number}.csv"))
        header = "x,y,push,reward"
        np.savetxt(logs[-1], table, delimiter=",", header=header, comments="")
    export(logs, str(root / "raw" / "push" / "0.parquet"))
    photos = {}
    for number, sample in enumerate(raw_inputs.captioned_images(0, 5)):
        photo = root / f"{number}.png"
        photo.write_bytes(sample.image)
        photos[str(photo)] = sample.caption
    (root / "raw" / "photos").mkdir()
    export_photos = run_block(blocks("python")[1])["export_photos"]
    export_photos(photos, str(root / "raw" / "photos" / "0.parquet"))
    folder = root / "raw" / "npz" / "reach"
    folder.mkdir(parents=True)
    for number in range(4):
        np.savez(
            folder / f"{number}.npz",
            observations=generator.normal(size=(5, 3)),
            actions=generator.uniform(-1, 1, (5, 2)),
            rewards=np.ones(5),
        )
    whole = (folder / "3.npz").read_bytes()
    (folder / "3.npz").write_bytes(whole[:200])


@pytest.mark.slow
@pytest.mark.usefixtures("with_npz")
def test_every_way_builds(tmp_path: pathlib.Path) -> None:
    write_raw(tmp_path)
    config = tmp_path / "build.yaml"
    config.write_text(blocks("yaml")[0])
    shutil.copy(raw_inputs.VOCABULARY, tmp_path / "text32k.model")
    output = tmp_path / "out"
    assert building.run_build(config, output) == 0
    assert verify.main([str(output)]) == 0
    exported = load_dataset_manifest(str(output / "exported"))
    photos = load_dataset_manifest(str(output / "photos"))
    assert photos.documents is not None
    assert (photos.documents.read, photos.documents.kept) == (5, 5)
    archives = load_dataset_manifest(str(output / "archives"))
    assert exported.episodes is not None
    assert exported.episodes.read == 6
    assert list(exported.tasks) == ["push-the-block"]
    spec = exported.tasks["push-the-block"].spec
    assert spec is not None
    (action,) = spec.actions
    assert (action.key, action.num_values) == ("push", 3)
    assert archives.episodes is not None
    assert archives.episodes.kept == 3
    assert archives.episodes.quarantined == {"corrupt_episode": 1}
    assert list(archives.tasks) == ["reach"]


@pytest.mark.usefixtures("with_npz")
def test_the_reader_is_a_source(tmp_path: pathlib.Path) -> None:
    source = registry.source_for("npz")
    for name in (name for name in vars(Source) if not name.startswith("_")):
        assert hasattr(source, name)
    with pytest.raises(UsageError, match=r"is a \.npz file"):
        source.files(str(tmp_path))


def test_the_example_is_not_a_format_yet() -> None:
    with pytest.raises(UsageError, match="a format is one of"):
        registry.source_for("npz")


@pytest.mark.parametrize("name", formats.FORMATS)
def test_every_format_has_its_reader(name: str) -> None:
    source = registry.source_for(name)
    assert (source.items == "documents") == formats.FORMATS[name].documents
    for member in (name for name in vars(Source) if not name.startswith("_")):
        assert hasattr(source, member)


def test_every_reader_has_its_line() -> None:
    folder = ROOT / "pipelines" / "sources"
    named = "SOURCE: "
    readers = [p.stem for p in folder.glob("*.py") if f"\n{named}" in p.read_text()]
    assert sorted(readers) == sorted(formats.FORMATS)


def test_the_schema_is_what_the_reader_takes() -> None:
    section = DOCUMENT.split("### The columns of `parquet`")[1].split("\n### ")[0]
    cells = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    named = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    prefixes = (
        canonical_columns.OBSERVATION,
        canonical_columns.ACTION,
        canonical_columns.INFO,
    )
    wanted = {*canonical_columns.NEEDED, *canonical_columns.OPTIONAL}
    assert named == wanted | {f"{prefix}<key>" for prefix in prefixes}


def test_the_kinds_of_documents_are_what_the_reader_takes() -> None:
    section = DOCUMENT.split("### Documents")[1].split("\n## ")[0]
    rows = re.findall(r"^\| an? (?!row).*", section, re.MULTILINE)
    named = [tuple(re.findall(r"`(\w+)`", row.split("|")[2])) for row in rows]
    assert tuple(named) == document_columns.KINDS


def test_files_named_are_there() -> None:
    for name in re.findall(r"`((?:[\w.]+/)*\w+\.(?:py|md))`", DOCUMENT):
        folders = ("", "pipelines", "pipelines/sources", "schemas")
        is_there = any((ROOT / folder / name).exists() for folder in folders)
        assert is_there or name.endswith("/npz.py"), name

"""Manifests: loaders, the contract's keys, and stable bytes."""

import json
import pathlib
from typing import Any

import handmade
import pytest

from gato.schemas import manifest
from gato.schemas.errors import GatoError
from gato.schemas.manifest import (
    DatasetManifest,
    dump_manifest,
    load_dataset_manifest,
    load_root_manifest,
)


@pytest.fixture
def build(tmp_path: pathlib.Path) -> pathlib.Path:
    return handmade.write_build(tmp_path / "out")


def test_the_keys_of_the_contract(build: pathlib.Path) -> None:
    content = json.loads((build / "toy" / "manifest.json").read_bytes())
    assert list(content) == [
        "schema_version",
        "dataset",
        "weight",
        "fingerprint",
        "sequence_length",
        "token_dtype",
        "config",
        "vocabulary",
        "episodes",
        "documents",
        "tasks",
        "timesteps",
        "tokens",
        "prompt_tokens",
        "targets",
        "local_position_clamped",
        "prompts",
        "rows",
        "padding_floor",
        "splits",
    ]
    assert set(content["tokens"]) == {
        "text",
        "image",
        "discrete_observation",
        "continuous_observation",
        "separator",
        "discrete_action",
        "continuous_action",
        "padding",
    }
    assert set(content["tasks"][handmade.TASK]) == {
        "episodes_read",
        "kept",
        "low_return",
        "quarantined",
        "expert_return",
        "random_return",
        "window",
        "order",
        "agents",
        "timesteps",
        "spec",
    }
    shard = content["splits"]["train"]["shards"][0]
    assert list(shard) == ["name", "rows", "bytes", "sha256", "idx_sha256"]


def test_what_is_written_reads_back_the_same(build: pathlib.Path) -> None:
    for path, load in (
        (build / "toy", load_dataset_manifest),
        (build / "words", load_dataset_manifest),
        (build, load_root_manifest),
    ):
        found = load(str(path))
        assert dump_manifest(found) == (path / "manifest.json").read_bytes()
    assert load_dataset_manifest(str(build / "toy")).accounts.kept == 5
    assert load_dataset_manifest(str(build / "words")).accounts.kept == 3


def test_floats_and_names_survive(build: pathlib.Path) -> None:
    content = json.loads((build / "toy" / "manifest.json").read_bytes())
    content["weight"] = 9.06
    content["tasks"]["pépé/☃-v0"] = content["tasks"].pop(handmade.TASK)
    data = dump_manifest(DatasetManifest.model_validate(content))
    assert json.loads(data) == content
    assert "☃".encode() in data
    assert data.endswith(b"}\n")


def test_no_manifest_is_an_unfinished_build(tmp_path: pathlib.Path) -> None:
    with pytest.raises(GatoError, match=r"a finished build has a manifest.*gato-build"):
        load_dataset_manifest(str(tmp_path))


def broken(build: pathlib.Path, change: Any) -> str:
    path = build / "toy" / "manifest.json"
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps(change(content)))
    with pytest.raises(GatoError) as caught:
        load_dataset_manifest(str(build / "toy"))
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c | {"schema_version": 2}, "schema version 1 can be read, got 2"),
        (lambda c: [c], "got None"),
        (lambda c: c | {"later": 1}, "later"),
        (lambda c: c | {"rows": "many"}, "rows"),
        (lambda c: {k: v for k, v in c.items() if k != "splits"}, "splits"),
        (lambda c: c | {"token_dtype": "uint8"}, "token_dtype"),
    ],
)
def test_other_content_is_refused(build, change, expected: str) -> None:
    assert expected in broken(build, change)


def test_garbage_is_refused(build: pathlib.Path) -> None:
    path = build / "toy" / "manifest.json"
    for data in (b"", b"{", b"\xff\xfe", b"null"):
        path.write_bytes(data)
        with pytest.raises(GatoError, match=r"manifest\.json: "):
            load_dataset_manifest(str(build / "toy"))


def test_accounts_must_be_there(build: pathlib.Path) -> None:
    content = json.loads((build / "toy" / "manifest.json").read_bytes())
    content["episodes"] = None
    with pytest.raises(GatoError, match="no accounts"):
        _ = DatasetManifest.model_validate(content).accounts


def test_names_of_the_contract() -> None:
    assert manifest.SCHEMA_VERSION == 1
    assert manifest.MANIFEST_NAME == "manifest.json"
    assert manifest.QUARANTINE_NAME == "quarantine.jsonl"
    assert manifest.DEMONSTRATIONS_NAME == "demonstrations.tfrecord"
    assert manifest.TOKENIZER_NAME == "tokenizer.model"

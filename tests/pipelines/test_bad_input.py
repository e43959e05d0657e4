"""Bad data under `gato-build`: a quarantine row or a message, never a traceback.

One build holds a data set of each kind of damage (`damaged_inputs.CASES`,
`damaged_pairs.PAIR_CASES`); each test finds exactly its items in the accounts and in
`quarantine.jsonl`.
"""

import dataclasses
import json
import os
import pathlib
import resource
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import building
import numpy as np
import pytest
import raw_inputs
from damaged_inputs import CASES as PLAIN_CASES
from damaged_inputs import SEQUENCE_LENGTH
from damaged_pairs import PAIR_CASES

from gato.pipelines import build, verify
from gato.schemas.manifest import load_dataset_manifest

CASES = PLAIN_CASES | PAIR_CASES


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    text: str


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The output of one build of all cases."""
    root = tmp_path_factory.mktemp("damaged")
    entries = []
    for name, case in CASES.items():
        folder = root / "raw" / name
        folder.mkdir(parents=True)
        entries.append({"name": name, **case.write(folder)})
    config = raw_inputs.write_config(
        root / "build.yaml",
        entries,
        sequence_length=SEQUENCE_LENGTH,
        prompts={"max_tokens": 64},
        max_quarantine_fraction=0.6,
    )
    assert building.run_build(config, root / "out") == 0
    return root / "out"


def quarantine(folder: pathlib.Path) -> list[dict[str, Any]]:
    lines = (folder / "quarantine.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", CASES)
def test_only_what_is_bad_is_quarantined_and_named(
    damaged: pathlib.Path, name: str
) -> None:
    case = CASES[name]
    accounts = load_dataset_manifest(str(damaged / name)).accounts
    rows = quarantine(damaged / name)
    expected = {case.reason: case.bad} if case.reason else {}
    assert accounts.quarantined == expected, rows
    assert (accounts.kept, accounts.read) == (case.kept, case.kept + case.bad)
    assert len(rows) == case.bad
    for row in rows:
        assert row["reason"] == case.reason
        assert (row["episode"] or row["source"]).endswith(case.item)
        assert str(damaged.parent / "raw" / name) in row["source"]
        assert all(words in row["detail"] for words in case.words), row


def test_the_rest_is_verified(damaged: pathlib.Path, capsys: Any) -> None:
    assert verify.main([str(damaged)]) == 0, capsys.readouterr()


def refused(
    root: pathlib.Path, capsys: Any, entry: Mapping[str, Any], **settings: Any
) -> str:
    """Builds one data set, which must fail with code 1; returns the message."""
    config = raw_inputs.write_config(
        root / "build.yaml", [{"name": "data", **entry}], **settings
    )
    message = building.build_message(capsys, config, root / "out")
    assert message.code == 1, message.text
    assert "Traceback" not in message.text
    assert building.manifests(root / "out") == []
    return message.text


def test_more_than_the_budget_fails_after_writing_the_reasons(
    tmp_path: pathlib.Path, capsys: Any
) -> None:
    walks = raw_inputs.random_walks(0, 6)
    folder = raw_inputs.write_minari(tmp_path, "toy/walk/expert-v0", walks)
    raw_inputs.overwrite_minari(folder, 2, "observations", (0, 0), np.nan)
    entry = {"format": "minari", "paths": ["toy/walk/*"]}
    message = refused(tmp_path, capsys, entry)
    assert "at most 1.00% of the episodes may be quarantined" in message
    assert "1 of 6 were: 1 nonfinite" in message
    assert [r["reason"] for r in quarantine(tmp_path / "out/data")] == ["nonfinite"]


def test_a_row_too_short_for_any_timestep_fails(
    tmp_path: pathlib.Path, capsys: Any
) -> None:
    grids = raw_inputs.grids(0, 3)
    raw_inputs.write_minari(tmp_path, "toy/grid/expert-v0", grids)
    entry = {"format": "minari", "paths": ["toy/grid/*"]}
    settings = {"sequence_length": 16, "prompts": {"fraction": 0}}
    assert "3 of 3 were: 3 too_long" in refused(tmp_path, capsys, entry, **settings)


def test_an_empty_file_is_told(tmp_path: pathlib.Path, capsys: Any) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    entry = {"format": "text", "paths": ["a.jsonl"]}
    assert "no documents were found" in refused(tmp_path, capsys, entry)


def test_a_flipped_byte_of_a_shard_under_verify(
    tmp_path: pathlib.Path, capsys: Any
) -> None:
    raw_inputs.write_jsonl(tmp_path / "a.jsonl", raw_inputs.texts(0, 20))
    entry = {"name": "data", "format": "text", "paths": ["a.jsonl"]}
    config = raw_inputs.write_config(tmp_path / "build.yaml", [entry])
    assert building.run_build(config, tmp_path / "out") == 0
    path = tmp_path / "out" / "data" / "train-00000-of-00001.tfrecord"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert verify.main([str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert path.name in captured.out
    assert "Traceback" not in captured.out + captured.err


def build_in_small_files(
    config: pathlib.Path, output: pathlib.Path, limit: int, *options: str
) -> Ended:
    """Builds in a process whose files end at `limit` bytes, as on a full disk."""
    command = [sys.executable, "-m", build.__name__, "--config", str(config)]
    ended = subprocess.run(
        [*command, "--output", str(output), *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=config.parent,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        env={**os.environ, "PYTHONWARNINGS": ""},
    )
    return Ended(ended.returncode, " ".join(ended.stderr.split()))


@pytest.fixture(scope="module")
def long_texts(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A config beside which `whole` is an undisturbed build."""
    root = tmp_path_factory.mktemp("long")
    raw_inputs.write_jsonl(
        root / "a.jsonl", raw_inputs.texts(0, 130, words=(900, 1100))
    )
    entry = {"name": "data", "format": "text", "paths": ["a.jsonl"]}
    config = raw_inputs.write_config(root / "build.yaml", [entry])
    assert building.run_build(config, root / "whole") == 0
    return config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "limits"),
    [
        (1, ((600_000, "_fragments/"), (1_200_000, "data/train-"))),
        # A worker process sends what it raises as text.
        (2, ((600_000, "_fragments/"),)),
    ],
)
def test_a_full_disk_is_told_and_the_same_command_goes_on(
    tmp_path: pathlib.Path,
    long_texts: pathlib.Path,
    workers: int,
    limits: tuple[tuple[int, str], ...],
) -> None:
    output = tmp_path / "out"
    options = ["--direct_num_workers", str(workers)]
    for limit, place in limits:
        ended = build_in_small_files(long_texts, output, limit, *options)
        assert ended.code == 1, ended.text
        assert "Traceback" not in ended.text
        assert f"error: {output}/{place}" in ended.text
        assert "no room to write it: File too large" in ended.text
        assert "run the same command again" in ended.text
        assert building.manifests(output) == []
        assert not list(output.rglob("train-*.tfrecord"))
        assert bool(building.footers(output)) == (place == "data/train-")
    made = building.footers(output)
    assert building.run_build(long_texts, output, "--keep_fragments") == 0
    assert made.items() <= building.footers(output).items()
    whole = building.contents(long_texts.parent / "whole")
    assert building.contents(output) == whole

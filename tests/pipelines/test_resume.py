"""What a second command does with what the first one left (design.md section 2)."""

import json
import pathlib
import shutil
from typing import Any

import building
import pytest
import raw_inputs
import yaml

from gato.pipelines import finish
from gato.pipelines.tokenize import PartitionTokenizer
from gato.schemas import manifest
from gato.schemas.record import decode_row
from gato.schemas.tfrecord import iterate_records
from gato.tokenizers.vocabulary import Vocabulary


def changed(config: pathlib.Path, name: str, **settings: Any) -> pathlib.Path:
    """Writes a copy of a config beside it with other settings."""
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    path = config.with_name(name)
    path.write_text(yaml.safe_dump(content | settings), encoding="utf-8")
    return path


@pytest.fixture
def copied(undisturbed: Any, tmp_path: pathlib.Path) -> pathlib.Path:
    """A finished build that a test may change."""
    return pathlib.Path(shutil.copytree(undisturbed.output, tmp_path / "out"))


@pytest.fixture
def fragments_made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects the data sets of which fragments are tokenized from now on."""
    made = []
    real = PartitionTokenizer._tokenize

    def tokenize(self: Any, partition: Any, writer: Any) -> None:
        made.append(self._dataset.name)
        real(self, partition, writer)

    monkeypatch.setattr(PartitionTokenizer, "_tokenize", tokenize)
    return made


def test_a_finished_build_is_not_made_again(
    small_config: pathlib.Path, copied: pathlib.Path
) -> None:
    before = building.identities(copied, "**/*")
    assert "walk/train-00000-of-00003.tfrecord" in before
    assert building.run_build(small_config, copied, "--keep_fragments") == 0
    assert building.identities(copied, "**/*") == before
    # Without the option the same command clears the fragments away.
    assert building.run_build(small_config, copied) == 0
    after = {n for n in before if not n.startswith("_fragments")}
    assert building.identities(copied, "**/*") == {n: before[n] for n in after}


def test_another_config_is_refused(
    undisturbed: Any, copied: pathlib.Path, capsys: Any
) -> None:
    other = changed(undisturbed.config, "seed.yaml", seed=99)
    found = building.build_message(capsys, other, copied)
    assert found.code == 2
    assert f"{copied}/walk: a finished build of other input or config" in found.text
    assert "--overwrite" in found.text
    assert building.contents(copied) == undisturbed.contents


def test_changed_input_is_refused(
    undisturbed: Any, tmp_path: pathlib.Path, capsys: Any
) -> None:
    config = building.write_inputs(tmp_path / "in", num_walks=1)
    output = tmp_path / "out"
    assert building.run_build(config, output, "--datasets", "text") == 0
    raw_inputs.write_jsonl(tmp_path / "in/raw/text/1.jsonl", ["another text"])
    found = building.build_message(capsys, config, output, "--datasets", "text")
    assert found.code == 2
    assert "other input or config" in found.text


def test_overwrite_replaces(
    undisturbed: Any, copied: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    # The root manifest of a part of the config lists that part.
    shutil.rmtree(copied / "walk")
    some = ["--datasets", "pairs,text"]
    other = changed(undisturbed.config, "fewer.yaml", seed=99, shard_bytes="30KB")
    assert building.run_build(other, copied, "--overwrite", *some) == 0
    assert building.run_build(other, tmp_path / "fresh", *some) == 0
    assert building.contents(copied) == building.contents(tmp_path / "fresh")
    assert len(list(copied.glob("pairs/*.tfrecord"))) > 2


def test_data_sets_one_by_one(undisturbed: Any, tmp_path: pathlib.Path) -> None:
    output = tmp_path / "out"
    assert building.run_build(undisturbed.config, output, "--datasets", "text") == 0
    root = manifest.load_root_manifest(str(output))
    assert list(root.datasets) == ["text"]
    assert building.run_build(undisturbed.config, output) == 0
    assert building.contents(output) == undisturbed.contents


def test_max_episodes_of_documents_counts_all_files(
    undisturbed: Any, tmp_path: pathlib.Path
) -> None:
    entry = building.dataset_entries()[2] | {"max_episodes": 20, "num_shards": 1}
    config = changed(undisturbed.config, "subset.yaml", datasets=[entry])
    assert building.run_build(config, tmp_path / "out") == 0
    accounts = manifest.load_dataset_manifest(str(tmp_path / "out" / "text")).accounts
    assert (accounts.read, accounts.kept, accounts.excluded) == (50, 20, 30)
    segments = provenance(tmp_path / "out", "text")
    ids = {i.split("#")[0] for segment in segments for i in segment["documents"]}
    assert len(ids) == 20
    assert {i.split("/")[0] for i in ids} == {"0.jsonl", "1.jsonl"}


def test_unknown_data_set_is_refused(
    small_config: pathlib.Path, tmp_path: pathlib.Path, capsys: Any
) -> None:
    found = building.build_message(
        capsys, small_config, tmp_path / "out", "--datasets", "walk,texts"
    )
    assert found.code == 2
    assert "walk, pairs, text; got 'texts'" in found.text
    assert not (tmp_path / "out").exists()


def provenance(output: pathlib.Path, dataset: str) -> list[dict[str, Any]]:
    """Returns the segments of all rows of a data set."""
    segments = []
    for shard in sorted((output / dataset).glob("*-of-*.tfrecord")):
        for _, data in iterate_records(shard.read_bytes(), str(shard)):
            row = decode_row(data, sequence_length=256, dtype="uint16")
            segments += row.provenance
    return segments


def test_limit_takes_the_first_in_collection_order(
    small_config: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    config = changed(small_config, "all.yaml", expert_fraction=0.0)
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    for dataset in content["datasets"]:
        dataset["filter"] = {"by": "none"}
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    output = tmp_path / "out"
    assert building.run_build(config, output, "--limit", "15") == 0
    for name in ("walk", "pairs", "text"):
        folder = str(output / name)
        assert manifest.load_dataset_manifest(folder).accounts.read == 15
    walks = {segment["episode"] for segment in provenance(output, "walk")}
    # 12 episodes a folder: all of the first, three of the second.
    first = {f"toy/walk0/expert-v0/{n}" for n in range(12)}
    assert walks == first | {f"toy/walk1/expert-v0/{n}" for n in range(3)}
    texts = provenance(output, "text")
    ids = {i.split("#")[0] for segment in texts for i in segment["documents"]}
    assert ids == {f"0.jsonl/{n}" for n in range(15)}


def test_kept_fragments_are_used_again(
    undisturbed: Any,
    copied: pathlib.Path,
    tmp_path: pathlib.Path,
    fragments_made: list[str],
) -> None:
    fragments = building.identities(copied, "_fragments/*/*")
    assert len(fragments) == 16
    other = changed(
        undisturbed.config,
        "longer.yaml",
        sequence_length=300,
        prompts={"fraction": 0.9, "max_tokens": 100},
        expert_fraction=0.5,
    )
    assert building.run_build(other, copied, "--overwrite", "--keep_fragments") == 0
    assert fragments_made == []
    assert building.identities(copied, "_fragments/*/*") == fragments
    assert building.run_build(other, tmp_path / "fresh") == 0
    assert sorted(fragments_made) == ["pairs"] + ["text"] * 2 + ["walk"] * 5
    assert not (tmp_path / "fresh" / "_fragments").exists()
    assert building.contents(copied) == building.contents(tmp_path / "fresh")


def test_a_changed_weight_rebuilds_nothing_but_counts(
    undisturbed: Any, copied: pathlib.Path
) -> None:
    content = yaml.safe_load(undisturbed.config.read_text(encoding="utf-8"))
    content["datasets"][1]["weight"] = 7.5
    config = undisturbed.config.with_name("weight.yaml")
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    before = building.identities(copied, "*/*.tfrecord")
    assert building.run_build(config, copied) == 0
    assert building.identities(copied, "*/*.tfrecord") == before
    root = manifest.load_root_manifest(str(copied))
    assert root.datasets["pairs"].weight == 7.5
    assert manifest.load_dataset_manifest(str(copied / "pairs")).weight == 7.5


@pytest.mark.parametrize("lost", ["manifest.json", "text/manifest.json"])
def test_lost_manifests_come_back(
    undisturbed: Any, copied: pathlib.Path, lost: str
) -> None:
    # As after a kill between a data set's manifest and the root's.
    (copied / "manifest.json").unlink()
    (copied / lost).unlink(missing_ok=True)
    before = building.identities(copied, "*/*-of-*.tfrecord*")
    assert building.run_build(undisturbed.config, copied) == 0
    assert building.contents(copied) == undisturbed.contents
    assert building.identities(copied, "*/*-of-*.tfrecord*") == before


def test_strays_of_killed_attempts_are_removed(
    undisturbed: Any, tmp_path: pathlib.Path
) -> None:
    output = tmp_path / "out"
    strays = [
        "manifest.json.tmp-0123456789ab",
        "tokenizer.model.tmp-0123456789ab",
        "walk/train-00000-of-00003.tfrecord.tmp-0123456789ab",
        "walk/train-00009-of-00010.tfrecord",
        "walk/train-00009-of-00010.tfrecord.idx",
        "walk/train-00009-of-00010.tfrecord.json",
        "_fragments/walk/0123.data.tmp-0123456789ab",
        "_fragments/walk/0123.data",
    ]
    for stray in strays:
        (output / stray).parent.mkdir(parents=True, exist_ok=True)
        (output / stray).write_bytes(b"half")
    assert building.run_build(undisturbed.config, output, "--keep_fragments") == 0
    assert building.contents(output) == undisturbed.contents
    assert not list(output.rglob("*.tmp-*"))


def test_damaged_fragments_and_shards_are_made_again(
    undisturbed: Any, copied: pathlib.Path, fragments_made: list[str]
) -> None:
    for path in copied.rglob("manifest.json"):
        path.unlink()
    by_folder = sorted((copied / "_fragments" / "walk").glob("*.footer"))
    truncated, no_footer, short = by_folder[:3]
    truncated.write_bytes(truncated.read_bytes()[:-3])
    no_footer.unlink()
    data = short.with_suffix(".data")
    data.write_bytes(data.read_bytes()[:-1])
    (copied / "walk" / "train-00001-of-00003.tfrecord").unlink()
    torn = copied / "walk" / "train-00002-of-00003.tfrecord.json"
    torn.write_bytes(torn.read_bytes()[:40])
    whole = building.identities(copied, "walk/train-00000*")
    assert building.run_build(undisturbed.config, copied) == 0
    assert fragments_made == ["walk"] * 3
    assert building.contents(copied) == undisturbed.contents
    assert building.identities(copied, "walk/train-00000*") == whole


def test_an_overtaken_attempt_stops(
    small_config: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "out"
    real = finish.dataset_manifest

    def overtaken(**keywords: Any) -> Any:
        (output / "_attempt").write_text("another one's", encoding="utf-8")
        return real(**keywords)

    monkeypatch.setattr(finish, "dataset_manifest", overtaken)
    found = building.build_message(capsys, small_config, output, "--datasets", "text")
    assert found.code == 1
    assert "another gato-build began on this output" in found.text
    assert "another one's" in found.text
    assert "Traceback" not in found.text
    assert building.manifests(output) == []
    assert building.footers(output)
    # It leaves the other's mark alone.
    assert (output / "_attempt").read_text(encoding="utf-8") == "another one's"


def write_half_bad(root: pathlib.Path, budget: float) -> pathlib.Path:
    lines = [json.dumps({"text": f"line {n}"}) for n in range(8)]
    lines[2] = "{"
    lines[5] = json.dumps({"other": "key"})
    (root / "raw").mkdir(parents=True, exist_ok=True)
    if not (root / "raw" / "a.jsonl").exists():
        (root / "raw" / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
        raw_inputs.write_jsonl(root / "raw" / "b.jsonl", ["good", "well"])
    return raw_inputs.write_config(
        root / f"budget-{budget}.yaml",
        [{"name": "lines", "format": "text", "paths": ["raw/*.jsonl"]}],
        max_quarantine_fraction=budget,
    )


def test_error_budget(
    tmp_path: pathlib.Path, capsys: Any, fragments_made: list[str]
) -> None:
    output = tmp_path / "out"
    found = building.build_message(capsys, write_half_bad(tmp_path, 0.19), output)
    assert found.code == 1
    assert "at most 19.00% of the documents may be quarantined" in found.text
    assert "2 of 10 were: 1 corrupt_record, 1 missing_field" in found.text
    assert "lines/quarantine.jsonl" in found.text
    assert building.manifests(output) == []
    assert not list(output.glob("lines/*.tfrecord"))
    lines = (output / "lines" / "quarantine.jsonl").read_text("utf-8").splitlines()
    told = [json.loads(line) for line in lines]
    assert [(row["episode"], row["reason"]) for row in told] == [
        ("a.jsonl/2", "corrupt_record"),
        ("a.jsonl/5", "missing_field"),
    ]
    assert all(row["source"].endswith("raw/a.jsonl") for row in told)
    assert "'text'" in told[1]["detail"]

    # With a budget of exactly the share, what was tokenized is used.
    before = building.footers(output)
    assert len(before) == len(fragments_made) == 2
    higher = write_half_bad(tmp_path, 0.2)
    assert building.run_build(higher, output, "--keep_fragments") == 0
    assert len(fragments_made) == 2
    assert building.footers(output) == before
    accounts = manifest.load_dataset_manifest(str(output / "lines")).accounts
    assert (accounts.read, accounts.kept) == (10, 8)
    assert accounts.quarantined == {"corrupt_record": 1, "missing_field": 1}
    assert not (output / "lines" / "_failed.json").exists()


def test_one_failed_data_set_does_not_hold_up_the_others(
    tmp_path: pathlib.Path, capsys: Any
) -> None:
    bad = write_half_bad(tmp_path, 0.0)
    content = yaml.safe_load(bad.read_text(encoding="utf-8"))
    content["datasets"].append(
        {"name": "good", "format": "text", "paths": ["raw/b.jsonl"]}
    )
    bad.write_text(yaml.safe_dump(content), encoding="utf-8")
    output = tmp_path / "out"
    found = building.build_message(capsys, bad, output)
    assert found.code == 1
    assert "lines: at most 0.00%" in found.text
    assert list(manifest.load_root_manifest(str(output)).datasets) == ["good"]
    assert not (output / "lines" / "manifest.json").exists()


def test_no_documents_is_a_failure(tmp_path: pathlib.Path, capsys: Any) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.jsonl").write_bytes(b"\n\n")
    config = raw_inputs.write_config(
        tmp_path / "build.yaml",
        [{"name": "lines", "format": "text", "paths": ["raw/*.jsonl"]}],
    )
    found = building.build_message(capsys, config, tmp_path / "out")
    assert found.code == 1
    assert "lines: no documents were found in ['raw/*.jsonl']" in found.text
    assert building.manifests(tmp_path / "out") == []


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_one_output_has_one_sequence_length(
    undisturbed: Any, copied: pathlib.Path, capsys: Any, options: list[str]
) -> None:
    other = changed(undisturbed.config, "longer.yaml", sequence_length=512)
    found = building.build_message(
        capsys, other, copied, "--datasets", "text", *options
    )
    assert found.code == 2
    assert "256 slots" in found.text
    assert "512" in found.text
    assert building.contents(copied) == undisturbed.contents


def test_one_output_has_one_vocabulary(
    undisturbed: Any,
    copied: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = Vocabulary.info

    def other(self: Vocabulary) -> manifest.VocabularyInfo:
        return real(self).model_copy(update={"sentencepiece_sha256": "0" * 64})

    monkeypatch.setattr(Vocabulary, "info", other)
    found = building.build_message(
        capsys, undisturbed.config, copied, "--datasets", "text", "--overwrite"
    )
    assert found.code == 2
    assert "share text tokenizer" in found.text
    assert building.contents(copied) == undisturbed.contents

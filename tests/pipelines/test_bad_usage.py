"""Wrong commands, configs and outputs: exit code 2 and a message, before any work."""

import io
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import raw_inputs
import sentencepiece
import yaml

from gato.pipelines import build, verify
from gato.schemas import manifest


@pytest.fixture
def config(tmp_path: pathlib.Path) -> pathlib.Path:
    """A config of one small text file."""
    raw_inputs.write_jsonl(tmp_path / "raw" / "a.jsonl", raw_inputs.texts(0, 5))
    entry = {"name": "text", "format": "text", "paths": ["raw/*.jsonl"]}
    return raw_inputs.write_config(tmp_path / "build.yaml", [entry])


def run(capsys: Any, command: Any, argv: Sequence[Any]) -> tuple[int, str]:
    """Returns exit code and message on one line; argparse exits by itself."""
    capsys.readouterr()
    try:
        code = command.main([str(argument) for argument in argv])
    except SystemExit as stop:
        code = int(stop.code or 0)
    text = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in text
    return code, text


def refused(
    capsys: Any, config: pathlib.Path, *options: Any, output: Any = None
) -> str:
    """Builds, which must end with code 2 and nothing written; returns the message."""
    folder = config.parent / "out" if output is None else output
    before = sorted(config.parent.rglob("*"))
    argv = ["--config", config, "--output", folder, *options]
    code, text = run(capsys, build, argv)
    assert code == 2, text
    assert sorted(config.parent.rglob("*")) == before
    return text


def changed(config: pathlib.Path, **settings: Any) -> pathlib.Path:
    content = yaml.safe_load(config.read_text("utf-8"))
    config.write_text(yaml.safe_dump(content | settings), "utf-8")
    return config


def changed_dataset(config: pathlib.Path, **settings: Any) -> pathlib.Path:
    content = yaml.safe_load(config.read_text("utf-8"))
    content["datasets"][0].update(settings)
    return changed(config, **content)


# The command line.


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        (["--ouput", "x"], "--output"),
        (["--keep_fragment"], "--keep_fragments"),
        (["--limt=3"], "--limit"),
        (["--direct_num_worker", "2"], "--direct_num_workers"),
    ],
)
def test_a_misspelt_option_names_the_nearest(
    capsys: Any, config: pathlib.Path, typo: list[str], meant: str
) -> None:
    text = refused(capsys, config, *typo)
    name = typo[0].split("=")[0]
    assert f"{name} is an option neither of gato-build nor of Beam" in text
    assert f"did you mean {meant}?" in text


def test_a_misspelt_required_option_is_named_and_not_called_missing(
    capsys: Any, config: pathlib.Path
) -> None:
    code, text = run(capsys, build, ["--config", config, "--ouput", "x"])
    assert code == 2
    assert "did you mean --output?" in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--limit", "0"], "--limit is at least 1, got 0"),
        (["--limit", "-3"], "--limit is at least 1, got -3"),
        (["--limit", "few"], "--limit: invalid int value: 'few'"),
        (["--datasets", "txt"], "'txt'"),
        (["--datasets", ","], "--datasets names data sets of the config"),
        (["--direct_num_workers", "two"], "invalid int value: 'two'"),
        (["stray"], "got 'stray'"),
        (["--runner", "Flunk"], "got 'Flunk'"),
        (
            ["--runner", "DataflowRunner", "--template_location", "job.json"],
            "Missing required option: project",
        ),
        (["--runner", "FlinkRunner", "--keep_fragment"], "--keep_fragments"),
    ],
)
def test_a_wrong_value_is_told(
    capsys: Any, config: pathlib.Path, options: list[str], expected: str
) -> None:
    assert expected in refused(capsys, config, *options)


def test_unknown_data_sets_are_answered_with_the_known(
    capsys: Any, config: pathlib.Path
) -> None:
    assert "which has text; got 'txt'" in refused(capsys, config, "--datasets", "txt")


def test_dataflow_refuses_paths_of_this_machine(
    capsys: Any, config: pathlib.Path
) -> None:
    options = ["--project=my-project", "--region=us-central1"]
    options += ["--temp_location=gs://bucket/tmp", "--runner=dataflow"]
    text = refused(capsys, config, *options)
    assert "Dataflow's workers read and write object storage" in text


# The config.


def test_a_missing_config_is_told(capsys: Any, tmp_path: pathlib.Path) -> None:
    text = refused(capsys, tmp_path / "none.yaml")
    assert "none.yaml: no such build config. See configs/demo.yaml" in text


def test_a_folder_is_no_config(capsys: Any, config: pathlib.Path) -> None:
    assert "no such build config" in refused(capsys, config.parent / "raw")


def test_yaml_syntax_is_told_with_its_line(capsys: Any, config: pathlib.Path) -> None:
    config.write_text("seed: [1,\ndatasets: {", "utf-8")
    text = refused(capsys, config)
    assert "build.yaml: not YAML" in text
    assert "line 2" in text


def test_binary_is_no_config(capsys: Any, config: pathlib.Path) -> None:
    config.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    assert "build.yaml: not YAML" in refused(capsys, config)


def test_a_wrong_key_names_the_nearest(capsys: Any, config: pathlib.Path) -> None:
    text = refused(capsys, changed(config, sequence_lenght=64))
    assert "unknown key 'sequence_lenght'; did you mean 'sequence_length'?" in text
    config = changed_dataset(config, path="x")
    assert "datasets.0.path: unknown key 'path'; did you mean 'paths'?" in refused(
        capsys, config
    )


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"seed": "zero"}, "seed"),
        ({"sequence_length": 1e9}, "sequence_length"),
        ({"expert_fraction": 1.5}, "expert_fraction"),
        ({"shard_bytes": "12 parsecs"}, "shard_bytes"),
        ({"datasets": {}}, "datasets"),
        ({"datasets": []}, "datasets"),
        ({"text_tokenizer": None}, "text_tokenizer"),
    ],
)
def test_a_value_of_another_type_is_told_with_its_place(
    capsys: Any, config: pathlib.Path, settings: dict[str, Any], place: str
) -> None:
    assert f"build.yaml: {place}: " in refused(capsys, changed(config, **settings))


def test_an_unknown_format_lists_the_known(capsys: Any, config: pathlib.Path) -> None:
    text = refused(capsys, changed_dataset(config, format="csv"))
    assert "datasets.0.format" in text
    assert " minari, " in text
    assert "'csv'" in text


# What the config points to.


def test_a_missing_path_says_what_is_there(capsys: Any, config: pathlib.Path) -> None:
    text = refused(capsys, changed_dataset(config, paths=["nowhere/*.jsonl"]))
    assert "datasets.text.paths: nothing matches" in text
    assert "does not exist" in text
    assert f"the folder '{config.parent}/nowhere' does not exist" in text
    assert "start from the folder of the file where the data set stands" in text


def test_a_missing_path_of_an_included_file_starts_from_its_folder(
    capsys: Any, config: pathlib.Path
) -> None:
    folder = config.parent / "sets" / "more"
    folder.mkdir(parents=True)
    entry = {"name": "far", "format": "text", "paths": ["../nowhere/*.jsonl"]}
    (folder / "far.yaml").write_text(yaml.safe_dump({"dataset": entry}), "utf-8")
    text = refused(capsys, changed(config, include=["sets/more/far.yaml"]))
    assert f"datasets.far.paths: nothing matches '{config.parent}/sets/nowhere/" in text
    assert f"the folder '{config.parent}/sets/nowhere' does not exist" in text
    assert "the config, or a file that it includes" in text


def test_an_empty_glob_says_what_is_there(capsys: Any, config: pathlib.Path) -> None:
    text = refused(capsys, changed_dataset(config, paths=["raw/*.json"]))
    assert "holds 1 entries, first 'a.jsonl'" in text


def test_a_file_of_another_format_is_told(capsys: Any, config: pathlib.Path) -> None:
    text = refused(capsys, changed_dataset(config, format="webdataset"))
    assert "a.jsonl: a path of format webdataset ends in one of .tar" in text


def test_a_folder_is_no_text(capsys: Any, config: pathlib.Path) -> None:
    (config.parent / "raw" / "more.txt").mkdir()
    text = refused(capsys, changed_dataset(config, paths=["raw/*.txt"]))
    assert "a path of format text is a file, this is a folder" in text


def test_a_file_is_no_minari_data_set(capsys: Any, config: pathlib.Path) -> None:
    text = refused(capsys, changed_dataset(config, format="minari"))
    assert "a path of format minari is a data set's folder" in text


def test_a_missing_tokenizer_is_told(capsys: Any, config: pathlib.Path) -> None:
    text = refused(capsys, changed(config, text_tokenizer="none.model"))
    assert "text_tokenizer: no such SentencePiece model" in text
    assert "none.model" in text


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x00" * 1000])
def test_another_file_is_no_tokenizer(
    capsys: Any, config: pathlib.Path, content: bytes
) -> None:
    (config.parent / "some.model").write_bytes(content)
    text = refused(capsys, changed(config, text_tokenizer="some.model"))
    assert "some.model" in text
    assert "must be a SentencePiece model" in text


def test_a_model_that_changes_texts_is_warned_of(
    capsys: Any, config: pathlib.Path
) -> None:
    letters = list("abcdefghijklmnopqrstuvwxyz")
    words = np.random.default_rng(0).choice(letters, (2000, 5))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(map("".join, words)),
        model_writer=model,
        model_type="bpe",
        vocab_size=1100,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    (config.parent / "some.model").write_bytes(model.getvalue())
    found = {}
    for name in ("some.model", str(raw_inputs.VOCABULARY)):
        changed(config, text_tokenizer=name)
        output = config.parent / f"out {len(found)}"
        assert build.main(["--config", str(config), "--output", str(output)]) == 0
        said = "decode(encode(x)) is not x on a test string" in capsys.readouterr().err
        manifest = json.loads((output / "manifest.json").read_text())
        found[name] = (said, manifest["text_round_trips"])
    assert list(found.values()) == [(True, False), (False, True)]


# The output.


def test_an_output_that_is_a_file_is_told(capsys: Any, config: pathlib.Path) -> None:
    file = config.parent / "taken"
    file.write_text("x")
    text = refused(capsys, config, output=file)
    assert "taken" in text
    assert "--output is a folder to build into" in text
    assert file.read_text() == "x"


def test_an_output_that_cannot_be_written_is_told(
    capsys: Any, config: pathlib.Path
) -> None:
    # Nobody may make folders here, root neither.
    text = refused(capsys, config, output="/proc/nowhere/out")
    assert "--output /proc/nowhere/out: cannot be written to" in text


def test_an_output_in_an_unknown_store_is_told(
    capsys: Any, config: pathlib.Path
) -> None:
    text = refused(capsys, config, output="nosuch://bucket/out")
    assert "is not a local path or a URL of a known store" in text


def test_the_output_of_another_build_is_refused(
    capsys: Any, config: pathlib.Path
) -> None:
    out = config.parent / "out"
    argv = ["--config", config, "--output", out]
    assert run(capsys, build, argv)[0] == 0
    text = refused(capsys, changed(config, seed=1))
    assert "a finished build of other input or config stands here" in text
    assert "--overwrite" in text


def test_the_output_of_other_data_sets_is_refused(
    capsys: Any, config: pathlib.Path
) -> None:
    argv = ["--config", config, "--output", config.parent / "out"]
    assert run(capsys, build, argv)[0] == 0
    own = yaml.safe_load(config.read_text("utf-8"))["datasets"][0]["name"]
    text = refused(capsys, changed_dataset(config, name="renamed"))
    assert f"it lists {own!r}" in text
    assert "has renamed" in text
    assert "--overwrite" in text


def test_a_misspelt_option_beside_overwrite_removes_nothing(
    capsys: Any, config: pathlib.Path
) -> None:
    out = config.parent / "out"
    assert run(capsys, build, ["--config", config, "--output", out])[0] == 0
    refused(capsys, changed(config, seed=1), "--overwrite", "--keep_fragment")
    assert run(capsys, verify, [out])[0] == 0


def test_a_manifest_that_is_not_ours_is_told(capsys: Any, config: pathlib.Path) -> None:
    folder = config.parent / "out" / "text"
    folder.mkdir(parents=True)
    (folder / manifest.MANIFEST_NAME).write_text("{}")
    code, text = run(
        capsys, build, ["--config", config, "--output", config.parent / "out"]
    )
    assert code in (1, 2)
    assert "manifest.json" in text


def test_an_engine_that_cannot_start_is_told(capsys: Any, config: pathlib.Path) -> None:
    argv = ["--config", config, "--output", config.parent / "out"]
    options = ["--runner", "prism", "--prism_location", "/nowhere/prism"]
    code, text = run(capsys, build, [*argv, *options])
    assert code == 1
    assert "PrismRunner did not run the job" in text
    assert "/nowhere/prism" in text
    assert "same command" in text

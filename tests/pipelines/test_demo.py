"""The demo's commands and config; the whole demo runs as `make demo`."""

import pathlib

import pytest
import rich.console

from gato.pipelines import demo, record
from gato.schemas import files
from gato.schemas.config import load_config
from gato.schemas.errors import GatoError

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "demo.yaml"
SMALL = demo.Sizes(
    levels=("BabyAI-GoToObjS4-v0",),
    episodes=2,
    tasks=("reach-v3",),
    task_episodes=1,
    task_steps=10,
    scenes=3,
    asked_scenes=2,
    workers=1,
)


def test_the_folder_of_the_config_needs_no_copy() -> None:
    folder = CONFIG.parents[1] / "runs" / "demo"
    assert demo.prepare_config(CONFIG, folder) == CONFIG


def test_what_the_demo_records_is_what_its_config_reads(
    tmp_path: pathlib.Path,
) -> None:
    config_path = demo.prepare_config(CONFIG, tmp_path)
    assert config_path == tmp_path / "build.yaml"
    original, config = load_config(str(CONFIG)), load_config(str(config_path))
    assert config.model_copy(
        update={
            "datasets": original.datasets,
            "text_tokenizer": original.text_tokenizer,
        }
    ) == (original)
    assert files.exists(config.text_tokenizer)
    for step in demo.plan(tmp_path, config_path, SMALL):
        if step.command == "gato-record":
            assert record.main(step.arguments) == 0
    read = {
        path: files.glob(path) for dataset in config.datasets for path in dataset.paths
    }
    for path, found in read.items():
        assert path.startswith(str(tmp_path))
        assert found, path
    domains = ("babyai", "metaworld")
    folders = [
        path
        for domain in domains
        for path in tmp_path.glob(f"raw/{domain}/*/*")
        if path.is_dir()
    ]
    # Three policies each; two tars, one questions file, three files of text.
    assert len(folders) == 3 * len(domains)
    assert sum(map(len, read.values())) == len(folders) + 2 + 1 + 3


def test_commands_are_those_of_setup_and_in_order() -> None:
    steps = demo.plan(pathlib.Path("f"), pathlib.Path("c.yaml"), demo.Sizes())
    commands = [step.command for step in steps]
    assert [c for c in commands if c != "gato-record"] == [
        "gato-build",
        "gato-verify",
        *["gato-inspect"] * 4,
        "gato-train",
    ]
    setup = (CONFIG.parents[1] / "setup.py").read_text("utf-8")
    for step in steps:
        assert f'"{step.command}={step.module}:main"' in setup


def test_a_command_that_fails_stops_the_demo(
    tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    step = demo.Step(
        title="Fail",
        command="gato-record",
        module="gato.pipelines.record",
        arguments=("captions", "--output", str(tmp_path), "--scenes", "0"),
    )
    with pytest.raises(GatoError, match="ended with code 2"):
        demo.run_step(step, rich.console.Console())
    printed = capfd.readouterr()
    assert f"$ gato-record captions --output {tmp_path} --scenes 0" in printed.out
    assert "--scenes is at least 1" in printed.err


def test_a_missing_config_is_a_usage_error(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--folder", str(tmp_path), "--config", str(tmp_path / "none.yaml")]
    assert demo.main(arguments) == 2
    assert "run the demo from the repository's root" in capsys.readouterr().err

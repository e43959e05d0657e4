"""gato-inspect on builds made by hand: what it says, and what it refuses."""

import os
import pathlib
import re
import subprocess
import sys

import handmade
import numpy as np
import pytest
from rich.console import Console

from gato.pipelines import inspect
from gato.pipelines.inspection import load, segments, slots
from gato.schemas.record import encode_row
from gato.schemas.tfrecord import frame
from gato.tokenizers import pictures

MODEL = pathlib.Path(__file__).parents[1] / "testdata/vocabulary/text32k.model"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("inspect") / "out"
    model = MODEL.read_bytes()
    handmade.write_dataset(out / "toy", handmade.control_rows(), model=model)
    handmade.write_dataset(out / "pairs", handmade.caption_rows(), model=model)
    handmade.write_dataset(out / "words", handmade.text_rows(), model=model)
    return out


@pytest.fixture(autouse=True)
def narrow_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert inspect.main([str(argument) for argument in arguments]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out, "no colours into a pipe"
    assert max(map(len, out.splitlines())) <= 80
    return out


def test_a_row_with_a_prompt(build, capsys) -> None:
    out = shown(capsys, build / "toy", "--row", 1)
    lines = out.splitlines()
    assert "row 1 of 2, data set toy, 128 slots" in out
    # 72 slots a line. The first token of a segment is no target, nor is a grid's; text
    # (T) and actions (X, A) are.
    at = next(n for n, line in enumerate(lines) if line.startswith("    0  "))
    step = "ddddTTTcccii|XXA"
    assert lines[at] == "    0  " + (5 * step)[:72]
    assert lines[at - 1] == "       1" + 31 * "╌" + 32 * "─" + "2" + 7 * "─"
    assert "prompt: the end of toy/reach/expert-v0/1, steps 4 to 5, 32 slots" in out
    assert "toy/reach/expert-v0/0  steps 4 to 5, slots 0 to 63" in out
    assert len(re.findall(r"^prompt ", out, re.MULTILINE)) == 2
    assert re.search(r"discrete action\s+6\s+4\.7%\s+6", out)
    assert "targets 36 (28.1%), slots in prompts 32, images 6, segments 2" in out


def test_numbers_and_texts_are_decoded(build, capsys) -> None:
    out = shown(capsys, build / "toy" / "train-00001-of-00002.tfrecord", "--row", 1)
    row = next(load.read_rows(str(build / "toy"), 3, 1))
    assert row.path.endswith("train-00001-of-00002.tfrecord")
    first = row.segments[0].timesteps[0]
    values = {item.key: item.value for item in first.observations}
    numbers = " ".join(f"{value:.3g}" for value in values["state"])
    assert f"state          {numbers}" in out
    assert "2x2  " + " ".join(map(str, np.ravel(values["grid"]))) in out
    assert f"“{values['mission']}”" in out
    assert "⋮ 3 more timesteps" in out
    assert "● → move" in out
    assert "○ grid" in out


def test_documents(build, capsys) -> None:
    out = shown(capsys, build / "pairs")
    assert "segment 1 a.tar/0, a.tar/1, a.tar/2  slots 0 to 20" in out
    assert out.count("image 32x32") == 4
    assert out.count("(end)") == 4
    out = shown(capsys, build / "words", "--rows", 2)
    assert "goes on in another row" in out
    assert "◐" in out, "a text's first token is no target"
    assert out.count("data set words") == 2


def test_demonstrations_have_no_index_and_are_shown(build, capsys) -> None:
    out = shown(capsys, build / "toy" / "demonstrations.tfrecord", "--row", 3)
    assert "row 3 of 4" in out
    assert "toy/reach/expert-v0/3  steps 0 to 5" in out


def test_colours_on_a_terminal(build, monkeypatch, capsys) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert inspect.main([str(build / "toy")]) == 0
    coloured = capsys.readouterr().out
    assert "█" in coloured
    assert "▀" in coloured
    assert "\x1b[38;5;" in coloured
    assert inspect.main([str(build / "toy"), "--no_color"]) == 0
    plain = capsys.readouterr().out
    assert "ddddTTTcccii|XXA" in plain
    assert "38;5" not in plain


@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize("color", [True, False])
def test_fits_the_terminal(build, width: int, color: bool) -> None:
    for name in ("toy", "pairs", "words"):
        row = next(load.read_rows(str(build / name), 0, 1))
        console = Console(
            width=width,
            record=True,
            file=open(os.devnull, "w"),  # noqa: SIM115
            force_terminal=True,
            color_system="truecolor",
        )
        inspect.draw_row(row, console, color=color)
        lines = console.export_text(styles=False).splitlines()
        console.file.close()
        assert max(map(len, lines)) <= width


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["nowhere-*.tfrecord"], 2, "no TFRecord shards match"),
        (["{toy}/trian-*"], 2, "holds 4 shards, first 'demonstrations.tfrecord'"),
        (["{toy}", "--row", "5"], 2, "--row counts from 0 over the 5 rows of 3 shards"),
    ],
)
def test_wrong_arguments(build, capsys, arguments, code, expected) -> None:
    arguments = [each.format(toy=build / "toy") for each in arguments]
    assert inspect.main(arguments) == code
    assert expected in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        inspect.main([str(build), "--row", "-1"])
    assert caught.value.code == 2


def test_damage_is_told_without_a_traceback(tmp_path, capsys) -> None:
    model = MODEL.read_bytes()
    folder = handmade.write_dataset(
        tmp_path / "toy", handmade.control_rows(), model=model
    )
    (tmp_path / "tokenizer.model").write_bytes(b"no model")
    assert inspect.main([str(folder)]) != 0
    assert "tokenizer.model" in capsys.readouterr().err
    (tmp_path / "tokenizer.model").unlink()
    assert inspect.main([str(folder)]) == 1
    assert "and there is none" in capsys.readouterr().err
    (tmp_path / "tokenizer.model").write_bytes(model)
    path = folder / "train-00000-of-00002.tfrecord"
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + b"x" + whole[201:])
    assert inspect.main([str(folder)]) == 1
    assert "record 0 at byte 0: the checksum" in capsys.readouterr().err
    row = handmade.replaced(handmade.control_rows()["train"][0][0], kind=(12, 4))
    path.write_bytes(frame(encode_row(row)))
    (folder / f"{path.name}.idx").unlink()
    assert inspect.main([str(folder)]) == 1
    assert "slots 12 to 13 should hold the separator" in capsys.readouterr().err
    (folder / "manifest.json").unlink()
    assert inspect.main([str(folder)]) == 1
    assert "a finished build has a manifest" in capsys.readouterr().err


def test_a_closed_pipe_and_a_poor_encoding_are_no_tracebacks(build) -> None:
    command = [sys.executable, "-m", "gato.pipelines.inspect", str(build / "toy")]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    script = '"$@" --rows 5 | head -c 10'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *command],
        capture_output=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == b""
    assert len(done.stdout) == 10


def test_control_characters_of_data_do_not_reach_the_terminal() -> None:
    assert segments.printable("a\x1b[2Jb\tc\nd") == "a\\x1b[2Jb\\tc\nd"
    assert segments.format_value("x\ny", 40) == "“x⏎y”"
    assert segments.format_value("y" * 50, 10).startswith("“yyyyyyyyy… and 42 more")


def test_long_values_say_their_shape_and_size() -> None:
    text = segments.format_value(np.zeros((7, 7, 3), np.int64), 60)
    assert text.startswith("7x7x3  0 0 0")
    assert text.endswith("… (147 numbers)")
    assert len(text) <= 60
    assert segments.format_value(np.array(1.23456), 40) == "1.235"
    assert segments.format_value(np.array([1.5, -2.25]), 40) == "1.5 -2.25"
    assert segments.format_value(np.zeros(0), 40) == ""


def test_images_keep_their_colours_and_aspect() -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    image[:16] = (255, 0, 0)
    text = pictures.draw_image(image, columns=16, lines=14, color=True)
    lines = text.plain.split("\n")
    # 64x32 pixels to 16 columns: 8 pixels high, two a cell.
    assert [len(line) for line in lines] == [16] * 4
    top = text.spans[0].style
    assert not isinstance(top, str)
    assert top.color is not None
    assert top.color.triplet == (255, 0, 0)
    grey = pictures.draw_image(image, columns=16, lines=14, color=False)
    assert set(grey.plain) == {"\n", " ", "="} or len(set(grey.plain)) == 3
    tiny = pictures.draw_image(image[:1, :1], columns=16, lines=14, color=True)
    assert tiny.plain == "▀"


def test_padding_is_not_drawn_to_the_end() -> None:
    row = handmade.row("words", handmade.text("a/0", 10), length=1024)
    text = slots.slot_map(row, width=80, color=False).plain
    assert "and 952 slots of padding" in text
    assert text.count("\n") == 3

"""docs/datasets.md and configs/gato.yaml agree with each other, the paper and the code.

The paper's figures are those of docs/specification.md section 6.
"""

import fnmatch
import pathlib
import re
from typing import NamedTuple

import pytest
import yaml

from gato.pipelines.recorders.arguments import make_parser as record_parser
from gato.pipelines.sources.registry import source_for
from gato.schemas.config import BuildConfig, Dataset, load_config
from gato.schemas.formats import FORMATS

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
SPECIFICATION = (ROOT / "docs" / "specification.md").read_text(encoding="utf-8")
PRESETS = ROOT / "configs" / "datasets"
HEADER = "| data set | preset | tasks | episodes | tokens | weight % |"
VISION_LANGUAGE = (
    "MassiveText",
    "M3W",
    "ALIGN",
    "MS-COCO Captions",
    "Conceptual Captions",
    "LTIP",
    "OKVQA",
    "VQAv2",
)


class Row(NamedTuple):
    """A row of the page."""

    title: str
    preset: str
    tasks: str
    episodes: str
    tokens: str
    weight: str
    source: str
    reader: str
    recorder: str
    licence: str
    status: str


def table(text: str, header: str) -> list[list[str]]:
    lines = text[text.index(header) :].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.split("|")[1:-1]])
    return rows


ROWS = [Row(*cells) for cells in table(PAGE, HEADER)]
STATUSES = {cells[0]: cells[2] for cells in table(PAGE, "| status | meaning |")}


@pytest.fixture(scope="module")
def config() -> BuildConfig:
    return load_config(str(ROOT / "configs" / "gato.yaml"))


@pytest.fixture(scope="module")
def presets(config: BuildConfig) -> dict[str, Dataset]:
    return {dataset.name: dataset for dataset in config.datasets}


def test_one_row_a_preset_in_one_order(config: BuildConfig) -> None:
    assert [row.preset for row in ROWS] == [d.name for d in config.datasets]
    assert len(ROWS) == 24
    assert sorted(path.stem for path in PRESETS.glob("*")) == sorted(
        row.preset for row in ROWS
    )


def test_figures_of_the_paper() -> None:
    paper = table(SPECIFICATION, "| control data [P] | tasks | episodes |")
    assert [list(row[:1] + row[2:6]) for row in ROWS[:16]] == paper[:16]
    (line,) = re.findall(r"^Vision-language weights.*$", SPECIFICATION, re.MULTILINE)
    weights = {
        name: match[1]
        for name in VISION_LANGUAGE
        if (match := re.search(rf"{name} ([\d.]+)[,;]", line))
    }
    assert {row.title: row.weight for row in ROWS[16:]} == weights
    assert all(row[2:5] == ("", "", "") for row in ROWS[16:])


def test_weights_of_the_presets_are_the_papers(presets: dict[str, Dataset]) -> None:
    for row in ROWS:
        assert presets[row.preset].weight == float(row.weight), row.title


def test_readers_are_there(presets: dict[str, Dataset]) -> None:
    for row in ROWS:
        assert row.reader == presets[row.preset].format, row.title
        control = source_for(row.reader).items == "episodes"
        assert control == (row in ROWS[:16]), row.title
    formats = re.findall(r"\(`(\w+)`\)", " ".join(row.source for row in ROWS))
    assert formats
    for name in formats:
        source_for(name)


def test_recorders_are_there() -> None:
    (commands,) = (a for a in record_parser()._actions if a.dest == "command")
    assert commands.choices is not None
    for row in ROWS:
        found = re.match(r"gato-record (\w+)", row.recorder)
        assert found is not None or row.recorder == "none", row.title
        assert found is None or found[1] in commands.choices, row.title


def test_commands_of_the_presets_parse() -> None:
    count = 0
    for path in PRESETS.glob("*.yaml"):
        for line in re.findall(r"^#   gato-record (.*)$", path.read_text(), re.M):
            record_parser().parse_args(line.split())
            count += 1
    assert count >= 6


def test_status_words() -> None:
    assert set(STATUSES.values()) == {"yes", "no"}
    assert {name for name, works in STATUSES.items() if works == "yes"} == {
        "public data read",
        "format library's file",
        "real recordings",
    }
    for row in ROWS:
        assert row.status in STATUSES, row.title
        recorded = row.status in ("real recordings", "stand-in recorded")
        assert not recorded or row.recorder.startswith("gato-record"), row.title
        assert (row.licence == "") == (row.source == "none"), row.title
        assert row.source != "none" or row.status == "not available", row.title


def test_a_library_is_named_for_each_reader_held_to_one() -> None:
    libraries = {cells[0]: cells for cells in table(PAGE, "| reader | library |")}
    for row in ROWS:
        if row.status == "format library's file":
            assert not libraries[row.reader][1].startswith("none"), row.title
    for reader, (_, library, _, held_by) in libraries.items():
        source_for(reader)
        (test,) = re.findall(r"tests/[\w/]+\.py", held_by)
        text = (ROOT / test).read_text(encoding="utf-8")
        assert reader.removeprefix("rlu_") in text, reader
        for made in re.findall(r"[\w-]+ \d+\.\d+\.\d+", library):
            wanted = made.replace(" ", "==")
            recipes = (ROOT / "tests" / "testdata").glob("*/make.py")
            assert any(wanted in path.read_text("utf-8") for path in recipes), made


def test_the_count_of_what_works() -> None:
    works = [row for row in ROWS if STATUSES[row.status] == "yes"]
    (told,) = re.findall(r"^(\d+) of 24 work by this count", PAGE, re.MULTILINE)
    assert int(told) == len(works)
    stand_ins = [row for row in works if row.source.startswith("stand-in")]
    assert f"of which {len(stand_ins)} control rows hold other" in PAGE


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.preset)
def test_a_preset_says_where_from_and_under_which_terms(row: Row) -> None:
    text = (PRESETS / f"{row.preset}.yaml").read_text(encoding="utf-8")
    comment = "".join(line for line in text.splitlines() if line.startswith("#"))
    assert row.title in comment
    if row.status != "not available":
        assert "Licence: " in comment
    assert list(yaml.safe_load(text)) == ["dataset"]
    assert yaml.safe_load(text)["dataset"]["name"] == row.preset
    stand_in = "stand-in" in row.source
    assert stand_in == ("a stand-in" in comment), row.title


HELD_OUT = {
    "dm_lab": ["contributed/dmlab30/order_of_apples_forage_simple"],
    "atari": ["atari-boxing", "Boxing"],
    "atari_extended": ["ale_extended/Boxing"],
    "dm_control": ["dm_control/cartpole-swingup", "dm_control/cartpole-swingup_sparse"],
    "dm_control_pixels": ["dm_control_pixels/cartpole-swingup"],
    "dm_control_random_small": ["dm_control_random_small/cartpole-swingup"],
    "dm_control_random_large": ["dm_control_random_large/cartpole-swingup_sparse"],
    "metaworld": ["metaworld/assembly-v2", "metaworld/assembly-v3"],
}
TRAINED = {
    "dm_lab": ["explore_object_rewards_few"],
    "atari": ["atari-alien", "atari-pong"],
    "atari_extended": ["ale_extended/Pacman"],
    "dm_control": ["dm_control/cartpole-balance", "dm_control/pendulum-swingup"],
    "dm_control_pixels": ["dm_control_pixels/reacher-easy"],
    "dm_control_random_small": ["dm_control_random_small/cartpole-balance"],
    "dm_control_random_large": ["dm_control_random_large/walker-walk"],
    "metaworld": ["metaworld/disassemble-v3", "metaworld/reach-v3"],
    "babyai": ["BabyAI-GoToLocal-v0"],
}


def is_in(dataset: Dataset, task: str) -> bool:
    rule = dataset.tasks
    return any(fnmatch.fnmatchcase(task, p) for p in rule.include) and not any(
        fnmatch.fnmatchcase(task, p) for p in rule.exclude
    )


def test_held_out_tasks_are_left_out(presets: dict[str, Dataset]) -> None:
    for name, tasks in HELD_OUT.items():
        assert not any(is_in(presets[name], task) for task in tasks), name
    for name, tasks in TRAINED.items():
        assert all(is_in(presets[name], task) for task in tasks), name


def test_paths_lie_in_raw_or_in_a_bucket(presets: dict[str, Dataset]) -> None:
    for name, dataset in presets.items():
        for path in dataset.paths:
            here = path.removeprefix(f"{ROOT}/configs/../")
            assert here.startswith(("raw/", "gs://")), name


def test_the_design_lists_every_format() -> None:
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    listed = table(design, "| format | a path is |")
    names = [name for cells in listed for name in re.findall(r"\w+", cells[0])]
    assert sorted(names) == sorted(FORMATS)
    for cells in listed:
        for name in re.findall(r"\w+", cells[0]):
            for option in FORMATS[name].options:
                found = re.search(rf"\b{option}\b", "|".join(cells[2:]))
                assert found is not None, (name, option)

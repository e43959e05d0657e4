"""gato-inspect --html: its model, and the page as an HTML parser sees it."""

import base64
import dataclasses
import hashlib
import html.parser
import json
import pathlib
import re
from typing import Any

import emulator
import handmade
import hostile_data
import numpy as np
import pytest

from gato.pipelines import inspect
from gato.pipelines.inspection import load, page, row_model, sources
from gato.schemas import files
from gato.schemas.errors import GatoError
from gato.schemas.manifest import load_dataset_manifest
from gato.schemas.record import Encoding

MODEL = pathlib.Path(__file__).parents[1] / "testdata/vocabulary/text32k.model"
SAMPLE = pathlib.Path(__file__).parents[1] / "testdata/sample/build"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("page") / "out"
    model = MODEL.read_bytes()
    handmade.write_dataset(out / "toy", handmade.control_rows(), model=model)
    handmade.write_dataset(out / "pairs", handmade.caption_rows(), model=model)
    handmade.write_dataset(out / "words", handmade.text_rows(), model=model)
    return out


class Tags(html.parser.HTMLParser):
    """Collects tags with their attributes, and the text of each script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._in: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag if tag in self.raw else None
        if self._in:
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = None

    def handle_data(self, data: str) -> None:
        if self._in:
            self.raw[self._in][-1] += data


def model_of(pattern: object, count: int = 100) -> dict[str, Any]:
    model, _ = page.page_model(str(pattern), first=None, count=count)
    return json.loads(json.dumps(model))


def test_the_page_is_one_file_that_asks_for_nothing(build) -> None:
    text = page.make_page(str(build), first=None, count=100).content.decode()
    tags = Tags(text)
    names = [name for name, _ in tags.tags]
    assert names.count("script") == 2
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(names)
    for name, attributes in tags.tags:
        assert "src" not in attributes, name
        assert not any(key.startswith("on") for key in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert re.findall(r"https?://[^\"' )]*", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"@import|url\(", text)


def test_the_policy_names_the_script_and_the_style(build) -> None:
    text = page.make_page(str(build), first=None, count=1).content.decode()
    tags = Tags(text)
    policy = next(
        attributes["content"]
        for name, attributes in tags.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert "default-src 'none'" in policy
    for name, content in (
        ("script", tags.raw["script"][1]),
        ("style", tags.raw["style"][0]),
    ):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_text_of_the_data_is_never_html(tmp_path) -> None:
    out = hostile_data.write_build(tmp_path / "<b>out&")
    text = page.make_page(str(out), first=None, count=100).content.decode()
    tags = Tags(text)
    names = [name for name, _ in tags.tags]
    assert names.count("script") == 2
    assert "img" not in names
    assert "b" not in names
    model = json.loads(tags.raw["script"][0])
    assert "<" not in tags.raw["script"][0]
    # It is all there, as text.
    assert model["sources"][0]["name"] == hostile_data.TEXT
    (part,) = model["rows"][0]["segments"][0]["parts"]
    assert "".join(run[0] for run in part["runs"]) == hostile_data.TEXT
    reason = next(
        each
        for each in model["datasets"][0]["quarantine"]["reasons"]
        if each["reason"] == hostile_data.TEXT
    )
    assert reason["examples"][0]["detail"] == hostile_data.TEXT
    assert model["pattern"].endswith("<b>out&")


def test_the_script_parses_no_html() -> None:
    folder = pathlib.Path(page.__file__).parent
    scripts = [folder / name for name in page._SCRIPTS]
    assert sorted(scripts) == sorted(folder.glob("*.js"))
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|srcdoc"
    for path in scripts:
        assert not re.search(ways, path.read_text()), path


def test_figures_are_the_manifests(build) -> None:
    model = model_of(build)
    assert [data["label"] for data in model["datasets"]] == ["pairs", "toy", "words"]
    toy = model["datasets"][1]
    manifest = load_dataset_manifest(str(build / "toy"))
    assert toy["tokens"] == manifest.tokens.model_dump()
    assert sum(toy["tokens"].values()) == toy["slots"]
    assert toy["share"] == pytest.approx(1 / 3)
    assert toy["padding_floor"] == 0.05
    assert toy["prompts"] == manifest.prompts.model_dump()
    assert toy["survey"] == {"rows": 5, "complete": True}
    (task,) = toy["tasks"]
    assert task["episodes_seen"] == 5
    assert task["returns"]["counts"] == [5] or sum(task["returns"]["counts"]) == 5
    assert (task["lengths"]["least"], task["lengths"]["most"]) == (6, 6)
    assert task["threshold"]["value"] is None
    assert task["threshold"]["why"].startswith("unknown")


def test_the_samples_thresholds_and_sources() -> None:
    model = model_of(SAMPLE)
    babyai = model["datasets"][0]
    task = babyai["tasks"][0]
    assert task["threshold"]["value"] == pytest.approx(0.8 * task["expert_return"])
    assert task["returns"]["least"] >= task["threshold"]["value"]
    assert sum(task["returns"]["counts"]) == task["kept"]
    assert len(model["rows"]) == 100
    rows = [row["dataset"] for row in model["rows"]]
    assert [rows.count(place) for place in range(4)] == [37, 12, 38, 13]
    first = model["sources"][model["rows"][0]["segments"][0]["episode"]]
    assert first["paths"] == [f"raw/{first['name'].rpartition('/')[0]}"]
    for number, row in enumerate(model["rows"]):
        for at, segment in enumerate(row["segments"]):
            place = {"row": number, "segment": at}
            used = (
                [segment["episode"]] if "episode" in segment else segment["documents"]
            )
            for source in used:
                uses = model["sources"][source]["uses"]
                assert any(place.items() <= use.items() for use in uses)


def test_a_row_keeps_its_bytes_and_says_mask_and_prompt(build) -> None:
    model = model_of(build / "toy")
    number, row = 1, model["rows"][1]
    stored = next(load.read_rows(str(build / "toy"), number, 1)).row
    shown = [
        base64.b64decode(frame["data"])
        for segment in row["segments"]
        for item in segment["images"]
        for frame in item["frames"]
    ]
    assert shown == list(stored.images)
    slots = [run[1:] for run in row["runs"] for _ in range(run[0])]
    columns = np.array(slots).T
    np.testing.assert_array_equal(columns[0], stored.kind & 7)
    np.testing.assert_array_equal(columns[1], stored.kind >> 3)
    np.testing.assert_array_equal(columns[2], stored.loss_mask)
    np.testing.assert_array_equal(columns[3], stored.segment)
    first = row["segments"][0]
    assert first["steps"] == [4, 5, 4, 5]
    assert first["prompt_steps"] == 2
    assert first["prompt"]["mode"] == "tail"
    assert [(s["key"], s["role"]) for s in first["series"]] == [
        ("aim", "actions"),
        ("move", "actions"),
        ("grid", "observations"),
        ("state", "observations"),
    ]
    move = first["series"][1]
    assert move["values"] == [[4], [5], [4], [5]]
    assert move["targets"] == [row_model.ALL] * 4
    assert first["series"][2]["targets"] == [row_model.NONE] * 4


def test_a_text_is_cut_where_targets_begin(build) -> None:
    inspected = next(load.read_rows(str(build / "words"), 1, 1))
    second = inspected.segments[1]
    runs = row_model.text_runs(
        inspected.row, inspected.tokenizer, second.start, second.stop
    )
    assert [state for _, state in runs] == [row_model.NONE, row_model.ALL]
    whole = inspected.tokenizer.decode(inspected.row.tokens[second.start : second.stop])
    assert "".join(text for text, _ in runs) == whole
    # Three bytes of one character, of which the mask takes the last two.
    tokens = inspected.tokenizer.encode("\u4dff\U0001f9ff")
    row = inspected.row
    for cut in range(1, len(tokens)):
        changed = dataclasses.replace(
            row,
            tokens=np.array([*tokens, *row.tokens[len(tokens) :]], row.tokens.dtype),
            loss_mask=(np.arange(len(row.tokens)) >= cut).astype(np.uint8),
        )
        runs = row_model.text_runs(changed, inspected.tokenizer, 0, len(tokens))
        assert "".join(text for text, _ in runs) == "\u4dff\U0001f9ff"


def test_raw_images_are_passed_as_they_are(build) -> None:
    inspected = next(load.read_rows(str(build / "pairs"), 1, 1))
    pixels = bytes(range(256)) * 12
    row = dataclasses.replace(
        inspected.row,
        images=(pixels,),
        image_info=np.array([[0, 32, 32, Encoding.RAW]], np.int32),
    )
    changed = dataclasses.replace(inspected, row=row)
    model = row_model.row_model(changed, number=0, dataset=0, sources=sources.Sources())
    image = model["segments"][0]["parts"][0]["image"]
    assert image["type"] == "raw"
    assert base64.b64decode(image["data"]) == pixels


def test_the_same_build_gives_the_same_page(build) -> None:
    first = page.make_page(str(build), first=None, count=4)
    assert page.make_page(str(build), first=None, count=4) == first


def test_images_beyond_a_pages_room_are_left_out(build, monkeypatch, capsys) -> None:
    monkeypatch.setattr(page, "_MOST_IMAGE_BYTES", 3000)
    target = build.parent / "small.html"
    assert inspect.main([str(build), "--html", str(target)]) == 0
    said = capsys.readouterr().out
    left_out = int(re.search(r"\((\d+) more had no room\)", said)[1])  # type: ignore[index]
    shown = json.loads(Tags(target.read_text()).raw["script"][0])
    assert shown["left_out"] == left_out > 0
    assert len(shown["rows"]) == 10 - left_out
    # The room is each data set's own: words need none, and all are there.
    assert sum(row["dataset"] == 2 for row in shown["rows"]) == 3


def test_quarantine_with_examples_without_and_damaged(build, tmp_path) -> None:
    (reason,) = model_of(build / "toy")["datasets"][0]["quarantine"]["reasons"]
    assert (reason["reason"], reason["count"]) == ("nonfinite", 2)
    assert reason["examples"][0] == {"source": "raw/a", "episode": "", "detail": "NaN"}
    model = MODEL.read_bytes()
    folder = handmade.write_dataset(tmp_path / "toy", handmade.text_rows(), model=model)
    (folder / "quarantine.jsonl").unlink()
    told = model_of(folder)["datasets"][0]["quarantine"]
    assert told["missing"]
    assert told["reasons"][0]["examples"] == []
    (folder / "quarantine.jsonl").write_text('{"reason": "a"}\n[3]\n')
    with pytest.raises(GatoError, match=r"quarantine.jsonl line 2: .* gato-verify"):
        model_of(folder)


def test_builds_with_data_sets_of_one_name(tmp_path) -> None:
    model = MODEL.read_bytes()
    for name in ("a", "b"):
        folder = tmp_path / name / "toy"
        handmade.write_dataset(folder, handmade.control_rows(), model=model)
    shown = model_of(f"{tmp_path}/*/toy/train-00000-*.tfrecord")
    assert [data["label"] for data in shown["datasets"]] == [
        str(tmp_path / name / "toy") for name in ("a", "b")
    ]
    assert [data["share"] for data in shown["datasets"]] == [1, 1]
    assert [data["matched_rows"] for data in shown["datasets"]] == [2, 2]
    assert not shown["datasets"][0]["survey"]["complete"]
    assert len(shown["rows"]) == 4


def test_the_command(build, tmp_path, capsys) -> None:
    target = tmp_path / "deep" / "page.html"
    assert inspect.main([str(build), "--html", str(target), "--rows", "3"]) == 0
    said = capsys.readouterr().out
    assert f"{target}: 3 rows of 3 data sets, {target.stat().st_size:,} bytes" in said
    arguments = [str(build), "--html", str(target), "--row", "4", "--rows", "2"]
    assert inspect.main(arguments) == 0
    shown = json.loads(Tags(target.read_text()).raw["script"][0])
    assert [(row["dataset"], row["number"]) for row in shown["rows"]] == [
        (1, 0),
        (1, 1),
    ]
    demonstrations = str(build / "toy" / "demonstrations.tfrecord")
    assert inspect.main([demonstrations, "--html", str(target)]) == 0
    shown = json.loads(Tags(target.read_text()).raw["script"][0])
    assert [row["split"] for row in shown["rows"]] == ["demonstrations"] * 4


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["{out}", "--html", "{out}"], 2, "--html takes the file to write"),
        (["{out}", "--html", "{tmp}/p.html", "--row", "99"], 2, "over the 10 rows"),
        (["{out}/nothing", "--html", "{tmp}/p.html"], 2, "no TFRecord shards match"),
    ],
)
def test_wrong_usage(build, tmp_path, capsys, arguments, code, expected) -> None:
    given_ = [each.format(out=build, tmp=tmp_path) for each in arguments]
    assert inspect.main(given_) == code
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "p.html").exists()


def test_damage_is_told_and_no_page_written(tmp_path, capsys) -> None:
    model = MODEL.read_bytes()
    folder = handmade.write_dataset(
        tmp_path / "toy", handmade.control_rows(), model=model
    )
    target = tmp_path / "p.html"
    shard = folder / "train-00001-of-00002.tfrecord"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:200] + b"x" + whole[201:])
    assert inspect.main([str(folder), "--html", str(target)]) == 1
    assert "record 0 at byte 0: the checksum" in capsys.readouterr().err
    shard.write_bytes(whole[:500])
    assert inspect.main([str(folder), "--html", str(target)]) == 1
    assert "truncated" in capsys.readouterr().err
    shard.write_bytes(whole)
    index = folder / f"{shard.name}.idx"
    index.write_bytes(bytes(24))
    assert inspect.main([str(folder), "--html", str(target)]) == 1
    assert "offsets must grow from record to record" in capsys.readouterr().err
    assert not target.exists()


def test_a_build_in_a_store_gives_the_page_of_a_local_one(build, capsys) -> None:
    with emulator.running() as store:
        folder = f"{store.bucket()}/out"
        for path in filter(pathlib.Path.is_file, build.rglob("*")):
            name = path.relative_to(build).as_posix()
            files.write_atomic(files.join(folder, name), path.read_bytes())
        target = f"{folder}.html"
        assert inspect.main([folder, "--html", target]) == 0
        content = files.read_bytes(target)
    local = page.make_page(str(build), first=None, count=100).content
    assert content.replace(folder.encode(), str(build).encode()) == local

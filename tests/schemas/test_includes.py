"""A config that includes is the config written out, and tells which file is wrong."""

import pathlib
import re
from typing import Any

import building
import pytest
import raw_inputs
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gato.schemas import files
from gato.schemas.config import BuildConfig, load_config, parse_config
from gato.schemas.errors import UsageError
from gato.schemas.includes import relocate
from gato.schemas.manifest import load_dataset_manifest

GRID: dict[str, Any] = {"name": "grid", "format": "minari", "paths": ["../../raw/*"]}
PAIRS: dict[str, Any] = {
    "name": "pairs",
    "format": "coco",
    "paths": ["captions.json", "gs://b/c.json", "/abs/c.json"],
    "images": "../photos",
}


def write(folder: pathlib.Path, contents: dict[str, Any]) -> pathlib.Path:
    """Writes files by relative path; returns the first."""
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        path.write_text(text)
    return folder / next(iter(contents))


def build(**keys: Any) -> dict[str, Any]:
    return {"text_tokenizer": "t.model", **keys}


def parsed(path: pathlib.Path) -> BuildConfig:
    return parse_config(path.read_bytes(), str(path))


def problem(path: pathlib.Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_config(str(path))
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{path.parent}/", "")


def test_it_is_the_config_written_out(tmp_path: pathlib.Path) -> None:
    text = {"name": "text", "format": "text", "paths": ["raw/a.txt"], "weight": 2}
    path = write(
        tmp_path,
        {
            "configs/build.yaml": build(include=["sets/all.yaml"], datasets=[text]),
            "configs/sets/all.yaml": {
                "include": ["more/pairs.yaml"],
                "dataset": GRID,
                "datasets": [GRID | {"name": "other", "weight": 3}],
            },
            "configs/sets/more/pairs.yaml": {"datasets": [PAIRS]},
        },
    )
    pairs = ["sets/more/captions.json", "gs://b/c.json", "/abs/c.json"]
    grid = GRID | {"paths": ["../raw/*"]}
    datasets = [
        PAIRS | {"paths": pairs, "images": "sets/photos"},
        grid,
        grid | {"name": "other", "weight": 3},
        text,
    ]
    plain = write(tmp_path, {"configs/plain.yaml": build(datasets=datasets)})
    # What fingerprints and manifests are made of.
    assert parsed(path).model_dump_json() == parsed(plain).model_dump_json()
    assert load_config(str(path)) == load_config(str(plain))


def test_the_names_of_files_do_not_count(tmp_path: pathlib.Path) -> None:
    one = write(
        tmp_path / "one",
        {"b.yaml": build(include=["x/y.yaml"]), "x/y.yaml": {"dataset": GRID}},
    )
    other = write(
        tmp_path / "other",
        {
            "b.yaml": build(include=["x/z.yaml"]),
            "x/z.yaml": {"include": ["y.yaml"]},
            "x/y.yaml": {"datasets": [GRID]},
        },
    )
    assert parsed(one) == parsed(other)


@given(
    st.lists(st.sampled_from(["a", "b", "..", ".", "*"]), max_size=4),
    st.lists(st.sampled_from(["a", "b", "..", "*"]), min_size=1, max_size=5),
)
def test_a_path_is_what_it_was(folder: list[str], path: list[str]) -> None:
    base = "/".join(folder)
    moved = relocate(base, "/".join(path))
    root = "/1/2/3/4/5/6/7/8/9"
    assert relocate(root, moved) == relocate(
        relocate(root, base or "."), "/".join(path)
    )
    assert (
        relocate("gs://bucket/" + root[1:], moved)
        == "gs://bucket/" + (relocate(root, moved)[1:])
    )


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({"a.yaml": build(include="x.yaml")}, r"a\.yaml: include: this is a list"),
        ({"a.yaml": build(include=[1])}, r"a\.yaml: include: this is a list"),
        ({"a.yaml": build(include=["x.yaml"])}, r"a\.yaml: include\.0: no such file"),
        ({"a.yaml": build(include=["a.yaml"])}, "cannot include itself: .*-> .*a.yaml"),
        ({"a.yaml": build(include=["."])}, r"a\.yaml: include\.0: no such file"),
        ({"a.yaml": build(include=[])}, r"a\.yaml: datasets: .* at least 1"),
        (
            {"a.yaml": build(inclde=["x.yaml"])},
            r"a\.yaml: inclde: unknown key .* did you mean 'include'",
        ),
        (
            {"a.yaml": build(include=["b.yaml"]), "b.yaml": "seed: ["},
            r"b\.yaml: not YAML",
        ),
        (
            {"a.yaml": build(include=["b.yaml"]), "b.yaml": "dataset: 1\ndataset: 2"},
            r"b\.yaml: .*the key 'dataset' stands twice\s+in .*line 2",
        ),
        (
            {"a.yaml": build(include=["b.yaml"]), "b.yaml": []},
            r"b\.yaml: an included file is a mapping with dataset, datasets, include",
        ),
        (
            {"a.yaml": build(include=["b.yaml"]), "b.yaml": {"datsets": [GRID]}},
            r"b\.yaml: datsets: unknown key 'datsets'; did you mean 'datasets'",
        ),
        (
            {"a.yaml": build(include=["b.yaml"]), "b.yaml": {"datasets": GRID}},
            r"b\.yaml: datasets: this is a list of data sets, got dict",
        ),
        (
            {
                "a.yaml": build(include=["b.yaml"]),
                "b.yaml": {"include": ["s/c.yaml"]},
                "s/c.yaml": {"include": ["../b.yaml"]},
            },
            r"s/c\.yaml: include\.0: .*itself: b\.yaml -> s/c\.yaml -> .*b\.yaml",
        ),
        (
            {
                "a.yaml": build(include=["b.yaml", "c.yaml"], datasets=[]),
                "b.yaml": {"dataset": GRID},
                "c.yaml": {"datasets": [PAIRS, GRID]},
            },
            r"c\.yaml: datasets\.1\.name: .*unique, got 'grid', which b\.yaml: dataset",
        ),
        (
            {
                "a.yaml": build(include=["b.yaml"], datasets=[GRID]),
                "b.yaml": {"dataset": PAIRS | {"wieght": 1}},
            },
            r"^b\.yaml: dataset\.wieght: unknown key .* did you mean 'weight'",
        ),
        (
            {
                "a.yaml": build(include=["b.yaml"], datasets=[GRID | {"weight": 0}]),
                "b.yaml": {"datasets": [PAIRS]},
            },
            r"^a\.yaml: datasets\.0\.weight: .*greater than 0",
        ),
        (
            {
                "a.yaml": build(include=["b.yaml"]),
                "b.yaml": {"datasets": [PAIRS, {"name": "x", "format": "text"}]},
            },
            r"^b\.yaml: datasets\.1\.paths: this key is required",
        ),
        (
            {"a.yaml": build(include=["b.yaml"]), "b.yaml": {"dataset": 3}},
            r"^b\.yaml: dataset: .*\(got 3\)",
        ),
        (
            {
                "a.yaml": build(include=["b.yaml"]),
                "b.yaml": {"dataset": GRID | {"format": "minary"}},
            },
            r"^b\.yaml: dataset\.format: a format is one of .* did you mean 'minari'",
        ),
    ],
)
def test_problems_name_file_and_key(
    tmp_path: pathlib.Path, contents: dict[str, Any], expected: str
) -> None:
    said = problem(write(tmp_path, contents))
    assert re.search(expected, said), said


def test_one_data_set_of_a_composed_config(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    walks = raw_inputs.random_walks(0, 6)
    raw_inputs.write_minari(tmp_path / "raw", "toy/walk/expert-v0", walks)
    shared = {"sequence_length": 128, "prompts": {"max_tokens": 64}}
    walk = {"name": "walk", "format": "minari", "paths": ["../raw/toy/walk/*"]}
    contents = {
        "build.yaml": build(include=["sets/walk.yaml", "sets/gone.yaml"], **shared),
        "sets/walk.yaml": {"dataset": walk},
        "sets/gone.yaml": {"dataset": GRID | {"paths": ["nowhere/*"]}},
    }
    path = write(tmp_path, contents)
    config = yaml.safe_load(path.read_text())
    config["text_tokenizer"] = str(raw_inputs.VOCABULARY)
    path.write_text(yaml.safe_dump(config))
    output = tmp_path / "out"
    assert building.run_build(path, output, "--datasets", "walk") == 0
    written = load_dataset_manifest(str(output / "walk"))
    assert written.config["dataset"]["paths"] == ["raw/toy/walk/*"]
    # Written out, it is the same build: nothing is to be done.
    del config["include"]
    plain = tmp_path / "plain.yaml"
    rest = GRID | {"paths": ["sets/nowhere/*"]}
    config["datasets"] = [walk | {"paths": ["raw/toy/walk/*"]}, rest]
    plain.write_text(yaml.safe_dump(config))
    shards = building.identities(output, "walk/*.tfrecord")
    assert shards
    assert building.run_build(plain, output, "--datasets", "walk") == 0
    assert building.identities(output, "walk/*.tfrecord") == shards
    message = building.build_message(capsys, path, output)
    assert message.code == 2
    assert "datasets.grid.paths: nothing matches" in message.text
    assert not files.exists(str(output / "grid"))

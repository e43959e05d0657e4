"""A build from RLDS folders equals the re-tokenization of the same episodes in Minari.

The RLDS folders hold them shuffled and over several shards.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np
import pytest
import raw_inputs
import retokenizer
import rlds_sets
from retokenizer_episodes import minari_episodes
from retokenizer_items import Item, Vocabulary

from gato.pipelines import build

pytestmark = pytest.mark.slow

TOY_ID = "toy/1.0.0"


def flat(name: str, tree: Any) -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {name: tree}
    return {
        path: value
        for key, child in tree.items()
        for path, value in flat(f"{name}/{key}", child).items()
    }


def encoded(name: str, column: Any, length: int) -> tuple[dict[str, Any], Any]:
    """Returns the feature and the values of a column, the last repeated to `length`."""
    if isinstance(column, list):
        return rlds_sets.text(), [text.encode() for text in column]
    column = np.concatenate([column, column[-1:]])[:length]
    if column.dtype == np.uint8 and min(column.shape[1:3]) >= 16:
        images = [cv2.imencode(".png", frame[..., ::-1])[1] for frame in column]
        return rlds_sets.image(*column.shape[1:]), [i.tobytes() for i in images]
    if column.dtype.kind == "i":
        return rlds_sets.tensor("int64", *column.shape[1:]), column
    bounds = {"minimum": "-2", "maximum": "2"} if name == "action/arm" else {}
    node = rlds_sets.tensor(
        column.dtype.name, *column.shape[1:], encoding="bytes", **bounds
    )
    return node, [value.tobytes() for value in column]


def nested(leaves: dict[str, Any]) -> dict[str, Any]:
    """Returns a tree of features of flattened names."""
    tree: dict[str, Any] = {}
    for name, node in leaves.items():
        *above, last = name.split("/")
        place = tree
        for part in above:
            place = place.setdefault(part, {})
        place[last] = node

    def close(place: dict[str, Any]) -> dict[str, Any]:
        if "pythonClassName" in place:
            return place
        return rlds_sets.named({key: close(child) for key, child in place.items()})

    return {key: close(child) for key, child in tree.items()}


def write_twin(
    path: pathlib.Path, raw: raw_inputs.RawDataset, num_shards: int
) -> pathlib.Path:
    """Writes Minari's episodes as RLDS: shuffled, each with a padding step."""
    records: list[dict[str, Any]] = []
    step: dict[str, Any] = {}
    for number, episode in enumerate(raw.episodes):
        length = len(episode.rewards) + 1
        place = np.arange(length)
        values: dict[str, Any] = {"episode_id": [number]}
        columns = {
            **flat("observation", episode.observations),
            **flat("action", episode.actions),
            **flat("reward", episode.rewards),
            **{name: value.astype(int) for name, value in episode.infos.items()},
            "is_last": (place == length - 1).astype(int),
        }
        for name, column in columns.items():
            node, values[f"steps/{name}"] = encoded(name, column, length)
            step.setdefault(name, node)
        records.append(values)
    order = np.random.default_rng(0).permutation(len(records))
    shards = [[records[i] for i in part] for part in np.array_split(order, num_shards)]
    return rlds_sets.write(path, shards, step=nested(step))


def twin_episodes(
    folder: pathlib.Path,
    config: Mapping[str, Any],
    dataset: Mapping[str, Any],
    vocabulary: Vocabulary,
) -> Iterator[Item]:
    """Yields what the Minari twin of a data set holds, under the names of RLDS."""
    twin = {**dataset, "paths": [f"minari/{dataset['name']}/*"]}
    for item in minari_episodes(folder, config, twin, vocabulary):
        number = item.id.rpartition("/")[2]
        yield dataclasses.replace(
            item,
            id=f"{TOY_ID}/train/{number}",
            order=(TOY_ID, "", int(number)),
            task="toy",
            agent=TOY_ID,
        )


RAW = {
    "walk": raw_inputs.random_walks(0, 60),
    "grid": raw_inputs.grids(1, 40),
    "pixels": raw_inputs.pixels(2, 30, steps=(4, 20)),
}


@pytest.fixture(scope="module")
def report(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[pathlib.Path, retokenizer.Report]:
    root = tmp_path_factory.mktemp("rlds")
    entries = []
    for name, raw in RAW.items():
        raw_inputs.write_minari(root / "minari", f"{name}/set-v0", raw)
        write_twin(root / name / "1.0.0", raw, num_shards=3)
        entries.append({"name": name, "format": "rlds", "paths": [f"{name}/1.0.0"]})
    entries[1]["filter"] = {"by": "success"}
    config = raw_inputs.write_config(
        root / "build.yaml",
        entries,
        seed=5,
        sequence_length=256,
        validation_fraction=0.2,
        prompts={"max_tokens": 128},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(retokenizer.READERS, "rlds", twin_episodes)
        limited = ["--config", str(config), "--output", str(root / "few")]
        assert build.main([*limited, "--limit", "17"]) == 0
        retokenizer.check_build(config, root / "few", 17)
        assert build.main(["--config", str(config), "--output", str(root / "out")]) == 0
        return root / "out", retokenizer.check_build(config, root / "out")


def test_equals_minari(report: tuple[pathlib.Path, retokenizer.Report]) -> None:
    _, found = report
    assert set(found.datasets) == set(RAW)
    for name, raw in RAW.items():
        accounts = found.datasets[name].accounts
        assert accounts["read"] == len(raw.episodes)
        assert accounts["quarantined"] == {}
        assert accounts["low_return"] > 0
    assert found.datasets["pixels"].images > 50


def test_the_manifest_names_the_order(
    report: tuple[pathlib.Path, retokenizer.Report],
) -> None:
    output, _ = report
    manifest = json.loads((output / "walk" / "manifest.json").read_text())
    assert manifest["tasks"]["toy"]["order"] == "number"
    assert manifest["tasks"]["toy"]["agents"] == [TOY_ID]

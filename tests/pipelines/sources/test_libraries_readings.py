"""Readers of pages, pairs, questions and demonstrations beside the formats' libraries.

What each library reads of the files in testdata was written down beside them, by the
`make.py` there, which says which version of which library it was: pycocotools, the VQA
API, Hugging Face's datasets, img2dataset, robomimic. Order, count and content are
compared.
"""

import collections
import json
import pathlib
import tarfile
from typing import Any

import episode_source
import numpy as np
import pair_sources
import pytest

from gato.schemas.config import Dataset
from gato.schemas.episode import Document, ImagePart

TESTDATA = pathlib.Path(__file__).parents[2] / "testdata"


def readings(folder: pathlib.Path) -> list[Any]:
    return json.loads((folder / "read.json").read_text("utf-8"))


def test_coco_captions() -> None:
    folder = TESTDATA / "coco"
    path = folder / "captions_val2014.json"
    found = pair_sources.pairs(pair_sources.read("coco", path))
    assert len(found) == 20
    assert found == [
        (f"{path.name}/{number}", (folder / "images" / name).read_bytes(), (caption,))
        for number, caption, name in readings(folder)
    ]


@pytest.mark.parametrize("name", ["vqav2", "okvqa"])
def test_questions(name: str) -> None:
    folder, images = TESTDATA / "vqa" / name, TESTDATA / "vqa" / "images"
    (path,) = folder.glob("*questions.json")
    items = pair_sources.read("vqa", path, images=str(images))
    expected = []
    for number, question, image, answers, choice in readings(folder):
        counts = collections.Counter(answers)
        leading = min(a for a in counts if counts[a] == max(counts.values()))
        # Of VQAv2, the annotators' choice; OK-VQA has none.
        assert choice is None or counts[choice] == counts[leading]
        texts = (f"Q: {question} A:", leading if choice is None else choice)
        data = (images / image).read_bytes()
        expected.append((f"{path.name}/{number}", data, texts))
    assert len(expected) == 12
    assert pair_sources.pairs(items) == expected


def test_obelics_pages() -> None:
    folder = TESTDATA / "obelics"
    items = [
        item
        for path in sorted(folder.glob("*.parquet"))
        for item in pair_sources.read("obelics", path)
    ]
    rows = readings(folder)
    assert len(items) == len(rows) == 6
    for item, row in zip(items, rows, strict=True):
        assert isinstance(item, Document), item
        expected: list[bytes | str] = []
        for url, text in zip(row["images"], row["texts"], strict=True):
            if url is not None:
                name = url.rpartition("/")[2].partition("?")[0]
                expected.append((folder / "images" / name).read_bytes())
            elif expected and isinstance(expected[-1], str):
                expected[-1] += "\n\n" + text  # a page's paragraphs, as in one text
            else:
                expected.append(text)
        if isinstance(expected[-1], bytes):
            expected.append("")  # the end of a page that an image ends
        found = [p.data if isinstance(p, ImagePart) else p.text for p in item.parts]
        assert found == expected


def test_conceptual_captions() -> None:
    folder = TESTDATA / "conceptual_captions"
    path = folder / "00000.tar"
    packed = pair_sources.pairs(pair_sources.read("webdataset", path))
    assert len(packed) == 5
    assert packed == pair_sources.samples_by_webdataset(path)
    # The TSV with its images is read as what img2dataset fetched by it.
    table = folder / "Train_GCC-training.tsv"
    items = pair_sources.read("captions_tsv", table, images=str(folder / "images"))
    unpacked = pair_sources.pairs(items)
    assert [pair[1:] for pair in unpacked] == [pair[1:] for pair in packed]
    assert [pair[0] for pair in unpacked] == [f"{table.name}/{n}" for n in range(5)]
    with tarfile.open(path) as archive:
        notes = [
            json.load(member)
            for name in archive.getnames()
            if name.endswith(".json") and (member := archive.extractfile(name))
        ]
    urls = [line.split("\t")[1] for line in table.read_text("utf-8").splitlines()]
    assert [note["url"] for note in notes] == urls


@pytest.mark.parametrize("split", [None, "train", "20_percent"])
def test_robomimic_demonstrations(split: str | None) -> None:
    path = TESTDATA / "robomimic" / "image.hdf5"
    config = Dataset(name="set", format="robomimic", paths=("raw/*",), split=split)
    found = episode_source.episodes(
        episode_source.read(path, "lift/image.hdf5", config)
    )
    title = split or "all"
    with np.load(path.with_name("read.npz")) as theirs:
        assert [f"demo_{e.number}" for e in found] == theirs[title].tolist()
        for place, episode in enumerate(found):
            columns = {f"obs/{key}": c for key, c in episode.observations.items()}
            columns |= {"actions": episode.actions["action"]}
            columns |= {"rewards": episode.rewards}
            start = f"{title}/{place}/"
            names = {n.removeprefix(start) for n in theirs if n.startswith(start)}
            assert columns.keys() == names
            for key, column in columns.items():
                np.testing.assert_array_equal(np.asarray(column), theirs[start + key])
                assert np.asarray(column).dtype == theirs[start + key].dtype

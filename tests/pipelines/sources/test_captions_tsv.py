"""Conceptual Captions' TSVs, beside what the csv module reads of them."""

import csv
import dataclasses
import gzip
import pathlib
import pickle
from typing import Any

import fsspec
import image_sets
import pair_sources
import pytest
import raw_inputs
from building import run_build
from pair_sources import dataset, pairs, verdicts

from gato.pipelines import verify
from gato.pipelines.sources import captions_tsv
from gato.pipelines.sources.captions_tsv import CaptionsTsvSource
from gato.schemas.episode import Document, Unreadable
from gato.schemas.errors import Reason, UsageError
from gato.schemas.manifest import load_dataset_manifest

NAME = "Train_GCC-training.tsv"
CAPTIONS = ["a dog , running", 'the "quoted" one', "naïve Zürich 東京", " spaced ", "x"]


def read(path: pathlib.Path | str, **settings: Any) -> list[Document | Unreadable]:
    return pair_sources.read("captions_tsv", path, **settings)


def image_names(count: int) -> list[str]:
    return [image_sets.image_name(i) for i in image_sets.IMAGE_IDS[:count]]


def urls(count: int) -> list[str]:
    names = image_names(count)
    return [f"https://host.org/{n}/{name}?w=40#top" for n, name in enumerate(names)]


def write(
    folder: pathlib.Path,
    lines: list[tuple[str, str]] | None = None,
    end: str = "\n",
) -> pathlib.Path:
    """Writes a TSV and five images beside it."""
    image_sets.write_images(folder, 5)
    path = folder / NAME
    lines = list(zip(CAPTIONS, urls(5), strict=True)) if lines is None else lines
    path.write_text("".join("\t".join(line) + end for line in lines), "utf-8", None, "")
    return path


def reference(path: pathlib.Path, images: pathlib.Path) -> list[pair_sources.Pair]:
    """Reads as the published scripts do: a TSV of two columns, nothing quoted."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [
        (
            f"{path.name}/{number}",
            (images / url.rpartition("/")[2].partition("?")[0]).read_bytes(),
            (caption,),
        )
        for number, (caption, url) in enumerate(rows)
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_reads_what_csv_reads(tmp_path: pathlib.Path, end: str) -> None:
    path = write(tmp_path, end=end)
    items = read(path)
    assert pairs(items) == reference(path, tmp_path)
    assert [item.number for item in items] == [0, 1, 2, 3, 4]


def test_the_columns_of_cc12m_and_another_folder(tmp_path: pathlib.Path) -> None:
    expected = reference(write(tmp_path), tmp_path)
    path = write(tmp_path, list(zip(urls(5), CAPTIONS, strict=True)))
    assert pairs(read(path)) == expected
    (tmp_path / "photos").mkdir()
    for name in image_names(5):
        (tmp_path / name).rename(tmp_path / "photos" / name)
    assert verdicts(read(path)) == [
        (f"{NAME}/{n}", Reason.MISSING_IMAGE) for n in range(5)
    ]
    assert pairs(read(path, images=str(tmp_path / "photos"))) == expected
    gone = dataset("captions_tsv", images=str(tmp_path / "gone"))
    with pytest.raises(UsageError, match="images: FOLDER"):
        CaptionsTsvSource().beside(str(path), gone)


def test_names_of_files(tmp_path: pathlib.Path) -> None:
    expected = [pair[1:] for pair in reference(write(tmp_path), tmp_path)]
    names = image_names(5)
    (tmp_path / "below").mkdir()
    (tmp_path / names[3]).rename(tmp_path / "below" / names[3])
    places = [
        names[0],
        f"file://{names[1]}",
        f"file://{tmp_path}/{names[2]}",
        f"below/{names[3]}",
        f"file://below/../{names[4]}",
    ]
    path = write(tmp_path, list(zip(CAPTIONS, places, strict=True)))
    (tmp_path / names[3]).unlink()
    items = read(path)
    assert verdicts(items) == [(f"{NAME}/4", Reason.UNSAFE_PATH)]
    good = [item for item in items if isinstance(item, Document)]
    assert [pair[1:] for pair in pairs(list(good))] == expected[:4]


def test_a_base_name_of_two_urls_is_no_image(tmp_path: pathlib.Path) -> None:
    name, other = image_names(2)
    lines = [
        ("a", f"http://a.org/{name}"),
        ("b", f"http://a.org/{other}"),
        ("c", f"http://b.org/{name}"),
        ("d", f"http://a.org/{other}"),
    ]
    items = read(write(tmp_path, lines))
    assert verdicts(items) == [
        (f"{NAME}/0", Reason.MISSING_IMAGE),
        (f"{NAME}/2", Reason.MISSING_IMAGE),
    ]
    assert isinstance(items[0], Unreadable)
    assert "two URLs" in items[0].detail


@pytest.mark.parametrize("size", [1, 70, 200])
def test_ranges_read_the_same(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = write(tmp_path)
    whole = read(path)
    monkeypatch.setattr(captions_tsv, "PARTITION_BYTES", size)
    parts = CaptionsTsvSource().partition(str(path), NAME, dataset("captions_tsv"))
    assert len(parts) > 1
    assert sum(part.num_bytes for part in parts) == path.stat().st_size + sum(
        file.stat().st_size for file in tmp_path.iterdir()
    )
    assert read(path) == whole


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"no tab", Reason.CORRUPT_RECORD),
        (b"a\tb\tc", Reason.CORRUPT_RECORD),
        (b"a\t", Reason.MISSING_FIELD),
        (b"\thttp://a.org/b.jpg", Reason.EMPTY),
        (b"\xff\thttp://a.org/b.jpg", Reason.NOT_UTF8),
        (b"a\thttp://a.org/gone.jpg", Reason.MISSING_IMAGE),
        (b"a\thttp://a.org/", Reason.MISSING_IMAGE),
        (b"a\thttp://a.org/..", Reason.UNSAFE_PATH),
        (b"a\tfile:///etc/passwd", Reason.UNSAFE_PATH),
        (b"a\t../b.jpg", Reason.UNSAFE_PATH),
        (b"a\tgs://bucket/b.jpg", Reason.UNSAFE_PATH),
        (b"a" * (2 << 20) + b"\tb.jpg", Reason.TOO_LONG),
    ],
)
def test_a_bad_line_costs_one(
    tmp_path: pathlib.Path, line: bytes, reason: Reason
) -> None:
    path = write(tmp_path)
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join((first, line, b"\n\n", *rest)))
    items = read(path)
    assert verdicts(items) == [(f"{NAME}/1", reason)]
    assert [item.number for item in items] == [0, 1, 3, 4, 5, 6]


def test_truncated_compression_and_a_file_that_is_gone(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path)
    packed = tmp_path / f"{NAME}.gz"
    content = gzip.compress(path.read_bytes() * 50, mtime=0)
    packed.write_bytes(content)
    assert len(pairs(read(packed))) == 250
    packed.write_bytes(content[:-20])
    assert verdicts(read(packed))[-1] == (None, Reason.CORRUPT_FILE)
    packed.unlink()
    assert verdicts(read(packed)) == [(None, Reason.CORRUPT_FILE)]
    path.write_bytes(b"")
    assert read(path) == []


def test_texts_are_read_without_images(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path)
    expected = read(path)
    for name in image_names(5):
        (tmp_path / name).unlink()
    source, config = CaptionsTsvSource(), dataset("captions_tsv")
    (partition,) = source.partition(str(path), NAME, config)
    for item, whole in zip(source.read_texts(partition, config), expected, strict=True):
        assert isinstance(whole, Document)
        assert item == dataclasses.replace(whole, parts=whole.parts[1:])


def test_paths_of_another_kind(tmp_path: pathlib.Path) -> None:
    for wrong in (tmp_path, tmp_path / "a.csv"):
        with pytest.raises(UsageError, match=r"is a \.tsv"):
            CaptionsTsvSource().files(str(wrong))
    assert pickle.loads(pickle.dumps(CaptionsTsvSource())).items == "documents"


def test_reads_from_another_store(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path)
    store = fsspec.filesystem("memory")
    try:
        store.put(str(tmp_path), "/cc", recursive=True)
        assert pairs(read(f"memory://cc/{NAME}")) == pairs(read(path))
    finally:
        store.rm("/cc", recursive=True)


def test_builds_and_verifies(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "raw")
    config = raw_inputs.write_config(
        tmp_path / "build.yaml",
        [{"name": "cc", "format": "captions_tsv", "paths": ["raw/*.tsv"]}],
        sequence_length=256,
        prompts={"max_tokens": 64},
    )
    assert run_build(config, tmp_path / "out") == 0
    assert verify.main([str(tmp_path / "out")]) == 0
    accounts = load_dataset_manifest(str(tmp_path / "out" / "cc")).accounts
    assert (accounts.read, accounts.kept) == (5, 5)

"""Captioned images of COCO files, beside what `json` reads of them."""

import dataclasses
import json
import pathlib
import pickle
from collections.abc import Callable
from typing import Any

import fsspec
import image_sets
import pair_sources
import pytest
import raw_inputs
from building import run_build
from pair_sources import dataset, pairs, verdicts

from gato.pipelines import discover, verify
from gato.pipelines.segments import MAX_PAIRS
from gato.pipelines.sources import coco, image_folder
from gato.pipelines.sources.coco import CocoSource
from gato.schemas import files
from gato.schemas.config import load_config
from gato.schemas.episode import Document, TextPart, Unreadable
from gato.schemas.errors import Reason, UsageError
from gato.schemas.manifest import load_dataset_manifest

NAME = "captions_val2014.json"


def read(path: pathlib.Path | str, **settings: Any) -> list[Document | Unreadable]:
    return pair_sources.read("coco", path, **settings)


def reference(path: pathlib.Path) -> list[pair_sources.Pair]:
    """Reads as pycocotools does: images by id, annotations in the file's order."""
    content = json.loads(path.read_text("utf-8"))
    names = {image["id"]: image["file_name"] for image in content["images"]}
    return [
        (
            f"{path.name}/{entry['id']}",
            (path.parent / "images" / names[entry["image_id"]]).read_bytes(),
            (entry["caption"],),
        )
        for entry in content["annotations"]
    ]


def test_reads_what_json_reads(tmp_path: pathlib.Path) -> None:
    path = image_sets.write_coco(tmp_path, num_images=8, captions=5)
    items = read(path)
    assert pairs(items) == reference(path)
    assert [item.number for item in items] == list(range(40))
    for item in items:
        assert isinstance(item, Document)
        assert isinstance(item.parts[1], TextPart)
        assert (item.parts[1].eos, item.parts[1].question) == (True, False)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_ranges_read_the_same(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = image_sets.write_coco(tmp_path, num_images=4, captions=2)
    whole = read(path)
    monkeypatch.setattr(coco, "PARTITION_ITEMS", size)
    parts = CocoSource().partition(str(path), NAME, dataset("coco"))
    assert len(parts) == -(-8 // size)
    assert sum(part.num_items or 0 for part in parts) == 8
    everything = [path, *(tmp_path / "images").iterdir()]
    assert sum(part.num_bytes for part in parts) == sum(
        file.stat().st_size for file in everything
    )
    assert read(path) == whole


def test_a_folder_of_another_name_and_images_below_it(tmp_path: pathlib.Path) -> None:
    def move(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["file_name"] = "val/" + image["file_name"]

    path = image_sets.write_coco(tmp_path, edit=move)
    (tmp_path / "photos").mkdir()
    (tmp_path / "images").rename(tmp_path / "photos" / "val")
    items = read(path, images=str(tmp_path / "photos"))
    assert len(pairs(items)) == 6
    with pytest.raises(UsageError, match=r"images: FOLDER"):
        CocoSource().beside(str(path), dataset("coco"))


Content = dict[str, Any]


def annotation(**changes: Any) -> Callable[[Content], None]:
    """Changes the third annotation; None removes a field."""

    def edit(content: Content) -> None:
        entry = content["annotations"][2]
        entry |= changes
        for key, value in changes.items():
            if value is ...:
                del entry[key]

    return edit


def image(**changes: Any) -> Callable[[Content], None]:
    """Changes the image of the third annotation, which no other one has."""

    def edit(content: Content) -> None:
        content["images"][2] |= changes
        for key, value in changes.items():
            if value is ...:
                del content["images"][2][key]

    return edit


def replace_entry(content: Content) -> None:
    content["annotations"][2] = ["caption"]


def repeat_image(content: Content) -> None:
    content["images"].append({**content["images"][2], "file_name": "other.jpg"})


@pytest.mark.parametrize(
    ("edit", "item", "reason"),
    [
        (annotation(caption=...), 1014, Reason.MISSING_FIELD),
        (annotation(caption=None), 1014, Reason.MISSING_FIELD),
        (annotation(image_id=...), 1014, Reason.MISSING_FIELD),
        (annotation(id=...), 2, Reason.MISSING_FIELD),
        (annotation(caption=3), 2, Reason.WRONG_DTYPE),
        (annotation(caption=["a"]), 2, Reason.WRONG_DTYPE),
        (annotation(image_id=1.5), 2, Reason.WRONG_DTYPE),
        (annotation(id=True), 2, Reason.WRONG_DTYPE),
        (annotation(caption=""), 1014, Reason.EMPTY),
        (annotation(caption="\ud800"), 2, Reason.NOT_UTF8),
        (annotation(id=1000), 1000, Reason.CORRUPT_RECORD),
        (annotation(image_id=404), 1014, Reason.MISSING_IMAGE),
        (replace_entry, 2, Reason.CORRUPT_RECORD),
        (image(file_name="gone.jpg"), 1014, Reason.MISSING_IMAGE),
        (image(file_name="x" * 300), 1014, Reason.MISSING_IMAGE),
        (image(file_name=...), 1014, Reason.MISSING_FIELD),
        (image(file_name=7), 1014, Reason.MISSING_IMAGE),
        (image(id=...), 1014, Reason.MISSING_IMAGE),
        (image(file_name="../images/gone.jpg"), 1014, Reason.UNSAFE_PATH),
        (image(file_name="/etc/passwd"), 1014, Reason.UNSAFE_PATH),
        (image(file_name="gs://bucket/a.jpg"), 1014, Reason.UNSAFE_PATH),
        (image(file_name="a\\..\\..\\b.jpg"), 1014, Reason.UNSAFE_PATH),
        (image(file_name="C:\\b.jpg"), 1014, Reason.UNSAFE_PATH),
        (image(file_name="a\0.jpg"), 1014, Reason.UNSAFE_PATH),
        (image(file_name=""), 1014, Reason.UNSAFE_PATH),
        (repeat_image, 1014, Reason.CORRUPT_RECORD),
    ],
)
def test_a_bad_entry_costs_one(
    tmp_path: pathlib.Path, edit: image_sets.Edit, item: int, reason: Reason
) -> None:
    path = image_sets.write_coco(tmp_path, num_images=3, captions=1, edit=edit)
    items = read(path)
    assert verdicts(items) == [(f"{NAME}/{item}", reason)]
    assert [i.number for i in items] == [0, 1, 2]
    assert isinstance(items[2], Unreadable)


def test_a_caption_that_is_not_utf8_costs_one(tmp_path: pathlib.Path) -> None:
    path = image_sets.write_coco(
        tmp_path, num_images=3, captions=1, edit=annotation(caption="TuDU")
    )
    path.write_bytes(path.read_bytes().replace(b"TuDU", b"T\xfcDU"))
    assert verdicts(read(path)) == [(f"{NAME}/2", Reason.NOT_UTF8)]


def test_an_entry_of_images_that_cannot_be_read_is_named(
    tmp_path: pathlib.Path,
) -> None:
    path = image_sets.write_coco(tmp_path, captions=1, edit=image(file_name=7))
    (bad,) = [i for i in read(path) if isinstance(i, Unreadable)]
    assert "images[2]" in bad.detail
    assert "file_name" in bad.detail


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", Reason.CORRUPT_FILE),
        (b"not JSON", Reason.CORRUPT_FILE),
        (b"[]", Reason.CORRUPT_FILE),
        (b'{"annotations": {}, "images": []}', Reason.CORRUPT_FILE),
        (b'{"annotations": ' + b"[" * 100_000, Reason.CORRUPT_FILE),
        (b'{"images": []}', Reason.MISSING_FIELD),
        (b'{"annotations": []}', Reason.MISSING_FIELD),
        ("{}".encode("utf-16"), Reason.CORRUPT_FILE),
    ],
)
def test_what_is_no_captions_json(
    tmp_path: pathlib.Path, content: bytes, reason: Reason
) -> None:
    path = image_sets.write_coco(tmp_path)
    path.write_bytes(content)
    assert verdicts(read(path)) == [(None, reason)]
    path.unlink()
    assert verdicts(read(path)) == [(None, Reason.CORRUPT_FILE)]


def test_every_truncation_is_told(tmp_path: pathlib.Path) -> None:
    path = image_sets.write_coco(tmp_path)
    content = path.read_bytes()
    for length in range(0, len(content) - 1, 97):
        path.write_bytes(content[:length])
        assert verdicts(read(path)) == [(None, Reason.CORRUPT_FILE)]


def test_a_byte_order_mark(tmp_path: pathlib.Path) -> None:
    path = image_sets.write_coco(tmp_path)
    expected = reference(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert pairs(read(path)) == expected


def test_an_image_too_large_to_hold(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image_sets.write_coco(tmp_path, captions=1)
    largest = max((tmp_path / "images").iterdir(), key=lambda p: p.stat().st_size)
    for first in (100, 1 << 20):
        monkeypatch.setattr(image_folder, "_FIRST_BYTES", first)
        assert pairs(read(path)) == reference(path)
    monkeypatch.setattr(image_folder, "_FIRST_BYTES", 100)
    monkeypatch.setattr(image_folder, "_MAX_BYTES", largest.stat().st_size - 1)
    assert Reason.IMAGE_TOO_LARGE in [reason for _, reason in verdicts(read(path))]


def test_an_image_of_several_captions_in_a_row_is_read_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_a_row(content: Content) -> None:
        content["annotations"].sort(key=lambda entry: entry["image_id"])

    path = image_sets.write_coco(tmp_path, captions=5, edit=in_a_row)
    opened = []
    real = files.open_read

    def counting(name: str) -> Any:
        opened.append(name)
        return real(name)

    monkeypatch.setattr(files, "open_read", counting)
    assert len(pairs(read(path))) == 15
    assert sum(name.endswith(".jpg") for name in opened) == 3


def test_texts_are_read_without_images(tmp_path: pathlib.Path) -> None:
    path = image_sets.write_coco(tmp_path, edit=annotation(caption=3))
    expected = read(path)
    for image in (tmp_path / "images").iterdir():
        image.unlink()
    source, config = CocoSource(), dataset("coco")
    (partition,) = source.partition(str(path), NAME, config)
    items = list(source.read_texts(partition, config))
    assert verdicts(items) == verdicts(expected) != []
    for item, whole in zip(items, expected, strict=True):
        if isinstance(item, Document):
            assert isinstance(whole, Document)
            assert item == dataclasses.replace(whole, parts=whole.parts[1:])


def test_a_changed_file_is_parsed_again(tmp_path: pathlib.Path) -> None:
    path = image_sets.write_coco(tmp_path)
    read(path)
    image_sets.write_coco(tmp_path, edit=annotation(caption="another caption"))
    assert pairs(read(path))[2][2] == ("another caption",)


def test_paths_of_another_kind(tmp_path: pathlib.Path) -> None:
    for wrong in (tmp_path, tmp_path / "a.tar"):
        with pytest.raises(UsageError, match="captions JSON"):
            CocoSource().files(str(wrong))


def test_reads_from_another_store(tmp_path: pathlib.Path) -> None:
    path = image_sets.write_coco(tmp_path, num_images=8, captions=3)
    (tmp_path / "images" / image_sets.image_name(42)).unlink()
    store = fsspec.filesystem("memory")
    try:
        store.put(str(tmp_path), "/coco", recursive=True)
        items = read(f"memory://coco/{NAME}")
        expected = read(path)
        assert len(verdicts(expected)) == 3
        assert verdicts(items) == verdicts(expected)
        good = [i for i in items if isinstance(i, Document)]
        assert pairs(list(good)) == pairs(
            [i for i in expected if isinstance(i, Document)]
        )
        assert [i.number for i in items] == list(range(24))
    finally:
        store.rm("/coco", recursive=True)


def test_is_picklable() -> None:
    assert pickle.loads(pickle.dumps(CocoSource())).items == "documents"


def write_config(root: pathlib.Path, **entry: Any) -> pathlib.Path:
    values = {"name": "coco", "format": "coco", "paths": [f"raw/{NAME}"]} | entry
    return raw_inputs.write_config(
        root / "build.yaml", [values], sequence_length=256, prompts={"max_tokens": 64}
    )


def test_every_image_is_part_of_the_identity(tmp_path: pathlib.Path) -> None:
    image_sets.write_coco(tmp_path / "raw")
    (tmp_path / "raw" / "images").rename(tmp_path / "photos")
    config = write_config(tmp_path, images="photos")

    def identity() -> tuple[str, int]:
        (dataset,) = load_config(str(config)).datasets
        (path,) = discover.expand(dataset)
        return path.identity, path.num_bytes

    before = identity()
    assert identity() == before
    image = tmp_path / "photos" / image_sets.image_name(73)
    image.write_bytes(image.read_bytes() + b"\0")
    after = identity()
    assert after[0] != before[0]
    assert after[1] == before[1] + 1


def test_two_pairs_of_one_image_never_share_a_segment(tmp_path: pathlib.Path) -> None:
    path = image_sets.write_coco(tmp_path / "raw", num_images=8, captions=5)
    (tmp_path / "raw" / "images").rename(tmp_path / "photos")
    config = write_config(tmp_path, images="photos")
    assert run_build(config, tmp_path / "out") == 0
    assert verify.main([str(tmp_path / "out")]) == 0
    entries = json.loads(path.read_text("utf-8"))["annotations"]
    image_of = {f"{NAME}/{entry['id']}": entry["image_id"] for entry in entries}
    segments = [
        segment["documents"]
        for row in pair_sources.rows(tmp_path / "out" / "coco", 256)
        for segment in row.provenance
    ]
    told = sorted(document for segment in segments for document in segment)
    assert told == sorted(image_of)
    assert max(map(len, segments)) == MAX_PAIRS
    for segment in segments:
        assert len({image_of[document] for document in segment}) == len(segment)
    accounts = load_dataset_manifest(str(tmp_path / "out" / "coco")).accounts
    assert (accounts.read, accounts.kept) == (40, 40)

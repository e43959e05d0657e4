"""Pairs of WebDataset tars, beside what webdataset reads, and damaged tars."""

import gzip
import io
import json
import pathlib
import pickle
import tarfile
import tracemalloc
from typing import Any

import fsspec
import numpy as np
import pair_sources
import pytest
import raw_inputs
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from webdataset.writer import TarWriter

from gato.pipelines.sources import base
from gato.pipelines.sources.registry import source_for
from gato.pipelines.sources.webdataset import WebdatasetSource
from gato.schemas.config import Dataset
from gato.schemas.episode import Document, ImagePart, TextPart, Unreadable
from gato.schemas.errors import Reason, UsageError

Members = list[tuple[str, bytes]]


def dataset(**settings: Any) -> Dataset:
    return Dataset(name="set", format="webdataset", paths=("raw/*",), **settings)


def read(path: pathlib.Path | str, **settings: Any) -> list[Document | Unreadable]:
    source, config = WebdatasetSource(), dataset(**settings)
    name = str(path).rpartition("/")[2]
    return [
        item
        for partition in source.partition(str(path), name, config)
        for item in source.read(partition, config)
    ]


def pairs(items: list[Document | Unreadable]) -> list[tuple[bytes, str]]:
    found = []
    for item in items:
        assert isinstance(item, Document), item
        image, caption = item.parts
        assert isinstance(image, ImagePart)
        assert isinstance(caption, TextPart)
        assert caption.eos
        found.append((image.data, caption.text))
    return found


def verdicts(items: list[Document | Unreadable]) -> list[tuple[str | None, str]]:
    return [(i.item_id, i.reason) for i in items if isinstance(i, Unreadable)]


def write_tar(
    path: pathlib.Path, members: Members, format: int = tarfile.USTAR_FORMAT
) -> pathlib.Path:
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def sample(key: str, image: bytes = b"\xff\xd8", caption: str = "a cat") -> Members:
    return [(f"{key}.jpg", image), (f"{key}.txt", caption.encode())]


def write_samples(path: pathlib.Path, count: int) -> list[dict[str, Any]]:
    """Writes samples with webdataset's own writer, as img2dataset lays them out."""
    generator = np.random.default_rng(0)
    samples = []
    writer = TarWriter(str(path), encoder=False)
    for number in range(count):
        caption = raw_inputs.sentence(generator, 1 + number % 7)
        record = {"uid": str(number), "caption": caption, "status": "success"}
        samples.append(
            {
                "__key__": f"{number // 10:03d}/{number:06d}",
                "jpg": generator.bytes(int(generator.integers(1, 3000))),
                "json": json.dumps(record).encode(),
                "txt": caption.encode(),
            }
        )
        writer.write(samples[-1])
    writer.close()
    return samples


def test_reads_what_webdataset_reads(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "00000.tar"
    assert len(write_samples(path, 40)) == 40
    items = read(path)
    assert pair_sources.pairs(items) == pair_sources.samples_by_webdataset(path)
    assert [i.number for i in items] == list(range(40))


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar.zst"])
def test_compressed_tars(tmp_path: pathlib.Path, suffix: str) -> None:
    plain = tmp_path / "a.tar"
    write_samples(plain, 200)
    content = plain.read_bytes()
    path = tmp_path / f"a{suffix}"
    is_zstd = suffix.endswith("zst")
    path.write_bytes(
        zstandard.ZstdCompressor().compress(content)
        if is_zstd
        else gzip.compress(content)
    )
    assert pairs(read(path)) == pairs(read(plain))
    assert [
        p.stop for p in WebdatasetSource().partition(str(path), "a", dataset())
    ] == [None]
    path.write_bytes(path.read_bytes()[:-2000])
    *good, last = read(path)
    assert pairs(good) == pairs(read(plain))[: len(good)]
    assert len(good) > 5
    assert isinstance(last, Unreadable)
    assert last.reason == Reason.CORRUPT_FILE


@pytest.mark.parametrize(
    "format",
    [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT],
)
def test_formats_and_long_names(tmp_path: pathlib.Path, format: int) -> None:
    keys = ["short", "folder/" * 20 + "deep", "./dotted", "ünïcode/東京"]
    if format != tarfile.USTAR_FORMAT:
        keys.append("x" * 300)
    members = [m for n, key in enumerate(keys) for m in sample(key, bytes([n + 1]))]
    items = read(write_tar(tmp_path / "a.tar", members, format))
    assert [image for image, _ in pairs(items)] == [
        bytes([n + 1]) for n in range(len(keys))
    ]
    ids = [i.document_id for i in items if isinstance(i, Document)]
    assert ids == [f"a.tar/{key.removeprefix('./')}" for key in keys]


def test_captions_of_a_json_and_of_another_key(tmp_path: pathlib.Path) -> None:
    record = json.dumps({"caption": "of json", "alt": "other"}).encode()
    members = [("0.png", b"p"), ("0.json", record), ("0.alt", b"member")]
    path = write_tar(tmp_path / "a.tar", [*members, *sample("1"), ("1.json", record)])
    assert pairs(read(path)) == [(b"p", "of json"), (b"\xff\xd8", "a cat")]
    assert [c for _, c in pairs(read(path, text_key="caption"))] == ["of json"] * 2
    assert [c for _, c in pairs(read(path, text_key="alt"))] == ["member", "other"]


def test_extensions_and_members_that_are_no_part_of_a_pair(
    tmp_path: pathlib.Path,
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        folder = tarfile.TarInfo("folder.d")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name in ("README", ".hidden", "0.JPEG", "0.cls", "0.TXT", "0.seg.png"):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(name[-3:].encode()))
    assert pairs(read(tmp_path / "a.tar")) == [(b"PEG", "TXT")]


def record_of(caption: Any) -> bytes:
    return json.dumps({"caption": caption}).encode()


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("k.txt", b"a")], Reason.MISSING_IMAGE),
        ([("k.jpg", b"a")], Reason.MISSING_FIELD),
        ([("k.jpg", b"a"), ("k.txt", b"")], Reason.EMPTY),
        ([("k.jpg", b"a"), ("k.txt", b"T\xfcr")], Reason.NOT_UTF8),
        ([("k.jpg", b"a"), ("k.json", b"{}")], Reason.MISSING_FIELD),
        ([("k.jpg", b"a"), ("k.json", record_of(None))], Reason.MISSING_FIELD),
        ([("k.jpg", b"a"), ("k.json", record_of(3))], Reason.WRONG_DTYPE),
        ([("k.jpg", b"a"), ("k.json", record_of("\ud800"))], Reason.NOT_UTF8),
        ([("k.jpg", b"a"), ("k.json", b"{")], Reason.CORRUPT_RECORD),
        ([("k.jpg", b"a"), ("k.json", b"[]")], Reason.CORRUPT_RECORD),
        ([("k.jpg", b"a"), ("k.txt", b"a"), ("k.txt", b"b")], Reason.CORRUPT_RECORD),
    ],
)
def test_a_bad_sample_costs_one(
    tmp_path: pathlib.Path, members: Members, reason: Reason
) -> None:
    path = write_tar(tmp_path / "a.tar", [*sample("a"), *members, *sample("z")])
    items = read(path)
    assert verdicts(items) == [("a.tar/k", reason)]
    assert [i.number for i in items] == [0, 1, 2]


@pytest.mark.parametrize("key", ["/etc/k", "../k", "a/../../k", "C:\\k"])
def test_members_that_leave_the_tar(tmp_path: pathlib.Path, key: str) -> None:
    path = write_tar(tmp_path / "a.tar", [*sample("a"), *sample(key), *sample("z")])
    assert verdicts(read(path)) == [(f"a.tar/{key}", Reason.UNSAFE_PATH)]


@pytest.mark.parametrize("extension", ["jpg", "txt"])
@pytest.mark.parametrize(
    "type",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
    ],
)
def test_links_and_devices_are_no_members(
    tmp_path: pathlib.Path, type: bytes, extension: str
) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, data in (*sample("a"), *sample("k"), *sample("z")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            if name == f"k.{extension}":
                member.type, member.linkname, member.size = type, "/etc/passwd", 0
            tar.addfile(member, io.BytesIO(data[: member.size]))
    items = read(path)
    assert verdicts(items) == [("a.tar/k", Reason.UNSUPPORTED)]
    assert [i.number for i in items] == [0, 1, 2]


def test_a_key_that_stands_again(tmp_path: pathlib.Path) -> None:
    members = [*sample("a"), *sample("b"), *sample("a", b"other")]
    items = read(write_tar(tmp_path / "a.tar", members))
    assert verdicts(items) == [("a.tar/a", Reason.CORRUPT_RECORD)]
    assert [i.number for i in items] == [0, 1, 2]


def test_members_sorted_by_extension_are_told(tmp_path: pathlib.Path) -> None:
    members = sorted([*sample("a"), *sample("b")], key=lambda m: m[0][-3:])
    items = read(write_tar(tmp_path / "a.tar", members))
    assert verdicts(items) == [
        ("a.tar/a", Reason.MISSING_FIELD),
        ("a.tar/b", Reason.MISSING_FIELD),
        ("a.tar/a", Reason.CORRUPT_RECORD),
        ("a.tar/b", Reason.CORRUPT_RECORD),
    ]


def test_a_member_too_large_to_hold(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gato.pipelines.sources.webdataset._MAX_MEMBER_BYTES", 100)
    members = [
        *sample("a", b"x" * 101),
        *sample("b", b"x", "y" * 101),
        *sample("c", b"x" * 100),
    ]
    assert verdicts(read(write_tar(tmp_path / "a.tar", members))) == [
        ("a.tar/a", Reason.IMAGE_TOO_LARGE),
        ("a.tar/b", Reason.TOO_LONG),
    ]


def test_every_truncation_is_told(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.tar"
    keys = [f"{n}" for n in range(4)]
    write_tar(path, [m for k in keys for m in sample(k, b"i" * 700, "caption " + k)])
    content = path.read_bytes()
    whole = read(path)
    # The end mark: two blocks of NULs, of which the first suffices.
    end = len(content.rstrip(b"\0"))
    end = -(-end // 512) * 512
    for length in range(0, end + 512, 128):
        path.write_bytes(content[:length])
        *good, last = read(path)
        assert good == whole[: len(good)]
        assert len(good) >= length // (512 * 5) - 1
        assert isinstance(last, Unreadable)
        assert last.reason == Reason.CORRUPT_FILE
        assert last.number == len(good)
    path.write_bytes(content[: end + 512])
    assert read(path) == whole


def test_a_damaged_header_is_told(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.tar"
    write_tar(path, [m for n in range(3) for m in sample(str(n))])
    content = bytearray(path.read_bytes())
    content[4 * 1024 + 20] ^= 0xFF  # the header of 2.jpg
    path.write_bytes(content)
    items = read(path)
    assert len(pairs(items[:2])) == 2
    assert verdicts(items) == [(None, Reason.CORRUPT_FILE)]


@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8))
def test_flipped_bytes_never_raise(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("flips") / "a.tar"
    write_tar(path, [*sample("a"), *sample("b")], tarfile.PAX_FORMAT)
    content = bytearray(path.read_bytes())
    for at, mask in flips:
        content[at] ^= mask
    path.write_bytes(content)
    items = read(path)
    assert [i.number for i in items] == list(range(len(items)))
    if not any(mask for _, mask in flips):
        assert len(pairs(items)) == 2


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_file_that_vanished_or_is_no_tar(tmp_path: pathlib.Path, name: str) -> None:
    assert verdicts(read(tmp_path / name)) == [(None, Reason.CORRUPT_FILE)]
    for content in (b"", b"no tar at all", bytes(100) + b"x" * 1000):
        (tmp_path / name).write_bytes(content)
        assert verdicts(read(tmp_path / name)) == [(None, Reason.CORRUPT_FILE)]


def test_an_empty_tar_has_no_documents(tmp_path: pathlib.Path) -> None:
    assert read(write_tar(tmp_path / "a.tar", [])) == []


@pytest.mark.parametrize("pieces", [2, 5, 1000])
def test_ranges_read_the_same(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    path = tmp_path / "a.tar"
    write_samples(path, 30)
    whole = read(path)
    size = path.stat().st_size
    monkeypatch.setattr(base, "MAX_PARTITION_BYTES", size // pieces)
    source = WebdatasetSource()
    parts = source.partition(str(path), "a.tar", dataset())
    assert len(parts) == min(pieces, 30)
    assert sum(part.num_bytes for part in parts) == size
    assert read(path) == whole
    # Keys that stand again are seen only by one who reads the whole.
    content = path.read_bytes().rstrip(b"\0")
    again = tmp_path / "b.tar"
    again.write_bytes(content + bytes(-len(content) % 512) + path.read_bytes())
    assert len(source.partition(str(again), "b.tar", dataset())) == 1
    assert len(verdicts(read(again))) == 30


def test_pairs_stream_in_flat_memory(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.tar.gz"
    members = [m for n in range(60) for m in sample(f"{n}", b"x" * 1_000_000)]
    write_tar(tmp_path / "a.tar", members)
    path.write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes(), 1))
    del members
    source, config = WebdatasetSource(), dataset()
    (partition,) = source.partition(str(path), "a", config)
    tracemalloc.start()
    try:
        count = sum(1 for _ in source.read(partition, config))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 60
    assert peak < 12 << 20


def test_paths_of_another_kind(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=r"ends in one of \.tar"):
        WebdatasetSource().files(str(tmp_path / "a.zip"))
    with pytest.raises(UsageError, match="this is a folder"):
        WebdatasetSource().files(str(tmp_path))


def test_reads_from_another_store(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.tar"
    write_samples(path, 12)
    store = fsspec.filesystem("memory")
    try:
        store.pipe("/pairs/a.tar", path.read_bytes())
        assert pairs(read("memory://pairs/a.tar")) == pairs(read(path))
    finally:
        store.rm("/pairs", recursive=True)


def test_the_registry_knows_the_formats() -> None:
    for format in ("coco", "minari", "text", "vqa", "webdataset"):
        source = source_for(format)
        assert pickle.loads(pickle.dumps(source)).order == source.order
    assert source_for("minari").items == "episodes"
    assert source_for("webdataset").items == "documents"
    with pytest.raises(UsageError, match=r"coco, .*minari, .*webdataset"):
        source_for("zarr")

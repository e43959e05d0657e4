"""Records to batches: equal to the plain decoder, and loud about damage."""

import dataclasses
import os
import pathlib

import numpy as np
import pytest
import toy_shards

from gato.model.data import make_assembler
from gato.model.rows import NO_ROW
from gato.model.shards import find_datasets
from gato.schemas.errors import GatoError
from gato.schemas.record import (
    Encoding,
    decode_example,
    decode_row,
    encode_example,
    encode_row,
)
from gato.schemas.tfrecord import frame, pack_index
from gato.tokenizers.patches import decode_stored, patches

FIELDS = ("tokens", "kind", "loss_mask", "segment", "local_position")


def assembler_of(folder):
    return make_assembler(find_datasets([f"{folder}/train-*.tfrecord"]), "train", 2)


def write(tmp_path, rows, **options):
    return toy_shards.write_dataset(
        str(tmp_path), "some", rows, num_shards=1, **options
    )


def rewrite(folder, records):
    """Replaces the only training shard, lengths kept in step with the manifest."""
    path = pathlib.Path(folder, "train-00000-of-00001.tfrecord")
    framed = [frame(record) for record in records]
    offsets = np.cumsum([0, *map(len, framed)])
    path.write_bytes(b"".join(framed))
    pathlib.Path(f"{path}.idx").write_bytes(pack_index(offsets[:-1], offsets[-1]))
    manifest = pathlib.Path(folder, "manifest.json")
    text = manifest.read_text()
    before = text.split('"bytes": ')[1].split(",")[0]
    manifest.write_text(text.replace(f'"bytes": {before}', f'"bytes": {offsets[-1]}'))
    return path


def assert_holds(batch, index, row):
    for name in FIELDS:
        found = getattr(batch, f"{name}_BL")[index]
        expected = getattr(row, name)
        np.testing.assert_array_equal(
            found, expected & 7 if name == "kind" else expected
        )


def test_batches_hold_what_the_plain_decoder_reads(build):
    datasets = find_datasets([build])
    assembler = make_assembler(datasets, "train", 2)
    ids = np.array([0, 24, 71, 30, NO_ROW, 25], np.int64)
    batch = assembler.assemble(ids, groups=2, places=np.arange(6, 12, dtype=np.int32))
    pools = [[], []]
    for index, number in enumerate(ids):
        if number == NO_ROW:
            assert not batch.tokens_BL[index].any()
            assert not batch.segment_BL[index].any()
            assert batch.dataset_B[index] == -1
            continue
        shards, records = assembler.store.locate(np.array([number]))
        shard = assembler.store.shards[shards[0]]
        (data,) = shard.read([int(records[0])])
        row = decode_row(data, sequence_length=toy_shards.LENGTH, dtype="uint16")
        assert_holds(batch, index, row)
        assert batch.dataset_B[index] == number // 24
        for image, info in zip(row.images, row.image_info, strict=True):
            pools[index // 3].append(patches(decode_stored(image, *info[1:].tolist())))
    assert batch.row_B.tolist() == [6, 7, 8, 9, 10, 11]
    for group, expected in enumerate(map(np.concatenate, pools)):
        np.testing.assert_array_equal(
            batch.patches_GPC[group, : len(expected)], expected
        )
        assert not batch.patches_GPC[group, len(expected) :].any()
    assert batch.patch_source_GP2[0, [0, 5, 6]].tolist() == [[7, 0], [7, 0], [7, 1]]
    assert batch.patch_grid_GP4[0, 4].tolist() == [1, 1, 2, 3]


def test_pools_have_at_most_three_sizes(build):
    assembler = make_assembler(find_datasets([build]), "train", 2)
    sizes = set()
    for pictures in range(5):
        ids = np.array([24] * pictures + [0] * (4 - pictures), np.int64)
        sizes.add(assembler.assemble(ids, groups=1).patches_GPC.shape[1])
    assert len(sizes) <= 3
    assert min(sizes) >= 1


def test_without_images_there_is_no_pool(tmp_path):
    folder = write(tmp_path, [toy_shards.text_row(np.random.default_rng(0))])
    batch = assembler_of(folder).assemble(np.zeros(2, np.int64), groups=2)
    assert batch.patches_GPC.shape == (2, 0, 768)


def test_png_and_raw_give_the_same_patches(tmp_path):
    made = {
        encoding: toy_shards.image_row(np.random.default_rng(1), encoding=encoding)
        for encoding in (Encoding.RAW, Encoding.PNG)
    }
    folder = write(tmp_path, list(made.values()))
    batch = assembler_of(folder).assemble(np.arange(2), groups=2)
    np.testing.assert_array_equal(batch.patches_GPC[0], batch.patches_GPC[1])
    assert batch.patches_GPC[0, :12].any(1).all()


def test_a_record_laid_out_otherwise_is_read_too(tmp_path):
    generator = np.random.default_rng(0)
    rows = [toy_shards.image_row(generator), toy_shards.control_row(generator)]
    folder = write(tmp_path, rows)
    records = []
    for row in rows:
        features = decode_example(encode_row(row))
        turned = {name: list(map(bytes, features[name])) for name in sorted(features)}
        records.append(encode_example(turned | {"a_later_feature": [b"1"]}))
    usual = assembler_of(folder).assemble(np.arange(2), groups=1)
    rewrite(folder, records)
    found = assembler_of(folder).assemble(np.arange(2), groups=1)
    for one, other in zip(usual, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_flipped_byte_anywhere_names_file_and_offset(tmp_path):
    generator = np.random.default_rng(0)
    folder = write(tmp_path, [toy_shards.control_row(generator) for _ in range(3)])
    path = pathlib.Path(folder, "train-00000-of-00001.tfrecord")
    whole = path.read_bytes()
    second = assembler_of(folder).store.shards[0].offsets[1]
    for at in (second, second + 9, second + 40, second + 300):
        damaged = bytearray(whole)
        damaged[at] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(GatoError, match=f"{path.name} at byte {second}: "):
            assembler_of(folder).assemble(np.arange(3), groups=1)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"tokens": np.full(64, 33_025, np.uint16)}, "ids below the vocabulary size"),
        ({"loss_mask": np.full(64, 2, np.uint8)}, "a loss mask of zeros and ones"),
        ({"local_position": np.full(64, 512, np.int16)}, "local positions"),
        ({"kind": np.full(64, 2, np.uint8)}, "one image slot for each"),
    ],
)
def test_values_a_device_would_take_in_silence_are_refused(tmp_path, change, rule):
    good = toy_shards.control_row(np.random.default_rng(0))
    folder = write(tmp_path, [good, good])
    path = rewrite(folder, map(encode_row, [good, dataclasses.replace(good, **change)]))
    offset = assembler_of(folder).store.shards[0].offsets[1]
    with pytest.raises(GatoError, match=f"{path.name} at byte {offset}: .*{rule}"):
        assembler_of(folder).assemble(np.array([0, 1, NO_ROW]), groups=1)


def test_another_version_or_length_is_refused(tmp_path):
    good = toy_shards.control_row(np.random.default_rng(0))
    folder = write(tmp_path, [good])
    features = {
        k: list(map(bytes, v)) for k, v in decode_example(encode_row(good)).items()
    }
    rewrite(folder, [encode_example(features | {"version": [b"\x02"]})])
    with pytest.raises(GatoError, match=r"records of version 1 .* got version \[2\]"):
        assembler_of(folder).assemble(np.zeros(1, np.int64), groups=1)
    rewrite(folder, [encode_example(features | {"kind": [b"\x01" * 63]})])
    with pytest.raises(GatoError, match="at byte 0: a record must hold the features"):
        assembler_of(folder).assemble(np.zeros(1, np.int64), groups=1)


def test_a_broken_image_names_its_record(tmp_path):
    row = toy_shards.image_row(np.random.default_rng(0), encoding=Encoding.PNG)
    folder = write(tmp_path, [row])
    broken = dataclasses.replace(row, images=(row.images[0], row.images[1][:40]))
    rewrite(folder, [encode_row(broken)])
    with pytest.raises(GatoError, match="at byte 0: image 1: a stored image must be"):
        assembler_of(folder).assemble(np.zeros(1, np.int64), groups=1)


def test_missing_and_foreign_files_are_named(tmp_path):
    generator = np.random.default_rng(0)
    folder = write(tmp_path, [toy_shards.control_row(generator) for _ in range(3)])
    path = pathlib.Path(folder, "train-00000-of-00001.tfrecord")
    assembler = assembler_of(folder)
    index = pathlib.Path(f"{path}.idx")
    index.write_bytes(index.read_bytes()[:-8])
    with pytest.raises(GatoError, match=r"3 rows in .* the index 2 in"):
        assembler.assemble(np.zeros(1, np.int64), groups=1)
    os.remove(index)
    with pytest.raises(GatoError, match=r"\.idx: each shard has its index beside it"):
        assembler.assemble(np.zeros(1, np.int64), groups=1)
    folder = write(tmp_path / "other", [toy_shards.control_row(generator)])
    assembler = assembler_of(folder)
    os.remove(os.path.join(folder, path.name))
    with pytest.raises(GatoError, match="the manifest lists this shard, and it is not"):
        assembler.assemble(np.zeros(1, np.int64), groups=1)

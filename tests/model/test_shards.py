"""Which shards a run reads, and what it says of those it does not."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
import toy_shards

from gato.model.shards import find_datasets, parse_weights
from gato.schemas.errors import GatoError, UsageError


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("control", "more"):
        rows = [toy_shards.control_row(generator) for _ in range(5)]
        toy_shards.write_dataset(str(tmp_path), name, rows[:4], rows[4:])
    return tmp_path


def edit_manifest(folder, **changes):
    path = pathlib.Path(folder, "manifest.json")
    content = json.loads(path.read_text())
    for key, value in changes.items():
        part, _, inner = key.partition("__")
        if inner:
            content[part][inner] = value
        else:
            content[part] = value
    path.write_text(json.dumps(content))


def test_finds_listed_training_shards_with_normalised_weights(folder):
    found = find_datasets([f"{folder}/*/train-*.tfrecord"], {"more": 3.0})
    assert [one.name for one in found] == ["control", "more"]
    assert [one.weight for one in found] == [0.25, 0.75]
    assert [len(one.train) for one in found] == [2, 2]
    assert [one.validation[0].rows for one in found] == [1, 1]


def test_validation_and_demonstrations_are_matched_but_not_trained_on(folder):
    (folder / "control" / "demonstrations.tfrecord").touch()
    found = find_datasets([f"{folder}/*/*.tfrecord"])
    names = [shard.name for one in found for shard in one.train]
    assert (
        names == ["train-00000-of-00002.tfrecord", "train-00001-of-00002.tfrecord"] * 2
    )


def test_a_glob_chooses_shards(folder):
    (found,) = find_datasets([f"{folder}/control/train-00001-*.tfrecord"])
    assert [shard.name for shard in found.train] == ["train-00001-of-00002.tfrecord"]


def test_what_a_shell_makes_of_a_glob_is_the_glob(folder):
    """It spells it out, with the offsets and the summary beside each shard."""
    names = [f"train-{shard:05d}-of-00002.tfrecord" for shard in range(2)]
    for name in names:
        (folder / "control" / f"{name}.json").touch()
    spelt = sorted(str(path) for path in folder.glob("control/train-*"))
    assert len(spelt) == 6
    (found,) = find_datasets(spelt)
    assert [shard.name for shard in found.train] == names
    # A shard's offsets alone are no shard.
    with pytest.raises(UsageError, match="no TFRecord shards match"):
        find_datasets([f"{folder}/control/{names[0]}.idx"])


@pytest.mark.parametrize("end", ["", "/"])
def test_a_folder_stands_for_its_training_shards(folder, end):
    (folder / "control" / "demonstrations.tfrecord").touch()
    assert len(find_datasets([f"{folder}{end}"])) == 2
    (found,) = find_datasets([f"{folder}/control{end}"])
    assert len(found.train) == 2


@pytest.mark.parametrize("pattern", ["", "/*/train-*.tfrecord"])
def test_an_unfinished_build_is_told(tmp_path, pattern):
    (tmp_path / "_fragments").mkdir()
    with pytest.raises(UsageError, match="is not finished: run the same gato-build"):
        find_datasets([f"{tmp_path}{pattern}"])


def test_a_data_set_of_weight_0_or_without_rows_is_left_out(folder):
    toy_shards.write_dataset(
        str(folder),
        "empty",
        [],
        [toy_shards.text_row(np.random.default_rng(0))],
        num_shards=1,
    )
    found = find_datasets([f"{folder}/*/train-*.tfrecord"], {"more": 0.0})
    assert [one.name for one in found] == ["control"]
    with pytest.raises(GatoError, match="no rows to train on: empty"):
        find_datasets([f"{folder}/empty/train-*.tfrecord"])


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("control/train_*.tfrecord", "Did the pattern use '_' for '-'?"),
        ("control/*.arrow", "holds 3 shards, first 'train-00000-of-00002.tfrecord'"),
        ("contol/train-*.tfrecord", "is a folder. Give a build's output folder"),
    ],
)
def test_a_glob_without_a_match_says_what_is_there(folder, pattern, said):
    with pytest.raises(UsageError, match="no TFRecord shards match") as caught:
        find_datasets([f"{folder}/{pattern}"])
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)


def test_an_unlisted_shard_is_refused_by_name(folder):
    source = folder / "control" / "train-00000-of-00002.tfrecord"
    shutil.copy(source, folder / "control" / "train-00007-of-00008.tfrecord")
    with pytest.raises(GatoError, match=r"train-00007-of-00008\.tfrecord: only shards"):
        find_datasets([f"{folder}/*/train-*.tfrecord"])


def test_shards_without_a_manifest_are_refused(folder):
    os.remove(folder / "more" / "manifest.json")
    with pytest.raises(GatoError, match=r"more/manifest\.json: a finished build"):
        find_datasets([f"{folder}/*/train-*.tfrecord"])


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"sequence_length": 128}, "sequence length"),
        ({"vocabulary__sentencepiece_sha256": "cd" * 32}, "tokenizer"),
        ({"vocabulary__eos": 3}, "vocabulary"),
        ({"token_dtype": "int32"}, "token dtype"),
        ({"schema_version": 2}, "schema version 1 can be read, got 2"),
        ({"dataset": "control"}, "names are unique"),
    ],
)
def test_disagreement_is_refused_and_named(folder, changes, what):
    edit_manifest(folder / "more", **changes)
    with pytest.raises(GatoError, match=what) as caught:
        find_datasets([f"{folder}/*/train-*.tfrecord"])
    assert str(folder / "more") in str(caught.value)


def test_weights_are_parsed_and_checked(folder):
    assert parse_weights("a=1,b=0.5") == {"a": 1.0, "b": 0.5}
    assert parse_weights(None) == {}
    for wrong in ("a", "a=x", "a=-1", "a=nan", "a=inf"):
        with pytest.raises(UsageError, match="each part is"):
            parse_weights(wrong)
    with pytest.raises(UsageError, match="did you mean 'control'"):
        find_datasets([f"{folder}/*/train-*.tfrecord"], {"contrl": 1.0})

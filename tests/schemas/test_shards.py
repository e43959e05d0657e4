"""Names of shards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gato.schemas.shards import SPLITS, ShardName


def test_names_by_the_contract() -> None:
    name = ShardName(split="train", index=0, count=8)
    assert str(name) == "train-00000-of-00008.tfrecord"
    assert name.index_name == "train-00000-of-00008.tfrecord.idx"
    assert name.summary_name == "train-00000-of-00008.tfrecord.json"
    assert SPLITS == ("train", "validation")


@given(st.sampled_from(SPLITS), st.integers(0, 99_999), st.integers(1, 99_999))
def test_names_parse_back(split: str, index: int, count: int) -> None:
    name = ShardName(split=split, index=index, count=count)
    assert ShardName.parse(str(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "train-00000-of-00008.tfrecord.idx",
        "train-00000-of-00008.tfrecord.tmp-1",
        "train-0-of-8.tfrecord",
        "train_00000-of-00008.tfrecord",
        "demonstrations.tfrecord",
        "",
    ],
)
def test_other_files_are_no_shards(name: str) -> None:
    assert ShardName.parse(name) is None

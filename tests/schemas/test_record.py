"""Records: the contract's features, our Example against TensorFlow's, and bad bytes."""

import contextlib
import dataclasses
import json
import pathlib
import runpy

import handmade
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gato.schemas import tfrecord
from gato.schemas.errors import GatoError
from gato.schemas.record import (
    Encoding,
    Kind,
    Row,
    decode_example,
    decode_row,
    encode_example,
    encode_row,
    token_dtype,
)

GOLDEN = pathlib.Path(__file__).parents[1] / "testdata/golden"


def assert_same_row(row: Row, other: Row) -> None:
    for field in dataclasses.fields(Row):
        one, two = getattr(row, field.name), getattr(other, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == two.dtype, field.name
            np.testing.assert_array_equal(one, two, field.name)
        else:
            assert one == two, field.name


def golden_features() -> list[dict[str, list[bytes]]]:
    return runpy.run_path(str(GOLDEN / "make.py"))["features"]()


def test_examples_written_by_tensorflow_parse_equal() -> None:
    data = (GOLDEN / "rows.tfrecord").read_bytes()
    records = [record for _, record in tfrecord.iterate_records(data, "golden")]
    expected = golden_features()
    assert len(records) == len(expected) == 2
    for record, features in zip(records, expected, strict=True):
        found = decode_example(record)
        # An int64, a float and an empty feature stand there too, and are ignored.
        assert set(found) <= set(features)
        for name, values in features.items():
            assert [bytes(value) for value in found.get(name, [])] == values


def test_rows_written_by_tensorflow_decode_as_the_contract_says() -> None:
    data = (GOLDEN / "rows.tfrecord").read_bytes()
    (_, record), (_, bare) = tfrecord.iterate_records(data, "golden")
    row = decode_row(record, sequence_length=24, dtype="uint16")
    np.testing.assert_array_equal(row.tokens, [1337 * n % 33_025 for n in range(24)])
    np.testing.assert_array_equal(row.kind, [n % 8 for n in range(24)])
    np.testing.assert_array_equal(row.loss_mask, [0, 1] * 12)
    np.testing.assert_array_equal(row.segment, [1] * 12 + [2] * 12)
    np.testing.assert_array_equal(row.local_position, [*range(20), -1, -1, -1, -1])
    assert row.images == (b"\x89PNG one", b"two" * 100)
    np.testing.assert_array_equal(row.image_info, [[2, 16, 16, 1], [9, 16, 32, 2]])
    assert row.provenance == [{"dataset": "é", "start": 0, "length": 24}]
    none = decode_row(bare, sequence_length=24, dtype="uint16")
    assert none.images == ()
    assert none.image_info.shape == (0, 4)


def test_an_example_by_hand() -> None:
    # Example{features{feature{key: "k", value{bytes_list{value: "ab"}}}}}
    assert encode_example({"k": [b"ab"]}).hex(" ") == (
        "0a 0d 0a 0b 0a 01 6b 12 06 0a 04 0a 02 61 62"
    )


def test_features_of_a_row_by_the_contract() -> None:
    row = handmade.row("toy", handmade.window(0, 0, 1), length=20)
    features = decode_example(encode_row(row))
    assert set(features) == {
        "version",
        "tokens",
        "kind",
        "loss_mask",
        "segment",
        "local_position",
        "images",
        "image_info",
        "provenance",
    }
    sizes = {name: len(values[0]) for name, values in features.items()}
    assert bytes(features["version"][0]) == b"\x01"
    assert sizes["tokens"] == 40
    assert sizes["kind"] == sizes["loss_mask"] == sizes["segment"] == 20
    assert sizes["local_position"] == 40
    assert sizes["image_info"] == 16
    assert bytes(features["tokens"][0][24:26]) == (33_024).to_bytes(2, "little")
    assert bytes(features["local_position"][0][-2:]) == b"\xff\xff"
    text = bytes(features["provenance"][0]).decode()
    assert json.loads(text)[0]["episode"] == "toy/reach/expert-v0/0"
    wide = dataclasses.replace(row, tokens=row.tokens.astype("int32"))
    assert len(decode_example(encode_row(wide))["tokens"][0]) == 80


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
def test_rows_round_trip(dtype: str) -> None:
    for source in (
        handmade.row("toy", handmade.window(0, 4, 2, ("tail", 1, 4, 2))),
        handmade.row("pairs", handmade.pairs(0, 1), handmade.pairs(2)),
        handmade.row("words", handmade.text("é/0#1", 128)),
    ):
        row = dataclasses.replace(source, tokens=source.tokens.astype(dtype))
        back = decode_row(encode_row(row), sequence_length=handmade.L, dtype=dtype)
        assert_same_row(row, back)


def test_encoding_is_stable_and_little_endian_whatever_the_array() -> None:
    row = handmade.row("toy", handmade.window(0, 0, 1))
    swapped = dataclasses.replace(
        row,
        tokens=row.tokens.astype(">u2"),
        local_position=row.local_position.astype(">i2"),
        image_info=row.image_info.astype(">i4"),
    )
    assert encode_row(swapped) == encode_row(row)


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8), st.lists(st.binary(max_size=300), max_size=4)
    )
)
def test_any_features_round_trip(features: dict[str, list[bytes]]) -> None:
    found = decode_example(encode_example(features))
    assert {name: [bytes(v) for v in values] for name, values in found.items()} == (
        features
    )


ROW = encode_row(handmade.row("toy", handmade.window(0, 0, 2)))


@settings(max_examples=300)
@given(st.integers(0, len(ROW) - 1), st.binary(min_size=1, max_size=4), st.booleans())
def test_damaged_bytes_are_a_message_or_a_row(at: int, new: bytes, cut: bool) -> None:
    data = ROW[:at] + new + (b"" if cut else ROW[at + len(new) :])
    message = "p: "
    with contextlib.suppress(GatoError):
        try:
            row = decode_row(
                data, sequence_length=handmade.L, dtype="uint16", place="p"
            )
            assert len(row.tokens) == len(row.kind) == handmade.L
        except GatoError as error:
            message = str(error)
            raise
    assert message.startswith("p: ")


def with_feature(name: str, values: list[bytes] | None) -> bytes:
    features = {key: [bytes(v) for v in vs] for key, vs in decode_example(ROW).items()}
    del features[name]
    return encode_example(features if values is None else {**features, name: values})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "must hold the features"),
        (b"garbage", "must hold the features"),
        (with_feature("tokens", None), "KeyError.'tokens'"),
        (with_feature("kind", [b"123"]), "must hold the features .* 128 slots"),
        (with_feature("image_info", [b"123"]), "must hold the features"),
        (with_feature("provenance", [b"{"]), "must hold the features"),
        (with_feature("provenance", [b'"\xff"']), "must hold the features"),
        (with_feature("segment", []), "must hold the features"),
        (with_feature("version", [b"\x02"]), r"version 1 can be read, got version \[2"),
        (with_feature("version", [b""]), r"version 1 can be read, got version \[\]"),
    ],
)
def test_what_a_record_must_hold(data: bytes, expected: str) -> None:
    with pytest.raises(GatoError, match=expected):
        decode_row(data, sequence_length=handmade.L, dtype="uint16", place="a record 3")


def test_unknown_features_are_ignored() -> None:
    features = {key: [bytes(v) for v in vs] for key, vs in decode_example(ROW).items()}
    more = encode_example({"later": [b"x"], **features, "also": [b"y", b"z"]})
    row = decode_row(more, sequence_length=handmade.L, dtype="uint16")
    assert encode_row(row) == ROW


def test_the_wrong_length_or_dtype_is_refused() -> None:
    with pytest.raises(GatoError, match="for 64 slots"):
        decode_row(ROW, sequence_length=64, dtype="uint16")
    with pytest.raises(GatoError, match="must hold the features"):
        decode_row(ROW, sequence_length=handmade.L, dtype="int32")


def test_nan_has_no_place_in_provenance() -> None:
    row = handmade.row("toy", handmade.window(0, 0, 1))
    row.provenance[0]["return"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        encode_row(row)


def test_numbers_of_the_contract() -> None:
    assert [kind.name for kind in Kind] == [
        "PADDING",
        "TEXT",
        "IMAGE",
        "DISCRETE_OBSERVATION",
        "CONTINUOUS_OBSERVATION",
        "SEPARATOR",
        "DISCRETE_ACTION",
        "CONTINUOUS_ACTION",
    ]
    assert [kind.value for kind in Kind] == list(range(8))
    assert (Encoding.RAW, Encoding.PNG, Encoding.JPEG) == (0, 1, 2)
    assert token_dtype(33_025) == "uint16"
    assert token_dtype(65_536) == "uint16"
    assert token_dtype(65_537) == "int32"

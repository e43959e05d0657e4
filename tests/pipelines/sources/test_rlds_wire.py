"""The walk of the wire format against the protobuf library, without TensorFlow."""

import hypothesis
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import strategies as st

from gato.pipelines.sources.rlds_wire import (
    Example,
    Feature,
    WireError,
    decode_varints,
)

LISTS = {"bytes": 1, "float": 2, "int64": 3}


def example_class(packed: bool) -> type:
    """Returns tf.train.Example of tensorflow/core/example/{example,feature}.proto."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name=f"example_{packed}.proto", package=f"t{packed}", syntax="proto3"
    )

    def message(name: str, *fields: tuple[str, int, int, str]) -> None:
        added = file.message_type.add(name=name)
        for field_name, number, kind, type_name in fields:
            repeated = name.endswith("List") or type_name.endswith("Entry")
            one = added.field.add(
                name=field_name,
                number=number,
                type=kind,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
            )
            if type_name:
                one.type_name = f".t{packed}.{type_name}"
            elif repeated and kind != field.TYPE_BYTES:
                one.options.packed = packed

    message("BytesList", ("value", 1, field.TYPE_BYTES, ""))
    message("FloatList", ("value", 1, field.TYPE_FLOAT, ""))
    message("Int64List", ("value", 1, field.TYPE_INT64, ""))
    names = ("BytesList", "FloatList", "Int64List")
    kinds = ("bytes", "float", "int64")
    message(
        "Feature",
        *(
            (f"{kind}_list", number, field.TYPE_MESSAGE, name)
            for number, (kind, name) in enumerate(zip(kinds, names, strict=True), 1)
        ),
    )
    feature = file.message_type[-1]
    feature.oneof_decl.add(name="kind")
    for one in feature.field:
        one.oneof_index = 0
    message("Features", ("feature", 1, field.TYPE_MESSAGE, "Features.Entry"))
    entry = file.message_type[-1].nested_type.add(name="Entry")
    entry.field.add(
        name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL
    )
    entry.field.add(
        name="value",
        number=2,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_OPTIONAL,
        type_name=f".t{packed}.Feature",
    )
    message("Example", ("features", 1, field.TYPE_MESSAGE, "Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName(f"t{packed}.Example")
    return message_factory.GetMessageClass(found)


EXAMPLES = {packed: example_class(packed) for packed in (True, False)}
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
VALUES = st.one_of(
    st.tuples(st.just("int64"), st.lists(INT64 | st.integers(-2, 300), max_size=20)),
    st.tuples(
        st.just("float"), st.lists(st.floats(width=32, allow_nan=False), max_size=20)
    ),
    st.tuples(st.just("bytes"), st.lists(st.binary(max_size=300), max_size=9)),
    st.just((None, [])),
)
# Names may stand twice: the last counts.
ENTRIES = st.lists(st.tuples(st.text(max_size=9), VALUES), max_size=6)


def values_of(feature: Feature) -> list:
    match feature.kind:
        case "int64":
            return feature.integers().tolist()
        case "float":
            return feature.floats().tolist()
        case "bytes":
            return feature.strings()
        case _:
            return []


@hypothesis.given(entries=ENTRIES, packed=st.booleans(), as_view=st.booleans())
def test_the_walk_finds_what_protobuf_parses(
    entries: list, packed: bool, as_view: bool
) -> None:
    example = EXAMPLES[packed]()
    for name, (kind, values) in entries:
        one = example.features.feature.add(key=name)
        one.value.SetInParent()
        if kind is not None:
            getattr(one.value, f"{kind}_list").SetInParent()
            getattr(one.value, f"{kind}_list").value.extend(values)
    data = example.SerializeToString()
    parsed = EXAMPLES[packed].FromString(data)
    expected = {}
    for entry in parsed.features.feature:
        kind = entry.value.WhichOneof("kind")
        values = list(getattr(entry.value, kind).value) if kind else []
        expected[entry.key] = (kind and kind.removesuffix("_list"), values)
    found = Example(memoryview(data) if as_view else data)
    assert {
        name: (feature.kind, values_of(feature)) for name, feature in found.items()
    } == expected


@hypothesis.given(
    first=st.tuples(
        st.sampled_from(["int64", "float"]), st.lists(st.integers(0, 9), max_size=8)
    ),
    second=st.tuples(
        st.sampled_from(["int64", "float"]), st.lists(st.integers(0, 9), max_size=8)
    ),
)
def test_a_feature_in_two_parts_is_merged(first: tuple, second: tuple) -> None:
    parts = []
    for kind, values in (first, second):
        example = EXAMPLES[True]()
        one = example.features.feature.add(key="")
        getattr(one.value, f"{kind}_list").SetInParent()
        getattr(one.value, f"{kind}_list").value.extend(values)
        parts.append(one.value.SerializeToString())
    joined = b"".join(parts)
    entry = b"\x12" + bytes([len(joined)]) + joined
    features = b"\x0a" + bytes([len(entry)]) + entry
    data = b"\x0a" + bytes([len(features)]) + features
    expected = EXAMPLES[True].FromString(data).features.feature[0].value
    kind = expected.WhichOneof("kind")
    (found,) = Example(data).values()
    assert f"{found.kind}_list" == kind
    assert values_of(found) == list(getattr(expected, kind).value)


@hypothesis.given(data=st.binary(max_size=200))
def test_other_bytes_are_refused_or_parsed(data: bytes) -> None:
    try:
        for feature in Example(data).values():
            values_of(feature)
    except WireError:
        pass


@hypothesis.given(size=st.integers(0, 300), count=st.integers(0, 6), odd=st.booleans())
def test_blocks_are_strings_of_one_size(size: int, count: int, odd: bool) -> None:
    values = [bytes([n]) * size for n in range(count)]
    if odd and count:
        values[-1] += b"x"
    example = EXAMPLES[True]()
    one = example.features.feature.add(key="a")
    one.value.bytes_list.value.extend(values)
    (feature,) = Example(example.SerializeToString()).values()
    found = feature.blocks(size)
    if odd and count:
        assert found is None
    elif count:
        assert found is not None
        assert [row.tobytes() for row in found] == values


def test_floats_are_views_of_the_record() -> None:
    example = EXAMPLES[True]()
    one = example.features.feature.add(key="a")
    one.value.float_list.value.extend([1.5, -2.0])
    data = example.SerializeToString()
    values = Example(data)["a"].floats()
    assert np.shares_memory(values, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize("raw", [[0x80], [1, 0x80], [0xFF] * 10 + [1]])
def test_varints_without_end(raw: list[int]) -> None:
    with pytest.raises(WireError, match="varint"):
        decode_varints(np.array(raw, np.uint8))

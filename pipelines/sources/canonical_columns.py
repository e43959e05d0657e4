"""The columns of format `parquet`, our own for raw episodes, and their values.

One row is one timestep; docs/add_a_source.md has the schema. Arrays may be tensors of
a fixed shape (Arrow's extension type, which `canonical_writer` writes), lists of a
fixed size, or lists of one length; they may nest.
"""

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gato.pipelines.sources import document_columns as documents
from gato.pipelines.sources.parquet_rows import as_bytes, check_version
from gato.schemas.episode import Column, Space
from gato.schemas.errors import QuarantineError, Reason

VERSION_KEY = b"gato_episodes"
VERSION = b"1"
OBSERVATION, ACTION, INFO = "observation/", "action/", "info/"
EPISODE_ID, STEP, REWARD = "episode_id", "step", "reward"
NEEDED = (EPISODE_ID, STEP, REWARD)
TERMINATED, TRUNCATED, SUCCESS = "terminated", "truncated", "success"
OPTIONAL = ("task", "agent", TERMINATED, TRUNCATED, SUCCESS)


def check_schema(schema: pa.Schema) -> None:
    """Checks that a file has the columns of an episode and none of another name.

    Raises:
        QuarantineError: MISSING_FIELD or UNSUPPORTED.
    """
    check_version(schema, VERSION_KEY, VERSION)
    if documents.kind_of(schema) is not None:
        raise QuarantineError(
            Reason.UNSUPPORTED,
            f"a data set holds episodes or documents, all of them; this file holds"
            f" documents ({', '.join(schema.names[:12])}), and the first that can be"
            " read does not. Give documents a data set of their own.",
        )
    names = schema.names
    lacking = [name for name in NEEDED if name not in names]
    lacking += [
        f"{prefix}<key>"
        for prefix in (OBSERVATION, ACTION)
        if not any(name.startswith(prefix) for name in names)
    ]
    if lacking:
        raise QuarantineError(
            Reason.MISSING_FIELD,
            f"a timestep has a column {lacking[0]!r}, got {', '.join(names[:12])};"
            f" {documents.RULE}",
        )
    for name in names:
        if name not in (*NEEDED, *OPTIONAL) and not name.startswith(
            (OBSERVATION, ACTION, INFO)
        ):
            raise QuarantineError(
                Reason.UNSUPPORTED,
                f"columns are {', '.join((*NEEDED, *OPTIONAL))}, {OBSERVATION}<key>,"
                f" {ACTION}<key> and {INFO}<key>, got {name!r}. What a build does not"
                f" read is named {INFO}<key>.",
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise QuarantineError(
            Reason.UNSUPPORTED, f"columns have names of their own, got {twice!r} twice"
        )


def action_space(field: pa.Field) -> Space:
    """Returns what a column's metadata says of an action's values.

    Raises:
        QuarantineError: WRONG_DTYPE if it is not JSON numbers.
    """
    metadata = field.metadata or {}
    try:
        found = {key: json.loads(metadata[key]) for key in _SPACE if key in metadata}
        num_values = found.get(b"num_values")
        return Space(
            num_values=None if num_values is None else int(num_values),
            low=_bounds(found.get(b"low")),
            high=_bounds(found.get(b"high")),
        )
    except (TypeError, ValueError) as error:
        raise QuarantineError(
            Reason.WRONG_DTYPE,
            f"the column {field.name!r} has num_values, low and high in its metadata as"
            f" JSON numbers: {error}",
        ) from error


_SPACE = (b"num_values", b"low", b"high")


def _bounds(value: Any) -> NDArray[np.float64] | None:
    return None if value is None else np.asarray(value, np.float64)


def row_bytes(type_: pa.DataType) -> int:
    """Returns the bytes of a value whose type says how many; 0 of others."""
    if isinstance(type_, pa.BaseExtensionType):
        return row_bytes(type_.storage_type)
    if pa.types.is_fixed_size_list(type_):
        return type_.list_size * max(1, row_bytes(type_.value_type))
    return max(1, type_.bit_width // 8) if pa.types.is_primitive(type_) else 0


def column(name: str, chunked: pa.ChunkedArray) -> Column:
    """Returns numbers [T, ...], or T texts or encoded images as bytes.

    Raises:
        QuarantineError: MISSING_FIELD, WRONG_SHAPE or WRONG_DTYPE.
    """
    array = _whole(chunked)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    _check_no_nulls(name, array)
    array = as_bytes(array)
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        return array.to_pylist()
    return _numbers(name, array)


def _whole(chunked: pa.ChunkedArray) -> pa.Array:
    if chunked.num_chunks == 1:
        return chunked.chunk(0)
    return pa.concat_arrays(chunked.chunks)


def _check_no_nulls(name: str, array: pa.Array) -> None:
    if array.null_count:
        raise QuarantineError(
            Reason.MISSING_FIELD,
            f"the column {name!r} has a value for each step, got {array.null_count}"
            f" nulls among {len(array)} values",
        )


def _numbers(name: str, array: pa.Array) -> NDArray[Any]:
    shape = [len(array)]
    while True:
        _check_no_nulls(name, array)
        type_ = array.type
        if isinstance(type_, pa.FixedShapeTensorType):
            if type_.permutation not in (None, sorted(type_.permutation or ())):
                raise QuarantineError(
                    Reason.UNSUPPORTED,
                    f"the column {name!r} holds tensors in C order, got the"
                    f" permutation {type_.permutation}",
                )
            shape += type_.shape
            array = array.storage.flatten()
        elif isinstance(type_, pa.BaseExtensionType):
            array = array.storage
        elif pa.types.is_fixed_size_list(type_):
            shape.append(type_.list_size)
            array = array.flatten()
        elif pa.types.is_list(type_) or pa.types.is_large_list(type_):
            shape.append(_one_length(name, array))
            array = array.flatten()
        else:
            break
    is_number = pa.types.is_integer(type_) or pa.types.is_floating(type_)
    if not is_number and not pa.types.is_boolean(type_):
        raise QuarantineError(
            Reason.WRONG_DTYPE,
            f"the column {name!r} holds numbers, texts, encoded images, or arrays of"
            f" numbers, got {type_}",
        )
    return array.to_numpy(zero_copy_only=False).reshape(shape)


def _one_length(name: str, array: pa.Array) -> int:
    lengths = array.value_lengths().to_numpy(zero_copy_only=False)
    if len(lengths) == 0:
        return 0
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest < longest:
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"the column {name!r} holds arrays of one shape, got lengths {shortest} and"
            f" {longest}",
        )
    return shortest


def tensor_type(value_type: pa.DataType, shape: tuple[int, ...]) -> pa.DataType:
    """Returns the type of a column of arrays of a shape; of numbers, if it is ()."""
    return pa.fixed_shape_tensor(value_type, shape) if shape else value_type


def to_arrow(values: NDArray[Any] | list[str] | list[bytes]) -> pa.Array:
    """Returns a column of T values as it is written."""
    if isinstance(values, list):
        return pa.array(values, pa.string() if isinstance(values[0], str) else None)
    shape = values.shape[1:]
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    if not shape:
        return flat
    storage = pa.FixedSizeListArray.from_arrays(flat, math.prod(shape))
    return pa.ExtensionArray.from_storage(tensor_type(flat.type, shape), storage)

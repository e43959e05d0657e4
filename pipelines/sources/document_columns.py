"""The columns of format `parquet_documents`, our own for raw documents.

One row is one document, and the documents of a file are of one kind, which its columns
say; docs/add_a_source.md has them.
"""

import pyarrow as pa

from gato.pipelines.sources.parquet_rows import check_version
from gato.schemas.errors import QuarantineError, Reason

VERSION_KEY = b"gato_documents"
VERSION = b"1"
TEXT, IMAGE, CAPTION = "text", "image", "caption"
QUESTION, ANSWER, PARTS = "question", "answer", "parts"
INFO = "info/"

# Of each kind of document, what a row has.
KINDS = ((TEXT,), (IMAGE, CAPTION), (IMAGE, QUESTION, ANSWER), (PARTS,))
RULE = (
    "a file of documents has the columns text; image and caption; image, question and"
    f" answer; or parts; and others are named {INFO}<key>"
)

PART_TYPE = pa.struct([(TEXT, pa.string()), (IMAGE, pa.binary())])
TYPES: dict[str, pa.DataType] = {
    TEXT: pa.string(),
    IMAGE: pa.binary(),
    CAPTION: pa.string(),
    QUESTION: pa.string(),
    ANSWER: pa.string(),
    PARTS: pa.list_(PART_TYPE),
}


def kind_of(schema: pa.Schema) -> tuple[str, ...] | None:
    """Returns the columns of a file's documents; None if it does not hold documents."""
    names = sorted(name for name in schema.names if not name.startswith(INFO))
    return next((kind for kind in KINDS if sorted(kind) == names), None)


def check_schema(schema: pa.Schema) -> tuple[str, ...]:
    """Returns the columns of a file's documents.

    Raises:
        QuarantineError: MISSING_FIELD, WRONG_DTYPE, or UNSUPPORTED if it is of another
            version.
    """
    check_version(schema, VERSION_KEY, VERSION)
    kind = kind_of(schema)
    if kind is None:
        raise QuarantineError(
            Reason.MISSING_FIELD,
            f"{RULE}; got {', '.join(schema.names[:12])}. What is no file of such"
            " documents stands in a data set of its own.",
        )
    for name in kind:
        type_ = schema.field(name).type
        if not (_is_parts(type_) if name == PARTS else _is_text(type_)):
            raise QuarantineError(
                Reason.WRONG_DTYPE,
                f"the column {name!r} is of type {TYPES[name]}, got {type_}",
            )
    return kind


def _is_text(type_: pa.DataType) -> bool:
    """Whether values of a type are texts or bytes."""
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    return any(
        is_one(type_)
        for is_one in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_binary,
            pa.types.is_large_binary,
        )
    )


def _is_parts(type_: pa.DataType) -> bool:
    if not (pa.types.is_list(type_) or pa.types.is_large_list(type_)):
        return False
    part = type_.value_type
    if not pa.types.is_struct(part) or part.num_fields != len(PART_TYPE):
        return False
    places = [part.get_field_index(name) for name in (TEXT, IMAGE)]
    return -1 not in places and all(_is_text(part[place].type) for place in places)

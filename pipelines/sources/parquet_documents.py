"""Format `parquet_documents`: our own, for raw documents that no other reader reads.

A file is a table with one row a document: a text, a captioned image, a question on an
image, or an interleaved page (docs/add_a_source.md has the columns, `DocumentWriter`
writes such files). `format: parquet` reads them too. Images are bytes in the file. Ids
end in the row's number. `pages.py` and `questions.py` say what a page and a question
become.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pyarrow as pa

from gato.pipelines.sources import base
from gato.pipelines.sources import document_columns as columns
from gato.pipelines.sources.pages import BETWEEN_TEXTS, page_parts
from gato.pipelines.sources.parquet_rows import (
    as_bytes,
    items_of_rows,
    open_parquet,
    parquet_file,
    partition_parquet,
    text_of,
)
from gato.pipelines.sources.questions import question_parts
from gato.schemas.config import Dataset
from gato.schemas.episode import Document, ImagePart, TextPart, Unreadable
from gato.schemas.errors import QuarantineError, Reason

_Part = TextPart | ImagePart


class ParquetDocumentsSource:
    """Documents of Parquet rows; partitions are ranges of row groups."""

    items: Literal["episodes", "documents"] = "documents"
    order: Literal["number", "file"] = "file"

    def files(self, path: str) -> list[str]:
        """Returns the file.

        Raises:
            UsageError: If it is a folder or has another suffix.
        """
        return parquet_file(path, "parquet_documents", "raw/pages/*.parquet")

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Splits the file into ranges of row groups."""
        try:
            return partition_parquet(path, relative_path)
        except Exception:  # whatever pyarrow raises of a damaged file; read() tells
            return [base.Partition(path=path, relative_path=relative_path)]

    def read(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Document | Unreadable]:
        """Yields each row's document, or the verdict on it."""
        try:
            with open_parquet(partition.path) as file:
                kind = columns.check_schema(file.schema_arrow)
        except Exception as error:  # whatever pyarrow raises of a damaged file
            if not isinstance(error, QuarantineError):
                error = QuarantineError(
                    Reason.CORRUPT_FILE, f"the file cannot be read: {error!r}"
                )
            yield base.unreadable(partition, None, partition.first_number, error)
            return
        has_parts = kind == (columns.PARTS,)

        def unpack(batch: pa.RecordBatch) -> Sequence[tuple[Any, ...]]:
            if has_parts:
                return [(row,) for row in _rows_of_parts(batch.column(columns.PARTS))]
            values = (as_bytes(batch.column(name)).to_pylist() for name in kind)
            return list(zip(*values, strict=True))

        def item(number: int, row: tuple[Any, ...], item_id: str) -> Document:
            place = f"row {number}"
            return Document(
                document_id=item_id,
                source=partition.path,
                number=number,
                parts=_page(row[0], place) if has_parts else _parts(kind, row, place),
                is_page=has_parts,
            )

        yield from items_of_rows(partition, kind, unpack, item)


SOURCE: base.Source = ParquetDocumentsSource()


def _rows_of_parts(column: pa.Array) -> list[list[tuple[Any, Any]] | None]:
    """Returns the (text, image) of each row's parts, as bytes; None of a null row."""
    parts = column.flatten()
    fields = dict(zip(parts.type.names, parts.flatten(), strict=True))
    pairs = zip(
        *(as_bytes(fields[name]).to_pylist() for name in (columns.TEXT, columns.IMAGE)),
        strict=True,
    )
    return [
        None if length is None else [next(pairs) for _ in range(length)]
        for length in column.value_lengths().to_pylist()
    ]


def _parts(
    kind: tuple[str, ...], row: tuple[Any, ...], place: str
) -> tuple[_Part, ...]:
    """Returns the parts of a text, a captioned image or a question."""
    values = dict(zip(kind, row, strict=True))
    image: tuple[_Part, ...] = ()
    if columns.IMAGE in kind:
        image = (_image(values.pop(columns.IMAGE), f"the image of {place}"),)
    texts = {name: _text(v, f"the {name} of {place}") for name, v in values.items()}
    if columns.QUESTION in kind:
        asked = question_parts(texts[columns.QUESTION], texts[columns.ANSWER])
        return (*image, *asked)
    return (*image, *(TextPart(text=text) for text in texts.values()))


def _page(parts: list[tuple[Any, Any]] | None, place: str) -> tuple[_Part, ...]:
    if parts is None:
        raise QuarantineError(Reason.MISSING_FIELD, f"{place} must not be null")
    found: list[str | ImagePart] = []
    for index, (text, image) in enumerate(parts):
        at = f"parts[{index}] of {place}"
        if (text is None) == (image is None):
            raise QuarantineError(
                Reason.CORRUPT_RECORD, f"{at}: just one of text and image must be null"
            )
        found.append(_image(image, at) if text is None else text_of(text, at))
    if not any(found):
        raise QuarantineError(Reason.EMPTY, f"{place} must have text or images")
    return page_parts(found, BETWEEN_TEXTS)


def _text(value: Any, place: str) -> str:
    text = text_of(value, place)
    if not text:
        raise QuarantineError(Reason.EMPTY, f"{place} must not be empty")
    return text


def _image(value: Any, place: str) -> ImagePart:
    if not value:
        raise QuarantineError(
            Reason.MISSING_IMAGE,
            f"{place} must be an encoded image, it is"
            f" {'null' if value is None else 'empty'}",
        )
    return ImagePart(data=value)

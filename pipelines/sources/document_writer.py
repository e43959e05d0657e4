"""Writes documents of format `parquet`: the last line of an exporter of odd data.

    with DocumentWriter("raw/photos/0.parquet") as writer:
        for photo in my_photos:
            writer.add(image=photo.read_bytes(), caption=photo.title)

A build reads it with format parquet (docs/add_a_source.md). Needs pyarrow.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from gato.pipelines.sources import document_columns as documents
from gato.pipelines.sources.parquet_writer import ROW_GROUP_BYTES, ParquetWriter


class DocumentWriter(ParquetWriter):
    """Writes one file of documents, which appears under its name when the block ends.

    All are of one kind: texts, captioned images, questions on images, or pages.
    """

    _item = "document"

    def __init__(self, path: str, *, row_group_bytes: int = ROW_GROUP_BYTES) -> None:
        """Begins; nothing is written before the first document.

        Args:
            path: Ends in `.parquet`; local or a URL.
            row_group_bytes: Of the texts and images in memory.

        Raises:
            ValueError: If the path has another suffix.
        """
        super().__init__(path, row_group_bytes)
        self._kind: tuple[str, ...] = ()
        self._rows: list[dict[str, Any]] = []

    def add(
        self,
        *,
        text: str | None = None,
        image: bytes | None = None,
        caption: str | None = None,
        question: str | None = None,
        answer: str | None = None,
        parts: Sequence[str | bytes] | None = None,
    ) -> None:
        """Adds a document: what it has is of one kind, that of those before it.

        Args:
            text: Of a document that is a text, alone.
            image: An encoded PNG, JPEG or WebP, with `caption` or with the next two.
            caption: Of the image.
            question: On the image, as people ask it.
            answer: To the question.
            parts: Of an interleaved page, alone: texts and encoded images in order.

        Raises:
            ValueError: If it is of no kind or another one, or has nothing in a part.
        """
        given = {
            documents.TEXT: text,
            documents.IMAGE: image,
            documents.CAPTION: caption,
            documents.QUESTION: question,
            documents.ANSWER: answer,
            documents.PARTS: parts,
        }
        row = {name: value for name, value in given.items() if value is not None}
        kind = tuple(row)
        if kind not in documents.KINDS:
            kinds = "; ".join(" and ".join(names) for names in documents.KINDS)
            raise ValueError(
                f"a document has {kinds}; got {', '.join(kind) or 'nothing'}"
            )
        if self._writer is not None and kind != self._kind:
            raise ValueError(
                f"{self._path}: the documents of a file are of one kind, which was"
                f" {' and '.join(self._kind)}, got {' and '.join(kind)}. Write another"
                " file for what is different."
            )
        if parts is not None:
            row[documents.PARTS] = _page(parts)
        else:
            for name, value in row.items():
                _check_part(name, value, bytes if name == documents.IMAGE else str)
        if self._writer is None:
            self._begin_with(kind)
        self._rows.append(row)
        self._hold(sum(map(len, parts or row.values())))

    def _begin_with(self, kind: tuple[str, ...]) -> None:
        fields = [pa.field(name, documents.TYPES[name]) for name in kind]
        version = {documents.VERSION_KEY: documents.VERSION}
        # Values seldom repeat, and a dictionary would hold them all.
        self._begin(pa.schema(fields, version), False)
        self._kind = kind

    def _flush(self) -> None:
        if self._writer is not None and self._rows:
            table = pa.Table.from_pylist(self._rows, schema=self._schema)
            self._writer.write_table(table, row_group_size=len(self._rows))
            self._rows = []


def _page(parts: Sequence[str | bytes]) -> list[dict[str, str | bytes]]:
    """Returns the parts of a page as a row has them.

    Raises:
        ValueError: If there are none, no text, or one that is neither text nor image.
    """
    for index, part in enumerate(parts):
        _check_part(f"parts[{index}]", part, bytes if isinstance(part, bytes) else str)
    if not any(isinstance(part, str) for part in parts):
        raise ValueError(f"a page has text among its parts, got {len(parts)} images")
    return [
        {documents.TEXT if isinstance(part, str) else documents.IMAGE: part}
        for part in parts
    ]


def _check_part(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind) or not value:
        what = "text" if kind is str else "the bytes of an encoded image"
        raise ValueError(f"{name} is {what}, got {value!r:.80}")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name} is Unicode text: {error}") from error

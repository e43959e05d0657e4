"""OBELICS: Parquet rows of `images` and `texts`, interleaved pages.

Both are lists of one length, of which at each place one is null and the other a string
(huggingface/OBELICS, build_obelics/13_final_processing.py). An image is a URL in the
published set: it is read from the folder `images` beside the file, or where the option
`images` says, under the URL's base name; any other string is a name there. A document's
id ends in its row's number. `pages.py` says what a page becomes.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from gato.pipelines.sources import base, image_folder
from gato.pipelines.sources.image_folder import NamedImage, Pending, PicturedSource
from gato.pipelines.sources.pages import BETWEEN_TEXTS, page
from gato.pipelines.sources.parquet_rows import (
    as_bytes,
    items_of_rows,
    parquet_file,
    partition_parquet,
    text_of,
)
from gato.schemas.config import Dataset
from gato.schemas.episode import Unreadable
from gato.schemas.errors import QuarantineError, Reason

# Of Parquet a partition: about 1,000 pages, whose images are read too.
PARTITION_BYTES = 4 << 20


class ObelicsSource(PicturedSource):
    """Interleaved pages of Parquet rows; partitions are ranges of row groups."""

    def files(self, path: str) -> list[str]:
        """Returns the Parquet file.

        Raises:
            UsageError: If it is a folder or has another suffix.
        """
        return parquet_file(path, "obelics", "data/train-00000-of-01439.parquet")

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Splits the file into ranges of row groups."""
        try:
            parts = partition_parquet(path, relative_path, PARTITION_BYTES)
        except Exception:  # whatever pyarrow raises of a damaged file; read() tells
            return [base.Partition(path=path, relative_path=relative_path)]
        return image_folder.with_images(parts, self.folder(path, dataset))

    def pending(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Pending | Unreadable]:
        """Yields each row's page, or the verdict on it."""
        return items_of_rows(partition, ("images", "texts"), _unpack, _page)


SOURCE: base.Source = ObelicsSource()


def _page(number: int, row: tuple[Any, Any], item_id: str) -> Pending:
    return page(item_id, number, _parts(*row, f"row {number}"), BETWEEN_TEXTS)


def _unpack(batch: pa.RecordBatch) -> list[tuple[Any, Any]]:
    images, texts = (
        as_bytes(batch.column(name)).to_pylist() for name in ("images", "texts")
    )
    return list(zip(images, texts, strict=True))


def _parts(images: Any, texts: Any, place: str) -> list[str | NamedImage]:
    if not isinstance(images, list) or not isinstance(texts, list):
        raise QuarantineError(
            Reason.WRONG_DTYPE,
            f"{place}: images and texts must be lists, got {type(images).__name__} and"
            f" {type(texts).__name__}",
        )
    if len(images) != len(texts):
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"{place}: images and texts must have one length, got {len(images)} and"
            f" {len(texts)}",
        )
    parts: list[str | NamedImage] = []
    for index, (image, text) in enumerate(zip(images, texts, strict=True)):
        if (image is None) == (text is None):
            raise QuarantineError(
                Reason.CORRUPT_RECORD,
                f"{place}: just one of images[{index}] and texts[{index}] must be null",
            )
        if image is None:
            parts.append(text_of(text, f"texts[{index}] of {place}"))
        else:
            name = image_folder.base_name(text_of(image, f"images[{index}] of {place}"))
            parts.append(NamedImage(image_folder.check_name(name)))
    return parts

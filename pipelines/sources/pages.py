"""Interleaved pages: what OBELICS, MMC4 and our own documents share.

A page is one document, its texts and images in the page's order. Texts with no image
between them are one text. Only the page's end has the model's eos: after the last text,
or after the last image if that ends the page. A page of which one image cannot be read
is quarantined (`missing_image`), as a pair is: without it the text around it would say
something else.
"""

from collections.abc import Sequence
from typing import TypeVar

from gato.pipelines.sources.image_folder import NamedImage, Pending
from gato.schemas.episode import ImagePart, TextPart

# As OBELICS joins paragraphs between two images.
BETWEEN_TEXTS = "\n\n"
_Image = TypeVar("_Image", NamedImage, ImagePart)


def page(
    document_id: str, number: int, parts: Sequence[str | NamedImage], separator: str
) -> Pending:
    """Returns the document of a page.

    Args:
        document_id: Its id.
        number: Its place in the file.
        parts: Texts and images in order.
        separator: What joins texts with no image between them.
    """
    return Pending(
        document_id=document_id,
        number=number,
        parts=page_parts(parts, separator),
        is_page=True,
    )


def page_parts(
    parts: Sequence[str | _Image], separator: str
) -> tuple[TextPart | _Image, ...]:
    """Returns a page's parts as a document has them.

    Args:
        parts: Texts and images in order.
        separator: What joins texts with no image between them.
    """
    joined: list[str | _Image] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, str) and isinstance(last, str):
            joined[-1] = last + separator + part
        else:
            joined.append(part)
    if joined and not isinstance(joined[-1], str):
        joined.append("")
    end = len(joined) - 1
    return tuple(
        TextPart(text=part, eos=place == end) if isinstance(part, str) else part
        for place, part in enumerate(joined)
    )

"""One self-contained page of a build: its model as JSON, in a template.

The page asks nothing of any network, and its policy forbids it to; what data say
reaches it only as JSON, and its script puts text into the document as text.
"""

import base64
import dataclasses
import hashlib
import html
import importlib.resources
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gato.pipelines.inspection.overview import dataset_model
from gato.pipelines.inspection.row_model import row_model
from gato.pipelines.inspection.sample import (
    SampledDataset,
    group_shards,
    run_of_rows,
    sample_rows,
)
from gato.pipelines.inspection.sources import Sources
from gato.schemas.record import Kind
from gato.schemas.shards import find_shards

# Rows read for returns and lengths, over all data sets.
_SURVEYED_ROWS = 2000
# Images of a page; base64 makes a third more of them. Phones hold this much.
_MOST_IMAGE_BYTES = 48 << 20
_PACKAGE = "gato.pipelines.inspection"
# In the order in which they stand in the page.
_SCRIPTS = ("elements.js", "plots.js", "overview.js", "rows.js", "page.js")
_PLACE = re.compile(r"\{\{(\w+)\}\}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """A page, and what to say of it.

    Attributes:
        content: HTML.
        num_rows: Rows it shows.
        num_datasets: Data sets.
        left_out: Rows that found no room.
    """

    content: bytes
    num_rows: int
    num_datasets: int
    left_out: int


def _labels(datasets: Sequence[SampledDataset]) -> list[str]:
    """Returns names, with the folder before where builds have the same."""
    names = [each.manifest.dataset for each in datasets]
    return [
        name if names.count(name) == 1 else each.folder
        for name, each in zip(names, datasets, strict=True)
    ]


def _parent(folder: str) -> str:
    return folder.rpartition("/")[0] or "."


def _datasets(datasets: Sequence[SampledDataset]) -> list[dict[str, Any]]:
    weights: dict[str, float] = {}
    for each in datasets:
        build = _parent(each.folder)
        weights[build] = weights.get(build, 0) + each.manifest.weight
    budget = max(1, _SURVEYED_ROWS // max(1, len(datasets)))
    return [
        dataset_model(
            each,
            label=label,
            share=each.manifest.weight / (weights[_parent(each.folder)] or 1),
            rows_to_read=budget,
        )
        for each, label in zip(datasets, _labels(datasets), strict=True)
    ]


def page_model(
    pattern: str, *, first: int | None, count: int
) -> tuple[dict[str, Any], int]:
    """Returns what a page of a build shows, and how many rows found no room.

    Args:
        pattern: As of `find_shards`.
        first: The first of the rows that follow each other; None samples.
        count: How many rows.

    Raises:
        GatoError: If there are none, or something cannot be read.
    """
    datasets = group_shards(find_shards(pattern))
    sources, rows, left_out = Sources(), [], 0
    room = [_MOST_IMAGE_BYTES // max(1, len(datasets))] * len(datasets)
    if first is None:
        found = sample_rows(datasets, count)
    else:
        found = run_of_rows(datasets, first, count)
    for place, inspected in found:
        room[place] -= sum(map(len, inspected.row.images))
        if room[place] < 0:
            left_out += 1
            continue
        rows.append(
            row_model(inspected, number=len(rows), dataset=place, sources=sources)
        )
    return {
        "pattern": pattern,
        "sampled": first is None,
        "left_out": left_out,
        "image_budget": _MOST_IMAGE_BYTES,
        "kinds": [kind.name.lower() for kind in Kind],
        "datasets": _datasets(datasets),
        "rows": rows,
        "sources": sources.entries,
    }, left_out


def _json(model: Mapping[str, Any]) -> str:
    """Returns JSON that no HTML parser finds an end of script, or a tag, in."""
    text = json.dumps(model, separators=(",", ":"), allow_nan=False)
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def _hash(text: str) -> str:
    """Returns a content policy's name for an inline script or style."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def render(model: Mapping[str, Any]) -> bytes:
    """Returns the page of a model, the same bytes for equal models."""
    folder = importlib.resources.files(_PACKAGE)
    parts = {
        name: folder.joinpath(f"page.{name}").read_text(encoding="utf-8")
        for name in ("html", "css")
    }
    script = "".join(
        folder.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS
    )
    places = {
        "title": html.escape(str(model["pattern"])),
        "style": parts["css"],
        "script": script,
        "style_hash": _hash(parts["css"]),
        "script_hash": _hash(script),
        "model": _json(model),
    }
    return _PLACE.sub(lambda place: places[place[1]], parts["html"]).encode()


def make_page(pattern: str, *, first: int | None, count: int) -> Page:
    """Returns the page of a build, a data set or shards.

    Args:
        pattern: As of `find_shards`.
        first: The first of the rows that follow each other; None samples.
        count: How many rows.

    Raises:
        GatoError: If there are none, or something cannot be read.
    """
    model, left_out = page_model(pattern, first=first, count=count)
    return Page(
        content=render(model),
        num_rows=len(model["rows"]),
        num_datasets=len(model["datasets"]),
        left_out=left_out,
    )

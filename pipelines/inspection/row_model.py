"""A decoded row as JSON: what the page's script draws.

Images keep their stored bytes, numbers are rounded to four digits, and every list over
timesteps is in the row's order, the prompt's first.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.inspection.load import InspectedRow
from gato.pipelines.inspection.sources import Sources
from gato.schemas.record import KIND_MASK, PROMPT_BIT, Encoding, Row
from gato.schemas.shards import ShardName
from gato.tokenizers.decode import DecodedItem, DecodedPart, DecodedSegment
from gato.tokenizers.text import TextTokenizer

_MEDIA_TYPES = {
    Encoding.PNG: "image/png",
    Encoding.JPEG: "image/jpeg",
    # Not a browser's: the script paints the pixels.
    Encoding.RAW: "raw",
}
# How much of an item's slots are targets.
NONE, SOME, ALL = 0, 1, 2


def target_state(row: Row, start: int, stop: int) -> int:
    """Returns whether none, some or all of the slots [start, stop) are targets."""
    bits = row.loss_mask[start:stop] != 0
    if not bits.any():
        return NONE
    return ALL if bits.all() else SOME


def slot_runs(row: Row) -> list[list[int]]:
    """Returns runs of like slots: `[length, kind, in a prompt, target, segment]`."""
    columns = np.stack(
        [
            row.kind & KIND_MASK,
            (row.kind & PROMPT_BIT) != 0,
            row.loss_mask != 0,
            row.segment,
        ]
    ).astype(int)
    edges = np.flatnonzero((np.diff(columns, axis=1) != 0).any(axis=0)) + 1
    starts = np.concatenate([[0], edges])
    lengths = np.diff(np.append(starts, columns.shape[1]))
    return np.vstack([lengths, columns[:, starts]]).T.tolist()


def text_runs(
    row: Row, tokenizer: TextTokenizer, start: int, stop: int
) -> list[list[Any]]:
    """Returns a text in runs `[text, state]`, cut where targets begin and end.

    Where a cut falls inside a character the whole text is one run.
    """
    edges = np.flatnonzero(np.diff(row.loss_mask[start:stop] != 0)) + 1
    whole = tokenizer.decode(row.tokens[start:stop])
    runs, done, begin = [], "", start
    for end in [*(start + edges).tolist(), stop]:
        text = tokenizer.decode(row.tokens[start:end])
        if not (text.startswith(done) and whole.startswith(text)):
            return [[whole, target_state(row, start, stop)]]
        runs.append([text[len(done) :], target_state(row, begin, end)])
        done, begin = text, end
    return [run for run in runs if run[0]]


def _rounded(value: NDArray[Any]) -> list[float | int]:
    flat = np.ravel(value)
    if flat.dtype.kind != "f":
        return flat.astype(int).tolist()
    # JSON has no name for what is not finite.
    return [
        float(f"{number:.4g}") if math.isfinite(number) else 0.0
        for number in flat.tolist()
    ]


def _image(row: Row, slot: int) -> dict[str, Any]:
    place = int(np.flatnonzero(row.image_info[:, 0] == slot)[0])
    _, height, width, encoding = row.image_info[place].tolist()
    return {
        "type": _MEDIA_TYPES[Encoding(encoding)],
        "data": base64.b64encode(row.images[place]).decode("ascii"),
        "height": height,
        "width": width,
    }


def _series(row: Row, items: Sequence[DecodedItem], role: str) -> dict[str, Any] | None:
    """Returns one item of numbers over the timesteps; None of texts and images."""
    values = [item.value for item in items]
    if items[0].kind in ("image", "text"):
        return None
    arrays = [np.asarray(value) for value in values]
    return {
        "key": items[0].key,
        "role": role,
        "kind": items[0].kind,
        "shape": list(arrays[0].shape),
        "values": [_rounded(array) for array in arrays],
        "targets": [target_state(row, item.start, item.stop) for item in items],
    }


def _texts(
    row: Row, tokenizer: TextTokenizer, items: Sequence[DecodedItem]
) -> dict[str, Any]:
    """Returns a text item over the timesteps, equal neighbours as one."""
    spans: list[dict[str, Any]] = []
    for at, item in enumerate(items):
        runs = text_runs(row, tokenizer, item.start, item.stop)
        if spans and spans[-1]["runs"] == runs:
            spans[-1]["last"] = at
        else:
            spans.append({"first": at, "last": at, "runs": runs})
    return {"key": items[0].key, "spans": spans}


def _frames(row: Row, items: Sequence[DecodedItem]) -> dict[str, Any]:
    return {"key": items[0].key, "frames": [_image(row, item.start) for item in items]}


def _timesteps(
    row: Row, tokenizer: TextTokenizer, segment: DecodedSegment
) -> dict[str, Any]:
    steps = segment.timesteps
    series, texts, images = [], [], []
    for role in ("actions", "observations"):
        for items in zip(*(getattr(step, role) for step in steps), strict=True):
            found = _series(row, items, role)
            if found is not None:
                series.append(found)
            elif items[0].kind == "image":
                images.append(_frames(row, items))
            else:
                texts.append(_texts(row, tokenizer, items))
    return {
        "steps": [step.step for step in steps],
        "prompt_steps": sum(step.prompt for step in steps),
        "starts": [step.start for step in steps],
        "series": series,
        "texts": texts,
        "images": images,
    }


def _part(
    row: Row, tokenizer: TextTokenizer, part: DecodedPart, last: bool
) -> dict[str, Any]:
    if part.kind == "image":
        return {"image": _image(row, part.start)}
    runs = text_runs(row, tokenizer, part.start, part.stop)
    return {"runs": runs, "ended": part.ended, "goes_on": last and not part.ended}


def _segment(
    inspected: InspectedRow,
    segment: DecodedSegment,
    patterns: Sequence[str],
    sources: Sources,
    use: Mapping[str, Any],
) -> dict[str, Any]:
    entry, row = segment.provenance, inspected.row
    dataset = use["dataset"]
    place = {key: use[key] for key in ("row", "segment")}

    def source(name: Any, role: str) -> int:
        return sources.add(dataset, patterns, str(name), {**place, "role": role})

    model: dict[str, Any] = {"start": segment.start, "stop": segment.stop}
    if "documents" in entry:
        model["documents"] = [source(name, "document") for name in entry["documents"]]
        last = len(segment.parts) - 1
        model["parts"] = [
            _part(row, inspected.tokenizer, part, at == last)
            for at, part in enumerate(segment.parts)
        ]
        return model
    model["episode"] = source(entry["episode"], "body")
    for key in ("task", "agent", "first_step", "num_steps", "return", "success"):
        model[key] = entry[key]
    prompt = entry["prompt"]
    if prompt is not None:
        fields = ("mode", "first_step", "num_steps", "length")
        model["prompt"] = {key: prompt[key] for key in fields}
        model["prompt"]["episode"] = source(prompt["episode"], "prompt")
    return model | _timesteps(row, inspected.tokenizer, segment)


def row_model(
    inspected: InspectedRow, *, number: int, dataset: int, sources: Sources
) -> dict[str, Any]:
    """Returns a row as the page's script takes it.

    Args:
        inspected: The row.
        number: Its place among the page's rows.
        dataset: Place of its data set in the page's model.
        sources: Gets the episodes and documents that the row uses.
    """
    row, config = inspected.row, inspected.manifest.config
    patterns = [str(path) for path in config.get("dataset", {}).get("paths", ())]
    name = ShardName.parse(inspected.path.rpartition("/")[2])
    return {
        "dataset": dataset,
        "path": inspected.path,
        "number": inspected.number,
        "num_rows": inspected.num_rows,
        "bytes": inspected.num_bytes,
        "split": "demonstrations" if name is None else name.split,
        "shard": None if name is None else name.index,
        "runs": slot_runs(row),
        "tokens": row.tokens.tolist(),
        "segments": [
            _segment(
                inspected,
                segment,
                patterns,
                sources,
                {"row": number, "segment": at, "dataset": dataset},
            )
            for at, segment in enumerate(inspected.segments)
        ],
    }

"""Segments of a shard: which windows stand together, their arrays and provenance."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines import plan
from gato.pipelines.fragment_data import RUN, FragmentData, Slice
from gato.schemas.config import Loss
from gato.schemas.record import PROMPT_BIT
from gato.tokenizers.rows import Segment

MAX_PAIRS = 5
_PROMPT_MODES = {plan.TAIL: "tail", plan.UNIFORM: "uniform"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardLayout:
    """What the rows of a data set's shards look like.

    Attributes:
        dataset: The data set's name, for provenance.
        sequence_length: L.
        dtype: dtype of the tokens.
        loss: What is a target.
        control: Whether windows are timesteps of episodes (else documents).
    """

    dataset: str
    sequence_length: int
    dtype: str
    loss: Loss
    control: bool


def group_windows(windows: NDArray[np.void], layout: ShardLayout) -> list[list[int]]:
    """Returns the windows of each segment, in order: one, or up to five pairs."""
    whole = (windows["image_bytes"] > 0) & (windows["content"] != plan.PAGE)
    if layout.control or not whole.any():
        return [[i] for i in range(len(windows))]
    content = windows["content"].tolist()
    groups: list[list[int]] = []
    room, images = 0, set[int]()
    for i in range(len(windows)):
        slots = int(windows["slots"][i])
        joins = whole[i] and slots <= room and content[i] not in images
        if joins and len(groups[-1]) < MAX_PAIRS:
            groups[-1].append(i)
            images.add(content[i])
            room -= slots
        else:
            groups.append([i])
            # Nothing joins a piece of a text or page.
            room = layout.sequence_length - slots if whole[i] else 0
            images = {content[i]}
    return groups


def read_segments(
    data: FragmentData,
    fragments: Sequence[str],
    windows: NDArray[np.void],
    groups: Sequence[Sequence[int]],
    layout: ShardLayout,
) -> list[Segment]:
    """Reads segments, all that is asked of one fragment together.

    Args:
        data: Where to read.
        fragments: The paths that `windows` points into.
        windows: `plan.WINDOW` records.
        groups: The windows of each segment.
        layout: What rows look like.
    """
    wanted = np.array(list(itertools.chain.from_iterable(groups)), np.int64)
    asked = windows[wanted]
    prompted = np.isin(asked["prompt"], list(_PROMPT_MODES))
    runs = np.concatenate([_runs(asked, ""), _runs(asked[prompted], "prompt_")])
    slices = data.read(fragments, runs)
    bodies = iter(zip(asked, prompted.tolist(), slices[: len(asked)], strict=True))
    prompts = iter(slices[len(asked) :])
    if not layout.control:
        return [
            _document_segment(list(itertools.islice(bodies, len(group))), layout)
            for group in groups
        ]
    return [
        episode_segment(window, body, next(prompts) if has_prompt else None, layout)
        for window, has_prompt, body in bodies
    ]


def _runs(windows: NDArray[np.void], prefix: str) -> NDArray[np.void]:
    runs = np.zeros(len(windows), RUN)
    for name in RUN.names or ():
        runs[name] = windows[prefix + name]
    return runs


def episode_segment(
    window: np.void, body: Slice, prompt: Slice | None, layout: ShardLayout
) -> Segment:
    """Returns a control segment: a prompt, if there is one, and a body.

    Args:
        window: Its `plan.WINDOW` record; without prompt a `RUN` is enough.
        body: Its arrays.
        prompt: Those of its prompt.
        layout: What rows look like.
    """
    told, pieces = None, [body]
    if prompt is not None:
        marked = prompt.kind | np.uint8(PROMPT_BIT)
        pieces = [dataclasses.replace(prompt, kind=marked), body]
        told = {
            "mode": _PROMPT_MODES[int(window["prompt"])],
            "episode": prompt.about["item_id"],
            "first_step": int(window["prompt_first"]),
            "num_steps": int(window["prompt_count"]),
            "length": len(prompt.tokens),
        }
    provenance = {
        "dataset": layout.dataset,
        "task": body.about.get("task"),
        "agent": body.about.get("agent"),
        "episode": body.about["item_id"],
        "first_step": int(window["first"]),
        "num_steps": int(window["count"]),
        "return": body.about.get("return"),
        "success": body.about.get("success"),
        "prompt": told,
    }
    return _join(pieces, provenance)


def _document_segment(
    parts: Sequence[tuple[np.void, bool, Slice]], layout: ShardLayout
) -> Segment:
    ids = []
    for window, _, body in parts:
        cut = window["slots"] < window["item_slots"]
        document_id = body.about["item_id"]
        ids.append(f"{document_id}#{window['index']}" if cut else document_id)
    provenance = {"dataset": layout.dataset, "documents": ids}
    return _join([body for _, _, body in parts], provenance)


def _join(pieces: Sequence[Slice], provenance: dict[str, Any]) -> Segment:
    first = pieces[0]
    arrays = {
        "tokens": first.tokens,
        "kind": first.kind,
        "step_slots": first.step_slots,
        "image_info": first.image_info,
    }
    if len(pieces) > 1:
        arrays = {
            name: np.concatenate([getattr(piece, name) for piece in pieces])
            for name in arrays
        }
    return Segment(
        **arrays,
        images=[image for piece in pieces for image in piece.images],
        provenance=provenance,
    )

"""Items read from raw data, and their slots.

Part of the independent re-tokenizer: imports nothing of ours.
"""

import dataclasses
import glob
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import retokenizer_values as values
import sentencepiece
from numpy.typing import NDArray


class Bad(Exception):
    """One item is to be quarantined; the argument is the reason."""


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Slots of a whole episode or document.

    Attributes:
        tokens: Ids [N].
        kind: Kinds 1 to 7 [N].
        mask: Loss mask [N], before a segment's first slot is cleared.
        local: Index inside the timestep's observation, not yet clamped; -1 for none.
        steps: Slots of each timestep; one entry for a document.
        images: (slot, padded RGB pixels), in slot order.
    """

    tokens: NDArray[np.int64]
    kind: NDArray[np.int64]
    mask: NDArray[np.int64]
    local: NDArray[np.int64]
    steps: list[int]
    images: list[tuple[int, NDArray[np.uint8]]]

    def run(self, first_step: int, num_steps: int) -> "Tokens":
        """Returns whole timesteps; images count their slots from the run's start."""
        start = sum(self.steps[:first_step])
        stop = start + sum(self.steps[first_step : first_step + num_steps])
        return dataclasses.replace(
            self.slots(start, stop),
            steps=self.steps[first_step : first_step + num_steps],
        )

    def slots(self, start: int, stop: int) -> "Tokens":
        """Returns slots [start, stop) as one piece."""
        return Tokens(
            tokens=self.tokens[start:stop],
            kind=self.kind[start:stop],
            mask=self.mask[start:stop],
            local=self.local[start:stop],
            steps=[stop - start],
            images=[(s - start, p) for s, p in self.images if start <= s < stop],
        )


@dataclasses.dataclass(eq=False)
class Item:
    """One episode or document read; `content` is None where it is quarantined."""

    id: str
    order: tuple[str, str, int]
    task: str = ""
    agent: str = ""
    total: float = 0.0
    success: bool | None = None
    content: Tokens | None = None
    reason: str | None = None
    signature: Any = None
    image: bytes | None = None


def flatten(
    pieces: list[tuple[int, Any]], mask_text: bool
) -> tuple[list[int], list[int], list[int]]:
    """Returns tokens, kinds and mask of (kind, ids or padded pixels)."""
    targets = {values.DISCRETE_ACTION, values.CONTINUOUS_ACTION}
    if mask_text:
        targets.add(values.TEXT)
    tokens, kinds, mask = [], [], []
    for kind, piece in pieces:
        ids = [0] * values.num_patches(piece) if kind == values.IMAGE else list(piece)
        tokens += ids
        kinds += [kind] * len(ids)
        mask += [int(kind in targets)] * len(ids)
    return tokens, kinds, mask


def image_slots(
    pieces: list[tuple[int, Any]], start: int
) -> list[tuple[int, NDArray[np.uint8]]]:
    """Returns (first slot, pixels) of the images among `pieces`."""
    images = []
    for kind, piece in pieces:
        if kind == values.IMAGE:
            images.append((start, piece))
            start += values.num_patches(piece)
        else:
            start += len(piece)
    return images


class Vocabulary:
    """The SentencePiece model and the ids that follow from its size."""

    def __init__(self, model: bytes) -> None:
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.text = self.processor.vocab_size()
        self.eos = self.processor.eos_id()
        self.separator = self.text + values.NUM_BINS
        self.size = self.separator + 1

    def encode(self, text: str | bytes) -> list[int]:
        """Returns ids without bos or eos."""
        clean = values.clean_text(text)
        if clean is None:
            raise Bad("not_utf8")
        return self.processor.encode(clean, add_bos=False, add_eos=False)


def matches(folder: pathlib.Path, dataset: Mapping[str, Any]) -> list[pathlib.Path]:
    """Returns what the data set's globs match, relative to the config's folder."""
    found = {
        path
        for pattern in dataset["paths"]
        for path in glob.glob(os.path.join(folder, pattern), recursive=True)
    }
    return [pathlib.Path(path) for path in sorted(found)]

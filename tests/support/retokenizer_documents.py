"""Reads texts and captioned images with the standard library and OpenCV.

Part of the independent re-tokenizer: imports nothing of ours. What the contracts leave
to the implementation (resizing) raises NotImplementedError here.
"""

import gzip
import json
import pathlib
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np
import retokenizer_values as values
from numpy.typing import NDArray
from retokenizer_items import (
    Bad,
    Item,
    Tokens,
    Vocabulary,
    flatten,
    image_slots,
    matches,
)


def document_tokens(pieces: list[tuple[int, Any]]) -> Tokens:
    """Returns the slots of a document's texts and images, every text a target."""
    tokens, kinds, mask = flatten(pieces, True)
    return Tokens(
        tokens=np.array(tokens, np.int64),
        kind=np.array(kinds, np.int64),
        mask=np.array(mask, np.int64),
        local=np.full(len(tokens), -1, np.int64),
        steps=[len(tokens)],
        images=image_slots(pieces, 0),
    )


def text_documents(
    folder: pathlib.Path,
    config: Mapping[str, Any],
    dataset: Mapping[str, Any],
    vocab: Vocabulary,
) -> Iterator[Item]:
    """Yields the documents of .jsonl, .json.gz and (whole) .txt files."""
    for path in matches(folder, dataset):
        if path.suffix == ".txt":
            if dataset["document"] not in (None, "file"):
                raise NotImplementedError("only whole .txt files are predicted")
            documents: list[str | bytes] = [path.read_bytes()]
        else:
            opener = gzip.open if path.suffix == ".gz" else open
            with opener(path, "rb") as file:
                key = dataset["text_key"] or "text"
                documents = [json.loads(line)[key] for line in file]
        for number, text in enumerate(documents):
            item = Item(f"{path.name}/{number}", ("", str(path), number))
            try:
                ids = [*vocab.encode(text), vocab.eos]
                item.content = document_tokens([(values.TEXT, ids)])
            except Bad as bad:
                item.reason = str(bad)
            yield item


def decode_pixels(data: bytes) -> NDArray[np.uint8]:
    """Returns the padded RGB pixels of an image file."""
    stored: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise Bad("corrupt_image")
    if stored.dtype == np.uint16:
        stored = (stored >> 8).astype(np.uint8)
    if stored.ndim == 2:
        stored = stored[..., None]
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[stored.shape[2]]
    return values.pad_image(stored[..., order])


def webdataset_documents(
    folder: pathlib.Path,
    config: Mapping[str, Any],
    dataset: Mapping[str, Any],
    vocab: Vocabulary,
) -> Iterator[Item]:
    """Yields the (image, caption) pairs of tars."""
    for path in matches(folder, dataset):
        samples: dict[str, dict[str, bytes]] = {}
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file is not None:
                    key, _, extension = member.name.partition(".")
                    samples.setdefault(key, {})[extension] = file.read()
        for number, (key, sample) in enumerate(samples.items()):
            item = Item(f"{path.name}/{key}", ("", str(path), number))
            try:
                images = [sample[e] for e in ("png", "jpg", "jpeg") if e in sample]
                if not images:
                    raise Bad("missing_image")
                caption: str | bytes = sample.get(dataset["text_key"] or "txt", b"")
                if not caption:
                    caption = json.loads(sample["json"])["caption"]
                pixels = decode_pixels(images[0])
                most = dataset["image"]["max_patches"] or 196
                if values.num_patches(pixels) > most or dataset["image"]["resize"]:
                    raise NotImplementedError("resized images cannot be predicted")
                ids = [*vocab.encode(caption), vocab.eos]
                content = document_tokens([(values.IMAGE, pixels), (values.TEXT, ids)])
                if len(content.tokens) > config["sequence_length"]:
                    raise Bad("too_long")
                item.content, item.image = content, images[0]
            except Bad as bad:
                item.reason = str(bad)
            yield item

"""Reads COCO captions and VQA questions with `json` and OpenCV.

Part of the independent re-tokenizer: imports nothing of ours. Options that name other
folders or files raise NotImplementedError.
"""

import collections
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import retokenizer_values as values
from retokenizer_documents import decode_pixels, document_tokens
from retokenizer_items import Bad, Item, Vocabulary, matches


def _item(
    name: str,
    order: tuple[str, str, int],
    path: pathlib.Path,
    texts: list[tuple[list[int], bool]],
    length: int,
) -> Item:
    """Returns an image followed by texts, each with whether it is a target."""
    item = Item(name, order)
    try:
        if not path.exists():
            raise Bad("missing_image")
        item.image = path.read_bytes()
        pixels = decode_pixels(item.image)
        if values.num_patches(pixels) > 196:
            raise NotImplementedError("resized images cannot be predicted")
        pieces = [(values.TEXT, ids) for ids, _ in texts]
        content = document_tokens([(values.IMAGE, pixels), *pieces])
        if len(content.tokens) > length:
            raise Bad("too_long")
        at = values.num_patches(pixels)
        for ids, is_target in texts:
            content.mask[at : at + len(ids)] = is_target
            at += len(ids)
        item.content = content
    except Bad as bad:
        item.reason = str(bad)
    return item


def coco_documents(
    folder: pathlib.Path,
    config: Mapping[str, Any],
    dataset: Mapping[str, Any],
    vocab: Vocabulary,
) -> Iterator[Item]:
    """Yields the pairs of captions JSONs."""
    if dataset.get("images"):
        raise NotImplementedError("images must lie beside the JSON")
    for path in matches(folder, dataset):
        content = json.loads(path.read_text("utf-8"))
        names = {image["id"]: image["file_name"] for image in content["images"]}
        for number, entry in enumerate(content["annotations"]):
            yield _item(
                f"{path.name}/{entry['id']}",
                ("", str(path), number),
                path.parent / "images" / names[entry["image_id"]],
                [([*vocab.encode(entry["caption"]), vocab.eos], True)],
                config["sequence_length"],
            )


def vqa_documents(
    folder: pathlib.Path,
    config: Mapping[str, Any],
    dataset: Mapping[str, Any],
    vocab: Vocabulary,
) -> Iterator[Item]:
    """Yields the questions of questions JSONs with their answers."""
    if dataset.get("images") or dataset.get("annotations"):
        raise NotImplementedError("images and annotations must lie beside the JSON")
    for path in matches(folder, dataset):
        asked = json.loads(path.read_text("utf-8"))
        (beside,) = path.parent.glob("*annotations.json")
        answers = {}
        for entry in json.loads(beside.read_text("utf-8"))["annotations"]:
            counts = collections.Counter(a["answer"] for a in entry["answers"])
            first = sorted(counts, key=lambda answer: (-counts[answer], answer))[0]
            answer = entry.get("multiple_choice_answer", first)
            answers[entry["question_id"]] = answer
        for number, entry in enumerate(asked["questions"]):
            question = vocab.encode(f"Q: {entry['question']} A:")
            answer = vocab.encode(answers[entry["question_id"]])
            subtype, image_id = asked["data_subtype"], entry["image_id"]
            yield _item(
                f"{path.name}/{entry['question_id']}",
                ("", str(path), number),
                path.parent / "images" / f"COCO_{subtype}_{image_id:012d}.jpg",
                [
                    (question, config["loss"]["questions"]),
                    ([*answer, vocab.eos], True),
                ],
                config["sequence_length"],
            )

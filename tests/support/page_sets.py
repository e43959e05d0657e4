"""Writes small OBELICS Parquet and MMC4 JSON lines, with images under their names.

Follows the published layouts: OBELICS' columns as huggingface/OBELICS saves them
(build_obelics/13_final_processing.py, at 334adfd), MMC4's lines as allenai/mmc4 shows
them (README.md, at 1f51091). Nothing here is of the project.
"""

import json
import pathlib
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HOST = "https://host.org"
NAMES = ("b9040a0dbb22.jpg", "db1c21bc8474.jpg", "0c45d1ffa2d3.png", "9f9f9f9f9f9f.jpg")
TEXTS = (
    "Paragraph one, naïve.\n\nParagraph two.",
    "東京 and a 🙂.",
    "After the last image.",
)
# A page: an image is its place in NAMES.
PAGES: tuple[tuple[int | str, ...], ...] = (
    (TEXTS[0], 0, TEXTS[1], 1, TEXTS[2]),
    (2, TEXTS[0]),
    (TEXTS[1], 3),
    (0, 1, TEXTS[2]),
)


def write_images(folder: pathlib.Path, side: int = 32) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for name in NAMES:
        pixels = generator.integers(0, 256, (side, side, 3)).astype(np.uint8)
        assert cv2.imwrite(str(folder / name), pixels)


def obelics_row(page: tuple[int | str, ...]) -> dict[str, Any]:
    images = [None if isinstance(p, str) else f"{HOST}/i/{NAMES[p]}?w=9" for p in page]
    texts = [p if isinstance(p, str) else None for p in page]
    about = [
        None if url is None else {"src": url, "original_width": 32, "alt": "x"}
        for url in images
    ]
    return {
        "images": images,
        "metadata": json.dumps(about),
        "general_metadata": json.dumps({"url": f"{HOST}/page"}),
        "texts": texts,
    }


def write_obelics(
    root: pathlib.Path, rows: list[dict[str, Any]] | None = None, group: int = 2
) -> pathlib.Path:
    """Writes a Parquet file, and images in the folder `images` beside it."""
    write_images(root / "images")
    rows = [obelics_row(page) for page in PAGES] if rows is None else rows
    path = root / "train-00000-of-01439.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    return path


def mmc4_line(page: tuple[int | str, ...]) -> dict[str, Any]:
    """Returns a line of which sentences are a page's texts cut at blank lines."""
    sentences: list[str] = []
    images: list[dict[str, Any]] = []
    for part in page:
        if isinstance(part, str):
            sentences += part.split("\n\n")
        else:
            images.append(
                {
                    "face_detections": None,
                    "image_name": NAMES[part],
                    "raw_url": f"{HOST}/{part}.jpg",
                    "matched_sim": 0.25,
                    "matched_text_index": len(sentences),
                }
            )
    for image in images:  # one after the end belongs to the last sentence
        last = len(sentences) - 1
        image["matched_text_index"] = min(image["matched_text_index"], last)
    return {
        "image_info": images[::-1] if len(images) == 2 else images,
        "similarity_matrix": [[0.25] * len(sentences) for _ in images],
        "text_list": sentences,
        "url": f"{HOST}/page",
        "could_have_url_duplicate": 0,
    }


def write_mmc4(
    root: pathlib.Path, lines: list[dict[str, Any]] | None = None
) -> pathlib.Path:
    """Writes JSON lines, and images in the folder `images` beside them."""
    write_images(root / "images")
    lines = [mmc4_line(page) for page in PAGES] if lines is None else lines
    path = root / "docs_no_face_shard_0_v3.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path

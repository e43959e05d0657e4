"""Writes pages as OBELICS has them, and what `datasets` reads of them.

    pip install datasets==5.2.0 pillow && python make.py

writes `train-00000-of-00002.parquet` and its neighbour, `images/` and `read.json`
beside this file, as they were written on 2026-11-22 with pyarrow 26.0.1. OBELICS was
built with this library; columns and types are those that
build_obelics/13_final_processing.py of https://github.com/huggingface/OBELICS at
334adfd saves, and of the data set's card. `read.json` has a line for each page, in the
order in which `load_dataset` gives them.
"""

import json
import pathlib

import numpy as np
from datasets import Dataset, Features, Sequence, Value, load_dataset
from PIL import Image

HOST = "https://host.org/wp-content"
NAMES = ("b9040a0d.jpg", "db1c21bc.jpg", "0c45d1ff.png")
# An image is its place in NAMES.
PAGES: tuple[tuple[int | str, ...], ...] = (
    ("Paragraph one, naïve.\n\nParagraph two.", 0, "東京 and a 🙂.", 1, "The end."),
    (2, "After an image. "),
    ("Before an image", 0),
    (0, 1, "Two in a row.", "And two texts."),
    ("No image at all.",),
    (1, "Last", 2, "page"),
)
FEATURES = Features(
    {
        "images": Sequence(Value("string")),
        "metadata": Value("string"),
        "general_metadata": Value("string"),
        "texts": Sequence(Value("string")),
    }
)


def _row(page: tuple[int | str, ...]) -> dict:
    images = [
        None if isinstance(part, str) else f"{HOST}/{part}/{NAMES[part]}?w=300"
        for part in page
    ]
    about = [
        url and {"document_url": f"{HOST}/page", "src": url, "format": "jpeg"}
        for url in images
    ]
    return {
        "images": images,
        "metadata": json.dumps(about),
        "general_metadata": json.dumps({"url": f"{HOST}/page", "warc_offset": 1}),
        "texts": [part if isinstance(part, str) else None for part in page],
    }


def main(folder: pathlib.Path) -> None:
    """Writes two shards and the images, then reads the shards."""
    (folder / "images").mkdir(exist_ok=True)
    y, x = np.mgrid[:24, :32]
    for place, name in enumerate(NAMES):
        pixels = np.stack([x * 8, y * 10, 0 * x + 80 * place], -1).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / name)
    pages = Dataset.from_list([_row(page) for page in PAGES], features=FEATURES)
    paths = [str(folder / f"train-0000{shard}-of-00002.parquet") for shard in (0, 1)]
    for shard, path in enumerate(paths):
        pages.shard(2, shard, contiguous=True).to_parquet(path, batch_size=2)
    read = load_dataset("parquet", data_files={"train": paths}, split="train")
    text = ",\n".join(json.dumps(row, ensure_ascii=False) for row in read)
    (folder / "read.json").write_text(f"[\n{text}\n]\n", "utf-8")


if __name__ == "__main__":
    main(pathlib.Path(__file__).parent)

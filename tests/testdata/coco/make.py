"""Writes captions as MS-COCO has them, and what pycocotools reads of them.

    pip install pycocotools==2.0.11 numpy pillow && python make.py

writes `captions_val2014.json`, `images/` and `read.json` beside this file, as they were
written on 2026-11-22. The keys are those of captions_val2014.json as
https://cocodataset.org/#format-data describes them. `read.json` has a line for each
annotation, in the order in which pycocotools gives them: its id, its caption, the
`file_name` of its image.
"""

import json
import pathlib

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

IDS = (391895, 42, 581929, 9)
CAPTIONS = (
    "A man with a red helmet on a small moped on a dirt road. ",
    "Ein Hund läuft über die Straße\n",
    'a sign that says "stop" & nothing else',
    "東京 at night",
    "A cat.",
)


def _content() -> dict:
    images = [
        {
            "license": 1 + place % 2,
            "file_name": f"COCO_val2014_{image_id:012d}.jpg",
            "coco_url": f"http://images.cocodataset.org/val2014/{image_id:012d}.jpg",
            "height": 24,
            "width": 32,
            "date_captured": f"2013-11-14 11:18:{place:02d}",
            "flickr_url": f"http://farm9.staticflickr.com/{image_id}.jpg",
            "id": image_id,
        }
        for place, image_id in enumerate(IDS)
    ]
    # Five captions an image, and no two neighbours of one, as in the published file.
    annotations = [
        {
            "image_id": IDS[(number * 3) % len(IDS)],
            "id": 770000 - 37 * number,
            "caption": CAPTIONS[number % len(CAPTIONS)],
        }
        for number in range(5 * len(IDS))
    ]
    return {
        "info": {
            "description": "as COCO 2014",
            "url": "http://cocodataset.org",
            "version": "1.0",
            "year": 2014,
            "contributor": "none",
            "date_created": "2026/11/22",
        },
        "images": images,
        "licenses": [
            {
                "url": "http://creativecommons.org/licenses/by/2.0/",
                "id": 1,
                "name": "A",
            },
            {"url": "http://flickr.com/commons/usage/", "id": 2, "name": "B"},
        ],
        "annotations": annotations,
    }


def main(folder: pathlib.Path) -> None:
    """Writes the annotations and images, then reads them."""
    path = folder / "captions_val2014.json"
    path.write_text(json.dumps(_content()), "utf-8")
    (folder / "images").mkdir(exist_ok=True)
    y, x = np.mgrid[:24, :32]
    for place, image in enumerate(_content()["images"]):
        pixels = np.stack([x * 8, y * 10, 0 * x + 60 * place], -1).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / image["file_name"])
    coco = COCO(str(path))
    lines = []
    for annotation in coco.loadAnns(coco.getAnnIds()):
        (image,) = coco.loadImgs(annotation["image_id"])
        line = [annotation["id"], annotation["caption"], image["file_name"]]
        lines.append(json.dumps(line))
    (folder / "read.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", "utf-8")


if __name__ == "__main__":
    main(pathlib.Path(__file__).parent)

"""Documents a second of our readers beside bare loops over the formats' own libraries.

    python benchmarks/read_text.py

Writes C4-like JSON lines (plain and gzip), a plain text, a WebDataset tar, COCO
captions and VQAv2 questions. Each is read by a bare loop (json, gzip, tarfile) and by
our source in turn, five times each after one untimed; the medians are printed.
Splitting counts on our side, opening and parsing on both. Images are bytes on both
sides: nothing is decoded.
"""

import gzip
import io
import json
import pathlib
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from episode_reading import rates, read_ours

_DOCUMENTS = 8000
_PAIRS = 10_000
_QUESTIONS = 20_000
_IMAGE_BYTES = 20_000
_SUBTYPE = "val2014"


def texts(generator: np.random.Generator) -> list[str]:
    """Returns documents of Zipf-distributed made-up words."""
    letters = generator.integers(97, 123, (5000, 9)).astype(np.uint8)
    words = [row[: 2 + n % 8].tobytes().decode() for n, row in enumerate(letters)]
    chances = 1 / np.arange(1, len(words) + 1)
    chances /= chances.sum()
    lengths = generator.integers(50, 800, _DOCUMENTS)
    return [" ".join(generator.choice(words, n, p=chances)) for n in lengths]


def write_texts(root: pathlib.Path, generator: np.random.Generator) -> None:
    documents = texts(generator)
    records = (
        {"text": text, "timestamp": "2019-04-25T12:57:54Z", "url": "https://a.b/c"}
        for text in documents
    )
    content = "".join(json.dumps(record) + "\n" for record in records).encode()
    (root / "a.jsonl").write_bytes(content)
    (root / "a.jsonl.gz").write_bytes(gzip.compress(content, 6))
    (root / "a.txt").write_text("\n".join(documents))


def write_tar(path: pathlib.Path, generator: np.random.Generator) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(_PAIRS):
            image = generator.bytes(_IMAGE_BYTES)
            for suffix, data in (("jpg", image), ("txt", b"a cat on a mat")):
                member = tarfile.TarInfo(f"{number:09d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def write_images(root: pathlib.Path, generator: np.random.Generator) -> None:
    """Writes images with five captions and five questions each."""
    (root / "images").mkdir()
    names = [f"COCO_{_SUBTYPE}_{n:012d}.jpg" for n in range(_QUESTIONS // 5)]
    for name in names:
        (root / "images" / name).write_bytes(generator.bytes(_IMAGE_BYTES))
    captions = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
        "annotations": [
            {"id": n, "image_id": n % len(names), "caption": f"thing {n} on a mat"}
            for n in range(_QUESTIONS)
        ],
    }
    (root / f"captions_{_SUBTYPE}.json").write_text(json.dumps(captions))
    asked = [
        {"image_id": n // 5, "question": "What is on it?", "question_id": n}
        for n in range(_QUESTIONS)
    ]
    answers = [{"answer": "cat", "answer_id": n} for n in range(1, 11)]
    annotated = [
        {"question_id": n, "multiple_choice_answer": "cat", "answers": answers}
        for n in range(_QUESTIONS)
    ]
    common: dict[str, Any] = {"data_type": "mscoco", "data_subtype": _SUBTYPE}
    name = f"v2_OpenEnded_mscoco_{_SUBTYPE}_questions.json"
    (root / name).write_text(json.dumps({**common, "questions": asked}))
    name = f"v2_mscoco_{_SUBTYPE}_annotations.json"
    (root / name).write_text(json.dumps({**common, "annotations": annotated}))


def bare_jsonl(path: pathlib.Path) -> Iterator[Any]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for line in file:
            yield json.loads(line)["text"]


def bare_lines(path: pathlib.Path) -> Iterator[Any]:
    with path.open("rb") as file:
        for line in file:
            yield line.decode()


def bare_tar(path: pathlib.Path) -> Iterator[Any]:
    with tarfile.open(path) as tar:
        image = b""
        for member in tar:
            file = tar.extractfile(member)
            data = file.read() if file else b""
            if member.name.endswith(".txt"):
                yield image, data.decode()
            image = data


def bare_coco(path: pathlib.Path) -> Iterator[Any]:
    content = json.loads(path.read_bytes())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    for entry in content["annotations"]:
        image = path.parent / "images" / names[entry["image_id"]]
        yield image.read_bytes(), entry["caption"]


def bare_vqa(path: pathlib.Path) -> Iterator[Any]:
    asked = json.loads(path.read_bytes())["questions"]
    name = f"v2_mscoco_{_SUBTYPE}_annotations.json"
    annotated = json.loads((path.parent / name).read_bytes())["annotations"]
    answers = {e["question_id"]: e["multiple_choice_answer"] for e in annotated}
    for entry in asked:
        image = f"COCO_{_SUBTYPE}_{entry['image_id']:012d}.jpg"
        data = (path.parent / "images" / image).read_bytes()
        yield data, entry["question"], answers[entry["question_id"]]


def compare(
    title: str,
    theirs: Callable[[], Iterator[Any]],
    mine: Callable[[], int],
    count: int,
    num_bytes: int,
) -> None:
    ways = {"bare": lambda: sum(1 for _ in theirs()), "ours": mine}
    found = rates(ways, count)
    speed = num_bytes * found["ours"] / count / 1e6
    print(
        f"{title:14} bare {found['bare']:9,.0f} documents/s  ours {found['ours']:9,.0f}"
        f" documents/s {speed:6,.0f} MB/s   {found['ours'] / found['bare']:.2f}x"
    )


def ours(path: pathlib.Path, format: str, **options: Any) -> int:
    return read_ours(format, str(path), path.name, **options)


def main() -> None:
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        write_texts(root, generator)
        write_tar(root / "a.tar", generator)
        write_images(root, generator)
        size = (root / "a.jsonl").stat().st_size
        for name in ("a.jsonl", "a.jsonl.gz"):
            path = root / name
            compare(
                name[2:],
                lambda path=path: bare_jsonl(path),
                lambda path=path: ours(path, "text"),
                _DOCUMENTS,
                size,
            )
        path = root / "a.txt"
        compare(
            "txt by line",
            lambda: bare_lines(path),
            lambda: ours(path, "text", document="line"),
            _DOCUMENTS,
            path.stat().st_size,
        )
        tar = root / "a.tar"
        compare(
            "webdataset",
            lambda: bare_tar(tar),
            lambda: ours(tar, "webdataset"),
            _PAIRS,
            tar.stat().st_size,
        )
        captions = root / f"captions_{_SUBTYPE}.json"
        compare(
            "coco",
            lambda: bare_coco(captions),
            lambda: ours(captions, "coco"),
            _QUESTIONS,
            captions.stat().st_size + _QUESTIONS * _IMAGE_BYTES,
        )
        questions = root / f"v2_OpenEnded_mscoco_{_SUBTYPE}_questions.json"
        compare(
            "vqa",
            lambda: bare_vqa(questions),
            lambda: ours(questions, "vqa"),
            _QUESTIONS,
            questions.stat().st_size + _QUESTIONS * _IMAGE_BYTES,
        )


if __name__ == "__main__":
    main()

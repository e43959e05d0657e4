"""Small valid data set folders made by hand, and ways to spoil them.

Rows are written slot by slot, by none of the code under test but `gato.schemas`.
"""

import copy
import dataclasses
import hashlib
import json
import pathlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from gato.schemas.manifest import DatasetManifest, RootManifest, dump_manifest
from gato.schemas.record import Kind, Row, encode_row
from gato.schemas.shards import SPLITS, ShardName
from gato.schemas.tfrecord import frame, pack_index

L = 128
TEXT = 32_000
SEPARATOR = TEXT + 1024
EOS = 2
TASK, AGENT = "toy/reach-v0", "toy/reach/expert-v0"
MODEL = b"a tokenizer"
STEP_SLOTS = 16
# Observation items in order: grid, mission (text), state, view (image 16x32).
SPEC: dict[str, Any] = {
    "observations": [
        {"key": "grid", "kind": "discrete", "dtype": "uint8", "shape": [2, 2]},
        {"key": "mission", "kind": "text", "dtype": "str", "shape": []},
        {"key": "state", "kind": "continuous", "dtype": "float32", "shape": [3]},
        {
            "key": "view",
            "kind": "image",
            "dtype": "uint8",
            "shape": [16, 32, 3],
            "image": {"height": 16, "width": 32, "resize": None, "encoding": "png"},
        },
    ],
    "actions": [
        {
            "key": "aim",
            "kind": "continuous",
            "shape": [2],
            "low": [-2.0, -2.0],
            "high": [2.0, 2.0],
            "scale": "space",
        },
        {"key": "move", "kind": "discrete", "shape": [], "num_values": 7},
    ],
}
_STEP_KINDS = [3] * 4 + [1] * 3 + [4] * 3 + [2] * 2 + [5] + [7] * 2 + [6]


def png(seed: int, height: int = 16, width: int = 32) -> bytes:
    """Returns a small PNG that differs from seed to seed."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2] = (40 * seed % 256, 200, 10)
    pixels[seed % height] = 255
    return cv2.imencode(".png", pixels)[1].tobytes()


@dataclasses.dataclass
class Part:
    """One segment: its slots, images and provenance without start and length."""

    tokens: list[int]
    kind: list[int]
    local: list[int]
    mask: list[int]
    images: list[tuple[int, bytes, int, int]]  # slot, bytes, height, width
    provenance: dict[str, Any]


def _step(episode: int, step: int) -> tuple[list[int], bytes]:
    """Returns a timestep's tokens and image, a function of its place alone."""
    noise = np.random.default_rng([episode, step])
    state = TEXT + noise.integers(0, 1024, 3)
    aim = TEXT + noise.integers(0, 1024, 2)
    grid = noise.integers(0, 11, 4)
    tokens = [*grid, 500, 501, 502, *state, 0, 0, SEPARATOR, *aim, step % 7]
    return [int(token) for token in tokens], png(episode * 7 + step)


def window(
    episode: int,
    first: int,
    count: int,
    prompt: tuple[str, int, int, int] | None = None,
) -> Part:
    """Returns timesteps [first, first + count) of an episode.

    Args:
        episode: Its number.
        first: First timestep.
        count: How many.
        prompt: Mode, episode, first timestep and how many, or None.
    """
    part = Part([], [], [], [], [], {})
    runs = [(episode, first, count, 0)]
    if prompt is not None:
        runs.insert(0, (*prompt[1:], 8))
    for number, start, steps, bit in runs:
        for step in range(start, start + steps):
            tokens, image = _step(number, step)
            part.images.append((len(part.tokens) + 10, image, 16, 32))
            part.tokens += tokens
            part.kind += [kind | bit for kind in _STEP_KINDS]
            part.local += [*range(12), -1, -1, -1, -1]
            part.mask += [0] * 4 + [1] * 3 + [0] * 6 + [1] * 3
    part.mask[0] = 0
    told = None
    if prompt is not None:
        told = {
            "mode": prompt[0],
            "episode": f"toy/reach/expert-v0/{prompt[1]}",
            "first_step": prompt[2],
            "num_steps": prompt[3],
            "length": prompt[3] * STEP_SLOTS,
        }
    part.provenance = {
        "task": TASK,
        "agent": AGENT,
        "episode": f"toy/reach/expert-v0/{episode}",
        "first_step": first,
        "num_steps": count,
        "return": 1.5,
        "success": True,
        "prompt": told,
    }
    return part


def pairs(*numbers: int) -> Part:
    """Returns (image, caption) pairs, one segment."""
    part = Part([], [], [], [], [], {"documents": [f"a.tar/{n}" for n in numbers]})
    for number in numbers:
        part.images.append((len(part.tokens), png(number, 32, 32), 32, 32))
        part.tokens += [0] * 4 + [900 + number, 901, EOS]
        part.kind += [2] * 4 + [1] * 3
        part.local += [-1] * 7
        part.mask += [0] * 4 + [1] * 3
    return part


def text(document: str, length: int) -> Part:
    """Returns a text, or a piece of one, of `length` tokens."""
    tokens = [300 + index % 50 for index in range(length - 1)] + [EOS]
    mask = [0] + [1] * (length - 1)
    provenance = {"documents": [document]}
    return Part(tokens, [1] * length, [-1] * length, mask, [], provenance)


def row(dataset: str, *parts: Part, length: int = L) -> Row:
    """Packs segments into a row."""
    columns: dict[str, list[int]] = {
        name: [value for part in parts for value in getattr(part, name)]
        for name in ("tokens", "kind", "local", "mask")
    }
    used = len(columns["tokens"])
    if used > length:
        raise ValueError(f"{used} slots do not fit {length}")

    def padded(values: list[int], dtype: str, fill: int = 0) -> Any:
        return np.array(values + [fill] * (length - used), dtype)

    segment = [n for n, part in enumerate(parts, 1) for _ in part.tokens]
    images, info, provenance = [], [], []
    start = 0
    for part in parts:
        for slot, data, height, width in part.images:
            images.append(data)
            info.append([start + slot, height, width, 1])
        place = {"start": start, "length": len(part.tokens)}
        provenance.append(
            {"dataset": dataset, **copy.deepcopy(part.provenance), **place}
        )
        start += len(part.tokens)
    return Row(
        tokens=padded(columns["tokens"], "uint16"),
        kind=padded(columns["kind"], "uint8"),
        loss_mask=padded(columns["mask"], "uint8"),
        segment=padded(segment, "uint8"),
        local_position=padded(columns["local"], "int16", -1),
        images=tuple(images),
        image_info=np.array(info, np.int32).reshape(-1, 4),
        provenance=provenance,
    )


def replaced(source: Row, **changes: tuple[int, int]) -> Row:
    """Returns a row with one slot of columns changed, as `loss_mask=(slot, value)`."""
    columns = {}
    for name, (slot, value) in changes.items():
        column = getattr(source, name).copy()
        column[slot] = value
        columns[name] = column
    return dataclasses.replace(source, **columns)


def control_rows() -> dict[str, list[list[Row]]]:
    """Returns shards of rows by split: four training episodes and one other."""
    train = [
        [
            row("toy", window(0, 0, 4), window(1, 0, 4)),
            row("toy", window(0, 4, 2, ("tail", 1, 4, 2)), window(1, 4, 2)),
        ],
        [
            row("toy", window(2, 0, 6, ("uniform", 0, 1, 2))),
            row("toy", window(3, 0, 6)),
        ],
    ]
    validation = [[row("toy", window(4, 0, 6, ("tail", 3, 4, 2)))]]
    return {"train": train, "validation": validation}


def caption_rows() -> dict[str, list[list[Row]]]:
    """Returns one shard of training and one of validation rows."""
    train = [[row("pairs", pairs(0, 1, 2), pairs(3)), row("pairs", pairs(4))]]
    return {"train": train, "validation": [[]]}


def text_rows() -> dict[str, list[list[Row]]]:
    """Returns texts, one of which is cut in two."""
    first = text("b.txt/0#0", L)
    first.tokens[-1] = 299
    train = [
        [row("words", first), row("words", text("b.txt/0#1", 9), text("b.txt/1", 4))]
    ]
    return {"train": train, "validation": [[row("words", text("b.txt/2", 20))]]}


def _counts(rows: list[Row]) -> dict[str, Any]:
    kinds = Counter(int(kind) & 7 for each in rows for kind in each.kind)
    prompts: Counter[str] = Counter()
    steps = 0
    for each in rows:
        for entry in each.provenance:
            if "documents" in entry:
                continue
            steps += entry["num_steps"]
            prompts["windows"] += 1
            if entry["prompt"]:
                prompts["prompted"] += 1
                prompts[entry["prompt"]["mode"]] += 1
    return {
        "tokens": {kind.name.lower(): kinds[kind] for kind in Kind},
        "prompt_tokens": sum(int((each.kind & 8).astype(bool).sum()) for each in rows),
        "targets": sum(int(each.loss_mask.sum()) for each in rows),
        "local_position_clamped": 0,
        "timesteps": steps,
        "prompts": dict(prompts),
        "rows": len(rows),
    }


def _write_shards(folder: pathlib.Path, shards: dict[str, list[list[Row]]]) -> Any:
    splits = {}
    for split in SPLITS:
        listed = []
        for index, rows in enumerate(shards[split]):
            name = str(ShardName(split=split, index=index, count=len(shards[split])))
            framed = [frame(encode_row(each)) for each in rows]
            data = b"".join(framed)
            lengths = [len(record) for record in framed]
            offsets = np.cumsum([0, *lengths])[:-1] if lengths else []
            index_data = pack_index(offsets, len(data))
            info = {
                "name": name,
                "rows": len(rows),
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "idx_sha256": hashlib.sha256(index_data).hexdigest(),
            }
            (folder / name).write_bytes(data)
            (folder / f"{name}.idx").write_bytes(index_data)
            (folder / f"{name}.json").write_text(json.dumps(info))
            listed.append(info)
        flat = [each for rows in shards[split] for each in rows]
        used = sum(len(each.kind) for each in flat)
        splits[split] = {"rows": len(flat), "tokens": used, "shards": listed}
    return splits


def write_dataset(
    folder: pathlib.Path,
    shards: dict[str, list[list[Row]]],
    *,
    change: Callable[[dict[str, Any]], None] = lambda manifest: None,
    model: bytes = MODEL,
    loss: dict[str, bool] | None = None,
) -> pathlib.Path:
    """Writes a data set's folder and, beside it, the tokenizer; returns the folder.

    Args:
        folder: `<output>/<dataset>`.
        shards: Rows by shard and split.
        change: Edits the manifest before it is written.
        model: The tokenizer's bytes.
        loss: The config's loss options.
    """
    folder.mkdir(parents=True)
    splits = _write_shards(folder, shards)
    rows = [each for split in SPLITS for shard in shards[split] for each in shard]
    entries = [entry for each in rows for entry in each.provenance]
    episodes = {entry["episode"] for entry in entries if "episode" in entry}
    documents = {
        name.partition("#")[0]
        for entry in entries
        for name in entry.get("documents", ())
    }
    counts = _counts(rows)
    kept = len(episodes or documents)
    accounts = {
        "read": kept + 3,
        "kept": kept,
        "low_return": 1 if episodes else 0,
        "excluded": 0 if episodes else 1,
        "quarantined": {"nonfinite": 2},
    }
    task = {
        "episodes_read": kept + 3,
        "kept": kept,
        "low_return": 1,
        "quarantined": {"nonfinite": 2},
        "expert_return": 1.5,
        "random_return": None,
        "window": 1,
        "order": "number",
        "agents": [AGENT],
        "timesteps": counts["timesteps"],
        "spec": SPEC,
    }
    manifest = {
        "schema_version": 1,
        "dataset": folder.name,
        "weight": 1.0,
        "fingerprint": "0" * 32,
        "sequence_length": len(rows[0].tokens),
        "token_dtype": "uint16",
        "config": {
            "prompts": {"fraction": 0.25, "tail_fraction": 0.5, "max_tokens": 64},
            "loss": loss or {},
        },
        "vocabulary": {
            "text": TEXT,
            "first_continuous": TEXT,
            "separator": SEPARATOR,
            "eos": EOS,
            "size": TEXT + 1025,
            "sentencepiece_sha256": hashlib.sha256(model).hexdigest(),
        },
        "episodes": accounts if episodes else None,
        "documents": None if episodes else accounts,
        "tasks": {TASK: task} if episodes else {},
        **counts,
        "padding_floor": 0.05,
        "splits": splits,
    }
    change(manifest)
    (folder / "manifest.json").write_bytes(
        dump_manifest(DatasetManifest.model_validate(manifest))
    )
    reasons = ("nonfinite", "nonfinite")
    lines = [
        {"source": "raw/a", "episode": None, "reason": reason, "detail": "NaN"}
        for reason in reasons
    ]
    (folder / "quarantine.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines)
    )
    if episodes:
        best = [row(folder.name, window(episode, 0, 6)) for episode in range(4)]
        data = b"".join(frame(encode_row(each)) for each in best)
        (folder / "demonstrations.tfrecord").write_bytes(data)
    (folder.parent / "tokenizer.model").write_bytes(model)
    return folder


def write_root(output: pathlib.Path, *names: str) -> pathlib.Path:
    """Writes the root manifest of data sets that stand already; returns the folder."""
    manifests = {
        name: json.loads((output / name / "manifest.json").read_bytes())
        for name in names
    }
    first = manifests[names[0]]
    root = {
        "schema_version": 1,
        "sequence_length": first["sequence_length"],
        "token_dtype": first["token_dtype"],
        "tokenizer": "tokenizer.model",
        "vocabulary": first["vocabulary"],
        "config_fingerprint": "1" * 32,
        "datasets": {
            name: {key: manifest[key] for key in ("weight", "fingerprint", "rows")}
            for name, manifest in manifests.items()
        },
    }
    (output / "manifest.json").write_bytes(
        dump_manifest(RootManifest.model_validate(root))
    )
    return output


def write_build(output: pathlib.Path) -> pathlib.Path:
    """Writes a whole build of three data sets: toy, pairs and words."""
    write_dataset(output / "toy", control_rows())
    write_dataset(output / "pairs", caption_rows())
    write_dataset(output / "words", text_rows())
    return write_root(output, "toy", "pairs", "words")

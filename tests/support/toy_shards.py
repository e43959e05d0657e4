"""Small valid data sets with manifests, for tests of the trainer.

Control rows hold timesteps of `observation, noise, separator, action` in which the
action is a function of the first observation token alone, so a model learns it and a
constant guess does not. Image rows hold pictures and the text of their brightness, text
rows a counting sequence.
"""

import hashlib
import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from gato.schemas import manifest as manifests
from gato.schemas.record import Encoding, Kind, Row, encode_row, token_dtype
from gato.schemas.shards import ShardName
from gato.schemas.tfrecord import frame, pack_index

LENGTH = 64
TEXT = 32_000
EOS = 2
SEPARATOR = TEXT + 1024
SIZE = TEXT + 1025
NUM_VALUES = 8
SHA = "ab" * 32


def row(
    tokens, kind, loss_mask, segment, local, images=(), image_info=(), provenance=()
):
    """Pads slots to LENGTH and returns a Row."""
    used = len(tokens)

    def pad(values: ArrayLike, dtype: DTypeLike, filler: int = 0) -> NDArray[Any]:
        out = np.full(LENGTH, filler, dtype)
        out[:used] = values
        return out

    return Row(
        tokens=pad(tokens, token_dtype(SIZE)),
        kind=pad(kind, np.uint8),
        loss_mask=pad(loss_mask, np.uint8),
        segment=pad(segment, np.uint8),
        local_position=pad(local, np.int16, -1),
        images=tuple(images),
        image_info=np.array(image_info, np.int32).reshape(-1, 4),
        provenance=list(provenance),
    )


def action_of(observation):
    """The task: what to do on an observation."""
    return (observation * 3 + 1) % NUM_VALUES


def control_row(generator, segments=2, steps=7):
    """Segments of timesteps `observation, noise, separator, action`."""
    shape = (segments, steps)
    observation = generator.integers(0, NUM_VALUES, shape)
    tokens = np.stack(
        [
            observation,
            TEXT + generator.integers(0, 1024, shape),
            np.full(shape, SEPARATOR),
            action_of(observation),
        ],
        axis=-1,
    ).ravel()
    kinds = (
        Kind.DISCRETE_OBSERVATION,
        Kind.CONTINUOUS_OBSERVATION,
        Kind.SEPARATOR,
        Kind.DISCRETE_ACTION,
    )
    count = segments * steps
    return row(
        tokens,
        np.tile(kinds, count),
        np.tile([0, 0, 0, 1], count),
        np.repeat(np.arange(segments) + 1, 4 * steps),
        np.tile([0, 1, -1, -1], count),
    )


def image_row(generator, pairs=2, height=32, width=48, encoding=Encoding.RAW):
    """Segments of `picture, caption`; the caption names its brightness."""
    size = (height // 16) * (width // 16)
    tokens, images, info = [], [], []
    for index in range(pairs):
        level = int(generator.integers(0, NUM_VALUES))
        noise = generator.integers(0, 16, (height, width, 3))
        picture = (level * 30 + noise).astype(np.uint8)
        images.append(_encode(picture, encoding))
        info.append((index * (size + 2), height, width, encoding))
        tokens += [0] * size + [100 + level, EOS]
    slots = np.tile([Kind.IMAGE] * size + [Kind.TEXT] * 2, pairs)
    return row(
        tokens,
        slots,
        slots == Kind.TEXT,
        np.repeat(np.arange(pairs) + 1, size + 2),
        np.full(len(tokens), -1),
        images,
        info,
    )


def _encode(picture, encoding):
    if encoding == Encoding.RAW:
        return picture.tobytes()
    import cv2

    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


def text_row(generator, length=LENGTH):
    """One segment of consecutive ids; its first slot is no target."""
    start = int(generator.integers(0, 1000))
    slots = np.arange(length)
    return row(
        1000 + start + slots,
        np.full(length, Kind.TEXT),
        slots > 0,
        np.ones(length),
        np.full(length, -1),
    )


def _write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def write_shard(folder, name, rows):
    """Writes one shard and its index; returns what the manifest says of it."""
    framed = [frame(encode_row(one)) for one in rows]
    data = b"".join(framed)
    offsets = np.cumsum([0, *map(len, framed)])[:-1]
    index = pack_index(offsets, len(data))
    _write(os.path.join(folder, name), data)
    _write(os.path.join(folder, f"{name}.idx"), index)
    return manifests.ShardInfo(
        name=name,
        rows=len(rows),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        idx_sha256=hashlib.sha256(index).hexdigest(),
    )


def _split(folder, split, rows, num_shards):
    shards = [
        write_shard(
            folder,
            str(ShardName(split=split, index=index, count=num_shards)),
            rows[index::num_shards],
        )
        for index in range(num_shards)
    ]
    slots = len(rows) * LENGTH
    return manifests.SplitInfo(rows=len(rows), tokens=slots, shards=shards)


def _counts(rows):
    kinds = np.concatenate([one.kind & 7 for one in rows])
    counts = np.bincount(kinds, minlength=8)
    return manifests.TokenCounts(
        **{kind.name.lower(): int(counts[kind]) for kind in Kind}
    )


def write_dataset(
    output, name, train, validation=(), *, num_shards=2, weight=1.0, **changes
):
    """Writes `<output>/<name>` with shards and manifest; returns the folder."""
    folder = os.path.join(output, name)
    os.makedirs(folder)
    rows = [*train, *validation]
    splits = {
        "train": _split(folder, "train", train, num_shards),
        "validation": _split(folder, "validation", list(validation), 1),
    }
    accounts = manifests.Accounts(
        read=len(rows), kept=len(rows), low_return=0, excluded=0, quarantined={}
    )
    content = manifests.DatasetManifest(
        schema_version=manifests.SCHEMA_VERSION,
        dataset=name,
        weight=weight,
        fingerprint=hashlib.sha256(name.encode()).hexdigest()[:32],
        sequence_length=LENGTH,
        token_dtype=token_dtype(SIZE),
        config={},
        vocabulary=manifests.VocabularyInfo(
            text=TEXT,
            first_continuous=TEXT,
            separator=SEPARATOR,
            eos=EOS,
            size=SIZE,
            sentencepiece_sha256=SHA,
        ),
        episodes=accounts,
        tasks={},
        timesteps=0,
        tokens=_counts(rows),
        prompt_tokens=0,
        targets=sum(int(one.loss_mask.sum()) for one in rows),
        local_position_clamped=0,
        prompts=manifests.PromptCounts(),
        rows=len(rows),
        padding_floor=0.0,
        splits=splits,
    ).model_copy(update=changes)
    data = manifests.dump_manifest(content)
    _write(os.path.join(folder, manifests.MANIFEST_NAME), data)
    return folder


def write_build(output, *, rows=24, validation=8, seed=0):
    """Writes three data sets: control, pictures, prose."""
    generator = np.random.default_rng(seed)
    for name, make, weight in (
        ("control", control_row, 2.0),
        ("pictures", image_row, 1.0),
        ("prose", text_row, 1.0),
    ):
        made = [make(generator) for _ in range(rows + validation)]
        write_dataset(output, name, made[:rows], made[rows:], weight=weight)
    return os.path.join(output, "*", "train-*.tfrecord")

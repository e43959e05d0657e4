"""Each reader's throughput beside a bare loop of its format's own library.

    .venv/bin/python benchmarks/readers.py [--only d4rl,lerobot]

The bare loop brings the same values to NumPy or bytes and does nothing else: no check,
no episode, no id. Both read the same files in this process in turn, five times each
after one untimed; medians of steps (or documents) a CPU second are printed, as rows of
docs/benchmarks.md. Opening counts on both sides. `reader_inputs.py` writes the files
into a temporary folder. Minari, RLDS, text, WebDataset, COCO and VQA have benchmarks
of their own: `read_minari.py`, `read_rlds.py`, `read_text.py`.
"""

import argparse
import csv
import dataclasses
import functools
import importlib
import json
import os
import pathlib
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import av
import cv2
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import reader_inputs as inputs
from episode_reading import rates, read_ours

STEPS = inputs.STEPS


@dataclasses.dataclass(frozen=True)
class Case:
    """What is read both ways.

    Attributes:
        name: For the table; begins with the format.
        library: What the bare loop uses.
        write: Writes the files into a folder; returns the path that is read.
        count: The steps or documents of it.
        bare: Reads it, and returns how many there were.
        options: Of our data set.
    """

    name: str
    library: str
    write: Callable[[pathlib.Path], pathlib.Path]
    count: int
    bare: Callable[[pathlib.Path], int]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def bare_d4rl(path: pathlib.Path) -> int:
    with h5py.File(path) as file:
        keys = ("observations", "actions", "rewards", "terminals", "timeouts")
        keys += ("infos/success",)
        data: dict[str, Any] = {key: file[key][:] for key in keys}  # type: ignore[index]
    ends = np.flatnonzero(data["terminals"] | data["timeouts"]) + 1
    pieces = {key: np.split(values, ends[:-1]) for key, values in data.items()}
    return sum(len(rewards) for rewards in pieces["rewards"])


def bare_robomimic(path: pathlib.Path) -> int:
    count = 0
    with h5py.File(path) as file:
        data: Any = file["data"]
        for demo in data.values():
            for values in (demo["actions"], *demo["obs"].values()):
                values[:]
            count += len(demo["rewards"][:])
    return count


def _flat(array: Any) -> tuple[Any, list[int]]:
    """Returns the numbers of nested lists of one length, and how long each is."""
    lengths = []
    while pa.types.is_nested(array.type):
        lengths.append(array.value_lengths()[0].as_py())
        array = array.flatten()
    return array.to_numpy(zero_copy_only=False), lengths


def bare_jat(path: pathlib.Path) -> int:
    count = 0
    file = pq.ParquetFile(path)
    for batch in file.iter_batches(batch_size=20):
        for row in range(batch.num_rows):
            for column in batch.columns:
                values, shape = _flat(column.slice(row, 1))
                values.reshape(shape)
            count += len(batch.column("rewards")[row])
    return count


def bare_steps(folder: pathlib.Path) -> int:
    """Reads Parquet of a row a step."""
    count = 0
    for path in sorted(folder.rglob("*.parquet")) if folder.is_dir() else [folder]:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=500):
            for column in batch.columns:
                if isinstance(column, pa.ExtensionArray):
                    column.to_numpy_ndarray()  # type: ignore[attr-defined]
                elif pa.types.is_nested(column.type):
                    values, shape = _flat(column)
                    values.reshape(-1, *shape)
                else:
                    column.to_numpy(zero_copy_only=False)
            count += batch.num_rows
    return count


def bare_npz(folder: pathlib.Path) -> int:
    keys = ("image", "observations", "action", "actions", "reward", "rewards")
    count = 0
    for path in sorted(folder.iterdir()):
        with np.load(path) as arrays:
            found = [arrays[key] for key in keys if key in arrays]
        if found[0].dtype == np.float32:
            # Pixels, channels first, which every user of these files converts.
            np.ascontiguousarray(found[0].astype(np.uint8).transpose(0, 2, 3, 1))
        count += STEPS
    return count


def bare_lerobot(folder: pathlib.Path) -> int:
    for path in sorted(folder.glob("videos/*/*/*.mp4")):
        with av.open(str(path)) as container:
            frames = container.decode(video=0)
            np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    return bare_steps(folder)


def _tensorflow() -> Any:
    # It takes longer to import than all other formats to read.
    return importlib.import_module("tensorflow")


def _records(path: pathlib.Path, features: Mapping[str, Any]) -> Any:
    tf = _tensorflow()
    data = tf.data.TFRecordDataset(str(path), compression_type="GZIP")
    parse = lambda record: tf.io.parse_single_example(record, features)  # noqa: E731
    return data.map(parse).as_numpy_iterator()


def _sequence(kind: str, *shape: int) -> Any:
    tf = _tensorflow()
    dtype = tf.as_dtype(kind)
    return tf.io.FixedLenSequenceFeature(shape, dtype, allow_missing=True)


def bare_rlu_control(path: pathlib.Path) -> int:
    sizes = {"height": 1, "orientations": 14, "velocity": 9}
    features = {f"observation/{k}": _sequence("float32", n) for k, n in sizes.items()}
    features["action"] = _sequence("float32", 6)
    features |= dict.fromkeys(("reward", "step_type"), _sequence("float32"))
    return sum(len(found["reward"]) - 1 for found in _records(path, features))


def bare_rlu_dmlab(path: pathlib.Path) -> int:
    features = {"observations_pixels": _sequence("string")}
    features |= {"actions": _sequence("int64"), "rewards": _sequence("float32")}
    features["observations_action"] = _sequence("float32", 15)
    features["observations_reward"] = _sequence("float32")
    count = 0
    for found in _records(path, features):
        images: list[Any] = [
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            for data in found["observations_pixels"]
        ]
        count += len(np.stack(images)) - 1
    return count


def bare_rlu_atari(path: pathlib.Path) -> int:
    """Reads transitions and sorts them into episodes, without any order in them."""
    scalar = {"a_t": "int64", "a_tp1": "int64", "episode_id": "int64"}
    scalar |= {"r_t": "float32", "d_t": "float32"}
    tf = _tensorflow()
    fixed = tf.io.FixedLenFeature
    features = {key: fixed([], tf.as_dtype(kind)) for key, kind in scalar.items()}
    features |= {key: fixed([4], tf.string) for key in ("o_t", "o_tp1")}
    episodes: dict[int, list[Any]] = {}
    for found in _records(path, features):
        episodes.setdefault(int(found["episode_id"]), []).append(found)
    return sum(map(len, episodes.values()))


def bare_documents(path: pathlib.Path) -> int:
    file = pq.ParquetFile(path)
    return sum(len(batch.to_pylist()) for batch in file.iter_batches(batch_size=400))


def bare_obelics(path: pathlib.Path) -> int:
    count = 0
    for batch in pq.ParquetFile(path).iter_batches(columns=["images", "texts"]):
        for row in batch.to_pylist():
            for url in row["images"]:
                if url is not None:
                    name = url.rpartition("/")[2].partition("?")[0]
                    (path.parent / "images" / name).read_bytes()
            count += 1
    return count


def bare_mmc4(path: pathlib.Path) -> int:
    count = 0
    with path.open("rb") as file:
        for line in file:
            page = json.loads(line)
            for image in page["image_info"]:
                (path.parent / "images" / image["image_name"]).read_bytes()
            count += bool(page["text_list"])
    return count


def bare_captions(path: pathlib.Path) -> int:
    count = 0
    with path.open(encoding="utf-8", newline="") as file:
        for _, url in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            (path.parent / url.rpartition("/")[2]).read_bytes()
            count += 1
    return count


_FEW, _MANY, _MOST = (n * STEPS for n in (inputs.FEW, inputs.MANY, inputs.MOST))
_NO_VIDEO = {"observations": {"exclude": [inputs.VIDEO]}}

CASES = (
    Case(
        "d4rl",
        "h5py",
        functools.partial(inputs.episodes, "d4rl", inputs.MOST),
        _MOST,
        bare_d4rl,
    ),
    Case(
        "robomimic",
        "h5py",
        functools.partial(inputs.episodes, "robomimic", inputs.MANY),
        _MANY,
        bare_robomimic,
    ),
    Case(
        "vd4rl",
        "NumPy",
        functools.partial(inputs.episodes, "vd4rl", inputs.FEW),
        _FEW,
        bare_npz,
    ),
    Case(
        "procgen, archives",
        "NumPy",
        functools.partial(inputs.episodes, "procgen", inputs.FEW),
        _FEW,
        bare_npz,
    ),
    Case("procgen, Parquet", "pyarrow", inputs.procgen_table, _FEW, bare_steps),
    Case("jat", "pyarrow", inputs.jat, _MANY, bare_jat),
    Case(
        "lerobot, rows", "pyarrow", inputs.lerobot, _FEW, bare_steps, options=_NO_VIDEO
    ),
    Case("lerobot, with video", "pyarrow, av", inputs.lerobot, _FEW, bare_lerobot),
    Case("parquet, episodes", "pyarrow", inputs.own_episodes, _MANY, bare_steps),
    Case(
        "parquet_documents",
        "pyarrow",
        inputs.own_documents,
        inputs.DOCUMENTS,
        bare_documents,
    ),
    Case("rlu_atari, transitions", "tf.data", inputs.rlu_atari, _FEW, bare_rlu_atari),
    Case("rlu_dm_control", "tf.data", inputs.rlu_dm_control, _MANY, bare_rlu_control),
    Case(
        "rlu_dmlab", "tf.data, cv2", inputs.rlu_dmlab, _FEW - inputs.FEW, bare_rlu_dmlab
    ),
    Case("obelics", "pyarrow", inputs.obelics, inputs.DOCUMENTS, bare_obelics),
    Case("mmc4", "json", inputs.mmc4, inputs.DOCUMENTS, bare_mmc4),
    Case("captions_tsv", "csv", inputs.captions, inputs.DOCUMENTS, bare_captions),
)


def _measure(case: Case, root: pathlib.Path) -> str:
    """Returns a row of the table."""
    path = case.write(root)
    format_name = re.split(r"\W", case.name)[0]
    found = rates(
        {
            "bare": functools.partial(case.bare, path),
            "ours": functools.partial(
                read_ours, format_name, str(path), path.name, **case.options
            ),
        },
        case.count,
        time.process_time,
    )
    ratio = found["ours"] / found["bare"]
    return (
        f"| {case.name} | {case.library} | {found['bare']:,.0f} |"
        f" {found['ours']:,.0f} | {ratio:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="these formats: d4rl,lerobot")
    only = parser.parse_args().only
    print(f"load {os.getloadavg()[0]:.1f}\n")
    print("| format | bare loop | bare, per CPU second | ours | ratio |")
    print("|---|---|---|---|---|")
    for case in CASES:
        if only is None or case.name.startswith(tuple(only.split(","))):
            with tempfile.TemporaryDirectory() as root:
                print(_measure(case, pathlib.Path(root)), flush=True)
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()

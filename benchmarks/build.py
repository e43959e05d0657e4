"""Build throughput against bare loops, side by side in one run (docs/benchmarks.md).

    .venv/bin/python benchmarks/build.py [--rows state,grid,keep,resize,text]

For each kind of data: `bare` uses the same reader, tokenizer functions and writer in
one unshuffled pass without Beam (for images a plain cv2 or copy loop, for text the
engine alone); `gato-build` is the whole job, one process, Beam's own start (about a
second) included. Both run in this process, A B A B; medians of units per second are
printed, by the clock and by CPU time, with the medians of the ratios. Trust the CPU
ratio where the machine is shared.
"""

import argparse
import contextlib
import io
import json
import pathlib
import shutil
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import google_crc32c
import h5py
import numpy as np

from gato.pipelines import build
from gato.pipelines.sources.registry import source_for
from gato.schemas import config as configs
from gato.schemas.record import encode_row
from gato.schemas.tfrecord import frame
from gato.tokenizers.rows import RowBuilder, Segment
from gato.tokenizers.text import TextTokenizer
from gato.tokenizers.timestep import TimestepTokenizer, infer_spec

VOCABULARY = (
    pathlib.Path(__file__).parents[1] / "tests/testdata/vocabulary/text32k.model"
)
LENGTH = 1024


def write_minari(
    folder: pathlib.Path, episodes: Iterator[dict[str, Any]], spaces: dict[str, Any]
) -> None:
    """Writes the HDF5 layout of Minari 0.5 directly: its own writer is slow."""
    data = folder / "data"
    data.mkdir(parents=True)
    count = steps = 0
    with h5py.File(data / "main_data.hdf5", "w") as file:
        for index, episode in enumerate(episodes):
            group = file.create_group(f"episode_{index}")
            length = len(episode["actions"])
            group.attrs.update({"id": index, "seed": index, "total_steps": length})
            for name, value in episode.items():
                if isinstance(value, dict):
                    for key, column in value.items():
                        kind = h5py.string_dtype() if isinstance(column, list) else None
                        group.create_dataset(f"{name}/{key}", data=column, dtype=kind)
                else:
                    group.create_dataset(name, data=value)
            group["terminations"] = np.zeros(length, bool)
            group["truncations"] = np.zeros(length, bool)
            count, steps = count + 1, steps + length
    metadata = {
        "total_episodes": count,
        "total_steps": steps,
        "data_format": "hdf5",
        "dataset_id": "/".join(folder.parts[-3:]),
        "env_spec": None,
        **{name: json.dumps(space) for name, space in spaces.items()},
    }
    (data / "metadata.json").write_text(json.dumps(metadata))


def _box(shape: list[int], low: float, high: float, dtype: str) -> dict[str, Any]:
    fill = np.full(shape, 1.0)
    return {
        "type": "Box",
        "dtype": dtype,
        "shape": shape,
        "low": (fill * low).tolist(),
        "high": (fill * high).tolist(),
    }


def state_data(folder: pathlib.Path, num_episodes: int = 2000) -> None:
    """39 floats and 4 actions, 150 steps: Meta-World's sizes."""
    random = np.random.default_rng(0)

    def episodes() -> Iterator[dict[str, Any]]:
        for _ in range(num_episodes):
            yield {
                "observations": random.normal(size=(151, 39)).cumsum(0),
                "actions": random.uniform(-1, 1, (150, 4)).astype(np.float32),
                "rewards": random.uniform(size=150),
            }

    spaces = {
        "observation_space": _box([39], -1e3, 1e3, "float64"),
        "action_space": _box([4], -1, 1, "float32"),
    }
    write_minari(folder / "bench/state/expert-v0", episodes(), spaces)


def grid_data(folder: pathlib.Path, num_episodes: int = 1500) -> None:
    """7x7x3 grids, a direction and a mission: BabyAI's sizes."""
    random = np.random.default_rng(0)
    colors, nouns = ("red", "green", "blue", "grey"), ("ball", "box", "key", "door")

    def episodes() -> Iterator[dict[str, Any]]:
        for index in range(num_episodes):
            length = int(random.integers(8, 64))
            mission = f"go to the {colors[index % 4]} {nouns[index // 4 % 4]}"
            yield {
                "observations": {
                    "image": random.integers(0, 11, (length + 1, 7, 7, 3), np.uint8),
                    "direction": random.integers(0, 4, length + 1),
                    "mission": [mission] * (length + 1),
                },
                "actions": random.integers(0, 7, length),
                "rewards": random.uniform(size=length),
            }

    spaces = {
        "observation_space": {
            "type": "Dict",
            "subspaces": {
                "image": _box([7, 7, 3], 0, 255, "uint8"),
                "direction": {"type": "Discrete", "dtype": "int64", "start": 0, "n": 4},
                "mission": {
                    "type": "Text",
                    "max_length": 100,
                    "min_length": 1,
                    "charset": "abcdefghijklmnopqrstuvwxyz ",
                },
            },
        },
        "action_space": {"type": "Discrete", "dtype": "int64", "start": 0, "n": 7},
    }
    write_minari(folder / "bench/grid/expert-v0", episodes(), spaces)


def _picture(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    small = random.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def image_data(folder: pathlib.Path, height: int, width: int, extension: str) -> None:
    """Captioned smooth pictures in a tar."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    with tarfile.open(folder / "pairs.tar", "w") as tar:
        for index in range(4000):
            pixels = _picture(random, height, width)
            encoded = cv2.imencode(extension, pixels)[1].tobytes()
            caption = f"picture number {index} of a smooth pattern".encode()
            for name, data in ((extension, encoded), (".txt", caption)):
                info = tarfile.TarInfo(f"{index:06d}{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def text_data(folder: pathlib.Path) -> None:
    """English prose of the standard library's own documentation, 40 MB."""
    import pydoc_data.topics

    folder.mkdir(parents=True)
    topics = [text for text in pydoc_data.topics.topics.values() if len(text) > 200]
    total = 0
    with open(folder / "text.jsonl", "w", encoding="utf-8") as file:
        while total < 40_000_000:
            for index, text in enumerate(topics):
                text = f"{total} {index}\n{text}"
                file.write(json.dumps({"text": text}) + "\n")
                total += len(text)


def bare_control(dataset: configs.Dataset, path: str, output: pathlib.Path) -> int:
    """Reads, tokenizes and writes rows in order; returns the tokens."""
    source, text = source_for(dataset.format), TextTokenizer.load(str(VOCABULARY))
    builder = RowBuilder(
        sequence_length=LENGTH, dtype="uint16", loss=configs.Loss(), control=True
    )
    tokens = 0
    with open(output, "wb", buffering=1 << 20) as file:
        for partition in source.partition(path, path.rsplit("/", 1)[-1], dataset):
            for episode in source.read(partition, dataset):
                spec = infer_spec(episode, dataset)
                item = TimestepTokenizer(spec, text).encode(
                    episode.observations, episode.actions
                )
                ends = np.cumsum(np.insert(item.step_slots, 0, 0))
                first = 0
                while first < len(item.step_slots):
                    stop = int(np.searchsorted(ends, ends[first] + LENGTH, "right")) - 1
                    low, high = ends[first], ends[stop]
                    provenance = {"episode": episode.episode_id, "first_step": first}
                    segment = Segment(
                        tokens=item.tokens[low:high],
                        kind=item.kind[low:high],
                        step_slots=item.step_slots[first:stop],
                        images=[],
                        image_info=item.image_info,
                        provenance=provenance,
                    )
                    file.write(frame(encode_row(builder.build([[segment]])[0][0])))
                    tokens += int(high - low)
                    first = stop
    return tokens


def bare_copy(dataset: configs.Dataset, path: str, output: pathlib.Path) -> int:
    """Copies images and captions with their CRC; returns the bytes."""
    total = 0
    with open(output, "wb", buffering=1 << 20) as file, tarfile.open(path) as tar:
        for member in tar:
            extracted = tar.extractfile(member)
            data = extracted.read() if extracted else b""
            file.write(google_crc32c.value(data).to_bytes(4, "little"))
            file.write(data)
            total += len(data)
    return total


def bare_resize(dataset: configs.Dataset, path: str, output: pathlib.Path) -> int:
    """Decodes, scales as the build does, and writes PNG; returns the bytes read."""
    total = 0
    with open(output, "wb", buffering=1 << 20) as file, tarfile.open(path) as tar:
        for member in tar:
            extracted = tar.extractfile(member)
            data = extracted.read() if extracted else b""
            total += len(data)
            if not member.name.endswith(".txt"):
                pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
                pixels = cv2.resize(pixels, (256, 192), interpolation=cv2.INTER_AREA)
                options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
                data = cv2.imencode(".png", pixels, options)[1].tobytes()
            file.write(data)
    return total


def bare_text(dataset: configs.Dataset, path: str, output: pathlib.Path) -> int:
    """Encodes every document with the engine alone; returns the tokens."""
    text = TextTokenizer.load(str(VOCABULARY))
    tokens = 0
    with open(path, encoding="utf-8") as file, open(output, "wb") as sink:
        for line in file:
            ids = np.array(text.encode_list(json.loads(line)["text"]), np.uint16)
            sink.write(ids.tobytes())
            tokens += len(ids) + 1
    return tokens


ROWS: dict[
    str, tuple[str, str, Callable[..., None], Callable[..., int], dict[str, Any]]
]
ROWS = {
    "state": ("minari", "bench/state/*", state_data, bare_control, {}),
    "grid": ("minari", "bench/grid/*", grid_data, bare_control, {}),
    "keep": (
        "webdataset",
        "*.tar",
        lambda folder: image_data(folder, 192, 256, ".jpg"),
        bare_copy,
        {"image": {"encoding": "keep"}},
    ),
    "resize": (
        "webdataset",
        "*.tar",
        lambda folder: image_data(folder, 384, 512, ".jpg"),
        bare_resize,
        {"image": {"resize": [192, 256]}},
    ),
    "text": ("text", "*.jsonl", text_data, bare_text, {}),
}
UNITS = {"state": "tokens", "grid": "tokens", "text": "tokens"}


def _since(begin: tuple[float, float]) -> tuple[float, float]:
    return time.perf_counter() - begin[0], time.process_time() - begin[1]


def measure(name: str, repeats: int, root: pathlib.Path) -> None:
    """Prints one row of the table."""
    format_name, pattern, make, bare, options = ROWS[name]
    raw = root / name
    make(raw)
    config_path = root / f"{name}.yaml"
    entry = {"name": name, "format": format_name, "paths": [f"{raw}/{pattern}"]}
    entry |= options | {"filter": {"by": "none"}}
    config_path.write_text(
        json.dumps({"text_tokenizer": str(VOCABULARY), "datasets": [entry]})
    )
    dataset = configs.load_config(str(config_path)).datasets[0]
    path = str(next(iter(raw.glob(pattern))))
    times: dict[str, list[tuple[float, float]]] = {"bare": [], "gato-build": []}
    arguments = ["--config", str(config_path), "--output", str(root / "out")]
    work = 0
    for _ in range(repeats):
        begin = time.perf_counter(), time.process_time()
        work = bare(dataset, path, root / "bare.out")
        times["bare"].append(_since(begin))
        shutil.rmtree(root / "out", ignore_errors=True)
        begin = time.perf_counter(), time.process_time()
        with contextlib.redirect_stderr(io.StringIO()):
            if build.main(arguments):
                raise SystemExit(f"the build of {name} failed")
        times["gato-build"].append(_since(begin))
    print(f"{name:8} {work:>12,} {UNITS.get(name, 'bytes')}", end="")
    for clock, label in enumerate(("clock", "CPU")):
        bare_s, build_s = ([t[clock] for t in times[key]] for key in times)
        ratios = [a / b for a, b in zip(bare_s, build_s, strict=True)]
        print(
            f"  {label}: bare {work / statistics.median(bare_s):,.0f}/s"
            f" gato-build {work / statistics.median(build_s):,.0f}/s"
            f" ratio {statistics.median(ratios):.2f}",
            end="",
        )
    print(flush=True)
    shutil.rmtree(raw)


def main() -> None:
    """Measures the chosen rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.rows.split(","):
            measure(name, arguments.repeats, pathlib.Path(folder))


if __name__ == "__main__":
    main()

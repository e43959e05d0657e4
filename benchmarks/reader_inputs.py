"""Raw data of sensible size in the layouts that `readers.py` reads.

What the tests have a generator for comes from there (tests/testdata/layouts,
tests/support/*_sets.py); tables of Hugging Face's data sets take their columns from the
files in tests/testdata that its own library wrote.
"""

import json
import pathlib
import sys
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gato.pipelines.sources.canonical_writer import EpisodeWriter
from gato.pipelines.sources.document_writer import DocumentWriter

_TESTS = pathlib.Path(__file__).parents[1] / "tests"
TESTDATA = _TESTS / "testdata"
sys.path.insert(0, str(_TESTS / "support"))

import page_sets  # noqa: E402
import rlu_sets  # noqa: E402
from layouts import layout  # noqa: E402

STEPS = 150
# Episodes of data with frames, whose inputs would else take minutes to write, of
# floats, and of the smallest.
FEW, MANY, MOST = 12, 60, 1000
DOCUMENTS = 4000
_IMAGE_BYTES = 20_000
VIDEO = "observation.images.top"
_FPS = 10


def episodes(name: str, num_episodes: int, root: pathlib.Path) -> pathlib.Path:
    """Writes episodes of `STEPS` steps by a layout's own script; returns the path."""
    path = root / f"{name}.hdf5"
    options: dict[str, Any] = {}
    if name in ("vd4rl", "procgen"):
        path = root / "walker_walk" / name / ("64px" if name == "vd4rl" else "maze")
    if name == "d4rl":
        options = {"max_path": STEPS}
    layout(name).write(path, [STEPS] * num_episodes, **options)
    return path


def _nested(values: NDArray[Any], type_: pa.DataType) -> pa.Array:
    """Returns [N, ...] numbers as lists of lists, as a type has them."""
    array = pa.array(values.reshape(-1))
    for size in values.shape[:0:-1]:
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array.cast(type_)


def jat(root: pathlib.Path) -> pathlib.Path:
    """Writes a Parquet file of a row an episode."""
    name = "metaworld-reach/train-00000-of-00001.parquet"
    schema = pq.read_schema(TESTDATA / "jat" / name)
    generator = np.random.default_rng(0)
    widths = {"continuous_observations": (39,), "continuous_actions": (4,)}
    columns = [
        _nested(
            generator.normal(size=(MANY, STEPS, *widths.get(field.name, ())))
            .astype(np.float32)
            .clip(-1, 1),
            field.type,
        )
        for field in schema
    ]
    path = root / "jat" / name
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(columns, schema=schema), path, row_group_size=20)
    return path


def procgen_table(root: pathlib.Path) -> pathlib.Path:
    """Writes two Parquet shards of a row a step."""
    name = "maze/train-00000-of-00003.parquet"
    schema = pq.read_schema(TESTDATA / "procgen" / name)
    generator = np.random.default_rng(0)
    rows = FEW * STEPS
    coarse = generator.integers(0, 256, (rows, 8, 8, 3)).astype(np.uint8)
    done = np.arange(rows) % STEPS == STEPS - 1
    values: dict[str, NDArray[Any]] = {
        "observation": coarse.repeat(8, 1).repeat(8, 2),
        "action": generator.integers(0, 15, rows).astype(np.uint8),
        "reward": generator.normal(size=rows).astype(np.float32),
        "done": done,
        "truncated": np.zeros(rows, bool),
    }
    columns = [_nested(values[field.name], field.type) for field in schema]
    table = pa.table(columns, schema=schema)
    folder = root / "table" / "maze"
    folder.mkdir(parents=True)
    for part in range(2):
        shard = table.slice(part * rows // 2, rows // 2)
        path = folder / f"train-{part:05d}-of-00002.parquet"
        pq.write_table(shard, path, row_group_size=500)
    return folder


def _write_video(path: pathlib.Path, frames: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=_FPS)
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def lerobot(root: pathlib.Path) -> pathlib.Path:
    """Writes a data set of version 2.1: rows, and one camera of 96x96."""
    folder = root / "lerobot" / "reach"
    info = json.loads((TESTDATA / "lerobot/v21/reach/meta/info.json").read_text())
    kept = ("observation.state", VIDEO, "action", "next.reward")
    kept += ("timestamp", "frame_index", "episode_index", "index", "task_index")
    features = {name: info["features"][name] for name in kept}
    features[VIDEO]["shape"] = [96, 96, 3]
    info |= {
        "features": features,
        "total_episodes": FEW,
        "total_frames": FEW * STEPS,
        "total_videos": FEW,
        "total_tasks": 1,
        "splits": {"train": f"0:{FEW}"},
    }
    generator = np.random.default_rng(0)
    steps = np.arange(STEPS)
    for number in range(FEW):
        rows = {
            "observation.state": pa.FixedSizeListArray.from_arrays(
                generator.normal(size=STEPS * 6).astype(np.float32), 6
            ),
            "action": pa.FixedSizeListArray.from_arrays(
                generator.normal(size=STEPS * 4).astype(np.float32), 4
            ),
            "next.reward": np.zeros(STEPS, np.float32),
            "timestamp": (steps / _FPS).astype(np.float32),
            "frame_index": steps,
            "episode_index": np.full(STEPS, number),
            "index": steps + number * STEPS,
            "task_index": np.zeros(STEPS, np.int64),
        }
        path = folder / info["data_path"].format(episode_chunk=0, episode_index=number)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(rows), path)
        coarse = generator.integers(0, 256, (STEPS, 12, 12, 3)).astype(np.uint8)
        name = info["video_path"].format(
            episode_chunk=0, video_key=VIDEO, episode_index=number
        )
        _write_video(folder / name, coarse.repeat(8, 1).repeat(8, 2))
    entries: dict[str, list[dict[str, Any]]] = {
        "tasks": [{"task_index": 0, "task": "reach"}],
        "episodes": [
            {"episode_index": n, "tasks": ["reach"], "length": STEPS}
            for n in range(FEW)
        ],
    }
    (folder / "meta").mkdir()
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    for name, lines in entries.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "meta" / f"{name}.jsonl").write_text(text)
    return folder


def rlu_atari(root: pathlib.Path) -> pathlib.Path:
    """Writes a shard of transitions of RL Unplugged."""
    records = [
        record
        for number in range(FEW)
        for record in rlu_sets.transitions(
            number, rlu_sets.atari_frames(number, STEPS + 1), [1] * STEPS
        )
    ]
    return rlu_sets.write_shard(root / "Pong" / "run_1-00000-of-00100", records)


def rlu_dm_control(root: pathlib.Path) -> pathlib.Path:
    """Writes a shard of episodes of RL Unplugged's DM Control."""
    records = [rlu_sets.control_episode(n, STEPS + 1) for n in range(MANY)]
    path = root / "walker_walk" / "train-00000-of-00100"
    return rlu_sets.write_shard(path, records)


def rlu_dmlab(root: pathlib.Path) -> pathlib.Path:
    """Writes a shard of episodes of RL Unplugged's DM Lab."""
    records = [rlu_sets.lab_episode(n, STEPS)[0] for n in range(FEW)]
    path = root / "explore" / "tfrecord-00000-of-00500"
    return rlu_sets.write_shard(path, records)


def own_episodes(root: pathlib.Path) -> pathlib.Path:
    """Writes our own Parquet of episodes of floats."""
    path = root / "episodes.parquet"
    generator = np.random.default_rng(0)
    with EpisodeWriter(str(path)) as writer:
        for number in range(MANY):
            writer.add(
                episode_id=str(number),
                observations=generator.normal(size=(STEPS, 39)),
                actions=generator.uniform(-1, 1, (STEPS, 4)).astype(np.float32),
                rewards=generator.normal(size=STEPS),
                task="reach",
            )
    return path


def own_documents(root: pathlib.Path) -> pathlib.Path:
    """Writes our own Parquet of captioned images."""
    path = root / "documents.parquet"
    generator = np.random.default_rng(0)
    with DocumentWriter(str(path)) as writer:
        for number in range(DOCUMENTS):
            image = generator.bytes(_IMAGE_BYTES)
            writer.add(image=image, caption=f"picture {number} on a mat")
    return path


def _pages() -> list[tuple[int | str, ...]]:
    return [page_sets.PAGES[n % len(page_sets.PAGES)] for n in range(DOCUMENTS)]


def obelics(root: pathlib.Path) -> pathlib.Path:
    """Writes a Parquet file of pages, and images beside it."""
    rows = [page_sets.obelics_row(page) for page in _pages()]
    return page_sets.write_obelics(root, rows, group=1000)


def mmc4(root: pathlib.Path) -> pathlib.Path:
    """Writes JSON lines of pages, and images beside them."""
    return page_sets.write_mmc4(root, [page_sets.mmc4_line(page) for page in _pages()])


def captions(root: pathlib.Path) -> pathlib.Path:
    """Writes a TSV of captions and addresses, and the images beside it."""
    generator = np.random.default_rng(0)
    lines = []
    for number in range(DOCUMENTS):
        name = f"{number:06d}.jpg"
        (root / name).write_bytes(generator.bytes(_IMAGE_BYTES))
        lines.append(f"picture {number} on a mat\thttps://host.org/{name}\n")
    path = root / "train.tsv"
    path.write_text("".join(lines))
    return path

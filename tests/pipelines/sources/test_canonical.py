"""Episodes through our own Parquet format, and what its reader says of damage."""

import gc
import pathlib
import re
import weakref
from collections.abc import Callable
from typing import Any

import building
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import raw_inputs
from episode_source import episodes, read, verdicts
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gato.pipelines import verify
from gato.pipelines.sources import base, parquet, parquet_rows, row_stream
from gato.pipelines.sources.canonical_writer import EpisodeWriter
from gato.pipelines.sources.parquet import ParquetSource
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Space, Unreadable
from gato.schemas.errors import Reason, UsageError
from gato.schemas.manifest import load_dataset_manifest

LENGTHS = (7, 10, 3, 10, 1, 10, 10, 4)


def dataset(**options: Any) -> Dataset:
    return Dataset(name="set", format="parquet", paths=("raw/*",), **options)


def read_items(path: pathlib.Path, **options: Any) -> list[Any]:
    return read(path, f"robot/{path.name}", dataset(**options))


def write(
    path: pathlib.Path, lengths: tuple[int, ...] = LENGTHS, **options: Any
) -> Any:
    """Writes episodes of such lengths; returns them as they were given."""
    generator = np.random.default_rng(len(lengths))
    given = []
    path.parent.mkdir(parents=True, exist_ok=True)
    with EpisodeWriter(str(path), **options) as writer:
        for number, steps in enumerate(lengths):
            given.append(
                {
                    "episode_id": f"log-{number}",
                    "observations": {
                        "camera": generator.integers(
                            0, 256, (steps, 16, 16, 3), np.uint8
                        ),
                        "arm": {"joints": generator.normal(size=(steps, 5))},
                        "goal": [f"höher {number}"] * steps,
                    },
                    "actions": generator.uniform(-1, 1, (steps, 2)).astype(np.float32),
                    "rewards": generator.normal(size=steps),
                    "task": f"task{number % 2}",
                    "agent": "human",
                    "success": number % 3 == 0,
                    "is_terminated": number % 2 == 0,
                }
            )
            writer.add(**given[-1])
    return given


def table_of(path: pathlib.Path) -> pa.Table:
    return pq.read_table(path)


def rewrite(path: pathlib.Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(table_of(path)), path, row_group_size=20)


def same(ours: Any, given: Any) -> None:
    """Asserts that a column came back as it was given."""
    if isinstance(given, np.ndarray):
        assert isinstance(ours, np.ndarray)
        assert ours.dtype == given.dtype
        np.testing.assert_array_equal(ours, given)
    else:
        texts = isinstance(given[0], str)
        assert [v.decode() if texts else v for v in ours] == given


def test_what_was_written_is_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "0.parquet"
    given = write(path, row_group_bytes=4000)
    assert pq.ParquetFile(path).num_row_groups > 3
    ours = episodes(read_items(path))
    assert [e.number for e in ours] == list(range(len(LENGTHS)))
    for number, (episode, wanted) in enumerate(zip(ours, given, strict=True)):
        assert episode.episode_id == f"robot/0.parquet/{number}"
        assert (episode.task, episode.agent) == (wanted["task"], "human")
        assert episode.success == wanted["success"]
        assert set(episode.observations) == {"camera", "arm/joints", "goal"}
        same(episode.observations["camera"], wanted["observations"]["camera"])
        same(
            episode.observations["arm/joints"], wanted["observations"]["arm"]["joints"]
        )
        same(episode.observations["goal"], wanted["observations"]["goal"])
        same(episode.actions["action"], wanted["actions"])
        same(episode.rewards, wanted["rewards"])


NUMBERS = st.sampled_from(
    [np.bool_, np.int8, np.uint8, np.int64, np.uint64, np.float16, np.float32, "f8"]
)


@st.composite
def columns(draw: st.DrawFn, steps: list[int], texts: bool) -> list[Any]:
    """A column of each episode, of one type and shape."""
    kind = draw(st.sampled_from(["array", "text", "bytes"] if texts else ["array"]))
    if kind == "array":
        shape = draw(st.lists(st.integers(1, 3), max_size=3))
        dtype = draw(NUMBERS)
        return [draw(arrays.arrays(dtype, (each, *shape))) for each in steps]
    value = st.text(max_size=5) if kind == "text" else st.binary(max_size=5)
    return [draw(st.lists(value, min_size=each, max_size=each)) for each in steps]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_round_trip(data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=5), "steps")
    keys = st.sampled_from(["a", "a/b", "a.b", "ä", "step"])
    seen = {
        key: data.draw(columns(steps, True), key)
        for key in data.draw(st.sets(keys, min_size=1))
    }
    done = {key: data.draw(columns(steps, False)) for key in data.draw(st.sets(keys))}
    done["action"] = data.draw(columns(steps, False), "action")
    group = data.draw(st.sampled_from([1, 200, 1 << 20]), "row_group_bytes")
    path = "memory://test_canonical/0.parquet"
    with EpisodeWriter(path, row_group_bytes=group) as writer:
        for number, each in enumerate(steps):
            writer.add(
                episode_id=str(number),
                observations={key: column[number] for key, column in seen.items()},
                actions={key: column[number] for key, column in done.items()},
                rewards=np.zeros(each),
            )
    ours = episodes(read(path, "0.parquet", dataset()))
    assert [len(e.rewards) for e in ours] == steps
    for number, episode in enumerate(ours):
        assert set(episode.observations) == set(seen)
        assert set(episode.actions) == set(done)
        for key, column in seen.items():
            same(episode.observations[key], column[number])
        for key, column in done.items():
            same(episode.actions[key], column[number])
    files.remove(path)


def test_spaces_of_actions(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "0.parquet"
    low, high = np.array([-2.0, 0.0]), np.array([2.0, 1.0])
    spaces = {"action": Space(low=low, high=high)}
    write(path, action_spaces=spaces)
    (episode, *_) = episodes(read_items(path))
    assert episode.action_spaces["action"].low is not None
    np.testing.assert_array_equal(episode.action_spaces["action"].low, low)
    np.testing.assert_array_equal(episode.action_spaces["action"].high, high)
    with EpisodeWriter(str(path), action_spaces={"key": Space(num_values=7)}) as writer:
        keys = np.arange(3)
        writer.add(
            episode_id="0",
            observations=np.zeros((3, 2)),
            actions={"key": keys, "more": keys / 3},
            rewards=np.zeros(3),
        )
    (episode,) = episodes(read_items(path))
    assert episode.action_spaces == {"key": Space(num_values=7), "more": Space()}
    assert (episode.task, episode.agent) == ("robot/0", "robot/0")


@pytest.mark.parametrize("limit", [1, 9_000, 20_000, 10**9])
def test_partitions_are_runs_of_whole_episodes(
    tmp_path: pathlib.Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "0.parquet"
    write(path, row_group_bytes=5000)
    whole = episodes(read_items(path))
    monkeypatch.setattr(base, "MAX_PARTITION_BYTES", limit)
    monkeypatch.setattr(parquet, "_MAX_BATCH_ROWS", 3)
    parts = ParquetSource().partition(str(path), "robot/0.parquet", dataset())
    assert (len(parts) == 1) == (limit == 10**9)
    assert sum(p.num_items or 0 for p in parts) == len(LENGTHS)
    assert [p.stop for p in parts[:-1]] == [p.start for p in parts[1:]]
    again = episodes(read_items(path))
    assert [e.episode_id for e in again] == [e.episode_id for e in whole]
    for before, after in zip(whole, again, strict=True):
        same(after.observations["camera"], before.observations["camera"])


def test_bytes_take_one_byte_and_streams_are_freed(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "0.parquet"
    frames = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), np.uint8)
    with EpisodeWriter(str(path)) as writer:
        writer.add(
            episode_id="0",
            observations=frames,
            actions=np.zeros(64),
            rewards=np.zeros(64),
        )
    assert path.stat().st_size < 1.1 * frames.nbytes
    gc.collect()
    gc.disable()  # what is left is freed at once or held by a cycle
    try:
        with parquet_rows.open_parquet(str(path)) as file:
            stream = row_stream.RowStream(file, file.schema_arrow.names, 0, 16)
            stream.take(0, 3)
            held = weakref.ref(stream)
            del stream
            assert held() is None
    finally:
        gc.enable()


def encoded(steps: int) -> list[bytes]:
    frame = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    return [cv2.imencode(".png", frame + step)[1].tobytes() for step in range(steps)]


def plain_table(**more: Any) -> pa.Table:
    """A table as one who has only pyarrow, or pandas, would make it."""
    columns: dict[str, Any] = {
        "episode_id": [4, 4, 4, 9, 9],
        "step": [0, 1, 2, 0, 1],
        "reward": [0, 0, 1, 0, 1],
        "observation/picture": encoded(5),
        "observation/grid": [[[step, 2], [3, 4]] for step in range(5)],
        "observation/goal": pa.array(["up"] * 5).dictionary_encode(),
        "action/turn": [True, False, True, True, False],
        "info/solved": [False, False, True, False, False],
        "info/note": [None] * 5,
    }
    return pa.table(columns | more)


def test_what_others_write(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "0.parquet"
    pq.write_table(plain_table(), path)
    options: dict[str, Any] = {"filter": {"by": "success", "success_key": "solved"}}
    first, second = episodes(read_items(path, **options))
    assert (first.success, second.success) == (True, False)
    same(first.observations["picture"], encoded(3))
    same(first.observations["goal"], ["up"] * 3)
    same(second.observations["grid"], np.array([[[3, 2], [3, 4]], [[4, 2], [3, 4]]]))
    same(second.actions["turn"], np.array([True, False]))
    same(first.rewards, np.array([0.0, 0.0, 1.0]))
    (one, _) = episodes(read_items(path, task="Mine", agent="me"))
    assert (one.task, one.agent, one.success) == ("Mine", "me", None)


@pytest.mark.parametrize(
    ("more", "reason", "words"),
    [
        ({"step": [0, 1, 2, 1, 2]}, Reason.WRONG_SHAPE, "got [1, 2]. Sort the file"),
        ({"reward": [0.0, 0, 0, None, 1]}, Reason.MISSING_FIELD, "1 nulls"),
        ({"reward": ["0"] * 5}, Reason.WRONG_DTYPE, "rewards must be numbers"),
        (
            {"action/turn": [0, 0, 0, None, 1]},
            Reason.MISSING_FIELD,
            "'action/turn' has a value for each step",
        ),
        (
            {"observation/grid": [[1, 2], [3, 4], [5, 6], [7], [8, 9]]},
            Reason.WRONG_SHAPE,
            "lengths 1 and 2",
        ),
        (
            {"observation/grid": [[1], [3], [5], [None], [8]]},
            Reason.MISSING_FIELD,
            "1 nulls",
        ),
        (
            {"terminated": [False, False, True, False, False]},
            Reason.CORRUPT_EPISODE,
            "these are: []",
        ),
        (
            {
                "terminated": [False, False, True, True, True],
                "truncated": [False] * 5,
            },
            Reason.CORRUPT_EPISODE,
            "these are: [0, 1]",
        ),
        (
            {"task": ["a", "a", "a", "a", "b"]},
            Reason.SPEC_MISMATCH,
            "an episode has one task",
        ),
        ({"agent": range(5)}, Reason.WRONG_DTYPE, "'agent' holds text"),
        (
            {"task": pa.array([b"a", b"a", b"a", b"\xff", b"\xff"])},
            Reason.NOT_UTF8,
            "'task' is UTF-8",
        ),
    ],
)
def test_one_bad_episode_costs_one(
    tmp_path: pathlib.Path, more: dict[str, Any], reason: Reason, words: str
) -> None:
    path = tmp_path / "0.parquet"
    pq.write_table(plain_table(**more), path)
    items = read_items(path)
    assert [item.number for item in items] == [0, 1]
    bad = items[-1]
    assert isinstance(bad, Unreadable)
    assert (bad.reason, bad.item_id) == (reason, "robot/0.parquet/1")
    assert words in bad.detail


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        (lambda t: t.drop_columns("step"), Reason.MISSING_FIELD, "'step'"),
        (lambda t: t.drop_columns("action/turn"), Reason.MISSING_FIELD, "action/<key>"),
        (
            lambda t: t.append_column("observations/x", t["reward"]),
            Reason.UNSUPPORTED,
            "got 'observations/x'",
        ),
        (
            lambda t: t.append_column("reward", t["reward"]),
            Reason.UNSUPPORTED,
            "'reward' twice",
        ),
        (
            lambda t: t.replace_schema_metadata({"gato_episodes": "2"}),
            Reason.UNSUPPORTED,
            "of version 1",
        ),
        (
            lambda t: t.set_column(0, "episode_id", pa.array([1, 1, None, 2, 2])),
            Reason.MISSING_FIELD,
            "1 nulls",
        ),
        (
            lambda t: t.cast(
                pa.schema(
                    f.with_metadata({"low": "up"}) if f.name == "action/turn" else f
                    for f in t.schema
                )
            ),
            Reason.WRONG_DTYPE,
            "as JSON numbers",
        ),
    ],
)
def test_a_file_of_other_columns(
    tmp_path: pathlib.Path,
    change: Callable[[pa.Table], pa.Table],
    reason: Reason,
    words: str,
) -> None:
    path = tmp_path / "0.parquet"
    pq.write_table(change(plain_table()), path)
    items = read_items(path)
    assert {item.reason for item in items} == {reason}
    assert words in items[0].detail


def test_interleaved_episodes_are_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "0.parquet"
    order = [0, 3, 1, 4, 2]
    pq.write_table(plain_table().take(order), path)
    assert {reason for _, reason in verdicts(read_items(path))} == {Reason.WRONG_SHAPE}


def test_damaged_files(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "0.parquet"
    write(path, row_group_bytes=9000)
    (partition,) = ParquetSource().partition(str(path), "x.parquet", dataset())
    whole = path.read_bytes()
    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    index = names.index("observation/camera")
    chunk = file.metadata.row_group(1).column(index)
    damaged = bytearray(whole)
    damaged[chunk.data_page_offset : chunk.data_page_offset + 40] = b"\xff" * 40
    path.write_bytes(damaged)
    items = read_items(path)
    assert len(items) == len(LENGTHS)
    lost = verdicts(items)
    assert 0 < len(lost) < len(LENGTHS) - 1
    assert {reason for _, reason in lost} == {Reason.CORRUPT_FILE}
    for content in (whole[:-9], b"", b"PAR1"):
        path.write_bytes(content)
        assert verdicts(read_items(path)) == [(0, Reason.CORRUPT_FILE)]
        promised: Any = list(ParquetSource().read(partition, dataset()))
        assert verdicts(promised) == [
            (number, Reason.CORRUPT_FILE) for number in range(len(LENGTHS))
        ]


@pytest.mark.parametrize("name", ["a folder.parquet", "a.csv"])
def test_a_path_is_a_parquet_file(tmp_path: pathlib.Path, name: str) -> None:
    path = tmp_path / name
    if "folder" in name:
        path.mkdir()
    with pytest.raises(UsageError, match="a path of format parquet is a Parquet file"):
        ParquetSource().files(str(path))


def test_only_what_is_wanted_is_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "0.parquet"
    write(path)
    (episode, *_) = episodes(read_items(path, observations={"exclude": ["camera"]}))
    assert set(episode.observations) == {"arm/joints", "goal"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rewards": []}, "T > 0"),
        ({"rewards": np.zeros((2, 2))}, "T > 0"),
        ({"actions": np.zeros((3, 2))}, "as many as there are rewards"),
        ({"actions": np.zeros((2, 0))}, "of shape"),
        ({"actions": {}}, "got none"),
        ({"observations": {"": np.zeros(2)}}, "are strings"),
        ({"observations": ["a", b"b"]}, "not both"),
        ({"observations": np.array([None, 1])}, "got object"),
        ({"observations": np.zeros((2, 3))}, "'observation/observation' was"),
        ({"task": "other"}, "'task' was not there"),
        ({"episode_id": "0"}, "two episodes in a row"),
    ],
)
def test_what_cannot_be_written(
    tmp_path: pathlib.Path, change: dict[str, Any], words: str
) -> None:
    good: dict[str, Any] = {
        "episode_id": "0",
        "observations": np.zeros((2, 4)),
        "actions": np.zeros((2, 1)),
        "rewards": np.zeros(2),
    }
    second: dict[str, Any] = good | {"episode_id": "1"} | change
    path = tmp_path / "0.parquet"

    def attempt() -> None:
        with EpisodeWriter(str(path), row_group_bytes=1) as writer:
            writer.add(**good)
            writer.add(**second)

    with pytest.raises(ValueError, match=re.escape(words)):
        attempt()
    assert list(tmp_path.iterdir()) == []


def test_writers_that_are_not_used_as_meant(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.parquet"):
        EpisodeWriter(str(tmp_path / "a.csv"))
    path = str(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="at least one episode"), EpisodeWriter(path):
        pass
    rest = {"observations": np.zeros(1), "actions": np.zeros(1), "rewards": [0.0]}
    with pytest.raises(ValueError, match="`with` block"):
        EpisodeWriter(path).add(episode_id="0", **rest)
    writer = EpisodeWriter(path, action_spaces={"x": Space()})
    with pytest.raises(ValueError, match="action_spaces has 'x'"), writer:
        writer.add(episode_id="0", **rest)
    assert list(tmp_path.iterdir()) == []


def test_a_build_reads_it(tmp_path: pathlib.Path) -> None:
    given = write(tmp_path / "raw" / "0.parquet", row_group_bytes=9000)
    write(tmp_path / "raw" / "1.parquet", (3, 2))
    entry: dict[str, Any] = {
        "name": "robot",
        "format": "parquet",
        "paths": ["raw/*.parquet"],
        "filter": {"by": "none"},
    }
    config = raw_inputs.write_config(
        tmp_path / "build.yaml",
        [entry],
        sequence_length=128,
        prompts={"max_tokens": 64},
    )
    output = tmp_path / "out"
    assert building.run_build(config, output) == 0
    assert verify.main([str(output)]) == 0
    manifest = load_dataset_manifest(str(output / "robot"))
    assert manifest.episodes is not None
    assert manifest.episodes.kept == len(given) + 2
    assert set(manifest.tasks) == {"task0", "task1"}

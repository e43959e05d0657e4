"""Our LeRobot reader beside LeRobot's own, whose files and findings are in testdata."""

import importlib.util
import json
import pathlib
import shutil
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from episode_source import episodes, read, verdicts

from gato.pipelines.sources import base, video
from gato.pipelines.sources.lerobot import LerobotSource
from gato.schemas.config import Dataset
from gato.schemas.episode import Unreadable
from gato.schemas.errors import Reason, UsageError

TESTDATA = pathlib.Path(__file__).parents[2] / "testdata" / "lerobot"
LENGTHS = [6, 3, 5, 4, 2]
VERSIONS = ("v21", "v30")
WRIST = "observation.images.wrist"


def dataset(**settings: Any) -> Dataset:
    return Dataset(name="set", format="lerobot", paths=("raw/*",), **settings)


def read_items(path: pathlib.Path, **settings: Any) -> list[Any]:
    return read(path, f"toy/{path.name}", dataset(**settings))


@pytest.fixture(params=VERSIONS)
def path(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of a data set, to damage."""
    return pathlib.Path(
        shutil.copytree(TESTDATA / request.param / "reach", tmp_path / "reach")
    )


def decoded(images: Any) -> np.ndarray:
    """Returns RGB pixels of encoded images."""
    pixels: list[Any] = [
        cv2.imdecode(np.frombuffer(i, np.uint8), cv2.IMREAD_COLOR) for i in images
    ]
    return np.stack(pixels)[..., ::-1]


@pytest.mark.parametrize("version", VERSIONS)
def test_reads_what_lerobot_reads(version: str) -> None:
    found = episodes(read_items(TESTDATA / version / "reach"))
    assert [e.number for e in found] == list(range(5))
    assert [len(e.rewards) for e in found] == LENGTHS
    with np.load(TESTDATA / f"{version}.npz") as theirs:
        wanted = {key for key in theirs if key.startswith("observation")} | {"task"}
        for episode in found:
            rows = theirs["episode_index"] == episode.number
            assert set(episode.observations) == wanted
            for key, column in episode.observations.items():
                ours = decoded(column) if key == WRIST else np.asarray(column)
                expected = theirs[key][rows]
                assert ours.dtype == expected.dtype or key == "task"
                np.testing.assert_array_equal(ours.reshape(expected.shape), expected)
            np.testing.assert_array_equal(
                episode.actions["action"], theirs["action"][rows]
            )
            np.testing.assert_array_equal(episode.rewards, theirs["next.reward"][rows])
            assert episode.success == theirs["next.success"][rows].any()


def test_names(path: pathlib.Path) -> None:
    first = episodes(read_items(path))[0]
    assert first.episode_id == "toy/reach/0"
    assert (first.task, first.agent) == ("reach", "toy/reach")
    assert first.observations["task"][0] == "push the block"
    assert np.shape(first.observations["observation.contact"]) == (6, 1)
    named = episodes(read_items(path, task="arm", agent="human"))[0]
    assert (named.task, named.agent) == ("arm", "human")


@pytest.mark.parametrize("most", [1, 2, 3])
def test_partitions(
    path: pathlib.Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = episodes(read_items(path))
    (one,) = LerobotSource().partition(str(path), "x", dataset())
    monkeypatch.setattr(base, "MAX_PARTITION_BYTES", one.num_bytes // 5 * most + 5)
    partitions = LerobotSource().partition(str(path), "x", dataset())
    assert [p.num_items for p in partitions] == {
        1: [1] * 5,
        2: [2, 2, 1],
        3: [3, 2],
    }[most]
    for before, after in zip(whole, episodes(read_items(path)), strict=True):
        assert before.episode_id == after.episode_id
        for key, column in before.observations.items():
            np.testing.assert_array_equal(column, after.observations[key])


def test_each_frame_is_decoded_once(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = []
    decode = video.VideoReader._decode

    def count(reader: video.VideoReader) -> Any:
        frame = decode(reader)
        if frame is not None:
            frames.append(frame.time)
        return frame

    monkeypatch.setattr(video.VideoReader, "_decode", count)
    episodes(read_items(path, observations={"exclude": ["*.side"]}))
    assert len(frames) == sum(LENGTHS)


def test_videos_that_are_not_wanted_are_not_opened(path: pathlib.Path) -> None:
    shutil.rmtree(path / "videos")
    exclude = ["*.top", "*.side", "task"]
    found = episodes(read_items(path, observations={"exclude": exclude}))
    assert set(found[0].observations) == {
        "observation.state",
        "observation.grid",
        "observation.contact",
        WRIST,
    }


def test_without_pyav(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'gato-pipelines\[video\]'"):
        read_items(path)
    assert len(read_items(path, observations={"exclude": ["*.images.*"]})) == 5


def test_a_later_start_seeks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "_SKIP_SECONDS", 0.0)
    (path,) = (TESTDATA / "v21").rglob("*top/episode_000000.mp4")
    reader = video.VideoReader(str(path))
    times = np.arange(6) / 10
    late = reader.frames(times[4:], 0.05)
    whole = reader.frames(times, 0.05)
    reader.close()
    np.testing.assert_array_equal(late, whole[4:])
    assert len({frame.tobytes() for frame in whole}) == 6


def change_info(path: pathlib.Path, **changes: Any) -> None:
    file = path / "meta" / "info.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_damaged_video_costs_the_episodes_in_it(path: pathlib.Path) -> None:
    file = sorted(path.rglob("videos/**/*top*/**/*.mp4"))[-1]
    file.write_bytes(file.read_bytes()[:200])
    items = read_items(path)
    bad = verdicts(items)
    assert {reason for _, reason in bad} == {Reason.CORRUPT_EPISODE}
    assert (4, Reason.CORRUPT_EPISODE) in bad
    assert (0, Reason.CORRUPT_EPISODE) not in bad
    assert len(items) == 5


def test_a_video_that_ends_early(path: pathlib.Path) -> None:
    change_info(path, fps=1000)
    tops = sorted(path.rglob("videos/**/*top*/**/*.mp4"))
    if (path / "meta" / "tasks.parquet").exists():
        shutil.copy(tops[-2], tops[-1])
    else:
        shutil.copy(tops[-1], tops[0])
    items = read_items(path)
    (bad, *_) = [item for item in items if isinstance(item, Unreadable)]
    assert bad.reason == Reason.CORRUPT_EPISODE
    assert "the nearest frame" in bad.detail


@pytest.mark.parametrize("column", ["action", "timestamp", "observation.state"])
def test_a_column_that_is_not_there(path: pathlib.Path, column: str) -> None:
    file = sorted(path.rglob("data/**/*.parquet"))[-1]
    pq.write_table(pq.read_table(file).drop_columns(column), file)
    items = read_items(path)
    assert (4, Reason.MISSING_FIELD) in verdicts(items)
    assert column in items[4].detail


def test_rows_of_another_episode(path: pathlib.Path) -> None:
    file = sorted(path.rglob("data/**/*.parquet"))[-1]
    table = pq.read_table(file)
    place = table.column_names.index("episode_index")
    wrong = pq.read_table(file)["index"]
    pq.write_table(table.set_column(place, "episode_index", wrong), file)
    items = read_items(path)
    assert (4, Reason.CORRUPT_EPISODE) in verdicts(items)
    assert "must be those of episode 4" in items[4].detail


def test_a_truncated_table(path: pathlib.Path) -> None:
    file = sorted(path.rglob("data/**/*.parquet"))[-1]
    file.write_bytes(file.read_bytes()[:-100])
    assert (4, Reason.CORRUPT_EPISODE) in verdicts(read_items(path))


def test_a_promised_episode_that_is_not_there(path: pathlib.Path) -> None:
    change_info(path, total_episodes=6)
    assert verdicts(read_items(path)) == [(5, Reason.CORRUPT_FILE)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"codebase_version": "v1.6"}, Reason.UNSUPPORTED),
        ({"fps": 0}, Reason.UNSUPPORTED),
        ({"fps": "fast"}, Reason.CORRUPT_FILE),
        ({"features": []}, Reason.CORRUPT_FILE),
        ({"data_path": "../../{episode_index}"}, Reason.UNSAFE_PATH),
        ({"data_path": "{no_such_key}"}, Reason.CORRUPT_FILE),
    ],
)
def test_metadata_that_cannot_be_used(
    path: pathlib.Path, changes: dict[str, Any], reason: Reason
) -> None:
    if "data_path" in changes and (path / "meta" / "tasks.parquet").exists():
        changes = {"data_path": changes["data_path"].replace("episode", "file")}
    change_info(path, **changes)
    (item,) = read_items(path)
    assert isinstance(item, Unreadable)
    assert (item.item_id, item.reason) == (None, reason)


def test_videos_of_depths_are_refused(path: pathlib.Path) -> None:
    info = json.loads((path / "meta" / "info.json").read_text())
    info["features"]["observation.images.top"]["info"]["video.is_depth_map"] = True
    change_info(path, **info)
    items = read_items(path)
    assert verdicts(items) == [(n, Reason.UNSUPPORTED) for n in range(5)]
    assert len(episodes(read_items(path, observations={"exclude": ["*.top"]}))) == 5


def test_a_path_is_a_data_sets_folder(tmp_path: pathlib.Path) -> None:
    shutil.copytree(TESTDATA / "v30" / "reach", tmp_path / "reach")
    with pytest.raises(UsageError, match=r"give .*/\*"):
        LerobotSource().files(str(tmp_path))
    listed = LerobotSource().files(str(tmp_path / "reach"))
    assert len(listed) == len([f for f in tmp_path.rglob("*.*") if f.is_file()])


def test_several_files_of_rows(tmp_path: pathlib.Path) -> None:
    path = pathlib.Path(shutil.copytree(TESTDATA / "v30/reach", tmp_path / "reach"))
    whole = episodes(read_items(path))
    first = path / "data" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(first)
    cut = sum(LENGTHS[:2])
    pq.write_table(table.slice(cut), first.with_name("file-001.parquet"))
    pq.write_table(table.slice(0, cut), first)
    (meta,) = (path / "meta" / "episodes").rglob("*.parquet")
    rows = pq.read_table(meta)
    place = rows.column_names.index("data/file_index")
    index = pa.array([0, 0, 1, 1, 1])
    pq.write_table(rows.set_column(place, "data/file_index", index), meta)
    for before, after in zip(whole, episodes(read_items(path)), strict=True):
        np.testing.assert_array_equal(before.actions["action"], after.actions["action"])

"""What an evaluation shows: videos, plots, and others' results beside its own."""

import io
import json
import xml.etree.ElementTree

import av
import cv2
import numpy as np
import pytest
import rich.console
from suites import SUPPORT, TASK, Stubborn, trained, write_suite

from gato.model.evaluation import rollouts
from gato.model.evaluation.beside import load_results
from gato.model.evaluation.plots import (
    check_plot_can_be_drawn,
    draw_thresholds,
    tasks_at_or_above,
)
from gato.model.evaluation.report import Report
from gato.model.evaluation.rollouts import Episode
from gato.model.evaluation.suite import load_suite
from gato.model.evaluation.videos import Video, check_videos_can_be_written
from gato.schemas.errors import UsageError


@pytest.fixture(autouse=True)
def _toys_are_found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))


def play(suite, videos, episodes=2):
    contests = load_suite(suite, trained())
    arena = rollouts.Arena(contests, Stubborn(rows=1), [0], 60.0, videos=videos)
    try:
        return list(arena.play(rollouts.evaluation_seeds(0, episodes)))
    finally:
        arena.close()


def test_the_first_episodes_are_filmed_and_the_others_not(tmp_path):
    suite = write_suite(tmp_path / "s.yaml", {"environment": TASK, "max_steps": 6})
    path = tmp_path / "films" / "one.mp4"
    first, second = play(suite, {(0, 2**30): str(path)})
    assert (first.video, first.no_video) == (str(path), None)
    assert (second.video, second.no_video) == (None, None)
    assert first.steps == 6
    with av.open(str(path)) as found:
        frames = [frame.to_ndarray(format="rgb24") for frame in found.decode(video=0)]
    # What is seen at the start and after each step.
    assert len(frames) == 7
    assert frames[0].shape == (256, 256, 3)
    assert frames[0].std() > 10


def test_an_environment_that_cannot_be_drawn_is_played_all_the_same(tmp_path):
    suite = write_suite(tmp_path / "s.yaml", {})
    path = tmp_path / "one.mp4"
    first, _ = play(suite, {(0, 2**30): str(path)})
    assert (first.reward, first.failure, first.video) == (4, None, None)
    assert first.no_video is not None
    assert "render_mode" in first.no_video
    assert not path.exists()


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_a_video_holds_the_frames_it_was_given(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    video = Video(str(path), 10)
    for level in (10, 120, 240):
        video.add(np.full((33, 49, 3), level, np.uint8))
    assert not path.exists()
    video.finish()
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    capture = cv2.VideoCapture(str(path))
    levels = []
    while (taken := capture.read())[0]:
        levels.append(float(taken[1].mean()))
    np.testing.assert_allclose(levels, [10, 120, 240], atol=6)


def test_what_cannot_be_drawn_is_refused_before_the_run(monkeypatch):
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        check_plot_can_be_drawn("plot.pdf")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install matplotlib"):
        check_plot_can_be_drawn("plot.svg")
    with pytest.raises(UsageError, match="gif"):
        check_videos_can_be_written("mp4")
    check_videos_can_be_written("gif")


def test_thresholds_count_the_tasks_that_reach_them(tmp_path):
    counts = tasks_at_or_above([-5.0, 50.0, 100.0])
    assert len(counts) == 101
    assert [counts[at] for at in (0, 50, 51, 100)] == [2, 2, 1, 1]
    path = tmp_path / "plots" / "x.svg"
    draw_thresholds(str(path), {"gato": [50.0], "bc_imp": [20.0]})
    assert b"bc_imp" in path.read_bytes()
    xml.etree.ElementTree.parse(path)
    drawn = path.read_bytes()
    draw_thresholds(str(path), {"gato": [50.0], "bc_imp": [20.0]})
    assert path.read_bytes() == drawn
    draw_thresholds(str(tmp_path / "x.png"), {"gato": [50.0]})
    picture = cv2.imread(str(tmp_path / "x.png"))
    assert picture is not None
    assert picture.std() > 5


def report(tmp_path, beside=(), reward=0.5):
    suite = write_suite(tmp_path / "s.yaml", {"random_return": 0, "expert_return": 1})
    episodes = [
        Episode(task=0, seed=seed, steps=1, reward=reward, success=True)
        for seed in range(3)
    ]
    return Report(load_suite(suite, trained()), episodes, beside)


def test_results_stand_beside_each_other(tmp_path):
    path = tmp_path / "bc_imp-s.json"
    path.write_text(json.dumps(report(tmp_path).as_json({"policy": "bc_imp"})))
    made = report(tmp_path, load_results([str(path)]), reward=0.9)
    (other,) = made.as_json({})["beside"].values()
    assert other["overall"]["mean"] == pytest.approx(50)
    table = made.table()
    assert table.columns[-1].header == "bc_imp-s"
    assert list(table.columns[-1].cells) == ["50.0 (50 to 50)"] * 3
    assert made.curves("mine") == {
        "mine": [pytest.approx(90)],
        "bc_imp-s": [pytest.approx(50)],
    }


def test_a_tables_tasks_have_their_whole_names(tmp_path):
    """In a narrow one, too: some differ in their ends alone."""
    console = rich.console.Console(width=100, file=io.StringIO(), record=True)
    console.print(report(tmp_path).table())
    lines = console.export_text().splitlines()
    cells = [line.split("│")[1].strip() for line in lines if line.startswith("│")]
    assert "".join(cells).startswith(TASK)
    assert cells[0] != TASK, "the table is not narrow"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"tasks": [{"domain": 1}]}'])
def test_a_file_that_is_no_result_is_refused(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"x\.json: not a result"):
        load_results([str(path)])
    with pytest.raises(UsageError, match="no such result"):
        load_results([str(tmp_path / "y.json")])


def test_results_of_one_name_are_refused(tmp_path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps(report(tmp_path).as_json({})))
    with pytest.raises(UsageError, match="more than once"):
        load_results([str(path), str(path)])


def test_held_out_tasks_are_summed_beside_the_others(tmp_path):
    reference = {"random_return": 0, "expert_return": 1}
    suite = write_suite(
        tmp_path / "s.yaml",
        reference | {"held_out": True},
        reference | {"held_out": False},
        reference | {"held_out": False},
    )
    episodes = [
        Episode(task=task, seed=seed, steps=1, reward=reward, success=None)
        for task, reward in enumerate((0.1, 0.5, 0.9))
        for seed in range(2)
    ]
    made = Report(load_suite(suite, trained()), episodes)
    found = {name: one.mean for name, one in made.by_novelty.items()}
    assert found == {
        "held out": pytest.approx(10),
        "in distribution": pytest.approx(70),
    }
    assert "held out" in made.as_json({})["by_novelty"]
    (names, data) = (list(column.cells) for column in made.table().columns[:2])
    assert list(zip(names, data, strict=True))[3:] == [
        ("mean of tasks", "in distribution"),
        ("mean of tasks", "held out"),
        ("mean of grids", ""),
        ("mean of domains", ""),
    ]
    assert report(tmp_path).by_novelty == {}

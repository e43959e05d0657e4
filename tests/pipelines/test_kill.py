"""`kill -9` of a build at any place, then the same command (design.md section 2).

CI kills one output once in each stage; the whole series is

    pytest -m long tests/pipelines/test_kill.py
"""

import pathlib
from typing import Any

import building
import killing
import pytest

STAGES = ("tokenize", "plan", "assemble", "finish")


def assert_killed_in(stage: str, output: pathlib.Path, num_fragments: int) -> None:
    """Asserts that the build is incomplete, and that it had come to the stage."""
    manifests = building.manifests(output)
    assert "manifest.json" not in manifests
    fragments = building.footers(output)
    shards = building.identities(output, "*/*-of-*.tfrecord*")
    if stage != "finish":
        assert manifests == []
    if stage == "tokenize":
        assert shards == {}
    else:
        assert len(fragments) == num_fragments
    if stage == "plan":
        assert shards == {}
    if stage in ("assemble", "finish"):
        assert shards


def assert_not_made_again(before: killing.Remains, output: pathlib.Path) -> None:
    after = killing.remains(output)
    assert after.footers.items() >= before.footers.items()
    assert after.summaries.items() >= before.summaries.items()


HANDFUL = [
    killing.PLACES[3],  # two fragments stand, the third has no footer yet
    killing.PLACES[9],
    killing.PLACES[15],  # one shard stands, the second has no summary yet
    killing.PLACES[19],  # one data set's manifest stands
]


@pytest.mark.slow
def test_killed_once_in_each_stage(undisturbed: Any, tmp_path: pathlib.Path) -> None:
    assert tuple(place.stage for place in HANDFUL) == STAGES
    output = tmp_path / "out"
    before = killing.Remains({}, {})
    for place in HANDFUL:
        killing.kill_at(place, undisturbed.config, output, "--keep_fragments")
        assert_killed_in(place.stage, output, num_fragments=8)
        assert_not_made_again(before, output)
        before = killing.remains(output)
    assert len(before.footers) == 8
    assert len(before.summaries) == 9
    assert building.run_build(undisturbed.config, output, "--keep_fragments") == 0
    assert_not_made_again(before, output)
    assert building.contents(output) == undisturbed.contents


@pytest.mark.long
def test_killed_in_the_clean_up(undisturbed: Any, tmp_path: pathlib.Path) -> None:
    output = tmp_path / "out"
    killing.kill_at(killing.CLEAN_UP, undisturbed.config, output)
    # The build was complete: one data set's fragments were gone, the others not.
    assert (output / "manifest.json").exists()
    assert len(list((output / "_fragments").iterdir())) == 2
    finished = building.identities(output, "*/*")
    assert building.run_build(undisturbed.config, output) == 0
    assert building.identities(output, "*/*") == finished
    assert building.contents(output, fragments=True) == undisturbed.contents


@pytest.mark.long
@pytest.mark.parametrize("place", killing.PLACES, ids=str)
def test_killed_at_one_place(
    undisturbed: Any, tmp_path: pathlib.Path, place: killing.Place
) -> None:
    output = tmp_path / "out"
    killing.kill_at(place, undisturbed.config, output, "--keep_fragments")
    assert_killed_in(place.stage, output, num_fragments=8)
    before = killing.remains(output)
    assert building.run_build(undisturbed.config, output, "--keep_fragments") == 0
    assert_not_made_again(before, output)
    assert building.contents(output) == undisturbed.contents


@pytest.mark.long
def test_killed_again_and_again(undisturbed: Any, tmp_path: pathlib.Path) -> None:
    output = tmp_path / "out"
    before = killing.Remains({}, {})
    for stage, target in killing.PROGRESS.items():
        for call in range(1, 8):
            place = killing.Place(stage, target, call, "after")
            killing.kill_at(place, undisturbed.config, output)
            assert_killed_in(stage, output, num_fragments=8)
            assert_not_made_again(before, output)
            before = killing.remains(output)
            made = before.footers if stage == "tokenize" else before.summaries
            assert len(made) == call
    assert building.run_build(undisturbed.config, output) == 0
    assert building.contents(output, fragments=True) == undisturbed.contents


# Files that show where a build with two workers is, and how many of them.
SIGHTS = [
    ("tokenize", "_fragments/*/*.data*", 1),
    ("tokenize", "_fragments/*/*.footer", 2),
    ("tokenize", "_fragments/*/*.footer", 6),
    ("plan", "*/quarantine.jsonl", 1),
    ("plan", "*/quarantine.jsonl", 3),
    ("assemble", "*/*-of-*", 1),
    ("assemble", "*/*.tfrecord.json", 3),
]


@pytest.mark.long
@pytest.mark.parametrize(("stage", "pattern", "count"), SIGHTS)
def test_two_workers_killed(
    undisturbed: Any, tmp_path: pathlib.Path, stage: str, pattern: str, count: int
) -> None:
    output = tmp_path / "out"
    options = ("--keep_fragments",)
    killing.kill_with_workers(pattern, count, undisturbed.config, output, *options)
    assert building.manifests(output) == [], stage
    before = killing.remains(output)
    two = ("--direct_num_workers", "2")
    assert building.run_build(undisturbed.config, output, *options, *two) == 0
    assert_not_made_again(before, output)
    assert building.contents(output) == undisturbed.contents

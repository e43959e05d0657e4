"""Reads recorded data back (Minari data sets by Minari itself), and compares it."""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import minari
import numpy as np
import pytest

from gato.pipelines import record


@contextlib.contextmanager
def minari_root(folder: pathlib.Path) -> Iterator[None]:
    """Points Minari at a folder of data sets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        yield


def load(folder: pathlib.Path, dataset_id: str) -> minari.MinariDataset:
    """Returns a recorded data set."""
    with minari_root(folder):
        return minari.load_dataset(dataset_id)


def seeds(folder: pathlib.Path, dataset_id: str) -> list[int]:
    """Returns the seeds of a data set's episodes."""
    dataset = load(folder, dataset_id)
    about = dataset.storage.get_episode_metadata(range(dataset.total_episodes))
    return [int(episode["seed"]) for episode in about]


def _assert_equal(one: Any, two: Any) -> None:
    if isinstance(one, dict):
        assert set(one) == set(two)
        for key in one:
            _assert_equal(one[key], two[key])
    elif isinstance(one, list):
        assert one == list(two)
    else:
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)


def assert_same_episodes(one: minari.MinariDataset, two: minari.MinariDataset) -> None:
    """Compares all that is stored of two data sets' episodes."""
    assert one.total_episodes == two.total_episodes
    for a, b in zip(one.iterate_episodes(), two.iterate_episodes(), strict=True):
        _assert_equal(a.observations, b.observations)
        for name in ("actions", "rewards", "terminations", "truncations"):
            _assert_equal(getattr(a, name), getattr(b, name))
        # Where there are none, HDF5 gives None back and Arrow an empty dict.
        assert bool(a.infos) == bool(b.infos)
        if a.infos and b.infos:
            _assert_equal(a.infos["success"], b.infos["success"])


def assert_same_data_sets(
    one: pathlib.Path, two: pathlib.Path, dataset_ids: Sequence[str]
) -> None:
    """Compares all that is stored of data sets in two folders."""
    for dataset_id in dataset_ids:
        assert_same_episodes(load(one, dataset_id), load(two, dataset_id))


def assert_seeds_for_recording(
    folder: pathlib.Path, dataset_ids: Sequence[str], episodes: int
) -> None:
    """Checks that no two episodes share a seed, and none has one of evaluation."""
    drawn = [seed for dataset_id in dataset_ids for seed in seeds(folder, dataset_id)]
    assert len(set(drawn)) == len(dataset_ids) * episodes
    assert min(drawn) >= 0
    assert max(drawn) < 2**30


def changes(folder: pathlib.Path) -> dict[str, int]:
    """Returns each file with when it was last written, in ns."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_redoes_only(
    arguments: Sequence[str], folder: pathlib.Path, lost: str
) -> None:
    """Records, loses one data set as after a kill, and records again."""
    assert record.main(arguments) == 0
    before = changes(folder)
    # It never came to its place, its parts lie about.
    (folder / ".recording").mkdir()
    (folder / lost).rename(folder / ".recording" / "half")
    assert record.main(arguments) == 0
    after = changes(folder)
    assert set(after) == set(before)
    redone = {name.split("/data/")[0] for name in before if before[name] != after[name]}
    assert redone == {lost}


def assert_refused(
    arguments: Sequence[str],
    output: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    message: str,
) -> None:
    """Checks that a command ends in a usage error before it writes anything."""
    before = changes(output)
    assert record.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert changes(output) == before

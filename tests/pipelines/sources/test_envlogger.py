"""Our EnvLogger reader beside EnvLogger's own, on what that wrote, and on damage.

What needs the package `envlogger` is skipped where it is not installed, as it fits few
machines: `pip install envlogger==1.2` on Python 3.11. The files are written by
`tests/testdata/envlogger/make.py`.
"""

import itertools
import pathlib
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import raw_inputs
from building import run_build
from episode_source import episodes, read, verdicts

from gato.pipelines import verify
from gato.pipelines.sources import base
from gato.pipelines.sources.envlogger import EnvloggerSource
from gato.schemas.config import Dataset
from gato.schemas.episode import Column
from gato.schemas.errors import Reason, UsageError
from gato.schemas.manifest import load_dataset_manifest

DATA = pathlib.Path(__file__).parents[2] / "testdata" / "envlogger"
ARM = DATA / "arm"


def dataset(**settings: Any) -> Dataset:
    return Dataset(name="set", format="envlogger", paths=("raw/*",), **settings)


def read_items(path: pathlib.Path, **settings: Any) -> list[Any]:
    return read(path, f"logs/{path.name}", dataset(**settings))


@pytest.fixture(scope="module")
def library() -> Any:
    """EnvLogger's module of readers."""
    pytest.importorskip(
        "envlogger.backends.riegeli_backend_reader",
        reason="envlogger is not installed, or has no wheel that loads here",
        exc_type=ImportError,
    )
    return pytest.importorskip("envlogger.reader")


@pytest.fixture
def arm(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the five episodes, two a folder."""
    return pathlib.Path(shutil.copytree(ARM, tmp_path / "logs" / "arm"))


def folders(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(child for child in path.iterdir() if child.is_dir())


def leaves(value: Any, alone: str) -> dict[str, Any]:
    """Flattens the nesting that `make.py` writes."""
    if not isinstance(value, dict):
        return {alone: value}
    return {
        "/".join((name, *deep)): leaf
        for name, child in value.items()
        for deep, leaf in (
            [((key,), v) for key, v in child.items()]
            if isinstance(child, dict)
            else [((), child)]
        )
    }


def check_equal(columns: Mapping[str, Column], at: int, theirs: Any) -> None:
    assert columns.keys() == theirs.keys()
    for key, value in theirs.items():
        ours = np.asarray(columns[key][at])
        np.testing.assert_array_equal(ours, value)
        assert ours.dtype == np.asarray(value).dtype


@pytest.mark.parametrize("name", ["arm", "counter"])
def test_reads_what_envlogger_reads(library: Any, name: str) -> None:
    found = episodes(read_items(DATA / name))
    with library.Reader(data_directory=str(DATA / name)) as log:
        assert len(found) == len(log.episodes)
        for episode, recorded in zip(found, log.episodes, strict=True):
            steps = list(recorded)
            assert len(episode.rewards) == len(steps) - 1
            for at, (seen, done) in enumerate(itertools.pairwise(steps)):
                observation = leaves(seen.timestep.observation, "observation")
                check_equal(episode.observations, at, observation)
                check_equal(episode.actions, at, leaves(done.action, "action"))
                assert episode.rewards[at] == done.timestep.reward


def test_names(library: Any) -> None:
    found = episodes(read_items(ARM))
    ids = [f"logs/arm/{f.name}/{n}" for f in folders(ARM) for n in (0, 1)][:5]
    assert [e.episode_id for e in found] == ids
    assert [e.task for e in found] == [f"stack-{n % 2}" for n in range(5)]
    assert {e.agent for e in found} == {"a person"}
    assert [e.success for e in found] == [True, True, True, False, True]
    space = found[0].action_spaces["move"]
    np.testing.assert_array_equal(space.high, [1, 2])
    assert found[0].action_spaces["grip"].num_values == 3
    (first, second) = episodes(read_items(DATA / "counter"))
    assert (first.task, first.agent) == ("counter", "logs/counter")
    assert (len(first.rewards), len(second.rewards)) == (3, 4)
    (first, _) = episodes(read_items(DATA / "counter", task="count", agent="me"))
    assert (first.task, first.agent) == ("count", "me")


def test_partitions_are_ranges_of_a_folder(
    library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = episodes(read_items(ARM))
    monkeypatch.setattr(base, "MAX_PARTITION_BYTES", 1)
    partitions = EnvloggerSource().partition(str(ARM), "logs/arm", dataset())
    assert [p.start for p in partitions] == [0, 1, 0, 1, 0]
    split = episodes(read_items(ARM))
    assert [e.episode_id for e in split] == [e.episode_id for e in whole]
    for one, other in zip(split, whole, strict=True):
        np.testing.assert_array_equal(one.rewards, other.rewards)


Damage = Callable[[bytes], bytes | None]
DAMAGE: dict[str, Damage] = {
    "missing": lambda data: None,
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "other": lambda data: b"no Riegeli at all " * 9,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["steps", "step_offsets", "episode_index"])
def test_a_damaged_folder_costs_itself(
    library: Any, arm: pathlib.Path, name: str, damage: str
) -> None:
    folder = folders(arm)[1]
    file = folder / f"{name}.riegeli"
    content = DAMAGE[damage](file.read_bytes())
    file.unlink() if content is None else file.write_bytes(content)
    items = read_items(arm)
    if name == "steps" and damage != "missing":  # the indices say how many
        assert verdicts(items) == [(n, Reason.CORRUPT_EPISODE) for n in (0, 1)]
    else:
        assert verdicts(items) == [(0, Reason.CORRUPT_FILE)]
    lost = [item for item in items if not hasattr(item, "episode_id")]
    assert {item.source for item in lost} == {str(folder)}
    assert len(items) - len(lost) == 3


@pytest.mark.parametrize("damage", [d for d in DAMAGE if d != "missing"])
def test_damaged_metadata_is_told_for_each_folder(
    library: Any, arm: pathlib.Path, damage: str
) -> None:
    file = arm / "metadata.riegeli"
    content = DAMAGE[damage](file.read_bytes())
    assert content is not None
    file.write_bytes(content)
    assert verdicts(read_items(arm)) == [(0, Reason.CORRUPT_FILE)] * 3


def test_no_byte_that_changes_goes_unnoticed(library: Any, arm: pathlib.Path) -> None:
    whole = episodes(read_items(arm))
    generator = np.random.default_rng(0)
    num_told = 0
    for file in sorted(folders(arm)[0].iterdir()):
        content = file.read_bytes()
        for at in generator.integers(0, len(content), 6).tolist():
            changed = bytes([content[at] ^ 0x55])
            file.write_bytes(content[:at] + changed + content[at + 1 :])
            items = read_items(arm)
            num_told += bool(verdicts(items))
            good = [item for item in items if hasattr(item, "episode_id")]
            kept = {e.episode_id: e for e in whole}
            for item in good:
                np.testing.assert_array_equal(
                    item.rewards, kept[item.episode_id].rewards
                )
        file.write_bytes(content)
    assert num_told >= 12


def test_builds(library: Any, tmp_path: pathlib.Path) -> None:
    entry = {"name": "arm", "format": "envlogger", "paths": [str(ARM)]}
    config = raw_inputs.write_config(
        tmp_path / "build.yaml", [entry | {"filter": {"by": "none"}}]
    )
    output = tmp_path / "out"
    assert run_build(config, output) == 0
    assert verify.main([str(output)]) == 0
    assert load_dataset_manifest(str(output / "arm")).accounts.kept == 5


def test_files() -> None:
    found = EnvloggerSource().files(str(ARM))
    assert len(found) == 13
    assert all(name.endswith(".riegeli") for name in found)


def test_a_path_is_a_data_directory(arm: pathlib.Path) -> None:
    source = EnvloggerSource()
    with pytest.raises(UsageError, match=r"give .*/logs/\*$"):
        source.files(str(arm.parent))
    for wrong in (folders(arm)[0], arm / "metadata.riegeli", arm / "gone"):
        with pytest.raises(UsageError, match=r"a folder with metadata\.riegeli"):
            source.files(str(wrong))
    with pytest.raises(UsageError, match="local files only"):
        source.files("gs://bucket/logs")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envlogger.reader", None)
    with pytest.raises(UsageError, match=r"pip install envlogger==1\.2"):
        EnvloggerSource().partition(str(ARM), "logs/arm", dataset())
    part = base.Partition(
        path=str(folders(ARM)[0]), relative_path="logs/arm/x", num_items=2
    )
    items = list(EnvloggerSource().read(part, dataset()))
    assert verdicts(items) == [(n, Reason.UNSUPPORTED) for n in (0, 1)]

"""The same input, config and seed give the same bytes (design.md section 2)."""

import pathlib
import random
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import building
import pytest
import yaml

from gato.pipelines import stages
from gato.pipelines.assemble import ShardAssembler


@pytest.fixture
def shuffled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every source, every grouping and every side input in another order."""
    generator = random.Random(1)

    def mix(values: Iterable[Any]) -> list[Any]:
        mixed = list(values)
        generator.shuffle(mixed)
        return mixed

    real_create = beam.Create.__init__

    def create(self: Any, values: Any, reshuffle: bool = True) -> None:
        real_create(self, mix(values), reshuffle)

    monkeypatch.setattr(beam.Create, "__init__", create)
    for name in ("DecideTasks", "JudgeDataset", "PlanBucket", "AssembleShard"):
        mix_values(getattr(stages, name), monkeypatch, mix)
    real_expand = stages.FinishDataset.process

    def finish(self: Any, element: Any, verdicts: list[Any]) -> Iterator[str]:
        name, summaries = element
        yield from real_expand(self, (name, mix(summaries)), mix(verdicts))

    monkeypatch.setattr(stages.FinishDataset, "process", finish)


def mix_values(do_fn: Any, monkeypatch: pytest.MonkeyPatch, mix: Any) -> None:
    """Makes a DoFn see its grouped values in another order."""
    real = do_fn.process

    def process(self: Any, element: Any) -> Iterator[Any]:
        key, values = element
        yield from real(self, (key, mix(values)))

    monkeypatch.setattr(do_fn, "process", process)


@pytest.mark.usefixtures("shuffled")
def test_any_order_of_input_gives_the_same_bytes(
    undisturbed: Any, tmp_path: pathlib.Path
) -> None:
    # Without --keep_fragments, unlike `undisturbed`.
    assert building.run_build(undisturbed.config, tmp_path / "out") == 0
    assert building.contents(tmp_path / "out", fragments=True) == undisturbed.contents


def test_order_of_data_sets_and_paths_does_not_count(
    undisturbed: Any, tmp_path: pathlib.Path
) -> None:
    content = yaml.safe_load(undisturbed.config.read_text(encoding="utf-8"))
    content["datasets"] = content["datasets"][::-1]
    text, _, walk = content["datasets"]
    text["paths"] = ["raw/text/1*", "raw/text/[01].*"]
    walk["paths"] = ["raw/toy/*[34]/*", "raw/toy/*2/*", "raw/toy/*[01]/*"]
    config = undisturbed.config.with_name("reversed.yaml")
    config.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    assert building.run_build(config, tmp_path / "out") == 0
    found = building.contents(tmp_path / "out")
    assert rows_of(found) == rows_of(undisturbed.contents)


def rows_of(contents: dict[str, str]) -> dict[str, str]:
    """Leaves out manifests, which repeat the config."""
    return {n: c for n, c in contents.items() if not n.endswith("manifest.json")}


def test_folders_do_not_count(
    undisturbed: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The input elsewhere with the same times, seen from another working directory."""
    moved = pathlib.Path(shutil.copytree(undisturbed.config.parent, tmp_path / "in"))
    monkeypatch.chdir(moved)
    assert building.run_build(pathlib.Path("build.yaml"), pathlib.Path("../out")) == 0
    assert building.contents(tmp_path / "out") == undisturbed.contents


@pytest.mark.slow
def test_two_workers_give_the_same_bytes(
    undisturbed: Any, tmp_path: pathlib.Path
) -> None:
    output = tmp_path / "out"
    two = ("--direct_num_workers", "2")
    assert building.run_build(undisturbed.config, output, *two) == 0
    assert building.contents(output) == undisturbed.contents


RETRIED = (
    "SplitPath",
    "TokenizePartition",
    "ReadColumns",
    "DecideTasks",
    "JudgeDataset",
    "PlanFragment",
    "PlanBucket",
    "AssignShards",
    "NameShards",
    "AssembleShard",
    "FinishDataset",
    "FinishBuild",
)


def test_a_retry_of_every_step_changes_nothing(
    undisturbed: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()

    def retried(name: str) -> None:
        do_fn = getattr(stages, name)
        real = do_fn.process

        def process(self: Any, *arguments: Any) -> Iterator[Any]:
            # Beam discards what a failed attempt yielded, but not its files.
            list(real(self, *arguments))
            seen.add(name)
            yield from real(self, *arguments)

        monkeypatch.setattr(do_fn, "process", process)

    for name in RETRIED:
        retried(name)
    every = {
        name
        for name, value in vars(stages).items()
        if isinstance(value, type) and issubclass(value, beam.DoFn)
    }
    assert set(RETRIED) == every
    assert building.run_build(undisturbed.config, tmp_path / "out") == 0
    assert seen == every
    assert building.contents(tmp_path / "out", fragments=True) == undisturbed.contents


def test_an_abandoned_step_leaves_nothing_that_counts(
    undisturbed: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that lost its bundle goes on writing beside the one that took over."""
    real = stages.AssembleShard.process
    begun = []

    def process(self: Any, element: Any) -> Iterator[Any]:
        key, blocks = element
        blocks = list(blocks)
        rows = ShardAssembler._rows

        def torn(assembler: Any, merged: Any) -> Iterator[Any]:
            for row in rows(assembler, merged):
                yield row
                raise OSError("the worker was taken away")

        with monkeypatch.context() as patch:
            patch.setattr(ShardAssembler, "_rows", torn)
            try:
                list(real(self, (key, blocks)))
            except OSError:
                begun.append(key)
        yield from real(self, (key, blocks))

    monkeypatch.setattr(stages.AssembleShard, "process", process)
    assert building.run_build(undisturbed.config, tmp_path / "out") == 0
    assert len(begun) > 5
    assert building.contents(tmp_path / "out", fragments=True) == undisturbed.contents


def test_another_seed_gives_other_rows(
    undisturbed: Any, tmp_path: pathlib.Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(undisturbed.output / "_fragments", output / "_fragments")
    content = yaml.safe_load(undisturbed.config.read_text(encoding="utf-8"))
    config = undisturbed.config.with_name("seed.yaml")
    config.write_text(yaml.safe_dump(content | {"seed": 4}), encoding="utf-8")
    assert building.run_build(config, output) == 0
    found = building.contents(output)
    differing = {
        n for n in undisturbed.contents if found.get(n) != undisturbed.contents[n]
    }
    assert {n for n in differing if n.endswith("00000-of-00003.tfrecord")}
    assert {n for n in differing if n.startswith("text/train")}
    assert "tokenizer.model" not in differing

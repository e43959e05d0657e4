"""What the job's graph may hold, and what its workers may touch."""

import collections
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import building
import pytest
import raw_inputs
from apache_beam.portability.api import beam_runner_api_pb2

from gato.pipelines import stages
from gato.pipelines.build_job import BuildJob
from gato.pipelines.job import BuildShards
from gato.schemas import config as configs
from gato.schemas.manifest import VocabularyInfo

# Step -> the steps whose output it sees whole: one verdict a data set, one number a
# data set and split, one name a data set.
SIDE_INPUTS = {
    "PlanFragments": {"JudgeDatasets"},
    "AssignShards": {"SumBytes"},
    "NameShards": {"SumBytes"},
    "FinishDatasets": {"JudgeDatasets"},
    "FinishBuild": {"FinishDatasets"},
}


def a_job() -> BuildJob:
    dataset = configs.Dataset(name="a", format="text", paths=("x.txt",))
    return BuildJob(
        output="out",
        config=configs.BuildConfig(text_tokenizer="t", datasets=(dataset,)),
        config_fingerprint="",
        vocabulary=VocabularyInfo(
            text=8,
            first_continuous=8,
            separator=1032,
            eos=2,
            size=1033,
            sentencepiece_sha256="",
        ),
        text_round_trips=True,
        limit=None,
        keep_fragments=False,
        attempt="",
        progress_port=None,
        datasets={},
        finished=(),
    )


def step_of(label: str) -> str:
    """Returns our own step of a full label such as `BuildShards/SumBytes/Group`."""
    return label.removeprefix("BuildShards/").split("/")[0]


def test_side_inputs_are_those_that_do_not_grow() -> None:
    pipeline = beam.Pipeline()
    _ = pipeline | "BuildShards" >> BuildShards(a_job())
    proto = pipeline.to_runner_api()
    transforms = proto.components.transforms
    producers = {
        collection: step_of(transform.unique_name)
        for transform in transforms.values()
        if not transform.subtransforms
        for collection in transform.outputs.values()
    }
    found = collections.defaultdict(set)
    for transform in transforms.values():
        if transform.spec.urn != "beam:transform:pardo:v1":
            continue
        payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
        for name in payload.side_inputs:
            source = producers[transform.inputs[name]]
            found[step_of(transform.unique_name)].add(source)
    assert dict(found) == SIDE_INPUTS


def write_config(root: pathlib.Path, repeat: int) -> pathlib.Path:
    """Inputs with so many times the episodes, and of the texts, the files."""
    walks = raw_inputs.random_walks(0, 10 * repeat, steps=(1, 5))
    raw_inputs.write_minari(root / "raw", "toy/walk/a-v0", walks)
    for number in range(repeat):
        path = root / "raw" / "text" / f"{number}.jsonl"
        raw_inputs.write_jsonl(path, raw_inputs.texts(number, 3))
    return raw_inputs.write_config(
        root / "build.yaml",
        [
            {
                "name": "walk",
                "format": "minari",
                "paths": ["raw/toy/*/*"],
                "filter": {"by": "none"},
            },
            {"name": "text", "format": "text", "paths": ["raw/text/*"]},
        ],
        shard_bytes="10KB",
        **building.SETTINGS,
    )


def test_side_inputs_have_the_same_size_with_ten_times_the_episodes(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: collections.Counter[str] = collections.Counter()

    def measured(name: str) -> None:
        real = getattr(stages, name).process

        def process(self: Any, element: Any, side: list[Any]) -> Iterator[Any]:
            told = [inner_size(value) for value in side]
            sizes[name] = max(sizes[name], sum(told))
            yield from real(self, element, side)

        monkeypatch.setattr(getattr(stages, name), "process", process)

    for name in (
        "PlanFragment",
        "AssignShards",
        "NameShards",
        "FinishDataset",
        "FinishBuild",
    ):
        measured(name)
    found = []
    for repeat in (2, 20):
        sizes.clear()
        config = write_config(tmp_path / str(repeat), repeat)
        assert building.run_build(config, tmp_path / f"out{repeat}") == 0
        found.append(dict(sizes))
    assert set(found[0]) == set(found[1])
    assert found[0] == found[1]
    assert all(found[0].values())


def inner_size(value: Any) -> int:
    """Returns how many values a structure holds, lists and fields all the way down."""
    if isinstance(value, dict):
        return sum(inner_size(v) for v in value.values()) + len(value)
    if isinstance(value, list | tuple):
        return sum(map(inner_size, value))
    if hasattr(value, "__dataclass_fields__"):
        return inner_size({f: getattr(value, f) for f in value.__dataclass_fields__})
    return 1


def test_workers_need_no_temporary_folder(
    undisturbed: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither tempfile nor the folder it would use: containers mount it read-only."""

    def refuse(*arguments: Any, **keywords: Any) -> Any:
        raise PermissionError("a worker asked for a temporary file")

    running = tmp_path / "running"

    def guarded(do_fn: Any, method: str) -> None:
        real = getattr(do_fn, method)

        def call(self: Any, *arguments: Any) -> Iterator[Any]:
            running.touch()
            with monkeypatch.context() as patch:
                for name in (
                    "mkstemp",
                    "mkdtemp",
                    "gettempdir",
                    "TemporaryFile",
                    "NamedTemporaryFile",
                    "SpooledTemporaryFile",
                ):
                    patch.setattr(tempfile, name, refuse)
                # Generators work when they are read.
                result = list(real(self, *arguments) or ())
            return iter(result)

        monkeypatch.setattr(do_fn, method, call)

    for name, value in vars(stages).items():
        if isinstance(value, type) and issubclass(value, beam.DoFn):
            guarded(value, "process")
            if "setup" in vars(value):
                guarded(getattr(stages, name), "setup")
    assert building.run_build(undisturbed.config, tmp_path / "out") == 0
    assert running.exists()
    assert building.contents(tmp_path / "out", fragments=True) == undisturbed.contents


SCRIPT = """
import sys
from gato.pipelines import build
code = build.main(sys.argv[1:])
loaded = {name.split(".")[0] for name in sys.modules}
print(sorted(loaded & {"jax", "jaxlib", "flax", "tensorflow", "torch", "gymnasium"}))
sys.exit(code)
"""


@pytest.mark.slow
def test_a_build_imports_no_framework(
    small_config: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    nowhere = tmp_path / "nowhere"
    command = [sys.executable, "-c", SCRIPT, "--config", str(small_config)]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TMPDIR": str(nowhere)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "out" / "manifest.json").exists()
    assert not nowhere.exists()

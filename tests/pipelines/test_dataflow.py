"""What `gato-build --runner DataflowRunner` submits, written to local files.

Nothing here reaches the service: the template's job and its staged files are read, and
the staged pipeline runs to its end in Beam's in-process runner. docs/dataflow.md says
what that shows and what it does not.
"""

import dataclasses
import importlib
import json
import pathlib
import tarfile
from collections.abc import Iterator
from typing import Any

import building
import pytest
import source_tree
from apache_beam.internal import pickler
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.runner import PipelineState
from apache_beam.transforms import environments

from gato.pipelines import stages

pytestmark = pytest.mark.slow

# One verdict a data set, one number a split, one name a data set.
SIDE_INPUTS = {
    "PlanFragments": 1,
    "AssignShards": 1,
    "NameShards": 1,
    "FinishDatasets": 1,
    "FinishBuild": 1,
}


@dataclasses.dataclass(frozen=True)
class Template:
    """A written template."""

    output: pathlib.Path
    job: dict[str, Any]
    staged: pathlib.Path
    pipeline: Any


@pytest.fixture(scope="module")
def template(
    small_config: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Template:
    root = tmp_path_factory.mktemp("dataflow")
    for name in ("staged", "tmp"):
        (root / name).mkdir()
    options = {
        "runner": "DataflowRunner",
        "template_location": root / "job.json",
        "staging_location": root / "staged",
        "temp_location": root / "tmp",
        "project": "my-project",
        "region": "us-central1",
        "setup_file": source_tree.copy_sources(root / "sources"),
        "max_num_workers": 20,
        # Without these Beam looks for credentials, and asks the bucket about itself.
        "dataflow_endpoint": "http://localhost:1",
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    code = building.run_build(small_config, root / "out", "--no_auth", *arguments)
    assert code == 0
    pipeline = beam_runner_api_pb2.Pipeline()
    pipeline.ParseFromString((root / "staged" / "pipeline.pb").read_bytes())
    return Template(
        output=root / "out",
        job=json.loads((root / "job.json").read_text("utf-8")),
        staged=root / "staged",
        pipeline=pipeline,
    )


def par_dos(pipeline: Any) -> Iterator[tuple[str, Any]]:
    """Yields (label below BuildShards, payload) of every ParDo."""
    for transform in pipeline.components.transforms.values():
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn:
            payload = beam_runner_api_pb2.ParDoPayload()
            payload.ParseFromString(transform.spec.payload)
            yield transform.unique_name.removeprefix("BuildShards/"), payload


def test_the_job_is_a_batch_job_that_installs_our_sdist(template: Template) -> None:
    assert template.job["type"] == "JOB_TYPE_BATCH"
    (pool,) = (p for p in template.job["environment"]["workerPools"] if "packages" in p)
    packages = {p["name"]: p["location"] for p in pool["packages"]}
    assert packages["workflow.tar.gz"] == str(template.staged / "workflow.tar.gz")
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 20
    with tarfile.open(template.staged / "workflow.tar.gz") as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {
        "setup.py",
        "README.md",
        "pipelines/stages.py",
        "schemas/record.py",
    } <= names


def test_the_environment_is_the_sdk_container_with_staged_files(
    template: Template,
) -> None:
    (environment,) = template.pipeline.components.environments.values()
    assert environment.urn == common_urns.environments.DOCKER.urn
    names = set()
    for dependency in environment.dependencies:
        role = beam_runner_api_pb2.ArtifactStagingToRolePayload()
        role.ParseFromString(dependency.role_payload)
        names.add(role.staged_name)
    assert "workflow.tar.gz" in names
    # Whatever is in __main__ would be pickled by value: nothing of ours is.
    assert "pickled_main_session" not in names


def test_every_stage_is_there_by_its_label(template: Template) -> None:
    labels = {
        transform.unique_name.removeprefix("BuildShards/")
        for transform in template.pipeline.components.transforms.values()
    }
    assert {
        "ListPaths",
        "SplitPaths",
        "TokenizePartitions",
        "ReadColumns",
        "DecideTasks",
        "JudgeDatasets",
        "PlanFragments",
        "PlanBuckets",
        "AssignShards",
        "NameShards",
        "AssembleShards",
        "FinishDatasets",
        "FinishBuild",
    } <= {label.partition("/")[0] for label in labels}
    ours = {
        name
        for name, value in vars(stages).items()
        if isinstance(value, type) and value.__module__ == stages.__name__
    }
    assert {type(fn).__name__ for fn in our_functions(template.pipeline)} == ours


def our_functions(pipeline: Any) -> list[Any]:
    """Returns the DoFns of gato.*, unpickled as a worker does."""
    functions = []
    for _, payload in par_dos(pipeline):
        fn = pickler.loads(payload.do_fn.payload)[0]
        if type(fn).__module__.startswith("gato."):
            functions.append(fn)
    return functions


def test_functions_are_pickled_by_reference(template: Template) -> None:
    """So workers run what the sdist installs, whatever the submitter had in memory."""
    for fn in our_functions(template.pipeline):
        module = importlib.import_module(type(fn).__module__)
        assert getattr(module, type(fn).__name__) is type(fn)
    for label, payload in par_dos(template.pipeline):
        fn = pickler.loads(payload.do_fn.payload)[0]
        assert type(fn).__module__.partition(".")[0] in ("gato", "apache_beam"), label


def test_side_inputs_are_the_few_that_are_small(template: Template) -> None:
    found = {
        label.partition("/")[0]: len(payload.side_inputs)
        for label, payload in par_dos(template.pipeline)
        if payload.side_inputs
    }
    assert found == SIDE_INPUTS


def test_the_staged_pipeline_writes_the_bytes_of_a_direct_build(
    template: Template, undisturbed: Any
) -> None:
    pipeline = beam_runner_api_pb2.Pipeline()
    pipeline.CopyFrom(template.pipeline)
    # Only the container is exchanged: the functions run in this process.
    embedded: Any = environments.EmbeddedPythonEnvironment
    proto = embedded.default().to_runner_api(None)
    for environment in pipeline.components.environments.values():
        environment.CopyFrom(proto)
    result = FnApiRunner().run_via_runner_api(pipeline, PipelineOptions([]))
    assert result.wait_until_finish() == PipelineState.DONE
    written = building.contents(template.output)
    assert written.pop("_attempt")  # the next gato-build there removes it
    assert written == undisturbed.contents

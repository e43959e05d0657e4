"""Inputs and an undisturbed build of them, made once for all tests that compare."""

import dataclasses
import pathlib

import building
import pytest


@dataclasses.dataclass(frozen=True)
class Built:
    """A config, and the folder of its undisturbed build with one worker."""

    config: pathlib.Path
    output: pathlib.Path
    contents: dict[str, str]


@pytest.fixture(scope="session")
def small_config(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The config of three small data sets."""
    return building.write_inputs(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def undisturbed(
    small_config: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Built:
    """The build of `small_config`, with its fragments; do not change it."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    assert building.run_build(small_config, output, "--keep_fragments") == 0
    return Built(small_config, output, building.contents(output))

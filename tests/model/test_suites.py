"""The suites that come with the project name environments that are there."""

import importlib
import pathlib

import gymnasium
import pytest
import yaml
from metaworld.policies import ENV_POLICY_MAP

from gato.model.evaluation.environments import make_environment
from gato.model.evaluation.suite import Suite

SUITES = sorted((pathlib.Path(__file__).parents[2] / "configs/suites").glob("*.yaml"))


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_a_suite_names_what_can_be_made(path: pathlib.Path) -> None:
    suite = Suite.model_validate(yaml.safe_load(path.read_text("utf-8")))
    for domain in suite.domains.values():
        # Any id registers its whole domain.
        first = domain.tasks[0]
        make_environment(first.environment, first.options, first.max_steps).close()
        for entry in domain.tasks:
            module, _, name = entry.environment.rpartition(":")
            if module:
                importlib.import_module(module)
            if name.startswith("metaworld/"):
                assert name.removeprefix("metaworld/") in ENV_POLICY_MAP
            else:
                assert name in gymnasium.registry
            assert entry.name == name, "the manifest has the id without the module"

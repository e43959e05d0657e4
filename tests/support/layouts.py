"""Loads the scripts of tests/testdata/layouts, which are no package."""

import functools
import importlib.util
import pathlib
from types import ModuleType

FOLDER = pathlib.Path(__file__).parents[1] / "testdata" / "layouts"


@functools.cache
def layout(name: str) -> ModuleType:
    """Returns the script that writes files in the layout of a format."""
    specification = importlib.util.spec_from_file_location(
        f"layout_{name}", FOLDER / f"{name}.py"
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module

"""Which reader reads which format: the module of the format's name, its `SOURCE`."""

import importlib

from gato.pipelines.sources.base import Source
from gato.schemas.errors import UsageError
from gato.schemas.formats import FORMATS


def source_for(format: str) -> Source:
    """Returns the reader of a format, whose module is loaded when it is first needed.

    Raises:
        UsageError: If there is no such format.

    >>> source_for("minari").items
    'episodes'
    """
    if format not in FORMATS:
        raise UsageError(
            f"a format is one of {', '.join(sorted(FORMATS))}, got {format!r}. To add"
            " one, see docs/add_a_source.md."
        )
    return importlib.import_module(f"gato.pipelines.sources.{format}").SOURCE

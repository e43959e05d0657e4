"""Features that the plain reader does not know, through tensorflow-datasets itself.

Only where a config asks for such a feature (a video, audio, an image of floats, a class
of one's own) is tensorflow-datasets imported, here and nowhere else; it is ten to a
hundred times as slow.
"""

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from gato.pipelines.sources import nested_steps
from gato.pipelines.sources.rlds_features import STEPS, Leaf
from gato.schemas import files
from gato.schemas.episode import Column
from gato.schemas.errors import QuarantineError, Reason, UsageError

_PACKAGE = "tensorflow_datasets"
_MODULE = "tensorflow_datasets.core.features."


def check_installed(path: str, unknown: Mapping[str, Leaf]) -> None:
    """Checks that the features the plain reader leaves can be read at all.

    Raises:
        UsageError: If tensorflow-datasets is needed and not there.
    """
    if not unknown or importlib.util.find_spec(_PACKAGE) is not None:
        return
    raise UsageError(
        f"{path}: the features {_described(unknown)} need tensorflow-datasets, which is"
        " not installed. Install it with `pip install 'gato-pipelines[rlds]'`, or leave"
        " them out with observations.exclude."
    )


def _described(unknown: Mapping[str, Leaf]) -> str:
    return ", ".join(
        f"{key!r} ({leaf.class_name.removeprefix(_MODULE)})"
        for key, leaf in sorted(unknown.items())
    )


class Fallback:
    """Reads some leaves of steps with tensorflow-datasets."""

    def __init__(self, path: str, unknown: Mapping[str, Leaf]) -> None:
        """Says which features they are in the log, and loads the data set's code.

        Raises:
            QuarantineError: UNSUPPORTED if tensorflow-datasets does not know them
                either.
        """
        logging.getLogger(__name__).warning(
            "%s: %s are read with tensorflow-datasets, which is slow",
            path,
            _described(unknown),
        )
        self._unknown = unknown
        try:
            import tensorflow_datasets

            folder = files.local_path(path)
            features = tensorflow_datasets.features.FeatureConnector.from_config(folder)
        except Exception as error:  # whatever an unknown class or a missing one raises
            raise self._unsupported(error) from error
        self._as_numpy = tensorflow_datasets.as_numpy
        self._features: Any = features

    def columns(self, data: bytes, num_steps: int) -> dict[str, dict[str, Column]]:
        """Returns the columns of the first `num_steps` steps, by feature and key.

        Raises:
            QuarantineError: UNSUPPORTED, or WRONG_SHAPE if they change within it.
        """
        try:
            example = self._features.deserialize_example(data)
            steps = list(self._as_numpy(example[STEPS].take(num_steps)))
        except Exception as error:  # whatever TensorFlow raises
            raise self._unsupported(error) from error
        columns: dict[str, dict[str, Column]] = {"observation": {}, "action": {}}
        for key, leaf in self._unknown.items():
            values = [_at(step, leaf.path) for step in steps]
            columns[leaf.path[0]] |= {
                name: nested_steps.stacked(name, column)
                for name, column in nested_steps.by_key(key, key, values).items()
            }
        return columns

    def _unsupported(self, error: Exception) -> QuarantineError:
        return QuarantineError(
            Reason.UNSUPPORTED,
            f"the features {_described(self._unknown)} could not be read with"
            f" tensorflow-datasets: {error!r:.500}. Leave them out with"
            " observations.exclude.",
        )


def _at(step: Any, path: Sequence[str]) -> Any:
    for name in path:
        step = step[name]
    return step

"""EnvLogger's steps as columns: which action belongs to which observation.

A step as EnvLogger writes it is a `dm_env.TimeStep` with the action that led to it. The
first of an episode, of type FIRST, has neither action nor reward; the last, of type
LAST, has no action on it. A timestep here is an observation with the action taken on it
and the reward that this earned, as in EnvLogger's own conversion to RLDS: actions and
rewards move up by a step, and the last observation is dropped. An episode without a
LAST was cut off, and ends there all the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.sources.minari_spaces import bounded_space
from gato.pipelines.sources.nested_steps import by_key, stacked
from gato.pipelines.sources.stored_episode import (
    Stored,
    is_wanted,
    no_steps,
    success_keys,
)
from gato.schemas.config import Dataset
from gato.schemas.episode import Column, Space
from gato.schemas.errors import QuarantineError, Reason


def action_spaces(spec: Any) -> dict[str, Space]:
    """Returns what the environment's action spec says, by flattened key.

    Args:
        spec: Of dm_env's specs, nested as actions are; None where none was stored.
    """
    if spec is None:
        return {}
    return {key: _space(leaf) for key, (leaf,) in by_key("", "action", [spec]).items()}


def _space(spec: Any) -> Space:
    if hasattr(spec, "num_values"):
        return Space(num_values=int(spec.num_values))
    if hasattr(spec, "minimum"):
        return bounded_space(spec.minimum, spec.maximum, spec.shape, spec.dtype)
    return Space()


def stored_episode(
    steps: Sequence[Any],
    about: Sequence[Any],
    spaces: Mapping[str, Space],
    dataset: Dataset,
) -> Stored:
    """Returns the columns of one episode.

    Args:
        steps: All of the episode, as EnvLogger's reader gives them.
        about: The episode's metadata, then the data set's; what is no mapping says
            nothing.
        spaces: Of the actions.
        dataset: The config.

    Raises:
        QuarantineError: If they are not one episode, or not alike.
    """
    _check_types([int(step.timestep.step_type) for step in steps])
    told = [each if isinstance(each, Mapping) else {} for each in about]
    seen = [step.timestep.observation for step in steps[:-1]]
    observations = {
        key: _column(key, values)
        for key, values in by_key("", "observation", seen).items()
        if is_wanted(key, dataset)
    }
    acted = by_key("", "action", [step.action for step in steps[1:]])
    return Stored(
        observations=observations,
        actions={key: _column(key, values) for key, values in acted.items()},
        rewards=np.asarray(stacked("reward", [s.timestep.reward for s in steps[1:]])),
        success=_success(steps, told[:1], dataset),
        action_spaces=spaces,
        task=_text("task", told),
        agent=_text("agent", told),
    )


def _check_types(types: Sequence[int]) -> None:
    """Checks that steps are an episode's, by dm_env's FIRST 0, MID 1, LAST 2.

    Raises:
        QuarantineError: EMPTY, or WRONG_SHAPE if it begins or ends in their midst.
    """
    if len(types) < 2:
        raise no_steps()
    begins = [at for at, kind in enumerate(types) if kind == 0]
    ends = [at for at, kind in enumerate(types) if kind == 2]
    if begins != [0] or ends not in ([], [len(types) - 1]):
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            "an episode begins with its one step of type FIRST, and one of type LAST"
            f" ends it; of {len(types)} steps FIRST are {begins[:5]}, LAST {ends[:5]}",
        )


def _column(key: str, values: Sequence[Any]) -> Column:
    """Returns T values; a text in an array of no dimensions is a text."""
    missing = [at for at, value in enumerate(values) if value is None]
    if missing:
        raise QuarantineError(
            Reason.MISSING_FIELD, f"{key!r} has no value at timestep {missing[0]}"
        )
    first = values[0]
    if isinstance(first, np.ndarray) and first.dtype == object and first.ndim == 0:
        values = [value.item() for value in values]
    return stacked(key, values)


def _success(
    steps: Sequence[Any], told: Sequence[Mapping[str, Any]], dataset: Dataset
) -> NDArray[Any] | None:
    """Returns the episode's own word, else that of its steps."""
    custom = [s.custom_data for s in steps if isinstance(s.custom_data, Mapping)]
    for source in (told, custom):
        for key in success_keys(dataset):
            values = [each[key] for each in source if key in each]
            if values:
                return np.asarray(stacked(key, values))
    return None


def _text(key: str, told: Sequence[Mapping[str, Any]]) -> str | None:
    """Returns the first text under a key; None where there is none."""
    found = (each.get(key) for each in told)
    return next((text for text in found if isinstance(text, str) and text), None)

"""Episodes and the test vocabulary, in memory."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Space
from gato.tokenizers.text import TextTokenizer

_MODEL = pathlib.Path(__file__).parents[1] / "testdata/vocabulary/text32k.model"


@functools.cache
def text_tokenizer() -> TextTokenizer:
    """Returns the tokenizer of the published 32k vocabulary."""
    return TextTokenizer.load(str(_MODEL))


def dataset(**options: Any) -> Dataset:
    """Returns the config of a data set."""
    fields = {"name": "toy", "format": "minari", "paths": ["raw/*"]}
    return Dataset.model_validate(fields | options)


def episode(
    observations: Mapping[str, Any],
    actions: Mapping[str, Any],
    action_spaces: Mapping[str, Space] | None = None,
) -> Episode:
    """Returns an episode of the columns."""
    steps = len(next(iter(observations.values()), ()))
    return Episode(
        episode_id="toy/walk-v0/0",
        source="raw/toy",
        number=0,
        task="toy/walk",
        agent="toy/walk-v0",
        observations=observations,
        actions=actions,
        action_spaces=action_spaces or {},
        rewards=np.zeros(steps),
    )

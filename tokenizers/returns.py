"""Return-conditioning: each timestep observes the return that its episode reached.

Off unless a data set's config says `condition_on_return: true`. The value is the sum of
the raw episode's rewards, a continuous observation like any other: the mu-law takes it,
so returns beyond 256 in magnitude are alike. It is not normalised, since an expert's
return is known once all episodes are tokenized, and tokens are never made again. At
deployment the policy observes the expert's return in its place.
"""

import dataclasses
import math

import numpy as np

from gato.schemas.episode import Episode
from gato.schemas.errors import QuarantineError, Reason

# In the task's spec; sorted among the other keys as it is written.
RETURN_KEY = "__return__"


def observe_return(episode: Episode) -> Episode:
    """Returns the episode with its return as an observation, float64 [T].

    Args:
        episode: With finite rewards.

    Raises:
        QuarantineError: UNSUPPORTED if it has an observation of that name.
    """
    if RETURN_KEY in episode.observations:
        raise QuarantineError(
            Reason.UNSUPPORTED,
            f"condition_on_return adds an observation {RETURN_KEY!r}, and the episode"
            " has one already",
        )
    reached = math.fsum(episode.rewards.tolist())
    column = np.full(len(episode.rewards), reached)
    return dataclasses.replace(
        episode, observations={**episode.observations, RETURN_KEY: column}
    )

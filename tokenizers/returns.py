"""Return-conditioning: each timestep observes the return that its episode reached.

Off unless a data set's config says `condition_on_return: true`, or by how much returns
are divided: `condition_on_return: 1000`. The value is the sum of the raw episode's
rewards over that, a continuous observation like any other: the mu-law takes it. Beyond
256 all would be alike, so such episodes are quarantined; below, it tells returns apart
that differ by 2%, down to about 1. The number is the config's, since an expert's return
is known once all episodes are tokenized, and tokens are never made again. At deployment
the policy observes the expert's return, divided likewise.
"""

import dataclasses
import math

import numpy as np

from gato.schemas.episode import Episode
from gato.schemas.errors import QuarantineError, Reason
from gato.tokenizers.continuous import MAX_ABS

# In the task's spec; sorted among the other keys as it is written.
RETURN_KEY = "__return__"


def observe_return(episode: Episode, divisor: float) -> Episode:
    """Returns the episode with its return as an observation, float64 [T].

    Args:
        episode: With finite rewards.
        divisor: Of its return.

    Raises:
        QuarantineError: UNSUPPORTED if it has an observation of that name, or a return
            that the mu-law does not tell from larger ones.
    """
    if RETURN_KEY in episode.observations:
        raise QuarantineError(
            Reason.UNSUPPORTED,
            f"condition_on_return adds an observation {RETURN_KEY!r}, and the episode"
            " has one already",
        )
    reached = math.fsum(episode.rewards.tolist())
    if abs(reached / divisor) > MAX_ABS:
        raise QuarantineError(
            Reason.UNSUPPORTED,
            f"condition_on_return: {divisor:g} divides the return {reached:g}, and what"
            f" is observed ends at {MAX_ABS}. Give a larger number there, such as the"
            " best return of the data set.",
        )
    column = np.full(len(episode.rewards), reached / divisor)
    return dataclasses.replace(
        episode, observations={**episode.observations, RETURN_KEY: column}
    )

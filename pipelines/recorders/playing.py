"""An episode as it is played: its steps gathered into a rollout."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gato.pipelines.recorders.domain import Rollout

# Of what is observed: the action that is done, and what the environment's step gave.
TakeStep = Callable[[Any], tuple[Any, tuple[Any, Any, bool, bool, dict[str, Any]]]]


def play(
    observation: Any,
    take_step: TakeStep,
    *,
    seed: int,
    max_steps: int | None = None,
    success_key: str | None = None,
) -> Rollout:
    """Plays an episode on to where it ends, or `max_steps`.

    Args:
        observation: What the reset by `seed` gave.
        take_step: Acts, and steps the environment.
        seed: Of the episode.
        max_steps: Where it is cut; None if it always ends.
        success_key: What a step's info calls success; None if no step says it.
    """
    observations, actions, outcomes, solved = [observation], [], [], [False]
    ended = False
    while not ended:
        action, step = take_step(observation)
        observation, reward, terminated, truncated, info = step
        observations.append(observation)
        actions.append(action)
        truncated |= len(actions) == max_steps and not terminated
        outcomes.append((float(reward), terminated, truncated))
        solved.append(success_key is not None and bool(info[success_key]))
        ended = terminated or truncated
    rewards, terminations, truncations = zip(*outcomes, strict=True)
    # An object may leave its goal again; achieved is achieved.
    by_then = np.logical_or.accumulate(solved)[:, None]
    return Rollout(
        seed=seed,
        observations=_stacked(observations),
        actions=np.stack(actions),
        rewards=np.array(rewards, np.float64),
        terminations=np.array(terminations, bool),
        truncations=np.array(truncations, bool),
        success=None if success_key is None else by_then,
    )


def _stacked(observations: Sequence[Any]) -> Any:
    """Returns observations as one array, or as one for each key."""
    if isinstance(observations[0], dict):
        return {
            key: np.stack([one[key] for one in observations]) for key in observations[0]
        }
    return np.stack(observations)

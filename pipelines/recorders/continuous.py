"""What tasks of continuous actions in [-1, 1] have in common: noise, and an episode."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.recorders.domain import Recipe, Rollout

Actor = Callable[[Any], NDArray[Any]]


def actor(
    expert: Actor | None,
    recipe: Recipe,
    size: int | tuple[int, ...],
    generator: np.random.Generator,
    noise: float,
) -> Actor:
    """Returns what maps an observation to an action, not yet clipped.

    Args:
        expert: Of an observation; None if there is none.
        recipe: Who acts.
        size: Shape of an action.
        generator: Draws random actions and noise.
        noise: Standard deviation of what is added to the expert's actions.
    """
    if recipe.policy == "random" or expert is None:
        return lambda observation: generator.uniform(-1, 1, size)

    def act(observation: Any) -> NDArray[Any]:
        # Clipped first: noise on a wish far out of reach would change nothing.
        advice = np.clip(expert(observation), -1, 1)
        return advice + noise * generator.standard_normal(size)

    return act


def play(
    environment: Any,
    observation: Any,
    act: Actor,
    *,
    seed: int,
    max_steps: int,
    success_key: str | None = None,
) -> Rollout:
    """Plays an episode on to where it ends, or `max_steps`.

    Args:
        environment: Reset by `seed`.
        observation: What the reset gave.
        act: Maps an observation to an action; what is done and stored is clipped.
        seed: Of the episode.
        max_steps: Where it is cut.
        success_key: What a step's info calls success; None if no step says it.
    """
    observations, actions, outcomes, solved = [observation], [], [], [False]
    ended = False
    while not ended:
        action = np.clip(act(observation), -1, 1).astype(np.float32)
        observation, reward, terminated, truncated, info = environment.step(action)
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
        observations=stacked(observations),
        actions=np.stack(actions),
        rewards=np.array(rewards, np.float64),
        terminations=np.array(terminations, bool),
        truncations=np.array(truncations, bool),
        success=None if success_key is None else by_then,
    )


def stacked(observations: Sequence[Any]) -> Any:
    """Returns observations as one array, or as one for each key."""
    if isinstance(observations[0], dict):
        return {
            key: np.stack([one[key] for one in observations]) for key in observations[0]
        }
    return np.stack(observations)

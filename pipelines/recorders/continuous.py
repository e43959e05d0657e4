"""What tasks of continuous actions in [-1, 1] have in common: noise, and an episode."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.recorders import playing
from gato.pipelines.recorders.domain import Domain, Recipe, Rollout
from gato.schemas.errors import UsageError

Actor = Callable[[Any], NDArray[Any]]


class ContinuousDomain(Domain):
    """Noise is the standard deviation of what is added to each action."""

    def check_noise(self, noise: Sequence[float]) -> None:
        """Refuses noise that is no deviation in units of actions in [-1, 1].

        Raises:
            UsageError: If it is none.
        """
        if not noise or not all(0 < deviation < 2 for deviation in noise):
            raise UsageError(
                "--noise takes standard deviations above 0 and below 2, the width of"
                f" an action's range, got {list(noise)}"
            )


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

    def take_step(observation: Any) -> tuple[NDArray[np.float32], Any]:
        action = np.clip(act(observation), -1, 1).astype(np.float32)
        return action, environment.step(action)

    return playing.play(
        observation, take_step, seed=seed, max_steps=max_steps, success_key=success_key
    )

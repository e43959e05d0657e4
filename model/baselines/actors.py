"""Baselines as the arena plays them: an `Actor` each."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from gato.model.baselines.cloning import Cloned, action_logits
from gato.model.prefix import Prefix


class CloningActor:
    """Plays one task with its network; each step for itself, without a memory.

    Args:
        cloned: The network.
        rows: Environments at a time.
    """

    def __init__(self, cloned: Cloned, rows: int) -> None:
        self.rows = rows
        self._cloned = cloned
        widths = cloned.ranges[:, 1] - cloned.ranges[:, 0]
        num_values = tuple(widths.tolist())
        self._logits = jax.jit(functools.partial(action_logits, num_values=num_values))

    def start(self, prefixes: Mapping[int, Prefix | None]) -> None:
        """Begins episodes: nothing to remember."""

    def act(
        self, observations: Mapping[int, tuple[Prefix, NDArray[np.int32]]]
    ) -> dict[int, NDArray[np.int32]]:
        """Returns the likeliest action tokens of each row."""
        seen = [observed for observed, _ in observations.values()]
        # Always as many rows, so that there is one program.
        features = self._cloned.encoder.encode(
            seen + seen[:1] * (self.rows - len(seen))
        )
        logits_BAU = self._logits(self._cloned.params, features)
        values = np.asarray(jnp.argmax(logits_BAU, axis=-1)).astype(np.int32)
        tokens = values + self._cloned.ranges[:, 0]
        return {row: tokens[place] for place, row in enumerate(observations)}


class RandomActor:
    """Draws each action token evenly from its range.

    Args:
        rows: Environments at a time.
        seed: Of the draws.
    """

    def __init__(self, rows: int, seed: int) -> None:
        self.rows = rows
        self._generator = np.random.default_rng(seed)

    def start(self, prefixes: Mapping[int, Prefix | None]) -> None:
        """Begins episodes: nothing to remember."""

    def act(
        self, observations: Mapping[int, tuple[Prefix, NDArray[np.int32]]]
    ) -> dict[int, NDArray[np.int32]]:
        """Returns action tokens drawn evenly."""
        return {
            row: self._generator.integers(ranges[:, 0], ranges[:, 1]).astype(np.int32)
            for row, (_, ranges) in observations.items()
        }

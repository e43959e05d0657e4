"""Plays an Atari game by looking ahead: of many random plans, the best one is begun.

Predictive sampling (Howell et al. 2022, https://arxiv.org/abs/2212.00541) over numbered
actions: the last plan, moved on, and random ones are played from the state as it is,
and the best is kept. It knows the emulator, its random numbers and the rewards, so it
stands in for a trained agent. It counts, and has no clock, so that the same command
records the same data on a slow machine.

It looks ahead in an emulator of its own. The game's would not be the same afterwards: a
saved state of ale-py 0.12.1 lacks the last action, which the next frame may repeat.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Effort:
    """How far and how often is looked ahead.

    The time of a step goes with `plans * horizon / kept`; of both below it is 64
    simulated steps for each recorded one.

    Attributes:
        plans: How many are compared.
        horizon: Actions of a plan.
        kept: Actions that are done before it is planned again. Plans foresee what will
            happen, so that few need to be revised soon.
        held: How often an action is done in a row in random plans, on average: one that
            turns at every step gets nowhere.
        discount: What a reward counts for each step that comes before it: of two plans
            with equal rewards, the faster, else they would be put off for ever.
        loss: What the loss of a life counts, in rewards: more than most games give
            within a plan, as those lost with it would come after the plan.
    """

    plans: int = 24
    horizon: int = 32
    kept: int = 12
    held: float = 4.0
    discount: float = 0.98
    loss: float = 1000.0

    def __post_init__(self) -> None:
        if not 1 <= self.kept <= self.horizon:
            raise ValueError(
                f"of a plan of {self.horizon} actions 1 to {self.horizon} are done"
                f" before the next, got kept={self.kept}"
            )


# Where a reward comes seconds after what it is for.
FAR = Effort(plans=16, horizon=80, kept=20, held=8.0)


class Planner:
    """Plans one episode; the game it looks at is left as it was.

    Args:
        game: ale-py's interface to the emulator that is recorded.
        copy: The same to another with the same game; its act is a step of the episode.
        actions: What emulators call the actions that are numbered here.
        generator: Draws the plans.
        effort: How far and how often to look.
    """

    def __init__(
        self,
        game: Any,
        copy: Any,
        actions: Sequence[Any],
        generator: np.random.Generator,
        effort: Effort,
    ) -> None:
        self._game = game
        self._copy = copy
        self._actions = actions
        self._generator = generator
        self._effort = effort
        self._plan = np.zeros(0, np.int64)
        self._done = effort.kept

    def __call__(self) -> int:
        """Returns the number of the action to take in the state the game is in."""
        if self._done == self._effort.kept:
            self._plan, self._done = self._best(self._plan[self._done :]), 0
        self._done += 1
        return int(self._plan[self._done - 1])

    def _best(self, last: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the best of random plans, one of which begins with `last`."""
        plans = self._drawn()
        plans[0, : len(last)] = last
        state = self._game.cloneState(include_rng=True)
        # Of equals the first: where nothing is in sight, a plan is carried through.
        return plans[int(np.argmax([self._score(state, plan) for plan in plans]))]

    def _drawn(self) -> NDArray[np.int64]:
        """Returns random plans, [plans, horizon]."""
        shape = self._effort.plans, self._effort.horizon
        drawn = self._generator.integers(len(self._actions), size=shape)
        changes = self._generator.random(shape) < 1 / self._effort.held
        since = np.maximum.accumulate(changes * np.arange(shape[1]), axis=1)
        return np.take_along_axis(drawn, since, axis=1)

    def _score(self, state: Any, plan: NDArray[np.int64]) -> float:
        """Returns what a plan is worth; it ends with the first life lost."""
        copy, effort = self._copy, self._effort
        copy.restoreState(state)
        lives = copy.lives()
        score, weight = 0.0, 1.0
        for action in plan.tolist():
            score += weight * copy.act(self._actions[action])
            if copy.lives() < lives or copy.game_over():
                return score - weight * effort.loss
            weight *= effort.discount
        return score

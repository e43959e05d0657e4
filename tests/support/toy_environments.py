"""Environments that look like BabyAI's levels and go wrong on request.

Importing it registers them, so `toy_environments:Grid-v0` is an id anywhere this folder
is on the path.
"""

import os
import sys
import time
from typing import Any

import gymnasium
import numpy as np

STEPS = 4


class Grid(gymnasium.Env[Any, Any]):
    """Pays 1 for action 2, for `STEPS` steps; even seeds may end badly.

    Args:
        fault: What happens at step 2 of even seeds: None, raise, exit, hang or odd (an
            observation that no spec allows).
    """

    observation_space = gymnasium.spaces.Dict(
        {
            "direction": gymnasium.spaces.Discrete(4),
            "image": gymnasium.spaces.Box(0, 255, (7, 7, 3), np.uint8),
            "mission": gymnasium.spaces.Text(100),
        }
    )
    action_space = gymnasium.spaces.Discrete(7)

    def __init__(self, fault: str | None = None) -> None:
        self._fault = fault

    def _look(self) -> dict[str, Any]:
        direction = -1 if self._fault == "odd" and self._goes_wrong() else 2
        return {
            "direction": np.int64(direction),
            "image": np.full((7, 7, 3), self._step, np.uint8),
            "mission": "go to the red ball",
        }

    def _goes_wrong(self) -> bool:
        return self._seed % 2 == 0 and self._step == 2

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        self._seed, self._step = seed or 0, 0
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        print("what a simulator says on standard output")
        self._step += 1
        if self._goes_wrong():
            if self._fault == "raise":
                raise RuntimeError("the grid broke")
            if self._fault == "exit":
                os._exit(3)
            if self._fault == "hang":
                time.sleep(60)
        loaded = [name for name in ("jax", "tensorflow") if name in sys.modules]
        if loaded:
            raise RuntimeError(f"a worker loaded {loaded}")
        info = {"success": action == 2}
        return self._look(), float(action == 2), self._step == STEPS, False, info


gymnasium.register("Grid-v0", entry_point="toy_environments:Grid")


class Match(gymnasium.Env[Any, Any]):
    """Shows a sign at each step and pays 1 for the action that belongs to it.

    Args:
        steps: Of an episode.
    """

    observation_space = gymnasium.spaces.Dict({"sign": gymnasium.spaces.Discrete(7)})
    action_space = gymnasium.spaces.Discrete(7)

    def __init__(self, steps: int = 8) -> None:
        self._steps = steps

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._signs = self.np_random.integers(0, 7, self._steps + 1)
        self._step = 0
        return {"sign": self._signs[0]}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(action == answer_to(self._signs[self._step]))
        self._step += 1
        done = self._step == self._steps
        return {"sign": self._signs[self._step]}, reward, done, False, {}


def answer_to(sign: Any) -> Any:
    """Returns the actions that belong to signs."""
    return (sign * 3 + 1) % 7


gymnasium.register("Match-v0", entry_point="toy_environments:Match")

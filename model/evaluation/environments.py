"""Environments by name, observed as they were recorded; loads no framework.

BabyAI levels and any other Gymnasium id are made by `gymnasium.make`,
`metaworld/<task>` from the package of that name, with a reset that obeys its seed.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

# Packages whose import registers ids with these beginnings.
_REGISTERS = {
    "ALE/": "ale_py",
    "BabyAI-": "minigrid",
    "MiniGrid-": "minigrid",
}
_METAWORLD = "metaworld/"
# Meta-World's environments refuse to step further.
_METAWORLD_STEPS = 500


class _MetaWorld(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A goal-observable task whose positions are drawn from the reset's seed."""

    def __init__(self, task: str, options: Mapping[str, Any]) -> None:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE

        made: Any = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task}-goal-observable"]
        environment = made(seed=0, **options)
        # Made, it keeps one goal; now each reset draws another.
        environment._freeze_rand_vec = False
        environment.seeded_rand_vec = True
        super().__init__(environment)
        self._seed = environment.seed

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode."""
        if seed is not None:
            self._seed(seed)
        return self.env.reset(options=options)


def _make_registered(name: str, tile: int | None = None, **options: Any) -> Any:
    made = gymnasium.make(name, disable_env_checker=True, **options)
    if tile is None:
        return made
    wrappers = importlib.import_module("minigrid.wrappers")
    return wrappers.RGBImgPartialObsWrapper(made, tile_size=tile)


def make_environment(
    name: str, options: Mapping[str, Any], max_steps: int | None
) -> Any:
    """Returns an environment.

    Args:
        name: An id of Gymnasium, or `metaworld/<task>`.
        options: Of `gymnasium.make`; of BabyAI also `tile`, the pixels along a cell of
            the view that is observed as a picture.
        max_steps: After which episodes are cut; the environment's own if None.
    """
    if name.startswith(_METAWORLD):
        made: Any = _MetaWorld(name.removeprefix(_METAWORLD), options)
        max_steps = min(max_steps or _METAWORLD_STEPS, _METAWORLD_STEPS)
    else:
        for beginning, package in _REGISTERS.items():
            if name.startswith(beginning):
                gymnasium.register_envs(importlib.import_module(package))
        made = _make_registered(name, **options)
    if max_steps is None:
        return made
    return gymnasium.wrappers.TimeLimit(made, max_steps)


def succeeded(name: str, reward: float, info: Mapping[str, Any]) -> bool | None:
    """Returns whether a step says that the task is solved; None if it says nothing."""
    if name.startswith("BabyAI-"):
        return reward > 0  # paid once, at success
    for key in ("success", "is_success"):
        if key in info:
            return bool(np.any(info[key]))
    return None


def plain(value: Any) -> Any:
    """Returns an observation as nested dicts and tuples of arrays and texts."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    return str(value) if isinstance(value, str) else np.asarray(value)


def as_action(values: Mapping[str, Any], space: Any, path: tuple[str, ...] = ()) -> Any:
    """Returns the action that an environment takes, of its leaves by flattened key.

    Args:
        values: Decoded leaves; "action" is the key of one that stands alone.
        space: The environment's action space, or the part of it at `path`.
        path: Keys that lead there.
    """
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: as_action(values, one, (*path, key)) for key, one in space.items()}
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(
            as_action(values, one, (*path, str(index)))
            for index, one in enumerate(space)
        )
    value = np.asarray(values["/".join(path) or "action"])
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(value)
    return value.astype(space.dtype)

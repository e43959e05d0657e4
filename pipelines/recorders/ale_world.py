"""Atari games as others train on them: a frame of 84x84 for each action, four apart.

Importing this module registers `atari/<game>`, seen in grey, and `atari_rgb/<game>`,
for the games whose ROMs come with ale-py (GPL-2.0). `gato-evaluate` makes them as
`gato.pipelines.recorders.ale_world:atari/Breakout`.

A frame is the larger of the last two, by pixel, made smaller. A quarter of the actions
repeat the one before (Machado et al. 2018); only actions that do something in the game
are offered. Episodes end with the game, or after 27,000 steps (30 minutes).
"""

from typing import Any

import ale_py
import gymnasium
from gymnasium.wrappers import AtariPreprocessing

MAX_STEPS = 27_000

# It says its version for each game that is loaded.
ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
gymnasium.register_envs(ale_py)

_PREFIX, _SUFFIX = "ALE/", "-v5"
GAMES = tuple(
    sorted(
        name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
        for name in gymnasium.registry
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX)
    )
)


def make_game(game: str, rgb: bool = False) -> gymnasium.Env[Any, Any]:
    """Returns a game.

    Args:
        game: A name such as `Breakout`.
        rgb: Whether frames are uint8 [84, 84, 3], else they are grey [84, 84].
    """
    made = gymnasium.make(
        f"{_PREFIX}{game}{_SUFFIX}", frameskip=1, disable_env_checker=True
    )
    return AtariPreprocessing(made.unwrapped, noop_max=0, grayscale_obs=not rgb)


for _game in GAMES:
    for _namespace, _rgb in (("atari", False), ("atari_rgb", True)):
        gymnasium.register(
            id=f"{_namespace}/{_game}",
            entry_point=f"{__name__}:{make_game.__name__}",
            kwargs={"game": _game, "rgb": _rgb},
            disable_env_checker=True,
        )

"""Atari games as others train on them: a frame of 84x84 for each action, four apart.

Importing this module registers `atari/<game>`, seen in grey, and `atari_rgb/<game>`,
for the games whose ROMs come with ale-py (GPL-2.0); and the same with mode and
difficulty drawn for each episode, `ale_extended/<game>` and `ale_extended_rgb/<game>`.
`gato-evaluate` makes them as `gato.pipelines.recorders.ale_world:atari/Breakout`.

A frame is the larger of the last two, by pixel, made smaller. A quarter of the actions
repeat the one before (Machado et al. 2018); only actions that do something in the game
are offered. Episodes end with the game, or after 27,000 steps (30 minutes).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ale_py
import gymnasium
from ale_py import roms
from gymnasium.wrappers import AtariPreprocessing

from gato.schemas.hashing import keyed_hash

MAX_STEPS = 27_000
# What is drawn for an episode, by the names in its reset's info and options.
SETTING = ("mode", "difficulty")

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


def drawn(seed: int, choices: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Returns one choice for each name, by the seed of an episode."""
    return {
        name: values[keyed_hash(seed, name) % len(values)]
        for name, values in choices.items()
    }


class DrawnSetting(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A game whose mode and difficulty are drawn anew for each episode.

    Each is drawn from all that the game has, by the reset's seed; the reset's info
    tells them. A reset that is given them as `options` takes them as they are.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._game: Any = env.unwrapped
        ale = self._game.ale
        available = (ale.getAvailableModes(), ale.getAvailableDifficulties())
        self._choices: dict[str, list[int]] = {
            name: sorted(map(int, choices))
            for name, choices in zip(SETTING, available, strict=True)
        }

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode in its mode and difficulty; without a seed draws one."""
        if seed is None:
            seed = int(self.np_random.integers(1 << 31))
        setting = drawn(seed, self._choices) | (options or {})
        # With a seed the game is loaded anew, and these are set then.
        self._game._game_mode = setting["mode"]
        self._game._game_difficulty = setting["difficulty"]
        observation, info = self.env.reset(seed=seed)
        return observation, {**info, **setting}


def make_game(
    game: str, rgb: bool = False, draw_setting: bool = False
) -> gymnasium.Env[Any, Any]:
    """Returns a game.

    Args:
        game: A name such as `Breakout`.
        rgb: Whether frames are uint8 [84, 84, 3], else they are grey [84, 84].
        draw_setting: Whether each episode draws its mode and difficulty, else they are
            the game's first.
    """
    made = gymnasium.make(
        f"{_PREFIX}{game}{_SUFFIX}", frameskip=1, disable_env_checker=True
    )
    seen = AtariPreprocessing(made.unwrapped, noop_max=0, grayscale_obs=not rgb)
    return DrawnSetting(seen) if draw_setting else seen


def make_copy(environment: gymnasium.Env[Any, Any]) -> Any:
    """Returns another emulator with the game, to restore states of the first into.

    Its `act` plays the frames of a step in one call, each with the chance to repeat the
    last action, as the game's wrappers do one by one.

    Args:
        environment: From `make_game`, after a reset.
    """
    game: Any = environment.unwrapped
    copy: Any = ale_py.ALEInterface()
    repeats = "repeat_action_probability"
    copy.setFloat(repeats, game.ale.getFloat(repeats))
    copy.setInt("frame_skip", environment.get_wrapper_attr("frame_skip"))
    # What it would do of itself; each restored state has random numbers of its own.
    copy.setInt("random_seed", 0)
    copy.loadROM(roms.get_rom_path(game._game))
    if game._game_mode is not None:
        copy.setMode(game._game_mode)
    if game._game_difficulty is not None:
        copy.setDifficulty(game._game_difficulty)
    copy.reset_game()
    return copy


def namespace(rgb: bool, draw_setting: bool) -> str:
    """Returns the first part of the id that a game is registered by."""
    return ("ale_extended" if draw_setting else "atari") + ("_rgb" if rgb else "")


for _game in GAMES:
    for _rgb in (False, True):
        for _draw in (False, True):
            gymnasium.register(
                id=f"{namespace(_rgb, _draw)}/{_game}",
                entry_point=f"{__name__}:{make_game.__name__}",
                kwargs={"game": _game, "rgb": _rgb, "draw_setting": _draw},
                disable_env_checker=True,
            )

"""Atari games: experts by hand or by search, these with noise, or random actions.

Games are those of ale-py (GPL-2.0, with its ROMs). It comes without experts. Those here
are written by hand (`ale_experts.py`) or look ahead (`ale_search.py`), and stand in for
trained agents; the other games are played at random. Games are in their first mode and
difficulty, or each episode draws both by its seed; what was drawn is stored with it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import ale_py
from gymnasium.envs.registration import EnvSpec

from gato.pipelines.recorders import ale_world as world
from gato.pipelines.recorders import playing
from gato.pipelines.recorders.ale_experts import EXPERTS
from gato.pipelines.recorders.ale_games import GROUPS
from gato.pipelines.recorders.domain import (
    Description,
    Domain,
    Recipe,
    Rollout,
    check_max_steps,
)


def _actor(
    environment: Any, recipe: Recipe, seed: int, noise: float
) -> Callable[[], int]:
    """Returns what gives the next action."""
    generator = recipe.generator(seed)
    num_actions = int(environment.action_space.n)
    if recipe.policy == "random":
        return lambda: int(generator.integers(num_actions))
    expert = EXPERTS[recipe.task].make(environment, generator)

    def act() -> int:
        # Asked even when noise acts: it follows the ball, or its plan moves on.
        advice = expert(environment.unwrapped.ale.getRAM())
        if generator.random() < noise:
            return int(generator.integers(num_actions))
        return advice

    return act


@dataclasses.dataclass(frozen=True, kw_only=True)
class Atari(Domain):
    """All games in grey; noise is the fraction of random actions.

    Attributes:
        max_steps: Where an episode is cut, if it has not ended.
    """

    namespace: ClassVar[str] = world.namespace(rgb=False, draw_setting=False)
    title: ClassVar[str] = "Atari"
    option: ClassVar[str] = "games"
    rgb: ClassVar[bool] = False
    draw_setting: ClassVar[bool] = False

    max_steps: int = world.MAX_STEPS

    def __post_init__(self) -> None:
        check_max_steps(self.max_steps, world.MAX_STEPS, "all games end")

    def tasks(self) -> list[str]:
        """Returns the names of all games, sorted."""
        return list(world.GAMES)

    def groups(self) -> Mapping[str, Sequence[str]]:
        """Returns all games, and the lists that stand for the paper's."""
        return {**super().groups(), **GROUPS}

    def has_expert(self, task: str) -> bool:
        """Returns whether there is an expert for the game as it is played here."""
        expert = EXPERTS.get(task)
        return expert is not None and (expert.any_setting or not self.draw_setting)

    def conditions(self) -> dict[str, Any]:
        """Returns the limit, and the version of the emulator."""
        return {"max_steps": self.max_steps, "ale-py": ale_py.__version__}

    def describe(self, recipe: Recipe) -> Description:
        """Returns the game's spaces, and what rebuilds it."""
        environment = self.make_environment(recipe.task)
        expert = EXPERTS[recipe.task].says if self.has_expert(recipe.task) else ""
        algorithms = {
            "expert": expert,
            "noisy": f"{expert}; random actions in fractions of {recipe.noise}",
            "random": "uniformly random actions",
        }
        return Description(
            environment=EnvSpec(
                id=f"{self.namespace}/{recipe.task}",
                entry_point=f"{world.__name__}:{world.make_game.__name__}",
                kwargs=self._options(recipe.task),
                max_episode_steps=self.max_steps,
                disable_env_checker=True,
            ),
            observation_space=environment.observation_space,
            action_space=environment.action_space,
            algorithm=algorithms[recipe.policy],
            content=self._content(),
            requirements=[f"ale-py=={ale_py.__version__}"],
        )

    def _options(self, task: str) -> dict[str, Any]:
        return {"game": task, "rgb": self.rgb, "draw_setting": self.draw_setting}

    def _content(self) -> str:
        frame = f"a frame of 84x84, {'RGB' if self.rgb else 'grey'}"
        return f"{frame}; mode and difficulty drawn" if self.draw_setting else frame

    def make_environment(self, task: str) -> Any:
        """Returns the game."""
        return world.make_game(**self._options(task))

    def roll_out(
        self, environment: Any, recipe: Recipe, seed: int, attempt: int
    ) -> Rollout:
        """Plays one episode to its end, or to `max_steps`."""
        observation, info = environment.reset(seed=seed)
        act = _actor(environment, recipe, seed, recipe.episode_noise(attempt))

        def take_step(observation: Any) -> tuple[int, Any]:
            action = act()
            return action, environment.step(action)

        played = playing.play(
            observation, take_step, seed=seed, max_steps=self.max_steps
        )
        about = {name: info[name] for name in world.SETTING if name in info}
        return dataclasses.replace(played, about=about)


class AtariRGB(Atari):
    """The same games in colour."""

    namespace: ClassVar[str] = world.namespace(rgb=True, draw_setting=False)
    rgb: ClassVar[bool] = True


class AtariExtended(Atari):
    """All games in grey, each episode in a mode and difficulty of its own."""

    namespace: ClassVar[str] = world.namespace(rgb=False, draw_setting=True)
    draw_setting: ClassVar[bool] = True


class AtariExtendedRGB(AtariExtended):
    """The same in colour."""

    namespace: ClassVar[str] = world.namespace(rgb=True, draw_setting=True)
    rgb: ClassVar[bool] = True

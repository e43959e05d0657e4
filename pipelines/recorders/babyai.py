"""BabyAI levels: the bot, the bot with noise, or random actions.

Environments are minigrid's BabyAI levels (MIT) and the expert is its `BabyAIBot`. The
bot fails on some levels and seeds: it raises when nothing is left to explore, or plans
for ever (UnlockToUnlock). Such a seed is given up, counted, and the next one is tried.
"""

import contextlib
import copy
import dataclasses
import io
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, SupportsIndex

import gymnasium
import minigrid
import numpy as np
from gymnasium.envs.registration import WrapperSpec
from minigrid.utils.baby_ai_bot import BabyAIBot, DisappearedBoxError

from gato.pipelines.recorders.domain import (
    Description,
    Domain,
    ExpertFailedError,
    Recipe,
    Rollout,
)
from gato.schemas.errors import UsageError

# A plan of the bot is a few dozen subgoals deep; this many looks at it without an
# action mean that it goes round in circles. A count, not a clock, so that the same
# command records the same data on a slow machine.
_MAX_LOOKS = 2_000
# As minigrid draws for people.
_MAX_TILE = 32
_PREFIX, _SUFFIX = "BabyAI-", "-v0"
# The bot gives up on every seed of these.
_UNSOLVED = (
    "BabyAI-KeyInBox-v0",
    "BabyAI-PutNextS5N2Carrying-v0",
    "BabyAI-PutNextS6N3Carrying-v0",
    "BabyAI-PutNextS7N4Carrying-v0",
)
_MISSION_CHARACTERS = string.ascii_letters + string.digits + " ,.'-"


class _BoundedPlan(list[Any]):
    """The bot's stack of subgoals, which refuses to be looked at for ever."""

    looks = 0

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        self.looks += 1
        if self.looks > _MAX_LOOKS:
            raise ExpertFailedError("the bot plans for ever")
        return super().__getitem__(index)


def _actor(
    environment: Any, recipe: Recipe, seed: int, noise: float
) -> Callable[[int | None], int]:
    """Returns what maps the last action taken to the next one."""
    num_actions = int(environment.action_space.n)
    generator = recipe.generator(seed)

    def act_randomly(last_action: int | None) -> int:
        return int(generator.integers(num_actions))

    if recipe.policy == "random":
        return act_randomly
    bot = BabyAIBot(environment)
    plan = bot.stack = _BoundedPlan(bot.stack)

    def act(last_action: int | None) -> int:
        plan.looks = 0
        try:
            # Asked even when noise acts: the bot follows what was really done.
            advice = bot.replan(last_action)
        except (AssertionError, DisappearedBoxError) as error:
            raise ExpertFailedError(str(error) or "the bot cannot go on") from error
        if advice is None:
            raise ExpertFailedError("the bot has no advice")
        return act_randomly(None) if generator.random() < noise else int(advice)

    return act


@dataclasses.dataclass(frozen=True, kw_only=True)
class BabyAI(Domain):
    """All registered BabyAI levels; noise is the fraction of random actions.

    Attributes:
        tile: Pixels along a cell of the view that is observed as a picture; None: its
            numbers are observed.
    """

    namespace: ClassVar[str] = "babyai"
    title: ClassVar[str] = "BabyAI"
    option: ClassVar[str] = "levels"
    episodes_per_chunk: ClassVar[int] = 100

    tile: int | None = None

    def __post_init__(self) -> None:
        if self.tile is not None and not 1 <= self.tile <= _MAX_TILE:
            raise UsageError(
                f"--tile takes 1 to {_MAX_TILE} pixels a cell, got {self.tile}"
            )

    def tasks(self) -> list[str]:
        """Returns the ids of all registered levels, sorted."""
        return sorted(name for name in gymnasium.registry if name.startswith(_PREFIX))

    def groups(self) -> Mapping[str, Sequence[str]]:
        """Returns `all`: the levels that the bot solves at times."""
        return {"all": [name for name in self.tasks() if name not in _UNSOLVED]}

    def short_name(self, task: str) -> str:
        """Returns a level's name in data set ids.

        >>> BabyAI().short_name("BabyAI-GoToLocal-v0")
        'GoToLocal'
        """
        return task.removeprefix(_PREFIX).removesuffix(_SUFFIX)

    def conditions(self) -> dict[str, Any]:
        """Returns minigrid's version, and how the view is drawn if it is."""
        drawn = {} if self.tile is None else {"tile": self.tile}
        return {"minigrid": minigrid.__version__, **drawn}

    def describe(self, recipe: Recipe) -> Description:
        """Returns the level's spaces, with the mission as text that can be stored."""
        environment = self.make_environment(recipe.task)
        spaces = environment.observation_space.spaces
        mission = gymnasium.spaces.Text(
            max_length=1024, min_length=0, charset=_MISSION_CHARACTERS
        )
        algorithms = {
            "expert": "minigrid.utils.baby_ai_bot.BabyAIBot",
            "noisy": f"BabyAIBot; random actions in fractions of {recipe.noise}",
            "random": "uniformly random actions",
        }
        specification, view = gymnasium.spec(recipe.task), spaces["image"]
        content = "the grid in view, the direction and the mission"
        if self.tile is not None:
            side = self.tile * view.shape[0]
            view = gymnasium.spaces.Box(0, 255, (side, side, 3), np.uint8)
            content = "the view as a picture, the direction and the mission"
            drawing = WrapperSpec(
                name="RGBImgPartialObsWrapper",
                entry_point="minigrid.wrappers:RGBImgPartialObsWrapper",
                kwargs={"tile_size": self.tile},
            )
            specification = copy.deepcopy(specification)
            specification.additional_wrappers = (drawing,)
        return Description(
            environment=specification,
            observation_space=gymnasium.spaces.Dict(
                {
                    "direction": spaces["direction"],
                    "image": view,
                    "mission": mission,
                }
            ),
            action_space=environment.action_space,
            algorithm=algorithms[recipe.policy],
            content=content,
            requirements=[f"minigrid=={minigrid.__version__}"],
        )

    def make_environment(self, task: str) -> Any:
        """Returns the bare environment: no wrapper counts steps or checks spaces."""
        return gymnasium.make(task, disable_env_checker=True).unwrapped

    def _view(self, environment: Any, observation: dict[str, Any]) -> Any:
        """Returns what is seen: object, colour and state of the 7x7 cells, or drawn."""
        if self.tile is None:
            return observation["image"]
        return environment.get_frame(tile_size=self.tile, agent_pov=True)

    def roll_out(
        self, environment: Any, recipe: Recipe, seed: int, attempt: int
    ) -> Rollout:
        """Plays one episode to its end.

        Raises:
            ExpertFailedError: If the bot does not know what to do.
        """
        # minigrid prints "Sampling rejected" while it looks for a solvable mission.
        with contextlib.redirect_stdout(io.StringIO()):
            observation, _ = environment.reset(seed=seed)
        act = _actor(environment, recipe, seed, recipe.episode_noise(attempt))
        observations, actions, outcomes = [observation], [], []
        views = [self._view(environment, observation)]
        action: int | None = None
        ended = False
        while not ended:
            action = act(action)
            observation, reward, terminated, truncated, _ = environment.step(action)
            observations.append(observation)
            views.append(self._view(environment, observation))
            actions.append(action)
            outcomes.append((float(reward), terminated, truncated))
            ended = terminated or truncated
        rewards, terminations, truncations = zip(*outcomes, strict=True)
        # BabyAI pays once, at success, and the pay is positive.
        success = np.cumsum([0.0, *rewards]) > 0
        return Rollout(
            seed=seed,
            observations={
                "direction": np.array([o["direction"] for o in observations], np.int64),
                "image": np.stack(views).astype(np.uint8),
                "mission": [str(o["mission"]) for o in observations],
            },
            actions=np.array(actions, np.int64),
            rewards=np.array(rewards, np.float64),
            terminations=np.array(terminations, bool),
            truncations=np.array(truncations, bool),
            success=success[:, None],
        )

"""Rolls out a policy on a BabyAI level: the bot, the bot with noise, or random actions.

Environments are minigrid's BabyAI levels (MIT) and the expert is its `BabyAIBot`. The
bot fails on some levels and seeds: it raises when nothing is left to explore, or plans
for ever (UnlockToUnlock). Such a seed is given up, counted, and the next one is tried.
"""

import contextlib
import dataclasses
import difflib
import io
from collections.abc import Callable, Iterator
from typing import Any, Literal, SupportsIndex

import gymnasium
import minigrid
import numpy as np
from minigrid.utils.baby_ai_bot import BabyAIBot, DisappearedBoxError
from numpy.typing import NDArray

from gato.schemas.errors import GatoError, UsageError
from gato.schemas.hashing import keyed_hash

Policy = Literal["expert", "noisy", "random"]
POLICIES: tuple[Policy, ...] = ("expert", "noisy", "random")
# Evaluation draws its seeds from here on, so no evaluated episode was ever recorded.
FIRST_EVALUATION_SEED = 1 << 30
# A plan of the bot is a few dozen subgoals deep; this many looks at it without an
# action mean that it goes round in circles. A count, not a clock, so that the same
# command records the same data on a slow machine.
_MAX_LOOKS = 2_000
_PREFIX, _SUFFIX = "BabyAI-", "-v0"


class BotFailedError(Exception):
    """The bot gave up on an episode; another seed is tried."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What decides a data set's content.

    Attributes:
        level: A registered id, such as `BabyAI-GoToLocal-v0`.
        policy: Who acts.
        episodes: How many episodes.
        seed: The command's seed.
        noise: Fractions of random actions; noisy episodes take them in turn.
    """

    level: str
    policy: Policy
    episodes: int
    seed: int = 0
    noise: tuple[float, ...] = ()

    def episode_noise(self, attempt: int) -> float:
        """Returns the fraction of random actions of one episode."""
        if self.policy == "noisy":
            return self.noise[attempt % len(self.noise)]
        return float(self.policy == "random")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rollout:
    """One episode of T steps, with the last observation, as Minari stores it.

    Attributes:
        seed: What the environment was reset with.
        image: uint8 [T+1, 7, 7, 3]; object, colour and state of the cells in view.
        direction: int64 [T+1].
        mission: T+1 texts.
        actions: int64 [T].
        rewards: float64 [T].
        terminations: bool [T].
        truncations: bool [T].
        success: bool [T+1, 1]; whether the mission was achieved by then.
    """

    seed: int
    image: NDArray[np.uint8]
    direction: NDArray[np.int64]
    mission: list[str]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float64]
    terminations: NDArray[np.bool_]
    truncations: NDArray[np.bool_]
    success: NDArray[np.bool_]


class _BoundedPlan(list[Any]):
    """The bot's stack of subgoals, which refuses to be looked at for ever."""

    looks = 0

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        self.looks += 1
        if self.looks > _MAX_LOOKS:
            raise BotFailedError("the bot plans for ever")
        return super().__getitem__(index)


def levels() -> list[str]:
    """Returns the ids of all registered BabyAI levels, sorted."""
    return sorted(name for name in gymnasium.registry if name.startswith(_PREFIX))


def check_level(level: str) -> None:
    """Raises a UsageError that names the nearest level if there is no such one."""
    known = levels()
    if level not in known:
        near = difflib.get_close_matches(level, known, n=1, cutoff=0.0)
        raise UsageError(
            f"--levels takes ids of BabyAI levels, got {level!r}; did you mean"
            f" {near[0]!r}? minigrid {minigrid.__version__} has {len(known)} of them."
        )


def short_name(level: str) -> str:
    """Returns a level's name in data set ids.

    >>> short_name("BabyAI-GoToLocal-v0")
    'GoToLocal'
    """
    return level.removeprefix(_PREFIX).removesuffix(_SUFFIX)


def make_environment(level: str) -> Any:
    """Returns the bare environment: no wrapper counts steps or checks spaces."""
    return gymnasium.make(level, disable_env_checker=True).unwrapped


def seeds(recipe: Recipe) -> Iterator[int]:
    """Yields the seeds to try, each once: [0, 2**30), disjoint between policies."""
    used = set()
    draw = 0
    while True:
        number = keyed_hash(recipe.seed, "episode", recipe.level, recipe.policy, draw)
        draw += 1
        # The low bits say the policy, so that no two policies see the same episode.
        seed = number % (FIRST_EVALUATION_SEED // 4) * 4 + POLICIES.index(recipe.policy)
        if seed not in used:
            used.add(seed)
            yield seed


def _actor(
    environment: Any, recipe: Recipe, seed: int, noise: float
) -> Callable[[int | None], int]:
    """Returns what maps the last action taken to the next one."""
    num_actions = int(environment.action_space.n)
    generator = np.random.default_rng(
        keyed_hash(recipe.seed, "action", recipe.level, recipe.policy, seed)
    )

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
            raise BotFailedError(str(error) or "the bot cannot go on") from error
        if advice is None:
            raise BotFailedError("the bot has no advice")
        return act_randomly(None) if generator.random() < noise else int(advice)

    return act


def roll_out(environment: Any, recipe: Recipe, seed: int, attempt: int) -> Rollout:
    """Plays one episode to its end.

    Args:
        environment: From `make_environment(recipe.level)`.
        recipe: Who acts.
        seed: The episode's seed.
        attempt: How many seeds were tried before; chooses the noise.

    Raises:
        BotFailedError: If the bot does not know what to do.
    """
    # minigrid prints "Sampling rejected" while it looks for a solvable mission.
    with contextlib.redirect_stdout(io.StringIO()):
        observation, _ = environment.reset(seed=seed)
    act = _actor(environment, recipe, seed, recipe.episode_noise(attempt))
    observations, actions, outcomes = [observation], [], []
    action: int | None = None
    ended = False
    while not ended:
        action = act(action)
        observation, reward, terminated, truncated, _ = environment.step(action)
        observations.append(observation)
        actions.append(action)
        outcomes.append((float(reward), terminated, truncated))
        ended = terminated or truncated
    rewards, terminations, truncations = zip(*outcomes, strict=True)
    # BabyAI pays once, at success, and the pay is positive.
    success = np.cumsum([0.0, *rewards]) > 0
    return Rollout(
        seed=seed,
        image=np.stack([o["image"] for o in observations]).astype(np.uint8),
        direction=np.array([o["direction"] for o in observations], np.int64),
        mission=[str(o["mission"]) for o in observations],
        actions=np.array(actions, np.int64),
        rewards=np.array(rewards, np.float64),
        terminations=np.array(terminations, bool),
        truncations=np.array(truncations, bool),
        success=success[:, None],
    )


def rollouts(recipe: Recipe) -> Iterator[Rollout | BotFailedError]:
    """Yields `recipe.episodes` rollouts, and the failure of each seed given up between.

    Raises:
        GatoError: If the bot fails on nearly every seed of the level.
    """
    environment = make_environment(recipe.level)
    recorded = failed = 0
    for attempt, seed in enumerate(seeds(recipe)):
        if recorded == recipe.episodes:
            return
        try:
            rollout = roll_out(environment, recipe, seed, attempt)
        except BotFailedError as error:
            failed += 1
            if failed > 50 + 9 * recorded:
                raise GatoError(
                    f"{recipe.level}, {recipe.policy}: the bot gave up on {failed} of"
                    f" {recorded + failed} seeds (last: {error}). It does not solve"
                    " this level; leave it out of --levels."
                ) from error
            yield error
            continue
        recorded += 1
        yield rollout

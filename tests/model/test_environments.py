"""Environments of evaluation against those that recorded the data."""

import numpy as np
import pytest

from gato.model.evaluation.environments import (
    as_action,
    make_environment,
    plain,
    succeeded,
)
from gato.pipelines.recorders.ale import Atari, AtariExtended
from gato.pipelines.recorders.babyai import BabyAI
from gato.pipelines.recorders.dm_control import RANDOM_BODIES, DMControl
from gato.pipelines.recorders.domain import Recipe
from gato.pipelines.recorders.metaworld import MetaWorld
from gato.pipelines.recorders.sokoban import Sokoban

SEED = 2**30 + 5
# A module that registers ids stands before the colon.
RECORDERS = "gato.pipelines.recorders"
DM_CONTROL = f"{RECORDERS}.dm_control_world:dm_control/"
RANDOM_BODY = f"{RECORDERS}.dm_control_bodies:dm_control_random_"
ATARI = f"{RECORDERS}.ale_world:atari/"
EXTENDED = f"{RECORDERS}.ale_world:ale_extended/"
UNACHIEVED = (ATARI, EXTENDED, DM_CONTROL, RANDOM_BODY)


def assert_same(found, expected):
    if isinstance(expected, dict):
        assert set(found) == set(expected)
        for key, one in expected.items():
            assert_same(found[key], one)
        return
    found = np.asarray(found)
    assert found.dtype == np.asarray(expected).dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "domain", "task", "actions"),
    [
        ("BabyAI-GoToObj-v0", BabyAI(), "BabyAI-GoToObj-v0", [0, 2, 2, 1]),
        (
            "metaworld/reach-v3",
            MetaWorld(),
            "reach-v3",
            [[0.1, -0.2, 0.3, 1.0], [-1.0, 1.0, 0.5, -1.0]],
        ),
        (
            f"{DM_CONTROL}reacher-hard",
            DMControl(),
            "reacher-hard",
            [[0.1, -0.2], [-1.0, 1.0]],
        ),
        *(
            (
                f"{RANDOM_BODY}{bodies}/reacher-hard",
                made(),
                "reacher-hard",
                [[0.1, -0.2], [-1.0, 1.0]],
            )
            for bodies, made in RANDOM_BODIES.items()
        ),
        (f"{ATARI}Breakout", Atari(), "Breakout", [1, 2, 3, 0]),
        (f"{EXTENDED}Galaxian", AtariExtended(), "Galaxian", [1, 2, 3, 0]),
        (f"{RECORDERS}.sokoban_world:sokoban/7x7", Sokoban(), "7x7", [0, 1, 2, 3]),
    ],
)
def test_an_environment_is_observed_as_it_was_recorded(name, domain, task, actions):
    ours, theirs = make_environment(name, {}, None), domain.make_environment(task)
    for seed in (SEED, SEED + 1):
        found, _ = ours.reset(seed=seed)
        expected, _ = theirs.reset(seed=seed)
        assert_same(plain(found), expected)
    for action in actions:
        taken = as_action({"action": np.array(action)}, ours.action_space)
        given = np.array(action, theirs.action_space.dtype)
        found, *outcome, info = ours.step(taken)
        expected, *other, _ = theirs.step(given)
        assert_same(plain(found), expected)
        assert [float(one) for one in outcome] == [float(one) for one in other]
        # These tasks are not achieved or missed.
        silent = None if name.startswith(UNACHIEVED) else False
        assert succeeded(name, float(outcome[0]), info) is silent
    ours.close()


def test_views_are_drawn_as_they_were_recorded():
    domain = BabyAI(tile=8)
    recipe = Recipe(task="BabyAI-GoToObj-v0", policy="expert", episodes=1)
    bare = domain.make_environment(recipe.task)
    recorded = domain.roll_out(bare, recipe, SEED, 0)
    ours = make_environment(recipe.task, {"tile": 8}, None)
    found = [ours.reset(seed=SEED)[0]]
    found += [ours.step(int(action))[0] for action in recorded.actions]
    pictures = np.stack([one["image"] for one in found])
    np.testing.assert_array_equal(pictures, recorded.observations["image"])
    ours.close()


def test_success_is_what_the_environment_says():
    assert succeeded("BabyAI-GoTo-v0", 0.9, {}) is True
    assert succeeded("metaworld/reach-v3", 3.0, {"success": 0.0}) is False
    assert succeeded("Fetch-v4", 0.0, {"is_success": np.array(1.0)}) is True
    assert succeeded("CartPole-v1", 1.0, {}) is None


def test_any_id_is_made_and_cut_where_asked():
    made = make_environment("CartPole-v1", {"sutton_barto_reward": True}, 2)
    made.reset(seed=SEED)
    assert [made.step(1)[3] for _ in range(2)] == [False, True]
    made.close()
    arm = make_environment("metaworld/reach-v3", {}, 3)
    arm.reset(seed=SEED)
    ends = [arm.step(np.zeros(4, np.float32))[3] for _ in range(3)]
    assert ends == [False, False, True]
    arm.close()
    cart = make_environment(f"{DM_CONTROL}cartpole-balance", {}, 2)
    cart.reset(seed=SEED)
    assert [cart.step(np.ones(1, np.float32))[3] for _ in range(2)] == [False, True]
    cart.close()

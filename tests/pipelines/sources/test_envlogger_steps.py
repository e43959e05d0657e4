"""Which of EnvLogger's actions belongs to which observation, and steps that are odd.

Steps are made here as EnvLogger's reader gives them, so this runs without the package.
"""

import types
from typing import Any

import dm_env
import numpy as np
import pytest
from dm_env import specs

from gato.pipelines.sources.envlogger_steps import action_spaces, stored_episode
from gato.pipelines.sources.stored_episode import Stored
from gato.schemas.config import Dataset
from gato.schemas.errors import QuarantineError, Reason

FIRST, MID, LAST = dm_env.StepType


def step(kind: dm_env.StepType, seen: Any, action: Any, reward: Any = 0.5) -> Any:
    timestep = dm_env.TimeStep(kind, None if kind == FIRST else reward, 1.0, seen)
    return types.SimpleNamespace(timestep=timestep, action=action, custom_data=None)


def episode(num_actions: int, last: dm_env.StepType = LAST) -> list[Any]:
    """Sees 0, 1, 2, ...; the action 10n and the reward n / 4 led to n."""
    kinds = [FIRST, *[MID] * (num_actions - 1), last]
    return [
        step(kind, np.float32(n), np.int64(10 * n) if n else None, n / 4)
        for n, kind in enumerate(kinds)
    ]


def stored(steps: list[Any], *about: Any, **settings: Any) -> Stored:
    config = Dataset(name="set", format="envlogger", paths=("raw/*",), **settings)
    told = [*about, None, None][:2]
    return stored_episode(steps, told, {}, config)


@pytest.mark.parametrize("last", [LAST, MID])
def test_an_observation_stands_with_the_action_taken_on_it(
    last: dm_env.StepType,
) -> None:
    found = stored(episode(3, last))
    np.testing.assert_array_equal(found.observations["observation"], [0, 1, 2])
    np.testing.assert_array_equal(found.actions["action"], [10, 20, 30])
    assert found.rewards is not None
    np.testing.assert_array_equal(found.rewards, [0.25, 0.5, 0.75])
    assert (found.task, found.agent, found.success) == (None, None, None)


def test_nested_values_are_flattened() -> None:
    seen = {"arm": (np.zeros(2), np.ones(3)), "say": np.array("go", object)}
    steps = [step(FIRST, seen, None), step(LAST, seen, [1, np.float32(2)])]
    found = stored(steps)
    assert set(found.observations) == {"arm/0", "arm/1", "say"}
    assert found.observations["say"] == ["go"]
    assert np.shape(np.asarray(found.observations["arm/1"])) == (1, 3)
    assert set(found.actions) == {"0", "1"}


def test_names_and_success() -> None:
    about = {"task": "push", "success": False}
    found = stored(episode(2), about, {"task": "other", "agent": "me", "success": True})
    assert (found.task, found.agent) == ("push", "me")
    assert found.success is not None
    assert not found.success.any()
    assert stored(episode(2), {"task": 3}, {"success": True}).success is None
    steps = episode(2)
    for each, solved in zip(steps, (False, False, True), strict=True):
        each.custom_data = {"solved": solved}
    found = stored(steps, filter={"by": "success", "success_key": "solved"})
    assert found.success is not None
    assert found.success.any()


def test_excluded_observations_are_not_stacked() -> None:
    steps = [step(FIRST, {"a": 1, "odd": np.zeros(2)}, None)]
    steps += [step(MID, {"a": 1, "odd": np.zeros(3)}, 1), step(LAST, {}, 1)]
    with pytest.raises(QuarantineError, match=r"'odd'.*must not change") as caught:
        stored(steps)
    assert caught.value.reason == Reason.WRONG_SHAPE
    found = stored(steps, observations={"exclude": ["odd"]})
    assert list(found.observations) == ["a"]


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([], Reason.EMPTY),
        (episode(2)[:1], Reason.EMPTY),
        (episode(2)[1:], Reason.WRONG_SHAPE),
        (episode(2) + episode(2), Reason.WRONG_SHAPE),
        (episode(2) + episode(2)[2:], Reason.WRONG_SHAPE),
        ([*episode(1), step(MID, None, 1)], Reason.WRONG_SHAPE),
        ([step(FIRST, {"a": 1}, None), step(LAST, 0, None)], Reason.MISSING_FIELD),
        ([step(FIRST, None, None), step(LAST, 0, 1)], Reason.MISSING_FIELD),
        (
            [step(FIRST, {"a": 1}, None), step(MID, {"b": 1}, 1), step(LAST, 0, 1)],
            Reason.MISSING_FIELD,
        ),
    ],
)
def test_what_is_no_episode(steps: list[Any], reason: Reason) -> None:
    with pytest.raises(QuarantineError) as caught:
        stored(steps)
    assert caught.value.reason == reason


def test_action_spaces() -> None:
    move = specs.BoundedArray((2,), np.float32, -1, [1, 2])
    keys = specs.BoundedArray((3,), np.int32, 0, 4)
    found = action_spaces(
        {"move": move, "grip": specs.DiscreteArray(3), "keys": (keys,)}
        | {"say": specs.Array((), np.float64)}
    )
    assert found["grip"].num_values == 3
    assert found["keys/0"].num_values == 5
    assert found["move"].num_values is None
    np.testing.assert_array_equal(found["move"].low, [-1, -1])
    np.testing.assert_array_equal(found["move"].high, [1, 2])
    assert found["say"].low is None
    assert list(action_spaces(specs.DiscreteArray(2))) == ["action"]
    assert action_spaces(None) == {}

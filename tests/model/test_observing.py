"""What the policy is shown: its observation, or one that says nothing."""

import collections
import dataclasses

import numpy as np
import pytest
from suites import SUPPORT, Stubborn, play, trained, write_suite

from gato.model.evaluation.observing import ShuffledObservations, as_it_is
from gato.model.evaluation.suite import load_suite
from gato.schemas.errors import UsageError
from gato.schemas.record import Kind


@pytest.fixture(autouse=True)
def _toys_are_found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))


def test_shuffled_observations_are_recorded_ones_and_say_nothing(tmp_path):
    suite = write_suite(tmp_path / "s.yaml", {}, {"task": "BabyAI-PickupLoc-v0"})
    contests = load_suite(suite, trained())
    one, other = (ShuffledObservations(contests, seed) for seed in (0, 1))
    for contest in contests:
        recorded = collections.Counter()
        for row in contest.control.demonstrations:
            starts = np.flatnonzero(row.local_position == 0)
            ends = np.flatnonzero(row.kind == Kind.SEPARATOR)
            recorded.update(
                row.tokens[start:end].astype(np.int32).tobytes()
                for start, end in zip(starts, ends, strict=True)
            )
        # What the environment shows has no part in it, so all of that is lost.
        shown = [one(contest, seed, 3, None) for seed in range(2000)]
        assert [len(each.local_position) for each in shown] == list(map(len, shown))
        assert all(each.local_position[0] == 0 for each in shown)
        drawn = collections.Counter(each.tokens.tobytes() for each in shown)
        assert set(drawn) == set(recorded)
        for observation, times in recorded.items():
            share = times / sum(recorded.values())
            assert abs(drawn[observation] / 2000 - share) < 4 * (share / 2000) ** 0.5
        again = [one(contest, seed, 3, "anything").tokens for seed in range(20)]
        for found, expected in zip(again, shown, strict=False):
            np.testing.assert_array_equal(found, expected.tokens)
        differing = {
            "steps": [one(contest, seed, 4, None) for seed in range(20)],
            "seeds": [other(contest, seed, 3, None) for seed in range(20)],
        }
        for changed in differing.values():
            pairs = zip(changed, shown, strict=False)
            assert any(a.tokens.tobytes() != b.tokens.tobytes() for a, b in pairs)


def test_the_arena_shows_what_its_observer_says(tmp_path):
    asked = []

    def observer(contest, seed, step, value):
        asked.append((seed - 2**30, step))
        return as_it_is(contest, seed, step, value)

    suite = write_suite(tmp_path / "s.yaml", {"max_steps": 2})
    play(suite, Stubborn(rows=2), 2, observer=observer)
    assert sorted(asked) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_shuffled_observations_need_demonstrations(tmp_path):
    (contest,) = load_suite(write_suite(tmp_path / "s.yaml", {}), trained())
    contest.control = dataclasses.replace(contest.control, demonstrations=())
    with pytest.raises(UsageError, match="draws from the task's demonstrations"):
        ShuffledObservations([contest], 0)

"""The search on saved states, in worlds small enough to know what it should find."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gato.pipelines.recorders.procgen_search import Move, Rules, Sight, search

_LEFT, _RIGHT = 0, 1


@dataclasses.dataclass
class Line:
    """A line of cells with a reward at some, and an end at others.

    Attributes:
        rewards: By cell; what is no cell is a wall.
        ends: Cells where the episode ends, completed if there is a reward.
        expanded: How many places were tried from.
        places: Cell and clock of each place since the last `save`, at cell 0.
    """

    rewards: dict[int, float]
    ends: tuple[int, ...] = ()
    expanded: int = 0
    places: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    def _place(self, at: int, clock: int) -> tuple[int, Sight]:
        self.places.append((at, clock))
        sight = Sight(
            clock=clock,
            things=np.array([[0, at, 0, 0, 0], [7, 5, 0, 0, 0]], np.float32),
            grid=np.zeros((1, 1), np.int16),
            rest=bytes([clock % 2]),
        )
        return len(self.places) - 1, sight

    def save(self) -> tuple[int, Sight]:
        """Keeps where it is."""
        self.places = []
        return self._place(0, 0)

    def expand(self, place: int, actions: Sequence[int], repeat: int) -> list[Move]:
        """Walks left and right."""
        self.expanded += 1
        moves = []
        for action in actions:
            (at, clock), reward, steps = self.places[place], 0.0, 0
            while steps < repeat and not reward and (at not in self.ends or not steps):
                after = at + (1 if action == _RIGHT else -1)
                at = after if after in self.rewards else at
                reward, steps = self.rewards[at], steps + 1
            ended = at in self.ends
            found = (None, None) if ended else self._place(at, clock + steps)
            moves.append(Move(steps, reward, ended and reward > 0, *found))
        return moves


def _field(**rewards: float) -> dict[int, float]:
    return {cell: rewards.get(f"at_{cell}", 0.0) for cell in range(-3, 10)}


def test_the_shortest_plan_to_a_reward() -> None:
    line = Line({**_field(at_5=1.0), -3: 1.0})
    assert search(line, Rules(actions=(_LEFT, _RIGHT))) == [_LEFT] * 3


def test_actions_are_repeated_up_to_the_reward() -> None:
    line = Line(_field(at_5=1.0))
    rules = Rules(actions=(_LEFT, _RIGHT), repeat=3)
    assert search(line, rules) == [_RIGHT] * 5


def test_the_end_is_only_gone_to_when_it_completes_the_level() -> None:
    rules = Rules(actions=(_LEFT, _RIGHT))
    dead = Line(_field(at_5=1.0), ends=(3,))
    assert search(dead, rules) is None
    assert search(Line(_field(at_3=1.0), ends=(3,)), rules) == [_RIGHT] * 3
    assert search(Line(_field(at_3=-1.0, at_5=1.0), ends=()), rules) is None


def test_it_gives_up_after_so_many_places() -> None:
    line = Line(_field(at_9=1.0))
    assert search(line, Rules(actions=(_LEFT, _RIGHT), places=4)) is None
    assert line.expanded == 4


def test_what_is_gone_for_is_found_sooner() -> None:
    blind, seeing, sent = (Line(_field(at_5=1.0)) for _ in range(3))
    both = (_LEFT, _RIGHT)
    plan = [_RIGHT] * 5
    assert search(blind, Rules(actions=both)) == plan
    assert search(seeing, Rules(actions=both, kinds=(8, 7), pull=2)) == plan
    assert search(sent, Rules(actions=both, toward=(2, 0))) == plan
    assert seeing.expanded == sent.expanded == 5 < blind.expanded


def test_rules_say_which_places_are_one() -> None:
    line = Line(_field())
    _, one = line._place(0, 0)
    _, later = line._place(0, 1)
    assert Rules(actions=()).key(one) == Rules(actions=()).key(later)
    for rules in (Rules(actions=(), clock=True), Rules(actions=(), rest=True)):
        assert rules.key(one) != rules.key(later)
    _, beside = line._place(1, 0)
    assert Rules(actions=()).key(one) != Rules(actions=()).key(beside)
    assert Rules(actions=(), cell=2).key(one) == Rules(actions=(), cell=2).key(beside)


@given(
    st.dictionaries(st.integers(-6, 6), st.sampled_from([0.0, 0.0, 1.0, -1.0])),
    st.sets(st.integers(-6, 6)),
    st.integers(1, 3),
)
def test_a_plan_does_what_it_says_and_is_found_again(
    rewards: dict[int, float], ends: set[int], repeat: int
) -> None:
    field = {**rewards, 0: 0.0}
    rules = Rules(actions=(_LEFT, _RIGHT), repeat=repeat)
    lines = [Line(dict(field), tuple(ends - {0})) for _ in range(2)]
    plan, again = (search(line, rules) for line in lines)
    assert plan == again
    if plan is None:
        return
    at, total = 0, 0.0
    for step, action in enumerate(plan):
        after = at + (1 if action == _RIGHT else -1)
        at = after if after in field else at
        total += field[at]
        assert at not in ends - {0} or step == len(plan) - 1
    assert total > 0

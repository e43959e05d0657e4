"""Rooms of Sokoban and their solver, against rules that are written down again here."""

import collections

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gato.pipelines.recorders.sokoban_solver import solve
from gato.pipelines.recorders.sokoban_world import (
    MAX_STEPS,
    ROOMS,
    Room,
    Sokoban,
    grid,
    make_room,
    picture,
)

KINDS = " #.$*@+"


def room_of(*rows: str) -> Room:
    """Returns the room of a drawing: # wall, . target, $ box, * box on it, @ player."""
    cells = "".join(rows)

    def those(kinds: str) -> frozenset[int]:
        return frozenset(i for i, kind in enumerate(cells) if kind in kinds)

    (player,) = those("@+")
    return Room(len(rows), those(" .$*@+"), those(".*+"), those("$*"), player)


def drawing(room: Room) -> list[str]:
    return ["".join(KINDS[kind] for kind in row) for row in grid(room)]


PUSH = room_of("######", "#@$ .#", "######", "######", "######", "######")


def test_boxes_are_pushed_and_walls_and_boxes_stop() -> None:
    right = PUSH.after(3)
    assert drawing(right)[1] == "# @$.#"
    assert drawing(right.after(3))[1] == "#  @*#"
    assert right.after(3).solved
    assert right.after(3).after(3) == right.after(3)
    assert PUSH.after(0) == PUSH
    # Not pulled.
    assert drawing(right.after(2))[1] == "#@ $.#"
    two = room_of("######", "#@$$.#", "#.   #", "######", "######", "######")
    assert two.after(3) == two


def test_rewards_are_those_of_the_paper() -> None:
    environment = Sokoban(6, 1)
    environment.reset(seed=0)
    environment.room = room_of(
        "######", "#@$. #", "# $ .#", "######", "######", "######"
    )
    outcomes = [environment.step(action)[1:] for action in (3, 3)]
    assert [o[0] for o in outcomes] == pytest.approx([0.9, -1.1])
    environment.room = PUSH.after(3)
    _, reward, terminated, truncated, info = environment.step(3)
    assert reward == pytest.approx(-0.1 + 1 + 10)
    assert (terminated, truncated, info["success"]) == (True, False, True)


def test_an_episode_is_cut_after_120_steps() -> None:
    environment = Sokoban(7, 2, symbolic=True)
    environment.reset(seed=1)
    environment.room = PUSH
    ends = [environment.step(0)[2:4] for _ in range(MAX_STEPS)]
    assert ends == [(False, False)] * (MAX_STEPS - 1) + [(False, True)]


@pytest.mark.parametrize("name", ROOMS)
def test_rooms_are_made_and_solved(name: str) -> None:
    size, num_boxes = ROOMS[name]
    rooms = [make_room(size, num_boxes, np.random.default_rng(i)) for i in range(20)]
    assert len({(room.floor, room.boxes, room.targets) for room in rooms}) > 15
    solved = 0
    for room in rooms:
        rows = drawing(room)
        assert set(rows[0] + rows[-1]) == {"#"}
        assert {row[0] + row[-1] for row in rows} == {"##"}
        assert collections.Counter("".join(rows))["$"] == num_boxes, "none is home yet"
        plan = solve(room)
        for action in plan or ():
            after = room.after(action)
            assert after != room, "a plan has no step for nothing"
            room = after
        solved += room.solved and plan is not None and len(plan) <= MAX_STEPS
    assert solved >= 19


def fewest_pushes(room: Room) -> int | None:
    """Returns what breadth-first search over single steps finds; None if nothing."""
    border = {room}
    seen = set(border)
    pushes = 0
    while border:
        # All that is reached with this many pushes, then all with one more.
        walked, pushed = list(border), set()
        for one in walked:
            if one.solved:
                return pushes
            for action in range(4):
                after = one.after(action)
                if after in seen:
                    continue
                if after.boxes == one.boxes:
                    seen.add(after)
                    walked.append(after)
                else:
                    pushed.add(after)
        border = pushed - seen
        seen |= border
        pushes += 1
    return None


@given(seed=st.integers(0, 10_000), steps=st.integers(0, 15))
def test_the_solver_finds_a_plan_if_there_is_one(seed: int, steps: int) -> None:
    """Also from rooms that random play has spoilt."""
    random = np.random.default_rng(seed)
    room = make_room(6, 2, random)
    for _ in range(steps):
        room = room.after(int(random.integers(4)))
    fewest, plan = fewest_pushes(room), solve(room)
    assert (plan is None) == (fewest is None)
    pushes = 0
    for action in plan or ():
        after = room.after(action)
        pushes += after.boxes != room.boxes
        room = after
    if fewest is not None:
        assert room.solved
        assert fewest <= pushes <= 3 * fewest


def test_pictures_have_a_patch_for_each_cell() -> None:
    room = make_room(8, 3, np.random.default_rng(3))
    image = picture(room)
    assert (image.shape, image.dtype) == ((128, 128, 3), np.uint8)
    patches = image.reshape(8, 16, 8, 16, 3).swapaxes(1, 2).reshape(64, -1)
    kinds = grid(room).ravel()
    for kind in set(kinds.tolist()):
        assert len(np.unique(patches[kinds == kind], axis=0)) == 1
    assert len(np.unique(patches, axis=0)) == len(set(kinds.tolist()))


def test_a_seed_is_a_room_and_gymnasium_makes_it() -> None:
    one = gymnasium.make("sokoban/7x7")
    two = gymnasium.make("sokoban_grid/7x7")
    pictures = [one.reset(seed=seed)[0] for seed in (5, 6, 5)]
    np.testing.assert_array_equal(pictures[0], pictures[2])
    assert (pictures[0] != pictures[1]).any()
    cells, _ = two.reset(seed=5)
    assert cells.shape == (7, 7)
    seen: Sokoban = one.unwrapped  # pyright: ignore[reportAssignmentType]
    np.testing.assert_array_equal(cells, grid(seen.room))

"""Asks questions about a scene that its picture answers, and answers them.

A question is asked only where its answer is beyond doubt: `the` where there is one,
halves of the room only of what does not stand in the middle. Objects are balls, boxes
and keys; the agent is called the red triangle. Yes and no, and what is there and what
is not, are asked for about equally often where the scene allows both.
"""

import collections
import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

from gato.pipelines.recorders.scenes import (
    COLORS,
    DIRECTIONS,
    KINDS,
    PLURALS,
    STATES,
    Scene,
    Thing,
    pick,
    unique,
)
from gato.schemas.hashing import keyed_hash

# Enough forms always apply that so many different questions are found.
MAX_QUESTIONS = 10
_STEPS = {
    "to the left of": (-1, 0),
    "to the right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """A question with its answer, classified as VQAv2 does.

    Attributes:
        text: The question.
        answer: yes, no, digits, or a few words.
        question_type: How the question begins, of VQAv2's list.
        answer_type: What kind of answer it has.
    """

    text: str
    answer: str
    question_type: str
    answer_type: Literal["yes/no", "number", "other"]


def _is(text: str, truth: bool, question_type: str) -> Question:
    return Question(
        text=text,
        answer="yes" if truth else "no",
        question_type=question_type,
        answer_type="yes/no",
    )


def _count(noun: str, number: int) -> Question:
    return Question(
        text=f"How many {noun} are there?",
        answer=str(number),
        question_type="how many",
        answer_type="number",
    )


def _what(text: str, answer: str, question_type: str) -> Question:
    return Question(
        text=text, answer=answer, question_type=question_type, answer_type="other"
    )


def _coin(generator: np.random.Generator) -> bool:
    return bool(generator.integers(2))


def _name(thing: Thing) -> str:
    return f"{thing.color} {thing.kind}"


def _kinds(scene: Scene) -> collections.Counter[str]:
    return collections.Counter(thing.kind for thing in scene.things)


def _lone_kinds(scene: Scene) -> list[Thing]:
    counts = _kinds(scene)
    return [thing for thing in scene.things if counts[thing.kind] == 1]


def _lone_doors(scene: Scene) -> list[tuple[str, str, str]]:
    """Returns (colour, state, side) of the doors that their colour singles out."""
    counts = collections.Counter(door.color for door in scene.doors)
    return [(d.color, d.state, d.side) for d in scene.doors if counts[d.color] == 1]


def _is_there(scene: Scene, generator: np.random.Generator) -> Question:
    there = {_name(thing) for thing in scene.things}
    wanted = _coin(generator)
    names = [f"{color} {kind}" for color in COLORS for kind in KINDS]
    noun = pick(generator, [name for name in names if (name in there) == wanted])
    return _is(f"Is there a {noun}?", wanted, "is there a")


def _is_colored(scene: Scene, generator: np.random.Generator) -> Question | None:
    lone = _lone_kinds(scene)
    if not lone:
        return None
    thing = pick(generator, lone)
    wanted = _coin(generator)
    color = pick(generator, [c for c in COLORS if (c == thing.color) == wanted])
    return _is(f"Is the {thing.kind} {color}?", wanted, "is the")


def _is_door(scene: Scene, generator: np.random.Generator) -> Question | None:
    doors = _lone_doors(scene)
    if not doors:
        return None
    color, found, _ = pick(generator, doors)
    wanted = _coin(generator)
    # A locked door is not open, and who could say that it is not closed?
    clear = ("locked", "open") if found == "locked" else STATES
    state = pick(generator, [s for s in clear if (s == found) == wanted])
    return _is(f"Is the {color} door {state}?", wanted, "is the")


def _is_farther(scene: Scene, generator: np.random.Generator) -> Question | None:
    single = unique(scene)
    if len(single) < 2:
        return None
    one, two = (single[int(i)] for i in generator.permutation(len(single))[:2])
    ways = {
        "farther left": one.column < two.column,
        "farther right": one.column > two.column,
        "higher up": one.row < two.row,
        "lower down": one.row > two.row,
    }
    way = pick(generator, list(ways))
    return _is(f"Is the {_name(one)} {way} than the {_name(two)}?", ways[way], "is the")


def _is_in_half(scene: Scene, generator: np.random.Generator) -> Question | None:
    # Twice the way from the middle, so that it is a whole number.
    across = {t: 2 * t.column - (scene.columns - 1) for t in unique(scene)}
    down = {t: 2 * t.row - (scene.rows - 1) for t in unique(scene)}
    half = pick(generator, ["left", "right", "top", "bottom"])
    offsets = across if half in ("left", "right") else down
    clear = [thing for thing, offset in offsets.items() if offset]
    if not clear:
        return None
    thing = pick(generator, clear)
    truth = (offsets[thing] < 0) == (half in ("left", "top"))
    return _is(
        f"Is the {_name(thing)} in the {half} half of the room?", truth, "is the"
    )


def _are_more(scene: Scene, generator: np.random.Generator) -> Question:
    kinds = _kinds(scene)
    one, two = (KINDS[int(i)] for i in generator.permutation(len(KINDS))[:2])
    text = f"Are there more {PLURALS[one]} than {PLURALS[two]}?"
    return _is(text, kinds[one] > kinds[two], "are there")


def _does_point(scene: Scene, generator: np.random.Generator) -> Question:
    wanted = _coin(generator)
    found = scene.agent_direction
    way = pick(generator, [d for d in DIRECTIONS if (d == found) == wanted])
    return _is(f"Does the red triangle point {way}?", wanted, "does the")


def _how_many_of_kind(scene: Scene, generator: np.random.Generator) -> Question:
    kind = pick(generator, KINDS)
    return _count(PLURALS[kind], _kinds(scene)[kind])


def _how_many_colored(scene: Scene, generator: np.random.Generator) -> Question:
    counts = collections.Counter((t.color, t.kind) for t in scene.things)
    color, kind = pick(generator, COLORS), pick(generator, KINDS)
    if _coin(generator):
        color, kind = pick(generator, sorted(counts))
    return _count(f"{color} {PLURALS[kind]}", counts[color, kind])


def _how_many_doors(scene: Scene, generator: np.random.Generator) -> Question:
    if _coin(generator):
        return _count("doors", len(scene.doors))
    state = pick(generator, ("locked", "open"))
    return _count(f"{state} doors", sum(d.state == state for d in scene.doors))


def _how_many_objects(scene: Scene, generator: np.random.Generator) -> Question:
    return _count("balls, boxes and keys", len(scene.things))


def _color_of_kind(scene: Scene, generator: np.random.Generator) -> Question | None:
    lone = _lone_kinds(scene)
    if not lone:
        return None
    thing = pick(generator, lone)
    text = f"What color is the {thing.kind}?"
    return _what(text, thing.color, "what color is the")


def _color_of_door(scene: Scene, generator: np.random.Generator) -> Question | None:
    if not scene.doors:
        return None
    door = pick(generator, scene.doors)
    text = f"What color is the door in the {door.side} wall?"
    return _what(text, door.color, "what color is the")


def _kind_of_color(scene: Scene, generator: np.random.Generator) -> Question | None:
    counts = collections.Counter(thing.color for thing in scene.things)
    # What else has a colour: doors, and the triangle, which is red.
    counts.update([*(door.color for door in scene.doors), "red"])
    lone = [thing for thing in scene.things if counts[thing.color] == 1]
    if not lone:
        return None
    thing = pick(generator, lone)
    return _what(f"What kind of object is {thing.color}?", thing.kind, "what kind of")


def _wall_of_door(scene: Scene, generator: np.random.Generator) -> Question | None:
    doors = _lone_doors(scene)
    if not doors:
        return None
    color, _, side = pick(generator, doors)
    return _what(f"Which wall is the {color} door in?", side, "which")


def _state_of_door(scene: Scene, generator: np.random.Generator) -> Question | None:
    if not scene.doors:
        return None
    door = pick(generator, scene.doors)
    text = f"Is the door in the {door.side} wall open, closed or locked?"
    return _what(text, door.state, "is the")


def _way_of_agent(scene: Scene, generator: np.random.Generator) -> Question:
    return _what(
        "Which way does the red triangle point?", scene.agent_direction, "which"
    )


def _what_is_at(scene: Scene, column: int, row: int) -> str:
    """Returns what stands at a cell: an object, a door, the triangle, wall, nothing."""
    for thing in scene.things:
        if (thing.column, thing.row) == (column, row):
            return _name(thing)
    for door in scene.doors:
        if (door.column, door.row) == (column, row):
            return f"{door.color} door"
    if (scene.agent_column, scene.agent_row) == (column, row):
        return "red triangle"
    inside = 0 < column < scene.columns - 1 and 0 < row < scene.rows - 1
    return "nothing" if inside else "wall"


def _corner(scene: Scene, generator: np.random.Generator) -> Question:
    places = {
        f"{down} {across}": _what_is_at(scene, column, row)
        for down, row in (("top", 1), ("bottom", scene.rows - 2))
        for across, column in (("left", 1), ("right", scene.columns - 2))
    }
    filled = [place for place, what in places.items() if what != "nothing"]
    place = pick(generator, filled or list(places))
    text = f"What is in the {place} corner of the room?"
    return _what(text, places[place], "what is in the")


def _neighbour(scene: Scene, generator: np.random.Generator) -> Question | None:
    single = unique(scene)
    if not single:
        return None
    thing = pick(generator, single)
    places = {
        how: _what_is_at(scene, thing.column + across, thing.row + down)
        for how, (across, down) in _STEPS.items()
    }
    filled = [how for how, what in places.items() if what != "nothing"]
    how = pick(generator, filled if filled and _coin(generator) else list(places))
    text = f"What is directly {how} the {_name(thing)}?"
    return _what(text, places[how], "what is")


_Form = Callable[[Scene, np.random.Generator], Question | None]
FORMS: tuple[_Form, ...] = (
    _is_there,
    _is_colored,
    _is_door,
    _is_farther,
    _is_in_half,
    _are_more,
    _does_point,
    _how_many_of_kind,
    _how_many_colored,
    _how_many_doors,
    _how_many_objects,
    _color_of_kind,
    _color_of_door,
    _kind_of_color,
    _wall_of_door,
    _state_of_door,
    _way_of_agent,
    _corner,
    _neighbour,
)


def ask(scene: Scene, seed: int, number: int, count: int) -> list[Question]:
    """Returns `count` different questions on a scene, of as many forms as there are.

    Args:
        scene: The scene.
        seed: The command's seed.
        number: The scene's number.
        count: How many questions; at most `MAX_QUESTIONS`.
    """
    generator = np.random.default_rng(keyed_hash(seed, "question", number))
    asked: dict[str, Question] = {}
    while len(asked) < count:
        for index in generator.permutation(len(FORMS)):
            question = FORMS[int(index)](scene, generator)
            if question is not None and len(asked) < count:
                asked.setdefault(question.text, question)
    return list(asked.values())

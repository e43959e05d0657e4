"""Draws scenes of a grid world by number, and says true things about them in English.

A scene is a walled room with coloured balls, keys and boxes, doors in its walls, and
the agent, a red triangle. Columns and rows count cells from 0 at the top left of the
picture, the wall included. What a caption says follows from the scene alone: counts,
doors and their state, where a thing is, how two things lie to each other, where the
agent looks.
"""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from minigrid.core.grid import Grid
from minigrid.core.world_object import Ball, Box, Door, Key, WorldObj
from numpy.typing import NDArray

from gato.schemas.hashing import keyed_hash

# A cell is one 16x16 patch, so the sides are multiples of 16 without padding.
CELL_PIXELS = 16
KINDS = ("ball", "box", "key")
COLORS = ("blue", "green", "grey", "purple", "red", "yellow")
STATES = ("closed", "locked", "open")
SIDES = ("bottom", "left", "right", "top")
DIRECTIONS = ("right", "down", "left", "up")
PLURALS = {"ball": "balls", "box": "boxes", "key": "keys", "door": "doors"}
_Of = TypeVar("_Of")
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thing:
    """A ball, box or key at a cell."""

    kind: str
    color: str
    column: int
    row: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class DoorInWall:
    """A door in one of the four walls."""

    color: str
    state: str
    side: str
    column: int
    row: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """A room of `columns` x `rows` cells, walls included."""

    columns: int
    rows: int
    things: tuple[Thing, ...]
    doors: tuple[DoorInWall, ...]
    agent_column: int
    agent_row: int
    agent_direction: str


def _draw_door(
    generator: np.random.Generator, side: str, columns: int, rows: int
) -> DoorInWall:
    column = int(generator.integers(1, columns - 1))
    row = int(generator.integers(1, rows - 1))
    if side in ("left", "right"):
        column = 0 if side == "left" else columns - 1
    else:
        row = 0 if side == "top" else rows - 1
    return DoorInWall(
        color=str(generator.choice(COLORS)),
        state=str(generator.choice(STATES)),
        side=side,
        column=column,
        row=row,
    )


def draw_scene(seed: int, number: int) -> Scene:
    """Returns scene `number` of a seed: the same on every call and machine."""
    generator = np.random.default_rng(keyed_hash(seed, "scene", number))
    columns, rows = int(generator.integers(6, 10)), int(generator.integers(5, 9))
    num_things = int(generator.integers(1, 7))
    inside = (columns - 2) * (rows - 2)
    cells = generator.permutation(inside)[: num_things + 1]
    places = [(1 + int(c) % (columns - 2), 1 + int(c) // (columns - 2)) for c in cells]
    things = tuple(
        Thing(
            kind=str(generator.choice(KINDS)),
            color=str(generator.choice(COLORS)),
            column=column,
            row=row,
        )
        for column, row in places[1:]
    )
    sides = generator.permutation(SIDES)[: int(generator.integers(0, 4))]
    return Scene(
        columns=columns,
        rows=rows,
        things=things,
        doors=tuple(_draw_door(generator, str(s), columns, rows) for s in sides),
        agent_column=places[0][0],
        agent_row=places[0][1],
        agent_direction=str(generator.choice(DIRECTIONS)),
    )


def render(scene: Scene) -> NDArray[np.uint8]:
    """Returns uint8 [16 * rows, 16 * columns, 3], RGB, drawn by minigrid."""
    grid = Grid(scene.columns, scene.rows)
    grid.wall_rect(0, 0, scene.columns, scene.rows)
    makers: dict[str, Callable[[str], WorldObj]] = {
        "ball": Ball,
        "box": Box,
        "key": Key,
    }
    for thing in scene.things:
        grid.set(thing.column, thing.row, makers[thing.kind](thing.color))
    for door in scene.doors:
        drawn = Door(door.color, door.state == "open", door.state == "locked")
        grid.set(door.column, door.row, drawn)
    return grid.render(
        CELL_PIXELS,
        (scene.agent_column, scene.agent_row),
        DIRECTIONS.index(scene.agent_direction),
    )


def _counted(number: int, noun: str) -> str:
    """Returns `three red keys`, `one box`, `no doors`; the noun ends in a kind."""
    if number != 1:
        head, _, kind = noun.rpartition(" ")
        noun = f"{head} {PLURALS[kind]}".strip()
    return f"{_NUMBERS[number]} {noun}"


def _listed(phrases: Sequence[str]) -> str:
    """Returns `a`, `a and b`, `a, b and c`."""
    if len(phrases) == 1:
        return phrases[0]
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeio" else f"a {word}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def pick(generator: np.random.Generator, options: Sequence[_Of]) -> _Of:
    """Returns one of the options."""
    return options[int(generator.integers(len(options)))]


def unique(scene: Scene) -> list[Thing]:
    """Returns the things that colour and kind single out: they may be called `the`."""
    counts = collections.Counter((t.color, t.kind) for t in scene.things)
    return [t for t in scene.things if counts[t.color, t.kind] == 1]


def _contents(scene: Scene, generator: np.random.Generator) -> str:
    counts = collections.Counter(f"{t.color} {t.kind}" for t in scene.things)
    phrases = [
        _a(noun) if count == 1 else _counted(count, noun)
        for noun, count in counts.items()
    ]
    things = _listed(phrases)
    doors = [f"{_a(door.state)} {door.color} door" for door in scene.doors]
    forms = [
        f"A room with {things}.",
        f"{_capital(things)} in a room.",
        f"The picture shows {things}.",
        f"This room holds {things}.",
        f"{_capital(things)}.",
    ]
    if doors:
        forms += [f"{_capital(things)} in a room with {_listed(doors)}."] * 3
    return pick(generator, forms)


def _doors(scene: Scene, generator: np.random.Generator) -> str:
    if not scene.doors:
        return pick(generator, ["There is no door.", "The walls have no doors."])
    door = pick(generator, scene.doors)
    return pick(
        generator,
        [
            f"The {door.side} wall has a {door.color} door, which is {door.state}.",
            f"There is {_a(door.state)} {door.color} door in the {door.side} wall.",
            f"The door in the {door.side} wall is {door.color} and {door.state}.",
        ],
    )


def region(scene: Scene, thing: Thing) -> str:
    """Returns which third of the room, each way, a thing lies in."""
    across = (thing.column - 1) * 3 // (scene.columns - 2)
    down = (thing.row - 1) * 3 // (scene.rows - 2)
    if across == 1 and down == 1:
        return "in the centre"
    if across == 1:
        return ("at the top", "", "at the bottom")[down]
    if down == 1:
        return ("on the left", "", "on the right")[across]
    return f"in the {('top', '', 'bottom')[down]} {('left', '', 'right')[across]}"


def _place(scene: Scene, generator: np.random.Generator) -> str:
    single = unique(scene)
    if not single:
        return ""
    thing = pick(generator, single)
    name = f"the {thing.color} {thing.kind}"
    forms = [
        f"{_capital(name)} is {region(scene, thing)} of the room.",
        f"{_capital(name)} lies in column {thing.column}, row {thing.row}.",
    ]
    return pick(generator, forms)


def _relation(scene: Scene, generator: np.random.Generator) -> str:
    single = unique(scene)
    if len(single) < 2:
        return ""
    first, second = (single[int(i)] for i in generator.permutation(len(single))[:2])
    across, down = first.column - second.column, first.row - second.row
    if abs(across) + abs(down) == 1:
        how = "next to"
    elif abs(across) >= abs(down):
        how = "left of" if across < 0 else "right of"
    else:
        how = "above" if down < 0 else "below"
    return f"The {first.color} {first.kind} is {how} the {second.color} {second.kind}."


def _count(scene: Scene, generator: np.random.Generator) -> str:
    kinds = collections.Counter(thing.kind for thing in scene.things)
    kind = pick(generator, KINDS)
    number = kinds[kind]
    verb = "is" if number == 1 else "are"
    doors = _counted(len(scene.doors), "door")
    return pick(
        generator,
        [
            f"There {verb} {_counted(number, kind)}.",
            f"The room has {_counted(number, kind)} and {doors}.",
        ],
    )


def _agent(scene: Scene, generator: np.random.Generator) -> str:
    way = scene.agent_direction
    return pick(
        generator, [f"The red triangle points {way}.", f"The agent looks {way}."]
    )


def describe(scene: Scene, seed: int, number: int) -> str:
    """Returns a caption of one to three sentences, all true of the scene.

    >>> describe(draw_scene(0, 0), 0, 0) == describe(draw_scene(0, 0), 0, 0)
    True
    """
    generator = np.random.default_rng(keyed_hash(seed, "caption", number))
    forms = [_doors, _place, _relation, _count, _agent]
    order = generator.permutation(len(forms))[: int(generator.integers(0, 3))]
    sentences = [_contents(scene, generator)]
    sentences += [forms[int(i)](scene, generator) for i in order]
    return " ".join(sentence for sentence in sentences if sentence)

"""How far long work is, where there is a terminal and where there is none."""

import io
from typing import Any

import rich.console

from gato.model.evaluation.progress import watch
from gato.model.progress import Progress


class Clock:
    """A time that is set."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def console_of(terminal):
    """Returns a console, what it writes to, and its clock."""
    file, clock = io.StringIO(), Clock()
    console = rich.console.Console(
        file=file, force_terminal=terminal, width=99, get_time=clock
    )
    return console, file, clock


def lines_of(file):
    return [line for line in file.getvalue().splitlines() if line]


def test_a_log_gets_a_line_each_half_minute():
    console, file, clock = console_of(False)
    with Progress(console) as progress:
        cells = progress.add_task("cells", total=2)
        steps = progress.add_task("steps [1]", total=10_000)
        for done in range(1, 91):
            clock.now += 1
            progress.update(steps, completed=100 * done)
        progress.remove_task(steps)
        clock.now += 40
        progress.advance(cells)
    assert lines_of(file) == [
        "cells: 0 of 2; steps [1]: 3,000 of 10,000, 0:01:10 left",
        "cells: 0 of 2; steps [1]: 6,000 of 10,000, 0:00:40 left",
        "cells: 0 of 2; steps [1]: 9,000 of 10,000, 0:00:10 left",
        "cells: 1 of 2",
    ]


def test_a_terminal_gets_bars_alone():
    console, file, clock = console_of(True)
    with Progress(console) as progress:
        bar = progress.add_task("steps", total=10)
        clock.now += 100
        progress.advance(bar)
    assert "1/10" in file.getvalue()
    assert "1 of 10" not in file.getvalue()


class Played:
    """Stands for an arena of two tasks: each episode takes three steps of 20 s."""

    def __init__(self, clock):
        self.clock = clock

    def play(self, seeds, on_step):
        for number in range(2 * len(seeds)):
            for _ in range(3):
                self.clock.now += 20
                on_step(4)
            yield number


def test_episodes_are_told_while_they_are_played():
    console, file, clock = console_of(False)
    with Progress(console) as progress:
        arena: Any = Played(clock)
        found = list(watch(arena, range(5, 7), 2, progress))
        assert not progress.tasks
    assert found == [0, 1, 2, 3]
    lines = lines_of(file)
    assert lines[0] == "episodes (8 steps): 0 of 4"
    assert lines[2] == "episodes (24 steps): 1 of 4"
    assert all("left" in line for line in lines[3:])
    assert len(lines) == 6

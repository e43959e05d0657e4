"""`make play`: an exported agent acts live, and one episode is shown step by step.

    python -m gato.model.play --checkpoint checkpoints/generalist --episodes 5

Plays each task of the folder's suite with seeds that were never recorded, prints the
scores, then shows one episode: what the agent sees, what it does, what it gets. The
folder is one of gato-export.
"""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import rich.console
import rich.live
import rich.panel
import rich.text

from gato.model.command import run_command
from gato.model.control import flatten
from gato.model.evaluate import make_policy, prompt_lengths
from gato.model.evaluation.progress import watch
from gato.model.evaluation.report import TABLE_WIDTH, Report
from gato.model.evaluation.rollouts import Arena, Episode, evaluation_seeds
from gato.model.evaluation.suite import Contest, load_suite
from gato.model.export import SUITE_NAME
from gato.model.policy import MEMORIES
from gato.model.prefix import Prefix
from gato.model.progress import Progress
from gato.model.weights import load_weights
from gato.schemas.errors import UsageError
from gato.tokenizers.pictures import draw_image

# Of a picture in the terminal.
_COLUMNS, _LINES = 42, 21
_NUMBERS_SHOWN = 6

_AGENT = "checkpoints/generalist"

_EXAMPLES = """examples:
  python -m gato.model.play
  python -m gato.model.play --task BabyAI-GoToRedBallGrey-v0 --first_seed 100
  python -m gato.model.play --checkpoint checkpoints/small --episodes 50"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gato-play",
        description="An exported agent acts live; one episode is shown step by step.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--checkpoint", default=_AGENT, metavar="DIR", help="(%(default)s)")
    add("--task", metavar="NAME", help="this one only (all of the suite)")
    add("--episodes", type=int, default=5, help="of each task (%(default)s)")
    add("--temperature", type=float, default=1.0, help="0: the likeliest (%(default)s)")
    add("--memory", choices=MEMORIES, default="rows", help="(%(default)s)")
    add("--seed", type=int, default=0, help="of drawn tokens (%(default)s)")
    add("--first_seed", type=int, default=0, help="environments' seeds, from 2**30 on")
    add("--delay", type=float, default=0.3, help="seconds a step (%(default)s)")
    return parser


class Recorder:
    """Keeps what the agent sees and does in one episode; an `Observer` and more.

    Args:
        seed: Of the episode.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.frames: dict[str, list[Any]] = {}

    def __call__(self, contest: Contest, seed: int, step: int, value: Any) -> Prefix:
        """Returns the observation itself."""
        if seed == self.seed:
            self.frames.setdefault(contest.entry.name, []).append(value)
        return contest.control.observe(value)


def _look(value: Any, color: bool) -> rich.text.Text:
    """Returns an observation as text: pictures drawn, texts and numbers by name."""
    shown = rich.text.Text()
    for key, column in sorted(flatten(value)):
        if shown:
            shown.append("\n")
        item: Any = column[0]
        if isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim == 3:
            shown.append(draw_image(item, columns=_COLUMNS, lines=_LINES, color=color))
            continue
        numbers = np.asarray(item)
        if numbers.dtype.kind in "US":
            shown.append(f"{key}: {item}")
            continue
        listed = [f"{one:.3g}" for one in numbers.ravel()[:_NUMBERS_SHOWN]]
        more = "" if numbers.size <= _NUMBERS_SHOWN else f" ... of {numbers.size}"
        shown.append(f"{key}: {' '.join(listed)}{more}")
    return shown


def show(
    console: rich.console.Console, name: str, frames: Sequence[Any], delay: float
) -> None:
    """Shows an episode, each step in the last one's place if this is a terminal."""
    color = console.color_system is not None

    def panels() -> Iterator[rich.panel.Panel]:
        for step, value in enumerate(frames):
            title = f"{name}, step {step + 1} of {len(frames)}"
            yield rich.panel.Panel(_look(value, color), title=title, expand=False)

    if not console.is_terminal:
        for panel in panels():
            console.print(panel)
        return
    with rich.live.Live(console=console, auto_refresh=False) as live:
        for panel in panels():
            live.update(panel, refresh=True)
            time.sleep(delay)


def _choose(arguments: argparse.Namespace, contests: list[Contest]) -> list[Contest]:
    if arguments.episodes < 1:
        raise UsageError(f"--episodes is at least 1, got {arguments.episodes}")
    for flag in ("temperature", "delay"):
        if (value := getattr(arguments, flag)) < 0:
            raise UsageError(f"--{flag} is at least 0, got {value}")
    if arguments.task is None:
        return contests
    chosen = [one for one in contests if one.entry.name == arguments.task]
    if not chosen:
        names = ", ".join(one.entry.name for one in contests)
        raise UsageError(f"--task is one of {names}; got {arguments.task}")
    return chosen


def _told(episode: Episode) -> str:
    if episode.failure:
        return f"the environment failed: {episode.failure}"
    outcome = {True: "solved", False: "not solved", None: "ended"}[episode.success]
    return f"{outcome} after {episode.steps} steps, return {episode.reward:.4g}"


def _execute(arguments: argparse.Namespace) -> None:
    folder = arguments.checkpoint
    trained = load_weights(folder)
    contests = load_suite(os.path.join(folder, SUITE_NAME), trained)
    contests = _choose(arguments, contests)
    seeds = evaluation_seeds(arguments.first_seed, arguments.episodes)
    policy = make_policy(
        trained,
        contests,
        min(16, len(contests) * len(seeds)),
        temperature=arguments.temperature,
        seed=arguments.seed,
        memory=arguments.memory,
    )
    lengths = prompt_lengths(contests, trained.model.sequence_length, arguments.memory)
    recorder = Recorder(seeds[0])
    arena = Arena(contests, policy, lengths, observer=recorder)
    progress = Progress(rich.console.Console(stderr=True))
    with contextlib.closing(arena), progress:
        episodes = list(watch(arena, seeds, len(contests), progress))
    out = rich.console.Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    for number, contest in enumerate(contests):
        (shown,) = (e for e in episodes if (e.task, e.seed) == (number, seeds[0]))
        if contest.control.has_images or len(contests) == 1:
            name = contest.entry.name
            show(out, name, recorder.frames.get(name, []), arguments.delay)
            out.print(f"{name}, seed {shown.seed}: {_told(shown)}\n")
            break
    report = Report(contests, episodes, [])
    out.print(report.table())
    out.print(report.threshold_line())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 1 for failure or 2 for usage."""
    return run_command(_execute, _parser(), argv, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())

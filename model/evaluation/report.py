"""What an evaluation found: a table for reading, JSON for everything else.

An episode whose environment crashed has no return, so it is counted beside its task's
score and is no part of it.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import rich.table
from numpy.typing import NDArray

from gato.model.evaluation.beside import Result
from gato.model.evaluation.rollouts import Episode
from gato.model.evaluation.scores import Score, Scores, normalize, score
from gato.model.evaluation.suite import Contest
from gato.schemas.errors import GatoError

# A file or a pipe has no width of its own, and a table cut to 80 says little.
TABLE_WIDTH = 140
IN_DISTRIBUTION, HELD_OUT = "in distribution", "held out"
_NUMBERS = (
    *("episodes", "crashed", "success %", "return", "random", "expert"),
    *("score", "95% interval"),
)


class Report:
    """The scores of a suite's episodes.

    Args:
        contests: The suite's tasks.
        episodes: All that were played.
        beside: Others' results to show.

    Raises:
        GatoError: If not one episode of a task could be played, with what was said.
    """

    def __init__(
        self,
        contests: Sequence[Contest],
        episodes: Sequence[Episode],
        beside: Sequence[Result] = (),
    ) -> None:
        self._beside = beside
        self._contests = contests
        self._episodes = sorted(episodes, key=lambda one: (one.task, one.seed))
        self._by_task = [
            self._scores(task, contest) for task, contest in enumerate(contests)
        ]
        self.scores: Scores = score(self._by_task, [one.domain for one in contests])

    @functools.cached_property
    def by_novelty(self) -> dict[str, Score]:
        """Means over domains of held-out and of other tasks; empty if all are one."""
        found = {}
        for is_held_out, name in ((False, IN_DISTRIBUTION), (True, HELD_OUT)):
            tasks = [
                task
                for task, one in enumerate(self._contests)
                if one.held_out == is_held_out
            ]
            if 0 < len(tasks) < len(self._contests):
                domains = [self._contests[task].domain for task in tasks]
                found[name] = score([self._by_task[t] for t in tasks], domains).overall
        return found

    def _played(self, task: int) -> list[Episode]:
        return [one for one in self._episodes if one.task == task]

    def _scores(self, task: int, contest: Contest) -> NDArray[np.float64]:
        played = self._played(task)
        returns = [one.reward for one in played if one.reward is not None]
        if not returns:
            raise GatoError(
                f"{contest.entry.name}: none of its {len(played)} episodes could be"
                f" played to the end; the first ended with: {played[0].failure}"
            )
        reference = contest.random_return, contest.expert_return
        return normalize(np.array(returns), *reference)

    def _mean_return(self, task: int) -> float:
        played = self._played(task)
        return math.fsum(one.reward or 0.0 for one in played) / len(self._by_task[task])

    def as_json(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """Returns all of it.

        Args:
            run: What was evaluated and how, to stand in front.
        """
        return {
            **run,
            "interval": "95% percentile bootstrap over episodes within tasks",
            "overall": self.scores.overall.as_json(),
            "domains": {
                name: one.as_json() for name, one in self.scores.domains.items()
            },
            "by_novelty": {
                name: one.as_json() for name, one in self.by_novelty.items()
            },
            "thresholds": self.scores.thresholds,
            "tasks": [self._task_json(task) for task in range(len(self._contests))],
            "beside": {one.name: one.as_json() for one in self._beside},
        }

    def _task_json(self, task: int) -> dict[str, Any]:
        contest, played = self._contests[task], self._played(task)
        return {
            "task": contest.entry.name,
            "domain": contest.domain,
            "environment": contest.entry.environment,
            "held_out": contest.held_out,
            "score": self.scores.tasks[task].as_json(),
            "success_rate": _success_rate(played),
            "return": self._mean_return(task),
            "random_return": contest.random_return,
            "expert_return": contest.expert_return,
            "crashed": sum(one.failure is not None for one in played),
            "episodes": [
                {
                    "seed": one.seed,
                    "steps": one.steps,
                    "prompt_tokens": one.prompt_tokens,
                    "return": one.reward,
                    "success": one.success,
                    "failure": one.failure,
                    "video": one.video,
                }
                for one in played
            ],
        }

    def table(self) -> rich.table.Table:
        """Returns tasks, domains and the whole, with their intervals."""
        made = rich.table.Table(title="100 is the expert's return, 0 a random policy's")
        # Folded, not cut: tasks may differ in the ends of their names alone.
        made.add_column("task", overflow="fold")
        made.add_column("data")
        for title in _NUMBERS:
            made.add_column(title, justify="right")
        for one in self._beside:
            made.add_column(one.name, justify="right")
        blank = [""] * (len(_NUMBERS) - 1)  # data, and numbers but the last two
        for task, contest in enumerate(self._contests):
            played = self._played(task)
            rate = _success_rate(played)
            made.add_row(
                contest.entry.name,
                HELD_OUT if contest.held_out else IN_DISTRIBUTION,
                str(len(self._by_task[task])),
                str(len(played) - len(self._by_task[task])),
                "" if rate is None else f"{100 * rate:.0f}",
                f"{self._mean_return(task):.4g}",
                f"{contest.random_return:.4g}",
                f"{contest.expert_return:.4g}",
                *self.scores.tasks[task].cells(),
                *self._others(
                    lambda one, c=contest: one.tasks.get((c.domain, c.entry.name))
                ),
            )
        made.add_section()
        for name, one in self.by_novelty.items():
            made.add_row("mean of tasks", name, *blank[1:], *one.cells())
        for name, one in self.scores.domains.items():
            others = self._others(lambda result, name=name: result.domains.get(name))
            made.add_row(f"mean of {name}", *blank, *one.cells(), *others)
        others = self._others(lambda result: result.overall)
        overall = self.scores.overall.cells()
        made.add_row("mean of domains", *blank, *overall, *others)
        return made

    def _others(self, choose: Callable[[Result], Score | None]) -> list[str]:
        """Returns one cell for each result beside; empty where it has no such score."""
        found = [choose(one) for one in self._beside]
        return ["" if one is None else " ".join(_short(one)) for one in found]

    def curves(self, name: str) -> dict[str, list[float]]:
        """Returns the tasks' scores, and those of others that have them all.

        Args:
            name: Of the one that was evaluated.
        """
        keys = [(one.domain, one.entry.name) for one in self._contests]
        curves = {name: [one.mean for one in self.scores.tasks]}
        for result in self._beside:
            if all(key in result.tasks for key in keys):
                curves[result.name] = [result.tasks[key].mean for key in keys]
        return curves

    def threshold_line(self) -> str:
        """Returns how many tasks reach each threshold, in one line."""
        reached = self.scores.thresholds.items()
        counts = ", ".join(f"{percent}%: {count}" for percent, count in reached)
        return f"tasks of {len(self._contests)} at or above {counts}"


def _short(one: Score) -> tuple[str, str]:
    return f"{one.mean:.1f}", f"({one.low:.0f} to {one.high:.0f})"


def _success_rate(played: Sequence[Episode]) -> float | None:
    known = [one.success for one in played if one.success is not None]
    return sum(known) / len(known) if known else None

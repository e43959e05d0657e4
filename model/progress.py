"""How far long work is: bars on a terminal, a line now and then in a log."""

import datetime
from typing import Any

import rich.console
import rich.progress

# Between two lines of a log.
_LINE_SECONDS = 30.0
# That the speed is taken over: an episode may take a minute.
_SPEED_SECONDS = 600.0


class Progress(rich.progress.Progress):
    """Rich's bars; where the console is no terminal, lines in their place.

    Args:
        console: Where they are shown.
    """

    def __init__(self, console: rich.console.Console) -> None:
        super().__init__(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeRemainingColumn(),
            console=console,
            speed_estimate_period=_SPEED_SECONDS,
            disable=not console.is_terminal,
        )
        self._said = self.get_time()

    def update(self, task_id: rich.progress.TaskID, **changes: Any) -> None:
        """Changes a task, as Rich does, and says how far all are if it is time."""
        super().update(task_id, **changes)
        self._say()

    def advance(self, task_id: rich.progress.TaskID, advance: float = 1) -> None:
        """Likewise."""
        super().advance(task_id, advance)
        self._say()

    def _say(self) -> None:
        now = self.get_time()
        if not self.disable or now - self._said < _LINE_SECONDS:
            return
        self._said = now
        line = "; ".join(_told(task) for task in self.tasks)
        self.console.print(line, soft_wrap=True, highlight=False, markup=False)


def _told(task: rich.progress.Task) -> str:
    total = "?" if task.total is None else f"{task.total:,.0f}"
    said = f"{task.description}: {task.completed:,.0f} of {total}"
    if task.time_remaining is None:
        return said
    return f"{said}, {datetime.timedelta(seconds=task.time_remaining)} left"

"""The paper's figure 5: how many tasks reach each share of the expert's score."""

import importlib.util
import io
import os
from collections.abc import Mapping, Sequence

import numpy as np

from gato.schemas import files
from gato.schemas.errors import UsageError

_FORMATS = (".png", ".svg")


def check_plot_can_be_drawn(path: str) -> None:
    """Checks format and Matplotlib before hours are spent.

    Raises:
        UsageError: If the file's suffix is another, or Matplotlib is not installed.
    """
    if not path.endswith(_FORMATS):
        raise UsageError(f"--plot is a .png or .svg file, got {path}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(
            "--plot is drawn by Matplotlib, which is not installed. Run: pip install"
            " matplotlib"
        )


def tasks_at_or_above(means: Sequence[float]) -> list[int]:
    """Returns how many scores reach each of 0, 1, ... 100.

    >>> tasks_at_or_above([0.0, 99.5])[99:]
    [1, 0]
    """
    found = np.asarray(means)[None, :] >= np.arange(101)[:, None]
    return found.sum(axis=1).tolist()


def draw_thresholds(path: str, curves: Mapping[str, Sequence[float]]) -> None:
    """Writes the number of tasks at or above each threshold.

    Args:
        path: A .png or .svg file.
        curves: Scores of the tasks, by the name in the legend.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # Equal content is equal bytes: no date, no random names.
    with matplotlib.rc_context({"svg.hashsalt": "gato"}):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.add_subplot()
        for name, means in curves.items():
            axes.plot(range(101), tasks_at_or_above(means), label=name)
        axes.set_xlim(0, 100)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("score threshold (% of the expert's, above random)")
        axes.set_ylabel("tasks at or above it")
        axes.legend()
        drawn = io.BytesIO()
        kind = os.path.splitext(path)[1][1:]
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(drawn, format=kind, dpi=150, metadata=metadata)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    files.write_atomic(path, drawn.getvalue())

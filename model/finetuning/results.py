"""What fine-tuning found: a file and perhaps weights a cell, then table, JSON, figure.

Matplotlib is imported when a figure is drawn, and by nothing else.
"""

import importlib.util
import io
import json
import os
import shutil
from collections.abc import Sequence
from typing import Any

import rich.table

from gato.model.finetuning.tuner import SMOOTHED
from gato.model.weights import Trained, save_weights
from gato.schemas import files
from gato.schemas.errors import GatoError, UsageError

_CELLS, _WEIGHTS = "cells", "weights"
_FIGURE_FORMATS = ("png", "svg")
_EXPERT = 100.0


def cell_path(output: str, initialisation: str, count: int) -> str:
    """Returns where a finished cell stands."""
    return files.join(output, _CELLS, f"{initialisation}-{count}.json")


def weights_path(output: str, initialisation: str, count: int) -> str:
    """Returns the folder of a finished cell's weights; the output is local."""
    return files.local_path(files.join(output, _WEIGHTS, f"{initialisation}-{count}"))


def write_weights(path: str, trained: Trained) -> None:
    """Writes what `load_weights` takes, whole or not at all.

    Args:
        path: Of `weights_path`.
        trained: The weights, and of what run they are.

    Raises:
        GatoError: If it could not be written.
    """
    part = f"{path}.part"
    # Left by a command that was torn, as weights without their cell are.
    for former in (part, path):
        shutil.rmtree(former, ignore_errors=True)
    save_weights(trained, part)
    os.rename(part, path)


def read_cell(path: str, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Returns a finished cell, or None if it is not there.

    Args:
        path: Of `cell_path`.
        settings: What decides its content; those it was made with must be the same.

    Raises:
        GatoError: If it is of other settings, naming what differs, or damaged.
    """
    try:
        found = json.loads(files.read_bytes(path))
        made_with = found["settings"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise GatoError(
            f"{path}: not a finished cell of gato-finetune ({error!r}). Remove it, and"
            " the same command makes it again."
        ) from error
    # As JSON has them: a tuple comes back as a list.
    wanted = json.loads(json.dumps(settings))
    differing = [
        f"{key} was {made_with.get(key)!r} and is {wanted.get(key)!r}"
        for key in sorted(made_with.keys() | wanted.keys())
        if made_with.get(key) != wanted.get(key)
    ]
    if differing:
        raise UsageError(
            f"{path}: a folder holds the cells of one command, but"
            f" {'; '.join(differing)}. Give another --output, or the former values."
        )
    return found


def write_json(path: str, content: dict[str, Any]) -> None:
    """Writes an object, whole or not at all."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    files.write_atomic(path, text.encode())


def table(cells: Sequence[dict[str, Any]], task: str) -> rich.table.Table:
    """Returns a line for each cell."""
    made = rich.table.Table(
        title=f"{task}: 100 is the expert's return, 0 a random policy's"
    )
    made.add_column("from")
    for title in (
        "demonstrations",
        "before",
        "final",
        "95% interval",
        f"best of {SMOOTHED} smoothed",
        "success %",
    ):
        made.add_column(title, justify="right")
    for cell in cells:
        final = cell["evaluations"][-1]
        score, rate = final["score"], final["success_rate"]
        made.add_row(
            cell["initialisation"],
            str(cell["demonstrations"]),
            f"{cell['evaluations'][0]['score']['mean']:.1f}",
            f"{score['mean']:.1f}",
            f"{score['low']:.1f} to {score['high']:.1f}",
            f"{cell['best_smoothed']:.1f}",
            "" if rate is None else f"{100 * rate:.0f}",
        )
    made.add_section()
    made.add_row("expert", "", "", f"{_EXPERT:.1f}", "", "", "")
    return made


def check_figure_can_be_drawn() -> None:
    """Checks for Matplotlib before hours are spent.

    Raises:
        UsageError: If it is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(
            "the figure of the scores is drawn by Matplotlib, which is not installed."
            " Run: pip install matplotlib"
        )


def draw(cells: Sequence[dict[str, Any]], task: str, stem: str) -> None:
    """Writes scores against demonstrations as PNG and SVG, with the expert's line.

    Args:
        cells: Finished.
        task: Its name.
        stem: Path without a suffix.
    """
    import matplotlib
    from matplotlib.figure import Figure

    by_name: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        by_name.setdefault(cell["initialisation"], []).append(cell)
    # Equal content is equal bytes: no date, no random names.
    with matplotlib.rc_context({"svg.hashsalt": "gato"}):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.add_subplot()
        for number, (name, its_cells) in enumerate(by_name.items()):
            _draw_line(axes, name, its_cells, f"C{number}")
        axes.axhline(_EXPERT, color="black", linestyle=":", label="expert")
        axes.set_xscale("log")
        counts = sorted({cell["demonstrations"] for cell in cells})
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.set_xlabel("demonstrations")
        axes.set_ylabel("normalised score")
        axes.set_title(task)
        axes.legend(fontsize="small")
        for kind in _FIGURE_FORMATS:
            drawn = io.BytesIO()
            metadata = {"Date": None} if kind == "svg" else None
            figure.savefig(drawn, format=kind, dpi=150, metadata=metadata)
            files.write_atomic(f"{stem}.{kind}", drawn.getvalue())


def _draw_line(
    axes: Any, name: str, cells: Sequence[dict[str, Any]], color: str
) -> None:
    cells = sorted(cells, key=lambda cell: cell["demonstrations"])
    counts = [cell["demonstrations"] for cell in cells]
    scores = [cell["evaluations"][-1]["score"] for cell in cells]
    means = [score["mean"] for score in scores]
    # A bootstrap's bounds may stand on the mean's other side by a rounding error.
    below = [max(0.0, score["mean"] - score["low"]) for score in scores]
    above = [max(0.0, score["high"] - score["mean"]) for score in scores]
    axes.errorbar(
        counts,
        means,
        yerr=(below, above),
        color=color,
        marker="o",
        capsize=3,
        label=f"{name}, final",
    )
    best = [cell["best_smoothed"] for cell in cells]
    axes.plot(
        counts,
        best,
        color=color,
        marker="o",
        markerfacecolor="none",
        linestyle="--",
        label=f"{name}, best smoothed",
    )

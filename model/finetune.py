"""gato-finetune: how few demonstrations of a held-out task does a checkpoint need?

    gato-finetune --shards build/boxing --suite configs/suites/boxing.yaml \
        --from all=runs/all --from domain=runs/atari --from nocontrol=runs/text \
        --scratch --output runs/boxing_fewshot

The paper's section 5.2, and its protocol: fine-tune each initialisation on nested sets
of 1 to 1,000 demonstrations with Adam at a constant 1e-5, batch 64, dropout 0.1, 10,000
steps, and play the task every 100 steps. Reported are the last score and the best mean
of three in a row. An initialisation with a number of demonstrations is a cell; the same
command goes on with the first cell that is not finished. The paper's sizes take days of
an accelerator; no such run has been made with this command.
"""

import argparse
import sys
from collections.abc import Sequence

import rich.console

from gato.model.command import run_command
from gato.model.evaluation.report import TABLE_WIDTH
from gato.model.finetuning.options import make_parser
from gato.model.finetuning.results import (
    check_figure_can_be_drawn,
    draw,
    table,
    write_json,
)
from gato.model.finetuning.study import Study
from gato.model.finetuning.tuner import SMOOTHED
from gato.model.progress import Progress
from gato.schemas import files


def _execute(arguments: argparse.Namespace) -> None:
    check_figure_can_be_drawn()
    study = Study(arguments)
    with Progress(study.console) as progress:
        cells = study.run(progress)
    stem = files.join(arguments.output, "results")
    content = {
        "task": study.task,
        "expert": 100.0,
        "smoothed_over": SMOOTHED,
        "first_seed": study.seeds.start,
        "cells": cells,
    }
    write_json(f"{stem}.json", content)
    draw(cells, study.task, stem)
    width = None if sys.stdout.isatty() else TABLE_WIDTH
    rich.console.Console(width=width).print(table(cells, study.task))
    study.console.print(f"all cells are in {stem}.json, drawn in {stem}.png and .svg")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 1 for failure or 2 for usage."""
    said = "the same command goes on with the first cell that is not finished"
    return run_command(_execute, make_parser(), argv, said)


if __name__ == "__main__":
    sys.exit(main())

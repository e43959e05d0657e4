"""The command line of gato-finetune, and the configuration it resolves to."""

import argparse
import dataclasses
import re

from gato.model.config import OptimizerConfig, TrainConfig
from gato.model.options import add_overrides, apply_overrides
from gato.schemas.errors import UsageError

SCRATCH = "scratch"
_DEMONSTRATIONS = "1,3,5,10,100,1000"
_DROPOUT = 0.1

_EXAMPLES = """examples:
  gato-finetune --shards out/boxing --suite S.yaml --from all=runs/all --scratch \\
      --output D
  gato-finetune ... --steps 50 --evaluate_every 25 --episodes 5 --demonstrations 1,3
  gato-finetune ... --set optimizer.peak_lr=1e-4 --set model.dropout=0

The suite holds the one task; its data set is what --shards matches. In --output:
results.json, results.png, results.svg, a file for each finished cell, and the
demonstrations as shards. The same command goes on. With --keep_weights also
weights/NAME-COUNT, of a cell's last step, for gato-evaluate and gato-export:
  gato-evaluate --checkpoint D/weights/all-10 --suite S.yaml"""


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser."""
    parser = argparse.ArgumentParser(
        prog="gato-finetune",
        description="Fine-tunes checkpoints on a few demonstrations of one task.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--shards",
        nargs="+",
        required=True,
        metavar="GLOB",
        help="the built data set with the task's episodes",
    )
    add("--suite", required=True, metavar="FILE", help="the task, as gato-evaluate's")
    add(
        "--from",
        action="append",
        default=[],
        metavar="NAME=DIR",
        dest="initialisations",
        help="an initialisation: gato-train's folder; repeatable",
    )
    add("--scratch", action="store_true", help="new weights too, of the first's shape")
    add("--output", required=True, metavar="DIR", help="cells, figure and results.json")
    add(
        "--demonstrations",
        default=_DEMONSTRATIONS,
        metavar="LIST",
        help="episodes to learn from (%(default)s)",
    )
    add("--steps", type=int, default=10_000, help="updates of a cell (%(default)s)")
    add("--batch_size", type=int, default=64, help="rows a step (%(default)s)")
    add(
        "--evaluate_every",
        type=int,
        default=100,
        help="steps between two evaluations (%(default)s)",
    )
    add("--episodes", type=int, default=50, help="of an evaluation (%(default)s)")
    add("--prompt_tokens", type=int, help="longest prompt; 0: none (the row's length)")
    add("--batch", type=int, default=16, help="environments at a time (%(default)s)")
    add("--temperature", type=float, default=0.0, help="0: the likeliest (%(default)s)")
    add("--seed", type=int, default=0, help="of the choice and the order (%(default)s)")
    add("--keep_weights", action="store_true", help="save those of each finished cell")
    add_overrides(parser, "any key of the config that keeps the weights' shapes")
    return parser


def parse_counts(text: str) -> list[int]:
    """Returns the numbers of demonstrations, rising.

    Raises:
        UsageError: If one is no number of at least 1.

    >>> parse_counts("10,1,3")
    [1, 3, 10]
    """
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) for part in parts):
        raise UsageError(
            f"--demonstrations are numbers of at least 1, as in 1,3,5, got {text!r}"
        )
    return sorted({int(part) for part in parts})


def parse_initialisations(arguments: argparse.Namespace) -> dict[str, str]:
    """Returns the folder of each initialisation; that of scratch is empty.

    Raises:
        UsageError: If a name or a folder is missing, or there is none.
    """
    found: dict[str, str] = {}
    for given in arguments.initialisations:
        name, _, folder = given.partition("=")
        if not re.fullmatch(r"[\w.-]+", name) or not folder or name == SCRATCH:
            raise UsageError(
                "--from takes NAME=DIR; the name, other than 'scratch', is of letters,"
                f" digits, '_', '.' and '-'; got {given!r}"
            )
        if name in found:
            raise UsageError(f"--from: each name stands once, got {name!r} twice")
        found[name] = folder
    if not found:
        raise UsageError(
            "there is nothing to fine-tune: give --from NAME=DIR with a folder of"
            " gato-train. --scratch takes its model's shape from the first one."
        )
    return found | ({SCRATCH: ""} if arguments.scratch else {})


def check_numbers(arguments: argparse.Namespace) -> None:
    """Refuses numbers that mean nothing.

    Raises:
        UsageError: Naming the flag.
    """
    for flag, value, least in (
        ("--steps", arguments.steps, 1),
        ("--batch_size", arguments.batch_size, 1),
        ("--evaluate_every", arguments.evaluate_every, 1),
        ("--episodes", arguments.episodes, 1),
        ("--batch", arguments.batch, 1),
        ("--seed", arguments.seed, 0),
        ("--prompt_tokens", arguments.prompt_tokens or 0, 0),
        ("--temperature", arguments.temperature, 0),
    ):
        if value < least:
            raise UsageError(f"{flag} is at least {least}, got {value}")


def tuning_config(base: TrainConfig, arguments: argparse.Namespace) -> TrainConfig:
    """Returns a checkpoint's config with the protocol's optimizer and dropout.

    Raises:
        UsageError: If an override is unknown or does not fit.
    """
    rate = 1e-5
    config = dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, stochastic_depth=0.0, dropout=_DROPOUT),
        # Adam: constant, nothing decays.
        optimizer=OptimizerConfig(
            peak_lr=rate,
            first_lr=rate,
            final_fraction=1.0,
            warmup_steps=0,
            decay_steps=None,
            b2=0.999,
            weight_decay=0.0,
        ),
        data=dataclasses.replace(
            base.data, batch_size=arguments.batch_size, seed=arguments.seed
        ),
        steps=arguments.steps,
        microbatches=1,
        seed=arguments.seed,
    )
    return apply_overrides(config, arguments.overrides)

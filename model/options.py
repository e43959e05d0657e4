"""The command line of `gato-train`, and the configuration that it resolves to."""

import argparse
from collections.abc import Sequence

from gato.model.config import TrainConfig, override
from gato.model.configs import PRESETS
from gato.schemas.errors import UsageError

_EXAMPLES = """examples:
  gato-train --shards 'out/*/train-*' --steps 300 --batch_size 8 --checkpoint_dir D
  gato-train --shards 'out/*/train-*' --checkpoint_dir D --set optimizer.peak_lr=3e-4
  gato-train --shards 'more/*/train-*' --checkpoint_dir E --init_from D
  gato-train --model 364m --describe

several hosts, each with the same command and a folder that all see:
  gato-train ... --coordinator auto                              TPU pods, Slurm
  gato-train ... --coordinator 10.0.0.1:8476 --num_hosts 2 --host 0   (and --host 1)
host 0 alone writes metrics and the terminal. SIGTERM at one host makes all save."""


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser."""
    parser = argparse.ArgumentParser(
        prog="gato-train",
        description="Trains Gato on tokenized shards; the same command resumes.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--shards", nargs="+", metavar="GLOB", help="training shards, local or gs://")
    add("--model", choices=list(PRESETS), default="tiny", help="preset (%(default)s)")
    add("--steps", type=int, help="updates of the whole run")
    add("--batch_size", type=int, help="rows of the global batch")
    add(
        "--checkpoint_dir",
        metavar="DIR",
        help="checkpoints, metrics.jsonl, TensorBoard's files and profiles",
    )
    add(
        "--init_from",
        metavar="DIR",
        help="begin with the newest weights of another run, its --checkpoint_dir",
    )
    add("--mesh", metavar="SIZES", help="as data=2,fsdp=4,tensor=1")
    add(
        "--weights", metavar="WEIGHTS", help="as babyai=1,text=0.5; else the manifests'"
    )
    add_overrides(parser, "any key of the config, as optimizer.peak_lr=1e-4")
    add(
        "--profile",
        metavar="START:STOP",
        help="trace steps START to STOP - 1 into DIR/profile, for XProf or Perfetto",
    )
    add(
        "--coordinator",
        metavar="HOST:PORT",
        help="join several hosts here, or 'auto' where the machines say it",
    )
    add("--num_hosts", type=int, metavar="N", help="with --coordinator HOST:PORT")
    add("--host", type=int, metavar="I", help="this one's number, from 0")
    add("--describe", action="store_true", help="print sizes as JSON and exit")
    return parser


def add_overrides(parser: argparse.ArgumentParser, which: str) -> None:
    """Adds `--set KEY=VALUE`; its help says which keys."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help=f"{which}; repeatable",
    )


def apply_overrides(config: TrainConfig, overrides: Sequence[str]) -> TrainConfig:
    """Returns the config with what `--set` replaces.

    Raises:
        UsageError: If one is no KEY=VALUE, a key is unknown or a value does not fit.
    """
    for given in overrides:
        key, equals, value = given.partition("=")
        if not equals:
            raise UsageError(f"--set takes KEY=VALUE, got {given!r}")
        config = override(config, key, value)
    return config


def resolve_config(arguments: argparse.Namespace) -> TrainConfig:
    """Returns the preset with what the command line replaces.

    Raises:
        UsageError: If a key is unknown or a value does not fit.
    """
    config = PRESETS[arguments.model]()
    config = apply_overrides(config, arguments.overrides)
    for key, value in (
        ("steps", arguments.steps),
        ("data.batch_size", arguments.batch_size),
    ):
        if value is not None:
            config = override(config, key, str(value))
    return config


def parse_profile(text: str | None) -> range:
    """Returns the steps to trace; none without a text.

    Raises:
        UsageError: If it is no START:STOP with 0 <= START < STOP.

    >>> parse_profile("10:13")
    range(10, 13)
    """
    if text is None:
        return range(0)
    start, _, stop = text.partition(":")
    if not (start.isdigit() and stop.isdigit() and int(start) < int(stop)):
        raise UsageError(
            f"--profile takes START:STOP, steps with START < STOP, as in 10:13, got"
            f" {text!r}"
        )
    return range(int(start), int(stop))


def check_required(arguments: argparse.Namespace) -> None:
    """Checks that there is what training needs.

    Raises:
        UsageError: Naming the flags that are missing.
    """
    given = {
        "--shards": arguments.shards,
        "--checkpoint_dir": arguments.checkpoint_dir,
    }
    missing = [flag for flag, value in given.items() if not value]
    if missing:
        raise UsageError(f"training needs {' and '.join(missing)}. See gato-train -h.")

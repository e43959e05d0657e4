"""`gato-record`: records raw data on this machine, from real environments and text.

    gato-record babyai --output raw --levels BabyAI-GoToLocal-v0 --episodes 100
    gato-record captions --output raw/captions --scenes 1000
    gato-record text --output raw/text

The same command writes the same data. One that was stopped goes on where it was.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from gato.schemas.errors import GatoError


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _fractions(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


_EXAMPLES = """examples:
  gato-record babyai --output raw --levels BabyAI-GoToLocal-v0 --episodes 100
  gato-record captions --output raw/captions --scenes 1000
  gato-record text --output raw/text

The same command goes on where it was. `gato-record babyai --help` has its options."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gato-record",
        description="Records raw data on this machine: episodes, captions, text.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--output", required=True, type=pathlib.Path, metavar="DIR")
    seeded = argparse.ArgumentParser(add_help=False)
    seeded.add_argument("--seed", type=int, default=0)
    seeded.add_argument("--workers", type=int, default=1, help="processes")

    babyai = commands.add_parser(
        "babyai",
        parents=[shared, seeded],
        help="episodes of BabyAI levels as Minari data sets",
    )
    babyai.add_argument(
        "--levels",
        required=True,
        type=_names,
        help="ids, such as BabyAI-GoToLocal-v0,BabyAI-PickupLoc-v0",
    )
    babyai.add_argument("--episodes", type=int, default=100, help="a level and policy")
    babyai.add_argument(
        "--policies", type=_names, default=("expert", "noisy", "random")
    )
    babyai.add_argument(
        "--noise",
        type=_fractions,
        default=(0.1, 0.3),
        help="fractions of random actions; noisy episodes take them in turn",
    )
    babyai.add_argument("--data_format", choices=("hdf5", "arrow"), default="hdf5")

    captions = commands.add_parser(
        "captions",
        parents=[shared, seeded],
        help="rendered grid scenes with true captions as webdataset tars",
    )
    captions.add_argument("--scenes", type=int, default=1000)
    captions.add_argument("--scenes_per_tar", type=int, default=1000)

    commands.add_parser(
        "text", parents=[shared], help="the English that comes with Python, as .jsonl"
    )
    return parser


def _run(arguments: argparse.Namespace) -> None:
    # Each recorder imports what only it needs: text needs no environment.
    options = vars(arguments)
    command = options.pop("command")
    if command == "babyai":
        from gato.pipelines.recorders import babyai

        babyai.record(babyai.Options(**options))
    elif command == "captions":
        from gato.pipelines.recorders import captions

        captions.record(captions.Options(**options))
    else:
        from gato.pipelines.recorders import text

        text.record(**options)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code (1 failure, 2 usage, 130 interrupted)."""
    arguments = _parser().parse_args(argv)
    try:
        _run(arguments)
    except GatoError as error:
        print(f"gato-record: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("gato-record: interrupted; the same command goes on", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"gato-record: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`gato-plan`: what a build would give and cost, from a sample; it writes nothing.

gato-plan --config configs/demo.yaml
gato-plan --config gs://bucket/build.yaml --sample 1000 --json
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import rich.console
from rich.markup import escape

from gato.pipelines import discover
from gato.pipelines.command import run_command
from gato.pipelines.estimation import costs, report
from gato.pipelines.estimation.figures import estimate_dataset
from gato.schemas import config as configs
from gato.schemas import files
from gato.schemas.errors import UsageError
from gato.tokenizers.text import TextTokenizer

_WIDEST = 100


def _number(
    convert: Callable[[str], float], *, least: float, above: bool = False
) -> Callable[[str], Any]:
    """Returns a parser of an option: a finite number from `least`, or above it."""

    def parse(text: str) -> float:
        try:
            value = convert(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < least or (above and value == least):
            kind = "whole number" if convert is int else "number"
            more = "above" if above else "of at least"
            raise argparse.ArgumentTypeError(
                f"a {kind} {more} {least:g} is meant, got {text!r}"
            )
        return value

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gato-plan",
        description="Reads a sample of each data set of a build config and prints the"
        " tokens, rows, padding, shards, bytes, vCPU-hours, cost and epochs that a"
        " build of all would come to. Writes nothing.",
        allow_abbrev=False,
        epilog="""examples:
  gato-plan --config configs/demo.yaml
  gato-plan --config build.yaml --sample 2000                narrower errors
  gato-plan --config configs/gato.yaml --datasets babyai,metaworld
  gato-plan --config build.yaml --steps 50000 --batch_size 64
  gato-plan --config gs://b/build.yaml --json > plan.json

The sample is the first items of partitions chosen by hash, the same each time. A data
set that it holds as a whole has exact figures; others are scaled by raw bytes, and
the column ± gives one standard error of the tokens. CPU time is measured here, on one
core. Exits 1 if a build would end without a manifest, as far as the sample tells.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole = _number(int, least=1)
    positive = _number(float, least=0, above=True)
    not_negative = _number(float, least=0)
    parser.add_argument("--config", required=True, help="the build config, YAML")
    parser.add_argument(
        "--datasets",
        help="plan only these of the config's data sets, which then are the whole"
        " mixture: a,b",
    )
    parser.add_argument(
        "--sample",
        type=whole,
        default=200,
        metavar="N",
        help="episodes or documents to read of each data set, at most (200)",
    )
    parser.add_argument(
        "--steps", type=whole, default=1_000_000, help="training steps (1000000)"
    )
    parser.add_argument(
        "--batch_size", type=whole, default=512, help="rows of a step (512)"
    )
    parser.add_argument(
        "--vcpu_hour_price",
        type=not_negative,
        default=0.056,
        metavar="USD",
        help="of a vCPU for an hour (0.056: Dataflow batch, us-central1; check yours)",
    )
    parser.add_argument(
        "--memory_gb_hour_price",
        type=not_negative,
        default=0.003557,
        metavar="USD",
        help="of one GB for an hour (0.003557: likewise)",
    )
    parser.add_argument(
        "--memory_gb_per_vcpu",
        type=positive,
        default=3.75,
        metavar="GB",
        help="memory that comes with a vCPU (3.75: n1-standard)",
    )
    parser.add_argument(
        "--overhead",
        type=positive,
        default=1.5,
        metavar="X",
        help="vCPU seconds there for a CPU second here: Beam's own work and slower"
        " cores (1.5: an assumption; gato-build in one process here took 1.0)",
    )
    parser.add_argument(
        "--rows_per_second",
        type=positive,
        default=61.0,
        metavar="N",
        help="rows an accelerator trains on in a second (61: 1.18B on an H100 at 50%%"
        " of its FLOPs)",
    )
    parser.add_argument(
        "--cores_per_accelerator",
        type=positive,
        default=8.0,
        metavar="N",
        help="CPU cores beside each accelerator (8)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _load_tokenizer(config: configs.BuildConfig, path: str) -> TextTokenizer:
    if not files.exists(config.text_tokenizer):
        raise UsageError(
            f"{path}: text_tokenizer: no such SentencePiece model"
            f" {config.text_tokenizer!r}. Paths are relative to the config's folder."
        )
    return TextTokenizer.load(config.text_tokenizer)


def run(argv: Sequence[str] | None = None) -> int:
    """Estimates and prints; returns the exit code.

    Raises:
        GatoError: If config or input do not allow it.
    """
    arguments = _parser().parse_args(argv)
    config = configs.load_config(arguments.config)
    chosen = discover.choose(config, arguments.datasets)
    text = _load_tokenizer(config, arguments.config)
    console = rich.console.Console(stderr=True)
    figures = []
    with console.status("sampling") as status:
        for dataset in chosen:
            status.update(f"sampling {escape(dataset.name)}")
            figures.append(estimate_dataset(dataset, config, text, arguments.sample))
    weights = {dataset.name: dataset.weight for dataset in chosen}
    mixture = costs.shares(figures, weights)
    outlook = report.Outlook(
        config=arguments.config,
        figures=figures,
        mixture=mixture,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        rates=costs.Rates(
            vcpu_hour_price=arguments.vcpu_hour_price,
            memory_gb_hour_price=arguments.memory_gb_hour_price,
            memory_gb_per_vcpu=arguments.memory_gb_per_vcpu,
            overhead=arguments.overhead,
        ),
        decoding=costs.judge_decoding(
            figures,
            mixture,
            arguments.rows_per_second,
            arguments.cores_per_accelerator,
        ),
        rows_per_second=arguments.rows_per_second,
        cores_per_accelerator=arguments.cores_per_accelerator,
    )
    if arguments.json:
        print(json.dumps(report.as_json(outlook), indent=1))
    else:
        out = rich.console.Console()
        out.width = min(out.width, _WIDEST)
        report.print_outlook(outlook, out)
    return 1 if any(f.failure is not None for f in figures) else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `gato-plan`."""
    return run_command(run, argv)


if __name__ == "__main__":
    sys.exit(main())

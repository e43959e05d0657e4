"""`gato-build`: raw episodes and corpora to verified-to-be TFRecord shards.

gato-build --config build.yaml --output shards
gato-build --config gs://bucket/build.yaml --output gs://bucket/shards \
    --runner DataflowRunner --project my-project --region us-central1 \
    --temp_location gs://bucket/tmp --setup_file ./setup.py
"""

import argparse
import sys
from collections.abc import Sequence

from gato.pipelines.command import run_beam_command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gato-build",
        description="Tokenizes, plans and assembles the data sets of a build config.",
        allow_abbrev=False,
        epilog="""examples:
  gato-build --config configs/demo.yaml --output runs/demo/shards
  gato-build --config build.yaml --output shards --direct_num_workers 2
  gato-build --config build.yaml --output shards --datasets babyai --limit 20
  gato-build --config gs://b/build.yaml --output gs://b/shards \\
      --runner DataflowRunner --project my-project --region us-central1 \\
      --temp_location gs://b/tmp --setup_file ./setup.py

Run the same command again after a crash: finished work is not done again. Options that
are not listed here go to Beam.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, help="the build config, YAML")
    parser.add_argument("--output", required=True, help="a folder or URL to build into")
    parser.add_argument(
        "--datasets", help="build only these of the config's data sets: a,b"
    )
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="for a try: only the first N episodes or documents of each data set",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace finished data sets of another input or config",
    )
    parser.add_argument(
        "--keep_fragments",
        action="store_true",
        help="keep what was tokenized, so that a change of prompts, filter or"
        " sequence_length tokenizes nothing again",
    )
    parser.add_argument(
        "--runner",
        default="DirectRunner",
        help="DirectRunner (default: Beam's in-process runner; downloads nothing),"
        " PrismRunner, FlinkRunner, SparkRunner, DataflowRunner",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `gato-build`."""
    return run_beam_command(_parser(), "gato.pipelines.run_build", argv)


if __name__ == "__main__":
    sys.exit(main())

"""`gato-vocabulary`: trains the SentencePiece model on a sample of the config's text.

gato-vocabulary --config build.yaml --output vocab/text32k.model --size 32000
"""

import argparse
import sys
from collections.abc import Sequence

from gato.pipelines.command import run_beam_command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gato-vocabulary",
        description="Trains a SentencePiece model (BPE, identity normalisation, white"
        " space kept, byte fallback, eos) on a sample of the text of a build config:"
        " documents, captions, questions, answers, text observations.",
        allow_abbrev=False,
        epilog="""examples:
  gato-vocabulary --config build.yaml --output vocab/text32k.model --size 32000
  gato-vocabulary --config build.yaml --output small.model --size 2000 \\
      --sample_bytes 4MiB --direct_num_workers 2
  gato-vocabulary --config gs://b/build.yaml --output gs://b/text.model \\
      --runner DataflowRunner --project my-project --region us-central1 \\
      --temp_location gs://b/tmp --setup_file ./setup.py

The config's text_tokenizer need not be there yet. The sample is the text of the lowest
keyed hashes (config: seed), the same whatever the number of workers, and so are the
model's bytes. A twentieth of it is held back from training, and judges the model.
Options that are not listed here go to Beam.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, help="the build config, YAML")
    parser.add_argument("--output", required=True, help="the model's path or URL")
    parser.add_argument(
        "--size",
        type=int,
        default=32_000,
        metavar="N",
        help="pieces of the model, at least 1024 (32000)",
    )
    parser.add_argument(
        "--sample_bytes",
        default="64MiB",
        metavar="BYTES",
        help="text to train on, such as 64MiB (the default)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace another model that stands at --output",
    )
    parser.add_argument(
        "--runner",
        default="DirectRunner",
        help="DirectRunner (default: Beam's in-process runner; downloads nothing),"
        " PrismRunner, FlinkRunner, SparkRunner, DataflowRunner",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `gato-vocabulary`."""
    return run_beam_command(_parser(), "gato.pipelines.run_vocabulary", argv)


if __name__ == "__main__":
    sys.exit(main())

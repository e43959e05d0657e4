"""`gato-vocabulary`: trains the SentencePiece model on a sample of the config's text.

gato-vocabulary --config build.yaml --output vocab/text32k.model --size 32000
"""

import argparse
import dataclasses
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import rich.console
from rich.markup import escape

from gato.pipelines import discover, engine, progress
from gato.pipelines.command import run_command
from gato.pipelines.vocabularies import figures, training
from gato.pipelines.vocabularies.sample import (
    Sample,
    SampleJob,
    SampleTexts,
    num_bytes,
    read_sample,
)
from gato.schemas import config as configs
from gato.schemas import files
from gato.schemas.errors import GatoError, UsageError
from gato.schemas.hashing import keyed_hash, threshold
from gato.tokenizers.text import TextTokenizer

_HELD_BACK = 0.05
# Text is at least about half the bytes of an uncompressed file of it. A first pass
# keeps what is then surely enough, so that partitions of a large corpus write little.
_SPARE = 8


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


def _sample_bytes(text: str) -> int:
    try:
        value = int(configs.parse_bytes(text))
    except ValueError as error:
        raise UsageError(f"--sample_bytes: {error}.") from error
    if value < 1:
        raise UsageError(f"--sample_bytes is at least 1, got {text!r}.")
    return value


class _Display(progress.Display):
    """Shows how much of the input is read."""

    def _stage(self) -> tuple[str, float | None, float]:
        read = self.totals().get("raw_bytes", 0)
        return "sampling", read / max(self._total_bytes, 1), 0.0

    def _counted(self) -> tuple[str, ...]:
        return (f"{self.totals().get('items', 0):,} items",)


def _first_fraction(
    sample_bytes: int,
    datasets: Sequence[configs.Dataset],
    paths: Sequence[discover.SourcePath],
) -> float:
    """Returns a share of the hashes below which the sample surely lies."""
    texts = {dataset.name for dataset in datasets if dataset.format == "text"}
    known = sum(path.num_bytes for path in paths if path.dataset in texts)
    return min(1.0, _SPARE * sample_bytes / known) if known else 1.0


def _draw(
    job: SampleJob,
    paths: list[discover.SourcePath],
    chosen: engine.Engine,
    console: rich.console.Console,
) -> Sample:
    """Runs the job, once more over all hashes if too few lay below the fraction."""
    _run_job(job, paths, chosen, console)
    sample = read_sample(job)
    if not sample.is_cut:
        return sample
    return _draw(dataclasses.replace(job, fraction=1.0), paths, chosen, console)


def _run_job(
    job: SampleJob,
    paths: list[discover.SourcePath],
    chosen: engine.Engine,
    console: rich.console.Console,
) -> None:
    def submit(job: SampleJob) -> Any:
        pipeline = beam.Pipeline(runner=chosen.runner, options=chosen.options)
        _ = pipeline | "SampleTexts" >> SampleTexts(job, paths)
        return pipeline.run().wait_until_finish()

    if chosen.is_local:
        total = sum(path.num_bytes for path in paths)
        with engine.quiet_workers(), _Display(total, console) as display:
            submit(dataclasses.replace(job, progress_port=display.port))
        return
    with chosen.failing_in_words():
        chosen.check_done(submit(job))


def _split(sample: Sample, seed: int) -> tuple[list[str], list[str]]:
    """Returns the texts to train on and those held back; equal ones stay together."""
    parts: tuple[list[str], list[str]] = ([], [])
    for _, _, text in sample.chunks:
        hashed = keyed_hash(seed, "held_back", text)
        parts[hashed < threshold(_HELD_BACK)].append(text)
    return parts


def _write(path: str, model: bytes, overwrite: bool) -> None:
    if files.exists(path) and not overwrite and files.read_bytes(path) != model:
        raise UsageError(
            f"--output {path}: another model stands there, which builds may need. Use"
            " another --output, or --overwrite to replace it."
        )
    try:
        files.write_atomic(path, model)
    except OSError as error:
        raise UsageError(f"--output {path}: cannot be written: {error}.") from error


def _sampled(
    arguments: argparse.Namespace,
    config: configs.BuildConfig,
    chosen: engine.Engine,
    console: rich.console.Console,
) -> Sample:
    sample_bytes = _sample_bytes(arguments.sample_bytes)
    paths = [path for dataset in config.datasets for path in discover.expand(dataset)]
    chosen.check_options()
    job = SampleJob(
        folder=f"{arguments.output}.sample-{uuid.uuid4().hex[:12]}",
        seed=config.seed,
        sample_bytes=sample_bytes,
        fraction=_first_fraction(sample_bytes, config.datasets, paths),
        datasets={dataset.name: dataset for dataset in config.datasets},
        progress_port=None,
    )
    try:
        sample = _draw(job, paths, chosen, console)
    finally:
        files.remove_folder(job.folder)
    if not sample.chunks:
        raise GatoError(
            f"{arguments.config}: none of the {sample.items:,} items of its data sets"
            f" has text to train on ({sample.unreadable:,} could not be read)."
        )
    console.print(
        f"{num_bytes(sample.chunks):,} of {sample.text_bytes:,} bytes of text sampled,"
        f" from {sample.items:,} items ({sample.unreadable:,} could not be read)",
        highlight=False,
    )
    return sample


def _check(
    arguments: argparse.Namespace,
    config: configs.BuildConfig,
    chosen: engine.Engine,
) -> None:
    training.check_size(arguments.size)
    if files.is_folder(arguments.output):
        raise UsageError(f"--output is a file, {arguments.output} is a folder.")
    if chosen.template_location:
        raise UsageError(
            "--template_location: a template cannot train what its job samples. Run"
            " the job from here."
        )
    inputs: Iterator[str] = (
        path for dataset in config.datasets for path in discover.named_paths(dataset)
    )
    chosen.check_paths([arguments.output, *inputs])


def run(argv: Sequence[str] | None = None) -> int:
    """Samples, trains and reports; returns the exit code.

    Raises:
        GatoError: If it cannot.
    """
    parser = _parser()
    argv = sys.argv[1:] if argv is None else argv
    engine.check_names(parser, argv)
    arguments, rest = parser.parse_known_args(argv)
    begin = time.monotonic()
    console = rich.console.Console(stderr=True)
    chosen = engine.choose_engine(arguments.runner, rest)
    config = configs.load_config(arguments.config)
    _check(arguments, config, chosen)
    sample = _sampled(arguments, config, chosen, console)
    trained, held_back = _split(sample, config.seed)
    with console.status(f"training {arguments.size:,} pieces"):
        model = training.train(trained or held_back, arguments.size)
        tokenizer = TextTokenizer.from_bytes(model)
        measured = figures.measure(tokenizer, held_back or trained)
    _write(arguments.output, model, arguments.overwrite)
    title = "on text held back from training" if held_back else "on the training text"
    figures.print_figures(tokenizer, measured, title, rich.console.Console())
    console.print(
        f"gato-vocabulary took {time.monotonic() - begin:,.1f} s. Next: text_tokenizer:"
        f" {escape(arguments.output)} in {escape(arguments.config)}",
        soft_wrap=True,
        highlight=False,
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `gato-vocabulary`."""
    return run_command(run, argv)


if __name__ == "__main__":
    sys.exit(main())

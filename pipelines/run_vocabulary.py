"""A vocabulary from its command line to its figures (`gato-vocabulary`)."""

import argparse
import dataclasses
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import rich.console
from rich.markup import escape

from gato.pipelines import discover, engine, progress
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
    found = [(dataset, discover.expand(dataset)) for dataset in config.datasets]
    paths = [path for _, of_one in found for path in of_one]
    chosen.check_options()
    job = SampleJob(
        folder=f"{arguments.output}.sample-{uuid.uuid4().hex[:12]}",
        seed=config.seed,
        sample_bytes=sample_bytes,
        fraction=_first_fraction(sample_bytes, config.datasets, paths),
        datasets={each.name: discover.settle(each, of_one) for each, of_one in found},
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


def run(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    """Samples, trains and reports; returns the exit code.

    Args:
        parser: Of our own options; the others are Beam's.
        argv: The command line.

    Raises:
        GatoError: If it cannot.
    """
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

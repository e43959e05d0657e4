"""A build from its command line to its summary (`gato-build`)."""

import argparse
import dataclasses
import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import rich.console
from rich.markup import escape

from gato.pipelines import discover, engine, finish, progress, report
from gato.pipelines.build_job import BuildJob, DatasetJob
from gato.pipelines.close import close_build
from gato.pipelines.job import BuildShards
from gato.schemas import config as configs
from gato.schemas import files, manifest
from gato.schemas.errors import UsageError
from gato.schemas.hashing import fingerprint
from gato.schemas.shards import ShardName
from gato.tokenizers.text import TextTokenizer


def prepare(
    arguments: argparse.Namespace,
    chosen_engine: engine.Engine,
    console: rich.console.Console,
) -> tuple[BuildJob, list[str]]:
    """Reads config and tokenizer, finds the input, and settles what is to be done.

    Returns:
        The job, whose data sets are those not finished yet, and the finished ones.

    Raises:
        UsageError: If config, input or output do not allow a build.
    """
    resolved = configs.load_config(arguments.config)
    written = configs.parse_config(files.read_bytes(arguments.config), arguments.config)
    if arguments.limit is not None and arguments.limit < 1:
        raise UsageError(f"--limit is at least 1, got {arguments.limit}.")
    chosen = discover.choose(resolved, arguments.datasets)
    inputs = [path for dataset in chosen for path in discover.named_paths(dataset)]
    chosen_engine.check_paths([arguments.output, resolved.text_tokenizer, *inputs])
    tokenizer = _load_tokenizer(arguments, resolved.text_tokenizer, console)
    vocabulary = tokenizer.vocabulary.info()
    _check_output(arguments, written, [dataset.name for dataset in chosen], vocabulary)
    as_written = {dataset.name: dataset for dataset in written.datasets}
    jobs, finished, stale = {}, [], []
    for dataset in chosen:
        paths = tuple(discover.expand(dataset))
        digest = finish.manifest_fingerprint(
            as_written[dataset.name],
            written,
            [(path.relative_path, path.identity) for path in paths],
            vocabulary.sentencepiece_sha256,
            arguments.limit,
        )
        standing = _standing(arguments, dataset.name)
        if standing is not None and standing.fingerprint == digest:
            finished.append(dataset.name)
            continue
        if standing is not None:
            _check_replaces(arguments, standing, digest)
            stale.append(standing)
        settled = discover.settle(dataset, paths)
        jobs[dataset.name] = DatasetJob(
            dataset=as_written[dataset.name].model_copy(
                update={"format": settled.format}
            ),
            resolved=settled,
            fingerprint=digest,
            paths=paths,
        )
    prepared = BuildJob(
        output=arguments.output,
        config=written,
        config_fingerprint=fingerprint(written.model_dump_json()),
        vocabulary=vocabulary,
        text_round_trips=tokenizer.round_trips,
        limit=arguments.limit,
        keep_fragments=arguments.keep_fragments,
        attempt=uuid.uuid4().hex,
        progress_port=None,
        datasets=jobs,
        finished=tuple(finished),
    )
    chosen_engine.check_options()
    for standing in stale:
        _clear(arguments.output, standing)
    if jobs:
        _begin(prepared, tokenizer.model_bytes)
    return prepared, finished


def _load_tokenizer(
    arguments: argparse.Namespace, path: str, console: rich.console.Console
) -> TextTokenizer:
    if not files.exists(path):
        raise UsageError(
            f"{arguments.config}: text_tokenizer: no such SentencePiece model"
            f" {path!r}. Paths are relative to the config's folder."
        )
    tokenizer = TextTokenizer.load(path)
    if not tokenizer.round_trips:
        console.print(
            f"[yellow]warning[/] {escape(path)}: decode(encode(x)) is not x on a test"
            " string; texts cannot be read back exactly from the tokens."
        )
    return tokenizer


def _check_output(
    arguments: argparse.Namespace,
    config: configs.BuildConfig,
    chosen: Sequence[str],
    vocabulary: manifest.VocabularyInfo,
) -> None:
    """Refuses an output that holds a build of another config."""
    known = [dataset.name for dataset in config.datasets]
    if files.exists(files.join(arguments.output, manifest.MANIFEST_NAME)):
        root = manifest.load_root_manifest(arguments.output)
        strange = [name for name in root.datasets if name not in known]
        if strange and not arguments.overwrite:
            raise UsageError(
                f"{arguments.output}: a build of another config stands here; it lists"
                f" {strange[0]!r}, and {arguments.config} has {', '.join(known)}. Use"
                " another --output, or --overwrite to replace its root manifest."
            )
    for name in known:
        other = None if name in chosen else _standing(arguments, name)
        if other is not None:
            _check_other(arguments, other, config, vocabulary)


def _check_replaces(
    arguments: argparse.Namespace, standing: manifest.DatasetManifest, digest: str
) -> None:
    """Refuses to replace a finished data set unless that was asked for."""
    if not arguments.overwrite:
        raise UsageError(
            f"{arguments.output}/{standing.dataset}: a finished build of other input or"
            f" config stands here (fingerprint {standing.fingerprint[:12]}, this one is"
            f" {digest[:12]}). Use another --output, or --overwrite to replace it."
        )


def _standing(
    arguments: argparse.Namespace, name: str
) -> manifest.DatasetManifest | None:
    """Returns the manifest of a finished data set in the output, if there is one."""
    folder = files.join(arguments.output, name)
    if not files.exists(files.join(folder, manifest.MANIFEST_NAME)):
        return None
    return manifest.load_dataset_manifest(folder)


def _check_other(
    arguments: argparse.Namespace,
    standing: manifest.DatasetManifest,
    config: configs.BuildConfig,
    vocabulary: manifest.VocabularyInfo,
) -> None:
    """Refuses an output whose other data sets speak another vocabulary or L."""
    length = config.sequence_length
    if standing.vocabulary == vocabulary and standing.sequence_length == length:
        return
    raise UsageError(
        f"{arguments.output}: the data sets of one output share text tokenizer and"
        f" sequence length; {standing.dataset!r} stands there with"
        f" {standing.sequence_length} slots and the SentencePiece model of sha256"
        f" {standing.vocabulary.sentencepiece_sha256[:12]}, the config says {length}"
        f" and {vocabulary.sentencepiece_sha256[:12]}. Use another --output, or build"
        " it again with --overwrite."
    )


def _clear(output: str, standing: manifest.DatasetManifest) -> None:
    """Removes a finished data set, manifests first: without them nothing counts."""
    folder = files.join(output, standing.dataset)
    files.remove(files.join(output, manifest.MANIFEST_NAME))
    files.remove(files.join(folder, manifest.MANIFEST_NAME))
    for split in standing.splits.values():
        for shard in split.shards:
            parsed = ShardName.parse(shard.name)
            if parsed is not None:
                for part in (shard.name, parsed.index_name, parsed.summary_name):
                    files.remove(files.join(folder, part))
    for part in (manifest.QUARANTINE_NAME, manifest.DEMONSTRATIONS_NAME):
        files.remove(files.join(folder, part))


def _begin(prepared: BuildJob, model_bytes: bytes) -> None:
    if files.exists(prepared.output) and not files.is_folder(prepared.output):
        raise UsageError(
            f"--output is a folder to build into, got {prepared.output!r}."
        )
    try:
        files.write_atomic(prepared.tokenizer_path, model_bytes)
        files.write_atomic(
            files.join(prepared.output, manifest.ATTEMPT_NAME),
            prepared.attempt.encode(),
        )
    except OSError as error:
        raise UsageError(
            f"--output {prepared.output}: cannot be written to: {error}."
        ) from error
    for name in prepared.datasets:
        files.remove(files.join(prepared.folder(name), finish.FAILURE_NAME))


def _run_job(
    prepared: BuildJob, chosen: engine.Engine, console: rich.console.Console
) -> bool:
    """Runs the job; returns whether it is over (a template is yet to be launched)."""
    if chosen.is_local:
        total = sum(p.num_bytes for d in prepared.datasets.values() for p in d.paths)
        with engine.quiet_workers(), progress.Display(total, console) as display:
            watched = dataclasses.replace(prepared, progress_port=display.port)
            _submit(watched, chosen).wait_until_finish()
        return True
    advice = (
        ". Once that is mended, run the same command again to go on where it stopped."
    )
    with chosen.failing_in_words(advice):
        return _run_elsewhere(prepared, chosen, console)


def _run_elsewhere(
    prepared: BuildJob, chosen: engine.Engine, console: rich.console.Console
) -> bool:
    result = _submit(prepared, chosen)
    if chosen.template_location:
        console.print(
            f"The template is written to {escape(chosen.template_location)}; launch it"
            " to build."
        )
        return False
    advice = " Run the same command again to go on where it stopped."
    chosen.check_done(result.wait_until_finish(), advice)
    return True


def _submit(prepared: BuildJob, chosen: engine.Engine) -> Any:
    pipeline = beam.Pipeline(runner=chosen.runner, options=chosen.options)
    _ = pipeline | "BuildShards" >> BuildShards(prepared)
    return pipeline.run()


def _failures(prepared: BuildJob) -> list[str]:
    """Returns why data sets were not assembled."""
    failures = []
    for name in prepared.datasets:
        path = files.join(prepared.folder(name), finish.FAILURE_NAME)
        if files.exists(path):
            failures.append(json.loads(files.read_bytes(path))["failure"])
        elif not files.exists(
            files.join(prepared.folder(name), manifest.MANIFEST_NAME)
        ):
            failures.append(
                f"{name}: the job ended without a manifest. Run the same command again."
            )
    return failures


def _finished_manifests(prepared: BuildJob) -> list[manifest.DatasetManifest]:
    folders = [prepared.folder(dataset.name) for dataset in prepared.config.datasets]
    return [
        manifest.load_dataset_manifest(folder)
        for folder in folders
        if files.exists(files.join(folder, manifest.MANIFEST_NAME))
    ]


def run(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    """Builds; returns the exit code.

    Args:
        parser: Of our own options; the others are Beam's.
        argv: The command line.

    Raises:
        GatoError: If it cannot.
    """
    engine.check_names(parser, argv)
    arguments, rest = parser.parse_known_args(argv)
    chosen = engine.choose_engine(arguments.runner, rest)
    console = rich.console.Console(stderr=True)
    begin = time.monotonic()
    prepared, finished = prepare(arguments, chosen, console)
    if not prepared.datasets:
        close_build(prepared, finished)
    elif not _run_job(prepared, chosen, console):
        return 0
    failures = _failures(prepared)
    report.print_summary(_finished_manifests(prepared), finished, console)
    for failure in failures:
        console.print(
            f"[red]failed[/] {escape(failure)}", soft_wrap=True, highlight=False
        )
    files.remove(files.join(prepared.output, manifest.ATTEMPT_NAME))
    seconds = time.monotonic() - begin
    next_step = "" if failures else f" Next: gato-verify {escape(arguments.output)}"
    console.print(
        f"gato-build took {seconds:,.1f} s.{next_step}", soft_wrap=True, highlight=False
    )
    return 1 if failures else 0

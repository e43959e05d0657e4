"""`gato-verify DIR`: re-reads every byte of a build and proves its manifest.

    gato-verify out                     a whole build
    gato-verify out/babyai              one data set
    gato-verify out --against again     also: two builds are the same, byte for byte

Checksums, framing, indexes, summaries, id ranges, kinds, loss masks, positions,
segments, images, prompts, that each timestep stands once, and every count of the
manifest. The laws are in `pipelines/verification/`. Exit code 1 and the places if
anything disagrees.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from rich import progress
from rich.console import Console

from gato.pipelines.command import run_command
from gato.pipelines.verification import build
from gato.pipelines.verification.problems import Problems
from gato.schemas.manifest import DatasetManifest

_EXAMPLES = """examples:
  gato-verify out                     a whole build
  gato-verify out/babyai              one data set
  gato-verify out --against again     also compare two builds byte for byte
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gato-verify",
        description="Re-reads every byte of a build and proves its manifest.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "directory", help="a build's output folder, or one data set's folder in it"
    )
    parser.add_argument(
        "--against",
        metavar="DIR2",
        help="another build that must hold the same bytes; says where they differ",
    )
    return parser


def _bar() -> progress.Progress:
    return progress.Progress(
        progress.TextColumn("verifying"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TextColumn("{task.fields[rows]} rows"),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _summary(
    manifests: list[DatasetManifest], rows: int, num_bytes: int, seconds: float
) -> str:
    shards = sum(
        len(split.shards)
        for manifest in manifests
        for split in manifest.splits.values()
    )
    speed = num_bytes / 1e6 / max(seconds, 1e-9)
    return (
        f"{len(manifests)} data sets, {shards} shards, {rows:,} rows,"
        f" {num_bytes / 1e6:,.1f} MB read in {seconds:.1f} s ({speed:,.1f} MB/s)"
    )


def verify(directory: str, against: str | None, problems: Problems) -> str:
    """Proves a build, and compares it with another.

    Args:
        directory: An output folder, or one data set's.
        against: Another one that must hold the same bytes, or None.
        problems: Takes every disagreement.

    Returns:
        What was read, for the user.

    Raises:
        GatoError: If there is nothing to verify, with what to do.
    """
    started = time.monotonic()
    total = build.num_bytes(build.dataset_folders(directory))
    rows = num_bytes = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool, _bar() as bar:
        task = bar.add_task("verify", total=total, rows=0)

        def advance(more_rows: int, more_bytes: int) -> None:
            nonlocal rows, num_bytes
            rows, num_bytes = rows + more_rows, num_bytes + more_bytes
            bar.update(task, advance=more_bytes, rows=f"{rows:,}")

        manifests = build.check_build(directory, problems, advance, pool)
    text = _summary(manifests, rows, num_bytes, time.monotonic() - started)
    if against is not None:
        count = build.compare_builds(directory, against, problems)
        text += f"\n{count} files compared with {against}"
    return text


def run(argv: Sequence[str] | None = None) -> int:
    """Verifies as the arguments say; returns 1 if anything disagrees.

    Raises:
        GatoError: If there is nothing to verify, with what to do.
    """
    arguments = _parser().parse_args(argv)
    problems = Problems()
    text = verify(arguments.directory, arguments.against, problems)
    for line in problems.summary():
        print(line.encode(errors="backslashreplace").decode())
    print(text)
    if problems.total:
        print(f"NOT VERIFIED; disagreements: {problems.total}", file=sys.stderr)
        return 1
    print("verified: every byte read, the manifest holds")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_command(run, argv)


if __name__ == "__main__":
    sys.exit(main())

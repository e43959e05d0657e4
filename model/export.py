"""gato-export: what acting needs of a run, as small as it gets.

    gato-export --checkpoint runs/small/checkpoint --suite configs/suites/small.yaml \
        --output checkpoints/small

Writes the newest checkpoint's weights without the optimizer, the demonstrations and the
manifest of each data set that the suite plays, the text tokenizer, and the suite, whose
paths then point there; captions and questions, which are scored on validation shards,
are left out. gato-evaluate takes the folder as --checkpoint and its
`suite.yaml` as --suite; gato-train does not go on from it.
"""

import argparse
import os
import sys
from collections.abc import Sequence

import rich.console
import yaml

from gato.model.command import run_command
from gato.model.evaluation.suite import open_data, read_suite, training_of
from gato.model.weights import Trained, load_weights, save_weights
from gato.schemas import files
from gato.schemas.errors import UsageError
from gato.schemas.manifest import (
    DEMONSTRATIONS_NAME,
    MANIFEST_NAME,
    TOKENIZER_NAME,
)

SUITE_NAME = "suite.yaml"
# Of the exported folder.
_DATA_NAME = "data"

_EXAMPLES = """examples:
  gato-export --checkpoint runs/small/checkpoint --suite configs/suites/small.yaml \\
      --output checkpoints/small
  gato-evaluate --checkpoint checkpoints/small --suite checkpoints/small/suite.yaml"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gato-export",
        description="Writes what acting needs of a run, as small as it gets.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="DIR", help="gato-train's folder")
    add("--suite", required=True, metavar="FILE", help="the tasks to play, as YAML")
    add("--output", required=True, metavar="DIR", help="a folder that is not there yet")
    return parser


def _export_suite(path: str, trained: Trained, output: str) -> None:
    """Copies what the suite's tasks need, and the suite with paths to the copies."""
    training = training_of(trained)
    played = read_suite(path).domains
    if not played:
        raise UsageError(
            f"{path}: an exported suite plays, and this one has no domains"
        )
    domains = {}
    for name, domain in played.items():
        data = open_data(path, domain.data, training)
        for entry in domain.tasks:
            data.task(entry.name)
        copy = f"{_DATA_NAME}/{data.manifest.dataset}"
        for file in (MANIFEST_NAME, DEMONSTRATIONS_NAME):
            content = files.read_bytes(files.join(data.folder, file))
            files.write_atomic(os.path.join(output, copy, file), content)
        tokenizer = files.join(data.folder.rpartition("/")[0] or ".", TOKENIZER_NAME)
        files.write_atomic(
            os.path.join(output, _DATA_NAME, TOKENIZER_NAME),
            files.read_bytes(tokenizer),
        )
        domains[name] = {
            "data": copy,
            "tasks": [entry.model_dump(exclude_unset=True) for entry in domain.tasks],
        }
    text = yaml.safe_dump({"domains": domains}, sort_keys=False)
    files.write_atomic(os.path.join(output, SUITE_NAME), text.encode())


def _execute(arguments: argparse.Namespace) -> None:
    output = arguments.output.rstrip("/")
    if os.path.exists(output):
        raise UsageError(
            f"--output is a folder that is not there yet, and {output} is. Remove it,"
            " or give another."
        )
    trained = load_weights(arguments.checkpoint)
    _export_suite(arguments.suite, trained, output)
    # Last, so that what was interrupted is no checkpoint.
    save_weights(trained, output)
    size = sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(output)
        for name in names
    )
    rich.console.Console(stderr=True).print(
        f"weights of step {trained.step} and the data of their suite, {size / 1e6:.1f}"
        f" MB, are in {output}. Next: gato-evaluate --checkpoint {output} --suite"
        f" {output}/{SUITE_NAME}",
        soft_wrap=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 1 for failure or 2 for usage."""
    return run_command(_execute, _parser(), argv, "remove the output and start again")


if __name__ == "__main__":
    sys.exit(main())

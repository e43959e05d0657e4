"""Small inputs to build from, builds of them, and what a build left behind."""

import dataclasses
import hashlib
import pathlib
from typing import Any

import raw_inputs

from gato.pipelines import build
from gato.schemas.manifest import FRAGMENTS_FOLDER, MANIFEST_NAME

# (inode, modification time in ns): another one means the file was made again.
Identity = tuple[int, int]


def write_inputs(
    root: pathlib.Path, *, num_walks: int = 5, **settings: Any
) -> pathlib.Path:
    """Writes three raw data sets under `root` and returns the config that names them.

    Args:
        root: An empty folder.
        num_walks: Minari data sets of one task, each a partition of `walk`.
        settings: Of the config, over those here.
    """
    for number in range(num_walks):
        raw_inputs.write_minari(
            root / "raw",
            f"toy/walk{number}/expert-v0",
            raw_inputs.random_walks(number, 12),
            env_id="Walk-v0",
        )
    samples = raw_inputs.captioned_images(6, 30, captions={5: 2, 7: 3})
    raw_inputs.write_webdataset(root / "raw" / "pairs" / "0.tar", samples)
    for number in range(2):
        path = root / "raw" / "text" / f"{number}.jsonl"
        raw_inputs.write_jsonl(path, raw_inputs.texts(number, 25, words=(1, 200)))
    return raw_inputs.write_config(
        root / "build.yaml", dataset_entries(), **(SETTINGS | settings)
    )


SETTINGS: dict[str, Any] = {
    "seed": 3,
    "sequence_length": 256,
    "validation_fraction": 0.2,
    "prompts": {"max_tokens": 128},
}


def dataset_entries() -> list[dict[str, Any]]:
    """Returns the config's entries of the data sets `write_inputs` writes."""
    return [
        {
            "name": "walk",
            "format": "minari",
            "paths": ["raw/toy/*/*"],
            "agent": "walker",
            "num_shards": 3,
        },
        {"name": "pairs", "format": "webdataset", "paths": ["raw/pairs/*.tar"]},
        {
            "name": "text",
            "format": "text",
            "paths": ["raw/text/*.jsonl"],
            "num_shards": 2,
        },
    ]


def run_build(config: pathlib.Path, output: pathlib.Path, *options: str) -> int:
    """Runs `gato-build` in this process and returns its exit code."""
    return build.main(["--config", str(config), "--output", str(output), *options])


def contents(output: pathlib.Path, *, fragments: bool = False) -> dict[str, str]:
    """Returns the sha256 of every file below `output` by relative path.

    Args:
        output: A build's folder.
        fragments: Whether those of fragments count.
    """
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in _files(output).items()
        if fragments or not name.startswith(FRAGMENTS_FOLDER)
    }


def identities(output: pathlib.Path, pattern: str) -> dict[str, Identity]:
    """Returns inode and modification time of the files that match, by path."""
    found = {}
    for path in filter(pathlib.Path.is_file, output.glob(pattern)):
        status = path.stat()
        found[str(path.relative_to(output))] = (status.st_ino, status.st_mtime_ns)
    return found


def footers(output: pathlib.Path) -> dict[str, Identity]:
    """Returns the identities of the finished fragments."""
    return identities(output, f"{FRAGMENTS_FOLDER}/*/*.footer")


def _files(output: pathlib.Path) -> dict[str, pathlib.Path]:
    return {
        str(path.relative_to(output)): path
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }


def manifests(output: pathlib.Path) -> list[str]:
    """Returns the manifests that stand, root and data sets."""
    return [n for n in _files(output) if n.endswith(MANIFEST_NAME)]


@dataclasses.dataclass(frozen=True)
class Message:
    """An exit code with what was printed to standard error, on one line."""

    code: int
    text: str


def build_message(
    capsys: Any, config: pathlib.Path, output: pathlib.Path, *options: str
) -> Message:
    """Builds and returns exit code and message, whatever the console's width."""
    capsys.readouterr()
    code = run_build(config, output, *options)
    return Message(code, " ".join(capsys.readouterr().err.split()))

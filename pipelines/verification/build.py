"""A whole output folder, and the comparison of two."""

import json
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any

from gato.pipelines.verification.dataset import Advance, check_dataset
from gato.pipelines.verification.problems import Problems
from gato.schemas import files
from gato.schemas.errors import GatoError, UsageError
from gato.schemas.manifest import (
    ATTEMPT_NAME,
    DEMONSTRATIONS_NAME,
    FRAGMENTS_FOLDER,
    MANIFEST_NAME,
    QUARANTINE_NAME,
    TOKENIZER_NAME,
    DatasetManifest,
    RootManifest,
    load_dataset_manifest,
    load_root_manifest,
)

_CHUNK = 1 << 20


def is_root(folder: str) -> bool:
    """Whether a folder's manifest is of a whole build, else of one data set.

    Raises:
        GatoError: If there is no manifest, with what to do.
    """
    path = files.join(folder, MANIFEST_NAME)
    if not files.is_folder(folder):
        raise UsageError(
            f"{folder}: a build's output folder, or one data set's in it, is meant, and"
            " there is no such folder. Check the path."
        )
    try:
        content = json.loads(files.read_bytes(path))
    except FileNotFoundError as error:
        raise GatoError(_unfinished(folder)) from error
    except (ValueError, OSError, RecursionError) as error:
        raise GatoError(f"{path}: not a manifest of gato-build: {error}") from error
    return isinstance(content, dict) and "datasets" in content


def _unfinished(folder: str) -> str:
    names = files.list_folder(folder)
    finished = [
        name for name in names if files.exists(files.join(folder, name, MANIFEST_NAME))
    ]
    if finished:
        return (
            f"{folder}: the build is not finished: of its data sets only"
            f" {', '.join(finished)} has a manifest. Run the same gato-build command"
            f" again; it goes on where it was. One finished data set alone can be"
            f" verified: gato-verify {files.join(folder, finished[0])}"
        )
    marks = {FRAGMENTS_FOLDER, ATTEMPT_NAME}
    shards = any(name.endswith((".tfrecord", ".idx")) for name in names)
    if shards or marks & set(names):
        return (
            f"{folder}: the build is not finished: there is no {MANIFEST_NAME}. Run the"
            " same gato-build command again; it goes on where it was."
        )
    return (
        f"{folder}: there is no {MANIFEST_NAME}, so this is no output of gato-build."
        " Give its --output folder, or one data set's folder in it."
    )


def dataset_folders(folder: str) -> list[str]:
    """Returns the folders to verify: the data sets of a build, or the folder itself.

    Raises:
        GatoError: If there is no manifest, or it cannot be read.
    """
    if not is_root(folder):
        return [folder]
    return [files.join(folder, name) for name in load_root_manifest(folder).datasets]


def num_bytes(folders: list[str]) -> int:
    """Returns the bytes of all shards by the manifests, for progress."""
    total = 0
    for folder in folders:
        try:
            splits = load_dataset_manifest(folder).splits.values()
        except (GatoError, OSError):
            continue
        total += sum(shard.bytes for split in splits for shard in split.shards)
    return total


def _check_root(
    root: RootManifest,
    name: str,
    manifest: DatasetManifest,
    file: str,
    problems: Problems,
) -> None:
    entry = root.datasets[name]
    pairs: list[tuple[str, Any, Any]] = [
        (f"datasets.{name}", name, manifest.dataset),
        (f"datasets.{name}.weight", entry.weight, manifest.weight),
        (f"datasets.{name}.fingerprint", entry.fingerprint, manifest.fingerprint),
        (f"datasets.{name}.rows", entry.rows, manifest.rows),
        ("sequence_length", root.sequence_length, manifest.sequence_length),
        ("token_dtype", root.token_dtype, manifest.token_dtype),
        ("vocabulary", root.vocabulary, manifest.vocabulary),
    ]
    for key, said, found in pairs:
        if said != found:
            problems.add(
                file, f"{key} is {said!r}, the manifest of {name} says {found!r}"
            )


def check_build(
    folder: str, problems: Problems, advance: Advance, pool: Executor
) -> list[DatasetManifest]:
    """Proves every data set of a build, and the root manifest by theirs.

    Args:
        folder: An output folder, or one data set's.
        problems: Takes every disagreement.
        advance: Called with rows and bytes as they are read.
        pool: Threads that decode images.

    Raises:
        GatoError: If there is nothing to verify.
    """
    if not is_root(folder):
        root = folder.rstrip("/").rpartition("/")[0] or "."
        found = check_dataset(
            folder, root, problems, advance, pool, require_tokenizer=False
        )
        return [found] if found is not None else []
    root_manifest = load_root_manifest(folder)
    file = files.join(folder, MANIFEST_NAME)
    manifests = []
    for name in root_manifest.datasets:
        manifest = check_dataset(
            files.join(folder, name),
            folder,
            problems,
            advance,
            pool,
            require_tokenizer=True,
        )
        if manifest is not None:
            manifests.append(manifest)
            _check_root(root_manifest, name, manifest, file, problems)
    for name in files.list_folder(folder):
        path = files.join(folder, name, MANIFEST_NAME)
        if name not in root_manifest.datasets and files.exists(path):
            problems.add(
                path, "the root manifest does not list this data set. Build again"
            )
    return manifests


def _first_difference(one: Any, other: Any, path: str = "") -> str | None:
    """Returns the place and the values of the first difference of two JSON values."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            place = f"{path}.{key}" if path else str(key)
            if (key in one) != (key in other):
                return f"{place} is in one of them only"
            found = _first_difference(one[key], other[key], place)
            if found:
                return found
        return None
    if isinstance(one, list) and isinstance(other, list):
        for index, (a, b) in enumerate(zip(one, other, strict=False)):
            found = _first_difference(a, b, f"{path}[{index}]")
            if found:
                return found
        if len(one) != len(other):
            return f"{path} has {len(one)} and {len(other)} entries"
        return None
    return None if one == other else f"{path} is {one!r:.80} and {other!r:.80}"


def _compare_files(one: str, other: str) -> str | None:
    """Returns how two files differ, or None."""
    for path, twin in ((one, other), (other, one)):
        if not files.exists(path):
            return f"{path} is missing" if files.exists(twin) else None
    offset = 0
    with files.open_read(one) as first, files.open_read(other) as second:
        while True:
            a, b = first.read(_CHUNK), second.read(_CHUNK)
            if a != b:
                break
            if not a:
                return None
            offset += len(a)
    common = min(len(a), len(b))
    at = next((i for i in range(common) if a[i] != b[i]), common)
    if one.endswith(MANIFEST_NAME):
        try:
            values = (json.loads(files.read_bytes(path)) for path in (one, other))
            found = _first_difference(*values)
        except (ValueError, RecursionError):
            found = None
        if found:
            return f"{one} and {other} differ: {found}"
    return f"{one} and {other} differ, first at byte {offset + at}"


def _names(folder: str, names: list[str]) -> Iterator[str]:
    """Yields the files of a build that equal builds share, relative to its folder."""
    yield MANIFEST_NAME
    yield TOKENIZER_NAME
    for name in names:
        prefix = f"{name}/" if name else ""
        if prefix:
            yield f"{prefix}{MANIFEST_NAME}"
        yield f"{prefix}{QUARANTINE_NAME}"
        yield f"{prefix}{DEMONSTRATIONS_NAME}"
        try:
            manifest = load_dataset_manifest(files.join(folder, name))
        except GatoError:
            continue
        for split in manifest.splits.values():
            for shard in split.shards:
                for suffix in ("", ".idx", ".json"):
                    yield f"{prefix}{shard.name}{suffix}"


def compare_builds(folder: str, other: str, problems: Problems) -> int:
    """Compares every file of two builds, byte for byte.

    Returns:
        How many files were compared.

    Raises:
        GatoError: If one of them has no manifest.
    """
    roots = is_root(folder), is_root(other)
    if roots[0] != roots[1]:
        raise GatoError(
            f"--against compares like with like: one of {folder} and {other} is a whole"
            " build and the other a data set's folder."
        )
    names = list(load_root_manifest(folder).datasets) if roots[0] else [""]
    count = 0
    for name in _names(folder, names):
        with problems.catching(files.join(folder, name), OSError):
            found = _compare_files(files.join(folder, name), files.join(other, name))
            count += 1
            if found is not None:
                problems.add(other, found)
    return count

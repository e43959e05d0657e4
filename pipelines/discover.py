"""What a build reads: globs to sorted paths with the identity of their bytes."""

import concurrent.futures
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence

from gato.pipelines.sources.base import LooksInside, ReadsBeside, Source
from gato.pipelines.sources.registry import source_for
from gato.schemas import files
from gato.schemas.config import BuildConfig, Dataset
from gato.schemas.errors import GatoError, UsageError
from gato.schemas.formats import FORMATS
from gato.schemas.hashing import fingerprint

_WILDCARD = re.compile(r"[*?\[]")
_THREADS = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourcePath:
    """One path that a data set's globs matched.

    Attributes:
        dataset: The data set's name.
        index: Its place among the data set's sorted paths.
        path: Full path or URL.
        relative_path: Relative to the glob's fixed part.
        identity: Fingerprint of the sizes and versions of the files it is made of.
        num_bytes: Their bytes.
    """

    dataset: str
    index: int
    path: str
    relative_path: str
    identity: str
    num_bytes: int


def choose(config: BuildConfig, names: str | None) -> list[Dataset]:
    """Returns the data sets that `--datasets` names, in the config's order.

    Args:
        config: The build config.
        names: Such as `babyai,metaworld`; None for all.

    Raises:
        UsageError: If the config has no data set of a name.
    """
    if names is None:
        return list(config.datasets)
    known = {dataset.name: dataset for dataset in config.datasets}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted or [names]:
        if name not in known:
            raise UsageError(
                f"--datasets names data sets of the config, which has"
                f" {', '.join(known)}; got {name!r}."
            )
    return [dataset for dataset in config.datasets if dataset.name in wanted]


def fixed_part(pattern: str) -> str:
    """Returns the folder of a glob before its first wildcard.

    >>> fixed_part("raw/a/*/x-*.tar"), fixed_part("raw/a/b.txt")
    ('raw/a', 'raw/a')
    """
    match = _WILDCARD.search(pattern)
    head = pattern[: match.start()] if match else pattern.rstrip("/")
    return head.rpartition("/")[0]


def expand(dataset: Dataset) -> list[SourcePath]:
    """Returns the data set's paths, sorted by relative path.

    Raises:
        UsageError: If a pattern matches nothing.
    """
    found = _relative_paths(dataset)
    source = source_for(dataset.format)
    ordered = sorted(found.items())
    # Many paths may share a folder of images, which is listed once.
    list_below = functools.cache(files.versions_below)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        found_files = pool.map(
            lambda item: list(_members(item[1], source, dataset, list_below)), ordered
        )
        return [
            SourcePath(
                dataset=dataset.name,
                index=index,
                path=path,
                relative_path=relative,
                identity=_identity(versions),
                num_bytes=sum(size for _, size, _ in versions),
            )
            for index, ((relative, path), versions) in enumerate(
                zip(ordered, found_files, strict=True)
            )
        ]


def settle(dataset: Dataset, paths: Sequence[SourcePath]) -> Dataset:
    """Returns the data set with the format that its first file is of.

    Most formats are what they are called; `parquet` may hold episodes or documents.

    Args:
        dataset: As the config has it, paths resolved.
        paths: What its globs matched; one that cannot be opened tells nothing.

    Raises:
        UsageError: If an option is not one of what the files hold.
    """
    source = source_for(dataset.format)
    if not isinstance(source, LooksInside):
        return dataset
    told = (source.format_of(path.path) for path in paths)
    format = next((each for each in told if each is not None), dataset.format)
    if dataset.condition_on_return and FORMATS[format].documents:
        raise UsageError(
            f"datasets.{dataset.name}: condition_on_return is of episodes, which have"
            f" rewards; {paths[0].path} holds documents. Leave it out."
        )
    return dataset.model_copy(update={"format": format})


def check_unchanged(path: SourcePath, dataset: Dataset) -> None:
    """Checks that a path is what it was when the build began.

    Raises:
        GatoError: If its files changed, or some are gone.
    """
    try:
        versions = list(_members(path.path, source_for(dataset.format), dataset))
    except (FileNotFoundError, UsageError) as error:
        raise GatoError(
            f"{path.path}: it was there when the build began and is gone, or a part of"
            " it. Put it back, then run the same command again."
        ) from error
    if _identity(versions) != path.identity:
        raise GatoError(
            f"{path.path}: it changed while it was read. Run the same command again"
            " once nothing writes there."
        )


def _identity(versions: list[tuple[str, int, str]]) -> str:
    return fingerprint(*(f"{n}\0{s}\0{v}" for n, s, v in versions))


def _relative_paths(dataset: Dataset) -> dict[str, str]:
    """Returns the full paths by relative path.

    Relative to the fixed part of each glob, and where two paths then share a name, to
    the folder above all of them.
    """
    matches: dict[str, str] = {}
    for pattern in dataset.paths:
        found = files.glob(pattern)
        if not found:
            raise UsageError(_no_match(dataset, pattern))
        matches |= dict.fromkeys(found, fixed_part(pattern))
    relative = {path: _below(base, path) for path, base in matches.items()}
    if len(set(relative.values())) < len(relative):
        base = _common_folder(list(matches.values()))
        relative = {path: _below(base, path) for path in matches}
    return {name: path for path, name in relative.items()}


def _below(base: str, path: str) -> str:
    return path.removeprefix(base).lstrip("/") if base else path


def _common_folder(folders: list[str]) -> str:
    """Returns the deepest folder that holds all, of local paths or URLs.

    >>> _common_folder(["gs://b/x/one", "gs://b/x/two/3"])
    'gs://b/x'
    """
    common: list[str] = []
    for parts in zip(*(folder.split("/") for folder in folders), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return "/".join(common)


def _members(
    path: str,
    source: Source,
    dataset: Dataset,
    list_below: Callable[[str], dict[str, tuple[int, str]]] = files.versions_below,
) -> Iterator[tuple[str, int, str]]:
    for member in source.files(path):
        size, version = files.version(member)
        yield member.removeprefix(path), size, version
    if isinstance(source, ReadsBeside):
        for other in source.beside(path, dataset):
            name = other.rstrip("/").rpartition("/")[2]
            if files.is_folder(other):
                for below, (size, version) in list_below(other).items():
                    yield f"{name}/{below}", size, version
            else:
                yield name, *files.version(other)


def named_paths(dataset: Dataset) -> list[str]:
    """Returns every path of a data set's config."""
    options = (dataset.images, dataset.annotations)
    return [*dataset.paths, *(path for path in options if path is not None)]


def _no_match(dataset: Dataset, pattern: str) -> str:
    folder = fixed_part(pattern) or "."
    names = files.list_folder(folder)
    if names:
        holds = f"the folder {folder!r} holds {len(names)} entries, first {names[0]!r}"
    elif files.exists(folder):
        holds = f"the folder {folder!r} is empty"
    else:
        holds = f"the folder {folder!r} does not exist"
    return (
        f"datasets.{dataset.name}.paths: nothing matches {pattern!r}; {holds}."
        " Relative paths start from the folder of the file where the data set stands:"
        " the config, or a file that it includes."
    )

"""EnvLogger's recordings (https://github.com/google-deepmind/envlogger), by EnvLogger.

A path is a data set folder, EnvLogger's `data_directory`: `metadata.riegeli`, and a
folder `<timestamp>` for every so many episodes, with `steps.riegeli` and three indices
of it. Riegeli files are read through the package `envlogger` alone, which the extras do
not install: its wheels fit few machines (see `INSTALL`). It reads local files.

Order is that of the folders' names, then of the episodes in each; an episode's id is
`<relative path>/<timestamp>/<n>`. `envlogger_steps.py` says what a timestep is. Task
and agent are looked for as texts under `task` and `agent` in the episode's metadata,
then in the data set's; else they are the folder's name and its relative path. `success`
is looked for in the episode's metadata, then in what was logged beside each step.
"""

import contextlib
import importlib
import logging
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from gato.pipelines.sources import base
from gato.pipelines.sources.envlogger_steps import action_spaces, stored_episode
from gato.pipelines.sources.stored_episode import EpisodeMaker, Stored
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError

_METADATA = "metadata.riegeli"
_STEPS = "steps.riegeli"
_SUFFIX = ".riegeli"
# 1.2 has wheels for Python 3.11 at most; 1.3 for later ones, but needs glibc 2.38.
INSTALL = (
    "`pip install envlogger==1.2` on Python 3.11, `pip install envlogger==1.3` where"
    " glibc is 2.38 or later"
)


class EnvloggerSource:
    """Episodes of recorded folders; partitions are ranges of one folder's."""

    items: Literal["episodes", "documents"] = "episodes"
    order: Literal["number", "file"] = "file"

    def files(self, path: str) -> list[str]:
        """Returns the folder's Riegeli files and those of the folders in it, sorted.

        Raises:
            UsageError: If it is no such folder, or lies in a store.
        """
        if not files.is_local(path):
            raise UsageError(
                f"{path}: format envlogger is read by EnvLogger's own library, which"
                " reads local files only. Copy the folder to this machine first."
            )
        has_metadata = files.exists(files.join(path, _METADATA))
        names = _names(path) if has_metadata else []
        if not _recorded(names):
            raise UsageError(
                f"{path}: a path of format envlogger is a folder with {_METADATA} and"
                f" folders of *{_SUFFIX} files in it{base.hint_below(path, _METADATA)}"
            )
        return [files.join(path, name) for name in names]

    def partition(
        self, path: str, relative_path: str, dataset: Dataset
    ) -> list[base.Partition]:
        """Splits each recorded folder into ranges of at most 256 MiB.

        Raises:
            UsageError: If the package `envlogger` is not there.
        """
        _import_library(path)
        partitions = []
        for name in _recorded(_names(path)):
            folder, relative = files.join(path, name), files.join(relative_path, name)
            try:
                with _opened(folder) as log:
                    numbers = range(len(log.episodes))
                num_bytes = files.size(files.join(folder, _STEPS))
            except Exception:  # whatever a damaged file raises; read() tells
                partitions.append(base.Partition(path=folder, relative_path=relative))
                continue
            partitions += base.number_ranges(folder, relative, numbers, num_bytes)
        return partitions

    def read(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Episode | Unreadable]:
        """Yields the episodes of the range in the file's order."""
        task = partition.path.split("/")[-2]
        agent = partition.relative_path.rpartition("/")[0]
        maker = EpisodeMaker.of(partition, dataset, task, agent)
        try:
            with _opened(partition.path) as log:
                spaces = action_spaces(log.action_spec())
                about = log.metadata()

                def load(number: int) -> Stored:
                    told = [log.episode_metadata()[number], about]
                    steps = list(log.episodes[number])
                    return stored_episode(steps, told, spaces, dataset)

                stop = len(log.episodes) if partition.stop is None else partition.stop
                yield from maker.each(range(partition.start, stop), load)
        except UsageError as error:  # no such package on this worker
            yield from maker.lost(QuarantineError(Reason.UNSUPPORTED, str(error)))
        except Exception as error:  # whatever a damaged file raises
            yield from maker.lost(error)


SOURCE: base.Source = EnvloggerSource()


def _names(path: str) -> list[str]:
    """Returns the Riegeli files of a folder and of the folders in it, sorted."""
    return [
        name
        for name in files.versions_below(path)
        if name.endswith(_SUFFIX) and name.count("/") < 2
    ]


def _recorded(names: Sequence[str]) -> list[str]:
    """Returns the folders that such files lie in, sorted."""
    return sorted({name.partition("/")[0] for name in names if "/" in name})


def _import_library(path: str) -> Any:
    """Returns EnvLogger's module of readers.

    Raises:
        UsageError: If it is not installed, or does not load here.
    """
    try:
        return importlib.import_module("envlogger.reader")
    except ImportError as error:
        raise UsageError(
            f"{path}: format envlogger needs the package envlogger, which does not load"
            f" here ({error}). Install it: {INSTALL}; or convert the recording to RLDS"
            " with EnvLogger's own tools, and read that with format rlds."
        ) from error


@contextlib.contextmanager
def _opened(folder: str) -> Iterator[Any]:
    """Opens one recorded folder as EnvLogger's `Reader`.

    EnvLogger opens a whole data set or, where one folder of it is damaged, nothing. So
    it is shown a data set of this one folder.

    Raises:
        QuarantineError: If the indices lack steps or episodes.
        Exception: Whatever EnvLogger raises of damaged files.
    """
    library = _import_library(folder)
    recorded = pathlib.Path(files.local_path(folder)).absolute()
    with tempfile.TemporaryDirectory() as alone:
        for shown in (recorded, recorded.with_name(_METADATA)):
            pathlib.Path(alone, shown.name).symlink_to(shown)
        with _without_log():
            # A `Reader` that was not built complains when it is deleted; this does not.
            backend = library.riegeli_backend_reader.RiegeliBackendReader(alone)
        with library.Reader(backend=backend) as log:
            _check_indices(log)
            yield log


def _check_indices(log: Any) -> None:
    """Checks that the episodes have all steps between them.

    EnvLogger takes an index that cannot be read for the end of it.
    """
    num_steps, episodes = len(log.steps), log.episodes
    found = sum(len(episodes[number]) for number in range(len(episodes)))
    if num_steps == 0 or found != num_steps:
        raise QuarantineError(
            Reason.CORRUPT_FILE,
            f"the indices must agree, and list one step at least: there are {num_steps}"
            f" steps, and {len(episodes)} episodes of {found} together. Was the"
            " environment closed when its recording ended?",
        )


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Keeps EnvLogger from logging tracebacks of what is told as a verdict."""
    logger = logging.getLogger("absl")
    was = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = was

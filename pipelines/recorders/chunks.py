"""Chunks of episodes: what one worker plays, and the files that it leaves.

A chunk is some of a recipe's seeds, one after the other, so that where, when and in
which order chunks are played does not matter. It leaves two files:

    <folder>/<data set>-<fingerprint>/00000100-00000200.npy.gz   the episodes' arrays
    <folder>/<data set>-<fingerprint>/00000100-00000200.json     what came of each seed

The fingerprint is of all that decides an episode; the number of episodes does not. The
same chunk has the same bytes wherever it is played: a worker that does the work of
another once more changes nothing.
"""

import concurrent.futures
import dataclasses
import gzip
import json
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.recorders.domain import Domain, ExpertFailedError, Recipe, Rollout
from gato.schemas import files
from gato.schemas.errors import GatoError
from gato.schemas.hashing import fingerprint

_VERSION = 1
# The least: pictures of games come to a tenth of their size, at 150 MB/s.
_LEVEL = 1
_COLUMNS = ("actions", "rewards", "terminations", "truncations")
# What json, gzip and numpy raise on bytes that they did not write.
_DAMAGE = (
    AttributeError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    gzip.BadGzipFile,
    zlib.error,
)
# Objects of a store are asked for together.
_READERS = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """What came of a seed.

    Attributes:
        seed: What the environment was reset with.
        total_reward: The episode's return.
        steps: Its timesteps.
        solved: Whether it achieved its task; None where episodes do not say.
    """

    seed: int
    total_reward: float
    steps: int
    solved: bool | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some episodes of a recipe.

    Attributes:
        domain: What the recipe's task belongs to.
        recipe: Who acts.
        first: How many seeds of the recipe come before these.
        seeds: To be tried.
        folder: Where chunks are written, a path or URL that all workers can reach.
        conditions: JSON of what decides the data where the chunk was planned.
        is_kept: Whether the episodes are written, and not only what came of them.
    """

    domain: Domain
    recipe: Recipe
    first: int
    seeds: tuple[int, ...]
    folder: str
    conditions: str
    is_kept: bool

    @property
    def name(self) -> str:
        """What its files' names begin with."""
        return f"{self.first:08d}-{self.first + len(self.seeds):08d}"

    @property
    def outcomes_path(self) -> str:
        """The file that says what came of each seed."""
        return files.join(self.folder, f"{self.name}.json")

    @property
    def episodes_path(self) -> str:
        """The file of the episodes."""
        return files.join(self.folder, f"{self.name}.npy.gz")


def conditions(domain: Domain) -> str:
    """Returns what decides a domain's data on this machine, as JSON."""
    return json.dumps(domain.conditions(), sort_keys=True)


def folder_name(domain: Domain, recipe: Recipe) -> str:
    """Returns the name of the folder of a recipe's chunks."""
    content = dataclasses.asdict(recipe)
    del content["episodes"]
    dataset_id = domain.dataset_id(recipe)
    decides = json.dumps(content, sort_keys=True)
    digest = fingerprint(str(_VERSION), dataset_id, decides, conditions(domain))
    return f"{dataset_id.replace('/', '_')}-{digest}"


_thread = threading.local()
# Engines may call from many threads; environments redirect what is the process's.
_alone = threading.Lock()


def _environment(domain: Domain, task: str) -> Any:
    """Returns the environment of the last chunk, or a new one if it was another's.

    Each thread has its own: what draws frames belongs to the thread that made it.
    """
    if getattr(_thread, "made_for", None) != (domain, task):
        _thread.environment = domain.make_environment(task)
        _thread.made_for = (domain, task)
    return _thread.environment


def play(job: Chunk, advance: Callable[[], None]) -> None:
    """Plays a chunk's episodes and writes its files.

    Args:
        job: The chunk to play.
        advance: Called after each seed.

    Raises:
        GatoError: If the chunk was planned for other versions than there are here.
    """
    here = conditions(job.domain)
    if here != job.conditions:
        raise GatoError(
            f"{job.recipe.task}: workers and the machine that starts the job record"
            f" the same; a worker has {here}, that machine {job.conditions}. Install"
            " the same versions on both."
        )
    with _alone:
        _play(job, advance)


def _play(chunk: Chunk, advance: Callable[[], None]) -> None:
    environment = _environment(chunk.domain, chunk.recipe.task)
    attempts = chunk.domain.attempts(
        environment, chunk.recipe, chunk.seeds, chunk.first
    )
    if not chunk.is_kept:
        outcomes = [_outcome(attempt) for attempt in _counted(attempts, advance)]
    else:
        with (
            files.open_atomic(chunk.episodes_path) as file,
            # No name and no time: the same episodes make the same bytes.
            gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed,
        ):
            outcomes = []
            for attempt in _counted(attempts, advance):
                outcomes.append(_outcome(attempt))
                if isinstance(attempt, Rollout):
                    _write(packed, attempt)
    files.write_atomic(chunk.outcomes_path, json.dumps(outcomes).encode())


def _counted(
    attempts: Iterator[Rollout | ExpertFailedError], advance: Callable[[], None]
) -> Iterator[Rollout | ExpertFailedError]:
    for attempt in attempts:
        yield attempt
        advance()


def _outcome(attempt: Rollout | ExpertFailedError) -> dict[str, Any]:
    """Returns what the JSON file says of an attempt."""
    if isinstance(attempt, ExpertFailedError):
        return {"failure": str(attempt)}
    success = attempt.success
    return dataclasses.asdict(
        Attempt(
            seed=attempt.seed,
            total_reward=float(attempt.rewards.sum()),
            steps=len(attempt.actions),
            solved=None if success is None else bool(success[-1, 0]),
        )
    )


def _write(file: Any, rollout: Rollout) -> None:
    """Writes a line of JSON with the names of the arrays, and these."""
    observations = rollout.observations
    arrays: dict[str, Any] = {name: getattr(rollout, name) for name in _COLUMNS}
    if rollout.success is not None:
        arrays["success"] = rollout.success
    if isinstance(observations, dict):
        arrays |= {f"observations/{key}": seen for key, seen in observations.items()}
    else:
        arrays["observations"] = observations
    numbers = {}
    for name, value in rollout.about.items():
        if isinstance(value, np.ndarray | np.generic):
            arrays[f"about/{name}"] = value
        else:
            numbers[name] = value
    header = {"seed": rollout.seed, "about": numbers, "arrays": list(arrays)}
    file.write(json.dumps(header).encode() + b"\n")
    for array in arrays.values():
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def _read(file: IO[bytes]) -> Iterator[Rollout]:
    while line := file.readline():
        header = json.loads(line)
        arrays = {
            name: np.lib.format.read_array(file, allow_pickle=False)
            for name in header["arrays"]
        }
        about = {k: v[()] for k, v in _taken(arrays, "about/").items()}
        by_key = _taken(arrays, "observations/")
        observations = {key: _seen(array) for key, array in by_key.items()}
        yield Rollout(
            seed=header["seed"],
            observations=observations or arrays.pop("observations"),
            success=arrays.pop("success", None),
            about=header["about"] | about,
            **arrays,
        )


def _taken(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Returns the arrays whose names begin so, by the rest, and leaves the others."""
    names = [name for name in arrays if name.startswith(prefix)]
    return {name.removeprefix(prefix): arrays.pop(name) for name in names}


def _seen(array: NDArray[Any]) -> NDArray[Any] | list[str]:
    """Returns what was observed: texts are a list."""
    return array.tolist() if array.dtype.kind == "U" else array


def _damaged(path: str, error: object) -> GatoError:
    return GatoError(
        f"{path}: is damaged ({error}). Remove it and run the same command again, which"
        " plays its episodes once more."
    )


def read_episodes(chunk: Chunk) -> Iterator[Rollout]:
    """Yields a finished chunk's episodes in the order of their seeds.

    Raises:
        GatoError: If the file is damaged.
    """
    path = chunk.episodes_path
    outcomes = read_outcomes([chunk])
    num_promised = sum(isinstance(outcome, Attempt) for outcome in outcomes)
    num_read = 0
    try:
        with files.open_read(path) as file, gzip.GzipFile(fileobj=file) as packed:
            for rollout in _read(packed):  # type: ignore[arg-type]
                num_read += 1
                yield rollout
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    if num_read != num_promised:
        raise _damaged(path, f"{num_read} episodes of {num_promised}")


def read_outcomes(
    chunks: Sequence[Chunk],
) -> Iterator[Attempt | ExpertFailedError]:
    """Yields what came of the seeds of finished chunks, in their order.

    Raises:
        GatoError: If a file is damaged.
    """
    with concurrent.futures.ThreadPoolExecutor(_READERS) as readers:
        contents = readers.map(files.read_bytes, [c.outcomes_path for c in chunks])
        for chunk, content in zip(chunks, contents, strict=True):
            try:
                for said in json.loads(content):
                    failure = said.pop("failure", None)
                    yield (
                        Attempt(**said)
                        if failure is None
                        else ExpertFailedError(failure)
                    )
            except _DAMAGE as error:
                raise _damaged(chunk.outcomes_path, error) from error


def finished(chunks: Sequence[Chunk]) -> set[Chunk]:
    """Returns which chunks are there already."""
    names = {
        folder: set(files.list_folder(folder)) for folder in {c.folder for c in chunks}
    }
    return {
        chunk
        for chunk in chunks
        if f"{chunk.name}.json" in names[chunk.folder]
        and (not chunk.is_kept or f"{chunk.name}.npy.gz" in names[chunk.folder])
    }

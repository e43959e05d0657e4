"""Writes rollouts as Minari data sets, lossless, and reads back what a finished one is.

Data sets are written with Minari's own library under a root of their own, and moved to
their place when whole: a folder that is there is finished, in an object store one with
a `data/metadata.json`, the last file that is copied there. This says
under `recorder` by which recipe, so that the same command skips it and another command
is refused.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import warnings
from collections.abc import Iterator
from typing import Any

import minari
from minari import namespace as minari_namespace
from minari.data_collector import EpisodeBuffer
from numpy.typing import NDArray

from gato.pipelines.recorders.domain import Domain, Recipe, Rollout
from gato.schemas import files
from gato.schemas.errors import GatoError, UsageError

# Episodes, and bytes of their observations, held in memory before they are written.
_BATCH, _BATCH_BYTES = 100, 1 << 28


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What a recording came to.

    Attributes:
        episodes: Episodes recorded.
        solved: How many achieved their task; None where episodes do not say.
        steps: Timesteps of all episodes.
        mean_return: Mean return of all episodes.
        failed_seeds: Seeds the expert gave up on; others took their place.
    """

    episodes: int
    solved: int | None
    steps: int
    mean_return: float
    failed_seeds: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished data set: its result, and the task's returns it was stored with."""

    result: Result
    random_return: float
    expert_return: float | None


def _described(domain: Domain, recipe: Recipe, data_format: str) -> dict[str, Any]:
    """Returns what a data set says of its recipe, as JSON gives it back."""
    content = dataclasses.asdict(recipe) | domain.conditions()
    return json.loads(json.dumps(content | {"data_format": data_format}))


def read_finished(
    output: str, domain: Domain, recipe: Recipe, data_format: str
) -> Finished | None:
    """Returns what is known of a finished data set, or None if it is not there.

    In an object store it is there with its metadata, which is written last.

    Raises:
        UsageError: If one is there that was made by another recipe.
    """
    folder = files.join(output, domain.dataset_id(recipe))
    path = files.join(folder, "data", "metadata.json")
    if not files.exists(folder if files.is_local(output) else path):
        return None
    try:
        metadata = json.loads(files.read_bytes(path))
        found = metadata["recorder"]
        result = Result(**found["result"])
        finished = Finished(
            result=result,
            random_return=metadata["ref_min_score"],
            expert_return=metadata.get("ref_max_score"),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder}: recorded data sets say how they were made in"
            " data/metadata.json, this one does not. Give another --output, or remove"
            " the folder."
        ) from error
    wanted = _described(domain, recipe, data_format)
    different = [k for k, v in wanted.items() if found["recipe"].get(k) != v]
    if different:
        key = different[0]
        raise UsageError(
            f"{folder} was recorded with {key} {found['recipe'].get(key)!r}, now"
            f" {wanted[key]!r} is asked for. Give another --output, or remove the"
            " folder."
        )
    return finished


@contextlib.contextmanager
def _minari_root(root: pathlib.Path) -> Iterator[None]:
    """Points Minari at a root, and quiets what it says about authors and links."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(root)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore",
                message=r"`(code_permalink|author|author_email)` is set to None",
                category=UserWarning,
            )
            yield
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before


def _buffer(rollout: Rollout) -> EpisodeBuffer:
    return EpisodeBuffer(
        seed=rollout.seed,
        options=rollout.about or None,
        # Minari types these as lists and writes arrays as well, at a tenth of the time.
        observations=rollout.observations,  # type: ignore[arg-type]
        actions=rollout.actions,  # type: ignore[arg-type]
        rewards=rollout.rewards,  # type: ignore[arg-type]
        terminations=rollout.terminations,  # type: ignore[arg-type]
        truncations=rollout.truncations,  # type: ignore[arg-type]
        # A scalar a step could not be read back from Arrow.
        infos=None if rollout.success is None else {"success": rollout.success},
    )


def _num_bytes(observations: NDArray[Any] | dict[str, NDArray[Any] | list[str]]) -> int:
    if isinstance(observations, dict):
        return sum(
            one.nbytes for one in observations.values() if not isinstance(one, list)
        )
    return observations.nbytes


class MinariWriter:
    """Writes the rollouts of one recipe under a root of its own.

    Args:
        root: An empty folder, on the file system of the final place.
        domain: What the recipe's task belongs to.
        recipe: Who acts where.
        data_format: hdf5 or arrow.
    """

    def __init__(
        self, root: pathlib.Path, domain: Domain, recipe: Recipe, data_format: str
    ) -> None:
        self._root = root
        self._domain = domain
        self._recipe = recipe
        self._format = data_format
        self._dataset: minari.MinariDataset | None = None
        self._pending: list[EpisodeBuffer] = []
        self._pending_bytes = 0

    @property
    def folder(self) -> pathlib.Path:
        """Where the data set is until it is published."""
        return self._root / self._domain.dataset_id(self._recipe)

    def add(self, rollout: Rollout) -> None:
        """Takes one episode; writes when a batch is full."""
        self._pending.append(_buffer(rollout))
        self._pending_bytes += _num_bytes(rollout.observations)
        if len(self._pending) == _BATCH or self._pending_bytes >= _BATCH_BYTES:
            self._flush()

    def close(self, result: Result) -> None:
        """Writes what is left, and the recipe and its result."""
        self._flush()
        if self._dataset is None:
            raise GatoError(f"{self.folder}: no episode was recorded")
        recipe = _described(self._domain, self._recipe, self._format)
        self._dataset.storage.update_metadata(
            {"recorder": {"recipe": recipe, "result": dataclasses.asdict(result)}}
        )

    def _flush(self) -> None:
        if self._dataset is None:
            self._dataset = self._create(self._pending)
        elif self._pending:
            self._dataset.storage.update_episodes(self._pending)
        self._pending = []
        self._pending_bytes = 0

    def _create(self, episodes: list[EpisodeBuffer]) -> minari.MinariDataset:
        recipe = self._recipe
        described = self._domain.describe(recipe)
        with _minari_root(self._root):
            return minari.create_dataset_from_buffers(
                self._domain.dataset_id(recipe),
                episodes,
                env=described.environment,
                eval_env=described.environment,
                algorithm_name=described.algorithm,
                action_space=described.action_space,
                observation_space=described.observation_space,
                description=(
                    f"{recipe.task}, {recipe.policy} policy; {described.content}."
                ),
                data_format=self._format,
                requirements=described.requirements,
                jpeg_encoding=False,
            )


def publish(
    folder: pathlib.Path,
    output: str,
    domain: Domain,
    recipe: Recipe,
    *,
    random_return: float,
    expert_return: float | None,
) -> None:
    """Stores the task's returns in a written data set and moves it to its place."""
    path = folder / "data" / "metadata.json"
    metadata = json.loads(path.read_bytes())
    metadata |= {
        "ref_min_score": random_return,
        "num_episodes_average_score": recipe.episodes,
    }
    if expert_return is not None:
        metadata["ref_max_score"] = expert_return
    path.write_text(json.dumps(metadata), encoding="utf-8")
    dataset_id = domain.dataset_id(recipe)
    namespace = dataset_id.rpartition("/")[0]
    for part in (namespace, namespace.rpartition("/")[0]):
        # With these, `MINARI_DATASETS_PATH=<output> minari list local` finds them.
        mark = files.join(output, part, minari_namespace.NAMESPACE_METADATA_FILENAME)
        if not files.exists(mark):
            files.write_atomic(mark, b"{}")
    final = files.join(output, dataset_id)
    if files.is_local(output):
        os.rename(folder, files.local_path(final))
    else:
        _copy(folder, final)


def _copy(folder: pathlib.Path, final: str) -> None:
    """Copies a data set into an object store; its metadata, last, makes it whole."""
    last = folder / "data" / "metadata.json"
    others = (p for p in sorted(folder.rglob("*")) if p.is_file() and p != last)
    for path in (*others, last):
        name = path.relative_to(folder).as_posix()
        with (
            path.open("rb") as file,
            files.open_atomic(files.join(final, name)) as copy,
        ):
            shutil.copyfileobj(file, copy, 1 << 20)

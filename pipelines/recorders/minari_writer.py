"""Writes rollouts as Minari data sets, lossless, and reads back what a finished one is.

Data sets are written with Minari's own library under a root of their own, and moved to
their place when whole: a folder that is there is finished. Its `metadata.json` says
under `recorder` by which recipe, so that the same command skips it and another command
is refused.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import string
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import minari
import minigrid
from minari import namespace as minari_namespace
from minari.data_collector import EpisodeBuffer

from gato.pipelines.recorders.rollouts import (
    Recipe,
    Rollout,
    make_environment,
    short_name,
)
from gato.schemas import files
from gato.schemas.errors import GatoError, UsageError

_NAMESPACE = "babyai"
_MISSION_CHARACTERS = string.ascii_letters + string.digits + " ,.'-"
# Episodes held in memory before they are written.
_BATCH = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What a recording came to.

    Attributes:
        episodes: Episodes recorded.
        solved: How many achieved their mission.
        steps: Timesteps of all episodes.
        mean_return: Mean return of all episodes.
        failed_seeds: Seeds the bot gave up on; others took their place.
        seconds: How long it took; 0 for one that was there already.
    """

    episodes: int
    solved: int
    steps: int
    mean_return: float
    failed_seeds: int
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished data set: its result, and the level's returns it was stored with."""

    result: Result
    random_return: float
    expert_return: float


def dataset_id(recipe: Recipe) -> str:
    """Returns the Minari id, such as `babyai/GoToLocal/expert-v0`."""
    return f"{_NAMESPACE}/{short_name(recipe.level)}/{recipe.policy}-v0"


def _described(recipe: Recipe, data_format: str) -> dict[str, Any]:
    """Returns what a data set says of its recipe, as JSON gives it back."""
    content = dataclasses.asdict(recipe) | {
        "data_format": data_format,
        "minigrid": minigrid.__version__,
    }
    return json.loads(json.dumps(content))


def read_finished(
    output: pathlib.Path, recipe: Recipe, data_format: str
) -> Finished | None:
    """Returns what is known of a finished data set, or None if it is not there.

    Raises:
        UsageError: If one is there that was made by another recipe.
    """
    folder = output / dataset_id(recipe)
    if not folder.exists():
        return None
    try:
        metadata = json.loads((folder / "data" / "metadata.json").read_bytes())
        found = metadata["recorder"]
        result = Result(**found["result"], seconds=0.0)
        finished = Finished(
            result=result,
            random_return=metadata["ref_min_score"],
            expert_return=metadata["ref_max_score"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder}: recorded data sets say how they were made in"
            " data/metadata.json, this one does not. Give another --output, or remove"
            " the folder."
        ) from error
    wanted = _described(recipe, data_format)
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
        observations={
            "direction": rollout.direction,
            "image": rollout.image,
            "mission": rollout.mission,
        },
        # Minari types these as lists and writes arrays as well, at a tenth of the time.
        actions=rollout.actions,  # type: ignore[arg-type]
        rewards=rollout.rewards,  # type: ignore[arg-type]
        terminations=rollout.terminations,  # type: ignore[arg-type]
        truncations=rollout.truncations,  # type: ignore[arg-type]
        # A scalar a step could not be read back from Arrow.
        infos={"success": rollout.success},
    )


def _observation_space(environment: Any) -> gymnasium.spaces.Dict:
    """Returns the environment's space with the mission as text that can be stored."""
    spaces = environment.observation_space.spaces
    mission = gymnasium.spaces.Text(
        max_length=1024, min_length=0, charset=_MISSION_CHARACTERS
    )
    return gymnasium.spaces.Dict(
        {
            "direction": spaces["direction"],
            "image": spaces["image"],
            "mission": mission,
        }
    )


class MinariWriter:
    """Writes the rollouts of one recipe under a root of its own.

    Args:
        root: An empty folder, on the file system of the final place.
        recipe: Who acts where.
        data_format: hdf5 or arrow.
    """

    def __init__(self, root: pathlib.Path, recipe: Recipe, data_format: str) -> None:
        self._root = root
        self._recipe = recipe
        self._format = data_format
        self._dataset: minari.MinariDataset | None = None
        self._pending: list[EpisodeBuffer] = []

    @property
    def folder(self) -> pathlib.Path:
        """Where the data set is until it is published."""
        return self._root / dataset_id(self._recipe)

    def add(self, rollout: Rollout) -> None:
        """Takes one episode; writes when a batch is full."""
        self._pending.append(_buffer(rollout))
        if len(self._pending) == _BATCH:
            self._flush()

    def close(self, result: Result) -> None:
        """Writes what is left, and the recipe and its result."""
        self._flush()
        if self._dataset is None:
            raise GatoError(f"{dataset_id(self._recipe)}: no episode was recorded")
        content = dataclasses.asdict(result)
        # Of a run, not of the data: the same command writes the same metadata.
        del content["seconds"]
        recipe = _described(self._recipe, self._format)
        self._dataset.storage.update_metadata(
            {"recorder": {"recipe": recipe, "result": content}}
        )

    def _flush(self) -> None:
        if self._dataset is None:
            self._dataset = self._create(self._pending)
        elif self._pending:
            self._dataset.storage.update_episodes(self._pending)
        self._pending = []

    def _create(self, episodes: list[EpisodeBuffer]) -> minari.MinariDataset:
        recipe = self._recipe
        environment = make_environment(recipe.level)
        algorithms = {
            "expert": "minigrid.utils.baby_ai_bot.BabyAIBot",
            "noisy": f"BabyAIBot; random actions in fractions of {recipe.noise}",
            "random": "uniformly random actions",
        }
        with _minari_root(self._root):
            return minari.create_dataset_from_buffers(
                dataset_id(recipe),
                episodes,
                env=gymnasium.spec(recipe.level),
                eval_env=gymnasium.spec(recipe.level),
                algorithm_name=algorithms[recipe.policy],
                action_space=environment.action_space,
                observation_space=_observation_space(environment),
                description=(
                    f"{recipe.level}, {recipe.policy} policy; the grid in view, the"
                    " direction and the mission."
                ),
                data_format=self._format,
                requirements=[f"minigrid=={minigrid.__version__}"],
                jpeg_encoding=False,
            )


def publish(
    folder: pathlib.Path,
    output: pathlib.Path,
    recipe: Recipe,
    *,
    random_return: float,
    expert_return: float,
) -> None:
    """Stores the level's returns in a written data set and moves it to its place."""
    path = folder / "data" / "metadata.json"
    metadata = json.loads(path.read_bytes())
    metadata |= {
        "ref_min_score": random_return,
        "ref_max_score": expert_return,
        "num_episodes_average_score": recipe.episodes,
    }
    path.write_text(json.dumps(metadata), encoding="utf-8")
    final = output / dataset_id(recipe)
    final.parent.mkdir(parents=True, exist_ok=True)
    for namespace in (final.parent, final.parent.parent):
        # With these, `MINARI_DATASETS_PATH=<output> minari list local` finds them.
        mark = namespace / minari_namespace.NAMESPACE_METADATA_FILENAME
        if not mark.exists():
            files.write_atomic(str(mark), b"{}")
    os.rename(folder, final)

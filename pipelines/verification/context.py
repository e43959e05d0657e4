"""What the laws of rows need of a manifest, as tables that index by kind and task."""

import dataclasses
from typing import Any

import numpy as np
import pydantic
from numpy.typing import NDArray

from gato.schemas.config import Loss, Prompts
from gato.schemas.errors import GatoError
from gato.schemas.formats import FORMATS
from gato.schemas.manifest import DatasetManifest, TaskSpec
from gato.schemas.record import PATCH_SIZE, Kind

NUM_BINS = 1024
_KIND_OF_OBSERVATION = {
    "image": Kind.IMAGE,
    "discrete": Kind.DISCRETE_OBSERVATION,
    "continuous": Kind.CONTINUOUS_OBSERVATION,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimestepPattern:
    """One task's timestep without its text, whose length varies.

    Attributes:
        kind: uint8 [P], the kinds in order.
        stop: int64 [P], one past the largest id allowed at that place.
        has_text: Whether text stands among the observations.
        num_images: Images of one timestep.
    """

    kind: NDArray[np.uint8]
    stop: NDArray[np.int64]
    has_text: bool
    num_images: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """Everything the laws of one data set's rows refer to.

    Attributes:
        dataset: The data set's name.
        control: Whether it holds episodes, else documents.
        pages: Whether documents with images may be cut.
        sequence_length: L.
        first_id: int64 [8], lowest id of each kind.
        stop_id: int64 [8], one past the highest id of each kind.
        eos: The id that ends documents, captions and answers.
        loss: What is a target.
        max_prompt_tokens: Most slots a prompt takes.
        tasks: Task names; laws refer to them by index.
        agents: Agents of each task.
        patterns: Each task's timestep, None for a task without a spec.
    """

    dataset: str
    control: bool
    pages: bool
    sequence_length: int
    first_id: NDArray[np.int64]
    stop_id: NDArray[np.int64]
    eos: int
    loss: Loss
    max_prompt_tokens: int
    tasks: tuple[str, ...]
    agents: tuple[tuple[str, ...], ...]
    patterns: tuple[TimestepPattern | None, ...]

    @property
    def task_index(self) -> dict[str, int]:
        """Index by task name."""
        return {task: index for index, task in enumerate(self.tasks)}


def timestep_pattern(spec: TaskSpec, stop_id: NDArray[np.int64]) -> TimestepPattern:
    """Returns the kinds and id limits of one timestep, text left out."""
    kinds: list[int] = []
    stops: list[int] = []
    for item in spec.observations:
        if item.kind == "text":
            continue
        kind = _KIND_OF_OBSERVATION[item.kind]
        if item.image is not None:
            count = item.image.height * item.image.width // PATCH_SIZE**2
        else:
            count = int(np.prod(item.shape, dtype=np.int64))
        kinds += [kind] * count
        stops += [int(stop_id[kind])] * count
    kinds.append(Kind.SEPARATOR)
    stops.append(int(stop_id[Kind.SEPARATOR]))
    for action in spec.actions:
        discrete = action.kind == "discrete"
        kind = Kind.DISCRETE_ACTION if discrete else Kind.CONTINUOUS_ACTION
        count = int(np.prod(action.shape, dtype=np.int64))
        kinds += [kind] * count
        stops += [action.num_values or int(stop_id[kind])] * count
    return TimestepPattern(
        kind=np.array(kinds, np.uint8),
        stop=np.array(stops, np.int64),
        has_text=any(item.kind == "text" for item in spec.observations),
        num_images=sum(item.kind == "image" for item in spec.observations),
    )


def _options(config: dict[str, Any], key: str, model: Any, manifest_path: str) -> Any:
    try:
        return model.model_validate(config[key])
    except (KeyError, pydantic.ValidationError) as error:
        raise GatoError(
            f"{manifest_path}: config.{key} must be the resolved {key} of the build"
            f" config, got {config.get(key)!r:.200}. Build again."
        ) from error


def _holds_pages(config: dict[str, Any]) -> bool:
    dataset = config.get("dataset")
    format = dataset.get("format") if isinstance(dataset, dict) else None
    return isinstance(format, str) and format in FORMATS and FORMATS[format].pages


def make_context(manifest: DatasetManifest, manifest_path: str) -> Context:
    """Returns the tables of a manifest.

    Raises:
        GatoError: If its config lacks what decides the mask or the prompts.
    """
    vocabulary = manifest.vocabulary
    continuous = (vocabulary.first_continuous, vocabulary.separator)
    ranges: dict[int, tuple[int, int]] = {
        Kind.PADDING: (0, 1),
        Kind.TEXT: (0, vocabulary.text),
        Kind.IMAGE: (0, 1),
        Kind.DISCRETE_OBSERVATION: (0, NUM_BINS),
        Kind.CONTINUOUS_OBSERVATION: continuous,
        Kind.SEPARATOR: (vocabulary.separator, vocabulary.separator + 1),
        Kind.DISCRETE_ACTION: (0, NUM_BINS),
        Kind.CONTINUOUS_ACTION: continuous,
    }
    limits = np.array([ranges[kind] for kind in sorted(ranges)], np.int64)
    prompts = _options(manifest.config, "prompts", Prompts, manifest_path)
    return Context(
        dataset=manifest.dataset,
        control=manifest.episodes is not None,
        pages=_holds_pages(manifest.config),
        sequence_length=manifest.sequence_length,
        first_id=limits[:, 0],
        stop_id=limits[:, 1],
        eos=vocabulary.eos,
        loss=_options(manifest.config, "loss", Loss, manifest_path),
        max_prompt_tokens=prompts.max_tokens if prompts.fraction else 0,
        tasks=tuple(manifest.tasks),
        agents=tuple(tuple(task.agents) for task in manifest.tasks.values()),
        patterns=tuple(
            None if task.spec is None else timestep_pattern(task.spec, limits[:, 1])
            for task in manifest.tasks.values()
        ),
    )

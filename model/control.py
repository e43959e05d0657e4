"""A task as the policy meets it: observations to slots, action tokens to actions.

Order, kinds, image rule, action ranges and scales come from the `spec` in the manifest
of the build, prompts from its `demonstrations.tfrecord`.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.model.prefix import Prefix, demonstration, observation
from gato.schemas import files
from gato.schemas.episode import Column
from gato.schemas.errors import GatoError, UsageError
from gato.schemas.manifest import (
    DEMONSTRATIONS_NAME,
    TOKENIZER_NAME,
    DatasetManifest,
    TaskSummary,
    load_dataset_manifest,
)
from gato.schemas.record import Row, decode_row
from gato.schemas.tfrecord import iterate_records
from gato.tokenizers.returns import RETURN_KEY
from gato.tokenizers.text import TextTokenizer
from gato.tokenizers.timestep import TimestepTokenizer

# The key of what has no parts.
_ALONE = "observation"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ControlTask:
    """One task of a build.

    Attributes:
        dataset: Name of its data set.
        name: Its name in the manifest.
        summary: Returns and counts of its episodes.
        tokenizer: Of its timesteps.
        demonstrations: Its best training episodes' first rows, best first.
        return_divisor: Of the return, if the task is conditioned on that.
        trained_prompt: Slots that the longest prompt in its data set's rows may have.
    """

    dataset: str
    name: str
    summary: TaskSummary
    tokenizer: TimestepTokenizer
    demonstrations: tuple[Row, ...]
    return_divisor: float
    trained_prompt: int

    @functools.cached_property
    def ranges(self) -> NDArray[np.int32]:
        """Ids that each action token may have, int32 [A, 2]: [low, high)."""
        return self.tokenizer.action_ranges()

    @functools.cached_property
    def has_images(self) -> bool:
        """Whether observations have image slots."""
        return any(one.kind == "image" for one in self.tokenizer.spec.observations)

    @functools.cached_property
    def _wanted_return(self) -> dict[str, Column]:
        """What a return-conditioned task observes beside its environment."""
        keys = [one.key for one in self.tokenizer.spec.observations]
        expert = self.summary.expert_return
        if RETURN_KEY not in keys or expert is None:
            return {}
        return {RETURN_KEY: np.array([expert / self.return_divisor])}

    def observe(self, value: Any) -> Prefix:
        """Returns the slots of an environment's observation.

        A task that is conditioned on the return observes the expert's, too.

        Args:
            value: As the environment gives it: an array, a number, a text, or nested
                mappings and tuples of these.

        Raises:
            QuarantineError: If it is not what the spec says, or cannot be tokens.
        """
        columns = {**self._wanted_return, **dict(flatten(value))}
        return observation(self.tokenizer.encode_observations(columns))

    def decode(self, tokens: NDArray[np.integer]) -> dict[str, NDArray[Any]]:
        """Returns the action of tokens [A], by flattened key, in its own units."""
        return dict(self.tokenizer.decode_actions(tokens))

    def prompt(self, max_tokens: int, number: int = 0) -> Prefix | None:
        """Returns the longest start of a demonstration that fits, if one does.

        Args:
            max_tokens: Slots that it may take; 0 for no prompt.
            number: Which demonstration, from 0; they repeat after the last.

        Raises:
            GatoError: If a prompt is asked for and the task has no demonstration.
        """
        if not max_tokens:
            return None
        if not self.demonstrations:
            raise GatoError(
                f"{self.dataset}: task {self.name!r} has no demonstration to prompt"
                f" with in {DEMONSTRATIONS_NAME}. Give --prompt_tokens 0, or build it"
                " with episodes that pass the filter."
            )
        row = self.demonstrations[number % len(self.demonstrations)]
        made = demonstration(row, max_tokens)
        return made if len(made) else None


def flatten(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Column]]:
    """Yields flattened key and column of one timestep for each leaf.

    >>> [key for key, _ in flatten({"arm": (1.0, 2.0), "goal": "red"})]
    ['arm/0', 'arm/1', 'goal']
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flatten(item, (*path, str(key)))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from flatten(item, (*path, str(index)))
    else:
        is_text = isinstance(value, str | bytes)
        column = [value] if is_text else np.asarray(value)[None]
        yield "/".join(path) or _ALONE, column


class ControlDataset:
    """A data set of a finished build, with the text tokenizer beside it.

    Args:
        folder: `<output>/<dataset>`, local or a URL.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder.rstrip("/")
        self.manifest: DatasetManifest = load_dataset_manifest(self.folder)
        # The build's folder may be the current one, and then has no name here.
        build = self.folder.rpartition("/")[0] or "."
        path = files.join(build, TOKENIZER_NAME)
        if not files.exists(path):
            raise GatoError(
                f"{path}: a build keeps its text tokenizer beside its data sets, and"
                " there is none. Copy the whole output of gato-build."
            )
        self.text = TextTokenizer.load(path)
        if self.text.vocabulary.info() != self.manifest.vocabulary:
            raise GatoError(
                f"{path}: not the text tokenizer that {self.manifest.dataset} was built"
                " with. Copy the whole output of gato-build."
            )

    @functools.cached_property
    def _demonstrations(self) -> dict[str, list[Row]]:
        path = files.join(self.folder, DEMONSTRATIONS_NAME)
        rows: dict[str, list[Row]] = {}
        for offset, data in iterate_records(files.read_bytes(path), path):
            row = decode_row(
                data,
                sequence_length=self.manifest.sequence_length,
                dtype=self.manifest.token_dtype,
                place=f"{path} at byte {offset}",
            )
            rows.setdefault(row.provenance[0]["task"], []).append(row)
        return rows

    @property
    def _return_divisor(self) -> float:
        # The manifest leaves the key out where it is false.
        return float(self.manifest.config["dataset"].get("condition_on_return", True))

    def task(self, name: str) -> ControlTask:
        """Returns one of the manifest's tasks.

        Raises:
            UsageError: If there is no such task, or no episode of it could be read.
        """
        summary = self.manifest.tasks.get(name)
        if summary is None or summary.spec is None:
            known = sorted(k for k, one in self.manifest.tasks.items() if one.spec)
            raise UsageError(
                f"{self.folder}: no task {name!r} with episodes; its tasks are"
                f" {', '.join(known) or 'none'}"
            )
        return ControlTask(
            dataset=self.manifest.dataset,
            name=name,
            summary=summary,
            tokenizer=TimestepTokenizer(summary.spec, self.text),
            demonstrations=tuple(self._demonstrations.get(name, ())),
            return_divisor=self._return_divisor,
            trained_prompt=int(self.manifest.config["prompts"]["max_tokens"]),
        )

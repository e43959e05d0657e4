"""Suites: which environments a checkpoint is scored on, and with which built tasks.

A suite is a YAML file. Tasks stand in domains, since the paper's score is a mean over
tasks and then over domains:

    domains:
      babyai:
        data: ../../build/babyai       # a built data set, relative to this file
        tasks:
          - environment: BabyAI-GoToObj-v0
      metaworld:
        data: ../../build/metaworld
        tasks:
          - {environment: metaworld/reach-v3, max_steps: 500}
      mine:
        data: ../../build/walk
        tasks:
          - environment: my_package:Walk-v0
            task: walk                 # its name in the manifest; else the environment
            options: {wind: 3}         # of gymnasium.make
            held_out: true             # else: whether the checkpoint saw the data set
            random_return: 0.5         # these two, where the manifest says none, or to
            expert_return: 10.0        # be scored against others

    documents:                         # captions and answers on held-back images
      questions:
        data: ../../build/questions
        examples: 200                  # of its validation split; 200 unless said

The data set gives order, kinds and ranges of the task's timesteps, demonstrations and
the returns of expert and random policy. For a held-out task build a data set of its
own. `environment` is an id of Gymnasium (`module:id` imports the module first) or
`metaworld/<task>`.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import pydantic
import yaml

from gato.model.control import ControlDataset, ControlTask
from gato.model.weights import Trained
from gato.schemas import files
from gato.schemas.errors import GatoError, UsageError
from gato.schemas.hashing import fingerprint
from gato.schemas.manifest import VocabularyInfo


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class SuiteTask(_Part):
    """One task of a suite; the module says what its keys mean."""

    environment: str
    task: str | None = None
    max_steps: int | None = pydantic.Field(default=None, ge=1)
    options: dict[str, Any] = {}
    held_out: bool | None = None
    random_return: float | None = None
    expert_return: float | None = None

    @property
    def name(self) -> str:
        """Its name in the manifest."""
        return self.task or self.environment


class SuiteDomain(_Part):
    """The tasks of one data set."""

    data: str
    tasks: tuple[SuiteTask, ...] = pydantic.Field(min_length=1)


class SuiteDocuments(_Part):
    """The captions or questions of one data set."""

    data: str
    examples: int = pydantic.Field(default=200, ge=1)


class Suite(_Part):
    """A suite file."""

    domains: dict[str, SuiteDomain] = {}
    documents: dict[str, SuiteDocuments] = {}

    @pydantic.model_validator(mode="after")
    def _has_something(self) -> "Suite":
        if not self.domains and not self.documents:
            raise ValueError("a suite has domains, documents, or both")
        return self


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """What a learner was trained on.

    Attributes:
        vocabulary: Of its data.
        sequence_length: L of its data.
        datasets: Identity of each data set, by name.
    """

    vocabulary: VocabularyInfo
    sequence_length: int
    datasets: Mapping[str, str]


class Contest:
    """One task to be scored.

    Attributes:
        domain: Its domain's name.
        entry: As the suite has it.
        control: As the policy meets it.
        random_return: Of a random policy.
        expert_return: Of the expert.
        held_out: Whether the checkpoint never saw it.
    """

    def __init__(
        self, domain: str, entry: SuiteTask, data: ControlDataset, training: Training
    ) -> None:
        """Finds a task in its data set.

        Raises:
            UsageError: If it is not there, or has nothing to be scored against.
        """
        self.domain = domain
        self.entry = entry
        self.control: ControlTask = data.task(entry.name)
        self.random_return = self._reference("random_return")
        self.expert_return = self._reference("expert_return")
        if self.expert_return == self.random_return:
            raise UsageError(
                f"{entry.name}: a score needs expert and random returns that differ,"
                f" both are {self.expert_return}. Give others in the suite."
            )
        self.held_out = entry.held_out
        if self.held_out is None:
            self.held_out = _held_out(data, entry.name, training)

    def _reference(self, which: str) -> float:
        given = getattr(self.entry, which)
        found = given if given is not None else getattr(self.control.summary, which)
        if found is None:
            raise UsageError(
                f"{self.entry.name}: the manifest of {self.control.dataset} says no"
                f" {which}, and a score needs one. Give {which} in the suite."
            )
        return float(found)


def was_seen(data: ControlDataset, training: Training, what: str) -> bool:
    """Returns whether a learner was trained on a data set.

    Args:
        data: The data set.
        training: What the learner was trained on.
        what: What to say if only its name is the same.

    Raises:
        UsageError: If it was trained on another build of that name.
    """
    manifest = data.manifest
    if manifest.dataset not in training.datasets:
        return False
    shards = (s for s in manifest.splits["train"].shards if s.rows)
    sums = (f"{shard.name} {shard.sha256}" for shard in shards)
    identity = fingerprint(manifest.dataset, manifest.fingerprint, *sums)
    if identity != training.datasets[manifest.dataset]:
        raise UsageError(
            f"{data.folder}: the checkpoint was trained on a data set of the name"
            f" {manifest.dataset!r}, but on another build or on part of this one."
            f" {what}"
        )
    return True


def _held_out(data: ControlDataset, name: str, training: Training) -> bool:
    what = f"Say held_out: true or false for task {name!r} in the suite."
    if not was_seen(data, training, what):
        return True
    return data.manifest.tasks[name].kept == 0


def read_suite(path: str) -> Suite:
    """Returns what a suite file says.

    Raises:
        UsageError: If the file is no suite.
    """
    try:
        content = yaml.safe_load(files.read_bytes(path))
        return Suite.model_validate(content)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such suite file") from error
    except (yaml.YAMLError, pydantic.ValidationError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path}: not a suite: {error}. `python -c 'import"
            " gato.model.evaluation.suite as s; print(s.__doc__)'` says what one holds."
        ) from error


def load_suite(path: str, trained: Trained | Training) -> list[Contest]:
    """Returns the tasks of a suite file, in its order.

    Args:
        path: The file.
        trained: Who is scored, or what it was trained on.

    Raises:
        UsageError: If the file is no suite, or names what is not there.
        GatoError: If a data set is of another build than the checkpoint's.
    """
    training = training_of(trained)
    domains = read_suite(path).domains
    contests = []
    for name, domain in domains.items():
        data = open_data(path, domain.data, training)
        contests += [Contest(name, entry, data, training) for entry in domain.tasks]
    return contests


def training_of(trained: Trained | Training) -> Training:
    """Returns what a learner was trained on."""
    if isinstance(trained, Training):
        return trained
    return Training(
        vocabulary=trained.vocabulary,
        sequence_length=trained.model.sequence_length,
        datasets=trained.datasets,
    )


def open_data(path: str, folder: str, training: Training) -> ControlDataset:
    """Returns a data set that a suite file names.

    Raises:
        GatoError: If it is of another vocabulary or length than the learner's.
    """
    if files.is_local(folder):
        folder = os.path.join(os.path.dirname(path), folder)
    data = ControlDataset(folder)
    _check(data, training)
    return data


def _check(data: ControlDataset, training: Training) -> None:
    found, wanted = data.manifest, training.sequence_length
    if found.vocabulary != training.vocabulary:
        raise GatoError(
            f"{data.folder}: built with another vocabulary than the checkpoint was"
            " trained with. Build it with the same text tokenizer."
        )
    if found.sequence_length != wanted:
        raise GatoError(
            f"{data.folder}: built for rows of {found.sequence_length} slots, the"
            f" checkpoint was trained on {wanted}. Build it with the same"
            " sequence_length."
        )

"""Stage 1: one partition of raw data to one fragment."""

import dataclasses
import fnmatch
import importlib.metadata
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gato.pipelines.fragment import FragmentWriter, is_complete
from gato.pipelines.sources.base import Partition, Source
from gato.schemas import files, object_store
from gato.schemas.config import Dataset
from gato.schemas.episode import Document, Episode, Unreadable
from gato.schemas.errors import QuarantineError, Reason, UsageError
from gato.schemas.hashing import fingerprint
from gato.schemas.manifest import TaskSpec
from gato.tokenizers.documents import tokenize_document
from gato.tokenizers.returns import observe_return
from gato.tokenizers.text import TextTokenizer
from gato.tokenizers.timestep import TimestepTokenizer, infer_spec

# Bumped when the same input would give other tokens.
TOKENIZATION_VERSION = 1
_LIBRARIES = ("sentencepiece", "kitoken", "numpy", "opencv-python-headless")
# What of a data set's config decides its tokens; the rest only re-plans.
_SOURCE_KEYS = (
    "format",
    "tasks",
    "task",
    "agent",
    "observations",
    "actions",
    "image",
    "text_key",
    "document",
    "split",
    "condition_on_return",
)


def fragment_name(
    partition: Partition,
    identity: str,
    dataset: Dataset,
    tokenizer_sha256: str,
    read_limit: int | None,
) -> str:
    """Returns the name that only the same tokens share.

    Args:
        partition: The part of the path.
        identity: Fingerprint of the path's bytes.
        dataset: Its config.
        tokenizer_sha256: Of the SentencePiece model.
        read_limit: Reading stops after so many items, None for all.
    """
    config = dataset.model_dump(mode="json")
    return fingerprint(
        f"tokenization {TOKENIZATION_VERSION}",
        *(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES),
        json.dumps(
            {key: config[key] for key in _SOURCE_KEYS if key in config}, sort_keys=True
        ),
        str(dataset.filter.success_key),
        tokenizer_sha256,
        partition.relative_path,
        f"{partition.start} {partition.stop} {read_limit}",
        identity,
    )


def is_included(task: str, dataset: Dataset) -> bool:
    """Whether the config's task patterns include a task."""
    return any(fnmatch.fnmatchcase(task, p) for p in dataset.tasks.include) and not any(
        fnmatch.fnmatchcase(task, p) for p in dataset.tasks.exclude
    )


class PartitionTokenizer:
    """Tokenizes the partitions of one data set."""

    def __init__(
        self,
        source: Source,
        dataset: Dataset,
        tokenizer: TextTokenizer,
        read_limit: int | None = None,
        on_item: Callable[[int], None] = lambda tokens: None,
    ) -> None:
        """Prepares tokenization.

        Args:
            source: The reader of the data set's format.
            dataset: Its config.
            tokenizer: Of the build's SentencePiece model.
            read_limit: Stop after so many items that are not excluded.
            on_item: Called with the tokens of each item.
        """
        self._source = source
        self._dataset = dataset
        self._tokenizer = tokenizer
        self._read_limit = read_limit
        self._on_item = on_item
        self._timestep_tokenizers: dict[TaskSpec, TimestepTokenizer] = {}
        self._is_damaged = False

    def run(
        self,
        partition: Partition,
        path: str,
        on_damage: Callable[[], None] = lambda: None,
    ) -> bool:
        """Makes the fragment at `path`, unless it stands complete.

        Args:
            partition: What to read.
            path: Of the fragment, without suffix.
            on_damage: Called if a file could not be read, before the fragment counts.

        Returns:
            Whether it was made now.
        """
        if is_complete(path):
            return False
        self._is_damaged = False
        with files.open_atomic(f"{path}.data") as file:
            writer = FragmentWriter(file)
            # A reader that gives up what it cannot read must not do so for a store
            # that does not answer.
            with object_store.insist():
                self._tokenize(partition, writer)
            if self._is_damaged:
                on_damage()
        footer = writer.footer(
            partition=dataclasses.asdict(partition),
            order=partition.order or self._source.order,
        )
        files.write_atomic(f"{path}.footer", footer)
        return True

    def _tokenize(self, partition: Partition, writer: FragmentWriter) -> None:
        taken = 0
        for item in self._source.read(partition, self._dataset):
            before = writer.num_tokens
            if isinstance(item, Unreadable):
                excluded = self._add_unreadable(item, writer)
            elif isinstance(item, Document):
                excluded = self._add_document(item, writer)
            else:
                excluded = self._add_episode(item, writer)
            self._on_item(writer.num_tokens - before)
            taken += not excluded
            if taken == self._read_limit:
                return

    def _add_unreadable(self, item: Unreadable, writer: FragmentWriter) -> bool:
        excluded = item.task is not None and not is_included(item.task, self._dataset)
        self._is_damaged |= item.reason == Reason.CORRUPT_FILE
        writer.add(
            item_id=item.item_id,
            number=item.number,
            source=item.source,
            task=item.task,
            agent=item.agent,
            excluded=excluded,
            reason=str(item.reason),
            detail=item.detail,
        )
        return excluded

    def _add_document(self, document: Document, writer: FragmentWriter) -> bool:
        columns: dict[str, Any] = {
            "item_id": document.document_id,
            "number": document.number,
            "source": document.source,
        }
        try:
            item = tokenize_document(document, self._dataset.image, self._tokenizer)
        except QuarantineError as error:
            writer.add(reason=str(error.reason), detail=error.detail, **columns)
        else:
            writer.add(item, **columns)
        return False

    def _add_episode(self, episode: Episode, writer: FragmentWriter) -> bool:
        columns: dict[str, Any] = {
            "item_id": episode.episode_id,
            "number": episode.number,
            "source": episode.source,
            "task": episode.task,
            "agent": episode.agent,
            "success": episode.success,
            "random_return": episode.random_return,
        }
        if not is_included(episode.task, self._dataset):
            writer.add(excluded=True, **columns)
            return True
        try:
            if not np.isfinite(episode.rewards).all():
                raise QuarantineError(
                    Reason.NONFINITE,
                    "rewards must be finite, got"
                    f" {episode.rewards[~np.isfinite(episode.rewards)][0]} at timestep"
                    f" {int(np.argmin(np.isfinite(episode.rewards)))}",
                )
            if divisor := float(self._dataset.condition_on_return):
                episode = observe_return(episode, divisor)
            spec = infer_spec(episode, self._dataset)
            tokenizer = self._timestep_tokenizer(spec)
            item = tokenizer.encode(episode.observations, episode.actions)
        except QuarantineError as error:
            writer.add(reason=str(error.reason), detail=error.detail, **columns)
        except UsageError as error:
            # The config does not fit the data; the error budget ends the build.
            writer.add(reason=str(Reason.UNSUPPORTED), detail=str(error), **columns)
        else:
            columns["return"] = math.fsum(episode.rewards.tolist())
            writer.add(item, spec, **columns)
        return False

    def _timestep_tokenizer(self, spec: TaskSpec) -> TimestepTokenizer:
        if spec not in self._timestep_tokenizers:
            self._timestep_tokenizers[spec] = TimestepTokenizer(
                spec, self._tokenizer, clip=self._dataset.actions.clip
            )
        return self._timestep_tokenizers[spec]

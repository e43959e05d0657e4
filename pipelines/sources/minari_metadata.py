"""What Minari's `data/metadata.json` says: ids, environment, spaces, scores."""

import contextlib
import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from gato.pipelines.sources.minari_spaces import Leaf, parse_space
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.errors import QuarantineError, Reason

NAMESPACE_FILE = "namespace_metadata.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metadata:
    """What is taken from metadata.json.

    Attributes:
        dataset_id: Minari's id of the data set.
        task: The environment's id, or the config's.
        agent: The data set's id, or the config's.
        num_episodes: How many episodes it promises.
        content: The rest.
    """

    dataset_id: str
    task: str
    agent: str
    num_episodes: int
    content: Mapping[str, Any]

    @classmethod
    def load(
        cls, partition_path: str, relative_path: str, dataset: Dataset
    ) -> "Metadata":
        """Reads `data/metadata.json`.

        Raises:
            QuarantineError: If it is not there or not what Minari writes.
        """
        path = files.join(partition_path, "data", "metadata.json")
        try:
            content = json.loads(files.read_bytes(path))
            num_episodes = int(content["total_episodes"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise QuarantineError(
                Reason.CORRUPT_FILE,
                "data/metadata.json must be a JSON object with total_episodes, got"
                f" {error!r}",
            ) from error
        dataset_id = content.get("dataset_id")
        if not isinstance(dataset_id, str) or not dataset_id:
            dataset_id = _folder_id(partition_path, relative_path)
        return cls(
            dataset_id=dataset_id,
            task=dataset.task or _environment(content) or _task_of(dataset_id),
            agent=dataset.agent or dataset_id,
            num_episodes=num_episodes,
            content=content,
        )

    def leaves(self, name: Literal["observation", "action"]) -> tuple[Leaf, ...] | None:
        """Returns the leaves of a space, or None if the metadata has none."""
        return parse_space(self.content.get(f"{name}_space"), name)

    @property
    def random_return(self) -> float | None:
        """A random policy's mean return, which Minari calls `ref_min_score`."""
        score = self.content.get("ref_min_score")
        if isinstance(score, int | float) and math.isfinite(score):
            return float(score)
        return None


def _folder_id(path: str, relative_path: str) -> str:
    """Returns `<namespace>/<env>/<name>-v<N>` of a folder that does not say its id.

    Namespaces are the folders above with a namespace_metadata.json; without any, the
    id is the path relative to the glob's fixed part, which no machine's layout enters.
    """
    path = path.rstrip("/")
    parent, _, name = path.rpartition("/")
    namespaces = []
    while parent and files.exists(files.join(parent, NAMESPACE_FILE)):
        parent, _, namespace = parent.rpartition("/")
        namespaces.append(namespace)
    if namespaces:
        return "/".join((*reversed(namespaces), name))
    relative = relative_path.strip("/")
    return relative if relative not in ("", ".") else name


def _environment(content: Mapping[str, Any]) -> str | None:
    """Returns the id inside `env_spec`, a JSON string; None if there is none."""
    specification = content.get("env_spec")
    with contextlib.suppress(ValueError):
        if isinstance(specification, str):
            specification = json.loads(specification)
    if isinstance(specification, dict) and isinstance(specification.get("id"), str):
        return specification["id"] or None
    return None


def _task_of(dataset_id: str) -> str:
    """Returns what stands for the environment where there is no `env_spec`.

    >>> _task_of("D4RL/door/human-v2"), _task_of("babyai/goto-v0")
    ('D4RL/door', 'babyai/goto')
    """
    namespace, _, name = dataset_id.rpartition("/")
    if "/" in namespace:
        return namespace
    stem, dash, version = name.rpartition("-v")
    if dash and version.isdecimal():
        name = stem
    return f"{namespace}/{name}" if namespace else name

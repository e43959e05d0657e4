"""Which leaves of an RLDS data set are read as what."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np

from gato.pipelines.sources import base, rlds_columns
from gato.pipelines.sources.rlds_features import Features, Leaf, parse_features
from gato.pipelines.sources.rlds_info import FEATURES_NAME, Info
from gato.schemas import files
from gato.schemas.config import Dataset
from gato.schemas.episode import Space
from gato.schemas.errors import QuarantineError, Reason, UsageError

_METADATA = "episode_metadata"
_DEFAULT_SPLIT = "train"
_SUCCESS_KEYS = ("success", "is_success")
_ENDS = ("is_last", "is_terminal")
# Any of them tells the number of steps; the first that is there does.
_COUNTED = (*_ENDS, "is_first", "reward", "discount", "action")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """What of a data set is read.

    Attributes:
        info: What dataset_info.json says.
        observations: By flattened key, without those that the config leaves out.
        actions: By flattened key.
        unknown: Those of both that need tensorflow-datasets.
        rewards: None of a data set without rewards.
        ends: The marks of the step behind the last action.
        counted: A leaf with one fixed shape, which tells the number of steps.
        episode_success: Beside `steps` or in `episode_metadata`; so are the next.
        step_success: Of the steps, where there is none for the episode.
        task: None where the data set does not say.
        agent: Likewise.
        episode_id: Likewise.
    """

    info: Info
    observations: Mapping[str, Leaf]
    actions: Mapping[str, Leaf]
    unknown: Mapping[str, Leaf]
    rewards: Leaf | None
    ends: Sequence[Leaf]
    counted: Leaf
    episode_success: Leaf | None
    step_success: Leaf | None
    task: Leaf | None
    agent: Leaf | None
    episode_id: Leaf | None

    @classmethod
    def load(cls, partition: base.Partition, dataset: Dataset) -> "Layout":
        """Reads dataset_info.json and features.json.

        Raises:
            QuarantineError: CORRUPT_FILE if one is not what tensorflow-datasets writes.
            UsageError: If the data set has no such split, or no episodes.
        """
        path = partition.path
        split = dataset.split or _DEFAULT_SPLIT
        info = Info.load(path, partition.relative_path, split)
        try:
            features = parse_features(files.read_bytes(files.join(path, FEATURES_NAME)))
        except OSError as error:
            raise QuarantineError(
                Reason.CORRUPT_FILE, f"{FEATURES_NAME} cannot be read: {error}"
            ) from error
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
        observations = {
            key: leaf
            for key, leaf in features.below("observation").items()
            if _is_wanted(key, leaf, dataset)
        }
        actions = features.below("action")
        success = dataset.filter.success_key
        keys = _SUCCESS_KEYS if success is None else (success,)
        return cls(
            info=info,
            observations=observations,
            actions=actions,
            unknown={
                key: leaf
                for key, leaf in (observations | actions).items()
                if leaf.kind == "unknown"
            },
            rewards=features.steps.get(("reward",)),
            ends=[features.steps[key,] for key in _ENDS if (key,) in features.steps],
            counted=_counted(path, features),
            episode_success=_of_episode(features, *keys),
            step_success=_of_step(features, *keys),
            task=_of_episode(features, "task"),
            agent=_of_episode(features, "agent"),
            episode_id=_of_episode(features, "episode_id"),
        )

    @property
    def number(self) -> Leaf | None:
        """The leaf that numbers the episodes, if one does."""
        leaf = self.episode_id
        if leaf is None or leaf.kind != "tensor" or math.prod(_sides(leaf)) != 1:
            return None
        return leaf if leaf.dtype.startswith(("int", "uint")) else None

    @property
    def action_spaces(self) -> dict[str, Space]:
        """What features.json says of the actions' values."""
        return {key: _space(leaf) for key, leaf in self.actions.items()}


def _sides(leaf: Leaf) -> list[int]:
    return [side or 0 for side in leaf.shape]


def _is_wanted(key: str, leaf: Leaf, dataset: Dataset) -> bool:
    """Whether the config includes a key, of which a leaf may make several."""
    rule = dataset.observations
    if any(fnmatchcase(key, pattern) for pattern in rule.exclude):
        return False
    several = leaf.sequence or (leaf.kind == "text" and leaf.shape)
    candidates = (key, f"{key}/0") if several else (key,)
    return any(fnmatchcase(k, pattern) for k in candidates for pattern in rule.include)


def _counted(path: str, features: Features) -> Leaf:
    leaves = [features.steps[key,] for key in _COUNTED if (key,) in features.steps]
    leaves += features.steps.values()
    for leaf in leaves:
        if rlds_columns.can_count(leaf) and not leaf.optional:
            return leaf
    names = ", ".join(sorted(leaf.name for leaf in leaves))
    raise UsageError(
        f"{path}: a step of format rlds has features of a fixed shape, such as is_last"
        f" or reward; features.json has {names}"
    )


def _of_episode(features: Features, *keys: str) -> Leaf | None:
    for key in keys:
        path = tuple(key.split("/"))
        for candidate in (path, (_METADATA, *path)):
            if candidate in features.episode:
                return features.episode[candidate]
    return None


def _of_step(features: Features, *keys: str) -> Leaf | None:
    paths = [tuple(key.split("/")) for key in keys]
    return next((features.steps[p] for p in paths if p in features.steps), None)


def _space(leaf: Leaf) -> Space:
    if leaf.num_classes is not None:
        return Space(num_values=leaf.num_classes)
    low, high = leaf.minimum, leaf.maximum
    if low is None or high is None or None in leaf.shape or leaf.sequence:
        return Space()
    is_integer = leaf.dtype.startswith(("int", "uint"))
    bounds = [np.full(_sides(leaf), value, np.float64) for value in (low, high)]
    return Space(
        num_values=int(high) + 1 if is_integer and low >= 0 else None,
        low=bounds[0],
        high=bounds[1],
    )

"""RL Unplugged's DM Control Suite and DM Locomotion shards.

Two publications hold the same features (`observation/<name>`, `action`, `reward`,
`discount`, `step_type`), all float32, and are told apart by `episode_id`:

- `dm_control_suite_episodes`, `dm_locomotion_episodes` have it: a record is an episode.
  A step's reward is that of the step before, and the last step only an observation, as
  tensorflow-datasets 4.9.10 reads them (rl_unplugged/rlu_control_suite).
- `dm_control_suite`, `dm_locomotion` have `episodic_reward` instead: a record is part
  of an episode, 2 or 40 steps that overlap the next, each with its own reward
  (google-deepmind/deepmind-research, rl_unplugged/dm_control_suite.py, at 0824c28).
  Each becomes an episode of its own, up to the first step whose `step_type` is LAST:
  use the other publication where whole episodes count.

The shapes are in no file: a feature of n values over T steps is [T, n / T]. The camera
is raw bytes of a square RGB image. The task is the shard's folder.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.sources import base, rlu_examples
from gato.pipelines.sources.rlds_wire import Example
from gato.pipelines.sources.rlu_examples import (
    ShardSource,
    check_length,
    floats,
    folders,
    strings,
)
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Space, Unreadable
from gato.schemas.errors import QuarantineError, Reason

_PREFIX = "observation/"
_LAST = 2
_AGENT = "rl_unplugged"


class RluDmControlSource(ShardSource):
    """Episodes of RL Unplugged's control shards; a partition is a shard."""

    format = "rlu_dm_control"
    shard = "dm_control_suite_episodes/walker_walk/train-*-of-00100"

    def read(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Episode | Unreadable]:
        """Yields the shard's episodes in its order."""
        task = dataset.task or folders(partition.path)[0] or self.format
        agent = dataset.agent or _AGENT

        def episode(example: Example, place: int) -> Episode:
            return Episode(
                episode_id=f"{partition.relative_path}/{place}",
                source=partition.path,
                number=place,
                task=task,
                agent=agent,
                action_spaces={"action": Space()},
                **_columns(example),
            )

        yield from rlu_examples.read_episodes(partition, (task, agent), episode)


SOURCE: base.Source = RluDmControlSource()


def _columns(example: Example) -> dict[str, Any]:
    """Returns observations, actions and rewards, by `Episode`'s names."""
    rewards = floats(example, "reward")
    num_stored = len(rewards)
    if "episode_id" in example:
        num_steps = num_stored - 1
        rewards = rewards[1:]
    else:
        num_steps = _first_last(example, num_stored)
        rewards = rewards[:num_steps]
    if num_steps < 1:
        raise QuarantineError(
            Reason.EMPTY,
            f"an episode must have a step with an action, got {num_stored} steps",
        )
    names = [name for name in example if name.startswith(_PREFIX)]
    if not names:
        raise QuarantineError(
            Reason.MISSING_FIELD,
            f"an Example must have features {_PREFIX}<name>, got"
            f" {', '.join(sorted(example)[:20])}",
        )
    return {
        "observations": {
            name.removeprefix(_PREFIX): _column(example, name, num_stored)[:num_steps]
            for name in names
        },
        "actions": {"action": _column(example, "action", num_stored)[:num_steps]},
        "rewards": rewards.astype(np.float64),
    }


def _first_last(example: Example, num_stored: int) -> int:
    """Returns the steps before the first that is only an observation."""
    if "step_type" not in example:
        return num_stored
    kinds = floats(example, "step_type")
    check_length("step_type", len(kinds), num_stored)
    return int(np.argmax(kinds == _LAST)) if (kinds == _LAST).any() else num_stored


def _column(example: Example, name: str, num_stored: int) -> NDArray[Any]:
    """Returns a feature of all steps, [T, n] or uint8 [T, side, side, 3]."""
    if name in example and example[name].kind == "bytes":
        return _raw_images(name, strings(example, name), num_stored)
    values = floats(example, name)
    if not len(values) or len(values) % num_stored:
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"{name!r} must have as many values in each of {num_stored} steps, got"
            f" {len(values)} together",
        )
    return values.reshape(num_stored, -1)


def _raw_images(name: str, images: list[bytes], num_stored: int) -> NDArray[np.uint8]:
    check_length(name, len(images), num_stored)
    size = len(images[0])
    side = math.isqrt(size // 3)
    if not size or 3 * side * side != size or any(len(i) != size for i in images):
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"{name!r} must hold the raw bytes of square RGB images of one size, got"
            f" {sorted({len(image) for image in images})[:5]} bytes",
        )
    joined = np.frombuffer(b"".join(images), np.uint8)
    return joined.reshape(num_stored, side, side, 3)

"""RL Unplugged's DeepMind Lab shards: a record is a sequence of one episode.

Its features (google-deepmind/deepmind-research, rl_unplugged/dmlab_r2d2.ipynb, at
d1ae6a4): `observations_pixels` [T] PNG, `observations_reward` [T],
`observations_action` [T, 15] one-hot, `actions` [T], `rewards` [T]. Observations have
the names that tensorflow-datasets 4.9.10 gives them (rl_unplugged/dmlab_dataset.py):
`pixels`, `last_action`, `last_reward`. As there, the last step is only an observation.

OpenCV wrote the PNGs of RGB arrays that it took for BGR, so red and blue stand swapped
in them. They are decoded here and swapped back, which `image.encoding: keep` cannot
avoid. The task is the level, the agent the run: `<level>/<run>/tfrecord-*`.
"""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gato.pipelines.sources import base, rlu_examples
from gato.pipelines.sources.rlds_wire import Example
from gato.pipelines.sources.rlu_examples import (
    ShardSource,
    check_length,
    floats,
    folders,
    integers,
    strings,
)
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Space, Unreadable
from gato.schemas.errors import QuarantineError, Reason
from gato.tokenizers.image_header import read_header


class RluDmlabSource(ShardSource):
    """Episodes of RL Unplugged's DM Lab shards; a partition is a shard."""

    format = "rlu_dmlab"
    shard = "rooms_watermaze/training_0/tfrecord-*-of-00500"

    def read(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Episode | Unreadable]:
        """Yields the shard's sequences in its order."""
        run, level, *_ = folders(partition.path)
        task = dataset.task or level or self.format
        agent = dataset.agent or run or "rl_unplugged"

        def episode(example: Example, place: int) -> Episode:
            return Episode(
                episode_id=f"{partition.relative_path}/{place}",
                source=partition.path,
                number=place,
                task=task,
                agent=agent,
                **_columns(example),
            )

        yield from rlu_examples.read_episodes(partition, (task, agent), episode)


SOURCE: base.Source = RluDmlabSource()


def _columns(example: Example) -> dict[str, Any]:
    """Returns observations, actions and rewards, by `Episode`'s names."""
    actions = integers(example, "actions")
    num_stored, num_steps = len(actions), len(actions) - 1
    if num_steps < 1:
        raise QuarantineError(
            Reason.EMPTY,
            f"an episode must have a step with an action, got {num_stored} steps",
        )
    one_hot = floats(example, "observations_action")
    if not len(one_hot) or len(one_hot) % num_stored:
        raise QuarantineError(
            Reason.WRONG_SHAPE,
            f"'observations_action' must have as many values in each of {num_stored}"
            f" steps, got {len(one_hot)} together",
        )
    one_hot = one_hot.reshape(num_stored, -1)
    last_rewards = floats(example, "observations_reward")
    rewards = floats(example, "rewards")
    images = strings(example, "observations_pixels")
    for name, values in (
        ("observations_reward", last_rewards),
        ("rewards", rewards),
        ("observations_pixels", images),
    ):
        check_length(name, len(values), num_stored)
    return {
        "observations": {
            "pixels": _pixels(images[:num_steps]),
            "last_action": one_hot.argmax(1)[:num_steps],
            "last_reward": last_rewards[:num_steps],
        },
        "actions": {"action": actions[:num_steps]},
        "action_spaces": {"action": Space(num_values=one_hot.shape[1])},
        "rewards": rewards[:num_steps].astype(np.float64),
    }


def _pixels(images: list[bytes]) -> NDArray[np.uint8]:
    """Returns images uint8 [T, H, W, 3] as the environment gave them."""
    height, width = read_header(images[0]).size
    pixels = np.empty((len(images), height, width, 3), np.uint8)
    for step, data in enumerate(images):
        size = read_header(data).size
        if size != (height, width):
            raise QuarantineError(
                Reason.WRONG_SHAPE,
                "a timestep's shape must not change within an episode, got images of"
                f" {height} x {width} and {size[0]} x {size[1]}",
            )
        # OpenCV swaps the colours again, as when they were written.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise QuarantineError(
                Reason.CORRUPT_IMAGE, f"the image of step {step} cannot be decoded"
            )
        pixels[step] = image
    return pixels

"""Writes small shards of RL Unplugged as its publications lay them out.

Features and file names follow google-deepmind/deepmind-research, rl_unplugged/
(dm_control_suite.py at 0824c28, dmlab_r2d2.ipynb at d1ae6a4, atari.py at 1ea4cc0), and
tensorflow-datasets 4.9.10, rl_unplugged/, for what it reads of them; `rlu_oracle.py`
holds these shards to TensorFlow's parsers. Nothing here is of the project.
Everything is a function of the seed.
"""

import gzip
import pathlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import google_crc32c
import numpy as np
from numpy.typing import NDArray

Values = Mapping[str, Any]
ACTIONS = 15


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _record(data: bytes) -> bytes:
    """Frames a record as tensorflow/core/lib/io/record_writer.h says."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _masked_crc(length), data, _masked_crc(data)))


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _message(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _feature(values: Any) -> bytes:
    """Encodes a Feature of tensorflow/core/example/feature.proto."""
    if isinstance(values, list):
        return _message(1, b"".join(_message(1, value) for value in values))
    flat = values.ravel()
    if flat.dtype == np.float32:
        return _message(2, _message(1, flat.astype("<f4").tobytes()))
    assert flat.dtype == np.int64
    return _message(3, _message(1, b"".join(map(_varint, flat.tolist()))))


def encode_example(values: Values) -> bytes:
    """Encodes a tf.train.Example: lists of bytes, float32 or int64 arrays by name."""
    entries = (
        _message(1, name.encode()) + _message(2, _feature(value))
        for name, value in values.items()
    )
    return _message(1, b"".join(_message(1, entry) for entry in entries))


def write_shard(
    path: pathlib.Path, examples: Sequence[Values], packed: bool = True
) -> pathlib.Path:
    """Writes a TFRecord file of Examples, gzip compressed as the published ones are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = b"".join(_record(encode_example(values)) for values in examples)
    path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    return path


def floats(generator: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return generator.normal(size=shape).astype(np.float32)


def control_episode(seed: int, steps: int, camera: bool = False) -> dict[str, Any]:
    """A record of dm_control_suite_episodes; `steps` counts the last observation."""
    generator = np.random.default_rng(seed)
    kinds = np.array([0, *[1] * (steps - 2), 2], np.float32)
    example: dict[str, Any] = {
        "observation/height": floats(generator, steps, 1),
        "observation/orientations": floats(generator, steps, 14),
        "observation/velocity": floats(generator, steps, 9),
        "action": floats(generator, steps, 6).clip(-1, 1),
        "discount": np.ones(steps, np.float32),
        "reward": floats(generator, steps),
        "step_type": kinds,
        "episode_id": np.array([seed + 7], np.int64),
        "timestamp": np.array([1_600_000_000 + seed], np.int64),
    }
    if camera:
        pixels = generator.integers(0, 256, (steps, 64, 64, 3)).astype(np.uint8)
        name = "observation/walker/egocentric_camera"
        example[name] = [image.tobytes() for image in pixels]
    return example


def control_piece(seed: int, steps: int, last: int | None = None) -> dict[str, Any]:
    """A record of dm_control_suite: a piece of an episode, each step's own reward."""
    example = control_episode(seed, steps)
    del example["episode_id"], example["timestamp"]
    example["step_type"] = np.ones(steps, np.float32)
    if last is not None:
        example["step_type"][last] = 2
    example["episodic_reward"] = np.full(steps, 31.5, np.float32)
    return example


def lab_episode(seed: int, steps: int) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """A record of dmlab, and the pixels that the environment gave."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (steps, 9, 12, 3)).astype(np.uint8)
    pixels = coarse.repeat(8, 1).repeat(8, 2)  # 72 x 96
    actions = generator.integers(0, ACTIONS, steps)
    last = np.zeros((steps, ACTIONS), np.float32)
    last[np.arange(steps), np.append(0, actions[:-1])] = 1
    rewards = floats(generator, steps)
    example = {
        "episode_id": np.array([seed], np.int64),
        "start_idx": np.array([0], np.int64),
        "episode_return": rewards.sum(keepdims=True),
        # Written as the publishers did: RGB given to what takes BGR.
        "observations_pixels": [png(image) for image in pixels],
        "observations_reward": np.append(np.float32(0), rewards[:-1]),
        "observations_action": last,
        "actions": actions.astype(np.int64),
        "rewards": rewards,
        "discounted_rewards": rewards,
        "discounts": np.ones(steps, np.float32),
    }
    return example, pixels


def png(image: NDArray[np.uint8]) -> bytes:
    written, data = cv2.imencode(".png", image)
    assert written
    return data.tobytes()


def atari_frames(seed: int, count: int) -> list[bytes]:
    """84 x 84 grey PNGs, each another."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 12, 12)).astype(np.uint8)
    return [png(image.repeat(7, 0).repeat(7, 1)) for image in coarse]


def transitions(
    episode_id: int,
    frames: Sequence[bytes],
    actions: Sequence[int],
    *,
    terminal: bool = True,
) -> list[dict[str, Any]]:
    """The records of an episode in the publication `atari`, in their own order.

    Args:
        episode_id: Its id.
        frames: One more than steps.
        actions: One a step.
        terminal: Whether the last step has a discount of 0.
    """
    stacks = []
    for step in range(len(frames)):
        places = [max(0, step - back) for back in (3, 2, 1, 0)]
        stacks.append([frames[place] for place in places])
    last = len(actions) - 1
    return [
        {
            "o_t": stacks[step],
            "o_tp1": stacks[step + 1],
            "a_t": np.array([action], np.int64),
            "a_tp1": np.array([actions[min(step + 1, last)]], np.int64),
            "r_t": np.array([step + 0.5], np.float32),
            "d_t": np.array([float(not (terminal and step == last))], np.float32),
            "episode_id": np.array([episode_id], np.int64),
            "episode_return": np.array([3.0], np.float32),
        }
        for step, action in enumerate(actions)
    ]


def atari_episode(seed: int, steps: int) -> dict[str, Any]:
    """A record of the publication `atari_episodes_ordered`."""
    generator = np.random.default_rng(seed)
    rewards = generator.integers(-3, 4, steps).astype(np.float32)
    return {
        "checkpoint_idx": np.array([5], np.int64),
        "episode_idx": np.array([seed], np.int64),
        "episode_return": rewards.sum(keepdims=True),
        "clipped_episode_return": rewards.clip(-1, 1).sum(keepdims=True),
        "observations": atari_frames(seed, steps),
        "actions": generator.integers(0, 6, steps).astype(np.int64),
        "unclipped_rewards": rewards,
        "clipped_rewards": rewards.clip(-1, 1),
        "discounts": np.append(np.ones(steps - 1), 0).astype(np.float32),
    }

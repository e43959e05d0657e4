"""Makes small raw data sets of each format with the formats' own writers.

Everything is a function of its seed. Minari's writer warns about missing authorship and
needs an environment variable; both are dealt with here.

    walks = raw_inputs.random_walks(seed=0, num_episodes=20)
    raw_inputs.write_minari(tmp_path / "raw", "toy/walk/expert-v0", walks)
    config = raw_inputs.write_config(
        tmp_path / "build.yaml",
        [{"name": "walk", "format": "minari", "paths": ["raw/toy/walk/*"]}],
        sequence_length=256,
        prompts={"max_tokens": 128},
    )
"""

import dataclasses
import io
import json
import os
import pathlib
import tarfile
import unittest.mock
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import gymnasium
import h5py
import minari
import numpy as np
import yaml
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from minari.data_collector import EpisodeBuffer
from numpy.typing import NDArray

VOCABULARY = (
    pathlib.Path(__file__).parents[1] / "testdata" / "vocabulary" / "text32k.model"
)
_SENTENCE = (
    "go to the red blue green door key box ball pick up put next open a an and then of"
    " near grey purple yellow in on robot learns 12 345 6.5 naïve Zürich 東京 emoji 🙂"
    " it's (so) far; over — again\n don't\t stop"
)
WORDS = _SENTENCE.split(" ")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RawEpisode:
    """One episode as Minari stores it: T+1 observations, T actions and rewards.

    Attributes:
        observations: Array [T + 1, ...], list of T+1 texts, or a (nested) dict of them.
        actions: Array [T, ...] or a dict of arrays.
        rewards: float64 [T].
        infos: Arrays [T + 1, ...] by name, such as `success`.
        seed: The reset seed, if known.
    """

    observations: Any
    actions: Any
    rewards: NDArray[np.float64]
    infos: Mapping[str, NDArray[Any]] = dataclasses.field(default_factory=dict)
    seed: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RawDataset:
    """Episodes with the spaces Minari needs to write them."""

    observation_space: spaces.Space
    action_space: spaces.Space
    episodes: list[RawEpisode]


def rewards_of(
    generator: np.random.Generator, steps: int, total: float
) -> NDArray[np.float64]:
    """Returns random float64 rewards [steps] that sum to about `total`."""
    rewards = generator.normal(size=steps)
    rewards[-1] += total - rewards.sum()
    return rewards


def _lengths(
    generator: np.random.Generator, num_episodes: int, steps: tuple[int, int]
) -> list[int]:
    return [int(n) for n in generator.integers(steps[0], steps[1] + 1, num_episodes)]


def random_walks(
    seed: int,
    num_episodes: int,
    *,
    steps: tuple[int, int] = (1, 40),
    dimensions: int = 4,
    actions: int = 2,
    action_range: tuple[float, float] = (-1.0, 1.0),
    returns: tuple[float, float] = (-5.0, 10.0),
    dtype: type = np.float64,
) -> RawDataset:
    """Unbounded float observations [dimensions], float actions [actions].

    Magnitudes run from 1e-4 to above 256, and the actions' bounds are hit exactly.
    """
    generator = np.random.default_rng(seed)
    low, high = action_range
    episodes = []
    for length in _lengths(generator, num_episodes, steps):
        scale = 10.0 ** generator.uniform(-4, 2.6, size=dimensions)
        walk = np.cumsum(generator.normal(size=(length + 1, dimensions)), 0) * scale
        moves = np.clip(
            generator.uniform(low, high, size=(length, actions)) * 1.2, low, high
        )
        episodes.append(
            RawEpisode(
                observations=walk.astype(dtype),
                actions=moves.astype(np.float32),
                rewards=rewards_of(generator, length, generator.uniform(*returns)),
            )
        )
    return RawDataset(
        observation_space=spaces.Box(-np.inf, np.inf, (dimensions,), dtype),
        action_space=spaces.Box(low, high, (actions,), np.float32),
        episodes=episodes,
    )


def grids(
    seed: int,
    num_episodes: int,
    *,
    steps: tuple[int, int] = (1, 12),
    returns: tuple[float, float] = (0.0, 1.0),
    size: int = 7,
    mission_words: tuple[int, int] = (5, 5),
) -> RawDataset:
    """Discrete grids [size, size, 3], a direction and a mission; 7 discrete actions.

    This is the shape of BabyAI. `infos/success` says whether the return is above the
    middle of `returns`.
    """
    generator = np.random.default_rng(seed)
    episodes = []
    for length in _lengths(generator, num_episodes, steps):
        total = generator.uniform(*returns)
        success = np.zeros(length + 1, bool)
        success[-1] = total > sum(returns) / 2
        num_words = int(generator.integers(mission_words[0], mission_words[1] + 1))
        mission = " ".join(generator.choice(WORDS[:14], size=num_words))
        shape = (length + 1, size, size, 3)
        episodes.append(
            RawEpisode(
                observations={
                    "direction": generator.integers(0, 4, length + 1),
                    "image": generator.integers(0, 11, shape).astype(np.uint8),
                    "mission": [mission] * (length + 1),
                },
                actions=generator.integers(0, 7, length),
                rewards=rewards_of(generator, length, total),
                infos={"success": success},
            )
        )
    space = {
        "direction": spaces.Discrete(4),
        "image": spaces.Box(0, 255, (size, size, 3), np.uint8),
        "mission": spaces.Text(1000),
    }
    return RawDataset(
        observation_space=spaces.Dict(space),
        action_space=spaces.Discrete(7),
        episodes=episodes,
    )


def pixels(
    seed: int,
    num_episodes: int,
    *,
    steps: tuple[int, int] = (1, 12),
    height: int = 20,
    width: int = 30,
    returns: tuple[float, float] = (-10.0, -1.0),
) -> RawDataset:
    """Images [height, width, 3] beside floats, with a dict of two actions.

    The keys are such that the order of flattened keys (`arm-speed` before `arm/angle`)
    is not the order of a nested walk; returns are negative by default.
    """
    generator = np.random.default_rng(seed)
    episodes = []
    for length in _lengths(generator, num_episodes, steps):
        shape = (length + 1, height, width, 3)
        angle = generator.normal(size=(length + 1, 2, 2)).astype(np.float32)
        arm = generator.uniform(-2, 2, (length, 2)).astype(np.float32)
        episodes.append(
            RawEpisode(
                observations={
                    "arm": {"angle": angle},
                    "arm-speed": generator.normal(size=(length + 1, 1)) * 50,
                    "camera": generator.integers(0, 256, shape).astype(np.uint8),
                },
                actions={"arm": arm, "grip": generator.integers(0, 3, length)},
                rewards=rewards_of(generator, length, generator.uniform(*returns)),
            )
        )
    observation_space = spaces.Dict(
        {
            "arm": spaces.Dict({"angle": spaces.Box(-np.inf, np.inf, (2, 2))}),
            "arm-speed": spaces.Box(-np.inf, np.inf, (1,), np.float64),
            "camera": spaces.Box(0, 255, (height, width, 3), np.uint8),
        }
    )
    action_space = spaces.Dict(
        {"arm": spaces.Box(-2.0, 2.0, (2,)), "grip": spaces.Discrete(3)}
    )
    return RawDataset(
        observation_space=observation_space,
        action_space=action_space,
        episodes=episodes,
    )


class _SpecOnly(gymnasium.Env):
    """Carries an environment's id into Minari's writer; it cannot be stepped."""

    def __init__(self, env_id: str) -> None:
        self.spec = EnvSpec(env_id)


def _info(values: NDArray[Any], data_format: str) -> NDArray[Any]:
    """Minari cannot read back scalar infos that it wrote in the Arrow layout."""
    return values[:, None] if data_format == "arrow" and values.ndim == 1 else values


def write_minari(
    root: pathlib.Path,
    dataset_id: str,
    raw: RawDataset,
    *,
    env_id: str | None = None,
    data_format: str = "hdf5",
) -> pathlib.Path:
    """Writes `<root>/<dataset_id>` with Minari, lossless; returns that folder.

    Args:
        root: What MINARI_DATASETS_PATH would be.
        dataset_id: For example `toy/walk/expert-v0`.
        raw: The episodes.
        env_id: Id in the data set's `env_spec`; without it there is none.
        data_format: hdf5 or arrow.
    """
    root.mkdir(parents=True, exist_ok=True)
    buffers = [
        EpisodeBuffer(
            id=number,
            seed=episode.seed,
            observations=episode.observations,
            actions=episode.actions,
            rewards=list(episode.rewards),
            terminations=[False] * (len(episode.rewards) - 1) + [True],
            truncations=[False] * len(episode.rewards),
            infos={k: _info(v, data_format) for k, v in episode.infos.items()},
        )
        for number, episode in enumerate(raw.episodes)
    ]
    with (
        unittest.mock.patch.dict(os.environ, {"MINARI_DATASETS_PATH": str(root)}),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UserWarning)
        minari.create_dataset_from_buffers(
            dataset_id,
            buffers,
            env=None if env_id is None else _SpecOnly(env_id),
            observation_space=raw.observation_space,
            action_space=raw.action_space,
            data_format=data_format,
            jpeg_encoding=False,
        )
    return root / dataset_id


def overwrite_minari(
    folder: pathlib.Path, episode: int, key: str, index: Any, value: Any
) -> None:
    """Writes `value` at `index` of an HDF5 data set's `episode_<n>/<key>`, in place.

    For damage: `overwrite_minari(folder, 3, "observations", (0, 1), np.nan)`.
    """
    with h5py.File(folder / "data" / "main_data.hdf5", "r+") as file:
        file[f"episode_{episode}/{key}"][index] = value  # type: ignore[index]


def sentence(generator: np.random.Generator, num_words: int) -> str:
    """Returns random words, some not ASCII, with stray spaces and line ends."""
    return " ".join(generator.choice(WORDS, size=num_words))


def texts(
    seed: int, num_documents: int, *, words: tuple[int, int] = (1, 60)
) -> list[str]:
    """Returns `num_documents` texts of random length."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(words[0], words[1] + 1, num_documents)
    return [sentence(generator, int(n)) for n in lengths]


def write_jsonl(
    path: pathlib.Path, documents: Sequence[str], text_key: str = "text"
) -> pathlib.Path:
    """Writes one JSON object a line, each with its text under `text_key`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({text_key: text, "id": n}) for n, text in enumerate(documents))
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def encode_image(pixels: NDArray[Any], extension: str = ".png") -> bytes:
    """Encodes [H, W], [H, W, 3] (RGB) or [H, W, 4] (RGBA) pixels with OpenCV."""
    if pixels.ndim == 3:
        code = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        pixels = cv2.cvtColor(pixels, code)
    return cv2.imencode(extension, pixels)[1].tobytes()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captioned:
    """One sample of a webdataset tar."""

    key: str
    image: bytes
    caption: str
    extension: str = "png"


def captioned_images(
    seed: int,
    num_images: int,
    *,
    sides: tuple[int, int] = (9, 90),
    captions: Mapping[int, int] | None = None,
) -> list[Captioned]:
    """Random PNGs of odd sizes, one caption each, more for the images in `captions`.

    Every fourth image is grey; of an image with n captions there are n samples with
    the same bytes.
    """
    generator = np.random.default_rng(seed)
    samples = []
    for number in range(num_images):
        height, width = (int(n) for n in generator.integers(*sides, size=2))
        shape = (height, width) if number % 4 == 3 else (height, width, 3)
        image = encode_image(generator.integers(0, 256, shape).astype(np.uint8))
        for _ in range((captions or {}).get(number, 1)):
            caption = sentence(generator, int(generator.integers(1, 12)))
            key = f"{len(samples):06d}"
            samples.append(Captioned(key=key, image=image, caption=caption))
    return samples


def write_webdataset(
    path: pathlib.Path, samples: Sequence[Captioned], *, as_json: bool = False
) -> pathlib.Path:
    """Writes a tar of `<key>.<extension>` with `<key>.txt`, or `<key>.json`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            text = sample.caption.encode()
            if as_json:
                text = json.dumps({"caption": sample.caption}).encode()
            for extension, data in (
                (sample.extension, sample.image),
                ("json" if as_json else "txt", text),
            ):
                member = tarfile.TarInfo(f"{sample.key}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def write_config(
    path: pathlib.Path, datasets: Sequence[Mapping[str, Any]], **settings: Any
) -> pathlib.Path:
    """Writes a build config with the test vocabulary; paths are relative to it."""
    content = {"text_tokenizer": str(VOCABULARY), **settings}
    content["datasets"] = [dict(dataset) for dataset in datasets]
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path

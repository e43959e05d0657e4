"""RL Unplugged's control and DM Lab shards; `test_rlu_oracle.py` has the parsers'."""

import gzip
import pathlib
import pickle
from collections.abc import Callable
from typing import Any

import episode_source
import fsspec
import numpy as np
import pytest
import raw_inputs
import rlu_sets
from building import run_build
from episode_source import episodes, verdicts

from gato.pipelines import verify
from gato.pipelines.sources.registry import source_for
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Unreadable
from gato.schemas.errors import Reason, UsageError
from gato.schemas.manifest import load_dataset_manifest

NAME = "train-00000-of-00100"
FORMATS = ("rlu_dm_control", "rlu_dmlab", "rlu_atari")


def read(
    path: pathlib.Path | str, format: str = "rlu_dm_control", **settings: Any
) -> list[Episode | Unreadable]:
    config = Dataset(name="set", format=format, paths=("raw/*",), **settings)
    return episode_source.read(path, str(path).rpartition("/")[2], config)


def test_episodes_are_realigned(tmp_path: pathlib.Path) -> None:
    examples = [rlu_sets.control_episode(seed, 5 + seed) for seed in range(3)]
    path = rlu_sets.write_shard(tmp_path / "walker_walk" / NAME, examples)
    for number, (episode, example) in enumerate(
        zip(episodes(read(path)), examples, strict=True)
    ):
        steps = 4 + number
        assert (episode.task, episode.agent) == ("walker_walk", "rl_unplugged")
        assert (episode.episode_id, episode.number) == (f"{NAME}/{number}", number)
        assert set(episode.observations) == {"height", "orientations", "velocity"}
        for key, column in episode.observations.items():
            assert np.array_equal(column, example[f"observation/{key}"][:steps])
        assert np.array_equal(episode.actions["action"], example["action"][:steps])
        # The reward of a step stands at the next.
        assert episode.rewards.tolist() == example["reward"][1:].tolist()
        assert episode.rewards.dtype == np.float64


def test_pieces_keep_their_rewards_and_end_at_the_last_step(
    tmp_path: pathlib.Path,
) -> None:
    examples = [rlu_sets.control_piece(0, 40), rlu_sets.control_piece(1, 40, last=17)]
    examples.append(rlu_sets.control_piece(2, 2, last=0))
    path = rlu_sets.write_shard(tmp_path / NAME, examples, packed=False)
    whole, short, empty = read(path)
    for episode, steps, example in ((whole, 40, examples[0]), (short, 17, examples[1])):
        assert isinstance(episode, Episode)
        assert episode.rewards.tolist() == example["reward"][:steps].tolist()
        assert len(episode.actions["action"]) == steps
        assert set(episode.observations) == {"height", "orientations", "velocity"}
    assert isinstance(empty, Unreadable)
    assert empty.reason == Reason.EMPTY


def test_a_camera_is_raw_pixels(tmp_path: pathlib.Path) -> None:
    example = rlu_sets.control_episode(0, 4, camera=True)
    (episode,) = episodes(read(rlu_sets.write_shard(tmp_path / NAME, [example])))
    pixels = np.asarray(episode.observations["walker/egocentric_camera"])
    stored = example["observation/walker/egocentric_camera"]
    assert (pixels.shape, pixels.dtype) == ((3, 64, 64, 3), np.uint8)
    assert [image.tobytes() for image in pixels] == stored[:3]


def test_the_lab_sees_its_own_colours(tmp_path: pathlib.Path) -> None:
    made = [rlu_sets.lab_episode(seed, 7) for seed in range(2)]
    path = tmp_path / "rooms_watermaze" / "training_0" / "tfrecord-00000-of-00500"
    rlu_sets.write_shard(path, [example for example, _ in made])
    read_back = episodes(read(path, "rlu_dmlab"))
    for episode, (example, pixels) in zip(read_back, made, strict=True):
        assert (episode.task, episode.agent) == ("rooms_watermaze", "training_0")
        assert np.array_equal(np.asarray(episode.observations["pixels"]), pixels[:6])
        actions = example["actions"]
        assert np.asarray(episode.actions["action"]).tolist() == actions[:6].tolist()
        assert episode.action_spaces["action"].num_values == 15
        last = np.asarray(episode.observations["last_action"])
        assert last.tolist() == [0, *actions[:5]]
        assert episode.rewards.tolist() == example["rewards"][:6].tolist()
    assert read(path, "rlu_dmlab", task="t", agent="a")[0].task == "t"


Edit = Callable[[dict[str, Any]], None]


def changed(name: str, value: Any) -> Edit:
    return lambda example: example.update({name: value})


def without(name: str) -> Edit:
    return lambda example: example.pop(name)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (without("reward"), Reason.MISSING_FIELD),
        (without("action"), Reason.MISSING_FIELD),
        (changed("reward", np.zeros(5, np.int64)), Reason.WRONG_DTYPE),
        (changed("action", np.zeros(7, np.float32)), Reason.WRONG_SHAPE),
        (changed("action", np.zeros(0, np.float32)), Reason.WRONG_SHAPE),
        (changed("reward", np.zeros(1, np.float32)), Reason.EMPTY),
        (changed("observation/walker/c", [b"123"] * 4), Reason.WRONG_SHAPE),
        (changed("observation/walker/c", [b"1234"] * 5), Reason.WRONG_SHAPE),
    ],
)
def test_a_bad_record_costs_one(
    tmp_path: pathlib.Path, edit: Edit, reason: Reason
) -> None:
    examples = [rlu_sets.control_episode(seed, 5) for seed in range(3)]
    edit(examples[1])
    items = read(rlu_sets.write_shard(tmp_path / NAME, examples))
    assert verdicts(items) == [(1, reason)]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (without("observations_pixels"), Reason.MISSING_FIELD),
        (changed("observations_pixels", [b"<html>"] * 5), Reason.CORRUPT_IMAGE),
        (changed("rewards", np.zeros(4, np.float32)), Reason.WRONG_SHAPE),
        (changed("observations_action", np.zeros(7, np.float32)), Reason.WRONG_SHAPE),
        (changed("actions", np.zeros(1, np.int64)), Reason.EMPTY),
    ],
)
def test_a_bad_record_of_the_lab_costs_one(
    tmp_path: pathlib.Path, edit: Edit, reason: Reason
) -> None:
    examples = [rlu_sets.lab_episode(seed, 5)[0] for seed in range(3)]
    edit(examples[1])
    items = read(rlu_sets.write_shard(tmp_path / NAME, examples), "rlu_dmlab")
    assert verdicts(items) == [(1, reason)]


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_shards(tmp_path: pathlib.Path, format: str) -> None:
    make: dict[str, Callable[[int], dict[str, Any]]] = {
        "rlu_dm_control": lambda seed: rlu_sets.control_episode(seed, 5),
        "rlu_dmlab": lambda seed: rlu_sets.lab_episode(seed, 5)[0],
        "rlu_atari": lambda seed: rlu_sets.atari_episode(seed, 5),
    }
    path = tmp_path / NAME
    rlu_sets.write_shard(path, [make[format](seed) for seed in range(3)], packed=False)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1  # in the second record's data
    path.write_bytes(flipped)
    assert verdicts(read(path, format)) == [(1, Reason.CORRUPT_RECORD)]
    path.write_bytes(content[:-1])
    assert verdicts(read(path, format)) == [(2, Reason.CORRUPT_FILE)]
    packed = gzip.compress(content, mtime=0)
    path.write_bytes(packed)
    assert verdicts(read(path, format)) == []
    path.write_bytes(packed[:-9])
    assert [reason for _, reason in verdicts(read(path, format))] == [
        Reason.CORRUPT_FILE
    ]
    for garbage in (b"\x1f\x8b", b"no TFRecord at all", b"x"):
        path.write_bytes(garbage)
        assert verdicts(read(path, format)) == [(0, Reason.CORRUPT_FILE)]
    path.write_bytes(b"")
    assert read(path, format) == []
    path.unlink()
    assert verdicts(read(path, format)) == [(0, Reason.CORRUPT_FILE)]


@pytest.mark.parametrize("format", FORMATS)
def test_one_partition_and_no_folders(tmp_path: pathlib.Path, format: str) -> None:
    path = rlu_sets.write_shard(tmp_path / NAME, [rlu_sets.control_episode(0, 5)])
    source = pickle.loads(pickle.dumps(source_for(format)))
    config = Dataset(name="set", format=format, paths=("raw/*",))
    (part,) = source.partition(str(path), NAME, config)
    assert part.num_bytes == path.stat().st_size
    assert source.files(str(path)) == [str(path)]
    assert (source.items, source.order) == ("episodes", "file")
    with pytest.raises(UsageError, match=rf"{format} is a TFRecord shard"):
        source.files(str(tmp_path))


def test_reads_from_another_store(tmp_path: pathlib.Path) -> None:
    path = rlu_sets.write_shard(tmp_path / NAME, [rlu_sets.control_episode(0, 5)])
    store = fsspec.filesystem("memory")
    try:
        store.pipe(f"/rlu/{NAME}", path.read_bytes())
        (there,), (here,) = episodes(read(f"memory://rlu/{NAME}")), episodes(read(path))
        assert there.rewards.tolist() == here.rewards.tolist()
    finally:
        store.rm("/rlu", recursive=True)


def test_builds_and_verifies(tmp_path: pathlib.Path) -> None:
    examples = [rlu_sets.control_episode(seed, 9) for seed in range(6)]
    rlu_sets.write_shard(tmp_path / "raw" / "walker_walk" / NAME, examples)
    lab = [rlu_sets.lab_episode(seed, 5)[0] for seed in range(3)]
    rlu_sets.write_shard(tmp_path / "lab" / "level" / "run" / NAME, lab)
    frames = rlu_sets.atari_frames(0, 30)
    rows = [
        row
        for episode in range(3)
        for row in rlu_sets.transitions(episode, frames[10 * episode :][:10], [1] * 9)
    ]
    rlu_sets.write_shard(tmp_path / "atari" / "Pong" / "run_1-00000-of-00100", rows)
    keep = {"by": "none"}
    config = raw_inputs.write_config(
        tmp_path / "build.yaml",
        [
            {"name": name, "format": f"rlu_{name}", "paths": [path], "filter": keep}
            for name, path in (
                ("dm_control", "raw/*/*"),
                ("dmlab", "lab/*/*/*"),
                ("atari", "atari/*/*"),
            )
        ],
        sequence_length=256,
        prompts={"max_tokens": 64},
    )
    assert run_build(config, tmp_path / "out") == 0
    assert verify.main([str(tmp_path / "out")]) == 0
    for name, count in (("dm_control", 6), ("dmlab", 3), ("atari", 3)):
        accounts = load_dataset_manifest(str(tmp_path / "out" / name)).accounts
        assert (accounts.read, accounts.kept) == (count, count)

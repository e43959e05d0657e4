"""The plan: providers, buckets, shards and block shuffle."""

import math
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from gato.pipelines import decide, plan
from gato.pipelines.columns import ItemBlock
from gato.pipelines.fragment import FragmentRef
from gato.schemas.config import BuildConfig, Dataset
from gato.schemas.hashing import keyed_hash


def a_config(**settings: Any) -> BuildConfig:
    dataset = Dataset(name="toy", format="minari", paths=("p",))
    usual: dict[str, Any] = {
        "sequence_length": 64,
        "prompts": {"fraction": 1.0, "max_tokens": 30},
    }
    return BuildConfig(text_tokenizer="t", datasets=(dataset,), **(usual | settings))


def episodes(
    count: int, *, file_index: int = 0, validation: Sequence[int] = (), images: int = 0
) -> plan.EpisodeBlock:
    """Episodes of 3 to 12 timesteps of 7 slots, with so many images a timestep."""
    steps = [3 + (5 * n + file_index) % 10 for n in range(count)]
    return plan.EpisodeBlock(
        ref=FragmentRef(
            dataset="toy", file_index=file_index, part=0, path=f"out/f{file_index}"
        ),
        rows=np.arange(count, dtype=np.int32),
        offsets=10_000 * np.arange(count),
        heads=np.full(count, 90, np.int32),
        episode_ids=[f"toy{file_index}/{n}" for n in range(count)],
        train=np.array([n not in validation for n in range(count)]),
        run_steps=[[n] for n in steps],
        run_slots=[[7] for _ in steps],
        image_bytes=[[100 + i for i in range(n * images)] for n in steps],
    )


def windows_of(
    blocks: Sequence[plan.EpisodeBlock], config: BuildConfig
) -> list[dict[str, Any]]:
    """Returns the windows with fragments by path, in order of (hash, place)."""
    found = []
    for block in plan.plan_bucket(blocks, config):
        for window in block.windows:
            fields = {name: window[name].item() for name in window.dtype.names}
            fields["fragment"] = block.fragments[fields["fragment"]]
            fields["prompt_fragment"] = block.fragments[fields["prompt_fragment"]]
            if fields["prompt"] not in (plan.TAIL, plan.UNIFORM):
                # It points nowhere.
                fields["prompt_fragment"] = ""
            found.append(fields)
    return sorted(found, key=lambda w: (w["fragment"], w["row"], w["index"]))


PROMPTED = (plan.TAIL, plan.UNIFORM)


def test_prompts_come_from_other_training_episodes() -> None:
    validation = (2, 5, 6)
    blocks = [episodes(9, validation=validation), episodes(9, file_index=1)]
    windows = windows_of(blocks, a_config())
    assert len(windows) > 18
    assert {w["prompt"] for w in windows} == set(PROMPTED)
    providers = set()
    for window in windows:
        own = (window["fragment"], window["row"])
        provider = (window["prompt_fragment"], window["prompt_row"])
        assert provider != own
        assert not (provider[0] == "out/f0" and provider[1] in validation)
        assert 0 < window["prompt_slots"] <= 30
        assert window["prompt_slots"] == 7 * window["prompt_count"]
        assert window["slots"] == 7 * window["count"]
        assert window["slots"] + window["prompt_slots"] <= 64
        providers.add(provider)
    # Of each fragment some provide, and some for the other fragment's episodes.
    assert len(providers) > 8
    assert any(w["fragment"] != w["prompt_fragment"] for w in windows)
    bodies = {(w["fragment"], w["row"], w["split"]) for w in windows}
    assert {row for path, row, split in bodies if split} == set(validation)


def test_without_another_training_episode_there_is_no_provider() -> None:
    alone = windows_of([episodes(1)], a_config())
    assert {w["prompt"] for w in alone} == {plan.NO_PROVIDER}
    # A validation episode may be prompted by the one of training, not that by it.
    two = windows_of([episodes(2, validation=(0,))], a_config())
    found = {(w["row"], w["prompt"] in PROMPTED) for w in two}
    assert found == {(0, True), (1, False)}


def test_prompts_that_do_not_fit() -> None:
    config = a_config(prompts={"fraction": 1.0, "max_tokens": 6})
    fates = {w["prompt"] for w in windows_of([episodes(5)], config)}
    assert fates == {plan.NO_FIT}
    # The body's timestep of 7 slots leaves no room beside a prompt of up to 60.
    config = a_config(prompts={"fraction": 1.0, "max_tokens": 60})
    fates = {w["prompt"] for w in windows_of([episodes(5)], config)}
    assert fates == {plan.NO_ROOM}
    config = a_config(prompts={"fraction": 0.0, "max_tokens": 6})
    windows = windows_of([episodes(5)], config)
    assert {w["prompt"] for w in windows} == {plan.NOT_WANTED}


def test_the_order_of_blocks_does_not_count() -> None:
    blocks = [episodes(6, file_index=n) for n in (3, 0, 2, 1)]
    config = a_config(prompts={"fraction": 0.5, "max_tokens": 30})
    expected = windows_of(blocks, config)
    assert windows_of(blocks[::-1], config) == expected
    assert windows_of(blocks[1:] + blocks[:1], config) == expected


def test_image_bytes_are_those_of_the_run() -> None:
    block = episodes(4, images=2)
    for window in windows_of([block], a_config()):
        sizes = block.image_bytes[window["row"]]
        begin, stop = window["first"], window["first"] + window["count"]
        assert window["image_bytes"] == sum(sizes[2 * begin : 2 * stop])
        sizes = block.image_bytes[window["prompt_row"]]
        begin = window["prompt_first"]
        stop = begin + window["prompt_count"]
        assert window["prompt_image_bytes"] == sum(sizes[2 * begin : 2 * stop])


def test_windows_say_where_their_bytes_lie() -> None:
    """Assembly reads by nothing else."""
    block = episodes(4, images=2)
    for window in windows_of([block], a_config()):
        for prefix in ("", "prompt_"):
            row, first = window[f"{prefix}row"], window[f"{prefix}first"]
            (steps,) = block.run_steps[row]
            told = {
                "offset": 10_000 * row,
                "head": 90,
                "steps": steps,
                "varied": 0,
                "images": 2,
                "item_slots": 7 * steps,
                "first_slot": 7 * first,
                "image_offset": sum(block.image_bytes[row][: 2 * first]),
            }
            assert {name: window[prefix + name] for name in told} == told


def test_timesteps_of_several_lengths() -> None:
    block = episodes(1)
    block.run_steps[0], block.run_slots[0] = [2, 7], [7, 20]
    windows = windows_of([block], a_config(prompts={"fraction": 0.0}))
    found = [(w["first"], w["count"], w["first_slot"], w["slots"]) for w in windows]
    assert found == [(0, 4, 0, 54), (4, 3, 54, 60), (7, 2, 114, 40)]
    for window in windows:
        assert (window["steps"], window["varied"], window["item_slots"]) == (9, 1, 154)


class ToyFooter:
    """The columns of a footer that the plan asks for."""

    def __init__(self, count: int) -> None:
        self._columns = {
            "item_id": [f"toy/{n}" for n in range(count)],
            "run_steps": [[4]] * count,
            "run_slots": [[7]] * count,
            "image_bytes": [[]] * count,
            "data_offset": list(range(count)),
            "head_bytes": [9] * count,
        }

    def column(self, name: str) -> list[Any]:
        return self._columns[name]


def item_block(count: int) -> ItemBlock:
    return ItemBlock(
        ref=FragmentRef(dataset="toy", file_index=0, part=0, path="out/f0"),
        task="walk",
        agent="one",
        rows=np.arange(count, dtype=np.int32),
        subset_hash=np.arange(count, dtype=np.uint64),
        returns=np.ones(count),
        success=np.full(count, -1, np.int8),
        num_steps=np.full(count, 4, np.int64),
        spec=np.full(count, 7, np.uint64),
        excluded=np.zeros(count, bool),
        condemned=np.zeros(count, bool),
        train=np.ones(count, bool),
        problems={},
        specs={7: "{}"},
        random_return=None,
    )


@pytest.mark.parametrize("size", [5, 50, 200])
def test_buckets_share_out_all_episodes_by_hash(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(plan, "BUCKET_EPISODES", size)
    config, block = a_config(), item_block(100)
    decision = decide.decide_task([block], config.datasets[0], config, None)[0]
    footer: Any = ToyFooter(100)
    seen: list[str] = []
    number = math.ceil(100 / size)
    for bucket, found in plan.kept_episodes(block, footer, decision, config):
        for episode_id in found.episode_ids:
            assert bucket == keyed_hash(0, "bucket", episode_id) % number
        seen += found.episode_ids
    assert sorted(seen) == sorted(footer.column("item_id"))


def window_block(sizes: Sequence[int], seed: int = 0) -> plan.WindowBlock:
    generator = np.random.default_rng(seed)
    windows = np.zeros(len(sizes), plan.WINDOW)
    windows["hash"] = generator.integers(0, 2**64, len(sizes), np.uint64)
    windows["fragment"] = np.arange(len(sizes)) % 3
    windows["prompt_fragment"] = generator.integers(0, 3, len(sizes))
    windows["row"] = np.arange(len(sizes))
    windows["slots"] = sizes
    windows["split"] = generator.integers(0, 2, len(sizes))
    return plan.WindowBlock(fragments=["f0", "f1", "f2"], windows=windows)


def placed(block: plan.WindowBlock) -> Iterator[tuple[Any, ...]]:
    for w in block.windows:
        yield (
            int(w["hash"]),
            int(w["row"]),
            block.fragments[w["fragment"]],
            block.fragments[w["prompt_fragment"]],
        )


def test_every_window_goes_to_the_shard_of_its_hash() -> None:
    block = window_block([10] * 500)
    shards = {"train": 7, "validation": 2}
    seen = []
    for split, index, part in plan.assign_shards(block, shards):
        assert set(part.windows["split"]) == {("train", "validation").index(split)}
        assert set(part.windows["hash"] % np.uint64(shards[split])) == {index}
        seen += list(placed(part))
    assert sorted(seen) == sorted(placed(block))


def test_num_shards() -> None:
    config = a_config(shard_bytes=1000)
    dataset = config.datasets[0]
    assert plan.num_shards("train", 0, dataset, config) == 1
    assert plan.num_shards("train", 1000, dataset, config) == 1
    assert plan.num_shards("train", 1001, dataset, config) == 2
    fixed = dataset.model_copy(update={"num_shards": 5})
    assert plan.num_shards("train", 10**9, fixed, config) == 5
    assert plan.num_shards("validation", 1001, fixed, config) == 2
    # 7 bytes a slot, 300 a window, and the images.
    block = window_block([10, 20])
    block.windows["split"] = 0
    block.windows["image_bytes"] = [0, 50]
    block.windows["prompt_slots"] = [5, 0]
    block.windows["prompt_image_bytes"] = [9, 0]
    assert plan.split_bytes(block) == [("train", 7 * 35 + 59 + 600), ("validation", 0)]


def test_blocks_of_the_shuffle_are_runs_of_one_fragment() -> None:
    blocks = [episodes(20, file_index=n, validation=(3, 4)) for n in range(3)]
    size = 4000
    config = a_config(shuffle_block=size)
    groups: dict[int, list[dict[str, Any]]] = {}
    windows = windows_of(blocks, config)
    for window in windows:
        groups.setdefault(window["hash"], []).append(window)
    assert 3 < len(groups) < len(windows) / 2
    for group in groups.values():
        assert len({(w["fragment"], w["split"]) for w in group}) == 1
        slots = sum(w["slots"] + w["prompt_slots"] for w in group)
        assert 7 * slots + 300 * len(group) <= size
    # Nothing but the hash differs from a perfect shuffle of the same windows.
    single = windows_of(blocks, a_config())
    assert [w | {"hash": 0} for w in windows] == [w | {"hash": 0} for w in single]
    assert len({w["hash"] for w in single}) == len(single)


def test_window_blocks_survive_pickling() -> None:
    block = window_block([10] * 50)
    copy = pickle.loads(pickle.dumps(block))
    assert copy.fragments == block.fragments
    np.testing.assert_array_equal(copy.windows, block.windows)
    copy.windows["row"] = 0  # writable, as `take` needs
    empty = pickle.loads(pickle.dumps(plan.NO_WINDOWS))
    assert len(empty.windows) == 0

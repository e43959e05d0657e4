"""The independent re-tokenizer: right on values worked by hand, and able to fail.

A whole output folder is written here by hand, ids and all, for two episodes of two
timesteps in rows of 8 slots; it is accepted, and each damage to it is refused.
"""

import collections
import copy
import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import raw_inputs
import retokenizer
import retokenizer_plan as plan
import retokenizer_values as values
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from retokenizer_shards import frame_record, parse_example

LENGTH = 8


def test_observation_bins_of_the_specification() -> None:
    numbers = np.array([0.001, 0.01, 0.1, 1, 10, 100, 256, 0.0, -0.0, -256, 1e300])
    expected = [516, 546, 632, 744, 860, 976, 1023, 512, 512, 0, 1023]
    assert values.observation_bins(numbers).tolist() == expected


@given(st.integers(1, 1023))
def test_thresholds_are_decided_exactly(k: int) -> None:
    # x with F(x) = k/512 - 1, which is irrational unless k is 512.
    edge = np.sign(k - 512) * np.expm1(abs(k - 512) / 512 * np.log(25601)) / 100
    around = np.array([edge])
    for _ in range(4):
        around = np.concatenate([np.nextafter(around[:1], -np.inf), around])
        around = np.concatenate([around, np.nextafter(around[-1:], np.inf)])
    around = around.astype(np.float64)
    bins = values.observation_bins(around)
    assert (np.diff(bins) >= 0).all()
    assert set(bins.tolist()) <= {k - 1, k}
    exact = [values._exact_observation_bin(float(x)) for x in around]
    assert bins.tolist() == exact


def test_action_bins() -> None:
    one = np.ones(1)

    def bins(x: float, low: float = -1, high: float = 1, clip: bool = False) -> Any:
        found = values.action_bins(np.array([[x]]), low * one, high * one, clip)
        return None if found is None else int(found[0, 0])

    assert [bins(x) for x in (-1, -1e-9, 0, 1 / 512, 1)] == [0, 511, 512, 513, 1023]
    assert bins(1.001 - 1e-9) == 1023
    assert bins(1.002) is None
    assert bins(-19.8) is None
    assert bins(-19.8, clip=True) == 0
    assert [bins(x, -2, 2) for x in (-2, 0, 1, 2)] == [0, 512, 768, 1023]


def test_expert_filter() -> None:
    assert [values.expert_window(n) for n in (1, 10, 11, 30, 9_999, 10_001)] == [
        1,
        1,
        2,
        3,
        1000,
        1000,
    ]
    assert values.expert_return([0.0] * 8 + [1.0, 3.0, 2.0]) == 2.5
    assert values.is_expert(8.0, 10.0, 0.8)
    assert not values.is_expert(7.999, 10.0, 0.8)
    assert values.is_expert(-12.0, -10.0, 0.8)
    assert not values.is_expert(-12.001, -10.0, 0.8)


def test_laws_of_prompts() -> None:
    steps = [3, 5, 4, 4]
    assert plan.tail_start(steps, 8) == 2
    assert plan.prompt_problem("tail", 2, 2, steps, 8) is None
    assert plan.prompt_problem("tail", 3, 1, steps, 8)
    assert plan.prompt_problem("uniform", 0, 2, steps, 8) is None
    assert plan.prompt_problem("uniform", 0, 1, steps, 8)
    assert plan.prompt_problem("uniform", 3, 1, steps, 8)
    assert plan.tail_start(steps, 3) == 4
    assert plan.prompt_problem("tail", 4, 0, steps, 3)


def test_cuts() -> None:
    config = {"seed": 0, "sequence_length": 10, "prompts": {"max_tokens": 4}}
    never = plan.cut("a/0", [4, 4, 4, 9], config, 0.0)
    assert [(w.first_step, w.num_steps) for w in never] == [(0, 2), (2, 1), (3, 1)]
    always = plan.cut("a/0", [3, 3, 3, 9], config, 1.0)
    assert [(w.first_step, w.num_steps) for w in always] == [(0, 2), (2, 1), (3, 1)]
    assert [w.has_room for w in always] == [True, True, False]


# --- a folder written by hand ---------------------------------------------------------

SPACES = {
    "observation_space": spaces.Box(-np.inf, np.inf, (1,), np.float64),
    "action_space": spaces.Discrete(5),
}
# Observations (the third is no timestep's), actions, return.
EPISODES = (
    ([0.001, 1.0, 7.0], [3, 0], 2.0),
    ([10.0, 256.0, 7.0], [1, 2], 1.7),
    ([0.1, 0.1, 7.0], [1, 1], 0.5),  # below 0.8 * 2.0
    ([np.nan, 0.1, 7.0], [1, 1], 2.0),  # quarantined
    ([0.0, -256.0, np.nan], [4, 4], 1.9),  # that NaN is no timestep's
)
IDS = {
    "0": [[32516, 33024, 3], [32744, 33024, 0]],
    "1": [[32860, 33024, 1], [33023, 33024, 2]],
    "4": [[32512, 33024, 4], [32000, 33024, 4]],
}
TASK, AGENT = "toy/hand", "toy/hand/expert-v0"


def name_of(number: str) -> str:
    return f"{AGENT}/{number}"


def prompted_row(body: str, step: int, mode: str, provider: str, at: int) -> dict:
    """One prompt of a timestep, one body of a timestep, two slots of padding."""
    returns = {"0": 2.0, "1": 1.7, "4": 1.9}
    return {
        "tokens": [*IDS[provider][at], *IDS[body][step], 0, 0],
        "kind": [12, 13, 14, 4, 5, 6, 0, 0],
        "loss_mask": [0, 0, 1, 0, 0, 1, 0, 0],
        "segment": [1, 1, 1, 1, 1, 1, 0, 0],
        "local_position": [0, -1, -1, 0, -1, -1, -1, -1],
        "provenance": [
            {
                "dataset": "hand",
                "task": TASK,
                "agent": AGENT,
                "episode": name_of(body),
                "first_step": step,
                "num_steps": 1,
                "start": 0,
                "length": 6,
                "return": returns[body],
                "success": None,
                "prompt": {
                    "mode": mode,
                    "episode": name_of(provider),
                    "first_step": at,
                    "num_steps": 1,
                    "length": 3,
                },
            }
        ],
    }


def demonstration_row(number: str) -> dict:
    row = prompted_row(number, 0, "tail", number, 1)
    row["tokens"] = [*IDS[number][0], *IDS[number][1], 0, 0]
    row["kind"] = [4, 5, 6, 4, 5, 6, 0, 0]
    row["provenance"][0] |= {"num_steps": 2, "prompt": None}
    return row


def train_rows() -> list[dict]:
    return [
        prompted_row("0", 0, "tail", "1", 1),
        prompted_row("1", 1, "uniform", "4", 0),
        prompted_row("0", 1, "uniform", "1", 0),
        prompted_row("4", 0, "tail", "0", 1),
        prompted_row("1", 0, "tail", "0", 1),
        prompted_row("4", 1, "tail", "1", 1),
    ]


def encode(row: dict) -> bytes:
    """A tf.train.Example by hand; every length here is below 2**14."""

    def field(number: int, payload: bytes) -> bytes:
        size = len(payload)
        head = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
        return bytes([number << 3 | 2]) + head + payload

    dtypes = {"tokens": "<u2", "local_position": "<i2"}
    lists = {"version": [b"\1"], "images": [], "image_info": [b""]}
    for key in ("tokens", "kind", "loss_mask", "segment", "local_position"):
        lists[key] = [np.array(row[key], dtypes.get(key, "u1")).tobytes()]
    lists["provenance"] = [json.dumps(row["provenance"]).encode()]
    entries = b""
    for key, values_ in lists.items():
        feature = field(1, b"".join(field(1, value) for value in values_))
        entries += field(1, field(1, key.encode()) + field(2, feature))
    example = field(1, entries)
    assert set(parse_example(example)) == set(lists)
    return example


def write_shard(path: pathlib.Path, rows: list[dict]) -> dict:
    records = [frame_record(encode(row)) for row in rows]
    offsets = np.cumsum([0, *(len(r) for r in records)], dtype="<u8").tobytes()
    data = b"".join(records)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.with_name(path.name + ".idx").write_bytes(offsets)
    return {
        "name": path.name,
        "rows": len(rows),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "idx_sha256": hashlib.sha256(offsets).hexdigest(),
    }


def summary(rows: list[dict]) -> dict:
    """The counts of a manifest that follow from the rows themselves."""
    kinds = collections.Counter(kind % 8 for row in rows for kind in row["kind"])
    prompts = [row["provenance"][0]["prompt"] for row in rows]
    modes = collections.Counter(p["mode"] for p in prompts if p)
    return {
        "rows": len(rows),
        "tokens": {name: kinds[n] for n, name in enumerate(retokenizer.KINDS)},
        "prompt_tokens": sum(kind >= 8 for row in rows for kind in row["kind"]),
        "targets": sum(sum(row["loss_mask"]) for row in rows),
        "prompts": {
            "windows": len(rows),
            "prompted": len(rows) - prompts.count(None),
            "tail": modes["tail"],
            "uniform": modes["uniform"],
            "no_provider": prompts.count(None),
            "no_fit": 0,
            "no_room": 0,
        },
    }


@pytest.fixture(scope="module")
def config_path(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("hand")
    episodes = [
        raw_inputs.RawEpisode(
            observations=np.array(seen)[:, None],
            actions=np.array(done),
            rewards=np.array([total, 0.0]),
        )
        for seen, done, total in EPISODES
    ]
    raw = raw_inputs.RawDataset(episodes=episodes, **SPACES)
    raw_inputs.write_minari(root / "raw", AGENT, raw)
    return raw_inputs.write_config(
        root / "build.yaml",
        [{"name": "hand", "format": "minari", "paths": ["raw/toy/hand/*"]}],
        sequence_length=LENGTH,
        validation_fraction=0.0,
        prompts={"fraction": 1.0, "max_tokens": 4},
    )


class Build:
    """What the folder is written from; damages change it before it is written."""

    def __init__(self) -> None:
        self.train = train_rows()
        self.validation: list[dict] = []
        self.demonstrations = [demonstration_row(n) for n in ("0", "4", "1")]
        self.changes: dict[str, Any] = {}

    def write(self, output: pathlib.Path) -> pathlib.Path:
        folder = output / "hand"
        splits = {}
        for split in ("train", "validation"):
            rows = getattr(self, split)
            shard = write_shard(folder / f"{split}-00000-of-00001.tfrecord", rows)
            tokens = len(rows) * LENGTH
            splits[split] = {"rows": len(rows), "tokens": tokens, "shards": [shard]}
        write_shard(folder / "demonstrations.tfrecord", self.demonstrations)
        model = raw_inputs.VOCABULARY.read_bytes()
        (output / "tokenizer.model").write_bytes(model)
        lost = {"episode": name_of("3"), "reason": "nonfinite", "detail": ""}
        lines = json.dumps(lost | {"source": "raw"}) + "\n"
        (folder / "quarantine.jsonl").write_text(lines)
        vocabulary = {"text": 32000, "first_continuous": 32000, "separator": 33024}
        digest = hashlib.sha256(model).hexdigest()
        vocabulary |= {"eos": 2, "size": 33025, "sentencepiece_sha256": digest}
        counts = summary(self.train + self.validation)
        task = {"episodes_read": 5, "kept": 3, "low_return": 1, "timesteps": 6}
        task |= {"quarantined": {"nonfinite": 1}, "agents": [AGENT], "order": "number"}
        task |= {"expert_return": 2.0, "window": 1}
        read = {"read": 5, "kept": 3, "low_return": 1, "excluded": 0}
        manifest = {
            "schema_version": 1,
            "dataset": "hand",
            "weight": 1.0,
            "sequence_length": LENGTH,
            "token_dtype": "uint16",
            "vocabulary": vocabulary,
            "episodes": read | {"quarantined": {"nonfinite": 1}},
            "tasks": {TASK: task},
            "timesteps": 6,
            "local_position_clamped": 0,
            "splits": splits,
            **counts,
            **self.changes,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        root = {"datasets": {"hand": {"weight": 1.0, "rows": counts["rows"]}}}
        (output / "manifest.json").write_text(json.dumps(root))
        return output


def test_accepts_the_folder_written_by_hand(
    config_path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    report = retokenizer.check_build(config_path, Build().write(tmp_path))
    found = report.datasets["hand"]
    assert found.accounts == {
        "read": 5,
        "kept": 3,
        "low_return": 1,
        "excluded": 0,
        "quarantined": {"nonfinite": 1},
    }
    assert (found.segments, found.targets, found.prompt_tokens) == (6, 12, 18)
    assert dict(found.prompts) == {"windows": 6, "prompted": 6, "tail": 4, "uniform": 2}


def row_of(build: Build) -> dict:
    return build.train[2]


def entry_of(build: Build) -> dict:
    return row_of(build)["provenance"][0]


def change_slot(key: str, slot: int, value: int) -> Callable[[Build], None]:
    def change(build: Build) -> None:
        assert row_of(build)[key][slot] != value
        row_of(build)[key][slot] = value

    return change


def change_entry(key: str, value: Any) -> Callable[[Build], None]:
    def change(build: Build) -> None:
        assert entry_of(build)[key] != value
        entry_of(build)[key] = value

    return change


def self_prompt(build: Build) -> None:
    build.train[2] = prompted_row("0", 1, "uniform", "0", 0)


def wrong_tail(build: Build) -> None:
    entry_of(build)["prompt"]["mode"] = "tail"


def drop_last_window(build: Build) -> None:
    del build.train[2]


def double_window(build: Build) -> None:
    build.train.append(copy.deepcopy(build.train[2]))


def straddle(build: Build) -> None:
    build.validation.append(build.train.pop(2))


def prompt_from_validation(build: Build) -> None:
    build.validation += [r for r in build.train if r["tokens"][3:6] in IDS["1"]]
    build.train = [r for r in build.train if r["tokens"][3:6] not in IDS["1"]]
    build.demonstrations = [demonstration_row(n) for n in ("0", "4")]


def bare(build: Build) -> None:
    row = row_of(build)
    row["tokens"] = [*IDS["0"][1], 0, 0, 0, 0, 0]
    row["kind"] = [4, 5, 6, 0, 0, 0, 0, 0]
    row["loss_mask"] = [0, 0, 1, 0, 0, 0, 0, 0]
    row["segment"] = [1, 1, 1, 0, 0, 0, 0, 0]
    row["local_position"] = [0, -1, -1, -1, -1, -1, -1, -1]
    entry_of(build).update(length=3, prompt=None)


def change_manifest(**changes: Any) -> Callable[[Build], None]:
    return lambda build: build.changes.update(changes)


def reorder_demonstrations(build: Build) -> None:
    build.demonstrations.reverse()


def quarantined_body(build: Build) -> None:
    entry_of(build)["episode"] = name_of("3")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_slot("tokens", 3, 32745), "tokens at"),
        (change_slot("tokens", 0, 32861), "tokens at"),
        (change_slot("tokens", 7, 1), "padding tokens"),
        (change_slot("loss_mask", 5, 0), "loss_mask at"),
        (change_slot("loss_mask", 3, 1), "loss_mask at"),
        (change_slot("loss_mask", 0, 1), "first mask bit"),
        (change_slot("local_position", 4, 1), "local_position at"),
        (change_slot("local_position", 3, 3), "local_position at"),
        (change_slot("segment", 3, 2), "segment at"),
        (change_slot("kind", 3, 3), "kind at"),
        (change_slot("kind", 0, 4), "kind at"),
        (change_slot("kind", 3, 12), "kind at"),
        (change_slot("kind", 7, 1), "padding kinds"),
        (change_entry("first_step", 0), "stands twice|no window"),
        (change_entry("num_steps", 2), "no window"),
        (change_entry("return", 1.9), "return is"),
        (change_entry("success", True), "success is"),
        (change_entry("task", "toy"), "task is"),
        (change_entry("length", 5), "segment|length"),
        (self_prompt, "prompts itself"),
        (wrong_tail, "a tail of 2 steps begins at 1"),
        (drop_last_window, "missing windows"),
        (double_window, "stands twice"),
        (straddle, "split of"),
        (prompt_from_validation, "split of the provider"),
        (bare, "unprompted, though"),
        (quarantined_body, "not a kept episode"),
        (reorder_demonstrations, "demonstrations"),
        (change_manifest(targets=11), "targets is"),
        (change_manifest(timesteps=5), "timesteps is"),
        (change_manifest(local_position_clamped=1), "local_position_clamped is"),
    ],
)
def test_refuses_each_damage(
    damage: Callable[[Build], None],
    message: str,
    config_path: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    build = Build()
    damage(build)
    with pytest.raises(AssertionError, match=message):
        retokenizer.check_build(config_path, build.write(tmp_path))


def test_refuses_a_flipped_byte(
    config_path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    Build().write(tmp_path)
    path = tmp_path / "hand" / "train-00000-of-00001.tfrecord"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(AssertionError, match="sha256"):
        retokenizer.check_build(config_path, tmp_path)

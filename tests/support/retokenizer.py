"""Holds a build's output to an independent tokenization of its raw inputs.

Written from the specification and the contracts alone; imports nothing of ours, here
and in the `retokenizer_*` modules. Slow and obvious on purpose.

    report = retokenizer.check_build(config_path, output_folder)

raises AssertionError with the place of the first disagreement.
"""

import collections
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import yaml
from retokenizer_documents import text_documents, webdataset_documents
from retokenizer_episodes import minari_episodes
from retokenizer_items import Item, Vocabulary
from retokenizer_pairs import coco_documents, vqa_documents
from retokenizer_plan import Plan, make_plan
from retokenizer_segments import DocumentChecker, EpisodeChecker
from retokenizer_shards import (
    DecodedRow,
    check_layout,
    decode_row,
    expect,
    expect_equal,
    parse_records,
    read_shard,
)

DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "sequence_length": 1024,
    "expert_fraction": 0.8,
    "validation_fraction": 0.01,
    "prompts": {"fraction": 0.25, "tail_fraction": 0.5, "max_tokens": 512},
    "loss": {"text_observations": True, "questions": True, "prompts": True},
}
DATASET_DEFAULTS: dict[str, Any] = {
    "weight": 1.0,
    "filter": {"by": "return", "success_key": None},
    "tasks": {"include": ["*"], "exclude": []},
    "max_episodes": None,
    "task": None,
    "agent": None,
    "observations": {"include": ["*"], "exclude": [], "kinds": {}},
    "actions": {"scale": "auto", "clip": False},
    "image": {"resize": None, "max_patches": None, "encoding": "png"},
    "num_shards": None,
    "text_key": None,
    "document": None,
}
READERS = {
    "coco": coco_documents,
    "minari": minari_episodes,
    "text": text_documents,
    "vqa": vqa_documents,
    "webdataset": webdataset_documents,
}
CONTROL = ("minari", "rlds")
KINDS = (
    "padding",
    "text",
    "image",
    "discrete_observation",
    "continuous_observation",
    "separator",
    "discrete_action",
    "continuous_action",
)


@dataclasses.dataclass
class DatasetReport:
    """Counts of one data set, all found equal to the manifest's where it has them."""

    accounts: dict[str, Any]
    prompts: collections.Counter
    tokens: dict[str, int]
    rows: dict[str, int]
    prompt_tokens: int = 0
    targets: int = 0
    clamped: int = 0
    timesteps: int = 0
    segments: int = 0
    images: int = 0
    items: dict[str, int] = dataclasses.field(default_factory=dict)
    pairs: collections.Counter = dataclasses.field(default_factory=collections.Counter)


@dataclasses.dataclass
class Report:
    """What was checked, by data set."""

    datasets: dict[str, DatasetReport]


def _with_defaults(
    defaults: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    merged = {**defaults, **given}
    for key, value in defaults.items():
        if isinstance(value, Mapping):
            merged[key] = {**value, **(given.get(key) or {})}
    return merged


def load_config(path: str | pathlib.Path) -> dict[str, Any]:
    """Returns the build config with its defaults, paths as written."""
    config = yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))
    config = _with_defaults(DEFAULTS, config)
    config["datasets"] = [
        _with_defaults(DATASET_DEFAULTS, d) for d in config["datasets"]
    ]
    return config


def expected_episodes(
    config_path: str | pathlib.Path, dataset_name: str
) -> Iterator[Item]:
    """Yields every episode or document of one data set, tokenized."""
    config = load_config(config_path)
    folder = pathlib.Path(config_path).parent
    vocabulary = Vocabulary((folder / config["text_tokenizer"]).read_bytes())
    (dataset,) = (d for d in config["datasets"] if d["name"] == dataset_name)
    yield from READERS[dataset["format"]](folder, config, dataset, vocabulary)


def _count_slots(report: DatasetReport, rows: list[DecodedRow]) -> None:
    for row in rows:
        counts = np.bincount(row.kind % 8, minlength=8)
        for name, count in zip(KINDS, counts.tolist(), strict=True):
            report.tokens[name] += count
        report.prompt_tokens += int((row.kind >= 8).sum())
        report.targets += int(row.loss_mask.sum())


def _check_accounts(
    folder: pathlib.Path, manifest: dict[str, Any], plan: Plan, is_control: bool
) -> dict[str, Any]:
    accounts = {
        "read": len(plan.read),
        "kept": len(plan.kept),
        "low_return": len(plan.low_return),
        "excluded": len(plan.excluded),
        "quarantined": dict(collections.Counter(i.reason for i in plan.quarantined)),
    }
    place = f"{folder.name}/manifest.json"
    name, other = "episodes", "documents"
    if not is_control:
        name, other = other, name
    expect_equal(manifest.get(name), accounts, place, name)
    expect(manifest.get(other) is None, place, f"{other} beside {name}")
    lines = []
    path = folder / "quarantine.jsonl"
    if path.exists() or plan.quarantined:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for line in lines:
        expect(set(line) >= {"source", "episode", "reason", "detail"}, str(path), line)
    found = sorted((line["episode"], line["reason"]) for line in lines)
    expected = sorted((i.id, i.reason) for i in plan.quarantined)
    expect_equal(found, expected, str(path), "(episode, reason)")
    return accounts


def _check_tasks(manifest: dict[str, Any], plan: Plan, by: str, place: str) -> None:
    tasks = {n: t for n, t in manifest["tasks"].items() if t["episodes_read"]}
    names = set(plan.tasks) | ({i.task for i in plan.excluded} & set(tasks))
    expect_equal(set(tasks), names, place, "tasks")
    for name, task in plan.tasks.items():
        here = f"{place} tasks[{name!r}]"
        expected = {
            "episodes_read": task.episodes_read,
            "kept": task.kept,
            "low_return": task.low_return,
            "quarantined": dict(task.quarantined),
            "timesteps": task.timesteps,
            "order": "number",
        }
        if by == "return":
            expected |= {"expert_return": task.expert, "window": task.window}
        for key, value in expected.items():
            expect_equal(tasks[name][key], value, here, key)
        # No contract says whether an agent of quarantined episodes alone is listed.
        agents = tasks[name]["agents"]
        expect_equal(agents, sorted(set(agents)), here, "agents")
        kept = {item.agent for item in plan.kept.values() if item.task == name}
        expect(kept <= set(agents) <= task.agents, here, f"agents are {agents}")


def _check_counts(
    manifest: dict[str, Any], report: DatasetReport, length: int, place: str
) -> None:
    rows = sum(report.rows.values())
    expected = {
        "rows": rows,
        "tokens": report.tokens,
        "prompt_tokens": report.prompt_tokens,
        "targets": report.targets,
        "timesteps": report.timesteps,
        "local_position_clamped": report.clamped,
    }
    for key, value in expected.items():
        expect_equal(manifest[key], value, place, key)
    expect_equal(sum(report.tokens.values()), rows * length, place, "sum of tokens")
    names = "windows", "prompted", "tail", "uniform", "no_provider", "no_fit", "no_room"
    prompts = {name: report.prompts[name] for name in names}
    expect_equal(manifest["prompts"], prompts, place, "prompts")


def _check_dataset(
    config: dict[str, Any],
    dataset: dict[str, Any],
    output: pathlib.Path,
    items: list[Item],
) -> DatasetReport:
    folder = output / dataset["name"]
    place = f"{folder.name}/manifest.json"
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    length, dtype = config["sequence_length"], manifest["token_dtype"]
    is_control = dataset["format"] in CONTROL
    expect_equal(len({i.id for i in items}), len(items), folder.name, "distinct ids")
    plan = make_plan(items, config, dataset)
    accounts = _check_accounts(folder, manifest, plan, is_control)
    checker = (EpisodeChecker if is_control else DocumentChecker)(config, dataset, plan)
    report = DatasetReport(accounts, checker.prompts, dict.fromkeys(KINDS, 0), {})
    expect_equal(set(manifest["splits"]), {"train", "validation"}, place, "splits")
    for split, info in manifest["splits"].items():
        total = len(info["shards"])
        names = [f"{split}-{n:05d}-of-{total:05d}.tfrecord" for n in range(total)]
        expect(total > 0, place, f"no shard of {split}")
        if split == "train" and dataset["num_shards"]:
            expect_equal(total, dataset["num_shards"], place, "number of shards")
        expect_equal([s["name"] for s in info["shards"]], names, place, "shards")
        rows = [r for s in info["shards"] for r in read_shard(folder, s, length, dtype)]
        expect_equal(info["rows"], len(rows), place, f"rows of {split}")
        report.rows[split] = len(rows)
        used = sum(int((row.kind != 0).sum()) for row in rows)
        expect(
            info["tokens"] in (used, length * len(rows)), place, f"tokens of {split}"
        )
        for row in rows:
            for entry in row.provenance:
                checker.check_segment(row, entry, split)
        _count_slots(report, rows)
    checker.finish()
    report.clamped, report.segments = checker.clamped, checker.segments
    report.images = checker.images
    report.items = dict(collections.Counter(checker.split_of.values()))
    if isinstance(checker, EpisodeChecker):
        report.timesteps = sum(task.timesteps for task in plan.tasks.values())
        _check_tasks(manifest, plan, dataset["filter"]["by"], place)
        checker.check_demonstrations(_demonstrations(folder, length, dtype))
    else:
        report.pairs = checker.pairs
    _check_counts(manifest, report, length, place)
    return report


def _demonstrations(folder: pathlib.Path, length: int, dtype: str) -> list[DecodedRow]:
    path = folder / "demonstrations.tfrecord"
    place = f"{folder.name}/{path.name}"
    rows = []
    for number, record in enumerate(parse_records(path.read_bytes(), place)[0]):
        rows.append(decode_row(record, length, dtype, f"{place} row {number}"))
        check_layout(rows[-1])
    return rows


def _check_root(
    config: dict[str, Any], output: pathlib.Path, model: bytes, report: Report
) -> None:
    vocabulary = Vocabulary(model)
    expected = {
        "text": vocabulary.text,
        "first_continuous": vocabulary.text,
        "separator": vocabulary.separator,
        "eos": vocabulary.eos,
        "size": vocabulary.size,
        "sentencepiece_sha256": hashlib.sha256(model).hexdigest(),
    }
    expect((output / "tokenizer.model").read_bytes() == model, str(output), "model")
    root = json.loads((output / "manifest.json").read_text("utf-8"))
    expect_equal(set(root["datasets"]), set(report.datasets), "manifest.json", "sets")
    for dataset in config["datasets"]:
        name = dataset["name"]
        place = f"{name}/manifest.json"
        manifest = json.loads((output / place).read_text("utf-8"))
        expect_equal(manifest["schema_version"], 1, place, "schema_version")
        expect_equal(manifest["dataset"], name, place, "dataset")
        expect_equal(manifest["weight"], dataset["weight"], place, "weight")
        expect_equal(manifest["vocabulary"], expected, place, "vocabulary")
        dtype = "uint16" if vocabulary.size <= 65536 else "int32"
        expect_equal(manifest["token_dtype"], dtype, place, "token_dtype")
        length = config["sequence_length"]
        expect_equal(manifest["sequence_length"], length, place, "sequence_length")
        entry = root["datasets"][name]
        expect_equal(entry["weight"], dataset["weight"], f"root {name}", "weight")
        rows = sum(report.datasets[name].rows.values())
        expect_equal(entry["rows"], rows, f"root {name}", "rows")


def check_build(
    config_path: str | pathlib.Path,
    output_folder: str | pathlib.Path,
    limit: int | None = None,
) -> Report:
    """Checks a finished build of every data set of a config against its raw inputs.

    Args:
        config_path: The build config.
        output_folder: What gato-build made of it.
        limit: The build's `--limit`: the first so many of each data set.

    Raises:
        AssertionError: With the place of the first disagreement.
        NotImplementedError: Where the config asks for what no contract determines.
    """
    config, output = load_config(config_path), pathlib.Path(output_folder)
    model = (pathlib.Path(config_path).parent / config["text_tokenizer"]).read_bytes()
    report = Report({})
    for dataset in config["datasets"]:
        items = list(expected_episodes(config_path, dataset["name"]))
        items = sorted(items, key=lambda item: item.order)[:limit]
        report.datasets[dataset["name"]] = _check_dataset(
            config, dataset, output, items
        )
    _check_root(config, output, model, report)
    return report

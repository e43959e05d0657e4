"""`gato-plan`: exact of small data, near of large data, and without a trace."""

import dataclasses
import gzip
import json
import pathlib
import re
from typing import Any

import building
import fsspec
import pytest
import raw_inputs

from gato.pipelines import discover, estimate
from gato.pipelines.estimation import costs, figures, sample
from gato.pipelines.sources.registry import source_for
from gato.schemas import config as configs
from gato.schemas import manifest
from gato.tokenizers.text import TextTokenizer

Plan = dict[str, Any]


def plan(capsys: Any, config: pathlib.Path, *options: str, code: int = 0) -> Plan:
    """Runs `gato-plan --json` and returns what it printed."""
    capsys.readouterr()
    assert estimate.main(["--config", str(config), "--json", *options]) == code
    return json.loads(capsys.readouterr().out)


def without_times(content: Plan) -> Plan:
    """Returns the data sets' figures that a second run must repeat."""
    timed = re.compile("seconds|hours|dollars|decode_ms")
    return {
        name: {k: v for k, v in entry.items() if not timed.search(k)}
        for name, entry in content["datasets"].items()
    }


@pytest.fixture(scope="module")
def long_walks(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The config of 160 episodes in eight partitions of two tasks, and 400 texts."""
    root = tmp_path_factory.mktemp("long")
    for number in range(8):
        raw_inputs.write_minari(
            root / "raw",
            f"toy/walk{number}/expert-v0",
            raw_inputs.random_walks(number, 20, steps=(20, 60)),
            env_id=f"Walk{number % 2}-v0",
        )
    raw_inputs.write_jsonl(root / "raw" / "a.jsonl", raw_inputs.texts(0, 400))
    walk = {"name": "walk", "format": "minari", "paths": ["raw/toy/*/*"], "weight": 3}
    text = {"name": "text", "format": "text", "paths": ["raw/*.jsonl"]}
    settings: dict[str, Any] = building.SETTINGS | {"validation_fraction": 0.05}
    return raw_inputs.write_config(root / "build.yaml", [walk, text], **settings)


def test_figures_of_a_whole_sample_are_those_of_the_build(
    undisturbed: Any, capsys: Any
) -> None:
    found = plan(capsys, undisturbed.config)
    assert set(found["datasets"]) == {"walk", "pairs", "text"}
    for name, entry in found["datasets"].items():
        built = manifest.load_dataset_manifest(str(undisturbed.output / name))
        accounts = built.accounts
        assert entry["exact"]
        assert entry["share_read"] == 1
        assert entry["relative_error"] == 0
        assert entry["tokens"] == built.tokens.model_dump()
        assert entry["targets"] == built.targets
        assert entry["prompt_tokens"] == built.prompt_tokens
        assert entry["rows"] == built.rows
        assert entry["train_rows"] == built.splits["train"].rows
        shards = {split: info.shards for split, info in built.splits.items()}
        assert entry["shards"] == {split: len(s) for split, s in shards.items()}
        size = sum(shard.bytes for s in shards.values() for shard in s)
        assert entry["shard_bytes"] == size
        assert entry["accounts"]["read"] == accounts.read
        assert entry["accounts"]["kept"] == accounts.kept
        assert entry["accounts"].get("low_return", 0) == accounts.low_return
        if built.episodes:
            assert entry["prompts"]["windows"] == built.prompts.windows
            assert entry["prompts"]["tail"] == built.prompts.tail
            assert entry["prompts"]["uniform"] == built.prompts.uniform
    total = sum(entry["shard_bytes"] for entry in found["datasets"].values())
    assert found["total"]["shard_bytes"] == total


def test_quarantine_and_max_episodes_are_those_of_the_build(
    tmp_path: pathlib.Path, capsys: Any
) -> None:
    raw_inputs.write_minari(tmp_path, "toy/walk/a-v0", raw_inputs.random_walks(0, 30))
    damaged = tmp_path / "toy/walk/a-v0"
    raw_inputs.overwrite_minari(damaged, 3, "observations", (0, 1), float("nan"))
    config = raw_inputs.write_config(
        tmp_path / "build.yaml",
        [
            {
                "name": "walk",
                "format": "minari",
                "paths": ["toy/*/*"],
                "max_episodes": 25,
            }
        ],
        sequence_length=256,
        prompts={"max_tokens": 128},
        max_quarantine_fraction=0.5,
    )
    entry = plan(capsys, config)["datasets"]["walk"]
    assert building.run_build(config, tmp_path / "out") == 0
    built = manifest.load_dataset_manifest(str(tmp_path / "out" / "walk"))
    assert entry["accounts"]["excluded"] == built.accounts.excluded == 5
    assert entry["quarantined"] == built.accounts.quarantined
    assert entry["tokens"] == built.tokens.model_dump()


def test_a_sample_comes_near_the_whole(long_walks: pathlib.Path, capsys: Any) -> None:
    whole = plan(capsys, long_walks, "--sample", "1000")["datasets"]
    part = plan(capsys, long_walks, "--sample", "64")["datasets"]
    for name in whole:
        assert whole[name]["exact"]
        assert not part[name]["exact"]
        error = part[name]["relative_error"]
        assert 0 < error < 0.2
        for key, slack in {"rows": 0.02, "shard_bytes": 0.05}.items():
            expected = whole[name][key]
            assert part[name][key] == pytest.approx(expected, rel=4 * error + slack)
        read = whole[name]["accounts"]["read"]
        assert part[name]["accounts"]["read"] == pytest.approx(read, rel=0.25)
        assert part[name]["share_read"] == pytest.approx(64 / read, rel=0.25)
        assert sum(part[name]["tokens"].values()) == part[name]["rows"] * 256
    # All partitions were visited, a few items of each.
    assert part["walk"]["partitions"] == 8


def test_the_same_sample_is_drawn_each_time(
    long_walks: pathlib.Path, capsys: Any
) -> None:
    first = plan(capsys, long_walks, "--sample", "30")
    again = plan(capsys, long_walks, "--sample", "30")
    assert without_times(first) == without_times(again)


def drawn(config_path: pathlib.Path, name: str, num_items: int) -> sample.Sample:
    """Draws a sample of one data set of a config."""
    config = configs.load_config(str(config_path))
    dataset = next(d for d in config.datasets if d.name == name)
    source = source_for(dataset.format)
    return sample.draw_sample(
        source, dataset, discover.expand(dataset), num_items, config.seed
    )


def test_few_partitions_of_many_are_read(long_walks: pathlib.Path) -> None:
    chosen = drawn(long_walks, "walk", 12)
    assert [part.num_items for part in chosen.partitions] == [4, 4, 4]
    assert len({part.path.index for part in chosen.partitions}) == 3
    covered = sum(p.raw_bytes_read * p.weight for p in chosen.partitions)
    assert covered == pytest.approx(chosen.raw_bytes)


def write_large_files(root: pathlib.Path) -> dict[str, tuple[pathlib.Path, int]]:
    """Writes one file of some MiB of each kind; returns path and documents."""
    texts = [text * 40 for text in raw_inputs.texts(1, 1500, words=(10, 60))]
    lines = raw_inputs.write_jsonl(root / "plain" / "a.jsonl", texts)
    packed = root / "packed" / "a.jsonl.gz"
    packed.parent.mkdir()
    many = lines.read_bytes() * 12
    packed.write_bytes(gzip.compress(many, 1))
    images = raw_inputs.captioned_images(2, 260, sides=(60, 90))
    tar = raw_inputs.write_webdataset(root / "tar" / "a.tar", images)
    return {"plain": (lines, 1500), "packed": (packed, 18_000), "tar": (tar, 260)}


def test_bytes_of_what_was_read_are_known_in_every_format(
    tmp_path: pathlib.Path,
) -> None:
    written = write_large_files(tmp_path)
    formats = {"plain": "text", "packed": "text", "tar": "webdataset"}
    entries = [
        {"name": name, "format": formats[name], "paths": [str(path)]}
        for name, (path, _) in written.items()
    ]
    config = raw_inputs.write_config(tmp_path / "build.yaml", entries)
    for name, (_, documents) in written.items():
        chosen = drawn(config, name, 50)
        assert chosen.num_items == 50
        assert not chosen.is_complete
        assert chosen.share_read == pytest.approx(50 / documents, rel=0.25), name


def test_max_episodes_bounds_what_is_extrapolated(
    long_walks: pathlib.Path, capsys: Any
) -> None:
    text = long_walks.read_text(encoding="utf-8")
    capped = long_walks.with_name("capped.yaml")
    capped.write_text(text.replace("weight: 3", "weight: 3\n  max_episodes: 30"))
    entry = plan(capsys, capped, "--sample", "64")["datasets"]["walk"]
    accounts = entry["accounts"]
    assert accounts["read"] == pytest.approx(160, rel=0.1)
    kept = accounts["kept"] + accounts["low_return"]
    assert kept == pytest.approx(2 * 30, abs=1)
    assert kept + accounts["excluded"] == pytest.approx(accounts["read"], abs=2)


def test_excluded_tasks_are_read_but_not_kept(
    long_walks: pathlib.Path, capsys: Any
) -> None:
    text = long_walks.read_text(encoding="utf-8")
    excluding = long_walks.with_name("excluding.yaml")
    added = "weight: 3\n  filter: {by: none}\n  tasks: {exclude: [Walk1-v0]}"
    excluding.write_text(text.replace("weight: 3", added))
    for number in ("40", "1000"):
        accounts = plan(capsys, excluding, "--sample", number)["datasets"]["walk"][
            "accounts"
        ]
        assert accounts["read"] == pytest.approx(160, rel=0.1)
        assert accounts["kept"] == pytest.approx(80, rel=0.2)
        assert accounts["excluded"] == pytest.approx(80, rel=0.2)


def test_nothing_is_written(small_config: pathlib.Path, capsys: Any) -> None:
    def listing() -> dict[pathlib.Path, tuple[int, int]]:
        found = small_config.parent.rglob("*")
        return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in found}

    before = listing()
    plan(capsys, small_config)
    assert listing() == before
    memory = fsspec.filesystem("memory")
    assert not [path for path in memory.find("/") if "gato-plan" in path]


def test_the_table_fits_80_columns(
    small_config: pathlib.Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert estimate.main(["--config", str(small_config)]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for said in ("walk", "exact", "vCPU-hours", "check yours", "ms to decode a row"):
        assert said in " ".join(out.split())


def test_epochs_and_weights(small_config: pathlib.Path, capsys: Any) -> None:
    found = plan(capsys, small_config, "--steps", "1000", "--batch_size", "32")
    for entry in found["datasets"].values():
        assert entry["weight"] == pytest.approx(1 / 3)
        assert entry["epochs"] == pytest.approx(1000 * 32 / 3 / entry["train_rows"])


def test_only_named_data_sets_are_planned(
    small_config: pathlib.Path, capsys: Any
) -> None:
    whole = plan(capsys, small_config)
    some = plan(capsys, small_config, "--datasets", "text, walk")
    # In the config's order, and the mixture is theirs alone.
    names = [name for name in whole["datasets"] if name in ("walk", "text")]
    assert list(some["datasets"]) == names
    assert [entry["weight"] for entry in some["datasets"].values()] == [0.5, 0.5]
    for name, entry in some["datasets"].items():
        assert entry["rows"] == whole["datasets"][name]["rows"]
    argv = ["--config", str(small_config), "--datasets", "walk,txt"]
    assert estimate.main(argv) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "--datasets names data sets of the config, which has" in said
    assert "got 'txt'" in said


def test_dear_decoding_asks_for_raw_images(
    small_config: pathlib.Path, capsys: Any
) -> None:
    enough = plan(capsys, small_config)
    assert enough["decoding"]["store_raw"] == []
    entry = enough["datasets"]["pairs"]
    assert entry["decode_ms_a_row"] > 0
    assert entry["raw_row_bytes"] > 0
    options = ("--cores_per_accelerator", "0.001", "--rows_per_second", "1000")
    assert plan(capsys, small_config, *options)["decoding"]["store_raw"] == ["pairs"]


def test_prices_scale(small_config: pathlib.Path, capsys: Any) -> None:
    options = ("--vcpu_hour_price", "2", "--memory_gb_hour_price", "0")
    total = plan(capsys, small_config, *options)["total"]
    assert total["vcpu_hours"] > 0
    assert total["dollars"] == pytest.approx(2 * total["vcpu_hours"])


def test_a_build_that_would_fail_is_told(tmp_path: pathlib.Path, capsys: Any) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\nnot json\n')
    config = raw_inputs.write_config(
        tmp_path / "build.yaml",
        [{"name": "text", "format": "text", "paths": ["*.jsonl"]}],
    )
    entry = plan(capsys, config, code=1)["datasets"]["text"]
    assert "may be quarantined" in entry["failure"]
    assert entry["quarantined"] == {"corrupt_record": 1}
    assert "a.jsonl/1" in entry["problems"][0]
    assert entry["rows"] == 1


def test_input_without_documents_is_told(tmp_path: pathlib.Path, capsys: Any) -> None:
    (tmp_path / "a.jsonl").write_text("")
    config = raw_inputs.write_config(
        tmp_path / "build.yaml",
        [{"name": "text", "format": "text", "paths": ["*.jsonl"]}],
    )
    entry = plan(capsys, config, code=1)["datasets"]["text"]
    assert "no documents were found" in entry["failure"]
    assert entry["rows"] == 0
    assert entry["epochs"] is None


@pytest.mark.parametrize(
    ("settings", "paths", "said"),
    [
        ({"shard_byte": 1}, "*.jsonl", "shard_bytes"),
        ({"text_tokenizer": "none.model"}, "*.jsonl", "no such SentencePiece model"),
        ({}, "*.parquet", "nothing matches"),
    ],
)
def test_a_bad_config_is_an_error_of_usage(
    tmp_path: pathlib.Path,
    capsys: Any,
    settings: dict[str, Any],
    paths: str,
    said: str,
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\n')
    config = raw_inputs.write_config(
        tmp_path / "build.yaml",
        [{"name": "text", "format": "text", "paths": [paths]}],
        **settings,
    )
    assert estimate.main(["--config", str(config)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [("--sample", "0"), ("--batch_size", "x"), ("--overhead", "nan")]
)
def test_options_out_of_range(option: tuple[str, str], capsys: Any) -> None:
    with pytest.raises(SystemExit, match="2"):
        estimate.main(["--config", "build.yaml", *option])
    assert f"is meant, got {option[1]!r}" in capsys.readouterr().err


def test_packing_of_a_shard_leaves_less_padding_than_that_of_a_sample() -> None:
    lengths = {700: 1.0, 500: 2.0, 300: 3.0, 100: 1.0}
    few = figures.padding_share(lengths, 1024, 7)
    many = figures.padding_share(lengths, 1024, 7000)
    assert 0 < many < few
    # Twice the weights are the same mixture.
    doubled = {size: 2 * weight for size, weight in lengths.items()}
    assert figures.padding_share(doubled, 1024, 7000) == many


def test_a_data_set_without_rows_has_no_share(small_config: pathlib.Path) -> None:
    config = configs.load_config(str(small_config))
    text = TextTokenizer.load(config.text_tokenizer)
    found = figures.estimate_dataset(config.datasets[2], config, text, 5)
    empty = dataclasses.replace(found, name="empty", train_rows=0)
    assert costs.shares([found, empty], {"text": 4.0, "empty": 4.0}) == {"text": 1.0}
    assert costs.epochs(empty, 0.0, 100, 100) is None
    assert costs.epochs(found, 0.5, 2 * found.train_rows, 1) == 1.0

"""The build config: defaults of the design, and errors that name the place and key."""

import pathlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gato.schemas.config import BuildConfig, load_config, parse_bytes, parse_config
from gato.schemas.errors import UsageError

MINIMAL = """
text_tokenizer: vocab/text32k.model
datasets:
  - name: babyai
    format: minari
    paths: [raw/babyai/*]
"""


def parsed(more: str = "", dataset: str = "") -> BuildConfig:
    indented = "".join(f"    {line}\n" for line in dataset.splitlines())
    return parse_config(f"{MINIMAL}{indented}{more}", "build.yaml")


def problem(more: str = "", dataset: str = "") -> str:
    with pytest.raises(UsageError) as caught:
        parsed(more, dataset)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith("build.yaml: ")
    return str(caught.value)


def test_defaults_of_the_design() -> None:
    config = parsed()
    assert (config.seed, config.sequence_length) == (0, 1024)
    assert (config.expert_fraction, config.validation_fraction) == (0.8, 0.01)
    prompts = config.prompts
    assert (prompts.fraction, prompts.tail_fraction) == (0.25, 0.5)
    assert prompts.max_tokens == 512
    assert config.loss.text_observations
    assert config.loss.questions
    assert config.loss.prompts
    assert config.shard_bytes == 128 * 1024 * 1024
    assert config.shuffle_block == 0
    assert config.max_quarantine_fraction == 0.01
    (dataset,) = config.datasets
    assert dataset.filter.by == "return"
    assert dataset.tasks.include == ("*",)
    assert dataset.tasks.exclude == ()
    assert dataset.observations.include == ("*",)
    assert (dataset.actions.scale, dataset.actions.clip) == ("auto", False)
    assert dataset.image.encoding == "png"
    assert dataset.image.resize is None
    assert dataset.max_episodes is dataset.num_shards is dataset.task is None


@pytest.mark.parametrize(
    ("more", "dataset", "expected"),
    [
        ("sead: 1", "", "sead: unknown key 'sead'; did you mean 'seed'?"),
        ("loss: {prompt: 1}", "", "loss.prompt: .* did you mean 'prompts'"),
        ("", "filtre: {by: none}", r"datasets\.0\.filtre: .* did you mean 'filter'"),
        ("", "image: {rezise: null}", r"image\.rezise: .* did you mean 'resize'"),
        ("", "weight: 0", r"datasets\.0\.weight: .*greater than 0"),
        ("", "weight: .inf", r"datasets\.0\.weight: "),
        ("", "weight: .nan", r"datasets\.0\.weight: "),
        ("", "num_shards: 0", r"datasets\.0\.num_shards: "),
        ("", "filter: {by: score}", "'return', 'success' or 'none'"),
        ("", "image: {resize: [100, 64]}", "multiples of 16, got .100, 64."),
        ("", "image: {resize: [0, 16]}", "multiples of 16"),
        ("", "actions: {scale: [[0], [0]]}", "low < high"),
        ("", "actions: {scale: [[0, 1], [2]]}", "as many lows as highs"),
        ("", "actions: {scale: wide}", r"actions\.scale"),
        ("", "text_key: text", "'text_key' is not an option of format 'minari'"),
        ("", "document: line", "'document' is not an option of format 'minari'"),
        ("", "images: photos", "'images' is not an option of format 'minari'"),
        ("sequence_length: 7", "", "sequence_length: "),
        ("sequence_length: 32768", "", "sequence_length: "),
        ("sequence_length: 512", "", "leaves room for a body only below"),
        ("expert_fraction: 1.5", "", "expert_fraction: "),
        ("seed: -1", "", "seed: "),
        ("seed: 18446744073709551616", "", "seed: "),
        ("shard_bytes: 12parsecs", "", "a size is a number and one of"),
        ("seed: 0\nseed: 1", "", "the key 'seed' stands twice"),
        ("seed: [", "", "not YAML"),
    ],
)
def test_problems_name_place_and_key(more: str, dataset: str, expected: str) -> None:
    assert re.search(expected, problem(more, dataset))


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "é", "a b"])
def test_a_dataset_name_is_a_folder(name: str) -> None:
    text = MINIMAL.replace("babyai\n", f"'{name}'\n", 1)
    with pytest.raises(UsageError, match="a data set's name is a folder"):
        parse_config(text, "build.yaml")


def test_every_problem_is_told_at_once() -> None:
    lines = problem("sead: 1\nloss: {prompt: 1}").splitlines()
    assert len(lines) == 2


def test_names_are_unique() -> None:
    twice = MINIMAL + MINIMAL.split("datasets:\n")[1]
    with pytest.raises(UsageError, match="unique, got 'babyai' twice"):
        parse_config(twice, "build.yaml")


@pytest.mark.parametrize("text", ["", "[]", "seed", "1", b"\xff\xfe\x00"])
def test_what_is_no_mapping_is_refused(text: str | bytes) -> None:
    with pytest.raises(UsageError, match=r"build\.yaml: (a build config is|not YAML)"):
        parse_config(text, "build.yaml")


def test_missing_keys_are_named() -> None:
    with pytest.raises(UsageError, match="text_tokenizer: this key is required"):
        parse_config("datasets: []", "build.yaml")


def test_a_misspelt_required_key_is_told_once() -> None:
    text = "text_tokenizer: x\ndatasets:\n - {name: r, format: minari, path: [a]}"
    with pytest.raises(UsageError) as caught:
        parse_config(text, "build.yaml")
    (line,) = str(caught.value).splitlines()
    assert "datasets.0.path: unknown key 'path'; did you mean 'paths'?" in line


def test_prompts_may_be_off_at_any_length() -> None:
    config = parsed("sequence_length: 64\nprompts: {fraction: 0}")
    assert config.prompts.fraction == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("128MiB", 128 << 20),
        ("1GB", 10**9),
        ("1.5 KiB", 1536),
        ("7", 7),
        ("0B", 0),
        (12, 12),
    ],
)
def test_sizes(text: str | int, expected: int) -> None:
    assert parse_bytes(text) == expected


@given(st.text(max_size=8))
def test_any_other_size_is_a_message(text: str) -> None:
    try:
        assert parse_bytes(text) >= 0
    except ValueError as error:
        assert "a size is a number" in str(error)  # noqa: PT017 - either is right


@pytest.mark.parametrize("value", ["yes", "1", "[1, 2]"])
def test_a_scale_of_bounds(value: str) -> None:
    config = parsed(dataset="actions: {scale: [[-2, 0], [2, 1.5]]}")
    assert config.datasets[0].actions.scale == ((-2.0, 0.0), (2.0, 1.5))
    assert "actions.scale" in problem(dataset=f"actions: {{scale: {value}}}")


def test_paths_are_relative_to_the_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "configs" / "build.yaml"
    path.parent.mkdir()
    path.write_text(MINIMAL.replace("raw/babyai/*", "raw/*, /abs/*, gs://b/*"))
    config = load_config(str(path))
    assert config.text_tokenizer == f"{path.parent}/vocab/text32k.model"
    assert config.datasets[0].paths == (
        f"{path.parent}/raw/*",
        "/abs/*",
        "gs://b/*",
    )


def test_a_missing_config_is_told(tmp_path: pathlib.Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(UsageError, match="no such build config"):
            load_config(str(path))


def test_a_resolved_config_reads_back() -> None:
    config = parsed(dataset="actions: {scale: [[-2, 0], [2, 1.5]]}")
    assert BuildConfig.model_validate(config.model_dump(mode="json")) == config

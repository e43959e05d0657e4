"""Presets and `--set`: values by type, unknown keys with the nearest."""

import dataclasses

import jax
import pytest

from gato.model.config import PAPER_VOCABULARY, override
from gato.model.configs import PRESETS
from gato.model.describe import count_parameters, describe
from gato.model.step import Model
from gato.schemas.errors import UsageError


def model_of(name, **changes):
    config = PRESETS[name]()
    config = dataclasses.replace(
        config, model=dataclasses.replace(config.model, **changes)
    )
    return Model(config, vocabulary_size=PAPER_VOCABULARY, sequence_length=1024)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("embedder", ["linear", "resnet"])
def test_parameters_are_those_of_the_formula(name, embedder):
    model = model_of(name, patch_embedder=embedder)
    c = model.config.model
    attention = 4 * c.width**2
    if c.positions == "xl":  # the matrix of distances, two vectors for each head
        attention += c.width**2 + 2 * c.width
    blocks = c.blocks * (attention + 1.5 * c.width * c.feed_forward + 2 * c.width)
    # Rows of the table, local and patch positions, the actions' vector, the last norm.
    tables = (33_152 + 512 + 2 * 128 + 1 + 1) * c.width
    convolutions = 9 * 64 * (3 + 64 + 64) + 4 * 64
    patches = 768 * c.width if embedder == "linear" else convolutions + 1024 * c.width
    found = describe(model, {"data": 1, "fsdp": 1, "tensor": 1})
    assert found["parameters"] == blocks + tables + patches
    published = {"1.18b": 1.18e9, "364m": 364e6, "79m": 79e6}
    if name in published and embedder == "resnet":
        assert found["parameters"] == pytest.approx(published[name], rel=0.015)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("1.18b", (24, 16, 2048, 8192, 128)),
        ("364m", (12, 12, 1536, 6144, 128)),
        ("79m", (8, 24, 768, 3072, 32)),
    ],
)
def test_presets_are_the_papers(name, shape):
    config = PRESETS[name]()
    c = config.model
    assert (c.blocks, c.heads, c.width, c.feed_forward, c.head_size) == shape
    assert (config.data.batch_size, config.steps) == (512, 1_000_000)
    assert c.stochastic_depth == 0.1
    assert (c.patch_embedder, c.positions) == ("resnet", "xl")
    assert config.loss_normalization == "token"


def test_the_tiny_preset_is_tiny():
    parameters = jax.eval_shape(model_of("tiny").initial)
    table = count_parameters(parameters["embed"]["table_VD"])
    assert 1e6 < count_parameters(parameters) - table < 2e6


def test_learned_positions_add_one_vector_a_slot():
    rope, learned = model_of("tiny"), model_of("tiny", positions="learned")
    sizes = [count_parameters(jax.eval_shape(one.initial)) for one in (rope, learned)]
    assert sizes[1] - sizes[0] == 1024 * 128


def test_memory_falls_with_the_axes_that_split_parameters():
    model = model_of("1.18b")
    whole = describe(model, {"data": 8, "fsdp": 1, "tensor": 1})["memory"]
    split = describe(model, {"data": 1, "fsdp": 4, "tensor": 2})["memory"]
    for key, size in whole.items():
        assert size / 8.1 < split[key] < size / 7.9
    assert whole["optimizer_bytes_per_device"] == pytest.approx(
        2 * whole["parameter_bytes_per_device"], rel=1e-6
    )


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("checkpoint.every", "1e2", 100),
        ("optimizer.peak_lr", "3e-4", 3e-4),
        ("optimizer.decay_steps", "none", None),
        ("optimizer.decay_steps", "50", 50),
        ("model.positions", "learned", "learned"),
        ("steps", "7", 7),
        ("predict_observations", "true", True),
        ("predict_observations", "False", False),
    ],
)
def test_overrides_have_the_type_of_their_key(key, text, value):
    config = override(PRESETS["79m"](), key, text)
    for part in key.split("."):
        config = getattr(config, part)
    assert config == value
    assert type(config) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("checkpoint.evry", "1", "did you mean 'every'"),
        ("chekpoint.every", "1", "did you mean 'checkpoint'"),
        ("checkpoint", "1", "is a group; its keys: checkpoint.every"),
        ("steps.every", "1", "'steps' is a single value"),
        ("steps", "1.5", "a value of type int is needed, got '1.5'"),
        ("optimizer.peak_lr", "fast", "a value of type float is needed"),
        ("model.positions", "xyz", "the choices are xl, rope, learned"),
        ("model.head_size", "33", "head_size is even"),
        ("model.feed_forward", "33", "is split in half"),
        ("model.stochastic_depth", "1", r"a chance in \[0, 1\)"),
        ("data.batch_size", "0", "data.batch_size is at least 1"),
        ("steps", "inf", "a value of type int is needed"),
        ("model.dropout", "1", r"a chance in \[0, 1\)"),
        ("predict_observations", "yes", "a value of type bool is needed, got 'yes'"),
    ],
)
def test_wrong_overrides_say_what_is_allowed(key, text, said):
    with pytest.raises(UsageError, match=said):
        override(PRESETS["tiny"](), key, text)

"""Each preset's whole training step is lowered, on abstract arrays over a mesh."""

import jax
import pytest

from gato.model.compile import lower_step
from gato.model.config import PAPER_VOCABULARY, override
from gato.model.configs import PRESETS
from gato.model.sharding import check_mesh, make_mesh
from gato.model.step import Model, make_initial_state

LENGTH = 1024
ROWS, PATCHES = 16, 128
SIZES = {"data": 2, "fsdp": 2, "tensor": 2}


def lowered(name: str, *changes: tuple[str, str]) -> str:
    """Returns the step of a preset as StableHLO."""
    config = PRESETS[name]()
    for key, value in (("data.batch_size", str(ROWS)), *changes):
        config = override(config, key, value)
    check_mesh(SIZES, config)
    model = Model(config, vocabulary_size=PAPER_VOCABULARY, sequence_length=LENGTH)
    return lower_step(model, make_mesh(SIZES), PATCHES).as_text()


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_step_of_each_preset_is_lowered(name):
    text = lowered(name)
    config = PRESETS[name]()
    model = config.model
    # The scanned feed-forward weights, stacked over blocks, and the padded table.
    hidden = model.feed_forward // 2
    assert f"tensor<{model.blocks}x{hidden}x{model.width}xf32>" in text
    assert f"tensor<33152x{model.width}xf32>" in text
    # Blocks are one loop's body and not written out.
    assert "stablehlo.while" in text
    assert (model.compute_dtype == "bfloat16") == ("xbf16>" in text)
    # State is donated: each of its arrays may be written in place.
    leaves = len(jax.tree.leaves(_abstract(config)))
    given = text.count("jax.buffer_donor") + text.count("tf.aliasing_output")
    assert given == leaves


def _abstract(config):
    model = Model(config, vocabulary_size=PAPER_VOCABULARY, sequence_length=LENGTH)
    return jax.eval_shape(make_initial_state(model))


@pytest.mark.parametrize(
    "changes",
    [
        (("model.positions", "rope"),),
        (("model.positions", "learned"), ("model.patch_embedder", "linear")),
        (("microbatches", "4"), ("model.remat", "block")),
    ],
)
def test_the_largest_is_lowered_in_its_other_forms_too(changes):
    assert "tensor<33152x2048xf32>" in lowered("1.18b", *changes)

"""Return-conditioned builds, from the config's key to what the policy observes."""

import dataclasses
import json

import numpy as np
import pytest
import raw_inputs
from building import run_build

from gato.model.control import ControlDataset
from gato.pipelines import verify
from gato.schemas.config import BuildConfig, Dataset
from gato.schemas.episode import Episode
from gato.schemas.errors import QuarantineError, Reason
from gato.schemas.record import Kind, decode_row
from gato.schemas.tfrecord import iterate_records
from gato.tokenizers.continuous import encode_observation
from gato.tokenizers.returns import RETURN_KEY, observe_return
from gato.tokenizers.spec import infer_spec

LENGTH = 128
FIRST_BIN = 32_000
DIVISOR = 10
ENTRY = {
    "name": "walk",
    "format": "minari",
    "paths": ["raw/toy/walk/*"],
    "filter": {"by": "none"},
}


def episode(**observations):
    return Episode(
        episode_id="e/0",
        source="raw",
        number=0,
        task="t",
        agent="a",
        observations=observations,
        actions={"action": np.zeros((3, 1), np.float32)},
        action_spaces={},
        rewards=np.array([0.1, 0.2, 0.3]),
    )


def dataset(**changes):
    fields = {"name": "d", "format": "minari", "paths": ("x",)}
    return Dataset.model_validate({**fields, "condition_on_return": True, **changes})


def test_the_return_is_one_observation_among_the_others():
    one = episode(Zeal=np.zeros((3, 2)), ant=np.zeros((3, 2)))
    seen = observe_return(one, 1.0)
    assert list(seen.observations[RETURN_KEY]) == [0.6, 0.6, 0.6]
    divided = observe_return(one, 4.0)
    assert list(divided.observations[RETURN_KEY]) == [0.15, 0.15, 0.15]
    assert RETURN_KEY not in one.observations
    for include in (["*"], ["Zeal", "ant"]):
        chosen = dataset(observations={"include": include})
        spec = infer_spec(seen, chosen)
        assert [item.key for item in spec.observations] == ["Zeal", RETURN_KEY, "ant"]
        item = spec.observations[1]
        assert (item.kind, item.shape) == ("continuous", ())
    with pytest.raises(QuarantineError) as caught:
        observe_return(seen, 1.0)
    assert caught.value.reason == Reason.UNSUPPORTED


def test_returns_that_would_look_alike_are_refused():
    walk = episode(ant=np.zeros((3, 2)))
    for reached in (-512.0, 512.0):
        one = dataclasses.replace(walk, rewards=np.array([reached / 2, reached / 2, 0]))
        assert observe_return(one, 2.0).observations[RETURN_KEY][0] == reached / 2
        with pytest.raises(QuarantineError, match="Give a larger number") as caught:
            observe_return(one, 1.9)
        assert caught.value.reason == Reason.UNSUPPORTED


@pytest.mark.parametrize("given", [-1, ".nan", float("inf"), "much"])
def test_what_divides_returns_is_a_number_above_0(given):
    with pytest.raises(ValueError, match="condition_on_return"):
        dataset(condition_on_return=given)


def test_documents_have_no_return():
    with pytest.raises(ValueError, match=r"of episodes.*'text' holds documents"):
        dataset(format="text")


def test_without_the_option_nothing_says_that_there_is_one():
    plain = dataset(condition_on_return=False)
    assert "condition_on_return" not in plain.model_dump(mode="json")
    assert Dataset.model_validate(plain.model_dump(mode="json")) == plain
    for given in (True, 1000, 0.5):
        content = dataset(condition_on_return=given).model_dump(mode="json")
        assert content["condition_on_return"] == given
        again = Dataset.model_validate(content)
        assert again.condition_on_return == float(given)
    config = BuildConfig(text_tokenizer="t.model", datasets=(plain,))
    assert "condition_on_return" not in config.model_dump_json()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A build of walks, conditioned on their returns."""
    folder = tmp_path_factory.mktemp("returns")
    raw = raw_inputs.random_walks(0, 12, returns=(-300.0, 300.0))
    raw_inputs.write_minari(folder / "raw", "toy/walk/expert-v0", raw, env_id="Walk-v0")
    config = raw_inputs.write_config(
        folder / "build.yaml",
        [ENTRY | {"condition_on_return": DIVISOR}],
        sequence_length=LENGTH,
        prompts={"max_tokens": 32},
    )
    assert run_build(config, folder / "out") == 0
    return folder / "out"


def test_each_timestep_observes_its_episodes_return(built):
    walk = ControlDataset(str(built / "walk"))
    (summary,) = walk.manifest.tasks.values()
    assert summary.spec is not None
    keys = [item.key for item in summary.spec.observations]
    assert keys == [RETURN_KEY, "observation"]
    found = set()
    for path in sorted(built.glob("walk/*-of-*.tfrecord")):
        for _, data in iterate_records(path.read_bytes(), str(path)):
            row = decode_row(data, sequence_length=LENGTH, dtype="uint16")
            for entry in row.provenance:
                prompt = entry["prompt"]
                start = entry["start"] + (prompt["length"] if prompt else 0)
                body = slice(start, entry["start"] + entry["length"])
                first = row.local_position[body] == 0
                value = np.array([entry["return"] / DIVISOR])
                expected = FIRST_BIN + int(encode_observation(value)[0])
                tokens = row.tokens[body][first]
                assert tokens.tolist() == [expected] * entry["num_steps"]
                kinds = row.kind[body][first]
                assert (kinds == Kind.CONTINUOUS_OBSERVATION).all()
                assert not row.loss_mask[body][first].any()
                found.add(entry["episode"])
    assert len(found) == 12
    manifest = json.loads((built / "walk/manifest.json").read_text())
    assert manifest["config"]["dataset"]["condition_on_return"] == DIVISOR
    assert verify.main([str(built)]) == 0


def test_the_policy_observes_the_experts_return(built):
    task = ControlDataset(str(built / "walk")).task("Walk-v0")
    assert task.summary.expert_return is not None
    seen = task.observe(np.zeros(4))
    expert = encode_observation(np.array([task.summary.expert_return / DIVISOR]))
    assert seen.tokens[0] == FIRST_BIN + int(expert[0])
    zeros = (FIRST_BIN + encode_observation(np.zeros(4))).tolist()
    assert seen.tokens[1:].tolist() == zeros
    # An environment's own observation of that name comes first.
    other = task.observe({"observation": np.zeros(4), RETURN_KEY: np.float64(-1.0)})
    assert other.tokens[0] < FIRST_BIN + 512 < seen.tokens[0]

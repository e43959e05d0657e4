"""Record, build, replay: the policy's encoder meets the ids that the builder wrote."""

import itertools
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
import raw_inputs
from building import run_build
from episodes import text_tokenizer
from minari_sets import NUM_EPISODES, nested_buffer, write_nested

from gato.model.control import ControlDataset
from gato.model.prefix import demonstration, document, join, single
from gato.schemas.errors import GatoError, QuarantineError, UsageError
from gato.schemas.record import KIND_MASK, Kind, decode_row
from gato.schemas.tfrecord import iterate_records
from gato.tokenizers.documents import question

SAMPLE = pathlib.Path(__file__).parents[1] / "testdata/sample/build"
TASK = "arms/reach"
LENGTH = 512
SEPARATOR = 33_024
BIN = 2 / 1024


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A data set of texts, images, nested numbers and three kinds of actions."""
    root = tmp_path_factory.mktemp("replay")
    write_nested(root / "raw", "hdf5", jpeg=False)
    entry = {
        "name": "arms",
        "format": "minari",
        "paths": ["raw/arms/reach/*"],
        "filter": {"by": "none"},
        "observations": {"kinds": {"depth": "image"}},
        "actions": {"scale": [[-6, -8], [6, 8]]},
    }
    config = raw_inputs.write_config(
        root / "build.yaml",
        [entry],
        sequence_length=LENGTH,
        prompts={"fraction": 0.0},
        validation_fraction=0.0,
    )
    assert run_build(config, root / "out") == 0
    return root / "out" / "arms"


@pytest.fixture(scope="module")
def task(built):
    return ControlDataset(str(built)).task(TASK)


def rows_of(path):
    return [
        decode_row(one, sequence_length=LENGTH, dtype="uint16")
        for _, one in iterate_records(path.read_bytes(), str(path))
    ]


def at_step(value: Any, step: int) -> Any:
    """What the environment gave or took at one step."""
    if isinstance(value, dict):
        return {key: at_step(item, step) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(at_step(item, step) for item in value)
    return value[step]


def replay(task, entry, tokens):
    """The slots of a segment as the policy feeds them, given its action tokens."""
    number = int(entry["episode"].rpartition("/")[2])
    buffer = nested_buffer(number, 1 + number % 5)
    parts, at = [], 0
    for step in range(entry["first_step"], entry["first_step"] + entry["num_steps"]):
        observed = task.observe(at_step(buffer.observations, step))
        at += len(observed) + 1
        acted = tokens[at : at + len(task.ranges)]
        at += len(acted)
        parts += [observed, single(SEPARATOR, Kind.SEPARATOR)]
        for token in acted.tolist():
            kind = Kind.DISCRETE_ACTION if token < 32_000 else Kind.CONTINUOUS_ACTION
            parts.append(single(token, kind))
        assert (acted >= task.ranges[:, 0]).all()
        assert (acted < task.ranges[:, 1]).all()
        decoded, done = task.decode(acted), at_step(buffer.actions, step)
        assert decoded["grip"] == done["grip"]
        np.testing.assert_array_equal(decoded["keys"], done["keys"])
        assert (abs(decoded["move"] - done["move"]) <= BIN * np.array([3, 4])).all()
    assert at == len(tokens)
    return join(parts)


def test_replaying_each_episode_gives_the_ids_of_the_rows(built, task):
    seen = set()
    for row in itertools.chain(*map(rows_of, sorted(built.glob("train-*.tfrecord")))):
        for entry in row.provenance:
            slots = slice(entry["start"], entry["start"] + entry["length"])
            fed = replay(task, entry, row.tokens[slots])
            np.testing.assert_array_equal(fed.tokens, row.tokens[slots])
            np.testing.assert_array_equal(fed.kind, row.kind[slots] & KIND_MASK)
            local = row.local_position[slots]
            np.testing.assert_array_equal(fed.local_position, local)
            seen.add(entry["episode"])
    assert len(seen) == NUM_EPISODES


def test_prompts_are_whole_timesteps_with_their_pixels(built, task):
    rows = rows_of(built / "demonstrations.tfrecord")
    assert [len(task.demonstrations), len(rows)] == [5, 5]
    for number, row in enumerate(rows):
        (entry,) = row.provenance
        whole = replay(task, entry, row.tokens[: entry["length"]])
        prompt = task.prompt(LENGTH, number)
        assert prompt is not None
        for name in ("tokens", "kind", "local_position", "patches", "patch_grid"):
            found = getattr(prompt, name)[: len(getattr(whole, name))]
            np.testing.assert_array_equal(found, getattr(whole, name))
        assert len(prompt.patches) == 12 * entry["num_steps"]
        step = len(whole) // entry["num_steps"]
        assert len(demonstration(row, step + step // 2)) == step
        assert len(demonstration(row, step)) == step
        assert task.prompt(step - 1, number) is None
    assert task.prompt(0) is None
    again = task.prompt(LENGTH, 5)
    assert again is not None
    np.testing.assert_array_equal(again.tokens, rows[0].tokens[: len(again)])


def test_a_row_of_one_timestep_is_cut_with_its_patches(task):
    prompt = task.prompt(LENGTH)
    assert prompt is not None
    image = np.flatnonzero(prompt.kind == Kind.IMAGE)
    part = prompt.part(int(image[2]), int(image[2]) + 3)
    assert np.count_nonzero(part.kind == Kind.IMAGE) == len(part.patches)
    np.testing.assert_array_equal(part.patches[0], prompt.patches[2])


@pytest.mark.parametrize("name", ["captions", "questions"])
def test_an_image_and_a_question_give_the_ids_that_a_row_begins_with(name):
    (path,) = sorted((SAMPLE / name).glob("train-*.tfrecord"))
    tokenizer = text_tokenizer()
    for row in rows_of(path):
        patches = int(np.prod(row.image_info[0, 1:3])) // 256
        text = None
        if name == "questions":
            ids = row.tokens[patches : row.provenance[0]["length"]]
            said = tokenizer.decode(ids[: list(ids).index(tokenizer.vocabulary.eos)])
            asked = said.removeprefix("Q: ").partition(" A:")[0]
            text = question(asked)
            assert said.startswith(text)
        fed = document(tokenizer, image=row.images[0], text=text)
        assert len(fed) >= patches
        np.testing.assert_array_equal(fed.tokens, row.tokens[: len(fed)])
        np.testing.assert_array_equal(fed.kind, row.kind[: len(fed)])
        assert (fed.local_position == -1).all()
        whole = demonstration(row, row.provenance[0]["length"])
        np.testing.assert_array_equal(fed.patches, whole.patches[:patches])
        np.testing.assert_array_equal(fed.patch_grid, whole.patch_grid[:patches])


def test_nothing_is_written_after_nothing():
    with pytest.raises(ValueError, match="neither"):
        document(text_tokenizer())


def test_an_observation_that_is_not_the_specs_is_named(task):
    observed = at_step(nested_buffer(0, 1).observations, 0)
    with pytest.raises(QuarantineError, match="room"):
        task.observe({key: one for key, one in observed.items() if key != "room"})
    with pytest.raises(QuarantineError, match="depth"):
        task.observe(observed | {"depth": np.zeros((48, 48), np.uint8)})


def test_what_a_build_lacks_is_said(built, tmp_path):
    data = ControlDataset(str(built))
    with pytest.raises(UsageError, match=r"no task 'arms/grasp'.*arms/reach"):
        data.task("arms/grasp")
    copy = tmp_path / "out" / "arms"
    shutil.copytree(built, copy)
    with pytest.raises(GatoError, match="there is none"):
        ControlDataset(str(copy))
    shutil.copy(built.parent / "tokenizer.model", copy.parent)
    (copy / "demonstrations.tfrecord").write_bytes(b"")
    bare = ControlDataset(str(copy)).task(TASK)
    assert bare.prompt(0) is None
    with pytest.raises(GatoError, match="prompt_tokens 0"):
        bare.prompt(64)

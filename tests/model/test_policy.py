"""Acting and speaking: the policy against the builder's rows and the whole model."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from episodes import text_tokenizer
from small_models import make_batch, random_params, small_model

from gato.model import decoding
from gato.model.policy import Policy
from gato.model.prefix import Prefix, document, single
from gato.schemas.record import Kind
from gato.tokenizers.documents import question

LENGTH = 32
TEXT = text_tokenizer().vocabulary
BINS = TEXT.first_continuous
# Action ranges of three tasks: buttons, a torque and two buttons, three torques.
BUTTON = np.array([[0, 3]], np.int32)
MIXED = np.array([[BINS, BINS + 1024], [0, 2], [0, 7]], np.int32)
TORQUES = np.array([[BINS, BINS + 1024]] * 2, np.int32)


@functools.cache
def model_and_params(positions="xl"):
    model = small_model(LENGTH, vocabulary_size=TEXT.size, positions=positions)
    return model, random_params(model)


def make(rows=3, positions="xl", **settings: Any):
    model, params = model_and_params(positions)
    settings = {"block": 8, "max_actions": 3, **settings}
    return Policy(model, params, TEXT, rows=rows, **settings)


def seen(generator, count, *, image=False):
    """An observation of `count` slots, the first four an image."""
    kind = np.full(count, Kind.CONTINUOUS_OBSERVATION, np.uint8)
    tokens = BINS + generator.integers(0, 1024, count).astype(np.int32)
    patches = 4 if image else 0
    kind[:patches], tokens[:patches] = Kind.IMAGE, 0
    grid = np.array([[0, 0, 2, 2], [0, 1, 2, 2], [1, 0, 2, 2], [1, 1, 2, 2]], np.int32)
    return Prefix(
        tokens=tokens,
        kind=kind,
        local_position=np.arange(count, dtype=np.int16),
        patches=generator.integers(0, 256, (patches, 768)).astype(np.uint8),
        patch_grid=grid[:patches],
    )


# Rows of tasks that differ in everything; one observation is longer than a block.
TASKS = ((3, BUTTON, False), (11, MIXED, True), (6, TORQUES, False))


def play(policy, tasks, steps=6, resting=()):
    """Tokens of each step of each task, and the slots that each row was fed."""
    generators = {row: np.random.default_rng(row) for row in tasks}
    policy.start({row: seen(generators[row], 5 + row) for row in tasks})
    found = {row: [] for row in tasks}
    for step in range(steps):
        acting = [row for row in tasks if (row, step) not in resting]
        chosen = policy.act(
            {
                row: (seen(generators[row], size, image=image), ranges)
                for row in acting
                for size, ranges, image in [tasks[row]]
            }
        )
        for row, tokens in chosen.items():
            found[row].append(tokens.tolist())
    return found


def test_tasks_in_one_batch_equal_each_alone_and_stay_in_their_ranges():
    tasks = dict(enumerate(TASKS))
    together = play(make(images=True), tasks)
    for row, (_, ranges, image) in tasks.items():
        tokens = np.array(together[row])
        assert tokens.shape == (6, len(ranges))
        assert (tokens >= ranges[:, 0]).all()
        assert (tokens < ranges[:, 1]).all()
        # Made for this task alone, nothing of it is padding.
        policy = make(images=image, max_actions=len(ranges))
        alone = play(policy, {row: tasks[row]})
        assert alone[row] == together[row]
    # The weights are random: what is chosen follows from what is seen.
    assert len({tuple(step) for step in together[2]}) > 1


def test_a_row_that_rests_goes_on_where_it_was():
    tasks = dict(enumerate(TASKS))
    whole = play(make(images=True), tasks)
    rested = play(make(images=True), tasks, steps=7, resting={(1, 2), (0, 0), (2, 6)})
    assert rested[1] == whole[1]
    assert rested[0] == whole[0]
    assert rested[2] == whole[2]


def test_a_row_that_starts_again_remembers_nothing():
    tasks = dict(enumerate(TASKS))
    policy = make(images=True)
    first = play(policy, tasks)
    assert play(policy, tasks) == first


def test_everything_is_compiled_once_whatever_the_tasks(monkeypatch):
    traced = {"read": 0, "act": 0}

    def counting(name):
        original = getattr(decoding.Decoding, name)

        def count(self, weights, cache, slots, *rest):
            # `act` reads with the same code, and feeds single slots with it.
            traced[name] += 1
            return original(self, weights, cache, slots, *rest)

        return count

    monkeypatch.setattr(decoding.Decoding, "act", counting("act"))
    monkeypatch.setattr(decoding.Decoding, "read", counting("read"))
    policy = make(images=True)
    play(policy, dict(enumerate(TASKS)))
    once = dict(traced)
    assert once["act"] == 1
    play(policy, {2: TASKS[0], 0: TASKS[2]}, steps=2)
    play(policy, {1: TASKS[1]}, steps=2)
    assert traced == once


@pytest.mark.parametrize("positions", ["xl", "rope"])
def test_actions_equal_those_of_the_whole_model(positions):
    """Recomputed from the slots' beginning at each token, while they fit L."""
    model, params = model_and_params(positions)
    generator = np.random.default_rng(0)
    policy = make(rows=1, positions=positions, max_actions=2)
    policy.start({0: None})
    fed: list[Prefix] = []
    hidden = jax.jit(model.hidden)
    table = params["embed"]["table_VD"]
    for _ in range(4):
        observed = seen(generator, 4)
        tokens = policy.act({0: (observed, TORQUES)})[0].tolist()
        fed += [observed, single(TEXT.separator, Kind.SEPARATOR)]
        for token in tokens:
            logits = table[BINS : BINS + 1024] @ last_vector(hidden, params, fed)
            assert token == BINS + int(np.argmax(logits))
            fed.append(single(token, Kind.CONTINUOUS_ACTION))


@pytest.mark.parametrize(
    ("prompt", "remembered"),
    [
        # A row has 32 slots, a timestep 7. With a prompt of 6 three fit; the fourth
        # begins a row with two, since one does not fill half of what is left for them.
        (6, [0, 1, 2, 2, 2, 2]),
        (0, [0, 1, 2, 3, 2, 3, 2, 3]),
        # With nothing before it one timestep fits, and none beside the next.
        (20, [0, 0, 0]),
    ],
)
def test_a_full_row_begins_anew_with_its_prompt_and_newest_timesteps(
    prompt, remembered
):
    model, params = model_and_params()
    generator = np.random.default_rng(0)
    shown = seen(generator, prompt) if prompt else None
    policy = make(rows=2, max_actions=2, memory="rows")
    policy.start({1: shown})
    timesteps: list[list[Prefix]] = []
    hidden = jax.jit(model.hidden)
    table = params["embed"]["table_VD"]
    for count in remembered:
        observed = seen(generator, 4)
        tokens = policy.act({1: (observed, TORQUES)})[1].tolist()
        newest = timesteps[len(timesteps) - count :]
        fed = [shown] if shown is not None else []
        fed += [slot for timestep in newest for slot in timestep]
        timesteps.append([observed, single(TEXT.separator, Kind.SEPARATOR)])
        fed += timesteps[-1]
        for token in tokens:
            logits = table[BINS : BINS + 1024] @ last_vector(hidden, params, fed)
            assert token == BINS + int(np.argmax(logits))
            timesteps[-1].append(single(token, Kind.CONTINUOUS_ACTION))
            fed.append(timesteps[-1][-1])


def test_rows_that_begin_anew_leave_the_others_and_draw_other_numbers():
    tasks = {row: TASKS[row] for row in (1, 2)}
    settings = {"images": True, "temperature": 1.0, "memory": "rows"}
    found = play(make(**settings), tasks, steps=12)
    assert play(make(**settings), {2: TASKS[2]}, steps=12)[2] == found[2]
    # A row begun anew is as long as the one before, and its draws are not the same.
    policy = make(rows=1, max_actions=2, temperature=1e9, memory="rows")
    policy.start({0: None})
    observed = seen(np.random.default_rng(0), 4)
    drawn = [tuple(policy.act({0: (observed, TORQUES)})[0]) for _ in range(12)]
    assert len(set(drawn)) == 12


def last_vector(hidden, params, parts):
    tokens, kind, local = np.zeros((3, LENGTH), np.int32)
    at = 0
    for part in parts:
        end = at + len(part)
        tokens[at:end], kind[at:end] = part.tokens, part.kind
        local[at:end] = part.local_position
        at = end
    patches = np.concatenate([part.patches for part in parts])
    batch = make_batch(
        [tokens],
        kind=kind,
        segment=np.arange(LENGTH) < at,
        local=np.where(kind > 0, local, -1),
        patches=patches if len(patches) else None,
    )
    return np.asarray(hidden(params, batch))[0, at - 1]


def test_draws_follow_from_the_seed_and_the_row_alone():
    tasks = dict(enumerate(TASKS))
    found = play(make(images=True, temperature=1.0), tasks)
    again = play(make(images=True, temperature=1.0), {2: TASKS[2]})
    assert again[2] == found[2]
    assert play(make(images=True, temperature=1.0, seed=1), tasks)[2] != found[2]
    tokens = np.array(found[1])
    assert ((tokens >= MIXED[:, 0]) & (tokens < MIXED[:, 1])).all()


def test_a_text_is_written_as_the_whole_model_would_and_stops_at_its_end():
    model, params = model_and_params()
    generator = np.random.default_rng(1)
    picture = seen(generator, 4, image=True)
    picture.local_position[:] = -1
    asked = document(text_tokenizer(), text=question("What?"))
    policy = make(rows=2, images=True)
    hidden = jax.jit(model.hidden)
    table = params["embed"]["table_VD"][: TEXT.text]

    def expected(parts, ids):
        for token in ids:
            assert token == int(np.argmax(table @ last_vector(hidden, params, parts)))
            parts = [*parts, single(token, Kind.TEXT)]
        return parts

    policy.start({0: picture, 1: asked})
    written = policy.write([0, 1], 6)
    assert [len(ids) for ids in written.values()] == [6, 6]
    after = expected([picture], written[0].tolist())
    expected([asked], written[1].tolist())
    # Now the likeliest token after three is the end.
    vector = last_vector(hidden, params, after[:4])
    ending = dict(params["embed"], table_VD=np.array(params["embed"]["table_VD"]))
    ending["table_VD"][TEXT.eos] = 3 * vector / np.linalg.norm(vector)
    other = Policy(
        model, params | {"embed": ending}, TEXT, rows=1, block=8, images=True
    )
    other.start({0: picture})
    short = other.write([0], 6)[0].tolist()
    assert len(short) < 6
    assert short == written[0].tolist()[: len(short)]


def test_a_row_that_does_not_fit_the_policy_is_refused():
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match="max_actions"):
        make(max_actions=1).act({0: (seen(generator, 3), MIXED)})
    with pytest.raises(ValueError, match="images=True"):
        make().act({0: (seen(generator, 6, image=True), MIXED)})

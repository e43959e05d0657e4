"""Whose demonstrations an episode is prompted with."""

import dataclasses

import numpy as np
import pytest
from suites import GRID, SUPPORT, TASK, Stubborn, play, trained, write_suite

from gato.model import evaluate
from gato.model.evaluation.prompting import exchanged_prompts
from gato.model.evaluation.suite import load_suite
from gato.schemas.errors import UsageError

OTHER = "BabyAI-PickupLoc-v0"


@pytest.fixture(autouse=True)
def _toys_are_found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))


def _prompts(suite, prompters_of=None):
    """Returns each task's prompt, of the number of the first episode's row."""
    policy = Stubborn(rows=2)
    play(suite, policy, 1, prompt_tokens=512, prompters_of=prompters_of)
    (started,) = policy.started
    return [started[row].tokens for row in (0, 1)]


def test_exchanged_prompts_are_the_other_tasks_own(tmp_path):
    suite = write_suite(tmp_path / "s.yaml", {}, {"task": OTHER})
    own, exchanged = _prompts(suite), _prompts(suite, exchanged_prompts)
    np.testing.assert_array_equal(own[0], exchanged[1])
    np.testing.assert_array_equal(own[1], exchanged[0])
    assert not np.array_equal(own[0], own[1])


def test_tasks_are_exchanged_in_a_circle_and_the_same_task_twice_is_one(tmp_path):
    tasks = ({}, {"max_steps": 3}, {"task": OTHER})
    contests = load_suite(write_suite(tmp_path / "s.yaml", *tasks), trained())
    others = [one.entry.name for one in exchanged_prompts(contests)]
    assert others == [OTHER, OTHER, TASK]


def test_a_task_without_another_is_refused(tmp_path):
    suite = write_suite(tmp_path / "s.yaml", {}, {"environment": GRID})
    with pytest.raises(UsageError, match=f"{TASK}: --ablate exchange_prompts takes"):
        exchanged_prompts(load_suite(suite, trained()))


def test_prompts_are_as_long_as_in_each_tasks_own_training(tmp_path):
    contests = load_suite(write_suite(tmp_path / "s.yaml", {}, {}), trained())
    contests[1].control = dataclasses.replace(contests[1].control, trained_prompt=400)
    assert evaluate.prompt_lengths(contests, 512, "rows") == [256, 400]
    assert evaluate.prompt_lengths(contests, 300, "rows") == [256, 300]
    assert evaluate.prompt_lengths(contests, 512, "band") == [512, 512]
    assert evaluate.prompt_lengths(contests, 512, "rows", asked=7) == [7, 7]


def test_each_task_has_prompts_of_its_own_length(tmp_path):
    suite = write_suite(tmp_path / "s.yaml", {}, {"task": OTHER})
    policy = Stubborn(rows=2)
    _, episodes = play(suite, policy, 1, prompt_tokens=[512, 200])
    lengths = {one.task: one.prompt_tokens for one in episodes}
    assert 200 < lengths[0] <= 512
    assert 0 < lengths[1] <= 200
    assert [len(policy.started[0][row]) for row in (0, 1)] == [lengths[0], lengths[1]]
    (idle, _) = play(suite, Stubborn(rows=2), 1, prompt_tokens=0)[1]
    assert idle.prompt_tokens == 0


def test_the_command_refuses_to_exchange_what_is_not_there(tmp_path, capsys):
    contests = load_suite(write_suite(tmp_path / "s.yaml", {}), trained())
    command = "--checkpoint c --suite s --ablate exchange_prompts --prompt_tokens 0"
    arguments = evaluate._parser().parse_args(command.split())
    with pytest.raises(UsageError, match="Leave one of the two out"):
        evaluate._check(arguments, contests, 512)

"""Suites over the sample build and toy environments, and what is scored on them."""

import pathlib

import numpy as np
import yaml
from small_models import small_model

from gato.model.control import ControlDataset
from gato.model.evaluation.observing import as_it_is
from gato.model.evaluation.rollouts import Arena, evaluation_seeds
from gato.model.evaluation.suite import load_suite
from gato.model.weights import Trained

SUPPORT = pathlib.Path(__file__).parent
BUILD = SUPPORT.parent / "testdata/sample/build"
BABYAI = BUILD / "babyai"
TASK = "BabyAI-GoToObj-v0"
GRID = "toy_environments:Grid-v0"


def trained(datasets=None, **changes):
    """A checkpoint without weights, of the sample build's vocabulary.

    `datasets` are those it was trained on, each with its fingerprint.
    """
    manifest = ControlDataset(str(BABYAI)).manifest
    fields = {
        "model": small_model(512, vocabulary_size=manifest.vocabulary.size),
        "params": {},
        "step": 7,
        "vocabulary": manifest.vocabulary,
        "run": {
            "datasets": {
                name: {"fingerprint": fingerprint}
                for name, fingerprint in (datasets or {}).items()
            }
        },
    }
    return Trained(**(fields | changes))


def write_suite(path, *tasks, data=BABYAI):
    """Writes a suite of one domain; tasks are the Grid unless they say more."""
    entries = [{"task": TASK, "environment": GRID} | one for one in tasks]
    content = {"domains": {"grids": {"data": str(data), "tasks": entries}}}
    path.write_text(yaml.safe_dump(content))
    return str(path)


class Stubborn:
    """A policy that takes one action; it notes what it is shown."""

    def __init__(self, rows, action=2):
        self.rows = rows
        self._action = action
        self.started = []
        self.acting = []

    def start(self, prefixes):
        self.started.append(prefixes)

    def act(self, observations):
        self.acting.append(sorted(observations))
        assert all(len(seen) > 148 for seen, _ in observations.values())
        return {row: np.array([self._action]) for row in observations}


def play(
    suite,
    policy,
    episodes,
    answer_seconds=30.0,
    prompt_tokens: int | list[int] = 0,
    observer=None,
    prompters_of=None,
):
    """Plays a suite; returns its tasks and episodes.

    `prompt_tokens` is of all tasks, or a list.
    """
    contests = load_suite(suite, trained())
    lengths = prompt_tokens
    if isinstance(lengths, int):
        lengths = [lengths] * len(contests)
    arena = Arena(
        contests,
        policy,
        lengths,
        answer_seconds,
        observer or as_it_is,
        prompters=prompters_of(contests) if prompters_of else None,
    )
    try:
        seeds = evaluation_seeds(0, episodes)
        return contests, list(arena.play(seeds))
    finally:
        arena.close()

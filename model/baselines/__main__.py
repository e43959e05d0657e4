"""Plays a suite with policies to compare with: random, and filtered cloning.

    python -m gato.model.baselines --shards 'build/*/train-*' \
        --suite configs/suites/babyai.yaml --output runs/baselines

Same environments, seeds and scores as gato-evaluate's; each policy's result is a JSON
file of the same form, which `gato-evaluate --beside` shows next to a checkpoint's.
`bc_imp` trains one network a task on the shards first.
"""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import rich.console

from gato.model.baselines.actors import CloningActor, RandomActor
from gato.model.baselines.cloning import CloningConfig, clone
from gato.model.baselines.timesteps import read_demonstrations
from gato.model.command import run_command
from gato.model.evaluation.report import TABLE_WIDTH, Report
from gato.model.evaluation.rollouts import Actor, Arena, Episode, evaluation_seeds
from gato.model.evaluation.suite import Contest, Training, load_suite
from gato.model.shards import find_datasets
from gato.schemas.errors import UsageError
from gato.tokenizers.vocabulary import Vocabulary

_POLICIES = ("random", "bc_imp")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gato.model.baselines",
        description="Plays a suite with a random policy and with behaviour cloning.",
    )
    add = parser.add_argument
    add("--shards", required=True, nargs="+", metavar="GLOB", help="to learn from")
    add("--suite", required=True, metavar="FILE", help="the tasks, as YAML")
    add("--output", required=True, metavar="DIR", help="<policy>-<suite>.json go here")
    add("--policies", nargs="+", choices=_POLICIES, default=_POLICIES, help="(both)")
    add("--episodes", type=int, default=50, help="of each task (%(default)s)")
    add("--batch", type=int, default=16, help="environments at a time (%(default)s)")
    add("--first_seed", type=int, default=0, help="environments' seeds, from 2**30 on")
    default = CloningConfig()
    add("--steps", type=int, default=default.steps, help="updates (%(default)s)")
    add("--seed", type=int, default=default.seed, help="of all draws (%(default)s)")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    for flag in ("episodes", "batch", "steps"):
        if (value := getattr(arguments, flag)) < 1:
            raise UsageError(f"--{flag} is at least 1, got {value}")
    if arguments.seed < 0:
        raise UsageError(f"--seed is at least 0, got {arguments.seed}")


def _play(contest: Contest, actor: Actor, seeds: range, task: int) -> list[Episode]:
    with contextlib.closing(Arena([contest], actor, prompt_tokens=[0])) as arena:
        return [dataclasses.replace(one, task=task) for one in arena.play(seeds)]


def _random(arguments: argparse.Namespace, contests: list[Contest]) -> Any:
    seeds = evaluation_seeds(arguments.first_seed, arguments.episodes)
    rows = min(arguments.batch, len(seeds))
    episodes = []
    for task, contest in enumerate(contests):
        actor = RandomActor(rows, arguments.seed)
        episodes += _play(contest, actor, seeds, task)
    return episodes, {}


def _bc_imp(
    arguments: argparse.Namespace,
    contests: list[Contest],
    datasets: list[Any],
    console: rich.console.Console,
) -> Any:
    config = CloningConfig(steps=arguments.steps, seed=arguments.seed)
    seeds = evaluation_seeds(arguments.first_seed, arguments.episodes)
    rows = min(arguments.batch, len(seeds))
    names = [(one.control.dataset, one.control.name) for one in contests]
    found = read_demonstrations(datasets, names)
    vocabulary = Vocabulary.from_info(datasets[0].manifest.vocabulary)
    episodes, learnt = [], {}
    for name in names:
        if not found[name].actions:
            raise UsageError(
                f"{name[1]}: no successful episode of it among the shards of"
                f" {name[0]}, and cloning needs one. Give --shards that hold some, or"
                " --policies random."
            )
    for task, (name, contest) in enumerate(zip(names, contests, strict=True)):
        cloned = clone(found[name], contest.control.ranges, vocabulary, config)
        learnt[contest.entry.name] = cloned.as_json()
        console.print(
            f"{contest.entry.name}: {cloned.episodes:,} episodes,"
            f" {cloned.timesteps:,} timesteps, held-back loss"
            f" {cloned.losses[0]:.3f} to {min(cloned.losses):.3f}"
        )
        episodes += _play(contest, CloningActor(cloned, rows), seeds, task)
    return episodes, {"cloning": dataclasses.asdict(config), "learnt": learnt}


def _execute(arguments: argparse.Namespace) -> None:
    _check(arguments)
    console = rich.console.Console(stderr=True)
    datasets = find_datasets(arguments.shards)
    training = Training(
        vocabulary=datasets[0].manifest.vocabulary,
        sequence_length=datasets[0].manifest.sequence_length,
        datasets={one.name: one.identity for one in datasets},
    )
    contests = load_suite(arguments.suite, training)
    if not contests:
        raise UsageError(f"{arguments.suite}: baselines play, and it has no domains")
    folder = pathlib.Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    out = rich.console.Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    for policy in arguments.policies:
        if policy == "random":
            episodes, about = _random(arguments, contests)
        else:
            episodes, about = _bc_imp(arguments, contests, datasets, console)
        report = Report(contests, episodes)
        run = {
            "policy": policy,
            "suite": arguments.suite,
            "seed": arguments.seed,
            **about,
        }
        path = folder / f"{policy}-{pathlib.Path(arguments.suite).stem}.json"
        text = json.dumps(report.as_json(run), indent=1)
        path.write_text(text + "\n", encoding="utf-8")
        out.print(policy)
        out.print(report.table())
        console.print(f"all episodes are in {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 1 for failure or 2 for usage."""
    return run_command(_execute, _parser(), argv, "finished policies are written")


if __name__ == "__main__":
    sys.exit(main())

"""All cells of a command: which are there, and how the others are made."""

import argparse
import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import jax
import rich.console

from gato.model.checkpoint import describe_run
from gato.model.config import override
from gato.model.evaluation.rollouts import evaluation_seeds
from gato.model.evaluation.suite import Contest, load_suite
from gato.model.finetuning.demonstrations import Demonstrations, read_demonstrations
from gato.model.finetuning.options import (
    SCRATCH,
    check_numbers,
    parse_counts,
    parse_initialisations,
    tuning_config,
)
from gato.model.finetuning.results import (
    cell_path,
    read_cell,
    weights_path,
    write_json,
    write_weights,
)
from gato.model.finetuning.tuner import Tuner, best_smoothed
from gato.model.kernels import choose
from gato.model.progress import Progress
from gato.model.step import Model, State
from gato.model.weights import Trained, load_weights
from gato.schemas import files
from gato.schemas.errors import GatoError, UsageError


def _prepare(
    trained: Trained, arguments: argparse.Namespace, *, scratch: bool
) -> Trained:
    """Returns the weights in a model with the config of the fine-tuning."""
    config = tuning_config(trained.model.config, arguments)
    length = trained.model.sequence_length
    attention = choose(config.model, length, jax.devices()[0])
    model = Model(
        override(config, "model.attention", attention.kernel),
        vocabulary_size=trained.model.vocabulary_size,
        sequence_length=length,
    )
    shapes = (
        jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(one.initial))
        for one in (model, trained.model)
    )
    if next(shapes) != next(shapes):
        raise UsageError(
            "--set may not change the shapes of the weights that are fine-tuned, and"
            f" {' '.join(arguments.overrides)} does"
        )
    if not scratch:
        return dataclasses.replace(trained, model=model)
    params = jax.jit(model.initial)()
    # New weights have seen nothing.
    run = trained.run | {"datasets": {}}
    return dataclasses.replace(trained, model=model, params=params, step=0, run=run)


def _only_contest(suite: str, trained: Trained) -> Contest:
    contests = load_suite(suite, trained)
    if len(contests) != 1:
        names = ", ".join(contest.entry.name for contest in contests)
        raise UsageError(
            f"{suite}: a suite of gato-finetune holds one task, got {len(contests)}:"
            f" {names}"
        )
    return contests[0]


class Study:
    """All cells of a command.

    Attributes:
        task: The one that is fine-tuned.
        seeds: Of its environments.
        console: Where is said what goes on.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        """Checks the arguments and reads the demonstrations.

        Raises:
            UsageError: If they do not fit together.
            GatoError: If a checkpoint or a record is damaged.
        """
        check_numbers(arguments)
        if arguments.keep_weights and not files.is_local(arguments.output):
            raise UsageError(
                f"--keep_weights needs a local --output, got {arguments.output!r}"
            )
        self._arguments = arguments
        self._folders = parse_initialisations(arguments)
        self._counts = parse_counts(arguments.demonstrations)
        self.seeds = evaluation_seeds(0, arguments.episodes)
        self.console = rich.console.Console(stderr=True)
        # All are read before one is trained, so that what cannot be is said at once.
        prepared = [
            _prepare(load_weights(folder), arguments, scratch=False)
            for folder in self._folders.values()
            if folder
        ]
        contest, *_ = [_only_contest(arguments.suite, one) for one in prepared]
        length = prepared[0].model.sequence_length
        if arguments.prompt_tokens is None:
            arguments.prompt_tokens = length
        if arguments.prompt_tokens > length:
            raise UsageError(
                f"--prompt_tokens is 0 to {length}, got {arguments.prompt_tokens}"
            )
        self.task = contest.entry.name
        self._demonstrations = self._read(contest)

    def _read(self, contest: Contest) -> Demonstrations:
        found = read_demonstrations(
            self._arguments.shards,
            self.task,
            seed=self._arguments.seed,
            most=max(self._counts),
        )
        spec = found.dataset.manifest.tasks[self.task].spec
        if spec != contest.control.summary.spec:
            raise GatoError(
                f"task {self.task!r} has other observations or actions in"
                f" {found.dataset.folder} than in the suite's data set"
                f" {contest.control.dataset!r}. Name one build in both."
            )
        return found

    def run(self, progress: Progress) -> list[dict[str, Any]]:
        """Returns all cells; those not finished are made."""
        total = len(self._folders) * len(self._counts)
        bar = progress.add_task("cells", total=total)
        cells = []
        for name in self._folders:
            for cell in self._initialisation(name, progress):
                cells.append(cell)
                progress.advance(bar)
        return cells

    def _initialisation(
        self, name: str, progress: Progress
    ) -> Iterator[dict[str, Any]]:
        scratch = name == SCRATCH
        folder = self._folders[name] or next(iter(self._folders.values()))
        trained = _prepare(load_weights(folder), self._arguments, scratch=scratch)
        contest = _only_contest(self._arguments.suite, trained)
        if not contest.held_out:
            self.console.print(
                f"{name}: its training data holds {self.task}, so it has seen more"
                " than the demonstrations; the cells say held_out: false"
            )
        settings = self._settings(trained, contest, folder)
        with contextlib.ExitStack() as stack:
            tuner: Tuner | None = None
            for count in self._counts:
                path = cell_path(self._arguments.output, name, count)
                cell = read_cell(path, settings)
                kept = None
                if self._arguments.keep_weights:
                    kept = weights_path(self._arguments.output, name, count)
                if cell is None or (kept and not os.path.isdir(kept)):
                    if tuner is None:
                        tuner = self._make_tuner(trained, contest)
                        stack.enter_context(contextlib.closing(tuner))
                    cell = {
                        "initialisation": name,
                        "demonstrations": count,
                        "held_out": contest.held_out,
                        **self._tune(tuner, name, count, progress),
                        "settings": settings,
                    }
                    if kept:
                        write_weights(kept, self._tuned(trained, tuner.weights))
                    # Last: with it the cell is finished.
                    write_json(path, cell)
                yield cell

    def _tuned(self, trained: Trained, weights: State) -> Trained:
        """Returns a cell's weights as those of a run that went on from another."""
        # They may go to a device with other attention than this one's.
        config = override(trained.model.config, "model.attention", "auto")
        run = describe_run(config, [self._demonstrations.dataset])
        seen = trained.run["datasets"] | run["datasets"]
        return dataclasses.replace(
            trained, params=weights, step=config.steps, run=run | {"datasets": seen}
        )

    def _make_tuner(self, trained: Trained, contest: Contest) -> Tuner:
        return Tuner(
            trained,
            contest,
            seeds=self.seeds,
            prompt_tokens=self._arguments.prompt_tokens,
            environments=self._arguments.batch,
            temperature=self._arguments.temperature,
        )

    def _settings(
        self, trained: Trained, contest: Contest, folder: str
    ) -> dict[str, Any]:
        given = self._arguments
        config = dataclasses.asdict(trained.model.config)
        # How a batch is fetched does not decide what is in it.
        data = config.pop("data")
        return {
            "checkpoint": folder,
            "checkpoint_step": trained.step,
            "data": self._demonstrations.dataset.identity,
            "task": self.task,
            "environment": contest.entry.model_dump(mode="json"),
            "random_return": contest.random_return,
            "expert_return": contest.expert_return,
            "episodes": given.episodes,
            "evaluate_every": given.evaluate_every,
            "prompt_tokens": given.prompt_tokens,
            "temperature": given.temperature,
            "batch_size": data["batch_size"],
            "data_seed": data["seed"],
            **config,
        }

    def _tune(
        self,
        tuner: Tuner,
        name: str,
        count: int,
        progress: Progress,
    ) -> dict[str, Any]:
        what = f"{name}, {count} demonstration{'s' * (count > 1)}"
        bar = progress.add_task(what, total=self._arguments.steps)
        said = ""

        def on_step(done: int, found: str) -> None:
            nonlocal said
            said = found or said
            progress.update(bar, completed=done, description=f"{what} {said}")

        folder = files.join(self._arguments.output, "demonstrations")
        evaluations = []
        for one in tuner.run(
            self._demonstrations.write(count, folder),
            self._demonstrations.prompts(min(count, self._arguments.episodes)),
            self._arguments.evaluate_every,
            on_step,
            progress,
        ):
            evaluations.append(one)
            self.console.print(
                f"{what}: step {one['step']}, score {one['score']['mean']:.1f}"
            )
        progress.remove_task(bar)
        after = [one["score"]["mean"] for one in evaluations[1:]]
        return {
            "final": after[-1],
            "best_smoothed": best_smoothed(after),
            "evaluations": evaluations,
            "episode_ids": self._demonstrations.ids(count),
        }

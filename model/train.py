"""gato-train: trains on the shards that globs match, and goes on where it stopped.

    gato-train --shards 'build/*/train-*.tfrecord' --model tiny --steps 300 \
        --batch_size 8 --checkpoint_dir runs/tiny --set validation.every=100

The same command resumes. A batch's way: `data.py` orders rows and `rows.py` reads them,
`transformer.py` (with `embeddings.py`) predicts, `step.py` updates.
"""

import argparse
import contextlib
import dataclasses
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import rich.console
import rich.progress
from jax.sharding import Mesh

from gato.model.checkpoint import Checkpoints, abstract_state
from gato.model.config import PAPER_VOCABULARY, TrainConfig, override
from gato.model.configs import PRESETS
from gato.model.data import Batches, Prefetcher, put, validation_batches
from gato.model.describe import describe
from gato.model.metrics import MetricsFile, step_line
from gato.model.sharding import check_mesh, make_mesh, parse_mesh
from gato.model.shards import Dataset, find_datasets, parse_weights
from gato.model.step import (
    Model,
    State,
    initialize,
    make_initial_state,
    make_train_step,
    state_shardings,
)
from gato.model.validation import make_evaluate, summary, validate
from gato.schemas.errors import GatoError, UsageError

_PAPER_LENGTH = 1024


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gato-train",
        description="Trains Gato on tokenized shards; the same command resumes.",
    )
    add = parser.add_argument
    add("--shards", nargs="+", metavar="GLOB", help="training shards, local or gs://")
    add("--model", choices=list(PRESETS), default="tiny", help="preset (%(default)s)")
    add("--steps", type=int, help="updates of the whole run")
    add("--batch_size", type=int, help="rows of the global batch")
    add("--checkpoint_dir", metavar="DIR", help="checkpoints and metrics.jsonl")
    add("--mesh", metavar="SIZES", help="as data=2,fsdp=4,tensor=1")
    add(
        "--weights", metavar="WEIGHTS", help="as babyai=1,text=0.5; else the manifests'"
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="any key of the config, as optimizer.peak_rate=1e-4; repeatable",
    )
    add("--describe", action="store_true", help="print sizes as JSON and exit")
    return parser


def resolve_config(arguments: argparse.Namespace) -> TrainConfig:
    """Returns the preset with what the command line replaces.

    Raises:
        UsageError: If a key is unknown or a value does not fit.
    """
    config = PRESETS[arguments.model]()
    for given in arguments.overrides:
        key, equals, value = given.partition("=")
        if not equals:
            raise UsageError(f"--set takes KEY=VALUE, got {given!r}")
        config = override(config, key, value)
    for key, value in (
        ("steps", arguments.steps),
        ("data.batch_size", arguments.batch_size),
    ):
        if value is not None:
            config = override(config, key, str(value))
    return config


@dataclasses.dataclass
class Run:
    """What a run holds while it goes on."""

    model: Model
    datasets: list[Dataset]
    mesh: Mesh
    metrics: MetricsFile
    checkpoints: Checkpoints
    console: rich.console.Console
    stop: bool = False

    @property
    def config(self) -> TrainConfig:
        """The resolved config."""
        return self.model.config

    @property
    def groups(self) -> int:
        """Devices that share the rows."""
        return self.mesh.shape["data"] * self.mesh.shape["fsdp"]


def _start(run: Run) -> State:
    """Returns the newest checkpoint's state, or a new one."""
    shapes = jax.eval_shape(make_initial_state(run.model))
    shardings = state_shardings(run.model, run.mesh)
    state = run.checkpoints.restore(abstract_state(shapes, shardings))
    if state is not None:
        run.console.print(f"resumed after step {int(state['step']) - 1}")
        return state
    return initialize(run.model, run.mesh)


def _validate(run: Run, evaluate: Any, params: State) -> dict[str, Any]:
    config = run.config
    batches = validation_batches(
        run.datasets,
        batch_size=config.data.batch_size,
        rows=config.validation.rows,
        groups=run.groups,
        threads=config.data.threads,
    )
    names = [one.name for one in run.datasets]
    return validate(evaluate, params, batches, names, run.model.vocabulary_size)


class _Pending:
    """The step whose sums are still being computed, and the time it began."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._names = [one.name for one in run.datasets]
        self._tokens = run.config.data.batch_size * run.model.sequence_length
        self._held: tuple[int, Any, dict[str, Any]] | None = None
        self._since = time.perf_counter()

    def replace(self, step: int, sums: Any, extra: dict[str, Any]) -> None:
        """Writes the former step, then holds this one.

        Raises:
            GatoError: If the former step's loss is no number.
        """
        self.write()
        self._held = (step, sums, extra)

    def add(self, name: str, value: Any) -> None:
        """Adds to the held step's line."""
        if self._held is not None:
            self._held[2][name] = value

    def write(self) -> None:
        """Waits for the held step, checks it and writes its line."""
        if self._held is None:
            return
        step, sums, extra = self._held
        line = step_line(step, self._names, jax.device_get(sums))
        now = time.perf_counter()
        line["tokens_per_second"] = self._tokens / max(now - self._since, 1e-9)
        self._held, self._since = None, now
        if not np.isfinite([line["loss"], line["gradient_norm"]]).all():
            raise GatoError(
                f"step {step} has loss {line['loss']} and gradient norm"
                f" {line['gradient_norm']}; the newest checkpoint is from before it."
                " Lower optimizer.peak_rate, or look for the rise in metrics.jsonl."
            )
        self._run.metrics.write(line | extra)

    def skip_time(self) -> None:
        """Leaves what was done since the last step out of the next one's time."""
        self._since = time.perf_counter()


def train(run: Run, progress: rich.progress.Progress) -> None:
    """Runs the steps that are left.

    Raises:
        GatoError: If data is corrupt or the loss is no number any more.
    """
    config = run.config
    state = _start(run)
    first = int(state["step"])
    batches = Batches(
        run.datasets,
        batch_size=config.data.batch_size,
        seed=config.data.seed,
        groups=run.groups,
        threads=config.data.threads,
        host=jax.process_index(),
        hosts=jax.process_count(),
    )
    train_step = jax.jit(
        make_train_step(run.model, len(run.datasets)), donate_argnums=0
    )
    evaluate = make_evaluate(run.model, run.mesh)
    ahead = Prefetcher(
        lambda t: put(batches[t], run.mesh), first, config.steps, config.data.prefetch
    )
    bar = progress.add_task("training", total=config.steps, completed=first, loss="")
    pending = _Pending(run)
    try:
        for step in range(first, config.steps):
            batch, waited = ahead.take()
            with jax.transfer_guard("disallow"):
                state, sums = train_step(state, batch)
            # Step n-1 is fetched while step n runs, so the devices never wait.
            pending.replace(step, sums, {"data_wait": waited})
            done = step + 1
            last = done == config.steps or run.stop
            if (every := config.validation.every) and (done % every == 0 or last):
                figures = _validate(run, evaluate, state["params"])
                pending.add("validation", figures)
                for line in summary(figures):
                    run.console.print(f"step {step}: {line}")
            if done % config.checkpoint.every == 0 or last:
                # First its line: after a kill no step may be missing from the file.
                pending.write()
                run.checkpoints.save(done, state)
                pending.skip_time()
            progress.update(bar, completed=done)
            if last:
                break
    finally:
        ahead.close()
        run.checkpoints.close()
        run.metrics.close()


@contextlib.contextmanager
def _saving_on_sigterm(run: Run) -> Iterator[None]:
    def stop(_signal: int, _frame: Any) -> None:
        run.stop = True

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _execute(arguments: argparse.Namespace) -> None:
    config = resolve_config(arguments)
    weights = parse_weights(arguments.weights)
    datasets = find_datasets(arguments.shards, weights) if arguments.shards else []
    manifest = datasets[0].manifest if datasets else None
    model = Model(
        config,
        vocabulary_size=manifest.vocabulary.size if manifest else PAPER_VOCABULARY,
        sequence_length=manifest.sequence_length if manifest else _PAPER_LENGTH,
    )
    sizes = parse_mesh(arguments.mesh, jax.device_count())
    check_mesh(sizes, config.model, config.data.batch_size)
    if arguments.describe:
        print(json.dumps(describe(model, sizes), indent=1))
        return
    missing = [
        flag
        for flag, value in (
            ("--shards", arguments.shards),
            ("--checkpoint_dir", arguments.checkpoint_dir),
        )
        if not value
    ]
    if missing:
        raise UsageError(f"training needs {' and '.join(missing)}. See gato-train -h.")
    console = rich.console.Console(stderr=True)
    mesh = make_mesh(sizes)
    with jax.set_mesh(mesh):
        run = Run(
            model=model,
            datasets=datasets,
            mesh=mesh,
            metrics=MetricsFile(arguments.checkpoint_dir),
            checkpoints=Checkpoints(arguments.checkpoint_dir, config, datasets),
            console=console,
        )
        with _saving_on_sigterm(run), _progress(console) as progress:
            train(run, progress)


def _progress(console: rich.console.Console) -> rich.progress.Progress:
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    return rich.progress.Progress(*columns, console=console)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 1 for failure or 2 for usage."""
    try:
        _execute(_parser().parse_args(argv))
    except GatoError as error:
        print(f"gato-train: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

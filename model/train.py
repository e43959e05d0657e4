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
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import rich.console
import rich.progress
from jax.sharding import Mesh

from gato.model.checkpoint import Checkpoints, abstract_state
from gato.model.config import PAPER_VOCABULARY, TrainConfig, override
from gato.model.configs import PRESETS
from gato.model.data import Batches, Prefetcher, put, validation_batches
from gato.model.describe import describe
from gato.model.metrics import MetricsFile, StepLog, make_progress
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
from gato.schemas import files
from gato.schemas.errors import GatoError, UsageError

_PAPER_LENGTH = 1024

_EXAMPLES = """examples:
  gato-train --shards 'out/*/train-*' --steps 300 --batch_size 8 --checkpoint_dir D
  gato-train --shards 'out/*/train-*' --checkpoint_dir D --set optimizer.peak_lr=3e-4
  gato-train --model 364m --describe"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gato-train",
        description="Trains Gato on tokenized shards; the same command resumes.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
        help="any key of the config, as optimizer.peak_lr=1e-4; repeatable",
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
        done, steps = int(state["step"]), run.config.steps
        what = "complete" if done >= steps else "resumed"
        run.console.print(f"{what}: {done} of {steps} steps are done")
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


def train(run: Run, progress: rich.progress.Progress) -> None:
    """Runs the steps that are left.

    Raises:
        GatoError: If data is corrupt or the loss is no number any more.
    """
    config = run.config
    for dataset in run.datasets:
        run.console.print(dataset.headline)
    state = _start(run)
    first = int(state["step"])
    batches = Batches(
        run.datasets,
        batch_size=config.data.batch_size,
        seed=config.data.seed,
        groups=run.groups * config.microbatches,
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
    bar = progress.add_task("training", total=config.steps, completed=first)
    log = StepLog(
        run.metrics,
        [one.name for one in run.datasets],
        config.data.batch_size * run.model.sequence_length,
    )
    for step in range(first, config.steps):
        try:
            batch, waited = ahead.take()
        except GatoError:
            # What was trained up to the bad record is kept.
            _save(run, log, step, state)
            raise
        with jax.transfer_guard("disallow"):
            state, sums = train_step(state, batch)
        # Step n-1 is fetched while step n runs, so the devices never wait.
        log.replace(step, sums, data_wait=waited)
        done = step + 1
        last = done == config.steps or run.stop
        if (every := config.validation.every) and (done % every == 0 or last):
            figures = _validate(run, evaluate, state["params"])
            log.add("validation", figures)
            for line in summary(figures):
                run.console.print(f"step {step}: {line}")
        if done % config.checkpoint.every == 0 or last:
            _save(run, log, done, state)
        progress.update(bar, completed=done, description=f"training{log.losses}")
        if run.stop:
            run.console.print(f"stopped by SIGTERM; saved after step {step}")
            break
    ahead.close()
    run.console.print(f"{int(state['step'])} steps are done{log.losses}")


def _save(run: Run, log: StepLog, done: int, state: State) -> None:
    # First the last step's line: after a kill none may be missing from the file.
    log.write()
    run.checkpoints.save(done, state)
    log.skip_time()


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
    check_mesh(sizes, config)
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
    if not files.is_local(folder := arguments.checkpoint_dir):
        raise UsageError(f"--checkpoint_dir is a local folder, got {folder!r}")
    console = rich.console.Console(stderr=True)
    mesh = make_mesh(sizes)
    with (
        jax.set_mesh(mesh),
        contextlib.closing(MetricsFile(folder)) as metrics,
        contextlib.closing(Checkpoints(folder, config, datasets)) as checkpoints,
        make_progress(console) as progress,
    ):
        run = Run(
            model=model,
            datasets=datasets,
            mesh=mesh,
            metrics=metrics,
            checkpoints=checkpoints,
            console=console,
        )
        with _saving_on_sigterm(run):
            train(run, progress)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 1 for failure or 2 for usage."""
    try:
        _execute(_parser().parse_args(argv))
    except GatoError as error:
        print(f"gato-train: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"gato-train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("gato-train: interrupted; the same command resumes", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

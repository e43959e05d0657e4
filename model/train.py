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
from gato.model.command import run_command
from gato.model.config import PAPER_LENGTH, PAPER_VOCABULARY, TrainConfig, override
from gato.model.data import Batches, Prefetcher, put, validation_batches
from gato.model.describe import describe, work_of
from gato.model.events import EventFiles, Tracer
from gato.model.hosts import Hosts, join
from gato.model.kernels import choose
from gato.model.metrics import MetricsFile, StepLog, Writer
from gato.model.options import (
    check_required,
    make_parser,
    parse_profile,
    resolve_config,
)
from gato.model.progress import Progress
from gato.model.sharding import check_mesh, make_mesh, owned_groups, parse_mesh
from gato.model.shards import Dataset, find_datasets, parse_weights
from gato.model.step import (
    Model,
    State,
    initialize,
    jit_train_step,
    make_initial_state,
    state_shardings,
)
from gato.model.validation import make_evaluate, summary, validate
from gato.model.weights import initial_weights
from gato.schemas import files
from gato.schemas.errors import GatoError, UsageError


@dataclasses.dataclass
class Run:
    """What a run holds while it goes on."""

    model: Model
    datasets: list[Dataset]
    mesh: Mesh
    hosts: Hosts
    checkpoints: Checkpoints
    console: rich.console.Console
    folder: str
    tracer: Tracer
    init_from: str | None = None
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
    state = initialize(run.model, run.mesh)
    if run.init_from:
        vocabulary = run.datasets[0].manifest.vocabulary
        state["params"] = initial_weights(
            run.init_from, run.model, vocabulary, shardings["params"]
        )
        run.console.print(f"begun with the weights of {run.init_from}")
    return state


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


def _batches(run: Run) -> Batches:
    config = run.config
    groups = run.groups * config.microbatches
    return Batches(
        run.datasets,
        batch_size=config.data.batch_size,
        seed=config.data.seed,
        groups=groups,
        threads=config.data.threads,
        owned=owned_groups(run.mesh, groups),
        hosts=run.hosts,
    )


def _make_log(run: Run, writers: Sequence[Writer]) -> StepLog:
    device = run.mesh.devices.flat[0]
    work = work_of(run.model, device.device_kind, run.mesh.size)
    if work.peak is None:
        run.console.print(f"no MFU: the peak of {device.device_kind!r} is not known")
    tokens = run.config.data.batch_size * run.model.sequence_length
    return StepLog(writers, [one.name for one in run.datasets], tokens, work)


def train(run: Run, writers: list[Writer], progress: rich.progress.Progress) -> None:
    """Runs the steps that are left.

    Args:
        run: What to train.
        writers: Of the steps' lines; event files are added where there are any.
        progress: Gets a bar.

    Raises:
        GatoError: If data is corrupt or the loss is no number any more.
    """
    for dataset in run.datasets:
        run.console.print(dataset.headline)
    state = _start(run)
    first = int(state["step"])
    with contextlib.ExitStack() as stack:
        if writers:
            events = contextlib.closing(EventFiles(run.folder, first))
            writers = [*writers, stack.enter_context(events)]
        groups = run.groups * run.config.microbatches
        batches = _batches(run)
        ahead = Prefetcher(
            lambda t: put(batches[t], run.mesh, groups),
            first,
            run.config.steps,
            run.config.data.prefetch,
        )
        stack.callback(ahead.close)
        stack.callback(run.hosts.stop_waiting)
        log = _make_log(run, writers)
        state = _steps(run, state, ahead, log, progress)
    run.console.print(f"{int(state['step'])} steps are done{log.losses}")


def _steps(
    run: Run,
    state: State,
    ahead: Prefetcher,
    log: StepLog,
    progress: rich.progress.Progress,
) -> State:
    config, first = run.config, int(state["step"])
    train_step = jit_train_step(run.model, run.mesh, len(run.datasets))
    evaluate = make_evaluate(run.model, run.mesh)
    bar = progress.add_task("training", total=config.steps, completed=first)
    for step in range(first, config.steps):
        run.tracer.reach(step)
        try:
            batch, waited = ahead.take()
        except (GatoError, OSError):
            # What was trained up to the bad record is kept, by all hosts together.
            _save(run, log, step, state)
            raise
        annotation = jax.profiler.StepTraceAnnotation("train", step_num=step)
        with jax.transfer_guard("disallow"), annotation:
            state, sums = train_step(state, batch)
        # Step n-1 is fetched while step n runs, so the devices never wait.
        log.replace(step, sums, data_wait=waited)
        done = step + 1
        stop = run.stop or run.hosts.is_preempted(step)
        last = done == config.steps or stop
        if (every := config.validation.every) and (done % every == 0 or last):
            log.settle()
            figures = _validate(run, evaluate, state["params"])
            log.add("validation", figures)
            for line in summary(figures):
                run.console.print(f"step {step}: {line}", soft_wrap=True)
        if done % config.checkpoint.every == 0 or last:
            _save(run, log, done, state)
        progress.update(bar, completed=done, description=f"training{log.status}")
        if stop:
            run.console.print(f"stopped by SIGTERM; saved after step {step}")
            break
    return state


def _save(run: Run, log: StepLog, done: int, state: State) -> None:
    # First the last step's line: after a kill none may be missing from the file.
    log.flush()
    run.checkpoints.save(done, state)
    log.skip_time()


@contextlib.contextmanager
def _saving_on_sigterm(run: Run) -> Iterator[None]:
    def stop(_signal: int, _frame: Any) -> None:
        run.stop = True

    if run.hosts.count > 1:
        # JAX's own handler has it, and tells the other hosts.
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _execute(arguments: argparse.Namespace) -> None:
    config = resolve_config(arguments)
    profile = parse_profile(arguments.profile)
    weights = parse_weights(arguments.weights)
    join(arguments)
    datasets = find_datasets(arguments.shards, weights) if arguments.shards else []
    manifest = datasets[0].manifest if datasets else None
    length = manifest.sequence_length if manifest else PAPER_LENGTH
    attention = choose(config.model, length, jax.devices()[0])
    model = Model(
        override(config, "model.attention", attention.kernel),
        vocabulary_size=manifest.vocabulary.size if manifest else PAPER_VOCABULARY,
        sequence_length=length,
    )
    sizes = parse_mesh(arguments.mesh, jax.device_count())
    check_mesh(sizes, config)
    if arguments.describe:
        print(json.dumps(describe(model, sizes), indent=1))
        return
    check_required(arguments)
    if not files.is_local(folder := arguments.checkpoint_dir):
        raise UsageError(f"--checkpoint_dir is a local folder, got {folder!r}")
    hosts, mesh = Hosts(), make_mesh(sizes)
    console = rich.console.Console(stderr=True, quiet=not hosts.is_first)
    console.print(f"attention: {attention.kernel} ({attention.reason})")
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        enter(jax.set_mesh(mesh))
        writers: list[Writer] = []
        if hosts.is_first:
            writers.append(enter(contextlib.closing(MetricsFile(folder))))
        run = Run(
            model=model,
            datasets=datasets,
            mesh=mesh,
            hosts=hosts,
            checkpoints=enter(
                contextlib.closing(
                    Checkpoints(folder, config, datasets, arguments.init_from)
                )
            ),
            console=console,
            folder=folder,
            tracer=enter(contextlib.closing(Tracer(folder, profile))),
            init_from=arguments.init_from,
        )
        progress = enter(Progress(console))
        enter(_saving_on_sigterm(run))
        train(run, writers, progress)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 1 for failure or 2 for usage."""
    return run_command(_execute, make_parser(), argv, "the same command resumes")


if __name__ == "__main__":
    sys.exit(main())

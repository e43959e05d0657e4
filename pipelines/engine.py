"""Which engine runs a Beam job, and with which of Beam's options.

Beam drops an option that it does not know with a line in the log; here a misspelt one
is an error, raised before anything is read or written.
"""

import argparse
import contextlib
import dataclasses
import difflib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.runner import PipelineState, create_runner

from gato.pipelines.command import remote_failure
from gato.schemas import files
from gato.schemas.errors import GatoError, UsageError

# Beam's DirectRunner tries to download another engine, so it means the in-process one.
_IN_PROCESS = "FnApiRunner"
_LOCAL_RUNNERS = ("DirectRunner", _IN_PROCESS)
# Their job servers have options of their own, which only they can list.
_JOB_SERVER_RUNNERS = ("FlinkRunner", "PortableRunner", "SparkRunner")
_DATAFLOW = "DataflowRunner"
# Beam's name of the threads that wait for worker processes to end.
_WORKER_THREAD = "run_worker"
_excepthook = threading.excepthook
_RUNNERS = (*_LOCAL_RUNNERS, "PrismRunner", *_JOB_SERVER_RUNNERS, _DATAFLOW)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engine:
    """A runner with its options.

    Attributes:
        runner: Beam's name of it.
        options: Beam's options.
        template_location: Where a Dataflow template is written instead of run.
    """

    runner: str
    options: PipelineOptions
    template_location: str | None

    @property
    def is_local(self) -> bool:
        """Whether the job runs on this machine until `run()` returns."""
        return self.runner == _IN_PROCESS

    def check_paths(self, paths: Sequence[str]) -> None:
        """Refuses local paths where the workers are other machines.

        Not for a template written to a local path: only this machine can read it.

        Raises:
            UsageError: Naming the first.
        """
        written = self.template_location
        if self.runner != _DATAFLOW or (written and files.is_local(written)):
            return
        for path in paths:
            if files.is_local(path):
                raise UsageError(
                    "Dataflow's workers read and write object storage, not this"
                    " machine: the output, and all that a config names, are gs://"
                    f" URLs, got {path!r}."
                )

    def check_options(self) -> None:
        """Lets Beam check its options; for Dataflow this asks the buckets too.

        Raises:
            UsageError: With everything that is wrong.
        """
        created = create_runner(self.runner)
        errors = PipelineOptionsValidator(self.options, created).validate()
        if errors:
            raise UsageError(f"{self.runner}: {' '.join(errors)}")

    @contextlib.contextmanager
    def failing_in_words(self, advice: str = "") -> Iterator[None]:
        """Turns what an engine elsewhere raises into a message that ends in `advice`.

        Raises:
            GatoError: If the engine failed, and not what ran in it.
        """
        try:
            yield
        except (GatoError, OSError):
            raise
        except Exception as error:  # engines raise what they like
            if remote_failure(error) is not None:
                raise
            raise GatoError(
                f"{self.runner} did not run the job: {error}{advice}"
            ) from error

    def check_done(self, state: Any, advice: str = "") -> None:
        """Checks the state that a job ended in.

        Raises:
            GatoError: If it is not done; the message ends in `advice`.
        """
        if state != PipelineState.DONE:
            raise GatoError(
                f"the {self.runner} job ended in state {state}; its log says why."
                f"{advice}"
            )


@contextlib.contextmanager
def quiet_workers() -> Iterator[None]:
    """Keeps what a worker raises off the terminal: the command says it, once.

    Beam logs the traceback, and worker processes print it to the standard error that
    they inherit. That goes to a file here, shown if the error itself says nothing of
    what happened in the worker, as when one was killed.
    """
    logger = logging.getLogger("apache_beam.runners")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    sys.stderr.flush()
    encoding = sys.stderr.encoding
    with (
        tempfile.TemporaryFile() as log,
        open(os.dup(2), "w", encoding=encoding, errors="backslashreplace") as terminal,
    ):
        os.dup2(log.fileno(), 2)
        threading.excepthook = _drop_worker_exits
        try:
            if sys.stderr is sys.__stderr__:
                with contextlib.redirect_stderr(terminal):
                    yield
            else:
                yield
        except RuntimeError as error:
            if "Traceback" not in str(error):
                log.seek(0)
                terminal.write(log.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(terminal.fileno(), 2)
            logger.setLevel(level)


def _drop_worker_exits(raised: threading.ExceptHookArgs) -> None:
    """Says nothing of a worker process that ended badly: run() tells why.

    It may end seconds after the job, so this stays in place.
    """
    if raised.thread is None or raised.thread.name != _WORKER_THREAD:
        _excepthook(raised)


class _BeamOptions(argparse.ArgumentParser):
    """Collects the options of all of Beam's option classes."""

    def __init__(self) -> None:
        super().__init__(
            prog="gato-build",
            add_help=False,
            allow_abbrev=False,
            conflict_handler="resolve",
        )
        for option_class in PipelineOptions.__subclasses__():
            option_class._add_argparse_args(self)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raises instead of printing the usage of hundreds of options.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{message}. It is one of Beam's options.")

    def add_value_provider_argument(self, *names: Any, **settings: Any) -> None:
        """What Beam's own parser has beside argparse's methods."""
        self.add_argument(*names, **settings)


def option_names(parser: argparse.ArgumentParser) -> set[str]:
    """Returns every `--option` and `-o` of a parser."""
    return set(parser._option_string_actions)


def check_names(own: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Refuses options that neither the command nor Beam knows.

    Args:
        own: The command's own parser.
        argv: The command line.

    Raises:
        UsageError: Naming the nearest option that there is.
    """
    ours, beams = option_names(own), option_names(_BeamOptions())
    runner, _ = _runner_parser().parse_known_args(argv)
    for token in argv:
        name = token.split("=", 1)[0]
        if not name.startswith("-") or _is_number(name) or name in ours | beams:
            continue
        near = difflib.get_close_matches(name, sorted(ours), n=1, cutoff=0.7)
        if not near and _full_name(runner.runner or "") in _JOB_SERVER_RUNNERS:
            continue
        near = near or difflib.get_close_matches(name, sorted(beams), n=1, cutoff=0.7)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise UsageError(
            f"{name} is an option neither of {own.prog} nor of Beam{hint} {own.prog}"
            " --help lists ours."
        )


def _runner_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--runner")
    return parser


def _full_name(runner: str) -> str:
    """Returns a runner's name in full: Beam takes any case, and leaves out "Runner"."""
    for name in _RUNNERS:
        if runner.lower() in (name.lower(), name.lower().removesuffix("runner")):
            return name
    return runner


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def choose_engine(runner: str, rest: Sequence[str]) -> Engine:
    """Returns the engine to use.

    Args:
        runner: Beam's name, or DirectRunner for the in-process runner, with processes
            when there are several workers.
        rest: What of the command line is Beam's.

    Raises:
        UsageError: If there is no such runner, or an option has a wrong value.
    """
    runner = _full_name(runner)
    parser = _BeamOptions()
    values, stray = parser.parse_known_args(rest)
    if stray and runner not in _JOB_SERVER_RUNNERS:
        raise UsageError(
            f"every argument is an option or its value, got {stray[0]!r}. --help lists"
            " them."
        )
    options = list(rest)
    if runner in _LOCAL_RUNNERS:
        runner = _IN_PROCESS
        if values.direct_num_workers != 1 and values.direct_running_mode == "in_memory":
            options.append("--direct_running_mode=multi_processing")
    try:
        create_runner(runner)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            "--runner is DirectRunner, PrismRunner, FlinkRunner, SparkRunner or"
            f" DataflowRunner, got {runner!r}."
        ) from error
    return Engine(
        runner=runner,
        options=PipelineOptions([f"--runner={runner}", *options]),
        template_location=values.template_location,
    )

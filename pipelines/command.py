"""How a command ends: an exit code and a message, never a traceback of bad input."""

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Sequence

from gato.schemas.errors import GatoError, UsageError

# Beam appends where an exception was raised, and other processes send it as text: ours
# by name, the file system's with their number.
_BEAM_NOTE = re.compile(r"\s*\[while running .*", re.DOTALL)
_REMOTE = re.compile(
    r"gato\.schemas\.\w+\.(?P<name>\w*Error): (?P<message>.*?)"
    r"(?=\s*\[while running |\n\nDuring handling |\n\nThe above exception |\s*\Z)",
    re.DOTALL,
)
_REMOTE_FILE = re.compile(r"\w+Error: \[Errno \d+\] (?P<message>[^\n]*)")

_INTERRUPTED = "interrupted; run the same command again to go on."


def run_command(
    run: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None
) -> int:
    """Runs a command and turns what the user can mend into a message.

    Returns:
        0 if all is well, 1 for a failure, 2 for wrong usage, 130 when interrupted.
    """
    try:
        return run(argv)
    except GatoError as error:
        return _fail(_BEAM_NOTE.sub("", str(error)), error.exit_code)
    except KeyboardInterrupt:
        return _fail(_INTERRUPTED, 130)
    except OSError as error:
        return _fail(f"{error.filename or 'file system'}: {error.strerror or error}", 1)
    except Exception as error:  # Beam and its engines raise many kinds
        if str(error).startswith(KeyboardInterrupt.__name__):
            return _fail(_INTERRUPTED, 130)
        failure = remote_failure(error)
        if failure is None:
            raise
        return _fail(*failure)


def run_beam_command(
    parser: argparse.ArgumentParser, module: str, argv: Sequence[str] | None
) -> int:
    """Runs a command whose module imports Beam, which takes seconds: not for its help.

    Args:
        parser: Of the command's own options.
        module: Has `run(parser, argv)`, which returns the exit code.
        argv: The command line; None for that of the process.

    Returns:
        As `run_command`.
    """

    def run(argv: Sequence[str] | None) -> int:
        argv = sys.argv[1:] if argv is None else argv
        if {"-h", "--help"} & set(argv):
            parser.parse_args(argv)
        return importlib.import_module(module).run(parser, argv)

    return run_command(run, argv)


def remote_failure(error: Exception) -> tuple[str, int] | None:
    """Returns message and exit code of what a worker raised for the user, if that."""
    text = str(error)
    if match := _REMOTE.search(text):
        code = 2 if match["name"] == UsageError.__name__ else 1
    elif match := _REMOTE_FILE.search(text):
        code = 1
    else:
        return None
    return _BEAM_NOTE.sub("", match["message"]), code


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code

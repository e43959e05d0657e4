"""How a command of this folder ends: an exit code and a message."""

import argparse
import sys
from collections.abc import Callable, Sequence

from gato.schemas.errors import GatoError


def run_command(
    execute: Callable[[argparse.Namespace], None],
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    interrupted: str,
) -> int:
    """Runs a command and turns what the user can mend into a message.

    Args:
        execute: Does what the arguments say.
        parser: Of the arguments; its `prog` begins the message.
        argv: The command line; None for that of the process.
        interrupted: What to say after Ctrl-C.

    Returns:
        0 if all is well, 1 for a failure, 2 for wrong usage, 130 when interrupted.
    """
    try:
        execute(parser.parse_args(argv))
    except GatoError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; {interrupted}", file=sys.stderr)
        return 130
    return 0

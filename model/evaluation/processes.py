"""The environments' processes, as the run sees them."""

import contextlib
import math
import select
import subprocess
import sys
from typing import Any

from gato.model.evaluation.messages import receive, send

# A reset of the largest simulators takes seconds; this long means that it hangs.
ANSWER_SECONDS = 300.0
# For a process that closed its end to finish.
_LAST_SECONDS = 10.0


class CrashedError(Exception):
    """An environment raised, died, or went silent; the message says which."""


class EnvironmentProcess:
    """One environment in a worker process, started when it is first needed."""

    def __init__(self, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._seconds = answer_seconds
        self._is_new = True
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, *command: Any) -> None:
        """Sends a command; `answer` waits for what comes back.

        Raises:
            CrashedError: If the process is gone.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gato.model.evaluation.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            self._is_new = True
        try:
            if self._process.stdin is not None:
                send(self._process.stdin, command)
        except OSError as error:
            raise self._died() from error

    def answer(self) -> Any:
        """Returns the answer to the last command.

        Raises:
            CrashedError: If there is none.
        """
        process = self._process
        if process is None or process.stdout is None:
            raise CrashedError("the environment's process is gone")
        # The first answer comes after Python and the simulator have started.
        seconds = max(self._seconds, ANSWER_SECONDS) if self._is_new else self._seconds
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        if not ready:
            self.close()
            raise CrashedError(f"no answer in {math.ceil(seconds)} s")
        self._is_new = False
        try:
            verdict, content = receive(process.stdout)
        except EOFError as error:
            raise self._died() from error
        if verdict != "done":
            raise CrashedError(content)
        return content

    def _died(self) -> CrashedError:
        code = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(_LAST_SECONDS)
        self.close()
        return CrashedError(f"the environment's process ended with code {code}")

    def close(self) -> None:
        """Ends the process; the next command starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                # What was still to be sent has no reader.
                with contextlib.suppress(OSError):
                    stream.close()

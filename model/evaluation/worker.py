"""One environment in a process of its own: `python -m gato.model.evaluation.worker`.

Commands come by standard input, answers go to what was standard output. A simulator
that dies takes its process with it, not the run; one that raises answers with what it
said. No framework is loaded here.
"""

import os
import signal
import sys
from typing import Any

from gato.model.evaluation.environments import (
    as_action,
    make_environment,
    plain,
    succeeded,
)
from gato.model.evaluation.messages import receive, send


class _Server:
    """Keeps the last environment made, as many episodes are played in each."""

    def __init__(self) -> None:
        self._made: tuple[Any, Any] | None = None
        self._name = ""

    def answer(self, command: str, *values: Any) -> Any:
        try:
            return self.reset(*values) if command == "reset" else self.step(*values)
        except Exception:
            self._made = None  # what raised is not played again
            raise

    def reset(self, name: str, options: Any, max_steps: int | None, seed: int) -> Any:
        key = (name, options, max_steps)
        if self._made is None or self._made[0] != key:
            if self._made is not None:
                self._made[1].close()
            self._made = (key, make_environment(name, options, max_steps))
        self._name = name
        observation, _ = self._made[1].reset(seed=seed)
        return plain(observation)

    def step(self, values: Any) -> Any:
        if self._made is None:
            raise RuntimeError("an environment is reset before it is stepped")
        environment = self._made[1]
        action = as_action(values, environment.action_space)
        observation, reward, terminated, truncated, info = environment.step(action)
        success = succeeded(self._name, float(reward), info)
        ended = bool(terminated or truncated)
        return plain(observation), float(reward), ended, success


def main() -> None:
    """Answers commands until standard input ends."""
    # An interrupt is the run's to handle; it ends standard input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What simulators print must not stand between the answers.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    server = _Server()
    while True:
        try:
            command = receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = ("done", server.answer(*command))
        except Exception as error:  # whatever a simulator raises is its episode's end
            answer = ("failed", f"{type(error).__name__}: {error}")
        send(answers, answer)


if __name__ == "__main__":
    main()

"""One environment in a process of its own: `python -m gato.model.evaluation.worker`.

Commands come by standard input, answers go to what was standard output. A simulator
that dies takes its process with it, not the run; one that raises answers with what it
said. No framework is loaded here.
"""

import os
import signal
import sys
from typing import Any

import numpy as np

from gato.model.evaluation.environments import (
    as_action,
    make_environment,
    plain,
    succeeded,
)
from gato.model.evaluation.messages import receive, send

# Of environments that do not say theirs.
_FRAME_RATE = 10


class _Server:
    """Keeps the last environment made, as many episodes are played in each."""

    def __init__(self) -> None:
        self._made: tuple[Any, Any] | None = None
        self._name = ""
        self._filming: _Filming | None = None

    def answer(self, command: str, *values: Any) -> Any:
        try:
            return self.reset(*values) if command == "reset" else self.step(*values)
        except Exception:
            self._made = None  # what raised is not played again
            raise

    def reset(
        self,
        name: str,
        options: Any,
        max_steps: int | None,
        seed: int,
        video: str | None = None,
    ) -> Any:
        environment = filming = None
        if video:
            os.environ.setdefault("MUJOCO_GL", "egl")  # no display is needed
            shown = {**options, "render_mode": "rgb_array"}
            try:
                environment = self._make(name, shown, max_steps)
                filming = _Filming(video, environment.metadata)
            except Exception as error:
                filming = _Filming(video, {}, error)
        if environment is None:
            environment = self._make(name, options, max_steps)
        self._name, self._filming = name, filming
        observation, _ = environment.reset(seed=seed)
        if filming is not None:
            filming.shoot(environment, ended=False)
        return plain(observation)

    def _make(self, *key: Any) -> Any:
        if self._made is None or self._made[0] != key:
            if self._made is not None:
                self._made[1].close()
                self._made = None
            self._made = (key, make_environment(*key))
        return self._made[1]

    def step(self, values: Any) -> Any:
        """Takes a step; beside what it gave, why a finished video is missing."""
        if self._made is None:
            raise RuntimeError("an environment is reset before it is stepped")
        environment = self._made[1]
        action = as_action(values, environment.action_space)
        observation, reward, terminated, truncated, info = environment.step(action)
        success = succeeded(self._name, float(reward), info)
        ended = bool(terminated or truncated)
        missing = None
        if self._filming is not None:
            self._filming.shoot(environment, ended)
            missing = self._filming.missing
        return plain(observation), float(reward), ended, success, missing


class _Filming:
    """An episode's video; what goes wrong with it is no fault of the episode.

    Attributes:
        missing: Why there is no video; None as long as there is one.
    """

    def __init__(
        self, path: str, metadata: Any, error: Exception | None = None
    ) -> None:
        from gato.model.evaluation.videos import Video

        self._video = Video(path, int(metadata.get("render_fps") or _FRAME_RATE))
        self.missing = None if error is None else f"{type(error).__name__}: {error}"

    def shoot(self, environment: Any, ended: bool) -> None:
        """Adds what is seen now."""
        if self.missing is not None:
            return
        try:
            self._video.add(np.asarray(environment.render(), np.uint8))
            if ended:
                self._video.finish()
        except Exception as error:  # whatever drawing or writing raises
            self.missing = f"{type(error).__name__}: {error}"


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

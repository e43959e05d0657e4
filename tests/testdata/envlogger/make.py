"""Writes two small data sets as EnvLogger 1.2 records them.

    pip install envlogger==1.2 "dm-env>=1.6" && python make.py

writes `arm/` and `counter/` beside this file, as they were written on 2026-11-22 with
Python 3.11, numpy 2.4.6 and protobuf 6.33.6. There are no notes of what EnvLogger reads
of them: where the package is installed, the tests ask it.

`arm` has all that nests: five episodes, two a folder, whose observations are an image,
numbers, a text and a number below another name, and whose actions are a number in a
range and one of three. `counter` has a number each and no names; the second of its two
episodes was cut off.
"""

import pathlib
import shutil

import dm_env
import numpy as np
from dm_env import specs

# envlogger 1.2 writes arrays with a name that numpy 2 has no more; it reads without.
setattr(np, "unicode_", np.str_)  # noqa: B010

import envlogger  # noqa: E402


class Arm(dm_env.Environment):
    """Episode n, from 1, has n + 1 steps; the step of each is in all that is seen."""

    def __init__(self) -> None:
        self._episode = self._step = 0

    def reset(self) -> dm_env.TimeStep:
        self._episode += 1
        self._step = 0
        return dm_env.restart(self._seen())

    def step(self, action: dict) -> dm_env.TimeStep:
        self._step += 1
        reward = float(self._episode + action["grip"] / 10 + self._step / 100)
        if self._step <= self._episode:
            return dm_env.transition(reward, self._seen())
        return dm_env.termination(reward, self._seen())

    def _seen(self) -> dict:
        y, x = np.mgrid[:16, :16]
        image = np.stack([x, y, 0 * x + self._step], -1) * self._episode
        return {
            "camera": image.astype(np.uint8),
            "joints": np.array([self._episode, self._step], np.float32) / 8,
            "order": f"Löse Aufgabe {self._episode}",
            "memory": {"count": np.int64(self._step)},
        }

    def observation_spec(self) -> dict:
        return {
            "camera": specs.Array((16, 16, 3), np.uint8),
            "joints": specs.Array((2,), np.float32),
            "order": specs.StringArray(()),
            "memory": {"count": specs.Array((), np.int64)},
        }

    def action_spec(self) -> dict:
        low, high = np.array([-1, -2], np.float32), np.array([1, 2], np.float32)
        return {
            "move": specs.BoundedArray((2,), np.float32, low, high),
            "grip": specs.DiscreteArray(3),
        }


class Counter(dm_env.Environment):
    """Sees its steps' number, acts by a number, and is not over by itself."""

    def reset(self) -> dm_env.TimeStep:
        self._step = 0
        return dm_env.restart(np.float64(0))

    def step(self, action: int) -> dm_env.TimeStep:
        self._step += 1
        return dm_env.transition(np.float64(action), np.float64(self._step))

    def observation_spec(self) -> specs.Array:
        return specs.Array((), np.float64)

    def action_spec(self) -> specs.DiscreteArray:
        return specs.DiscreteArray(5)


def fresh(name: str) -> str:
    """Returns an empty folder of a name beside this file."""
    folder = pathlib.Path(__file__).with_name(name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return str(folder)


def write_arm() -> None:
    """Writes episodes of names and of success."""
    episodes = []

    def about(*_: object) -> dict:
        number = len(episodes)
        return {"task": f"stack-{number % 2}", "success": number != 3}

    with envlogger.EnvLogger(
        Arm(),
        data_directory=fresh("arm"),
        metadata={"agent": "a person"},
        episode_fn=about,
        step_fn=lambda *_: {"temperature": np.float32(20)},
        max_episodes_per_file=2,
    ) as logged:
        generator = np.random.default_rng(0)
        for _ in range(5):
            timestep = logged.reset()
            while not timestep.last():
                move = generator.uniform(-1, 1, 2).astype(np.float32)
                grip = np.int32(generator.integers(3))
                timestep = logged.step({"move": move, "grip": grip})
            episodes.append(timestep)


def write_counter() -> None:
    """Writes one episode that the next begins after, and one that ends with the log."""
    with envlogger.EnvLogger(Counter(), data_directory=fresh("counter")) as logged:
        for number in range(2):
            logged.reset()
            for step in range(3 + number):
                logged.step(np.int32(step + number))


if __name__ == "__main__":
    write_arm()
    write_counter()

"""DM Control's tasks with another body in each episode.

Importing this module registers `dm_control_random_small/<domain>-<task>` and
`dm_control_random_large/<domain>-<task>`, which recorder and `gato-evaluate` make by
these names, as `dm_control_world.py` says.

The paper (appendix on its data sets) scales actuators' gear, joints' range, stiffness
and damping, and geoms' size and density by numbers from two intervals beside 1, so that
none stays as it was; `FACTORS` are its intervals, from memory. It does not say what
shares a number: here each actuator, joint and geom has its own. Sizes are those that
the model's file gives, so that what hangs together still does: a capsule from point to
point keeps its length. A geom whose mass is given has that scaled as its density would
have been. What does not move (floor, walls, targets), and an inertia or total mass that
the file states, stay as they are.
"""

import contextlib
import itertools
import logging
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from dm_control.rl.control import PhysicsError
from numpy.typing import NDArray

from gato.pipelines.recorders import dm_control_world as world
from gato.schemas.errors import GatoError
from gato.schemas.hashing import keyed_hash

FACTORS = {
    "small": ((0.9, 0.95), (1.05, 1.1)),
    "large": ((0.6, 0.8), (1.2, 1.4)),
}
# Of bodies that were drawn for one seed, before it is given up.
_MOST_DRAWS = 100
# Of postures to begin in, one after the other; the suite's own bodies need up to 40.
_MOST_POSTURES = 500


def _moving(body: Any) -> Iterator[Any]:
    """Yields the geoms of what hangs on joints below a part of the world."""
    for part in body.bodies:
        yield from part.find_all("geom") if part.joints else _moving(part)


def randomize(
    spec: Any, bodies: str, generator: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """Scales a model's parts by factors that it returns by what they scaled.

    Args:
        spec: A mujoco.MjSpec, not yet compiled.
        bodies: A key of `FACTORS`.
        generator: Draws the factors.

    Returns:
        Arrays of one factor for each actuator, joint or moving geom, in the model's
        order.
    """
    geoms = list(_moving(spec.worldbody))
    scaled = {
        "gear": (spec.actuators, ("gear",)),
        "joint_range": (spec.joints, ("range",)),
        "joint_stiffness": (spec.joints, ("stiffness",)),
        "joint_damping": (spec.joints, ("damping",)),
        "geom_size": (geoms, ("size",)),
        # A mass that is not given is NaN, and stays so.
        "geom_density": (geoms, ("density", "mass")),
    }
    intervals = np.array(FACTORS[bodies])
    drawn = {}
    for name, (parts, attributes) in scaled.items():
        low, high = intervals[generator.integers(2, size=len(parts))].T
        drawn[name] = generator.uniform(low, high)
        for part, factor in zip(parts, drawn[name], strict=True):
            for attribute in attributes:
                setattr(part, attribute, getattr(part, attribute) * factor)
    return drawn


def _shrink_textures(spec: Any) -> None:
    """Leaves a pixel of each texture: drawing them is nearly all of compiling."""
    for texture in spec.textures:
        sides = 6 if texture.type == world.SKYBOX else 1
        texture.width, texture.height = 1, sides


@contextlib.contextmanager
def _few_postures(physics: Any) -> Iterator[None]:
    """Ends the suite's search for a posture in which nothing touches.

    It draws them until it finds one, which a body of thick limbs may not have.
    """
    settle, count = physics.after_reset, itertools.count(1)

    def after_reset() -> None:
        if next(count) > _MOST_POSTURES:
            raise PhysicsError(f"parts touch in {_MOST_POSTURES} postures")
        settle()

    physics.after_reset = after_reset
    try:
        yield
    finally:
        del physics.after_reset


class RandomBody(world.SuiteTask):
    """A task whose body follows from the reset's seed; without a seed it stays.

    A body that MuJoCo refuses, or in which no episode can begin, is drawn again, with a
    warning.

    Args:
        task: A name such as `cartpole-swingup`.
        bodies: small or large.
        render_mode: rgb_array to draw what happens, None not to.
    """

    def __init__(self, task: str, bodies: str, render_mode: str | None = None) -> None:
        super().__init__(task, render_mode=render_mode)
        self._bodies = bodies

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[world.Observation, dict[str, Any]]:
        """Starts an episode.

        Returns:
            The first observation, and as `body` what `randomize` returned of a new one.

        Raises:
            GatoError: If no body that was drawn can be played.
        """
        if seed is None:
            return super().reset(options=options)
        for draw in range(_MOST_DRAWS):
            generator = np.random.default_rng(
                keyed_hash(seed, "body", self._bodies, self._task, draw)
            )
            try:
                factors = self._embody(generator)
                with _few_postures(self.physics):
                    observation, _ = super().reset(seed=seed, options=options)
            # The first is MuJoCo's, of a model that it does not compile.
            except (ValueError, PhysicsError) as error:
                logging.getLogger(__name__).warning(
                    "%s: body %d of seed %d cannot be played (%s); another is drawn",
                    self._task,
                    draw,
                    seed,
                    error,
                )
            else:
                return observation, {"body": factors}
        raise GatoError(
            f"{self._task}: an episode has a body that MuJoCo can play, and none of the"
            f" {_MOST_DRAWS} drawn for seed {seed} is one. Leave the task out."
        )

    def _embody(self, generator: np.random.Generator) -> dict[str, NDArray[np.float64]]:
        drawn: dict[str, NDArray[np.float64]] = {}

        def edit(spec: Any) -> None:
            _shrink_textures(spec)
            drawn.update(randomize(spec, self._bodies, generator))

        with world.edited(edit):
            self._load()
        return drawn


for _task in world.TASKS:
    for _bodies in FACTORS:
        gymnasium.register(
            id=f"dm_control_random_{_bodies}/{_task}",
            entry_point=f"{__name__}:{RandomBody.__name__}",
            kwargs={"task": _task, "bodies": _bodies},
            disable_env_checker=True,
        )

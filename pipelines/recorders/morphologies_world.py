"""Bodies of many kinds that are to run, as Gymnasium environments, seen as numbers.

Importing this module registers `morphologies/<body>`. The recorder and `gato-evaluate`
make them by these names:

    gymnasium.make("gato.pipelines.recorders.morphologies_world:morphologies/hopper-4")

The reward is Modular RL's (Huang et al. 2020): how fast the body moves forward, in
metres a second, less 0.001 of the actions' squares, and for walkers and hoppers 1 for
each step that they stand; their episodes end when they fall. It needs mujoco 3.3.
"""

from typing import Any

import gymnasium
import mujoco
import numpy as np
from numpy.typing import NDArray

from gato.pipelines.recorders import morphologies_bodies as bodies

MAX_STEPS = 1000
CONTROL_STEP = 0.02  # in seconds
ALIVE = 1.0
_COST = 1e-3
# An upright body has fallen below this part of its height, or beyond this turn.
_LOW, _TURNED = 0.65, 1.0
# Of joints and their speeds at the start.
_SPREAD = 0.02

# Its names are those of compiled modules, which type checkers do not see.
_mujoco: Any = mujoco


def stands(body: bodies.Body, qpos: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns whether an upright body has not fallen.

    Args:
        body: The body.
        qpos: [..., joints], positions of the joints.
    """
    high = body.height + qpos[..., 1] > _LOW * body.height
    return high & (np.abs(qpos[..., 2]) < _TURNED)


class Morphology(gymnasium.Env[Any, NDArray[np.float32]]):
    """A body that is to run forward.

    Observations are `position`, float64 [joints - 1], all but the way forward, and
    `velocity`, float64 [joints]; actions are float32 [limbs - 1] in [-1, 1].

    Args:
        body: A name such as `cheetah-3-3`.
    """

    def __init__(self, body: str) -> None:
        self.body = bodies.BODIES[body]
        self.model = _mujoco.MjModel.from_xml_string(bodies.to_xml(body))
        self.data = _mujoco.MjData(self.model)
        self._repeats = round(CONTROL_STEP / bodies.PHYSICS_STEP)
        self.action_space = gymnasium.spaces.Box(-1, 1, (self.model.nu,), np.float32)
        self.observation_space = gymnasium.spaces.Dict(
            {
                name: gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)
                for name, size in (
                    ("position", self.model.nq - 1),
                    ("velocity", self.model.nv),
                )
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
        """Starts an episode; without a seed the last one's numbers go on."""
        super().reset(seed=seed)
        _mujoco.mj_resetData(self.model, self.data)
        for values in (self.data.qpos, self.data.qvel):
            values[:] = self.np_random.uniform(-_SPREAD, _SPREAD, values.shape)
        _mujoco.mj_forward(self.model, self.data)
        return self._observed(), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[dict[str, NDArray[np.float64]], float, bool, bool, dict[str, Any]]:
        """Moves on by 0.02 seconds."""
        before = self.data.qpos[0]
        self.data.ctrl[:] = action
        _mujoco.mj_step(self.model, self.data, nstep=self._repeats)
        reward = (self.data.qpos[0] - before) / CONTROL_STEP
        reward -= _COST * np.square(self.data.ctrl).sum()
        fallen = False
        if self.body.upright:
            reward += ALIVE
            fallen = not stands(self.body, self.data.qpos)
        return self._observed(), float(reward), fallen, False, {}

    def _observed(self) -> dict[str, NDArray[np.float64]]:
        return {
            "position": self.data.qpos[1:].copy(),
            "velocity": self.data.qvel.copy(),
        }


for _body in bodies.BODIES:
    gymnasium.register(
        id=f"morphologies/{_body}",
        entry_point=f"{__name__}:{Morphology.__name__}",
        kwargs={"body": _body},
        max_episode_steps=MAX_STEPS,
        disable_env_checker=True,
    )

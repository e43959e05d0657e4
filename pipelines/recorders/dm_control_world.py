"""DM Control's tasks as Gymnasium environments, seen as numbers or as frames.

Importing this module registers `dm_control/<domain>-<task>` and, seen as frames of
64x64, `dm_control_pixels/<domain>-<task>`. The recorder and `gato-evaluate` make them
by these names:

    gymnasium.make("gato.pipelines.recorders.dm_control_world:dm_control/cartpole-swingup")

It needs dm-control 1.0.28 with mujoco 3.3.0. MUJOCO_GL says what draws frames, egl or
osmesa; if it is not set, the first of them that loads. Nothing that draws is loaded
before frames are asked for, as it cannot live with TensorFlow in one process.
"""

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from gato.schemas.errors import UsageError

MAX_STEPS = 1000
# quadruped needs numpy.in1d, gone since NumPy 2.4; lqr's actions have no bounds.
_LEFT_OUT = ("lqr", "quadruped")
# As others who learn from frames have it: 0 is fixed beside the scene or follows.
_CAMERA = 0
_RENDERED = 240  # Side of what videos show.
_METADATA: dict[str, Any] = {"render_modes": ["rgb_array"]}
# What the suite raises where a library is not there; the second is PyOpenGL's.
_NOT_LOADED = (ImportError, AttributeError, RuntimeError)


@contextlib.contextmanager
def _drawn_by(library: str) -> Iterator[None]:
    """Sets MUJOCO_GL, which the suite reads when it is imported."""
    before = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = library
    try:
        yield
    finally:
        del os.environ["MUJOCO_GL"]
        if before is not None:
            os.environ["MUJOCO_GL"] = before


with _drawn_by("off"):
    import mujoco
    from dm_control import _render, suite
    from dm_control.mujoco import engine

# Its names are those of compiled modules, which type checkers do not see.
_mujoco: Any = mujoco
SKYBOX = _mujoco.mjtTexture.mjTEXTURE_SKYBOX


def load_renderer() -> str:
    """Makes the suite draw, and returns the name of what does.

    Raises:
        UsageError: If neither EGL nor OSMesa loads.
    """
    asked = os.environ.get("MUJOCO_GL")
    for library in (asked,) if asked else ("egl", "osmesa"):
        if library == _render.BACKEND != "off":
            return library
        with _drawn_by(library), contextlib.suppress(*_NOT_LOADED):
            importlib.reload(_render)
            if _render.BACKEND != "off":
                return str(_render.BACKEND)
        os.environ.pop("PYOPENGL_PLATFORM", None)
    found = f"MUJOCO_GL={asked} draws nothing" if asked else "neither loads"
    raise UsageError(
        f"frames need EGL or OSMesa, and {found} here. Install libegl1 or libosmesa6,"
        " and set MUJOCO_GL to egl, to osmesa or not at all."
    )


@contextlib.contextmanager
def edited(edit: Callable[[Any], None]) -> Iterator[None]:
    """Lets `edit` change each model that the suite loads, before it is compiled.

    Args:
        edit: Gets a mujoco.MjSpec; untouched, it compiles to the suite's own model.
    """
    physics: Any = engine.Physics
    original = physics.__dict__["from_xml_string"]

    def load(cls: Any, xml_string: str, assets: Any = None) -> Any:
        spec = _mujoco.MjSpec.from_string(xml_string, include=assets, assets=assets)
        edit(spec)
        return cls.from_model(engine.wrapper.MjModel(spec.compile()))

    # The suite has no other place where a model could be had before it is compiled.
    physics.from_xml_string = classmethod(load)
    try:
        yield
    finally:
        physics.from_xml_string = original


TASKS = tuple(
    sorted(
        f"{domain}-{task}"
        for domain, task in suite.ALL_TASKS
        if domain not in _LEFT_OUT
    )
)

Observation = NDArray[Any] | dict[str, NDArray[np.float64]]


class SuiteTask(gymnasium.Env[Any, NDArray[np.float32]]):
    """A task of the suite; its episodes last 1000 steps.

    Observations are the suite's arrays by name, single numbers as arrays of one as
    RL Unplugged has them; or frames, uint8 [pixels, pixels, 3].

    Args:
        task: A name such as `cartpole-swingup`.
        pixels: Side of the frames; 0 for numbers.
        render_mode: rgb_array to draw what happens, None not to.
    """

    metadata = _METADATA

    def __init__(
        self, task: str, pixels: int = 0, render_mode: str | None = None
    ) -> None:
        self._task = task
        self.render_mode = render_mode
        self._random = np.random.RandomState(0)  # Seeded anew by each reset.
        self._pixels = pixels
        self._load()
        bounds = self._suite.action_spec()
        self.action_space = gymnasium.spaces.Box(
            bounds.minimum.astype(np.float32), bounds.maximum.astype(np.float32)
        )
        rate = round(1 / self._suite.control_timestep())
        self.metadata = {**self.metadata, "render_fps": rate}
        if pixels or render_mode:
            load_renderer()
        if pixels:
            self.observation_space = gymnasium.spaces.Box(
                0, 255, (pixels, pixels, 3), np.uint8
            )
        else:
            seen = self._suite.observation_spec()
            self.observation_space = gymnasium.spaces.Dict(
                {
                    key: gymnasium.spaces.Box(
                        -np.inf, np.inf, one.shape or (1,), np.float64
                    )
                    for key, one in seen.items()
                }
            )

    def _load(self) -> None:
        domain, _, name = self._task.partition("-")
        random = {"random": self._random}
        self._suite = suite.load(domain, name, task_kwargs=random)
        if self._pixels or self.render_mode:
            # Four samples a pixel take ten times as long.
            self.physics.model.vis.quality.offsamples = 0

    @property
    def physics(self) -> Any:
        """The simulation, which experts look into."""
        return self._suite.physics

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode; without a seed the last one's numbers go on."""
        super().reset(seed=seed)
        if seed is not None:
            self._random.seed(seed)
        return self._observed(self._suite.reset().observation), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes one step of the suite's control."""
        moment = self._suite.step(action)
        ended = bool(moment.last())
        terminated = ended and moment.discount == 0
        reward = float(moment.reward)
        seen = self._observed(moment.observation)
        return seen, reward, terminated, ended and not terminated, {}

    def render(self) -> NDArray[np.uint8] | None:
        """Returns what is seen now, uint8 [240, 240, 3]; None unless it is drawn."""
        return self._draw(_RENDERED) if self.render_mode else None

    def _draw(self, side: int) -> NDArray[np.uint8]:
        frame = self.physics.render(
            side,
            side,
            camera_id=_CAMERA,
            render_flag_overrides={"shadow": False, "reflection": False},
        )
        return np.ascontiguousarray(frame)  # It comes upside down.

    def _observed(self, observation: Any) -> Observation:
        if self._pixels:
            return self._draw(self._pixels)
        return {
            key: np.atleast_1d(np.asarray(value, np.float64))
            for key, value in observation.items()
        }

    def close(self) -> None:
        """Lets go of the simulation and its drawing context."""
        self._suite.close()


for _task in TASKS:
    for _namespace, _pixels in (("dm_control", 0), ("dm_control_pixels", 64)):
        gymnasium.register(
            id=f"{_namespace}/{_task}",
            entry_point=f"{__name__}:{SuiteTask.__name__}",
            kwargs={"task": _task, "pixels": _pixels},
            disable_env_checker=True,
        )

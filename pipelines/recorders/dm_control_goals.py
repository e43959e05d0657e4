"""DM Control's point_mass with its target in a corner: four tasks that look alike.

Importing this module registers `dm_control_goals/point_mass-<goal>`, which recorder and
`gato-evaluate` make by these names, as `dm_control_world.py` says.

Goals are those of ExORL's point_mass_maze (arXiv 2201.13425), here without its walls:
place, start and reward are the suite's `point_mass-easy`, and the target is moved from
the middle to a corner. An observation is the mass's position and velocity, so nothing
in an episode but its rewards, which are no tokens, says which corner is wanted. Whoever
plays all four well was told by something else, such as a prompt.
"""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from gato.pipelines.recorders import dm_control_world as world

REPEAT = 4  # The mass needs two seconds, or 100 of the suite's steps, for its way.
_SIZE = 0.05  # of the target, whose radius is 0.015 in the suite
_CORNER = 0.15  # from the middle of an arena that reaches to 0.3
GOALS = {
    "point_mass-reach_bottom_left": (-_CORNER, -_CORNER),
    "point_mass-reach_bottom_right": (_CORNER, -_CORNER),
    "point_mass-reach_top_left": (-_CORNER, _CORNER),
    "point_mass-reach_top_right": (_CORNER, _CORNER),
}


class CornerTask(world.SuiteTask):
    """The suite's point_mass, rewarded near a corner.

    Args:
        task: A name in `GOALS`.
        render_mode: rgb_array to draw what happens, None not to.
    """

    def __init__(self, task: str, render_mode: str | None = None) -> None:
        super().__init__("point_mass-easy", render_mode=render_mode)
        self.metadata["render_fps"] //= REPEAT
        model = self.physics.named.model
        model.geom_pos["target", :2] = GOALS[task]
        model.geom_size["target", 0] = _SIZE

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[world.Observation, float, bool, bool, dict[str, Any]]:
        """Takes `REPEAT` steps of the suite's control, whose rewards are added."""
        seen, total, terminated, truncated, about = super().step(action)
        for _ in range(REPEAT - 1):
            if terminated or truncated:
                break
            seen, reward, terminated, truncated, about = super().step(action)
            total += reward
        return seen, total, terminated, truncated, about


for _task in GOALS:
    gymnasium.register(
        id=f"dm_control_goals/{_task}",
        entry_point=f"{__name__}:{CornerTask.__name__}",
        kwargs={"task": _task},
        disable_env_checker=True,
    )

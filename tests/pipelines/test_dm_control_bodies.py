"""Randomised bodies of DM Control against the suite's own, as MuJoCo compiled them."""

import logging

import numpy as np
import pytest
from dm_control.rl.control import PhysicsError
from recordings import expert_return

from gato.pipelines.recorders import dm_control_bodies, domain
from gato.pipelines.recorders import dm_control_world as world
from gato.pipelines.recorders.dm_control import RANDOM_BODIES
from gato.pipelines.recorders.dm_control_bodies import FACTORS, RandomBody
from gato.schemas.errors import GatoError

# Given masses; ellipsoids, capsules and free joints; stiff joints and a total mass;
# objects, an inertia that is given, and a target that does not move.
TASKS = ("cartpole-swingup", "fish-swim", "cheetah-run", "manipulator-bring_ball")
SCALED = {
    "gear": "actuator_gear",
    "joint_range": "jnt_range",
    "joint_stiffness": "jnt_stiffness",
    "geom_size": "geom_size",
}


def _arrays(model):
    names = (name for name in dir(model) if not name.startswith("_"))
    values = {name: getattr(model, name) for name in names}
    return {name: one for name, one in values.items() if isinstance(one, np.ndarray)}


@pytest.mark.parametrize("task", TASKS)
def test_an_unedited_model_is_the_suites_own(task):
    """Here with its textures: what is drawn is the same as well."""
    expected = _arrays(world.SuiteTask(task).physics.model.ptr)
    seen = []
    with world.edited(seen.append):
        found = _arrays(world.SuiteTask(task).physics.model.ptr)
    assert len(seen) == 1
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, name)
    world.SuiteTask(task)
    assert len(seen) == 1, "the suite loads as before"


@pytest.mark.parametrize("bodies", ["small", "large"])
def test_each_part_is_scaled_by_its_factor(bodies):
    everything = []
    for task in TASKS:
        own = world.SuiteTask(task).physics.model.ptr
        environment = RandomBody(task, bodies)
        _, info = environment.reset(seed=3)
        model, factors = environment.physics.model.ptr, dict(info["body"])
        everything += factors.values()
        moving = np.flatnonzero(own.body_weldid[own.geom_bodyid])
        assert 0 < len(moving) < own.ngeom
        sizes = np.ones(own.ngeom)
        sizes[moving] = factors["geom_size"]
        factors["geom_size"] = sizes
        for name, field in SCALED.items():
            before, after = getattr(own, field), getattr(model, field)
            factor = factors[name].reshape(-1, *[1] * (before.ndim - 1))
            if name == "geom_size":
                # From point to point, only the radius is a size of the file.
                before, after = before[:, :1], after[:, :1]
            np.testing.assert_allclose(after, before * factor, rtol=1e-12)
        np.testing.assert_allclose(
            model.dof_damping,
            own.dof_damping * factors["joint_damping"][own.dof_jntid],
            rtol=1e-12,
        )
        changed = model.body_mass != own.body_mass
        assert changed.any()
        assert not changed[own.body_weldid == 0].any()
    drawn = np.concatenate(everything)
    (low, below), (above, high) = FACTORS[bodies]
    fewer = drawn < 1
    assert 0.4 < fewer.mean() < 0.6
    assert ((low <= drawn) & (drawn <= below))[fewer].all()
    assert ((above <= drawn) & (drawn <= high))[~fewer].all()
    assert len(np.unique(drawn)) == len(drawn)


def test_masses_follow_density_and_size():
    """By hand: a given mass by its density alone, a ball's by its volume as well."""
    environment = RandomBody("cartpole-balance", "large")
    _, info = environment.reset(seed=8)
    cart, pole = info["body"]["geom_density"]
    named = environment.physics.named.model
    assert named.body_mass["cart"] == pytest.approx(1.0 * cart)
    assert named.body_mass["pole_1"] == pytest.approx(0.1 * pole)
    suite = world.SuiteTask("manipulator-bring_ball")
    environment = RandomBody("manipulator-bring_ball", "large")
    _, info = environment.reset(seed=8)
    size, density = (info["body"][name][-1] for name in ("geom_size", "geom_density"))
    own, named = suite.physics.named.model, environment.physics.named.model
    assert named.geom_size["ball", 0] == pytest.approx(own.geom_size["ball", 0] * size)
    assert named.body_mass["ball"] == pytest.approx(
        own.body_mass["ball"] * density * size**3
    )


def test_the_seed_alone_decides_the_body():
    one, other = RandomBody("walker-walk", "large"), RandomBody("walker-walk", "large")
    small = RandomBody("walker-walk", "small")
    _, first = one.reset(seed=5)
    one.step(np.ones(6, np.float32))
    gear = one.physics.model.actuator_gear.copy()
    one.reset()
    np.testing.assert_array_equal(one.physics.model.actuator_gear, gear)
    _, second = one.reset(seed=6)
    _, again = one.reset(seed=5)
    _, elsewhere = other.reset(seed=5)
    _, little = small.reset(seed=5)
    for name, factors in first["body"].items():
        np.testing.assert_array_equal(factors, again["body"][name])
        np.testing.assert_array_equal(factors, elsewhere["body"][name])
        assert (factors != second["body"][name]).all()
    # Small is not large drawn nearer to 1.
    signs = [about["body"]["joint_range"] < 1 for about in (first, little)]
    assert (signs[0] != signs[1]).any()


def _spoil(monkeypatch, spoil):
    """Calls `spoil` with each body and its number from 1; returns what was drawn."""
    randomize = dm_control_bodies.randomize
    drawn = []

    def spoilt(spec, bodies, generator):
        drawn.append(randomize(spec, bodies, generator))
        spoil(spec, len(drawn))
        return drawn[-1]

    monkeypatch.setattr(dm_control_bodies, "randomize", spoilt)
    return drawn


def test_a_body_that_cannot_be_played_is_drawn_again_and_said(monkeypatch, caplog):
    def refuse(spec, number):
        if number == 1:
            spec.geoms[-1].size = np.zeros(3)  # MuJoCo does not compile it.
        if number == 2:
            raise PhysicsError("mjWARN_BADQACC")

    drawn = _spoil(monkeypatch, refuse)
    environment = RandomBody("reacher-easy", "large")
    with caplog.at_level(logging.WARNING):
        _, info = environment.reset(seed=11)
    assert info["body"]["gear"].tolist() == drawn[2]["gear"].tolist()
    assert [d["gear"][0] for d in drawn] != [drawn[0]["gear"][0]] * 3
    said = [record.getMessage() for record in caplog.records]
    assert [message.split(" (")[0] for message in said] == [
        f"reacher-easy: body {draw} of seed 11 cannot be played" for draw in (0, 1)
    ]
    assert "BADQACC" in said[1]


def test_a_body_whose_parts_always_touch_is_drawn_again(monkeypatch, caplog):
    """The suite would look for a posture for ever."""

    def swell(spec, number):
        if number == 1:
            (ball,) = (geom for geom in spec.geoms if geom.name == "ball")
            ball.size = ball.size * 20

    drawn = _spoil(monkeypatch, swell)
    environment = RandomBody("ball_in_cup-catch", "small")
    _, info = environment.reset(seed=1)
    assert len(drawn) == 2
    assert info["body"]["gear"].tolist() == drawn[1]["gear"].tolist()
    assert "parts touch in 500 postures" in caplog.text


def test_a_seed_without_any_body_is_refused(monkeypatch):
    def refuse(spec, bodies, generator):
        raise ValueError("inertia must satisfy A + B >= C")

    monkeypatch.setattr(dm_control_bodies, "randomize", refuse)
    monkeypatch.setattr(dm_control_bodies, "_MOST_DRAWS", 3)
    environment = RandomBody("reacher-easy", "small")
    with pytest.raises(GatoError, match="none of the 3 drawn for seed 11"):
        environment.reset(seed=11)


def test_a_body_that_breaks_down_costs_its_seed_and_is_counted(monkeypatch):
    control = RANDOM_BODIES["large"](max_steps=5)
    recipe = domain.Recipe(task="cartpole-swingup", policy="expert", episodes=2)
    first = next(domain.seeds(recipe))
    reset, step = RandomBody.reset, RandomBody.step
    played = []

    def remember(self, *, seed=None, options=None):
        played.append(seed)
        return reset(self, seed=seed, options=options)

    def explode(self, action):
        if played[-1] == first:
            raise PhysicsError("mjWARN_BADQPOS")
        return step(self, action)

    monkeypatch.setattr(RandomBody, "reset", remember)
    monkeypatch.setattr(RandomBody, "step", explode)
    failed, *rollouts = control.rollouts(recipe)
    assert isinstance(failed, domain.ExpertFailedError)
    assert str(failed) == f"seed {first}: mjWARN_BADQPOS"
    assert [type(rollout) for rollout in rollouts] == [domain.Rollout] * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "least"),
    [("cartpole-balance", 990), ("cartpole-swingup", 700), ("reacher-easy", 750)],
)
def test_controllers_do_their_tasks_with_large_changes(task, least):
    assert expert_return(RANDOM_BODIES["large"](), task, episodes=6) > least

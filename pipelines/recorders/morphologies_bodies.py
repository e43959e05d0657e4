"""Bodies of a few rules, as MuJoCo's XML: what differs is how many limbs they have.

After the families of Modular RL (Huang et al. 2020, https://arxiv.org/abs/2007.04976),
whose files MuJoCo 3 does not all read; nothing of them is copied. All move in the plane
of x (forward) and z (up). A body's name says what it is:

- `cheetah-B-F`: a lying torso, B limbs of a back leg and F of a front leg, up to 3;
- `walker-R-L`: a standing torso, R limbs of a right leg and L of a left, up to 3;
- `hopper-N`: a standing torso and one leg, of N limbs together, 3 to 5;
- `worm-N`: N limbs in a row, 2 to 7.

Each limb of each body has a length of its own, 0.85 to 1.15 of what is usual.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

import numpy as np

from gato.schemas.hashing import keyed_hash

PHYSICS_STEP = 0.005
_DENSITY, _ARMATURE = 1000, 0.1
_LENGTHS = (0.85, 1.15)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limb:
    """A limb that hangs on another by a hinge.

    Attributes:
        end: x and z of its far end from its hinge, in metres.
        bends: How far its hinge turns, in radians; forward is positive.
        strength: What its motor gives, in Nm.
        stiffness: Of its hinge's spring, in Nm a radian.
    """

    end: tuple[float, float]
    bends: tuple[float, float]
    strength: float
    stiffness: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Body:
    """A torso with legs.

    Attributes:
        ends: x and z of both ends of the torso from its joint.
        legs: What hangs on the torso: x and z of where, and its limbs, the first one
            on the torso and each other on the one before.
        upright: Whether an episode ends when it falls.
        thickness: Radius of its limbs, in metres.
    """

    ends: tuple[tuple[float, float], tuple[float, float]]
    legs: tuple[tuple[tuple[float, float], tuple[Limb, ...]], ...]
    upright: bool
    thickness: float = 0.046

    @property
    def height(self) -> float:
        """Returns how high the torso's joint is when the body stands, in metres."""
        lowest = min(z for _, z in self.ends)
        for (_, z), limbs in self.legs:
            for limb in limbs:
                z += limb.end[1]
                lowest = min(lowest, z)
        return self.thickness - lowest


_BACK_LEG = (
    Limb(end=(0.16, -0.25), bends=(-0.5, 1.0), strength=120, stiffness=120),
    Limb(end=(-0.28, -0.14), bends=(-0.8, 0.8), strength=90, stiffness=90),
    Limb(end=(0.06, -0.19), bends=(-0.4, 0.8), strength=60, stiffness=60),
)
_FRONT_LEG = (
    Limb(end=(-0.14, -0.24), bends=(-1.0, 0.7), strength=120, stiffness=90),
    Limb(end=(0.13, -0.18), bends=(-1.2, 0.9), strength=60, stiffness=60),
    Limb(end=(0.07, -0.15), bends=(-0.5, 0.5), strength=30, stiffness=30),
)
_LEG = (
    Limb(end=(0.0, -0.45), bends=(-0.6, 1.5), strength=100),
    Limb(end=(0.0, -0.5), bends=(-2.2, 0.1), strength=100),
    Limb(end=(0.2, 0.0), bends=(-0.8, 0.8), strength=60),
)
# Each hop needs more than a step does.
_HOP = tuple(dataclasses.replace(limb, strength=200) for limb in _LEG)
_HOPS = {
    3: (_HOP[0], _HOP[2]),
    4: _HOP,
    5: (
        _HOP[0],
        dataclasses.replace(_HOP[1], end=(0.0, -0.3)),
        dataclasses.replace(_HOP[1], end=(0.0, -0.3), bends=(-0.1, 1.5)),
        _HOP[2],
    ),
}
_STANDING = ((0.0, 0.2), (0.0, -0.2))
_LYING = ((-0.5, 0.0), (0.5, 0.0))
_WORM = Limb(end=(-0.3, 0.0), bends=(-1.2, 1.2), strength=40)


def _bodies() -> Iterator[tuple[str, Body]]:
    for back in range(4):
        for front in range(4):
            if back + front:
                legs = ((_LYING[0], _BACK_LEG[:back]), (_LYING[1], _FRONT_LEG[:front]))
                body = Body(ends=_LYING, legs=legs, upright=False)
                yield f"cheetah-{back}-{front}", body
    for right in range(1, 4):
        for left in range(right + 1):
            hip = _STANDING[1]
            legs = ((hip, _LEG[:right]), (hip, _LEG[:left]))
            body = Body(ends=_STANDING, legs=legs, upright=True)
            yield f"walker-{right}-{left}", body
    for limbs, hop in _HOPS.items():
        legs = ((_STANDING[1], hop),)
        yield f"hopper-{limbs}", Body(ends=_STANDING, legs=legs, upright=True)
    for limbs in range(2, 8):
        legs = (((-0.15, 0.0), (_WORM,) * (limbs - 1)),)
        body = Body(ends=((-0.15, 0.0), (0.15, 0.0)), legs=legs, upright=False)
        yield f"worm-{limbs}", body


def _scaled(name: str, body: Body) -> Body:
    """Returns the body with limbs of lengths of their own, always the same by name."""
    generator = np.random.default_rng(keyed_hash(0, "morphology", name))

    def scaled(limbs: Sequence[Limb]) -> tuple[Limb, ...]:
        factors = generator.uniform(*_LENGTHS, len(limbs))
        return tuple(
            dataclasses.replace(
                limb, end=(float(f * limb.end[0]), float(f * limb.end[1]))
            )
            for limb, f in zip(limbs, factors, strict=True)
        )

    legs = tuple((place, scaled(limbs)) for place, limbs in body.legs)
    return dataclasses.replace(body, legs=legs)


BODIES = {name: _scaled(name, body) for name, body in sorted(_bodies())}


def _text(*numbers: float) -> str:
    return " ".join(f"{number:.6g}" for number in numbers)


def _along(x: float, z: float) -> tuple[float, float, float]:
    return (x, 0.0, z)


def _capsule(
    parent: ElementTree.Element,
    ends: tuple[tuple[float, float], tuple[float, float]],
    size: float,
) -> None:
    places = [number for x, z in ends for number in _along(x, z)]
    ElementTree.SubElement(
        parent, "geom", type="capsule", fromto=_text(*places), size=_text(size)
    )


def to_xml(name: str) -> str:
    """Returns a body of `BODIES` on a plane, as MuJoCo's XML.

    Its first three joints are the torso's way forward and up and its turn, the others
    the limbs' hinges; each limb has a motor, whose control is in [-1, 1]. The only
    sensor is the torso's velocity, its forward speed first.
    """
    body = BODIES[name]
    root = ElementTree.Element("mujoco", model=name)
    add = ElementTree.SubElement
    add(root, "compiler", angle="radian", autolimits="true")
    add(root, "option", timestep=str(PHYSICS_STEP), integrator="implicitfast")
    defaults = add(root, "default")
    # Limbs do not touch each other, only the floor.
    add(defaults, "geom", contype="1", conaffinity="0", density=str(_DENSITY))
    add(defaults, "motor", ctrlrange="-1 1")
    world = add(root, "worldbody")
    floor = add(world, "geom", name="floor", type="plane", size="0 0 1")
    floor.attrib |= {"conaffinity": "1", "friction": "0.9 0.01 0.001"}
    torso = add(world, "body", name="torso", pos=_text(*_along(0.0, body.height)))
    for joint, kind, axis in (
        ("forward", "slide", "1 0 0"),
        ("up", "slide", "0 0 1"),
        ("turn", "hinge", "0 -1 0"),
    ):
        add(torso, "joint", name=joint, type=kind, axis=axis)
    _capsule(torso, body.ends, body.thickness)
    motors = add(root, "actuator")
    for leg, (place, limbs) in enumerate(body.legs):
        parent = torso
        for index, limb in enumerate(limbs):
            label = f"leg{leg}-{index}"
            parent = add(parent, "body", name=label, pos=_text(*_along(*place)))
            add(
                parent,
                "joint",
                name=label,
                axis="0 -1 0",
                range=_text(*limb.bends),
                damping=_text(limb.strength / 20),
                stiffness=_text(limb.stiffness),
                armature=_text(_ARMATURE),
            )
            _capsule(parent, ((0.0, 0.0), limb.end), body.thickness)
            add(motors, "motor", joint=label, gear=_text(limb.strength))
            place = limb.end
    add(add(root, "sensor"), "framelinvel", objtype="body", objname="torso")
    return ElementTree.tostring(root, encoding="unicode")

"""`gato-record`: records raw data on this machine, from real environments and text.

    gato-record babyai --output raw --levels BabyAI-GoToLocal-v0 --episodes 100
    gato-record metaworld --output raw --tasks assembly-v3,reach-v3 --episodes 50
    gato-record sokoban --output raw --rooms 7x7 --runner DirectRunner
    gato-record dm_control --output raw --tasks cartpole-swingup --episodes 50
    gato-record sokoban --output raw --rooms 7x7 --episodes 100
    gato-record ale --output raw --games Breakout --episodes 50
    gato-record procgen --output raw --games maze --episodes 50
    gato-record robotics --output raw --tasks FetchPush-v4 --episodes 50
    gato-record morphologies --output raw --bodies cheetah-3-3 --episodes 50
    gato-record captions --output raw/captions --scenes 1000
    gato-record questions --output raw/questions --scenes 1000
    gato-record text --output raw/text

The same command writes the same data. One that was stopped goes on where it was.
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gato.pipelines.command import run_command
from gato.pipelines.recorders import arguments
from gato.schemas import files
from gato.schemas.errors import UsageError

if TYPE_CHECKING:
    from gato.pipelines.recorders.domain import Domain

# Each recorder imports what only it needs: text needs no environment.


def _play(
    domain: "Domain", tasks: tuple[str, ...], policies: tuple[Any, ...], **options: Any
) -> None:
    from gato.pipelines.recorders import recording

    recording.record(
        recording.Options(
            domain=domain,
            tasks=domain.chosen(tasks, policies),
            policies=policies,
            **options,
        )
    )


def _record_babyai(levels: tuple[str, ...], tile: int | None, **options: Any) -> None:
    from gato.pipelines.recorders import babyai

    _play(babyai.BabyAI(tile=tile), levels, **options)


def _record_metaworld(tasks: tuple[str, ...], max_steps: int, **options: Any) -> None:
    from gato.pipelines.recorders import metaworld

    _play(metaworld.MetaWorld(max_steps=max_steps), tasks, **options)


def _record_dm_control(
    tasks: tuple[str, ...],
    max_steps: int,
    pixels: int | None,
    bodies: str | None,
    goals: bool,
    **options: Any,
) -> None:
    from gato.pipelines.recorders import dm_control

    if pixels is not None:
        domain = dm_control.DMControlPixels(max_steps=max_steps, pixels=pixels)
    elif bodies is not None:
        domain = dm_control.RANDOM_BODIES[bodies](max_steps=max_steps)
    elif goals:
        domain = dm_control.DMControlGoals(max_steps=max_steps)
    else:
        domain = dm_control.DMControl(max_steps=max_steps)
    _play(domain, tasks, **options)


def _record_sokoban(rooms: tuple[str, ...], grid: bool, **options: Any) -> None:
    from gato.pipelines.recorders import sokoban

    _play(sokoban.SokobanGrid() if grid else sokoban.Sokoban(), rooms, **options)


def _record_procgen(
    games: tuple[str, ...], hard: bool, python: str | None, **options: Any
) -> None:
    from gato.pipelines.recorders import procgen

    made = procgen.ProcgenHard if hard else procgen.Procgen
    _play(made(python=python), games, **options)


def _record_morphologies(
    bodies: tuple[str, ...], max_steps: int, **options: Any
) -> None:
    from gato.pipelines.recorders import morphologies

    _play(morphologies.Morphologies(max_steps=max_steps), bodies, **options)


def _record_robotics(tasks: tuple[str, ...], max_steps: int, **options: Any) -> None:
    from gato.pipelines.recorders import robotics

    _play(robotics.Robotics(max_steps=max_steps), tasks, **options)


def _record_ale(
    games: tuple[str, ...], modes: str, max_steps: int, rgb: bool, **options: Any
) -> None:
    from gato.pipelines.recorders import ale

    if modes == "random":
        made = ale.AtariExtendedRGB if rgb else ale.AtariExtended
    else:
        made = ale.AtariRGB if rgb else ale.Atari
    _play(made(max_steps=max_steps), games, **options)


def _folder(output: str) -> pathlib.Path:
    if not files.is_local(output):
        raise UsageError(f"--output: only episodes are written to a URL, got {output}")
    return pathlib.Path(files.local_path(output))


def _record_captions(output: str, **options: Any) -> None:
    from gato.pipelines.recorders import captions

    captions.record(captions.Options(output=_folder(output), **options))


def _record_questions(output: str, **options: Any) -> None:
    from gato.pipelines.recorders import questions

    questions.record(questions.Options(output=_folder(output), **options))


def _record_text(output: str) -> None:
    from gato.pipelines.recorders import text

    text.record(output=_folder(output))


_RECORDERS = {
    "babyai": _record_babyai,
    "metaworld": _record_metaworld,
    "dm_control": _record_dm_control,
    "sokoban": _record_sokoban,
    "ale": _record_ale,
    "procgen": _record_procgen,
    "robotics": _record_robotics,
    "morphologies": _record_morphologies,
    "captions": _record_captions,
    "questions": _record_questions,
    "text": _record_text,
}


def run(argv: Sequence[str] | None = None) -> int:
    """Records what the arguments name and is not there yet.

    Raises:
        GatoError: If something cannot be recorded, or other data is in the way.
    """
    argv = sys.argv[1:] if argv is None else argv
    known, rest = arguments.make_parser().parse_known_args(argv)
    options = vars(known)
    own, runner = options.pop("own"), options.pop("runner", None)
    if runner is not None:
        # Beam takes seconds to import.
        from gato.pipelines.recorders import elsewhere

        options["run_all"] = elsewhere.choose(
            own, runner, argv, rest, options["output"]
        )
    elif rest:
        own.error(f"unrecognized arguments: {' '.join(rest)}")
    _RECORDERS[options.pop("command")](**options)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code (1 failure, 2 usage, 130 interrupted)."""
    return run_command(run, argv)


if __name__ == "__main__":
    sys.exit(main())

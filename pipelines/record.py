"""`gato-record`: records raw data on this machine, from real environments and text.

    gato-record babyai --output raw --levels BabyAI-GoToLocal-v0 --episodes 100
    gato-record metaworld --output raw --tasks assembly-v3,reach-v3 --episodes 50
    gato-record dm_control --output raw --tasks cartpole-swingup --episodes 50
    gato-record captions --output raw/captions --scenes 1000
    gato-record questions --output raw/questions --scenes 1000
    gato-record text --output raw/text

The same command writes the same data. One that was stopped goes on where it was.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from gato.pipelines.command import run_command

_EXAMPLES = """examples:
  gato-record babyai --output raw --levels BabyAI-GoToLocal-v0 --episodes 100
  gato-record metaworld --output raw --tasks assembly-v3,reach-v3 --episodes 50
  gato-record dm_control --output raw --tasks cartpole-swingup --episodes 50
  gato-record captions --output raw/captions --scenes 1000
  gato-record questions --output raw/questions --scenes 1000
  gato-record text --output raw/text

The same command writes the same data; one that was stopped goes on where it was.
`gato-record babyai --help` has that recorder's options."""

_BABYAI = """Plays BabyAI levels and writes a Minari data set for each level and policy:
DIR/babyai/<level>/<policy>-v0. The expert is minigrid's bot; the noisy policy is the
bot with a fraction of random actions. The means of the level's expert and random
returns are stored with each data set (ref_max_score, ref_min_score)."""

_BABYAI_EXAMPLES = """examples:
  gato-record babyai --output raw --levels BabyAI-GoToLocal-v0,BabyAI-PickupLoc-v0
  gato-record babyai --output raw --levels BabyAI-GoToObj-v0 --policies expert \\
      --episodes 10000 --workers 8
  gato-record babyai --output raw --levels BabyAI-BossLevel-v0 --noise 0.05,0.1,0.2
  gato-record babyai --output pictures --levels BabyAI-GoToObj-v0 --tile 8

A build reads them with format minari and paths such as raw/babyai/*/*-v0."""

_METAWORLD = """Plays Meta-World tasks and writes a Minari data set for each task and
policy: DIR/metaworld/<task>/<policy>-v0. The expert is the task's scripted policy; the
noisy policy adds normal noise to its actions. Actions are stored clipped to [-1, 1],
as they were done. Observations are the 39 numbers with the goal. Objects and goal lie
elsewhere in each episode. Episodes go on after success, which is stored for each step.
The means of the task's expert and random returns are stored with each data set
(ref_max_score, ref_min_score)."""

_METAWORLD_EXAMPLES = """examples:
  gato-record metaworld --output raw --tasks assembly-v3,reach-v3 --episodes 50
  gato-record metaworld --output raw --tasks all --policies expert --workers 8
  gato-record metaworld --output raw --tasks push-v3 --max_steps 150 --noise 0.1,0.5

A build reads them with format minari and paths such as raw/metaworld/*/*-v0."""

_DM_CONTROL = """Plays tasks of the DM Control suite and writes a Minari data set for
each task and policy: DIR/dm_control/<task>/<policy>-v0, or with --pixels
DIR/dm_control_pixels/<task>/<policy>-v0. Experts are controllers written by hand: of
cartpole, point_mass-easy and reacher, and, of 30 to 75 steps a second, planners for
cheetah and walker. Other tasks are played with --policies random only. The noisy policy
adds normal noise to the expert's actions. Actions are stored clipped to [-1, 1], as
they were done. The means of the task's expert and random returns are stored with each
data set (ref_max_score, ref_min_score)."""

_DM_CONTROL_EXAMPLES = """examples:
  gato-record dm_control --output raw --tasks cartpole-swingup,reacher-hard
  gato-record dm_control --output raw --tasks all --episodes 10 --workers 8
  gato-record dm_control --output raw --tasks hopper-hop --policies random
  gato-record dm_control --output raw --tasks cartpole-balance --pixels 64

Frames are drawn by what MUJOCO_GL names: egl or osmesa. A build reads them with format
minari and paths such as raw/dm_control/*/*-v0."""

_CAPTIONS = """Draws rooms of a grid world, each with a caption that is true of it, and
writes webdataset tars with NUMBER.png, NUMBER.txt and NUMBER.json for each."""

_CAPTIONS_EXAMPLES = """examples:
  gato-record captions --output raw/captions --scenes 1000
  gato-record captions --output raw/captions --scenes 100000 --scenes_per_tar 10000 \\
      --seed 1 --workers 8

A build reads them with format webdataset and the path raw/captions/*.tar."""

_QUESTIONS = """Draws rooms of a grid world and asks about each: what there is, how
many, of which colour, where, and whether it is so. Answers follow from the room. Writes
the files of VQAv2:
  DIR/v2_OpenEnded_mscoco_<data_subtype>_questions.json
  DIR/v2_mscoco_<data_subtype>_annotations.json
  DIR/images/COCO_<data_subtype>_<12 digits>.jpg"""

_QUESTIONS_EXAMPLES = """examples:
  gato-record questions --output raw/questions --scenes 1000
  gato-record questions --output raw/questions --scenes 50000 --questions 8 --workers 8
  gato-record questions --output raw/questions --data_subtype val2014

A build reads them with format vqa and the path raw/questions/*_questions.json."""

_TEXT = """Writes the English that comes with Python: the language reference of its
help(), the docstrings of its standard library, and its licence; a .jsonl line with
"text" for each document. The same release of Python gives the same text."""

_TEXT_EXAMPLES = """example:
  gato-record text --output raw/text

A build reads it with format text and paths raw/text/*.jsonl and raw/text/*.txt."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _shared() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--output",
        required=True,
        type=pathlib.Path,
        metavar="DIR",
        help="folder to write to; what is there of the same recipe is kept",
    )
    return parser


def _seeded() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="decides all that is drawn (default: 0)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes; the data does not depend on how many (default: 1)",
    )
    return parser


def _played(noise: str) -> argparse.ArgumentParser:
    """Returns the options of commands that play episodes; `noise` says its unit."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--episodes",
        type=int,
        default=100,
        metavar="N",
        help="of each task and policy (default: 100)",
    )
    parser.add_argument(
        "--policies",
        type=_names,
        default=("expert", "noisy", "random"),
        metavar="A,B",
        help="of expert, noisy, random (default: all three)",
    )
    parser.add_argument(
        "--noise",
        type=_numbers,
        default=(0.1, 0.3),
        metavar="X,Y",
        help=f"{noise}; noisy episodes take them in turn (default: 0.1,0.3)",
    )
    parser.add_argument(
        "--data_format",
        choices=("hdf5", "arrow"),
        default="hdf5",
        help="Minari's file format (default: hdf5)",
    )
    return parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gato-record",
        description="Records raw data on this machine: episodes, pictures, text.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared, seeded = _shared(), _seeded()

    def add(
        name: str,
        summary: str,
        description: str,
        examples: str,
        *parents: argparse.ArgumentParser,
    ) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            parents=[shared, *parents],
            help=summary,
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    babyai = add(
        "babyai",
        "episodes of BabyAI levels as Minari data sets",
        _BABYAI,
        _BABYAI_EXAMPLES,
        _played("fractions of random actions"),
        seeded,
    )
    babyai.add_argument(
        "--levels",
        required=True,
        type=_names,
        metavar="A,B",
        help="ids, such as BabyAI-GoToLocal-v0,BabyAI-PickupLoc-v0",
    )
    babyai.add_argument(
        "--tile",
        type=int,
        metavar="N",
        help="observe the view as a picture with N pixels a cell, not as numbers",
    )
    metaworld = add(
        "metaworld",
        "episodes of Meta-World tasks as Minari data sets",
        _METAWORLD,
        _METAWORLD_EXAMPLES,
        _played("standard deviations of the noise, in units of an action"),
        seeded,
    )
    metaworld.add_argument(
        "--tasks",
        required=True,
        type=_names,
        metavar="A,B",
        help="names, such as assembly-v3,reach-v3, or all",
    )
    metaworld.add_argument(
        "--max_steps",
        type=int,
        default=500,
        metavar="N",
        help="length of every episode (default and at most: 500)",
    )
    dm_control = add(
        "dm_control",
        "episodes of DM Control tasks as Minari data sets",
        _DM_CONTROL,
        _DM_CONTROL_EXAMPLES,
        _played("standard deviations of the noise, in units of an action"),
        seeded,
    )
    dm_control.add_argument(
        "--tasks",
        required=True,
        type=_names,
        metavar="A,B",
        help="names, such as cartpole-swingup,reacher-hard, or all that --policies can"
        " play",
    )
    dm_control.add_argument(
        "--max_steps",
        type=int,
        default=1000,
        metavar="N",
        help="length of every episode (default and at most: 1000)",
    )
    dm_control.add_argument(
        "--pixels",
        type=int,
        metavar="N",
        help="observe frames of NxN in place of numbers",
    )
    captions = add(
        "captions",
        "rendered grid scenes with true captions as webdataset tars",
        _CAPTIONS,
        _CAPTIONS_EXAMPLES,
        seeded,
    )
    captions.add_argument(
        "--scenes",
        type=int,
        default=1000,
        metavar="N",
        help="how many pictures (default: 1000)",
    )
    captions.add_argument(
        "--scenes_per_tar",
        type=int,
        default=1000,
        metavar="N",
        help="how many share a tar, one worker's job (default: 1000)",
    )
    questions = add(
        "questions",
        "rendered grid scenes with questions and true answers as VQAv2's files",
        _QUESTIONS,
        _QUESTIONS_EXAMPLES,
        seeded,
    )
    questions.add_argument(
        "--scenes",
        type=int,
        default=1000,
        metavar="N",
        help="how many pictures (default: 1000)",
    )
    questions.add_argument(
        "--questions",
        type=int,
        default=5,
        metavar="N",
        help="how many on each picture, at most 10 (default: 5)",
    )
    questions.add_argument(
        "--data_subtype",
        default="train2014",
        metavar="NAME",
        help="VQAv2's name of the part, in the names of its files (default: train2014)",
    )
    add(
        "text",
        "the English that comes with Python, as .jsonl",
        _TEXT,
        _TEXT_EXAMPLES,
    )
    return parser


# Each recorder imports what only it needs: text needs no environment.


def _record_babyai(levels: tuple[str, ...], tile: int | None, **options: Any) -> None:
    from gato.pipelines.recorders import babyai, recording

    domain = babyai.BabyAI(tile=tile)
    recording.record(recording.Options(domain=domain, tasks=levels, **options))


def _record_metaworld(tasks: tuple[str, ...], max_steps: int, **options: Any) -> None:
    from gato.pipelines.recorders import metaworld, recording

    domain = metaworld.MetaWorld(max_steps=max_steps)
    chosen = tuple(domain.tasks()) if tasks == ("all",) else tasks
    recording.record(recording.Options(domain=domain, tasks=chosen, **options))


def _record_dm_control(
    tasks: tuple[str, ...],
    policies: tuple[Any, ...],
    max_steps: int,
    pixels: int | None,
    **options: Any,
) -> None:
    from gato.pipelines.recorders import dm_control, recording

    if pixels is None:
        domain = dm_control.DMControl(max_steps=max_steps)
    else:
        domain = dm_control.DMControlPixels(max_steps=max_steps, pixels=pixels)
    recording.record(
        recording.Options(
            domain=domain,
            tasks=domain.playable(policies) if tasks == ("all",) else tasks,
            policies=policies,
            **options,
        )
    )


def _record_captions(**options: Any) -> None:
    from gato.pipelines.recorders import captions

    captions.record(captions.Options(**options))


def _record_questions(**options: Any) -> None:
    from gato.pipelines.recorders import questions

    questions.record(questions.Options(**options))


def _record_text(**options: Any) -> None:
    from gato.pipelines.recorders import text

    text.record(**options)


_RECORDERS = {
    "babyai": _record_babyai,
    "metaworld": _record_metaworld,
    "dm_control": _record_dm_control,
    "captions": _record_captions,
    "questions": _record_questions,
    "text": _record_text,
}


def run(argv: Sequence[str] | None = None) -> int:
    """Records what the arguments name and is not there yet.

    Raises:
        GatoError: If something cannot be recorded, or other data is in the way.
    """
    options = vars(_parser().parse_args(argv))
    _RECORDERS[options.pop("command")](**options)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code (1 failure, 2 usage, 130 interrupted)."""
    return run_command(run, argv)


if __name__ == "__main__":
    sys.exit(main())

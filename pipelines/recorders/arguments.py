"""What `gato-record` takes: its subcommands and their options."""

import argparse

from gato.pipelines.recorders import descriptions


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _shared() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="folder to write to, for episodes also a URL; what is there of the same"
        " recipe is kept",
    )
    return parser


def _seeded(*, elsewhere: bool) -> argparse.ArgumentParser:
    """Returns the options of commands with workers, which may be `elsewhere`."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="decides all that is drawn (default: 0)",
    )
    players = parser.add_mutually_exclusive_group()
    players.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes; the data does not depend on how many (default: 1)",
    )
    if elsewhere:
        players.add_argument(
            "--runner",
            metavar="NAME",
            help="play as a Beam job in place of processes: DirectRunner, PrismRunner,"
            " FlinkRunner, SparkRunner, DataflowRunner; options not listed here go to"
            " Beam",
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


def make_parser() -> argparse.ArgumentParser:
    """Returns what reads the command's arguments; `own` is the subcommand's."""
    parser = argparse.ArgumentParser(
        prog="gato-record",
        description="Records raw data on this machine: episodes, pictures, text.",
        epilog=descriptions.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = _shared()
    seeded, drawn = _seeded(elsewhere=True), _seeded(elsewhere=False)

    def add(name: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        said = descriptions.COMMANDS[name]
        added = commands.add_parser(
            name,
            parents=[shared, *parents],
            help=said.summary,
            description=said.description,
            epilog=said.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.set_defaults(own=added)
        return added

    babyai = add(
        "babyai",
        _played("fractions of random actions"),
        seeded,
    )
    babyai.add_argument(
        "--levels",
        required=True,
        type=_names,
        metavar="A,B",
        help="ids, such as BabyAI-GoToLocal-v0,BabyAI-PickupLoc-v0, or all but the 4"
        " that the bot never solves: all",
    )
    babyai.add_argument(
        "--tile",
        type=int,
        metavar="N",
        help="observe the view as a picture with N pixels a cell, not as numbers",
    )
    metaworld = add(
        "metaworld",
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
    suite = dm_control.add_mutually_exclusive_group()
    suite.add_argument(
        "--pixels",
        type=int,
        metavar="N",
        help="observe frames of NxN in place of numbers",
    )
    suite.add_argument(
        "--bodies",
        choices=("small", "large"),
        help="draw a body for each episode, a little or far off the suite's",
    )
    sokoban = add(
        "sokoban",
        _played("fractions of random actions"),
        seeded,
    )
    sokoban.add_argument(
        "--rooms",
        required=True,
        type=_names,
        metavar="A,B",
        help="sizes of 7x7, 8x8 and 10x10, or all",
    )
    sokoban.add_argument(
        "--grid",
        action="store_true",
        help="observe a number for each cell in place of a picture",
    )
    ale = add(
        "ale",
        _played("fractions of random actions"),
        seeded,
    )
    ale.add_argument(
        "--games",
        required=True,
        type=_names,
        metavar="A,B",
        help="names, such as Breakout,Freeway; atari and extended are lists of 51 and"
        " 28, all is every game: those of them that --policies can play",
    )
    ale.add_argument(
        "--modes",
        choices=("default", "random"),
        default="default",
        help="play each game in its first mode and difficulty, or draw both for each"
        " episode (default: default)",
    )
    ale.add_argument(
        "--max_steps",
        type=int,
        default=27_000,
        metavar="N",
        help="where an episode is cut (default and at most: 27000)",
    )
    ale.add_argument(
        "--rgb",
        action="store_true",
        help="observe frames in colour in place of grey",
    )
    procgen = add(
        "procgen",
        _played("fractions of random actions"),
        seeded,
    )
    procgen.add_argument(
        "--games",
        required=True,
        type=_names,
        metavar="A,B",
        help="names, such as maze,coinrun, or all that --policies can play",
    )
    procgen.add_argument(
        "--hard",
        action="store_true",
        help="play hard levels in place of easy ones",
    )
    procgen.add_argument(
        "--python",
        metavar="FILE",
        help="an interpreter that imports procgen (default: what GATO_PROCGEN_PYTHON"
        " names)",
    )
    morphologies = add(
        "morphologies",
        _played("standard deviations of the noise, in units of an action"),
        seeded,
    )
    morphologies.add_argument(
        "--bodies",
        required=True,
        type=_names,
        metavar="A,B",
        help="names, such as cheetah-3-3,hopper-4, or all",
    )
    morphologies.add_argument(
        "--max_steps",
        type=int,
        default=1000,
        metavar="N",
        help="where an episode is cut (default and at most: 1000)",
    )
    robotics = add(
        "robotics",
        _played("standard deviations of the noise, in units of an action"),
        seeded,
    )
    robotics.add_argument(
        "--tasks",
        required=True,
        type=_names,
        metavar="A,B",
        help="names, such as FetchPush-v4,FetchReach-v4, or all that --policies can"
        " play",
    )
    robotics.add_argument(
        "--max_steps",
        type=int,
        default=50,
        metavar="N",
        help="length of every episode (default: 50)",
    )
    captions = add(
        "captions",
        drawn,
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
        drawn,
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
    )
    return parser

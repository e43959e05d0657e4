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
    _add_number(parser, "--seed", 0, "decides all that is drawn (default: 0)")
    players = parser.add_mutually_exclusive_group()
    _add_number(
        players,
        "--workers",
        1,
        "processes; the data does not depend on how many (default: 1)",
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
    _add_number(parser, "--episodes", 100, "of each task and policy (default: 100)")
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


def _add_tasks(parser: argparse.ArgumentParser, flag: str, said: str) -> None:
    parser.add_argument(flag, required=True, type=_names, metavar="A,B", help=said)


def _add_number(
    parser: argparse._ActionsContainer, flag: str, default: int, said: str
) -> None:
    parser.add_argument(flag, type=int, default=default, metavar="N", help=said)


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
    fractions = _played("fractions of random actions")
    deviations = _played("standard deviations of the noise, in units of an action")

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

    babyai = add("babyai", fractions, seeded)
    _add_tasks(
        babyai,
        "--levels",
        "ids, such as BabyAI-GoToLocal-v0,BabyAI-PickupLoc-v0, or all but the 4"
        " that the bot never solves: all",
    )
    babyai.add_argument(
        "--tile",
        type=int,
        metavar="N",
        help="observe the view as a picture with N pixels a cell, not as numbers",
    )
    metaworld = add("metaworld", deviations, seeded)
    _add_tasks(metaworld, "--tasks", "names, such as assembly-v3,reach-v3, or all")
    _add_number(
        metaworld,
        "--max_steps",
        500,
        "length of every episode (default and at most: 500)",
    )
    dm_control = add("dm_control", deviations, seeded)
    _add_tasks(
        dm_control,
        "--tasks",
        "names, such as cartpole-swingup,reacher-hard, or all that --policies can play",
    )
    _add_number(
        dm_control,
        "--max_steps",
        1000,
        "length of every episode (default and at most: 1000; with --goals, whose steps"
        " are four of the suite's, they end at 250)",
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
    suite.add_argument(
        "--goals",
        action="store_true",
        help="play tasks that differ in a goal that is not observed, one corner each:"
        " point_mass-reach_top_left and three more",
    )
    sokoban = add("sokoban", fractions, seeded)
    _add_tasks(sokoban, "--rooms", "sizes of 7x7, 8x8 and 10x10, or all")
    sokoban.add_argument(
        "--grid",
        action="store_true",
        help="observe a number for each cell in place of a picture",
    )
    ale = add("ale", fractions, seeded)
    _add_tasks(
        ale,
        "--games",
        "names, such as Breakout,Freeway; atari and extended are lists of 51 and"
        " 28, all is every game: those of them that --policies can play",
    )
    ale.add_argument(
        "--modes",
        choices=("default", "random"),
        default="default",
        help="play each game in its first mode and difficulty, or draw both for each"
        " episode (default: default)",
    )
    _add_number(
        ale,
        "--max_steps",
        27_000,
        "where an episode is cut (default and at most: 27000)",
    )
    ale.add_argument(
        "--rgb", action="store_true", help="observe frames in colour in place of grey"
    )
    procgen = add("procgen", fractions, seeded)
    _add_tasks(
        procgen,
        "--games",
        "names, such as maze,coinrun, or all that --policies can play",
    )
    procgen.add_argument(
        "--hard", action="store_true", help="play hard levels in place of easy ones"
    )
    procgen.add_argument(
        "--python",
        metavar="FILE",
        help="an interpreter that imports procgen (default: what GATO_PROCGEN_PYTHON"
        " names)",
    )
    morphologies = add("morphologies", deviations, seeded)
    _add_tasks(morphologies, "--bodies", "names, such as cheetah-3-3,hopper-4, or all")
    _add_number(
        morphologies,
        "--max_steps",
        1000,
        "where an episode is cut (default and at most: 1000)",
    )
    robotics = add("robotics", deviations, seeded)
    _add_tasks(
        robotics,
        "--tasks",
        "names, such as FetchPush-v4,FetchReach-v4, or all that --policies can play",
    )
    _add_number(robotics, "--max_steps", 50, "length of every episode (default: 50)")
    captions = add("captions", drawn)
    _add_number(captions, "--scenes", 1000, "how many pictures (default: 1000)")
    _add_number(
        captions,
        "--scenes_per_tar",
        1000,
        "how many share a tar, one worker's job (default: 1000)",
    )
    questions = add("questions", drawn)
    _add_number(questions, "--scenes", 1000, "how many pictures (default: 1000)")
    _add_number(
        questions, "--questions", 5, "how many on each picture, at most 10 (default: 5)"
    )
    questions.add_argument(
        "--data_subtype",
        default="train2014",
        metavar="NAME",
        help="VQAv2's name of the part, in the names of its files (default: train2014)",
    )
    add("text")
    return parser

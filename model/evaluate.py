"""gato-evaluate: plays a suite's environments with a checkpoint, and scores it.

    gato-evaluate --checkpoint runs/tiny --suite configs/suites/babyai.yaml \
        --episodes 50

Scores are the paper's (section 4.1): 100 * (return - random) / (expert - random), the
mean over tasks, then over domains. `gato.model.evaluation.suite` says what a suite file
holds. Each episode is prompted with one of the task's demonstrations; `--prompt_tokens
0` shows what the weights do without, `--ablate shuffle_observations` what they do when
each step is shown a recorded step's observation instead of its own, `--ablate
exchange_prompts` what they do when prompted with another task. Captions and answers on
held-back images are scored by `gato.model.evaluation.documents`.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import rich.console
import rich.progress

from gato.model.command import run_command
from gato.model.evaluation.beside import load_results
from gato.model.evaluation.documents import load_exams, marks_table, sit
from gato.model.evaluation.observing import (
    Observer,
    ShuffledObservations,
    as_it_is,
)
from gato.model.evaluation.plots import check_plot_can_be_drawn, draw_thresholds
from gato.model.evaluation.progress import watch
from gato.model.evaluation.prompting import exchanged_prompts
from gato.model.evaluation.report import TABLE_WIDTH, Report
from gato.model.evaluation.rollouts import Arena, Episode, evaluation_seeds
from gato.model.evaluation.suite import Contest, load_suite
from gato.model.evaluation.videos import FORMATS, check_videos_can_be_written
from gato.model.policy import MEMORIES, Memory, Policy
from gato.model.progress import Progress
from gato.model.weights import Trained, load_weights
from gato.schemas.errors import UsageError
from gato.tokenizers.vocabulary import Vocabulary

# A block's slots are a multiple of this, at most so many.
_BLOCK_STEP, _LONGEST_BLOCK = 16, 256
_ABLATIONS = ("shuffle_observations", "exchange_prompts")

_EXAMPLES = """examples:
  gato-evaluate --checkpoint D --suite configs/suites/babyai.yaml
  gato-evaluate --checkpoint D --suite F --episodes 10 --prompt_tokens 0
  gato-evaluate --checkpoint D --suite F --ablate shuffle_observations
  gato-evaluate --checkpoint D --suite F --ablate exchange_prompts

What is remembered of an episode longer than a row of L slots: with --memory band the
last L slots, as in the paper, so that a prompt is left behind; with --memory rows a
full row is begun anew as a row of training is: the prompt, then newest timesteps. A
prompt has at most L slots with band, and with rows as many as in the training of its
data set."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gato-evaluate",
        description="Plays a suite's environments with a checkpoint, and scores it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="DIR", help="gato-train's folder")
    add("--suite", required=True, metavar="FILE", help="the tasks, as YAML")
    add("--episodes", type=int, default=50, help="of each task (%(default)s)")
    add("--prompt_tokens", type=int, help="longest prompt; 0: none (see below)")
    add("--memory", choices=MEMORIES, default="band", help="see below (%(default)s)")
    add("--ablate", choices=_ABLATIONS, help="what to take away (nothing)")
    add("--batch", type=int, default=16, help="environments at a time (%(default)s)")
    add("--temperature", type=float, default=0.0, help="0: the likeliest (%(default)s)")
    add("--seed", type=int, default=0, help="of drawn tokens (%(default)s)")
    add("--first_seed", type=int, default=0, help="environments' seeds, from 2**30 on")
    add("--output", metavar="FILE", help="JSON (DIR/evaluation/<suite>-<step>.json)")
    add("--beside", nargs="+", default=(), metavar="FILE", help="results to show too")
    add("--plot", metavar="FILE", help="tasks at each threshold, as .png or .svg")
    add("--videos", type=int, default=0, help="of each task (%(default)s)")
    add("--video_format", choices=FORMATS, default="mp4", help="(%(default)s)")
    return parser


def prompt_lengths(
    contests: Sequence[Contest], length: int, memory: Memory, asked: int | None = None
) -> list[int]:
    """Returns how many slots each task's prompt may take.

    Args:
        contests: The tasks.
        length: L.
        memory: With `rows` prompts are as long as in each task's rows of training,
            unless it is said.
        asked: The length for all tasks, if it is said.
    """
    if asked is not None:
        return [asked] * len(contests)
    if memory == "band":
        return [length] * len(contests)
    return [min(length, one.control.trained_prompt) for one in contests]


def _check(
    arguments: argparse.Namespace, contests: Sequence[Contest], length: int
) -> None:
    """Resolves the prompts' lengths, and refuses numbers that mean nothing."""
    arguments.prompt_lengths = prompt_lengths(
        contests, length, arguments.memory, arguments.prompt_tokens
    )
    if arguments.prompt_tokens is None:
        arguments.prompt_tokens = max(arguments.prompt_lengths, default=length)
    for flag, value, least, most in (
        ("--episodes", arguments.episodes, 1, np.inf),
        ("--batch", arguments.batch, 1, np.inf),
        ("--prompt_tokens", arguments.prompt_tokens, 0, length),
        ("--temperature", arguments.temperature, 0, np.inf),
        ("--videos", arguments.videos, 0, np.inf),
    ):
        if not least <= value <= most:
            bounds = f"at least {least}" if most == np.inf else f"{least} to {most}"
            raise UsageError(f"{flag} is {bounds}, got {value}")
    if arguments.ablate == "exchange_prompts" and not arguments.prompt_tokens:
        raise UsageError(
            "--ablate exchange_prompts prompts with another task's demonstrations, and"
            " --prompt_tokens 0 with none. Leave one of the two out."
        )
    if arguments.plot:
        check_plot_can_be_drawn(arguments.plot)
    if arguments.videos:
        check_videos_can_be_written(arguments.video_format)


def make_policy(
    trained: Trained,
    contests: Sequence[Contest],
    rows: int,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    memory: Memory = "band",
) -> Policy:
    """Returns a policy whose shapes fit the tasks.

    Args:
        trained: The checkpoint.
        contests: The tasks.
        rows: Environments at a time.
        temperature: Of drawn tokens.
        seed: Likewise.
        memory: What is remembered of a long episode.
    """
    longest = 0
    for contest in contests:
        for row in contest.control.demonstrations:
            starts = np.flatnonzero(row.local_position == 0)
            ends = np.append(starts[1:], row.provenance[0]["length"])
            longest = max(longest, int((ends - starts).max()))
    block = -(-(longest + 1) // _BLOCK_STEP) * _BLOCK_STEP
    return Policy(
        trained.model,
        trained.params,
        Vocabulary.from_info(trained.vocabulary),
        rows=rows,
        block=min(block, _LONGEST_BLOCK),
        max_actions=max(len(one.control.ranges) for one in contests),
        images=any(one.control.has_images for one in contests),
        temperature=temperature,
        seed=seed,
        memory=memory,
    )


def _play(
    arguments: argparse.Namespace,
    trained: Trained,
    contests: Sequence[Contest],
    console: rich.console.Console,
) -> list[Episode]:
    seeds = evaluation_seeds(arguments.first_seed, arguments.episodes)
    total = len(contests) * len(seeds)
    policy = make_policy(
        trained,
        contests,
        min(arguments.batch, total),
        temperature=arguments.temperature,
        seed=arguments.seed,
        memory=arguments.memory,
    )
    observer: Observer = as_it_is
    if arguments.ablate == "shuffle_observations":
        observer = ShuffledObservations(contests, arguments.seed)
    exchanged = arguments.ablate == "exchange_prompts"
    arena = Arena(
        contests,
        policy,
        arguments.prompt_lengths,
        observer=observer,
        videos=_videos(arguments, contests, seeds),
        prompters=exchanged_prompts(contests) if exchanged else None,
    )
    episodes = []
    with contextlib.closing(arena) as arena, Progress(console) as progress:
        for episode in watch(arena, seeds, len(contests), progress):
            episodes.append(episode)
            which = f"{contests[episode.task].entry.name}, seed {episode.seed}"
            if episode.failure:
                console.print(f"{which}: {episode.failure}")
            elif episode.no_video:
                console.print(f"{which}: no video: {episode.no_video}")
    return episodes


def _videos(
    arguments: argparse.Namespace, contests: Sequence[Contest], seeds: range
) -> dict[tuple[int, int], str]:
    """Returns the files of the first episodes of each task."""
    folder = os.path.splitext(arguments.output)[0] + "-videos"
    return {
        (task, seed): os.path.join(
            folder,
            contest.domain,
            # An id may name a module and a namespace.
            f"{re.sub(r'[^A-Za-z0-9._-]', '_', contest.entry.name)}-{seed}"
            f".{arguments.video_format}",
        )
        for task, contest in enumerate(contests)
        for seed in seeds[: arguments.videos]
    }


def _default_output(arguments: argparse.Namespace, step: int) -> str:
    """Returns a name that another way of playing the same suite does not take."""
    parts = [pathlib.Path(arguments.suite).stem, str(step)]
    if not arguments.prompt_tokens:
        parts.append("no_prompt")
    if arguments.memory != "band":
        parts.append(arguments.memory)
    if arguments.ablate:
        parts.append(arguments.ablate)
    return os.path.join(arguments.checkpoint, "evaluation", f"{'-'.join(parts)}.json")


def _execute(arguments: argparse.Namespace) -> None:
    console = rich.console.Console(stderr=True)
    trained = load_weights(arguments.checkpoint)
    contests = load_suite(arguments.suite, trained)
    _check(arguments, contests, trained.model.sequence_length)
    if arguments.output is None:
        arguments.output = _default_output(arguments, trained.step)
    beside = load_results(arguments.beside)
    exams = load_exams(arguments.suite, trained)
    content: dict[str, Any] = {
        "checkpoint": arguments.checkpoint,
        "step": trained.step,
        "suite": arguments.suite,
        "prompt_tokens": arguments.prompt_tokens,
        "memory": arguments.memory,
        "ablate": arguments.ablate,
        "temperature": arguments.temperature,
        "seed": arguments.seed,
    }
    report = None
    if contests:
        report = Report(contests, _play(arguments, trained, contests, console), beside)
        content = report.as_json(content)
    shuffled = arguments.ablate == "shuffle_observations"
    marks = [sit(one, trained, arguments.batch, shuffled=shuffled) for one in exams]
    content["documents"] = {one.exam.name: one.as_json() for one in marks}
    path = pathlib.Path(arguments.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    out = rich.console.Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    if report is not None:
        out.print(report.table())
        out.print(report.threshold_line())
        if arguments.plot:
            draw_thresholds(arguments.plot, report.curves(path.stem))
    if marks:
        out.print(marks_table(marks))
    console.print(f"all of it is in {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 1 for failure or 2 for usage."""
    return run_command(_execute, _parser(), argv, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())

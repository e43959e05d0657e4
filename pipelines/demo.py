"""`make demo`: the main job in small, by the commands a user would type.

Records episodes of two domains, pictures with captions and with questions, and text;
builds shards; verifies them; shows rows; trains a tiny model. Each command is printed
before it runs and can be run again by hand; after an interruption the same demo goes on
where it was.

    python -m gato.pipelines.demo --folder runs/demo
"""

import argparse
import dataclasses
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import rich.console
import rich.table
import yaml

from gato.schemas.config import load_config
from gato.schemas.errors import GatoError, UsageError

_CONFIG = pathlib.Path("configs/demo.yaml")
# The folder that the config names, from where it lies.
_FOLDER_OF_CONFIG = "../runs/demo"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much the demo does: under five minutes on two cores.

    Attributes:
        levels: BabyAI levels to record.
        episodes: Episodes a level and policy.
        tasks: Meta-World tasks to record.
        task_episodes: Episodes a task and policy.
        task_steps: Their length.
        scenes: Captioned pictures.
        asked_scenes: Pictures with questions.
        steps: Training steps.
        peak_lr: Learning rate, above the preset's for so short a run.
        batch_size: Rows a step.
        validation_rows: Rows of each data set that the last step is validated on.
        workers: Processes that record.
    """

    levels: tuple[str, ...] = (
        "BabyAI-GoToRedBallGrey-v0",
        "BabyAI-GoToObj-v0",
        "BabyAI-GoToLocal-v0",
        "BabyAI-PickupLoc-v0",
    )
    episodes: int = 150
    tasks: tuple[str, ...] = ("button-press-v3", "reach-v3")
    task_episodes: int = 15
    task_steps: int = 100
    scenes: int = 500
    asked_scenes: int = 200
    steps: int = 200
    peak_lr: float = 3e-3
    batch_size: int = 4
    validation_rows: int = 32
    workers: int = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One command of the demo: `command` as typed, `module` as run."""

    title: str
    command: str
    module: str
    arguments: tuple[str, ...]


def prepare_config(config: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Returns the build config to use: `config`, or a copy that names `folder`.

    Raises:
        UsageError: If there is no such config.
    """
    if not config.is_file():
        raise UsageError(
            f"{config}: no such build config; run the demo from the repository's root,"
            " or give --config."
        )
    named = (config.parent / _FOLDER_OF_CONFIG).resolve()
    if folder.resolve() == named:
        return config
    loaded = load_config(str(config))
    content = loaded.model_dump(mode="json")
    content["text_tokenizer"] = str(pathlib.Path(loaded.text_tokenizer).resolve())
    for dataset in content["datasets"]:
        absolute = [str(pathlib.Path(path).resolve()) for path in dataset["paths"]]
        dataset["paths"] = [
            path.replace(str(named), str(folder.resolve()), 1) for path in absolute
        ]
    copy = folder / "build.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    copy.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return copy


def plan(folder: pathlib.Path, config: pathlib.Path, sizes: Sizes) -> list[Step]:
    """Returns the commands in their order."""
    raw, shards = folder / "raw", folder / "shards"

    def step(title: str, command: str, module: str, *arguments: object) -> Step:
        return Step(
            title=title,
            command=command,
            module=f"gato.{module}",
            arguments=tuple(map(str, arguments)),
        )

    def record(title: str, *arguments: object) -> Step:
        return step(title, "gato-record", "pipelines.record", *arguments)

    workers = ("--workers", sizes.workers)
    levels = ",".join(sizes.levels)
    return [
        record(
            "Record BabyAI episodes",
            *("babyai", "--output", raw, "--levels", levels),
            *("--episodes", sizes.episodes, *workers),
        ),
        record(
            "Record Meta-World episodes",
            *("metaworld", "--output", raw, "--tasks", ",".join(sizes.tasks)),
            *("--episodes", sizes.task_episodes, "--max_steps", sizes.task_steps),
            *workers,
        ),
        record(
            "Draw captioned pictures",
            *("captions", "--output", raw / "captions", "--scenes", sizes.scenes),
            *("--scenes_per_tar", -(-sizes.scenes // 2), *workers),
        ),
        record(
            "Draw pictures and ask about them",
            *("questions", "--output", raw / "questions"),
            *("--scenes", sizes.asked_scenes, *workers),
        ),
        record("Collect text", "text", "--output", raw / "text"),
        step(
            "Build shards",
            *("gato-build", "pipelines.build", "--config", config, "--output", shards),
        ),
        step("Verify every byte", "gato-verify", "pipelines.verify", shards),
        *(
            step(
                f"Show a row of {name}",
                *("gato-inspect", "pipelines.inspect"),
                *(shards / name / "train-*.tfrecord", "--row", 0),
            )
            for name in ("babyai", "metaworld", "captions", "questions")
        ),
        step(
            "Train a tiny model",
            *("gato-train", "model.train"),
            *("--shards", shards / "*" / "train-*.tfrecord", "--model", "tiny"),
            *("--steps", sizes.steps, "--batch_size", sizes.batch_size),
            *("--checkpoint_dir", folder / "checkpoints"),
            *("--set", f"optimizer.peak_lr={sizes.peak_lr}"),
            *("--set", f"validation.every={sizes.steps}"),
            *("--set", f"validation.rows={sizes.validation_rows}"),
        ),
    ]


def run_step(step: Step, console: rich.console.Console) -> float:
    """Prints and runs one command; returns its seconds.

    Raises:
        GatoError: If it fails.
    """
    typed = shlex.join((step.command, *step.arguments))
    console.rule(step.title)
    console.print(f"$ {typed}\n", highlight=False, markup=False, soft_wrap=True)
    began = time.monotonic()
    # A process each, as for a user: what renders, builds and trains must not share one.
    done = subprocess.run(
        [sys.executable, "-m", step.module, *step.arguments], check=False
    )
    if done.returncode:
        raise GatoError(
            f"this command ended with code {done.returncode}:\n  {typed}\n"
            "Its message is above; the demo goes on from here when started again."
        )
    return time.monotonic() - began


def _show_end(
    console: rich.console.Console,
    folder: pathlib.Path,
    config: pathlib.Path,
    seconds: dict[str, float],
) -> None:
    table = rich.table.Table("step", title="Time")
    table.add_column("seconds", justify="right")
    for title, time_taken in seconds.items():
        table.add_row(title, f"{time_taken:.1f}")
    table.add_row("all", f"{sum(seconds.values()):.1f}")
    console.rule("Done")
    console.print(table)
    for what, where in (
        ("raw data", folder / "raw"),
        ("build config", config),
        ("shards and manifests", folder / "shards"),
        ("checkpoints and metrics.jsonl", folder / "checkpoints"),
    ):
        console.print(f"{what}: {where}", highlight=False, soft_wrap=True)


def run(folder: pathlib.Path, config: pathlib.Path, sizes: Sizes) -> None:
    """Runs the whole demo.

    Raises:
        GatoError: If a command fails.
    """
    console = rich.console.Console()
    config = prepare_config(config, folder)
    seconds = {
        step.title: run_step(step, console) for step in plan(folder, config, sizes)
    }
    _show_end(console, folder, config, seconds)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; returns its exit code."""
    parser = argparse.ArgumentParser(description="Runs the main job in small.")
    parser.add_argument("--folder", type=pathlib.Path, default="runs/demo")
    parser.add_argument("--config", type=pathlib.Path, default=_CONFIG)
    arguments = parser.parse_args(argv)
    # Leaving by an exception ends the command that runs, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        run(arguments.folder, arguments.config, Sizes())
    except GatoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("demo: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

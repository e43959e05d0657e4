"""Builds that are killed: `kill -9` of a build's whole process group at a chosen place.

Run as a script, this is `gato-build` that stops for ever inside the n-th call of one
function, after writing a marker, so that the kill lands there for certain:

    python killing.py MARKER MODULE:NAME N before|after -- --config ...

Where such a place cannot be chosen (Beam starts worker processes by itself), a kill
comes when a file that shows the stage appears.
"""

import contextlib
import dataclasses
import importlib
import inspect
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import building

_TIMEOUT_SECONDS = 300.0


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a build is to be killed.

    Attributes:
        stage: tokenize, plan, assemble, finish or clean-up.
        target: `module:name` of a function that is called there.
        call: Which call of it, from 1.
        when: before or after the call.
    """

    stage: str
    target: str
    call: int = 1
    when: str = "before"


PLACES = [
    # In the middle of a fragment, between its data and its footer, after some.
    Place("tokenize", "gato.pipelines.tokenize:FragmentWriter.add", 1),
    Place("tokenize", "gato.pipelines.tokenize:FragmentWriter.add", 17),
    Place("tokenize", "gato.pipelines.tokenize:FragmentWriter.add", 40),
    Place("tokenize", "gato.pipelines.tokenize:FragmentWriter.footer", 3),
    Place("tokenize", "gato.pipelines.tokenize:FragmentWriter.footer", 6, "after"),
    Place("tokenize", "gato.pipelines.tokenize:PartitionTokenizer.run", 8, "after"),
    # Each of eight fragments is asked for its columns twice.
    Place("plan", "gato.pipelines.columns:item_blocks", 10),
    Place("plan", "gato.pipelines.decide:decide_task", 2, "after"),
    Place("plan", "gato.pipelines.finish:judge", 2),
    Place("plan", "gato.pipelines.plan:plan_documents", 1, "after"),
    Place("plan", "gato.pipelines.plan:plan_bucket", 1),
    Place("plan", "gato.pipelines.plan:assign_shards", 2, "after"),
    # In the middle of a shard, before its index, before its summary, after some.
    Place("assemble", "gato.pipelines.assemble:encode_row", 1),
    Place("assemble", "gato.pipelines.assemble:encode_row", 30),
    Place("assemble", "gato.pipelines.assemble:pack_index", 1, "after"),
    Place("assemble", "gato.pipelines.assemble:ShardAssembler._write", 2, "after"),
    Place("assemble", "gato.pipelines.assemble:ShardAssembler.assemble", 4, "after"),
    Place("assemble", "gato.pipelines.assemble:ShardAssembler.assemble", 8, "after"),
    # Between shards and manifest, between data sets' manifests, before the root's.
    Place("finish", "gato.pipelines.stages:write_demonstrations", 1, "after"),
    Place("finish", "gato.schemas.manifest:dump_manifest", 2),
    Place("finish", "gato.pipelines.finish:root_manifest", 1),
]
CLEAN_UP = Place("clean-up", "gato.schemas.files:remove_folder", 2)
# Of a build that is killed again and again: each time after a little more.
PROGRESS = {
    "tokenize": "gato.pipelines.tokenize:PartitionTokenizer.run",
    "assemble": "gato.pipelines.assemble:ShardAssembler.assemble",
}


class Group:
    """A command as the leader of its own process group."""

    def __init__(self, command: Sequence[str], log: pathlib.Path) -> None:
        """Starts it; what it prints goes to `log`."""
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command, stdout=file, stderr=file, start_new_session=True
            )

    def kill_when(self, is_there: Callable[[], bool]) -> None:
        """Sends SIGKILL to the whole group as soon as something is there.

        Raises:
            RuntimeError: If the command ends by itself, or nothing comes.
        """
        end = time.monotonic() + _TIMEOUT_SECONDS
        while not is_there():
            if self._process.poll() is not None or time.monotonic() > end:
                # Left behind, it would take time from every test that follows.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
                told = self._log.read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"was not there to be killed: {told}")
            time.sleep(0.002)
        os.killpg(self._process.pid, signal.SIGKILL)
        assert self._process.wait() == -signal.SIGKILL
        self._wait_for_the_group()

    def _wait_for_the_group(self) -> None:
        """Returns when none of the group is left: a worker could still write."""
        end = time.monotonic() + _TIMEOUT_SECONDS
        while time.monotonic() < end:
            try:
                os.killpg(self._process.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.01)
        raise RuntimeError("processes of the group outlive SIGKILL")


def kill_at(
    place: Place, config: pathlib.Path, output: pathlib.Path, *options: str
) -> None:
    """Starts a build and kills it at a place, with one worker."""
    marker = output.parent / "marker"
    marker.unlink(missing_ok=True)
    command = [
        *(sys.executable, __file__, str(marker)),
        *(place.target, str(place.call), place.when, "--"),
        *("--config", str(config), "--output", str(output), *options),
    ]
    Group(command, output.parent / "log").kill_when(marker.exists)


def kill_with_workers(
    pattern: str,
    count: int,
    config: pathlib.Path,
    output: pathlib.Path,
    *options: str,
) -> None:
    """Starts a build with two workers and kills all when so many files match."""
    command = [
        *(sys.executable, "-m", "gato.pipelines.build"),
        *("--config", str(config), "--output", str(output)),
        *("--direct_num_workers", "2", *options),
    ]
    group = Group(command, output.parent / "log")
    group.kill_when(lambda: len(list(output.glob(pattern))) >= count)


@dataclasses.dataclass(frozen=True)
class Remains:
    """What a killed build left that must not be made again.

    Attributes:
        footers: Identities of finished fragments.
        summaries: Identities of finished shards' summaries.
    """

    footers: dict[str, building.Identity]
    summaries: dict[str, building.Identity]


def remains(output: pathlib.Path) -> Remains:
    """Returns what stands finished in the output of a killed build."""
    return Remains(
        building.footers(output), building.identities(output, "*/*.tfrecord.json")
    )


def _stall(marker: str, target: str, call: int, when: str) -> None:
    """Replaces a function by one that stops for ever at one of its calls."""
    module_name, _, name = target.partition(":")
    owner: Any = importlib.import_module(module_name)
    *parents, attribute = name.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    real = getattr(owner, attribute)
    calls = 0

    def stop_here() -> None:
        pathlib.Path(marker).touch()
        signal.pause()

    def stalling(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        mine = calls
        if mine == call and when == "before":
            stop_here()
        result = real(*arguments, **keywords)
        if mine == call:
            if inspect.isgenerator(result):
                # It has done nothing yet.
                result = iter(list(result))
            stop_here()
        return result

    setattr(owner, attribute, stalling)


if __name__ == "__main__":
    from gato.pipelines import build, run_build  # noqa: F401 - it has the names to stall

    _marker, _target, _call, _when, _ = sys.argv[1:6]
    _stall(_marker, _target, int(_call), _when)
    sys.exit(build.main(sys.argv[6:]))

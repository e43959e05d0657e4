"""Builds again and at other sizes: kept fragments, a kill at half, 1x to 16x, workers.

    .venv/bin/python benchmarks/rebuild.py [--parts again,half,sizes,workers]

`again`: a build with `--keep_fragments`, then one of another sequence length and other
prompts in the same folder, as a share of the first. `half`: a build is killed at half
of a whole one's time, and the same command's second run is a share of the whole.
`sizes`: seconds at 1, 4 and 16 times the input, each over what 1x says. `workers`: one
process against `--direct_num_workers 2` on at least three minutes of work. Each build
runs in a process of its own and reports its own seconds, imports left out. Needs a
quiet machine.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import build as tables

_RUN = """
import sys, time
from gato.pipelines import build
begin = time.perf_counter()
print("ready", flush=True)
code = build.main(sys.argv[1:])
print(time.perf_counter() - begin)
sys.exit(code)
"""


class Input:
    """Raw data of one kind of row of `build.py`, `copies` times as much."""

    def __init__(self, root: pathlib.Path, name: str, copies: int = 1) -> None:
        format_name, pattern, make, _, options = tables.ROWS[name]
        self.root = root / f"{name}{copies}"
        raw = self.root / "raw"
        if name == "state":  # an id is unique in a data set, so one set of more
            tables.state_data(raw / "0", 2000 * copies)
            copies = 1
        else:
            make(raw / "0")
        for number in range(1, copies):
            shutil.copytree(raw / "0", raw / str(number), copy_function=os.link)
        self._entry = {
            "name": name,
            "format": format_name,
            "paths": [f"{raw}/*/{pattern}"],
            "filter": {"by": "none"},
            **options,
        }

    def config(self, **settings: object) -> str:
        """Writes a config with these settings and returns its path."""
        path = self.root / f"build{len(settings)}.yaml"
        content = {
            "text_tokenizer": str(tables.VOCABULARY),
            "datasets": [self._entry],
            **settings,
        }
        path.write_text(json.dumps(content))
        return str(path)

    def start(self, config: str, *options: str) -> subprocess.Popen[str]:
        """Starts a build and returns once its imports are done."""
        arguments = ["--config", config, "--output", str(self.root / "out"), *options]
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN, *arguments],
            stdout=subprocess.PIPE,
            stderr=self.root.joinpath("log").open("w"),
            text=True,
            start_new_session=True,
        )
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise SystemExit("the build did not start")
        return process

    def build(self, config: str, *options: str) -> float:
        """Builds, and returns its seconds."""
        process = self.start(config, *options)
        output, _ = process.communicate()
        if process.returncode:
            raise SystemExit((self.root / "log").read_text())
        return float(output.splitlines()[-1])

    def clear(self) -> None:
        """Removes the output."""
        shutil.rmtree(self.root / "out", ignore_errors=True)


def again(root: pathlib.Path) -> None:
    """Re-plans kept fragments."""
    for name in ("state", "resize", "text"):
        data = Input(root, name, 2)
        whole = data.build(data.config(), "--keep_fragments")
        other = data.config(sequence_length=512, prompts={"max_tokens": 128})
        second = data.build(other, "--keep_fragments", "--overwrite")
        print(
            f"again    {name:8} whole {whole:6.1f} s  re-planned {second:6.1f} s "
            f" share {second / whole:.2f}",
            flush=True,
        )
        shutil.rmtree(data.root)


def half(root: pathlib.Path) -> None:
    """Kills a build at half of its time, and runs it again."""
    for name in ("state", "resize", "text"):
        data = Input(root, name, 8)
        config = data.config()
        whole = data.build(config)
        data.clear()
        process = data.start(config)
        time.sleep(whole / 2)
        if process.poll() is not None:
            raise SystemExit("the build was done before it was killed")
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        second = data.build(config)
        print(
            f"half     {name:8} whole {whole:6.1f} s  second run {second:6.1f} s "
            f" share {second / whole:.2f}",
            flush=True,
        )
        shutil.rmtree(data.root)


def sizes(root: pathlib.Path) -> None:
    """Builds 1, 4 and 16 times the input."""
    for name in ("state", "text"):
        seconds = {}
        for copies in (1, 4, 16):
            data = Input(root, name, copies)
            seconds[copies] = data.build(data.config())
            shutil.rmtree(data.root)
        line = "  ".join(
            f"{copies}x {taken:.1f} s ({taken / copies / seconds[1]:.2f})"
            for copies, taken in seconds.items()
        )
        marginal = (seconds[16] - seconds[4]) / 12
        first = (seconds[4] - seconds[1]) / 3
        print(
            f"sizes    {name:8} {line}  a further 1x: {first:.2f} s from 1x to 4x,"
            f" {marginal:.2f} s from 4x to 16x",
            flush=True,
        )


def workers(root: pathlib.Path) -> None:
    """Builds with one process and with two."""
    data = Input(root, "resize", 12)
    config = data.config()
    one = data.build(config)
    data.clear()
    two = data.build(
        config, "--direct_num_workers=2", "--direct_running_mode=multi_processing"
    )
    print(
        f"workers  resize   one {one:.1f} s  two {two:.1f} s  {one / two:.2f}x",
        flush=True,
    )


_PARTS = {"again": again, "half": half, "sizes": sizes, "workers": workers}


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default=",".join(_PARTS))
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.parts.split(","):
            (pathlib.Path(folder) / name).mkdir()
            _PARTS[name](pathlib.Path(folder) / name)


if __name__ == "__main__":
    main()

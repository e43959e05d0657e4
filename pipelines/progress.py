"""Progress of a local build: workers send counts over loopback, the display sums them.

Beam's in-process runner blocks until the job is done and gives no metrics before that.
Cumulative counts by sender heal lost packets. Nothing here is used on a cluster, where
Beam's own metrics show the same numbers.
"""

import json
import os
import socket
import threading
import time
import uuid
from typing import Any

import rich.console
import rich.live
import rich.progress_bar
import rich.table

from gato.pipelines.report import short_number

_INTERVAL_SECONDS = 0.2
# Between lines where there is no terminal.
_LINE_SECONDS = 10.0
# Only ever the loopback interface.
_HOST = "127.0.0.1"


class Reporter:
    """Counts in a worker and sends the sums now and then; silent without a port."""

    def __init__(self, port: int | None) -> None:
        self._port = port
        self._sender = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._counts: dict[str, int] = {}
        self._sent = 0.0

    def add(self, **counts: int) -> None:
        """Adds to named counts."""
        if self._port is None:
            return
        for name, count in counts.items():
            self._counts[name] = self._counts.get(name, 0) + count
        if time.monotonic() - self._sent > _INTERVAL_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Sends the counts now."""
        if self._port is None:
            return
        self._sent = time.monotonic()
        packet = json.dumps([self._sender, self._counts]).encode()
        # Opened for each packet: workers are not told when they end.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(packet, (_HOST, self._port))


class Display:
    """Shows the sums on the terminal, or a line now and then where there is none."""

    def __init__(self, total_bytes: int, console: rich.console.Console) -> None:
        self._console = console
        self._total_bytes = total_bytes
        self._by_sender: dict[str, dict[str, int]] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((_HOST, 0))
        self._socket.settimeout(_INTERVAL_SECONDS)
        self.port: int = self._socket.getsockname()[1]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._begin = self._stage_begin = time.monotonic()
        self._stage_name = ""

    def __enter__(self) -> "Display":
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def totals(self) -> dict[str, int]:
        """Returns the sums over all senders."""
        sums: dict[str, int] = {}
        for counts in list(self._by_sender.values()):
            for name, count in counts.items():
                sums[name] = sums.get(name, 0) + count
        return sums

    def _receive(self) -> None:
        try:
            packet = self._socket.recv(65_536)
        except TimeoutError:
            return
        sender, counts = json.loads(packet)
        self._by_sender[sender] = counts

    def _run(self) -> None:
        if self._console.is_terminal:
            with rich.live.Live(
                self._render(),
                console=self._console,
                refresh_per_second=4,
                transient=True,
            ) as live:
                while not self._stop.is_set():
                    self._receive()
                    live.update(self._render())
            return
        shown = time.monotonic()
        while not self._stop.is_set():
            self._receive()
            if time.monotonic() - shown > _LINE_SECONDS:
                shown = time.monotonic()
                line = "  ".join((*self._where(), *self._counted()))
                self._console.print(line, soft_wrap=True, highlight=False)

    def _stage(self) -> tuple[str, float | None, float]:
        """Returns what goes on, which share of it is done, and what stood before."""
        sums = self.totals()
        if planned := sums.get("planned_windows"):
            return "assembling", sums.get("windows", 0) / planned, 0.0
        if sums.get("planned_fragments"):
            return "planning", None, 0.0
        reused = sums.get("reused_bytes", 0)
        total = max(self._total_bytes, 1)
        read = sums.get("raw_bytes", 0) + reused
        return "tokenizing", read / total, reused / total

    def _where(self) -> tuple[str, ...]:
        """Returns stage, percent and time left."""
        stage, done, before = self._stage()
        now = time.monotonic()
        if stage != self._stage_name:
            self._stage_name, self._stage_begin = stage, now
        if done is None:
            return (stage,)
        done = min(done, 0.99)  # a resumed part may be counted twice
        parts = (stage, f"{done:.0%}")
        if done <= before:
            return parts
        left = (now - self._stage_begin) * (1 - done) / (done - before)
        return (*parts, f"{_clock(left)} left")

    def _counted(self) -> tuple[str, ...]:
        """Returns what is done so far and how fast."""
        sums = self.totals()
        now = time.monotonic()
        items, tokens = sums.get("items", 0), sums.get("tokens", 0)
        if self._stage_name == "tokenizing":
            seconds = max(now - self._begin, 1e-9)
            parts = (
                f"{items:,} items",
                f"{short_number(tokens)} tokens",
                f"{short_number(int(tokens / seconds))} tokens/s",
            )
        else:
            seconds = now - self._stage_begin
            written = sums.get("row_bytes", 0) / 1e6
            parts: tuple[str, ...] = (
                f"{items:,} items",
                f"{short_number(sums.get('rows', 0))} rows",
                f"{written:,.1f} MB written",
            )
            if seconds >= 1:  # a stage is noticed only when it is shown
                parts = (*parts, f"{written / seconds:,.1f} MB/s")
        return (*parts, f"{_clock(now - self._begin)} elapsed")

    def _render(self) -> rich.console.Group:
        where, (_, done, _) = self._where(), self._stage()
        head = rich.table.Table.grid(padding=(0, 2, 0, 0))
        bar = rich.progress_bar.ProgressBar(
            total=1, completed=min(done or 0, 0.99), width=24, pulse=done is None
        )
        head.add_row(f"[bold]{where[0]}[/]", bar, *where[1:])
        return rich.console.Group(head, "  ".join(self._counted()))


def _clock(seconds: float) -> str:
    """Returns minutes and seconds, with hours if there are any.

    >>> _clock(75), _clock(3_675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

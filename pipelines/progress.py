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
import rich.table

_INTERVAL_SECONDS = 0.2
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
        self._begin = time.monotonic()

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
            if time.monotonic() - shown > 10:
                shown = time.monotonic()
                self._console.print(self._line())

    def _line(self) -> str:
        sums = self.totals()
        seconds = time.monotonic() - self._begin
        read = sums.get("raw_bytes", 0)
        parts = [
            f"{seconds:5.0f} s",
            f"{sums.get('items', 0):,} episodes and documents",
            f"{sums.get('tokens', 0):,} tokens",
            f"({sums.get('tokens', 0) / max(seconds, 1e-9):,.0f}/s)",
            f"{sums.get('rows', 0):,} rows",
            f"{sums.get('row_bytes', 0) / 1e6:,.1f} MB written",
        ]
        if 0 < read < self._total_bytes:
            left = seconds * (self._total_bytes - read) / read
            parts.append(f"reading {read / self._total_bytes:.0%}, {left:,.0f} s left")
        elif read:
            parts.append("assembling" if sums.get("rows") else "planning")
        return "  ".join(parts)

    def _render(self) -> rich.table.Table:
        table = rich.table.Table.grid(padding=(0, 1))
        table.add_row("[bold]gato-build[/]", self._line())
        return table

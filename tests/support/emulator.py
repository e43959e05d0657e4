"""A local server that speaks Google Cloud Storage's JSON API, in a process of its own.

`gcp-storage-emulator` answers one request at a time and knows no preconditions, so that
nothing talks to it but the proxy of `faulty_store`.
"""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import faulty_store

_START_SECONDS = 30.0


@contextlib.contextmanager
def running() -> Iterator[faulty_store.FaultyStore]:
    """Runs emulator and proxy, and points `gs://` at the proxy."""
    with _emulator() as port, faulty_store.FaultyStore(port) as store:
        before = os.environ.get("STORAGE_EMULATOR_HOST")
        os.environ["STORAGE_EMULATOR_HOST"] = store.url
        try:
            yield store
        finally:
            if before is None:
                del os.environ["STORAGE_EMULATOR_HOST"]
            else:
                os.environ["STORAGE_EMULATOR_HOST"] = before


@contextlib.contextmanager
def _emulator() -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--in-memory"]
    process = subprocess.Popen(
        [*command, "--quiet", "--host", "127.0.0.1", "--port", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(port, process)
        yield port
    finally:
        process.terminate()
        process.wait()


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", "/")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the emulator did not start on port {port}")

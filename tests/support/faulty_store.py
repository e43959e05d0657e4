"""A proxy before the storage emulator: it keeps count, and fails on demand.

It also does two things of the real store that the emulator does not: preconditions
(`ifGenerationMatch=0`), and uploads of any bytes in one request.
"""

import collections
import contextlib
import dataclasses
import http.client
import http.server
import itertools
import json
import re
import socket
import struct
import threading
import time
import urllib.parse
from typing import Any, Literal

_RANGE = re.compile(r"bytes=(\d+)-(\d+)$")
_OBJECT = re.compile(r"/b/[^/?]+/o/([^?]+)")
_NOT_PASSED_ON = ("connection", "host", "content-length", "transfer-encoding")
# Tells the socket to end a connection by a reset.
_RESET = struct.pack("ii", 1, 0)


@dataclasses.dataclass
class Fault:
    """What goes wrong, for which requests.

    Attributes:
        kind: status: answered so, not done. slow: answered after `seconds`. cut: the
            connection ends half way in the body. short: half of the body, as if it were
            whole. reset: the connection is reset and nothing done. lost: done, then
            reset before the answer.
        name: Regular expression that the object's name holds.
        method: GET, POST, DELETE; empty for any.
        times: How often; later ones go well.
        skip: Requests that go well before.
        status: Of the answer.
        seconds: Of delay.
        message: Of the answer.
        only: media: only requests for objects' bytes.
    """

    kind: Literal["status", "slow", "cut", "short", "reset", "lost"]
    name: str = ""
    method: str = ""
    times: int = 1
    skip: int = 0
    status: int = 503
    seconds: float = 0.0
    message: str = "told to fail"
    only: Literal["media", ""] = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One request as it was answered.

    Attributes:
        method: GET, POST, PUT or DELETE.
        name: The object's, or "".
        is_media: Whether for an object's bytes.
        range: The bytes asked for, or None for all.
        status: Of the answer; 0 without one.
        num_bytes: Of the answer's body.
    """

    method: str
    name: str
    is_media: bool
    range: tuple[int, int] | None
    status: int
    num_bytes: int


class FaultyStore:
    """The proxy, as a context.

    Attributes:
        url: Where it listens.
        requests: What was asked since `clear`.
        faults: What goes wrong from now on.
        delay: Seconds that each answer takes.
        most_at_once: Requests for objects' bytes that were open at the same time.
        most_bytes_at_once: Bytes they asked for.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._upstream = threading.Lock()
        self._buckets = itertools.count()
        self._open: collections.Counter[int] = collections.Counter()
        self.clear()
        owner = self

        class Handler(_Handler):
            store = owner

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FaultyStore":
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def clear(self) -> None:
        """Forgets requests and faults."""
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.delay = 0.0
        self.most_at_once = 0
        self.most_bytes_at_once = 0

    def bucket(self) -> str:
        """Creates a bucket and returns its URL."""
        name = f"bucket-{next(self._buckets)}"
        body = json.dumps({"name": name}).encode()
        headers = {"Content-Type": "application/json"}
        status, _, _ = self.forward("POST", "/storage/v1/b?project=p", headers, body)
        assert status == 200
        return f"gs://{name}"

    def media(self) -> list[Request]:
        """Returns the requests for objects' bytes."""
        return [each for each in self.requests if each.is_media]

    def take_fault(self, method: str, name: str, is_media: bool) -> Fault | None:
        """Returns what is to go wrong with a request, and counts it."""
        with self._lock:
            for fault in self.faults:
                if not re.search(fault.name, name) or fault.times == 0:
                    continue
                if fault.method not in ("", method) or (fault.only and not is_media):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    @contextlib.contextmanager
    def counted(self, num_bytes: int) -> Any:
        """Counts a request for bytes as open."""
        key = threading.get_ident()
        with self._lock:
            self._open[key] = num_bytes
            self.most_at_once = max(self.most_at_once, len(self._open))
            self.most_bytes_at_once = max(self.most_bytes_at_once, self._open.total())
        try:
            yield
        finally:
            with self._lock:
                del self._open[key]

    def note(self, request: Request) -> None:
        """Adds to `requests`."""
        with self._lock:
            self.requests.append(request)

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Has the emulator answer; one request at a time, which is all it can."""
        with self._upstream:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            with contextlib.closing(connection):
                connection.request(method, path, body or None, headers)
                answer = connection.getresponse()
                return answer.status, dict(answer.getheaders()), answer.read()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # Dozens of connections are opened at once.
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that went away."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: FaultyStore

    def setup(self) -> None:
        super().setup()
        # An answer is two writes; the second must not wait for the first one's receipt.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        match = _OBJECT.search(url.path)
        name = urllib.parse.unquote(match[1]) if match else query.get("name", [""])[0]
        is_media = query.get("alt") == ["media"]
        content = b""
        if query.get("uploadType") == ["multipart"]:
            name, content = _parse_multipart(body)
        wanted = _RANGE.match(self.headers.get("Range") or "")
        asked = (int(wanted[1]), int(wanted[2]) + 1) if wanted else None
        counted = (
            self.store.counted(asked[1] - asked[0] if asked else 0)
            if is_media
            else contextlib.nullcontext()
        )
        with counted:
            fault = self.store.take_fault(self.command, name, is_media)
            kind = fault.kind if fault else ""
            time.sleep(self.store.delay + (fault.seconds if fault else 0))
            if kind == "reset":
                status, headers, answer = 0, {}, b""
            elif fault and kind == "status":
                status, headers = fault.status, {"Content-Type": "application/json"}
                error = {"code": fault.status, "message": fault.message}
                answer = json.dumps({"error": error}).encode()
            else:
                status, headers, answer = self._answer(url, query, name, content, body)
            if kind == "short":
                answer = answer[: len(answer) // 2]
            self.store.note(
                Request(
                    method=self.command,
                    name=name,
                    is_media=is_media,
                    range=asked,
                    status=status,
                    num_bytes=len(answer),
                )
            )
        # No longer counted: who has the answer may ask again before this ends.
        if kind in ("reset", "lost"):
            self._reset()
        else:
            self._send(status, headers, answer, is_cut=kind == "cut")

    def _answer(
        self,
        url: Any,
        query: dict[str, list[str]],
        name: str,
        content: bytes,
        body: bytes,
    ) -> tuple[int, dict[str, str], bytes]:
        if self.command == "DELETE" and "upload_id" in query:
            return 499, {}, b""  # as the store tells that an upload was given up
        if query.get("ifGenerationMatch") == ["0"] and self._stands(url, name):
            error = {"code": 412, "message": "conditionNotMet"}
            return 412, {}, json.dumps({"error": error}).encode()
        headers = {
            key: value
            for key, value in self.headers.items()
            if key.lower() not in _NOT_PASSED_ON
        }
        path = self.path
        if content:
            # The emulator's parser takes a `\r` at the end for its own; the other way
            # of a single request cannot be empty.
            body = content
            quoted = urllib.parse.quote(name, safe="")
            path = f"{url.path}?uploadType=media&name={quoted}"
            headers["Content-Type"] = "application/octet-stream"
        headers["Host"] = self.headers["Host"]
        return self.store.forward(self.command, path, headers, body)

    def _stands(self, url: Any, name: str) -> bool:
        path = url.path.removeprefix("/upload")
        path = f"{path}/{urllib.parse.quote(name, safe='')}"
        return self.store.forward("GET", path, {}, b"")[0] == 200

    def _send(
        self, status: int, headers: dict[str, str], answer: bytes, *, is_cut: bool
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            if key.lower() not in (*_NOT_PASSED_ON, "date", "server"):
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer[: len(answer) // 2] if is_cut else answer)
        if is_cut:
            self.wfile.flush()
            self.close_connection = True

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.connection.close()
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = _handle


def _parse_multipart(body: bytes) -> tuple[str, bytes]:
    """Returns name and content of an upload as gcsfs words it."""
    boundary = body.split(b"\n", 1)[0]
    _, about, content = body.split(boundary, 2)
    name = json.loads(about.split(b"\n\n", 1)[1])["name"]
    return name, content.split(b"\n\n", 1)[1].removesuffix(b"\n" + boundary + b"--")

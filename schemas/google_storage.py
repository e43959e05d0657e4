"""How gcsfs is set up for `gs://`: credentials, time-outs, and a first contact.

gcsfs itself tries a request six times, with pauses of 1 to 16 seconds, on 408, 429,
500 to 504 and whatever breaks a connection. Nothing of that is done again here. Two
things it does badly are mended: without a network it would take half a minute to say
so, and without credentials it asks Google's metadata server twice over.

Options under `gs` in fsspec's configuration, such as `FSSPEC_GS_TOKEN` in the
environment, win over those chosen here.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

import fsspec.config

# Of an answer's silence, after which gcsfs asks again; and of one request in all.
SILENT_SECONDS = 30.0
REQUEST_SECONDS = 300.0
_CONNECT_SECONDS = 10.0
_FIRST_TRIES = 3
_FIRST_PAUSE_SECONDS = 0.5
EMULATOR_HOST = "STORAGE_EMULATOR_HOST"

_reached: set[str] = set()


class NoConnectionError(Exception):
    """There is no way to a host that was never reached.

    Not an OSError, which aiohttp would make one of its own that gcsfs retries.
    """


def options() -> dict[str, Any]:
    """Returns the arguments of gcsfs's filesystem, for `make`."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(
        total=REQUEST_SECONDS, sock_connect=_CONNECT_SECONDS, sock_read=SILENT_SECONDS
    )
    chosen = {
        "requests_timeout": timeout,
        "session_kwargs": {"middlewares": (_first_contact,)},
    }
    configured = fsspec.config.conf.get("gs", {})
    return {**chosen, **configured}


def make(**arguments: Any) -> Any:
    """Returns a new gcsfs filesystem.

    Credentials are those of `google.auth.default()`; without any, what everyone may
    read can be read.

    Args:
        arguments: Of its class, over `options`.
    """
    import google.auth.exceptions

    # Not `gcsfs.GCSFileSystem`: it first asks by gRPC of what kind each bucket is, and
    # waits a minute for that where only HTTP passes.
    from gcsfs.core import GCSFileSystem

    logger = logging.getLogger("gcsfs")
    if logger.level == logging.NOTSET:
        # It logs the traceback of every error that it raises, too.
        logger.setLevel(logging.CRITICAL)
    arguments = {**options(), **arguments, "skip_instance_cache": True}
    if "token" in arguments:
        return GCSFileSystem(**arguments)
    if os.environ.get(EMULATOR_HOST):
        return GCSFileSystem(token="anon", **arguments)
    try:
        return GCSFileSystem(token="google_default", **arguments)
    except (google.auth.exceptions.GoogleAuthError, ValueError):
        return GCSFileSystem(token="anon", **arguments)


async def _first_contact(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
    """Fails within seconds if a host was never reached; later, gcsfs tries for longer.

    Raises:
        NoConnectionError: If there is no connection.
    """
    import aiohttp

    origin = str(request.url.origin())
    tries_left = _FIRST_TRIES
    while True:
        try:
            response = await handler(request)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            if origin in _reached:
                raise
            tries_left -= 1
            if not tries_left:
                raise NoConnectionError(
                    f"no connection to {origin}: {error}"
                ) from error
            await asyncio.sleep(_FIRST_PAUSE_SECONDS)
        else:
            _reached.add(origin)
            return response

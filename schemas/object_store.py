"""Object storage through fsspec: filesystems, what their errors mean, whole objects.

A store's own library retries what it can tell is passing (`google_storage` for gs://).
What it cannot tell is noticed here: half an answer, an object of other content than was
written, a failure that a reader of damaged files would take for damage.

An object is published whole or not at all, and if there was none under its name at the
beginning, only if there still is none: of two writers the second one fails, unless both
wrote the same.
"""

import base64
import contextlib
import contextvars
import errno
import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import google_crc32c

from gato.schemas import google_storage
from gato.schemas.errors import GatoError, UsageError

# Before another try of what the store's library does not try again.
PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0)
# An object up to this size is created by one request, a larger one in such parts.
PART_BYTES = 4 << 20
_MAX_MESSAGE = 300

_lock = threading.Lock()
_filesystems: dict[tuple[int, str, str | None], Any] = {}


class StoreError(GatoError):
    """A store did not do what it was asked; says which object, why and what next."""


_failures: contextvars.ContextVar[list[StoreError] | None] = contextvars.ContextVar(
    "failures", default=None
)


@contextlib.contextmanager
def insist() -> Iterator[None]:
    """Raises at its end any `StoreError` of the block that somebody caught.

    Readers of damaged files catch whatever their libraries raise and go on. A store
    that fails is no damage: an item must not be given up for it.

    Raises:
        StoreError: The first.
    """
    found: list[StoreError] = []
    token = _failures.set(found)
    try:
        yield
    except Exception as error:
        if found and error is not found[0]:
            raise found[0] from error
        raise
    finally:
        _failures.reset(token)
    if found:
        raise found[0]


def failure_list() -> list[StoreError] | None:
    """Returns where the innermost `insist` keeps failures, for use in other threads."""
    return _failures.get()


def filesystem(path: str) -> tuple[Any, str]:
    """Returns the process's filesystem for a URL, and the path in it.

    Raises:
        UsageError: If the URL is of no known store.
    """
    protocol = path.partition("://")[0]
    host = os.environ.get(google_storage.EMULATOR_HOST)
    # One for all threads: each would look for credentials. Not for a forked process.
    key = (os.getpid(), protocol, host)
    with _lock:
        if key not in _filesystems:
            _filesystems[key] = _make(path, protocol)
        found = _filesystems[key]
    return found, found._strip_protocol(path)


def _make(path: str, protocol: str) -> Any:
    # A listing that is remembered hides what other processes wrote since.
    if protocol in ("gs", "gcs"):
        return google_storage.make(use_listings_cache=False)
    try:
        return fsspec.filesystem(protocol, use_listings_cache=False)
    except (ValueError, ImportError) as error:
        raise UsageError(
            f"{path!r} is not a local path or a URL of a known store: {error}"
        ) from error


def ask(path: str, doing: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a filesystem's method, again if the answer was cut short or too slow.

    Args:
        path: What the call is about, for the message.
        doing: What is done, as in "reading".
        call: The method; calling it twice does what calling it once does.
        arguments: Its arguments.

    Raises:
        FileNotFoundError: If there is nothing under that name.
        FileExistsError: If there is, and must not be.
        StoreError: If it failed for good.
    """
    for pause in (*PAUSES_SECONDS, None):
        try:
            return call(*arguments)
        except FileNotFoundError as error:
            raise _missing(path) from error
        except (FileExistsError, GatoError):
            raise
        except Exception as error:  # stores' libraries raise what they like
            if pause is None or not is_passing(error):
                raise failed(path, doing, error) from error
        time.sleep(pause)
    raise AssertionError("unreachable")


def is_passing(error: BaseException) -> bool:
    """Whether to try again after an error that the store's library did not retry."""
    # Subclasses of TimeoutError were retried.
    return type(error) is TimeoutError or isinstance(error, json.JSONDecodeError)


def _missing(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def failed(path: str, doing: str, error: BaseException | str) -> StoreError:
    """Returns the error to raise, and keeps it for `insist`."""
    text = " ".join(str(error).split())[:_MAX_MESSAGE] or type(error).__name__
    code = str(getattr(error, "code", ""))
    is_refused = code in ("401", "403") or text.startswith("Forbidden")
    if is_refused or isinstance(error, PermissionError):
        rest = (
            f"no permission: {text}. Give these credentials the right to do it, or use"
            " others; docs/dataflow.md, Object storage, says which are used."
        )
    elif isinstance(error, FileNotFoundError):
        rest = (
            "there is no such object, or no longer. Was it removed, or renamed, while"
            " this ran? Put it back, then run the same command again."
        )
    elif isinstance(error, google_storage.NoConnectionError):
        rest = f"{text}. Check network and address, then run the same command again."
    else:
        rest = f"{text}. Trying again did not help; run the same command again later."
    return kept(StoreError(f"{path}: {doing} failed: {rest}"))


def kept(error: StoreError) -> StoreError:
    """Returns the error, which the innermost `insist` will raise if nobody does."""
    found = _failures.get()
    if found is not None:
        found.append(error)
    return error


def info(path: str) -> dict[str, Any]:
    """Returns what fsspec tells of an object or folder.

    Raises:
        FileNotFoundError: If it is not there.
    """
    store, stripped = filesystem(path)
    return ask(path, "asking for it", store.info, stripped)


def exists(path: str) -> bool:
    """Whether an object or folder is there; unlike fsspec's, no guess if that fails."""
    try:
        info(path)
    except FileNotFoundError:
        return False
    return True


def is_folder(path: str) -> bool:
    """Whether objects are below a name."""
    try:
        return info(path)["type"] == "directory"
    except FileNotFoundError:
        return False


class ObjectWriter(io.RawIOBase):
    """Writes one object, of which nothing is seen before `publish`."""

    def __init__(self, path: str) -> None:
        """Begins; an object that stands under the name will be replaced whole.

        Args:
            path: Its URL.
        """
        self._path = path
        self._store, self._stripped = filesystem(path)
        self._is_new = not exists(path)
        self._held = bytearray()
        self._upload: Any = None
        self._position = 0
        self._checksum = google_crc32c.Checksum()

    def writable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Returns the bytes written."""
        return self._position

    def write(self, data: Any, /) -> int:
        """Adds bytes, of which at most a part and `data` are held."""
        self._checksum.update(bytes(data))
        self._position += len(data)
        self._held += data
        if len(self._held) > PART_BYTES:
            self._send()
        return len(data)

    def _send(self) -> None:
        try:
            if self._upload is None:
                self._upload = self._store.open(
                    self._stripped,
                    "xb" if self._is_new else "wb",
                    block_size=PART_BYTES,
                    autocommit=False,
                )
                # fsspec keeps such a file for a transaction, which here never ends.
                with contextlib.suppress(AttributeError, ValueError):
                    self._store.transaction.files.remove(self._upload)
            self._upload.write(self._held)
        except GatoError:
            raise
        except Exception as error:
            raise self._not_written(error) from error
        self._held = bytearray()

    def _not_written(self, error: Exception) -> GatoError:
        if isinstance(error, FileNotFoundError):
            bucket = "/".join(self._path.split("/")[:3])
            return UsageError(
                f"{self._path}: cannot be created: there is no bucket {bucket}, or"
                " these credentials do not see it. Create it, or correct the name."
            )
        if isinstance(error, FileExistsError):
            return StoreError(
                f"{self._path}: something else created it with other content while"
                " this wrote it. Does another command write there? Wait for it or stop"
                " it, then run the same command again."
            )
        return failed(self._path, "writing", error)

    def publish(self) -> None:
        """Makes the object appear.

        Raises:
            StoreError: If it does not stand as it was written.
            UsageError: If there is no such bucket.
        """
        try:
            if self._upload is None:
                mode = "create" if self._is_new else "overwrite"
                ask(self._path, "writing", self._put, mode)
            else:
                if self._held:
                    self._send()
                self._upload.close()
                self._upload.commit()
        except Exception as error:
            # The answer to a request that did its work may have been lost, and the
            # next try of it found the object there.
            if isinstance(error, FileNotFoundError) or not self._stands():
                if isinstance(error, GatoError):
                    raise
                raise self._not_written(error) from error
            return
        if not self._stands():
            remove(self._path)
            raise kept(
                StoreError(
                    f"{self._path}: the store holds other bytes than were written, and"
                    " they were removed. Run the same command again to go on."
                )
            )

    def _put(self, mode: str) -> None:
        self._store.pipe_file(self._stripped, bytes(self._held), mode=mode)

    def _stands(self) -> bool:
        try:
            found = info(self._path)
        except FileNotFoundError:
            return False
        checksum = base64.b64encode(self._checksum.digest()).decode()
        return (
            int(found["size"]) == self._position
            and found.get("crc32c", checksum) == checksum
        )

    def discard(self, *, tell_store: bool = True) -> None:
        """Gives the object up.

        Args:
            tell_store: Whether the store is told, which may take long if it does not
                answer; it forgets an upload after some days in any case.
        """
        if self._upload is None:
            return
        # Closing publishes even while unwinding, so it must look closed already.
        self._upload.closed = True
        if tell_store:
            with contextlib.suppress(Exception):
                self._upload.discard()


def remove(path: str) -> None:
    """Removes an object if it is there."""
    store, stripped = filesystem(path)
    with contextlib.suppress(FileNotFoundError):
        ask(path, "removing", store.rm_file, stripped)


def remove_folder(path: str) -> None:
    """Removes every object below a name."""

    def remove_all() -> None:
        store.rm(stripped, recursive=True)

    store, stripped = filesystem(path)
    with contextlib.suppress(FileNotFoundError):
        ask(path, "removing", remove_all)

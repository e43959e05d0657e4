"""What keeps a folder's recordings apart: one recorder at a time, one recipe."""

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from gato.schemas import files
from gato.schemas.errors import UsageError


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Makes a folder for unfinished work and holds it; leaving lets go of it.

    Raises:
        UsageError: If another process holds it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--output {folder.parent}: cannot be written to: {error.strerror}. Give a"
            " folder that can."
        ) from error
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"{folder.parent}: another gato-record is writing here; wait for it or"
                " give another --output."
            ) from error
        yield
    finally:
        os.close(handle)


def check_recipe(path: pathlib.Path, recipe: Mapping[str, Any]) -> None:
    """Notes what a folder holds; refuses a folder that holds something else.

    Args:
        path: The note.
        recipe: What decides the folder's content.

    Raises:
        UsageError: If the note says something else, or is damaged.
    """
    try:
        found = json.loads(files.read_bytes(str(path)))
    except FileNotFoundError:
        found = None
    except ValueError as error:
        raise UsageError(f"{path} is damaged; give another --output") from error
    if found is None:
        files.write_atomic(str(path), json.dumps(recipe).encode())
    elif found != recipe:
        raise UsageError(
            f"{path.parent} holds scenes of {found}, now {recipe} is asked for."
            " Give another --output, or remove the folder."
        )

"""Names of shard files, `train-00000-of-00008.tfrecord`, and where a build has them."""

import dataclasses
import fnmatch
import re

from gato.schemas import files
from gato.schemas.errors import UsageError
from gato.schemas.manifest import ATTEMPT_NAME, FRAGMENTS_FOLDER, MANIFEST_NAME

SPLITS = ("train", "validation")
# Of what lies beside a shard: its records' offsets, and the summary written last.
_INDEX_SUFFIX, _SUMMARY_SUFFIX = SIDECAR_SUFFIXES = (".idx", ".json")
_NAME = re.compile(
    r"^(?P<split>[a-z]+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.tfrecord$"
)


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class ShardName:
    """One shard of one split.

    >>> str(ShardName(split="train", index=0, count=8))
    'train-00000-of-00008.tfrecord'
    """

    split: str
    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.split}-{self.index:05d}-of-{self.count:05d}.tfrecord"

    @property
    def index_name(self) -> str:
        """Name of the offsets' sidecar."""
        return f"{self}{_INDEX_SUFFIX}"

    @property
    def summary_name(self) -> str:
        """Name of the summary that is written last."""
        return f"{self}{_SUMMARY_SUFFIX}"

    @classmethod
    def parse(cls, name: str) -> "ShardName | None":
        """Returns the parts of a shard's file name, or None if it is none."""
        match = _NAME.match(name)
        if match is None:
            return None
        return cls(
            split=match["split"], index=int(match["index"]), count=int(match["count"])
        )


def find_shards(pattern: str, split: str = "*") -> list[str]:
    """Returns the record files that a pattern names, sorted.

    Args:
        pattern: A file, a glob, a data set's folder, or a build's output folder; local
            or a URL.
        split: Of a folder, the split that is meant, or `*`.

    Raises:
        UsageError: If there are none, with what is there instead.
    """
    if not files.is_folder(pattern):
        found = [path for path in files.glob(pattern) if path.endswith(".tfrecord")]
        if not found:
            raise UsageError(_no_match(pattern))
        return found
    for within in ("", "*"):
        found = files.glob(files.join(pattern, within, f"{split}-*-of-*.tfrecord"))
        if found:
            return found
    raise UsageError(f"no TFRecord shards in {pattern!r}. {_hint(pattern)}")


def _no_match(pattern: str) -> str:
    folder, _, name = pattern.rpartition("/")
    folders = [found for found in files.glob(folder or ".") if files.is_folder(found)]
    if not folders:
        while folder and not files.is_folder(folder):
            folder = folder.rpartition("/")[0]
        return (
            f"no TFRecord shards match {pattern!r}; of its path only"
            f" {folder or '.'!r} is a folder. {_hint(folder or '.')}"
        )
    held = files.list_folder(folders[0])
    shards = [one for one in held if one.endswith(".tfrecord")]
    hint = _hint(folders[0])
    for wrong, right in (("-", "_"), ("_", "-")):
        if fnmatch.filter(shards, name.replace(wrong, right)):
            hint = f"Did the pattern use {wrong!r} for {right!r}?"
    first = f", first {shards[0]!r}" if shards else ""
    return (
        f"no TFRecord shards match {pattern!r}; the folder {folders[0]!r} holds"
        f" {len(shards)} shards{first}. {hint}"
    )


def _hint(folder: str) -> str:
    for place in (folder, folder.rstrip("/").rpartition("/")[0]):
        held = set(files.list_folder(place)) if place else set()
        if MANIFEST_NAME not in held and held & {ATTEMPT_NAME, FRAGMENTS_FOLDER}:
            return (
                f"The build in {place} is not finished: run the same gato-build command"
                " again; it goes on where it was."
            )
    return (
        "Give a build's output folder, a data set's folder in it, or a quoted pattern"
        " of shards, such as '<output>/<dataset>/train-*.tfrecord'."
    )

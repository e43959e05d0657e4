"""Names of shard files: `train-00000-of-00008.tfrecord`, and their sidecars."""

import dataclasses
import re

SPLITS = ("train", "validation")
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
        return f"{self}.idx"

    @property
    def summary_name(self) -> str:
        """Name of the summary that is written last."""
        return f"{self}.json"

    @classmethod
    def parse(cls, name: str) -> "ShardName | None":
        """Returns the parts of a shard's file name, or None if it is none."""
        match = _NAME.match(name)
        if match is None:
            return None
        return cls(
            split=match["split"], index=int(match["index"]), count=int(match["count"])
        )

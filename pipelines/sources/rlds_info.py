"""What `dataset_info.json` of tensorflow-datasets says: names, splits, shard files."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gato.schemas import files
from gato.schemas.errors import QuarantineError, Reason, UsageError

INFO_NAME = "dataset_info.json"
FEATURES_NAME = "features.json"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_MIN_DIGITS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """One TFRecord file of a split.

    Attributes:
        path: Where it lies.
        num_items: Episodes that it holds; None where the file does not say.
    """

    path: str
    num_items: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Info:
    """What is taken from dataset_info.json.

    Attributes:
        builder: The data set's name.
        dataset_id: `<name>/<config>/<version>`, or the path relative to the glob's
            fixed part where that says more.
        split: The split that is read.
        shards: Its files in order.
    """

    builder: str
    dataset_id: str
    split: str
    shards: tuple[Shard, ...]

    @classmethod
    def load(cls, path: str, relative_path: str, split: str) -> "Info":
        """Reads a version folder's file.

        Raises:
            QuarantineError: CORRUPT_FILE if it is not what tensorflow-datasets writes.
            UsageError: If it has no such split, or files of another format.
        """
        try:
            content = json.loads(files.read_bytes(files.join(path, INFO_NAME)))
            # One where it is not said: of that time, there was no other.
            file_format = _get(content, "file_format") or "tfrecord"
            name = content.get("name") or _names_above(path)
            parts = (name, _get(content, "config_name"), content.get("version"))
            splits = {entry["name"]: entry for entry in content["splits"]}
            shards = ()
            if split in splits and file_format == "tfrecord":
                shards = tuple(_shards(path, name, splits[split]))
        except (
            *(OSError, ValueError, TypeError, KeyError, AttributeError),
            RecursionError,
        ) as error:
            raise QuarantineError(
                Reason.CORRUPT_FILE,
                f"{INFO_NAME} must be as tensorflow-datasets writes it, got {error!r}",
            ) from error
        if split not in splits:
            raise UsageError(
                f"{path}: split must be one of {', '.join(sorted(splits)) or 'none'},"
                f" which {INFO_NAME} names, got {split!r}"
            )
        if file_format != "tfrecord":
            raise UsageError(
                f"{path}: format rlds reads TFRecord files, {INFO_NAME} says that these"
                f" are {file_format}. Write them again with tensorflow-datasets' `tfds"
                " convert_format --out_file_format=tfrecord`."
            )
        canonical = "/".join(part for part in parts if part)
        return cls(
            builder=name,
            dataset_id=_dataset_id(canonical, relative_path.strip("/")),
            split=split,
            shards=shards,
        )


def _get(content: Mapping[str, Any], name: str) -> Any:
    """Returns a field by its name in the protobuf, which JSON writes in camel case."""
    head, *rest = name.split("_")
    camel = head + "".join(part.capitalize() for part in rest)
    return content.get(camel, content.get(name))


def _names_above(path: str) -> str:
    """Returns the name of the folder of all versions."""
    return path.rstrip("/").split("/")[-2]


def _dataset_id(canonical: str, relative: str) -> str:
    """Returns an id that no two paths of a build's data set share.

    >>> _dataset_id("toy/1.0.0", "1.0.0"), _dataset_id("toy/1.0.0", "a/toy/1.0.0")
    ('toy/1.0.0', 'a/toy/1.0.0')
    """
    whole = f"/{canonical}"
    return canonical if whole.endswith(f"/{relative}") else relative or canonical


def _shards(path: str, name: str, split: Mapping[str, Any]) -> Iterator[Shard]:
    template = _get(split, "filepath_template") or _TEMPLATE
    lengths: list[int | None]
    lengths = [int(length) for length in _get(split, "shard_lengths") or ()]
    if not lengths:
        lengths = [None] * _count_shards(path, name, split, template)
    for index, length in enumerate(lengths):
        file = _file_name(template, name, split["name"], index, len(lengths))
        yield Shard(path=files.join(path, file), num_items=length)


def _count_shards(path: str, name: str, split: Mapping[str, Any], template: str) -> int:
    """Returns the number of files, as old infos have it or as the files' names do."""
    stated = _get(split, "num_shards")
    if stated is not None:
        return int(stated)
    pattern = re.escape(_file_name(template, name, split["name"], 0, 0))
    pattern = pattern.replace("0" * _MIN_DIGITS, r"(\d{5,})")
    matches = [re.fullmatch(pattern, file) for file in files.list_folder(path)]
    counts = {int(match[match.lastindex or 0]) for match in matches if match}
    if len(counts) != 1:
        raise ValueError(
            f"split {split['name']!r} has neither shardLengths nor files of one number"
            " of shards"
        )
    return counts.pop()


def _file_name(template: str, name: str, split: str, index: int, count: int) -> str:
    digits = max(_MIN_DIGITS, len(str(count)))
    shard, total = f"{index:0{digits}}", f"{count:0{digits}}"
    values = {
        "DATASET": name,
        "SPLIT": split,
        "FILEFORMAT": "tfrecord",
        "SHARD_INDEX": shard,
        "NUM_SHARDS": total,
        "SHARD_X_OF_Y": f"{shard}-of-{total}",
    }
    for key, value in values.items():
        template = template.replace(f"${{{key}}}", value).replace(f"{{{key}}}", value)
    return template

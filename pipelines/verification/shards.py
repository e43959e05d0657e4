"""One shard file: checksums, framing, sidecars; yields what could be read of it."""

import hashlib
import json
from collections.abc import Iterator

import numpy as np

from gato.pipelines.verification.problems import Problems
from gato.schemas import files, tfrecord
from gato.schemas.errors import GatoError
from gato.schemas.manifest import ShardInfo


def _read(path: str, problems: Problems) -> bytes | None:
    try:
        return files.read_bytes(path)
    except FileNotFoundError:
        problems.add(path, "it is missing. Build or copy the shard again")
    except OSError as error:
        problems.add(path, f"it cannot be read: {error}")
    return None


def _check_digest(
    path: str, data: bytes, said: str, problems: Problems, where: str
) -> None:
    digest = hashlib.sha256(data).hexdigest()
    if digest != said:
        problems.add(path, f"sha256 in {where} is {said}, the file has {digest}")


def _check_summary(path: str, info: ShardInfo, problems: Problems) -> None:
    data = _read(path, problems)
    if data is None:
        return
    try:
        summary = json.loads(data)
        if not isinstance(summary, dict):
            raise ValueError("an object is meant")
    except (ValueError, RecursionError) as error:
        problems.add(path, f"not a shard's summary: {error!r}")
        return
    for field in ("rows", "bytes", "sha256", "idx_sha256"):
        said = getattr(info, field)
        if field not in summary or summary[field] != said:
            problems.add(
                path,
                f"{field} is {summary.get(field)!r:.80}, the manifest says {said!r}",
            )


def _records(
    path: str, data: bytes, index: bytes | None, problems: Problems
) -> Iterator[tuple[int, bytes]]:
    """Yields (offset, data) of each readable record, by the index where it is good."""
    offsets = None
    if index is not None:
        try:
            offsets = tfrecord.parse_index(index, f"{path}.idx").astype(np.int64)
        except GatoError as error:
            problems.add(f"{path}.idx", str(error).removeprefix(f"{path}.idx: "))
        else:
            if offsets[-1] != len(data):
                problems.add(
                    f"{path}.idx",
                    f"its last offset is the shard's length, got {offsets[-1]} and"
                    f" {len(data)} bytes",
                )
                offsets = None
    if offsets is None:
        try:
            yield from tfrecord.iterate_records(data, path)
        except GatoError as error:
            problems.unreadable_rows += 1
            problems.add(path, str(error).removeprefix(f"{path} ").lstrip(":"))
        return
    view = memoryview(data)
    for number, (start, stop) in enumerate(
        zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    ):
        place = f"record {number} at byte {start}"
        try:
            record = tfrecord.unframe(view[start:stop], place)
        except GatoError as error:
            problems.unreadable_rows += 1
            text = str(error).removeprefix(f"{place}: ")
            problems.add(path, text, law="frame", place=place)
            continue
        yield start, record


def read_shard(
    folder: str, info: ShardInfo, problems: Problems
) -> Iterator[tuple[int, bytes]]:
    """Checks a shard's bytes and sidecars and yields its records.

    Args:
        folder: The data set's folder.
        info: What the manifest says of the shard.
        problems: Takes every disagreement.

    Yields:
        Offset and data of each record whose frame holds.
    """
    path = files.join(folder, info.name)
    data = _read(path, problems)
    index = _read(f"{path}.idx", problems)
    _check_summary(f"{path}.json", info, problems)
    if index is not None:
        _check_digest(
            f"{path}.idx", index, info.idx_sha256, problems, "the manifest (idx_sha256)"
        )
    if data is None:
        problems.unreadable_rows += info.rows
        return
    if len(data) != info.bytes:
        problems.add(path, f"the manifest says {info.bytes} bytes, it has {len(data)}")
    _check_digest(path, data, info.sha256, problems, "the manifest")
    yield from _records(path, data, index, problems)

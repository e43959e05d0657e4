"""The manifest's own arithmetic, its quarantine file and its tokenizer."""

import hashlib
import json
from collections import Counter

from gato.pipelines.verification.problems import Problems
from gato.schemas import files
from gato.schemas.manifest import (
    QUARANTINE_NAME,
    TOKENIZER_NAME,
    Accounts,
    DatasetManifest,
)
from gato.schemas.record import token_dtype
from gato.schemas.shards import SPLITS, ShardName


def check_accounts(manifest: DatasetManifest, file: str, problems: Problems) -> None:
    """Checks that every episode read is in one account, over all and by task."""
    if (manifest.episodes is None) == (manifest.documents is None):
        problems.add(file, "a data set has accounts of episodes or of documents")
        return
    accounts = manifest.accounts
    if accounts.read != _total(accounts):
        problems.add(
            file,
            "read = kept + low_return + excluded + quarantined, got"
            f" {accounts.read} and {_total(accounts)}",
        )
    prompts = manifest.prompts
    if prompts.prompted != prompts.tail + prompts.uniform:
        problems.add(file, "prompts.prompted = tail + uniform does not hold")
    without = prompts.no_provider + prompts.no_fit + prompts.no_room
    if prompts.prompted + without > prompts.windows:
        problems.add(file, "prompts count more windows than there are")
    if not 0 <= manifest.padding_floor <= 1:
        problems.add(
            file, f"padding_floor is a fraction in [0, 1], got {manifest.padding_floor}"
        )
    if manifest.episodes is None:
        return
    quarantined: Counter[str] = Counter()
    for name, task in manifest.tasks.items():
        quarantined.update(task.quarantined)
        used = task.kept + task.low_return + sum(task.quarantined.values())
        if used > task.episodes_read:
            problems.add(
                file,
                f"task {name!r} read {task.episodes_read} episodes and accounts for"
                f" {used}",
            )
    for field, total in (("kept", accounts.kept), ("low_return", accounts.low_return)):
        found = sum(getattr(task, field) for task in manifest.tasks.values())
        if found != total:
            problems.add(file, f"episodes.{field} is {total}, the tasks sum to {found}")
    for reason, count in quarantined.items():
        if count > accounts.quarantined.get(reason, 0):
            problems.add(
                file,
                f"episodes.quarantined.{reason} is"
                f" {accounts.quarantined.get(reason, 0)}, the tasks sum to {count}",
            )


def _total(accounts: Accounts) -> int:
    return (
        accounts.kept
        + accounts.low_return
        + accounts.excluded
        + sum(accounts.quarantined.values())
    )


def check_vocabulary(manifest: DatasetManifest, file: str, problems: Problems) -> None:
    """Checks that the id ranges follow from the text vocabulary's size."""
    vocabulary = manifest.vocabulary
    expected = {
        "first_continuous": vocabulary.text,
        "separator": vocabulary.text + 1024,
        "size": vocabulary.text + 1025,
    }
    for name, value in expected.items():
        found = getattr(vocabulary, name)
        if found != value:
            problems.add(file, f"vocabulary.{name} must be {value}, got {found}")
    if not 0 <= vocabulary.eos < vocabulary.text:
        problems.add(file, f"vocabulary.eos must be a text id, got {vocabulary.eos}")
    dtype = token_dtype(vocabulary.size)
    if manifest.token_dtype != dtype:
        problems.add(file, f"token_dtype must be {dtype}, got {manifest.token_dtype}")


def check_quarantine(
    folder: str, manifest: DatasetManifest, problems: Problems
) -> None:
    """Checks that quarantine.jsonl has as many rows of each reason as counted."""
    path = files.join(folder, QUARANTINE_NAME)
    said = {key: count for key, count in manifest.accounts.quarantined.items() if count}
    try:
        lines = files.read_bytes(path).split(b"\n")
    except FileNotFoundError:
        problems.add(path, "a build writes it, and there is none")
        return
    found: Counter[str] = Counter()
    for number, line in enumerate(lines[:-1] if not lines[-1] else lines, 1):
        try:
            row = json.loads(line)
            found[str(row["reason"])] += 1
            if not {"source", "episode", "detail"} <= set(row):
                raise ValueError("source, episode and detail are missing")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            problems.add(
                path,
                f"not a quarantine row: {error!r}",
                law="quarantine",
                place=f"line {number}",
            )
    for reason in sorted(said.keys() | found.keys()):
        if said.get(reason, 0) != found[reason]:
            problems.add(
                path,
                f"the manifest counts {said.get(reason, 0)} of reason {reason!r}, the"
                f" file has {found[reason]}",
            )


def check_tokenizer(
    root: str, manifest: DatasetManifest, problems: Problems, *, required: bool
) -> None:
    """Checks the text tokenizer's checksum; beside one lone data set it may lack."""
    path = files.join(root, TOKENIZER_NAME)
    try:
        digest = hashlib.sha256(files.read_bytes(path)).hexdigest()
    except FileNotFoundError:
        if required:
            problems.add(path, "a build copies its tokenizer there, and there is none")
        return
    if digest != manifest.vocabulary.sentencepiece_sha256:
        problems.add(
            path,
            f"the manifest of {manifest.dataset} says sha256"
            f" {manifest.vocabulary.sentencepiece_sha256}, got {digest}",
        )


def check_shard_names(manifest: DatasetManifest, file: str, problems: Problems) -> None:
    """Checks that each split lists shards 0 to n-1 of n."""
    if set(manifest.splits) != set(SPLITS):
        problems.add(
            file, f"splits are {', '.join(SPLITS)}, got {', '.join(manifest.splits)}"
        )
    for split, info in manifest.splits.items():
        count = len(info.shards)
        names = [
            str(ShardName(split=split, index=index, count=count))
            for index in range(count)
        ]
        listed = [shard.name for shard in info.shards]
        if not listed or listed != names:
            wrong = next((a for a, b in zip(listed, names) if a != b), "none")  # noqa: B905
            problems.add(
                file,
                f"splits.{split}.shards lists its shards as <split>-<i>-of-<n>.tfrecord"
                f" in order, at least one; got {count}, with {wrong!r} out of place",
            )
        if sum(shard.rows for shard in info.shards) != info.rows:
            problems.add(file, f"splits.{split}.rows is not the sum over its shards")


def check_folder(folder: str, manifest: DatasetManifest, problems: Problems) -> None:
    """Checks that no shard lies there that the manifest does not list."""
    expected = {"demonstrations.tfrecord"}
    for info in manifest.splits.values():
        for shard in info.shards:
            expected |= {shard.name + suffix for suffix in ("", ".idx", ".json")}
    for name in files.list_folder(folder):
        stem = name.removesuffix(".idx").removesuffix(".json")
        extra = stem.endswith(".tfrecord") and name not in expected
        if extra and not name.startswith("demonstrations.tfrecord"):
            problems.add(
                files.join(folder, name),
                "the manifest does not list it; a reader's glob would take it for data."
                " Remove it",
            )

"""A data set's facts as JSON: from its manifest, its quarantine, and some rows.

Returns, and the lengths of episodes, stand only in rows; they are taken from as many as
are read, and the model says whether those were all.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gato.pipelines.decide import least_kept_return
from gato.pipelines.inspection.sample import SampledDataset, survey
from gato.schemas import files
from gato.schemas.errors import GatoError
from gato.schemas.manifest import (
    QUARANTINE_NAME,
    DatasetManifest,
    TaskSummary,
)
from gato.schemas.record import decode_example

_BINS = 24
_EXAMPLES = 3
# Quarantines of large builds have millions of lines; examples stand at the front.
_QUARANTINE_BYTES = 4 << 20


def histogram(values: Sequence[float]) -> dict[str, Any] | None:
    """Returns counts over equal bins, None of no values.

    Few whole numbers have a bin each, around them.

    Returns:
        `least` and `most`, of the values; `low` and `high`, where the bins begin and
        end, equal if all values are and none is whole; `counts`.

    >>> histogram([1, 3, 3])["counts"]
    [1, 0, 2]
    """
    if not len(values):
        return None
    array = np.asarray(values, np.float64)
    least, most = float(array.min()), float(array.max())
    low, high, bins = least, most, min(_BINS, 2 + 2 * math.isqrt(len(array)))
    if (array == np.round(array)).all() and most - least < _BINS:
        low, high, bins = least - 0.5, most + 0.5, int(most - least) + 1
    if low == high:
        counts = [len(array)]
    else:
        counts = np.histogram(array, bins, (low, high))[0].tolist()
    return {"least": least, "most": most, "low": low, "high": high, "counts": counts}


def threshold(config: Mapping[str, Any], task: TaskSummary) -> dict[str, Any]:
    """Returns the least return that the filter kept, or why there is none.

    Args:
        config: The manifest's.
        task: Of the manifest.
    """
    by = config.get("dataset", {}).get("filter", {}).get("by")
    fraction = config.get("expert_fraction")
    if by == "none":
        return {"value": None, "why": "the filter is off: every episode is kept"}
    if by == "success":
        return {"value": None, "why": "the filter keeps by success, not by return"}
    if by != "return" or fraction is None:
        return {"value": None, "why": "unknown: the manifest's config names no filter"}
    if task.expert_return is None:
        return {"value": None, "why": "unknown: the manifest has no expert return"}
    least = least_kept_return(task.expert_return, fraction)
    why = f"{fraction:g} of the expert return {task.expert_return:.4g}"
    return {"value": least, "why": why}


class _Seen:
    """What the rows that were read say of one task's episodes."""

    def __init__(self) -> None:
        self.returns: dict[str, float] = {}
        self.steps: Counter[str] = Counter()
        self.ends: dict[str, int] = {}
        self.success: dict[str, bool | None] = {}

    def add(self, entry: Mapping[str, Any]) -> None:
        name = entry["episode"]
        self.returns[name] = entry["return"]
        self.success[name] = entry["success"]
        self.steps[name] += entry["num_steps"]
        end = entry["first_step"] + entry["num_steps"]
        self.ends[name] = max(end, self.ends.get(name, 0))


def _observe(rows: Iterable[memoryview], folder: str) -> tuple[int, dict[str, _Seen]]:
    count, tasks = 0, {}
    for data in rows:
        count += 1
        try:
            (provenance,) = decode_example(bytes(data))["provenance"]
            for entry in json.loads(bytes(provenance)):
                if "documents" not in entry:
                    tasks.setdefault(entry["task"], _Seen()).add(entry)
        except (ValueError, KeyError, TypeError) as error:
            raise GatoError(
                f"{folder}: a row's provenance must be what the format asks for:"
                f" {error!r}. Run gato-verify on it."
            ) from error
    return count, tasks


def _task(
    name: str,
    task: TaskSummary,
    seen: _Seen,
    config: Mapping[str, Any],
    complete: bool,
) -> dict[str, Any]:
    # A few windows of an episode show how far it went at least.
    lengths = seen.steps if complete else seen.ends
    known = [value for value in seen.success.values() if value is not None]
    return {
        "name": name,
        **{
            key: getattr(task, key)
            for key in (
                "episodes_read",
                "kept",
                "low_return",
                "quarantined",
                "expert_return",
                "random_return",
                "window",
                "order",
                "agents",
                "timesteps",
            )
        },
        "threshold": threshold(config, task),
        "episodes_seen": len(seen.returns),
        "successes": [sum(known), len(known)] if known else None,
        "returns": histogram(list(seen.returns.values())),
        "lengths": histogram(list(lengths.values())),
    }


def _quarantine(folder: str, manifest: DatasetManifest) -> dict[str, Any]:
    """Returns counts by reason, with the first examples of each."""
    path = files.join(folder, QUARANTINE_NAME)
    examples: dict[str, list[dict[str, str]]] = {}
    missing = not files.exists(path)
    if not missing:
        with files.open_read(path) as file:
            data = file.read(_QUARANTINE_BYTES)
        # The last line may be cut; what the job wrote ends with a new line.
        for number, line in enumerate(data.split(b"\n")[:-1], 1):
            try:
                entry = json.loads(line)
                found = examples.setdefault(str(entry["reason"]), [])
                if len(found) < _EXAMPLES:
                    fields = ("source", "episode", "detail")
                    found.append({key: str(entry.get(key) or "") for key in fields})
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise GatoError(
                    f"{path} line {number}: a line is an object with a reason:"
                    f" {error!r}. Run gato-verify on the data set."
                ) from error
    counts = manifest.accounts.quarantined
    reasons = sorted({**counts, **examples}, key=lambda name: -counts.get(name, 0))
    return {
        "missing": missing,
        "reasons": [
            {
                "reason": reason,
                "count": counts.get(reason, 0),
                "examples": examples.get(reason, []),
            }
            for reason in reasons
        ],
    }


def dataset_model(
    dataset: SampledDataset, *, label: str, share: float, rows_to_read: int
) -> dict[str, Any]:
    """Returns one data set's facts.

    Args:
        dataset: The data set.
        label: What the page calls it.
        share: Its part of the weights of its build's data sets that are shown.
        rows_to_read: How many rows to read for returns and lengths.

    Raises:
        GatoError: If a row or the quarantine cannot be read.
    """
    manifest, config = dataset.manifest, dataset.manifest.config
    controlled = bool(manifest.tasks)
    rows = survey(dataset, rows_to_read) if controlled else ()
    count, seen = _observe(rows, dataset.folder)
    complete = count == manifest.rows
    length = manifest.sequence_length
    options = config.get("dataset", {})
    return {
        "label": label,
        "folder": dataset.folder,
        "share": share,
        "matched_rows": dataset.num_rows,
        "matched_shards": len(dataset.shards),
        "format": options.get("format"),
        "paths": [str(path) for path in options.get("paths", ())],
        "prompt_fraction": config.get("prompts", {}).get("fraction"),
        "items": "episodes" if manifest.episodes is not None else "documents",
        "accounts": manifest.accounts.model_dump(),
        **{
            key: getattr(manifest, key)
            for key in (
                "weight",
                "fingerprint",
                "sequence_length",
                "timesteps",
                "prompt_tokens",
                "targets",
                "rows",
                "padding_floor",
            )
        },
        "tokens": manifest.tokens.model_dump(),
        "slots": manifest.rows * length,
        "prompts": manifest.prompts.model_dump(),
        "splits": {
            name: {"rows": split.rows, "shards": len(split.shards)}
            for name, split in manifest.splits.items()
        },
        "survey": {"rows": count, "complete": complete},
        "tasks": [
            _task(name, task, seen.get(name, _Seen()), config, complete)
            for name, task in manifest.tasks.items()
        ],
        "quarantine": _quarantine(dataset.folder, manifest),
    }

"""Which shards a run may read: those its globs match and their manifests list.

`manifest.json` stands beside the shards of each data set (design.md section 5). Files
that no manifest lists under `splits.train` are never trained on.
"""

import dataclasses
import difflib
import itertools
from collections.abc import Mapping, Sequence

from gato.schemas import files
from gato.schemas.errors import GatoError, UsageError
from gato.schemas.hashing import fingerprint
from gato.schemas.manifest import (
    DEMONSTRATIONS_NAME,
    DatasetManifest,
    ShardInfo,
    load_dataset_manifest,
)
from gato.schemas.shards import SIDECAR_SUFFIXES, find_shards


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """One data set of a run.

    Attributes:
        name: As in its manifest.
        folder: Where manifest and shards lie.
        weight: Of the mixture, normalised over the run's data sets.
        manifest: Its manifest.
        train: Matched shards of `splits.train` with at least one row.
        validation: All shards of `splits.validation` with at least one row.
    """

    name: str
    folder: str
    weight: float
    manifest: DatasetManifest
    train: tuple[ShardInfo, ...]
    validation: tuple[ShardInfo, ...]

    @property
    def headline(self) -> str:
        """What is trained on, in one line."""
        rows = sum(shard.rows for shard in self.train)
        return (
            f"{self.name}: {rows:,} rows in {len(self.train)} shards, weight"
            f" {self.weight:g}"
        )

    @property
    def identity(self) -> str:
        """Tells this data set's content and chosen shards from any other."""
        sums = (f"{shard.name} {shard.sha256}" for shard in self.train)
        return fingerprint(self.name, self.manifest.fingerprint, *sums)


def _match(patterns: Sequence[str]) -> dict[str, list[str]]:
    """Returns the names of matched files by folder.

    A shell that spells out `train-*` gives what lies beside each shard as well.
    """
    given = set(patterns)
    beside = {f"{one}{suffix}" for one in patterns for suffix in SIDECAR_SUFFIXES}
    matched: dict[str, list[str]] = {}
    for pattern in sorted(given - beside, key=patterns.index):
        for path in find_shards(pattern, "train"):
            folder, _, name = path.rpartition("/")
            names = matched.setdefault(folder or ".", [])
            if name not in names:
                names.append(name)
    return matched


def _choose(
    folder: str, names: list[str], manifest: DatasetManifest
) -> tuple[ShardInfo, ...]:
    """Returns the training shards among `names`; those held back are left out."""
    train = {shard.name: shard for shard in manifest.splits["train"].shards}
    held_back = {shard.name for shard in manifest.splits["validation"].shards}
    for name in names:
        if name not in train and name not in held_back | {DEMONSTRATIONS_NAME}:
            raise GatoError(
                f"{files.join(folder, name)}: only shards that the manifest beside them"
                f" lists are read, and it lists {len(train)} for training, not this"
                " one. Is it left from another build? Narrow the glob, or build again."
            )
    return tuple(shard for name, shard in train.items() if name in names and shard.rows)


def _check_agreement(datasets: Sequence[Dataset]) -> None:
    for first, other in itertools.pairwise(datasets):
        if other.name == first.name:
            raise UsageError(
                f"data sets' names are unique in a run, got {other.name!r} in"
                f" {first.folder} and {other.folder}. Leave one out of --shards."
            )
        for what, value in (
            ("sequence length", lambda d: d.manifest.sequence_length),
            ("tokenizer", lambda d: d.manifest.vocabulary.sentencepiece_sha256),
            ("vocabulary", lambda d: d.manifest.vocabulary),
            ("token dtype", lambda d: d.manifest.token_dtype),
        ):
            if value(other) != value(first):
                raise GatoError(
                    f"the data sets of a run agree on their {what}, but {first.folder}"
                    f" has {value(first)} and {other.folder} has {value(other)}. Build"
                    " them with one config, or leave one out of --shards."
                )


def parse_weights(text: str | None) -> dict[str, float]:
    """Returns the weights of `babyai=1,text=0.5`.

    Raises:
        UsageError: If a part is no `name=number` with a number >= 0.
    """
    weights: dict[str, float] = {}
    for part in (text or "").split(","):
        if not part:
            continue
        name, _, number = part.partition("=")
        try:
            weights[name] = float(number)
        except ValueError:
            weights[name] = -1
        if not 0 <= weights[name] < float("inf"):
            raise UsageError(
                "--weights: each part is <data set>=<number of at least 0>, as in"
                f" babyai=1,text=0.5, got {part!r}"
            )
    return weights


def find_datasets(
    patterns: Sequence[str], weights: Mapping[str, float] | None = None
) -> list[Dataset]:
    """Returns the data sets that globs of shards lead to, sorted by name.

    Args:
        patterns: Globs, or folders of builds and data sets, local or URLs. Matched
            validation shards and demonstrations are left out.
        weights: Replace the manifests' weights by name; 0 leaves a data set out.

    Raises:
        UsageError: If a glob matches nothing, or a weight names no data set.
        GatoError: If a manifest is missing, does not list a matched shard, or disagrees
            with another.
    """
    weights = dict(weights or {})
    datasets = []
    for folder, names in _match(patterns).items():
        manifest = load_dataset_manifest(folder)
        validation = manifest.splits["validation"].shards
        datasets.append(
            Dataset(
                name=manifest.dataset,
                folder=folder,
                weight=weights.get(manifest.dataset, manifest.weight),
                manifest=manifest,
                train=_choose(folder, names, manifest),
                validation=tuple(shard for shard in validation if shard.rows),
            )
        )
    datasets.sort(key=lambda dataset: (dataset.name, dataset.folder))
    known = [dataset.name for dataset in datasets]
    for name in weights:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise UsageError(
                f"--weights: no data set {name!r} among the matched shards; did you"
                f" mean {near[0]!r}? They are {', '.join(known)}"
            )
    _check_agreement(datasets)
    used = [dataset for dataset in datasets if dataset.train and dataset.weight > 0]
    total = sum(dataset.weight for dataset in used)
    if not used:
        raise GatoError(
            f"no rows to train on: {', '.join(known)} have no training shard with rows"
            " and a weight above 0 among those matched."
        )
    return [dataclasses.replace(one, weight=one.weight / total) for one in used]

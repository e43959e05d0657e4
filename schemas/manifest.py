"""Manifests: what a finished build holds, written last (design.md section 5)."""

import json
from typing import Any, Literal

import pydantic

from gato.schemas import files
from gato.schemas.errors import GatoError

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
QUARANTINE_NAME = "quarantine.jsonl"
DEMONSTRATIONS_NAME = "demonstrations.tfrecord"
TOKENIZER_NAME = "tokenizer.model"
FRAGMENTS_FOLDER = "_fragments"
ATTEMPT_NAME = "_attempt"


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class ImageRule(_Model):
    """How images of an item become patches.

    Attributes:
        height: Rows of the padded or resized image, a multiple of 16.
        width: Columns, likewise.
        resize: `[height, width]` to resize to before padding, or null.
        encoding: png, jpeg, raw or keep.
    """

    height: int
    width: int
    resize: tuple[int, int] | None
    encoding: Literal["png", "jpeg", "raw", "keep"]


class ObservationSpec(_Model):
    """One observation item.

    Attributes:
        key: Flattened key; items stand in its lexicographic order.
        kind: text, image, discrete or continuous.
        dtype: NumPy name of the source's dtype; "str" for text.
        shape: Shape of one timestep's value; empty for text and scalars.
        image: How it becomes patches; null unless kind is image.
    """

    key: str
    kind: Literal["text", "image", "discrete", "continuous"]
    dtype: str
    shape: tuple[int, ...]
    image: ImageRule | None = None


class ActionSpec(_Model):
    """One action item.

    Attributes:
        key: Flattened key; items stand in its lexicographic order.
        kind: discrete or continuous.
        shape: Shape of one timestep's value.
        num_values: n of a discrete action in [0, n), or null if the format says none.
        low: Bounds used, row-major over `shape`; null if discrete or none were used.
        high: Likewise.
        scale: "space" (low, high map affinely to [-1, 1]) or "none".
    """

    key: str
    kind: Literal["discrete", "continuous"]
    shape: tuple[int, ...]
    num_values: int | None = None
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    scale: Literal["space", "none"] | None = None


class TaskSpec(_Model):
    """Order, kinds, image rule and action ranges of a task's timestep."""

    observations: tuple[ObservationSpec, ...]
    actions: tuple[ActionSpec, ...]


class VocabularyInfo(_Model):
    """Where id ranges begin; all of it follows from the SentencePiece model."""

    text: int
    first_continuous: int
    separator: int
    eos: int
    size: int
    sentencepiece_sha256: str


class Accounts(_Model):
    """Every episode or document read, in exactly one account."""

    read: int
    kept: int
    low_return: int
    excluded: int
    quarantined: dict[str, int]


class TaskSummary(_Model):
    """What a build found in one task."""

    episodes_read: int
    kept: int
    low_return: int
    quarantined: dict[str, int]
    expert_return: float | None
    random_return: float | None
    window: int | None
    order: str
    agents: list[str]
    timesteps: int
    spec: TaskSpec | None


class TokenCounts(_Model):
    """Slots of all rows by kind, prompts included; they sum to rows * L."""

    text: int = 0
    image: int = 0
    discrete_observation: int = 0
    continuous_observation: int = 0
    separator: int = 0
    discrete_action: int = 0
    continuous_action: int = 0
    padding: int = 0


class PromptCounts(_Model):
    """Control windows by what became of their prompt."""

    windows: int = 0
    prompted: int = 0
    tail: int = 0
    uniform: int = 0
    no_provider: int = 0
    no_fit: int = 0
    no_room: int = 0


class ShardInfo(_Model):
    """One shard and its index."""

    name: str
    rows: int
    bytes: int
    sha256: str
    idx_sha256: str


class SplitInfo(_Model):
    """One split's shards, in order."""

    rows: int
    tokens: int
    shards: list[ShardInfo]


class DatasetManifest(_Model):
    """`<output>/<dataset>/manifest.json`."""

    schema_version: int
    dataset: str
    weight: float
    fingerprint: str
    sequence_length: int
    token_dtype: Literal["uint16", "int32"]
    config: dict[str, Any]
    vocabulary: VocabularyInfo
    episodes: Accounts | None = None
    documents: Accounts | None = None
    tasks: dict[str, TaskSummary]
    timesteps: int
    tokens: TokenCounts
    prompt_tokens: int
    targets: int
    local_position_clamped: int
    prompts: PromptCounts
    rows: int
    padding_floor: float
    splits: dict[str, SplitInfo]

    @property
    def accounts(self) -> Accounts:
        """The episodes' or the documents' accounts, whichever this data set has."""
        accounts = self.episodes if self.episodes is not None else self.documents
        if accounts is None:
            raise GatoError(f"manifest of {self.dataset}: no accounts")
        return accounts


class RootDataset(_Model):
    """One data set's entry in the root manifest."""

    weight: float
    fingerprint: str
    rows: int


class RootManifest(_Model):
    """`<output>/manifest.json`, derived from the data sets' manifests."""

    schema_version: int
    sequence_length: int
    token_dtype: Literal["uint16", "int32"]
    tokenizer: str
    # Whether its decode(encode(x)) was x on a test string.
    text_round_trips: bool = True
    vocabulary: VocabularyInfo
    config_fingerprint: str
    datasets: dict[str, RootDataset]


def _load(path: str, model: type[Any]) -> Any:
    try:
        data = files.read_bytes(path)
    except FileNotFoundError as error:
        raise GatoError(
            f"{path}: a finished build has a manifest, and there is none. Run"
            " gato-build to the end, or check the path."
        ) from error
    try:
        content = json.loads(data)
        found = content.get("schema_version") if isinstance(content, dict) else None
        if found != SCHEMA_VERSION:
            raise GatoError(
                f"{path}: manifests of schema version {SCHEMA_VERSION} can be read, got"
                f" {found}. Read it with the release that wrote it, or build again."
            )
        return model.model_validate(content)
    except ValueError as error:
        raise GatoError(f"{path}: not a manifest of gato-build: {error}") from error


def load_dataset_manifest(folder: str) -> DatasetManifest:
    """Reads `<folder>/manifest.json`.

    Raises:
        GatoError: If there is none, or it is of another schema version.
    """
    return _load(files.join(folder, MANIFEST_NAME), DatasetManifest)


def load_root_manifest(folder: str) -> RootManifest:
    """Reads the root manifest of a build.

    Raises:
        GatoError: If there is none, or it is of another schema version.
    """
    return _load(files.join(folder, MANIFEST_NAME), RootManifest)


def dump_manifest(manifest: pydantic.BaseModel) -> bytes:
    """Returns the JSON bytes of a manifest, the same for equal manifests."""
    content = manifest.model_dump(mode="json")
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()

"""What a build is to do, as its workers get it: through constructors, never options."""

import dataclasses

from gato.pipelines.discover import SourcePath
from gato.pipelines.segments import ShardLayout
from gato.pipelines.sources.registry import source_for
from gato.schemas import files, manifest
from gato.schemas.config import BuildConfig, Dataset
from gato.schemas.errors import GatoError
from gato.schemas.record import token_dtype


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetJob:
    """What a worker must know to build one data set.

    Attributes:
        dataset: Its config, paths as written, its format what the files turned out
            to be.
        resolved: Its config, paths relative to the config's folder resolved.
        fingerprint: Of its input and config.
        paths: What its globs matched.
    """

    dataset: Dataset
    resolved: Dataset
    fingerprint: str
    paths: tuple[SourcePath, ...]

    @property
    def control(self) -> bool:
        """Whether it holds episodes (else documents)."""
        return source_for(self.dataset.format).items == "episodes"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildJob:
    """What a worker must know of the whole build.

    Attributes:
        output: The output folder or URL.
        config: The build config, paths as written.
        config_fingerprint: Of the whole config.
        vocabulary: Id ranges.
        text_round_trips: Whether texts can be read back from their tokens.
        limit: `--limit`.
        keep_fragments: `--keep_fragments`.
        attempt: This run's id; another one in the output means it was overtaken.
        progress_port: Where a local display listens; None on a cluster.
        datasets: What to build, by name.
        finished: What was finished before, of what the command names.
    """

    output: str
    config: BuildConfig
    config_fingerprint: str
    vocabulary: manifest.VocabularyInfo
    text_round_trips: bool
    limit: int | None
    keep_fragments: bool
    attempt: str
    progress_port: int | None
    datasets: dict[str, DatasetJob]
    finished: tuple[str, ...]

    def folder(self, dataset: str) -> str:
        """Returns a data set's folder in the output."""
        return files.join(self.output, dataset)

    def fragments_folder(self, dataset: str) -> str:
        """Returns the folder of a data set's fragments."""
        return files.join(self.output, manifest.FRAGMENTS_FOLDER, dataset)

    @property
    def tokenizer_path(self) -> str:
        """The build's copy of the SentencePiece model."""
        return files.join(self.output, manifest.TOKENIZER_NAME)

    def read_limit(self, dataset: Dataset) -> int | None:
        """Returns after how many items a partition may stop being read.

        `max_episodes` comes before `--limit`, and its subset depends on every id.
        """
        return self.limit if dataset.max_episodes is None else None

    def layout(self, dataset: str) -> ShardLayout:
        """Returns what the rows of a data set look like."""
        return ShardLayout(
            dataset=dataset,
            sequence_length=self.config.sequence_length,
            dtype=token_dtype(self.vocabulary.size),
            loss=self.config.loss,
            control=self.datasets[dataset].control,
        )

    def check_attempt(self) -> None:
        """Stops a run that another one has overtaken.

        Raises:
            GatoError: If another run has begun on the same output.
        """
        path = files.join(self.output, manifest.ATTEMPT_NAME)
        found = files.read_bytes(path).decode() if files.exists(path) else "none"
        if found != self.attempt:
            raise GatoError(
                f"{self.output}: another gato-build began on this output (attempt"
                f" {found}) while this one ({self.attempt}) ran; this one stops. Let"
                " the other one finish."
            )

"""Id ranges of the vocabulary; all of them follow from the SentencePiece model's size.

Text ids come first, discrete values share the first 1,024 of them, then follow the
1,024 bins of continuous values and the separator (specification.md section 1).
"""

import dataclasses

from gato.schemas import manifest

# Bins of a continuous value, and the number of discrete values.
NUM_BINS = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Where each kind's ids begin.

    Attributes:
        text: Number of pieces of the SentencePiece model; text ids are [0, text).
        eos: The model's end-of-text id.
        sentencepiece_sha256: Hex digest of the model's bytes.

    >>> Vocabulary(text=32_000, eos=2, sentencepiece_sha256="").size
    33025
    """

    text: int
    eos: int
    sentencepiece_sha256: str

    @property
    def first_continuous(self) -> int:
        """Id of the lowest bin; bins are `[first_continuous, separator)`."""
        return self.text

    @property
    def separator(self) -> int:
        """Id between a timestep's observation and its action."""
        return self.text + NUM_BINS

    @property
    def size(self) -> int:
        """Number of ids."""
        return self.text + NUM_BINS + 1

    def info(self) -> manifest.VocabularyInfo:
        """Returns what the manifest records."""
        return manifest.VocabularyInfo(
            text=self.text,
            first_continuous=self.first_continuous,
            separator=self.separator,
            eos=self.eos,
            size=self.size,
            sentencepiece_sha256=self.sentencepiece_sha256,
        )

    @classmethod
    def from_info(cls, info: manifest.VocabularyInfo) -> "Vocabulary":
        """Returns the vocabulary that a manifest records."""
        return cls(
            text=info.text,
            eos=info.eos,
            sentencepiece_sha256=info.sentencepiece_sha256,
        )

"""Episode and Document: what a source yields, before any tokenization."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

# A column of T observations or actions: an array with leading axis T, or T texts, or
# T encoded images.
Column = NDArray[np.generic] | Sequence[str | bytes]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
    """What a format says about the values of one action item.

    Attributes:
        num_values: n of a discrete item with values [0, n); None if not known.
        low: float64, shape of the item; None if the format has no bounds.
        high: float64, shape of the item; None if the format has no bounds.
    """

    num_values: int | None = None
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Episode:
    """One episode: T timesteps, each an observation and the action taken on it.

    A source drops what is not a timestep (Minari's last observation, RLDS' padding
    step) and flattens nested names with `/`.

    Attributes:
        episode_id: Stable and unique in its data set; ends with the format's episode
            number, as in `babyai/goto-v0/17`.
        source: The file or folder it was read from, for messages and quarantine rows.
        number: The format's episode number, or its place in the file.
        task: For example the environment's id.
        agent: Who acted; prompts come from the same task and agent.
        observations: Columns by flattened key. uint8 [T, H, W, 1|3|4] may be images.
        actions: Columns by flattened key.
        action_spaces: What the format says of each action, by flattened key.
        rewards: float64 [T].
        success: Whether the task was achieved, if the format says.
        random_return: A random policy's mean return on this task, if the format says.
    """

    episode_id: str
    source: str
    number: int
    task: str
    agent: str
    observations: Mapping[str, Column]
    actions: Mapping[str, Column]
    action_spaces: Mapping[str, Space]
    rewards: NDArray[np.float64]
    success: bool | None = None
    random_return: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextPart:
    """A piece of text inside a document.

    Attributes:
        text: The text as stored: str, or bytes that must be strict UTF-8.
        eos: Whether the model's end-of-text id follows.
        question: Whether it is a question, whose loss `loss.questions` switches.
    """

    text: str | bytes
    eos: bool = True
    question: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagePart:
    """An image inside a document, as encoded bytes (PNG, JPEG, ...) from the source."""

    data: bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """One text, one (image, caption) pair, one question, or one interleaved page.

    Attributes:
        document_id: `<file relative to its folder>/<index or the format's id>`.
        source: The file it was read from.
        number: Its place in the file.
        parts: Text and images in the order of the page; a pair is (image, caption), a
            question (image, question, answer).
        is_page: Whether it is an interleaved page, which may be cut between its parts
            and inside its texts; pairs and questions never are.
    """

    document_id: str
    source: str
    number: int
    parts: tuple[TextPart | ImagePart, ...]
    is_page: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unreadable:
    """An item (or file) that a source met but could not read.

    Attributes:
        source: The file or folder.
        item_id: The episode's or document's id, or None where the whole file is lost.
        number: Its place in the file; the file's next place where that is not known.
        task: The task it would have belonged to, where known.
        agent: Likewise.
        reason: A `gato.schemas.errors.Reason`.
        detail: The rule, what was found and where.
    """

    source: str
    item_id: str | None
    number: int
    task: str | None = None
    agent: str | None = None
    reason: str
    detail: str

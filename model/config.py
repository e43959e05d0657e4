"""The trainer's whole configuration, and the shape letters used in `gato.model`.

Array names in this folder end in their shape:
    B rows of the global batch   L slots of a row      D width        H heads
    K head size                  F feed-forward width before the split
    V rows of the padded token table                   N blocks
    G groups of rows, one a device of the batch axes   P patches pooled in one group

Every default lives here. A preset is a file of `gato.model.configs`; the command line
overrides single values with `--set optimizer.peak_lr=1e-4` (`override`).
"""

import dataclasses
import difflib
import types
import typing
from typing import Any, Literal

from gato.schemas.errors import UsageError

# The paper's vocabulary: 32,000 pieces of text, 1,024 bins, one separator.
PAPER_VOCABULARY = 33_025
PAPER_LENGTH = 1024
# The matrix units want the table's rows in multiples of this.
_TABLE_MULTIPLE = 128
_BOOLEANS = {"true": True, "false": False}


def _check(holds: bool, rule: str, found: object) -> None:
    if not holds:
        raise UsageError(f"{rule}, got {found}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of the decoder (the paper's appendix C).

    Attributes:
        width: D.
        blocks: N.
        heads: H.
        head_size: K, of keys and values.
        feed_forward: F; GEGLU splits it, so F / 2 hidden units come out.
        positions: How a slot knows its place in its segment: `xl` scores distances
            against fixed sinusoids (Transformer-XL; the published sizes), `rope` turns
            queries and keys, `learned` adds a vector.
        attention: `xla`, `splash` (TPU v4 and later), `cudnn` (NVIDIA GPUs) or `auto`:
            gato-train and gato-compile take the fused one of their devices where its
            rules allow (`gato.model.kernels`), and tell which; elsewhere `xla`.
        patch_embedder: `resnet` (one residual block a patch) or `linear`.
        stochastic_depth: Chance that a sub-layer is skipped for a row in training.
        dropout: Chance that a value of a slot's embedding, or of what a sub-layer adds
            to it, is 0 in training (Transformer's residual dropout).
        compute_dtype: Dtype of the matrix products; parameters, norms, softmax and loss
            stay float32.
        remat: What the backward pass computes again: `none`; `attention`: all of a
            block but its attention's output; `dots`: all but products of weights;
            `block`: all.
    """

    width: int
    blocks: int
    heads: int
    head_size: int
    feed_forward: int
    positions: Literal["xl", "rope", "learned"] = "xl"
    attention: Literal["auto", "xla", "splash", "cudnn"] = "auto"
    patch_embedder: Literal["resnet", "linear"] = "resnet"
    stochastic_depth: float = 0.1
    dropout: float = 0.0
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    remat: Literal["none", "attention", "dots", "block"] = "none"

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "heads", "head_size"):
            value = getattr(self, name)
            _check(value >= 1, f"model.{name} is at least 1", value)
        _check(
            self.feed_forward >= 2 and self.feed_forward % 2 == 0,
            "model.feed_forward is split in half, so it is even",
            self.feed_forward,
        )
        _check(
            self.positions != "rope" or self.head_size % 2 == 0,
            "model.head_size is even where positions is rope",
            self.head_size,
        )
        _check(
            self.positions != "xl" or self.width % 2 == 0,
            "model.width is even where positions is xl",
            self.width,
        )
        for name in ("stochastic_depth", "dropout"):
            value = getattr(self, name)
            _check(0 <= value < 1, f"model.{name} is a chance in [0, 1)", value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW and its schedule (the paper's appendix E).

    Attributes:
        peak_lr: Learning rate at the end of the warm-up.
        first_lr: Learning rate of the first step.
        final_fraction: Share of the peak at which the cosine ends.
        warmup_steps: Steps of the linear warm-up; None: min(100, steps / 10).
        decay_steps: Step at which the cosine ends; None: the run's number of steps.
        b1: Decay of the first moment.
        b2: Decay of the second moment.
        eps: Added to the root of the second moment.
        weight_decay: Of matrices and tables; norms and single vectors have none.
    """

    peak_lr: float
    first_lr: float = 1e-7
    final_fraction: float = 0.1
    warmup_steps: int | None = 15_000
    decay_steps: int | None = 1_000_000
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        _check(self.peak_lr > 0, "optimizer.peak_lr is positive", self.peak_lr)
        for name in ("warmup_steps", "decay_steps"):
            value = getattr(self, name)
            _check(value is None or value >= 0, f"optimizer.{name} is >= 0", value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How batches are made.

    Attributes:
        batch_size: Rows of the global batch, over all hosts.
        seed: Of the order of rows.
        threads: Threads that decode images; the order does not depend on them.
        prefetch: Batches kept ready on the device.
    """

    batch_size: int = 512
    seed: int = 0
    threads: int = 4
    prefetch: int = 2

    def __post_init__(self) -> None:
        for name in ("batch_size", "threads", "prefetch"):
            value = getattr(self, name)
            _check(value >= 1, f"data.{name} is at least 1", value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When the state is saved.

    Attributes:
        every: Steps between two checkpoints; the last step always makes one.
        keep: How many checkpoints stay.
    """

    every: int = 1000
    keep: int = 2

    def __post_init__(self) -> None:
        for name in ("every", "keep"):
            value = getattr(self, name)
            _check(value >= 1, f"checkpoint.{name} is at least 1", value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """When and on how much the model is validated.

    Attributes:
        every: Steps between two validations, and one after the last step; 0: never.
        rows: Validation rows read of each data set, from the first shard on.
    """

    every: int = 0
    rows: int = 64

    def __post_init__(self) -> None:
        _check(self.every >= 0, "validation.every is at least 0", self.every)
        _check(self.rows >= 1, "validation.rows is at least 1", self.rows)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All of a training run that is not a path.

    Attributes:
        name: The preset's name.
        model: Shape of the decoder.
        optimizer: AdamW and its schedule.
        data: How batches are made.
        checkpoint: When the state is saved.
        validation: When the model is validated.
        steps: Updates of the whole run.
        microbatches: Parts of a batch that each device takes one after the other, to
            hold fewer activations; their gradients are summed, and divided once.
        seed: Of initialisation, patch positions and stochastic depth.
        loss_normalization: `token` weighs every target of the batch alike (equation 2
            of the paper), `row` every row that has one.
        predict_observations: Whether observations are targets in training too, prompts'
            included, so that the model can be asked what an action leads to: all their
            tokens, whatever the build's loss mask says, but no image. Validation keeps
            the build's mask, so its figures compare with those of other runs.
    """

    name: str
    model: ModelConfig
    optimizer: OptimizerConfig
    data: DataConfig = DataConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    validation: ValidationConfig = ValidationConfig()
    steps: int = 1_000_000
    microbatches: int = 1
    seed: int = 0
    loss_normalization: Literal["token", "row"] = "token"
    predict_observations: bool = False

    def __post_init__(self) -> None:
        _check(self.steps >= 1, "steps is at least 1", self.steps)
        _check(self.microbatches >= 1, "microbatches is at least 1", self.microbatches)

    @property
    def warmup_steps(self) -> int:
        """Steps of the warm-up, resolved."""
        given = self.optimizer.warmup_steps
        return min(100, self.steps // 10) if given is None else given

    @property
    def decay_steps(self) -> int:
        """The step at which the learning rate stops falling, resolved."""
        given = self.optimizer.decay_steps
        return max(self.steps if given is None else given, self.warmup_steps + 1)


def table_rows(vocabulary_size: int) -> int:
    """Returns V: the vocabulary's size rounded up to a multiple of 128.

    >>> table_rows(33_025)
    33152
    """
    return -(-vocabulary_size // _TABLE_MULTIPLE) * _TABLE_MULTIPLE


def load_config(kind: Any, content: dict[str, Any]) -> Any:
    """Returns the config dataclass that was saved as JSON.

    Keys that came later have their defaults, which change nothing.

    Args:
        kind: `TrainConfig`, or a part of it.
        content: Of `dataclasses.asdict`.

    Raises:
        TypeError: If a key is not known: a later release saved it.
    """
    hints = typing.get_type_hints(kind)
    fields = {
        name: load_config(hints[name], value)
        if dataclasses.is_dataclass(hints.get(name))
        else value
        for name, value in content.items()
    }
    return kind(**fields)


def _parse(text: str, annotation: Any, key: str) -> Any:
    origin = typing.get_origin(annotation)
    options = typing.get_args(annotation)
    if origin is types.UnionType:
        if text.lower() in ("none", "null"):
            return None
        return _parse(text, options[0], key)
    if origin is Literal:
        if text not in options:
            raise UsageError(
                f"--set {key}: the choices are {', '.join(options)}, got {text!r}"
            )
        return text
    try:
        if annotation is bool:
            return _BOOLEANS[text.lower()]
        if annotation is int:
            number = float(text)
            if number != int(number):
                raise ValueError(text)
            return int(number)
        return annotation(text)
    except (KeyError, ValueError, OverflowError) as error:
        raise UsageError(
            f"--set {key}: a value of type {annotation.__name__} is needed, got"
            f" {text!r}"
        ) from error


def override(config: Any, key: str, text: str, *, whole: str = "") -> Any:
    """Returns a copy of a config with one value replaced.

    Args:
        config: `TrainConfig`, or a part of it.
        key: Dotted path, such as `checkpoint.every`.
        text: The value as typed; "none" where None is allowed.
        whole: The dotted path from the root, for messages.

    Raises:
        UsageError: If there is no such key (naming the nearest) or the value does not
            fit.
    """
    whole = whole or key
    fields = {field.name: field for field in dataclasses.fields(config)}
    head, _, rest = key.partition(".")
    if head not in fields:
        near = difflib.get_close_matches(head, fields, n=1, cutoff=0.0)
        raise UsageError(
            f"--set {whole}: unknown key {head!r}; did you mean {near[0]!r}? Known keys"
            f" here: {', '.join(fields)}"
        )
    value = getattr(config, head)
    if dataclasses.is_dataclass(value) and not rest:
        names = ", ".join(f"{head}.{field.name}" for field in dataclasses.fields(value))
        raise UsageError(f"--set {whole}: {head!r} is a group; its keys: {names}")
    if rest and not dataclasses.is_dataclass(value):
        raise UsageError(f"--set {whole}: {head!r} is a single value, not a group")
    if rest:
        replaced = override(value, rest, text, whole=whole)
    else:
        annotation = typing.get_type_hints(type(config))[head]
        replaced = _parse(text, annotation, whole)
    return dataclasses.replace(config, **{head: replaced})

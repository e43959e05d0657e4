"""The build config: YAML, every default here, unknown keys refused (design.md 3)."""

import difflib
import functools
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pydantic

from gato.schemas import files, includes
from gato.schemas.errors import UsageError
from gato.schemas.formats import FORMATS

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_UNITS |= {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*$")


def parse_bytes(value: Any) -> Any:
    """Returns the number of bytes of `128MiB`, `1GB` or a plain integer."""
    if not isinstance(value, str):
        return value
    match = _SIZE.match(value)
    if match is None or match[2] not in _UNITS:
        raise ValueError(
            f"a size is a number and one of {', '.join(u for u in _UNITS if u)}, such"
            f" as 128MiB, got {value!r}"
        )
    return int(float(match[1]) * _UNITS[match[2]])


Bytes = Annotated[int, pydantic.BeforeValidator(parse_bytes)]
Fraction = Annotated[float, pydantic.Field(ge=0, le=1)]
PositiveNumber = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Prompts(_Model):
    """Which windows get a demonstration in front, and of what length."""

    fraction: Fraction = 0.25
    tail_fraction: Fraction = 0.5
    max_tokens: int = pydantic.Field(default=512, ge=1)


class Loss(_Model):
    """What is a target beside actions, captions, answers and documents."""

    text_observations: bool = True
    questions: bool = True
    prompts: bool = True


class Filter(_Model):
    """The expert filter: by return, by success, or none."""

    by: Literal["return", "success", "none"] = "return"
    success_key: str | None = None


class Tasks(_Model):
    """Shell patterns of tasks; one that is not included, or excluded, is left out."""

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()


class Observations(_Model):
    """Shell patterns of flattened observation keys; kinds override inference."""

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    kinds: dict[str, Literal["text", "image", "discrete", "continuous"]] = {}


class Actions(_Model):
    """How continuous actions come to [-1, 1] (specification.md section 1).

    Attributes:
        scale: auto, none, space, or `[[low...], [high...]]`.
        clip: Whether values beyond the bounds in use are clipped before scaling.
    """

    scale: (
        Literal["auto", "none", "space"] | tuple[tuple[float, ...], tuple[float, ...]]
    ) = "auto"
    clip: bool = False

    @pydantic.field_validator("scale")
    @classmethod
    def _check_scale(cls, scale: Any) -> Any:
        if isinstance(scale, str):
            return scale
        low, high = scale
        if len(low) != len(high) or any(b <= a for a, b in zip(low, high, strict=True)):
            raise ValueError(
                "[[low...], [high...]] needs as many lows as highs and low < high in"
                f" each dimension, got {list(low)} and {list(high)}"
            )
        return scale


class Image(_Model):
    """How images become patches.

    Attributes:
        resize: `[height, width]`, multiples of 16, or null.
        max_patches: Scale down, keeping the aspect, to at most so many 16x16 patches;
            null keeps the size of control images and means 196 for documents.
        encoding: png, jpeg, raw, or keep (the source's own bytes where they fit).
    """

    resize: tuple[int, int] | None = None
    max_patches: int | None = pydantic.Field(default=None, ge=1)
    encoding: Literal["png", "jpeg", "raw", "keep"] = "png"

    @pydantic.field_validator("resize")
    @classmethod
    def _check_resize(cls, resize: tuple[int, int] | None) -> tuple[int, int] | None:
        if resize is not None and any(side <= 0 or side % 16 for side in resize):
            raise ValueError(f"sides are multiples of 16, got {list(resize)}")
        return resize


class Dataset(_Model):
    """One data set: where its raw data lies and how it is read.

    Attributes:
        condition_on_return: Whether each timestep observes its episode's return too
            (`gato.tokenizers.returns`); the policy then observes the expert's. A number
            divides it; `true` is 1.
    """

    name: str
    format: str
    paths: tuple[str, ...] = pydantic.Field(min_length=1)
    weight: PositiveNumber = 1.0
    filter: Filter = Filter()
    tasks: Tasks = Tasks()
    max_episodes: int | None = pydantic.Field(default=None, ge=1)
    task: str | None = None
    agent: str | None = None
    observations: Observations = Observations()
    actions: Actions = Actions()
    image: Image = Image()
    num_shards: int | None = pydantic.Field(default=None, ge=1, le=99_999)
    text_key: str | None = None
    document: Literal["file", "line", "paragraph"] | None = None
    images: str | None = None
    annotations: str | None = None
    split: str | None = None
    condition_on_return: bool | PositiveNumber = False

    @pydantic.model_serializer(mode="wrap")
    def _leave_out_later_keys(
        self, handler: pydantic.SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        # Manifests and fingerprints without the option stay as they were before it.
        content = handler(self)
        if not self.condition_on_return:
            content.pop("condition_on_return", None)
        return content

    @pydantic.field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ValueError(
                "a data set's name is a folder in the output: letters, digits, '.', '_'"
                f" and '-', beginning with a letter or digit, got {name!r}"
            )
        return name

    @pydantic.field_validator("format")
    @classmethod
    def _check_format(cls, format: str) -> str:
        if format not in FORMATS:
            near = difflib.get_close_matches(format, FORMATS, n=1, cutoff=0.0)
            raise ValueError(
                f"a format is one of {', '.join(FORMATS)}; did you mean {near[0]!r}?"
            )
        return format

    @pydantic.field_validator("split")
    @classmethod
    def _check_split(cls, split: str | None) -> str | None:
        if split is not None and not re.fullmatch(r"[\w.-]+", split):
            raise ValueError(
                "a split is read whole, by its name in dataset_info.json, such as"
                f" train; parts and sums of splits are not read, got {split!r}. For a"
                " part, use max_episodes or --limit."
            )
        return split

    @pydantic.model_validator(mode="after")
    def _check_options(self) -> "Dataset":
        allowed = FORMATS[self.format].options
        for option in sorted({name for f in FORMATS.values() for name in f.options}):
            if getattr(self, option) is not None and option not in allowed:
                raise ValueError(
                    f"{option!r} is not an option of format {self.format!r}"
                    f" (which has {', '.join(sorted(allowed)) or 'none of its own'})"
                )
        if self.condition_on_return and FORMATS[self.format].documents:
            raise ValueError(
                "condition_on_return is of episodes, which have rewards; format"
                f" {self.format!r} holds documents"
            )
        return self


class BuildConfig(_Model):
    """The whole build config."""

    seed: int = pydantic.Field(default=0, ge=0, lt=1 << 64)
    sequence_length: int = pydantic.Field(default=1024, ge=8, le=32_767)
    text_tokenizer: str
    expert_fraction: Fraction = 0.8
    validation_fraction: Fraction = 0.01
    prompts: Prompts = Prompts()
    loss: Loss = Loss()
    shard_bytes: Bytes = pydantic.Field(default=128 << 20, ge=1)
    shuffle_block: Bytes = pydantic.Field(default=0, ge=0)
    max_quarantine_fraction: Fraction = 0.01
    datasets: tuple[Dataset, ...] = pydantic.Field(min_length=1)

    @pydantic.model_validator(mode="after")
    def _check(self) -> "BuildConfig":
        names = [dataset.name for dataset in self.datasets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"data sets' names are unique, got {twice[0]!r} twice")
        if self.prompts.fraction and self.prompts.max_tokens >= self.sequence_length:
            raise ValueError(
                "prompts.max_tokens leaves room for a body only below sequence_length,"
                f" got {self.prompts.max_tokens} and {self.sequence_length}"
            )
        return self


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Returns the keys allowed where an unknown one was found."""
    if len(location) == 1:
        return [*BuildConfig.model_fields, "include"]
    model: Any = BuildConfig
    for step in location[:-1]:
        if isinstance(step, int):
            continue
        annotation = model.model_fields[step].annotation
        arguments = getattr(annotation, "__args__", ())
        candidates = [annotation, *arguments]
        model = next(c for c in candidates if hasattr(c, "model_fields"))
    return list(model.model_fields)


def _place(
    path: str, location: tuple[int | str, ...], entries: list[includes.Entry]
) -> str:
    """Returns file and key of a location in the config with what it includes."""
    match location:
        case ("datasets", int(index), *rest) if index < len(entries):
            entry = entries[index]
            return f"{entry.file}: {'.'.join(map(str, (entry.place, *rest)))}"
    return f"{path}: {'.'.join(map(str, location)) or 'the config'}"


def _message(
    path: str, error: pydantic.ValidationError, entries: list[includes.Entry]
) -> str:
    problems = error.errors()
    unknown = {p["loc"]: _nearest(p["loc"]) for p in problems if _is_unknown(p)}
    # A misspelt key is missing too, and what holds it fails with it: told once.
    meant = {(*loc[:-1], near) for loc, near in unknown.items()}
    lines = []
    for problem in problems:
        loc = problem["loc"]
        place = _place(path, loc, entries)
        if _is_unknown(problem):
            lines.append(
                f"{place}: unknown key {str(loc[-1])!r}; did you mean"
                f" {unknown[loc]!r}? Known keys here: {', '.join(_known_keys(loc))}"
            )
        elif problem["type"] == "missing":
            if loc not in meant:
                lines.append(f"{place}: this key is required")
        elif not any(
            p["loc"][: len(loc)] == loc and p is not problem for p in problems
        ):
            text = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{place}: {text} (got {problem['input']!r:.200})")
    return "\n".join(lines)


def _is_unknown(problem: Any) -> bool:
    return problem["type"] == "extra_forbidden"


def _nearest(location: tuple[int | str, ...]) -> str:
    known = _known_keys(location)
    return difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.0)[0]


def parse_config(text: str | bytes, path: str) -> BuildConfig:
    """Validates a YAML build config with what it includes.

    Its own paths stay as written; those of included files are rewritten to start from
    the config's folder.

    Raises:
        UsageError: With every problem, its place, and the nearest known key.
    """
    content = includes.parse_yaml(text, path)
    if not isinstance(content, dict):
        raise UsageError(
            f"{path}: a build config is a mapping with text_tokenizer and datasets, got"
            f" {type(content).__name__}. See configs/demo.yaml."
        )
    entries = includes.gather(content, path)
    if "include" in content:
        own = content.get("datasets", [])
        every = [entry.content for entry in entries]
        content = {key: content[key] for key in content if key != "include"}
        content["datasets"] = every if isinstance(own, list) else own
    try:
        config = BuildConfig.model_validate(content)
    except pydantic.ValidationError as error:
        raise UsageError(_message(path, error, entries)) from error
    datasets = tuple(
        _with_paths(dataset, functools.partial(includes.relocate, entry.folder))
        if entry.file != path
        else dataset
        for dataset, entry in zip(config.datasets, entries, strict=True)
    )
    return config.model_copy(update={"datasets": datasets})


def _with_paths(dataset: Dataset, change: Callable[[str], str]) -> Dataset:
    """Returns the data set with each of its paths changed."""
    paths: dict[str, Any] = {
        option: change(value)
        for option in ("images", "annotations")
        if (value := getattr(dataset, option)) is not None
    }
    paths["paths"] = tuple(map(change, dataset.paths))
    return dataset.model_copy(update=paths)


def load_config(path: str) -> BuildConfig:
    """Reads a build config and resolves its paths against the config's own folder.

    Raises:
        UsageError: If it, or what it includes, is not there or not valid.
    """
    try:
        text = files.read_bytes(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(
            f"{path}: no such build config. See configs/demo.yaml."
        ) from error
    config = parse_config(text, path)
    folder = path.rsplit("/", 1)[0] if "/" in path else ""
    resolve = functools.partial(files.join, folder)
    datasets = tuple(_with_paths(dataset, resolve) for dataset in config.datasets)
    tokenizer = files.join(folder, config.text_tokenizer)
    return config.model_copy(update={"text_tokenizer": tokenizer, "datasets": datasets})

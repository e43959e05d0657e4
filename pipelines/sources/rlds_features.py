"""What `features.json` of tensorflow-datasets says: the leaves of steps and episode.

The file holds a tree of features, as the protobuf `feature.proto` in JSON (since 4.5)
or, before, as `{"type": class, "content": ...}`. A leaf's values are stored under its
names joined with `/`; see `rlds_columns.py` for how.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from gato.schemas.errors import QuarantineError, Reason, UsageError

STEPS = "steps"
_NUMBERS = {"bool", "bfloat16", "float16", "float32", "float64"}
_NUMBERS |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_MODULE = "tensorflow_datasets."

Kind = Literal["tensor", "text", "image", "unknown"]
Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaf:
    """One feature that holds values.

    Attributes:
        path: Names from the step, or from the episode, to it.
        kind: How its values are stored; "unknown" is left to tensorflow-datasets.
        class_name: The class of tensorflow-datasets.
        dtype: As features.json writes it: `float32`, `string`, `bfloat16`, ...
        shape: Of one value; None where it is not fixed.
        encoding: Of a tensor: none, bytes or zlib.
        sequence: Lengths of the sequences around it, outermost first; None where one
            is not fixed.
        optional: Whether an episode may lack it.
        minimum: Least value, where the file says.
        maximum: Greatest value, likewise.
        num_classes: Of a class label.
    """

    path: Path
    kind: Kind
    class_name: str
    dtype: str = "string"
    shape: tuple[int | None, ...] = ()
    encoding: str = "none"
    sequence: tuple[int | None, ...] = ()
    optional: bool = False
    minimum: float | None = None
    maximum: float | None = None
    num_classes: int | None = None

    @property
    def name(self) -> str:
        """The names joined, as in the Example."""
        return "/".join(self.path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
    """The leaves of a data set.

    Attributes:
        steps: Those of one step, by path.
        episode: Those beside `steps`, by path.
    """

    steps: Mapping[Path, Leaf]
    episode: Mapping[Path, Leaf]

    def below(self, name: str) -> dict[str, Leaf]:
        """Returns the leaves of a step's feature by flattened key.

        A feature that is one leaf has its own name as the key.
        """
        return {
            "/".join(path[1:]) or name: leaf
            for path, leaf in self.steps.items()
            if path[0] == name
        }


def parse_features(text: bytes) -> Features:
    """Returns what features.json says.

    Raises:
        QuarantineError: CORRUPT_FILE if it is not what tensorflow-datasets writes.
        UsageError: If the data set is not one of episodes.
    """
    try:
        root = _node(json.loads(text))
        if root.name != "FeaturesDict":
            raise ValueError(f"its root must be a FeaturesDict, got {root.class_name}")
        children = _children(root)
        steps = children.pop(STEPS, None)
        episode = [
            leaf for name, node in children.items() for leaf in _leaves(node, (name,))
        ]
        inner = None
        if steps is not None and steps.name == "Dataset":
            inner = _node(_get(steps.content, "feature"))
        is_rlds = inner is not None and inner.name == "FeaturesDict"
        leaves = list(_leaves(inner, ())) if inner is not None and is_rlds else []
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise QuarantineError(
            Reason.CORRUPT_FILE,
            f"features.json must be as tensorflow-datasets writes it, got {error!r}",
        ) from error
    if not is_rlds:
        found = ", ".join(sorted(children)) or "nothing else"
        raise UsageError(
            "a data set of format rlds has episodes, a Dataset feature 'steps' of named"
            f" features; features.json has {found}. Is it a data set of images or text?"
        )
    return Features(
        steps={leaf.path: leaf for leaf in leaves},
        episode={leaf.path: leaf for leaf in episode},
    )


@dataclasses.dataclass(frozen=True)
class _Node:
    """One feature of the tree, in either form."""

    class_name: str
    content: Mapping[str, Any]

    @property
    def name(self) -> str:
        # Classes from elsewhere may store their values in any way.
        known = self.class_name.startswith(_MODULE)
        return self.class_name.rsplit(".", 1)[-1] if known else ""


def _node(value: Mapping[str, Any]) -> _Node:
    if "type" in value:
        class_name, content = value["type"], value["content"] or {}
        if isinstance(content, str):
            content = json.loads(content)
    else:
        class_name = _get(value, "python_class_name")
        contents = [entry for entry in value.values() if isinstance(entry, dict)]
        if len(contents) != 1:
            raise ValueError(f"a feature must have one content, got {len(contents)}")
        content = contents[0]
    if not isinstance(class_name, str):
        raise ValueError(f"a feature must name its class, got {class_name!r}")
    return _Node(class_name, content)


def _get(content: Mapping[str, Any], name: str) -> Any:
    """Returns a field by its name in the protobuf, which JSON writes in camel case."""
    head, *rest = name.split("_")
    camel = head + "".join(part.capitalize() for part in rest)
    return content.get(name, content.get(camel))


def _children(node: _Node) -> dict[str, _Node]:
    content = node.content.get("features", node.content)
    # Of the older form, whose names may include "features" itself.
    if "type" in content or "pythonClassName" in content:
        content = node.content
    return {name: _node(child) for name, child in content.items()}


def _leaves(
    node: _Node, path: Path, sequence: tuple[int | None, ...] = ()
) -> Iterator[Leaf]:
    match node.name:
        case "FeaturesDict":
            for name, child in _children(node).items():
                yield from _leaves(child, (*path, name), sequence)
        case "Sequence":
            length = _size(_get(node.content, "length"))
            inner = _node(_get(node.content, "feature"))
            yield from _leaves(inner, path, (*sequence, length))
        case _:
            yield _leaf(node, path, sequence)


def _leaf(node: _Node, path: Path, sequence: tuple[int | None, ...]) -> Leaf:
    content = node.content
    leaf = Leaf(
        path=path, kind="unknown", class_name=node.class_name, sequence=sequence
    )
    match node.name:
        case "Tensor" | "Scalar":
            dtype, shape = content["dtype"], _shape(content.get("shape"))
            encoding = (content.get("encoding") or "none").lower()
            return dataclasses.replace(
                leaf,
                kind=_tensor_kind(dtype, shape, encoding, sequence),
                dtype=dtype,
                shape=shape,
                encoding=encoding,
                optional=bool(content.get("optional")),
                minimum=_number(content.get("minimum")),
                maximum=_number(content.get("maximum")),
            )
        case "Text" if "use_encoder" not in content:
            return dataclasses.replace(leaf, kind="text")
        case "ClassLabel":
            classes = int(_get(content, "num_classes") or 0) or None
            return dataclasses.replace(
                leaf, kind="tensor", dtype="int64", num_classes=classes
            )
        case "BBoxFeature":
            return dataclasses.replace(leaf, kind="tensor", dtype="float32", shape=(4,))
        # Images of floats hold a number's four bytes as a pixel's four channels.
        case "Image" | "LabeledImage" if content.get("dtype") in ("uint8", "uint16"):
            return dataclasses.replace(
                leaf,
                kind="image",
                dtype=content["dtype"],
                shape=_shape(content.get("shape")),
            )
        case _:
            return leaf


def _tensor_kind(
    dtype: str,
    shape: tuple[int | None, ...],
    encoding: str,
    sequence: tuple[int | None, ...],
) -> Kind:
    is_free = shape.count(None) > 1  # stored with its shape beside it
    if is_free and (encoding == "none" or sequence):
        return "unknown"
    if dtype == "string":
        return "text" if encoding == "none" else "unknown"
    known = dtype in _NUMBERS and encoding in ("none", "bytes", "zlib")
    return "tensor" if known else "unknown"


def _shape(value: Any) -> tuple[int | None, ...]:
    if isinstance(value, dict):
        value = value.get("dimensions")
    return tuple(_size(size) for size in value or ())


def _size(value: Any) -> int | None:
    """Returns a length; None where it is not fixed, written null or -1."""
    size = -1 if value is None else int(value)
    return None if size < 0 else size


def _number(value: Any) -> float | None:
    return None if value is None else float(value)

"""Records the English that comes with Python: its language topics, docstrings, licence.

Any machine that runs this has them: `pydoc_data.topics` (the language reference), the
docstrings of the standard library, read from source without importing it, and the
licence. One document is one topic or one module. Same Python release, same text.
"""

import ast
import importlib
import json
import pathlib
import sysconfig
import warnings
from collections.abc import Iterator

import rich.console

from gato.schemas import files
from gato.schemas.errors import GatoError

# Folders of the standard library whose docstrings are test names, code pages or demos.
_SKIPPED = frozenset(
    (
        *("__pycache__", "dist-packages", "site-packages", "test", "tests"),
        *("encodings", "ensurepip", "idlelib", "lib2to3", "pydoc_data"),
        *("tkinter", "turtledemo"),
    )
)
_MIN_CHARACTERS = 200
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _topics() -> Iterator[tuple[str, str]]:
    try:
        module = importlib.import_module("pydoc_data.topics")
    except ImportError:  # Some systems ship Python without its documentation.
        return
    for name, text in sorted(module.topics.items()):
        yield f"pydoc_data.topics/{name}", text.strip("\n") + "\n"


def _documented(node: ast.AST) -> Iterator[_Documented]:
    """Yields a module, its classes and functions in source order."""
    if isinstance(node, _Documented):
        yield node
    for child in ast.iter_child_nodes(node):
        # Expressions hold no docstring, and nearly all nodes are expressions.
        if isinstance(child, ast.stmt | ast.excepthandler):
            yield from _documented(child)


def docstrings(source: bytes) -> str:
    """Returns a module's docstrings in the order of its source, by blank lines apart.

    Raises:
        SyntaxError: If it is not Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Old escapes in others' strings.
        tree = ast.parse(source)
    texts = [ast.get_docstring(node) for node in _documented(tree)]
    return "\n\n".join(text for text in texts if text)


def _modules() -> Iterator[tuple[str, str]]:
    root = pathlib.Path(sysconfig.get_path("stdlib"))
    for path in sorted((*root.glob("*.py"), *root.glob("*/*.py"))):
        name = path.relative_to(root)
        if _SKIPPED.intersection(name.parts):
            continue
        try:
            text = docstrings(path.read_bytes())
        except (SyntaxError, ValueError):  # Not of this Python: others' files.
            continue
        if len(text) >= _MIN_CHARACTERS:
            yield f"stdlib/{name.as_posix()}", text


def _write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file unless it holds this already: a build would take it for new."""
    if not path.exists() or path.read_bytes() != content:
        files.write_atomic(str(path), content)


def _write_lines(path: pathlib.Path, documents: Iterator[tuple[str, str]]) -> int:
    lines = [
        json.dumps({"text": text, "source": source}, ensure_ascii=False)
        for source, text in documents
    ]
    if lines:
        _write(path, ("\n".join(lines) + "\n").encode())
    return len(lines)


def record(output: pathlib.Path) -> None:
    """Writes `topics.jsonl`, `docstrings.jsonl` and `license.txt`, where there are any.

    Raises:
        GatoError: If this Python comes without any text.
    """
    console = rich.console.Console()
    written = 0
    for name, documents in (("topics", _topics()), ("docstrings", _modules())):
        path = output / f"{name}.jsonl"
        number = _write_lines(path, documents)
        written += number
        if number:
            size = path.stat().st_size
            console.print(f"{number:,} documents, {size:,} bytes in {path}")
    licence = pathlib.Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"
    if licence.exists():
        _write(output / "license.txt", licence.read_bytes())
    if not written:
        raise GatoError(
            "this Python comes without pydoc topics and without the source of its"
            " standard library; use a full installation of Python"
        )

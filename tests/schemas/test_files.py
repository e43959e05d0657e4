"""File access: whole files or none, local and on a store (fsspec's memory store)."""

import gc
import pathlib
import uuid
from typing import Any

import fsspec
import fsspec.spec
import pytest

from gato.schemas import files, object_store
from gato.schemas.errors import GatoError, UsageError


@pytest.fixture(params=["local", "file://", "memory://"])
def folder(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> str:
    if request.param == "local":
        return str(tmp_path)
    if request.param == "file://":
        return f"file://{tmp_path}"
    name = f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").mkdir(name)
    return name


def test_what_is_written_reads_back(folder: str) -> None:
    path = files.join(folder, "a", "b.bin")
    assert not files.exists(path)
    files.write_atomic(path, b"hello")
    assert files.exists(path)
    assert files.read_bytes(path) == b"hello"
    assert files.size(path) == 5
    assert files.list_folder(files.join(folder, "a")) == ["b.bin"]
    assert files.is_folder(files.join(folder, "a"))
    assert not files.is_folder(path)
    with files.open_read(path) as file:
        file.seek(1)
        assert file.read(3) == b"ell"
    files.write_atomic(path, b"again")
    assert files.read_bytes(path) == b"again"
    files.remove(path)
    files.remove(path)
    assert not files.exists(path)


class _StoreFile(fsspec.spec.AbstractBufferedFile):
    """A file of an object store: closing it publishes, even while unwinding."""

    def _initiate_upload(self) -> None:
        self.sent = b""

    def _upload_chunk(self, final: bool = False) -> None:
        self.sent += self.buffer.getvalue()
        if final:
            _Store.objects[self.path] = self.sent

    def commit(self) -> None:
        pass

    def discard(self) -> None:
        self.sent = b""


class _Store(fsspec.spec.AbstractFileSystem):
    protocol = "teststore"
    objects: dict[str, bytes] = {}  # noqa: RUF012 - the store itself

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        if path not in self.objects:
            raise FileNotFoundError(path)
        size = len(self.objects[path])
        return {"name": path, "size": size, "type": "file"}

    def _open(self, path: str, *arguments: Any, **options: Any) -> _StoreFile:
        return _StoreFile(self, path, *arguments, **options)


@pytest.fixture
def store() -> type[_Store]:
    fsspec.register_implementation("teststore", _Store, clobber=True)
    _Store.objects.clear()
    return _Store


def test_a_store_publishes_only_what_was_finished(store: type[_Store]) -> None:
    path = "teststore://bucket/a"
    with pytest.raises(RuntimeError, match="mid"):
        fail_midway(path, RuntimeError("mid"))
    gc.collect()
    assert store.objects == {}
    large = bytes(object_store.PART_BYTES + 200_000)
    with files.open_atomic(path) as file:
        file.write(large)
        assert file.tell() == len(large)
        assert store.objects == {}
    assert store.objects == {"bucket/a": large}
    filesystem, _ = object_store.filesystem(path)
    assert not filesystem.transaction.files, "written files are let go"
    with pytest.raises(RuntimeError, match="mid"):
        fail_midway(path, RuntimeError("mid"))
    assert store.objects == {"bucket/a": large}


def fail_midway(path: str, error: BaseException) -> None:
    with files.open_atomic(path) as file:
        file.write(b"half")
        assert file.tell() == 4
        raise error


def test_a_failed_write_leaves_nothing(tmp_path: pathlib.Path) -> None:
    folder = str(tmp_path)
    path = files.join(folder, "a.bin")
    with pytest.raises(RuntimeError, match="mid"):
        fail_midway(path, RuntimeError("mid"))
    assert not files.exists(path)
    assert files.list_folder(folder) == []


def test_a_failed_write_keeps_the_old_file(tmp_path: pathlib.Path) -> None:
    folder = str(tmp_path)
    path = files.join(folder, "a.bin")
    files.write_atomic(path, b"old")
    with pytest.raises(KeyboardInterrupt):
        fail_midway(path, KeyboardInterrupt())
    assert files.read_bytes(path) == b"old"
    assert files.list_folder(folder) == ["a.bin"]


def test_an_unfinished_write_is_under_another_name(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.bin"
    with files.open_atomic(str(path)) as file:
        file.write(b"x")
        file.flush()
        (only,) = tmp_path.iterdir()
        assert only.name.startswith(f"a.bin{files.TEMPORARY_SUFFIX}")
    assert [each.name for each in tmp_path.iterdir()] == ["a.bin"]


def test_globs_are_sorted_full_paths(folder: str) -> None:
    for name in ("b-1", "b-0", "c-0"):
        files.write_atomic(files.join(folder, name), b"")
    found = files.glob(files.join(folder, "b-*"))
    assert [path.rpartition("/")[2] for path in found] == ["b-0", "b-1"]
    assert all(files.read_bytes(path) == b"" for path in found)
    assert files.glob(files.join(folder, "nothing-*")) == []


def test_a_missing_folder_has_no_names(folder: str) -> None:
    assert files.list_folder(files.join(folder, "none")) == []
    files.remove_folder(files.join(folder, "none"))


def test_folders_are_removed_whole(folder: str) -> None:
    files.write_atomic(files.join(folder, "a", "b", "c"), b"")
    files.remove_folder(files.join(folder, "a"))
    assert not files.exists(files.join(folder, "a", "b", "c"))


def test_missing_files_say_so(folder: str) -> None:
    path = files.join(folder, "none")
    with pytest.raises(FileNotFoundError):
        files.read_bytes(path)
    with pytest.raises(FileNotFoundError):
        files.size(path)


def test_a_version_changes_with_the_content(folder: str) -> None:
    path = files.join(folder, "a")
    files.write_atomic(path, b"one")
    before = files.version(path)
    assert before[0] == 3
    assert before == files.version(path)
    files.write_atomic(path, b"three")
    assert files.version(path)[0] == 5
    assert files.version(path) != before


@pytest.mark.parametrize("mapped", [True, False])
def test_ranges(folder: str, mapped: bool) -> None:
    path = files.join(folder, "a")
    files.write_atomic(path, bytes(range(100)))
    reader = files.RangeReader(path, mapped=mapped)
    pieces = reader.read([(0, 3), (99, 100), (5, 5)])
    assert [bytes(piece) for piece in pieces] == [b"\0\1\2", b"c", b""]
    assert reader.read([]) == []
    with pytest.raises(GatoError, match=r"bytes 98 to 101 were asked for.* gave 2"):
        reader.read([(98, 101)])


def test_ranges_of_an_empty_file(folder: str) -> None:
    path = files.join(folder, "a")
    files.write_atomic(path, b"")
    reader = files.RangeReader(path)
    with pytest.raises(GatoError, match="truncated"):
        reader.read([(0, 1)])


def test_unknown_stores_are_told() -> None:
    with pytest.raises(UsageError, match="'nosuch://a/b' is not a local path or a URL"):
        files.exists("nosuch://a/b")


def test_joins() -> None:
    assert files.join("a", "b", "c") == "a/b/c"
    assert files.join("a/", "b") == "a/b"
    assert files.join("", "b") == "b"
    assert files.join("a", "/b", "c") == "/b/c"
    assert files.join("/a", "gs://b/c") == "gs://b/c"
    assert files.is_local("file:///a")
    assert not files.is_local("gs://a")

"""Object storage below the pipeline: what is requested, published, retried and told.

Against a local emulator behind a proxy that counts and fails (`faulty_store`).
"""

import asyncio
import io
import pathlib
import random
import socket
import threading
import time
from collections.abc import Iterator

import emulator
import fsspec.config
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faulty_store import Fault, FaultyStore

from gato.schemas import files, google_storage, object_store, store_ranges
from gato.schemas.errors import GatoError, UsageError
from gato.schemas.object_store import StoreError

# aiohttp minds that the event loop, which has nothing else to do, sends a mebibyte.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body")

MIB = 1 << 20


@pytest.fixture(scope="module")
def running() -> Iterator[FaultyStore]:
    with emulator.running() as store:
        yield store


@pytest.fixture
def store(running: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> FaultyStore:
    """The proxy, without requests or faults, and with short pauses between tries."""

    class Hasty:
        @staticmethod
        async def sleep(seconds: float) -> None:
            await asyncio.sleep(seconds / 100)

    monkeypatch.setattr("gcsfs.retry.asyncio", Hasty)
    monkeypatch.setattr(object_store, "PAUSES_SECONDS", (0.01,) * 4)
    running.clear()
    return running


@pytest.fixture
def bucket(store: FaultyStore) -> str:
    return store.bucket()


def some_bytes(count: int) -> bytes:
    return random.Random(count).randbytes(count)


def put(bucket: str, name: str, count: int) -> tuple[str, bytes]:
    """Writes an object; returns its URL and content."""
    path, data = f"{bucket}/{name}", some_bytes(count)
    files.write_atomic(path, data)
    return path, data


@pytest.mark.parametrize(
    "count",
    [0, 1, 70_001, object_store.PART_BYTES, object_store.PART_BYTES + 1, 10 * MIB],
)
def test_what_is_written_reads_back(bucket: str, count: int) -> None:
    path, data = put(bucket, "a b/ü#1?", count)
    assert files.read_bytes(path) == data
    assert files.size(path) == count
    assert files.glob(f"{bucket}/*/ü*") == [path]
    assert files.glob(path) == [path]
    assert files.list_folder(f"{bucket}/a b") == ["ü#1?"]
    before = files.version(path)
    files.write_atomic(path, data + b"x")
    assert files.read_bytes(path) == data + b"x"
    assert files.version(path) != before
    files.remove_folder(f"{bucket}/a b")
    assert not files.exists(path)
    assert not files.is_folder(f"{bucket}/a b")


def test_folders(bucket: str) -> None:
    put(bucket, "a/b/c", 1)
    assert files.is_folder(bucket)
    assert files.is_folder(f"{bucket}/a/b")
    assert files.exists(f"{bucket}/a")
    assert not files.is_folder(f"{bucket}/a/b/c")
    assert not files.exists(f"{bucket}/a/b/d")
    assert files.list_folder(f"{bucket}/none") == []
    assert list(files.versions_below(f"{bucket}/a")) == ["b/c"]
    with pytest.raises(IsADirectoryError):
        files.open_read(f"{bucket}/a")


def test_what_others_write_is_seen(bucket: str, store: FaultyStore) -> None:
    path, _ = put(bucket, "a/b", 1)
    assert files.list_folder(f"{bucket}/a") == ["b"]
    # As another process does it: not through this one's filesystem.
    name = bucket.removeprefix("gs://")
    url = f"/upload/storage/v1/b/{name}/o?uploadType=media&name="
    for other in ("a%2Fb", "a%2Fc"):
        store.forward("POST", url + other, {"Content-Type": "text/plain"}, b"others")
    assert files.read_bytes(path) == b"others"
    assert files.list_folder(f"{bucket}/a") == ["b", "c"]


def test_ranges_are_exact_and_together(bucket: str, store: FaultyStore) -> None:
    path, data = put(bucket, "a", 300_000)
    store.clear()
    store.delay = 0.02
    ranges = [(start, start + 700) for start in range(0, 300_000, 5_000)]
    pieces = files.RangeReader(path).read(ranges)
    assert pieces == [data[start:stop] for start, stop in ranges]
    assert sorted(each.range or (0, 0) for each in store.media()) == ranges
    assert len(store.media()) == len(ranges)
    assert store.most_at_once == store_ranges.CONCURRENT


def test_files_are_read_together(bucket: str, store: FaultyStore) -> None:
    written = [put(bucket, f"a{number}", 1_000 + number) for number in range(40)]
    store.clear()
    store.delay = 0.02
    wanted = [
        (files.RangeReader(path), [(0, 10), (500, len(data))]) for path, data in written
    ]
    found = list(files.read_each(wanted))
    assert found == [[data[:10], data[500:]] for _, data in written]
    assert len(store.media()) == 80
    assert store.most_at_once == store_ranges.CONCURRENT
    assert list(files.read_each([])) == []


def test_bytes_on_the_way_are_bounded(
    bucket: str, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_ranges, "PIECE_BYTES", 100_000)
    path, data = put(bucket, "a", 5_000_123)
    store.clear()
    store.delay = 0.01
    assert files.RangeReader(path).read([(5, 5_000_000)]) == [data[5:5_000_000]]
    assert store.most_bytes_at_once > 100_000 * store_ranges.CONCURRENT / 2
    assert store.most_bytes_at_once <= 100_000 * store_ranges.CONCURRENT
    assert sum(each.num_bytes for each in store.media()) == 5_000_000 - 5


def test_a_slow_taker_holds_no_more_than_the_window(
    bucket: str, store: FaultyStore
) -> None:
    path, _ = put(bucket, "a", 100_000)
    store.clear()
    pieces = (store_ranges.Piece(path, at, at + 10) for at in range(0, 1_000, 10))
    taken = store_ranges.fetch(pieces)
    next(taken)
    time.sleep(0.2)
    assert len(store.media()) <= store_ranges.CONCURRENT
    taken.close()
    assert len(store.media()) <= store_ranges.CONCURRENT


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(store_ranges, "BLOCK_BYTES", 1_000)
    return 1_000


def test_a_file_is_read_ahead_in_order_only(
    bucket: str, store: FaultyStore, small_blocks: int
) -> None:
    path, data = put(bucket, "a", 60_500)
    store.clear()
    store.delay = 0.01
    with files.open_read(path) as file:
        assert io.BytesIO(b"".join(iter(lambda: file.read(700), b""))).read() == data
    asked = [each.range for each in store.media()]
    assert len(asked) == len(set(asked)) == 61
    assert 1 < store.most_at_once <= 9
    store.clear()
    raw = store_ranges.ObjectFile(path)
    for at in (50_000, 10_000, 30_000, 10_500):
        raw.seek(at)
        assert raw.read(100) == data[at : at + 100]
    raw.seek(0, io.SEEK_END)
    assert raw.read(1) == b""
    raw.close()
    assert [each.range for each in store.media()] == [
        (at, at + 1_000) for at in (50_000, 10_000, 30_000)
    ]


def test_a_file_holds_few_blocks(bucket: str, small_blocks: int) -> None:
    path, _ = put(bucket, "a", 200_000)
    with store_ranges.ObjectFile(path) as file:
        while file.read(300):
            held = len(file._blocks) + len(file._ahead)
            assert held <= store_ranges._KEPT_BLOCKS + store_ranges._BLOCKS_AHEAD + 1


def test_one_byte_and_all(bucket: str) -> None:
    path, data = put(bucket, "a", 9 * MIB + 5)
    with files.open_read(path) as file:
        assert file.read(1) == data[:1]
        assert file.read() == data[1:]
        assert file.read() == b""
        with pytest.raises(ValueError, match="at least 0"):
            store_ranges.ObjectFile(path).seek(-1)


FAULTS = {
    "429": Fault("status", status=429, times=5),
    "503": Fault("status", status=503, times=5),
    "reset": Fault("reset", times=5),
    "lost": Fault("lost", times=5),
    "cut": Fault("cut", times=5, only="media"),
    "short": Fault("short", times=4, only="media"),
    "half an answer": Fault("short", times=4, method="GET"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_what_passes_is_tried_again(
    bucket: str, store: FaultyStore, fault: Fault
) -> None:
    path, data = put(bucket, "a", 5_000)
    store.faults = [fault]
    assert files.read_bytes(path) == data
    assert fault.times == 0


def test_an_answer_that_does_not_come(
    bucket: str, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data = put(bucket, "a", 5_000)
    monkeypatch.setattr(object_store, "_filesystems", {})
    monkeypatch.setattr(google_storage, "SILENT_SECONDS", 0.1)
    store.faults = [Fault("slow", seconds=0.4, times=2, only="media")]
    assert files.read_bytes(path) == data
    # gcsfs gives up what takes too long in all; it is tried again all the same.
    monkeypatch.setattr(object_store, "_filesystems", {})
    monkeypatch.setattr(google_storage, "SILENT_SECONDS", 5.0)
    monkeypatch.setattr(google_storage, "REQUEST_SECONDS", 0.1)
    store.faults = [Fault("slow", seconds=0.4, times=2, only="media")]
    assert files.read_bytes(path) == data
    store.faults = [Fault("slow", seconds=0.4, times=-1, only="media")]
    with pytest.raises(StoreError, match=r"/a: reading bytes 0 to 5000 failed: Time"):
        files.read_bytes(path)
    store.faults = []


LASTING = {
    "503": (Fault("status", times=-1), "told to fail, 503. Trying again did not help"),
    "short": (Fault("short", times=-1), "the store sent 50 bytes. Trying again"),
    "cut": (Fault("cut", times=-1), "payload is not completed"),
    "403": (Fault("status", status=403, times=-1), "no permission: Forbidden"),
    "404": (Fault("status", status=404, times=-1), "there is no such object, or no"),
}


@pytest.mark.parametrize(("fault", "said"), LASTING.values(), ids=list(LASTING))
def test_what_lasts_is_told(
    bucket: str, store: FaultyStore, fault: Fault, said: str
) -> None:
    path, _ = put(bucket, "a", 100)
    fault.only = "media"
    store.faults = [fault]
    reader = files.RangeReader(path)
    with pytest.raises(StoreError, match=f"{path}: reading bytes 0 to 100") as raised:
        reader.read([(0, 100)])
    assert said in str(raised.value)


def test_outages_are_no_answers(bucket: str, store: FaultyStore) -> None:
    path, _ = put(bucket, "a/b", 100)
    store.faults = [Fault("status", times=-1, status=403)]
    questions = (files.exists, files.is_folder, files.size, files.version)
    for ask in (*questions, files.list_folder, files.glob, files.versions_below):
        with pytest.raises(StoreError, match="no permission"):
            ask(path)
    with pytest.raises(StoreError, match="no permission"):
        files.glob(f"{bucket}/*/b")
    with pytest.raises(StoreError, match="removing failed: no permission"):
        files.remove(path)
    store.faults = []
    assert files.exists(path)


def test_behind_the_end(bucket: str) -> None:
    path, _ = put(bucket, "a", 100)
    reader = files.RangeReader(path)
    with pytest.raises(GatoError, match=r"bytes 98 to 101 were asked for.* gave 2;"):
        reader.read([(98, 101)])
    with pytest.raises(GatoError, match=r"bytes 200 to 201 were asked for.* gave 0;"):
        reader.read([(200, 201)])
    with pytest.raises(StoreError, match="no such object"):
        files.RangeReader(f"{bucket}/none").read([(0, 1)])
    with pytest.raises(FileNotFoundError, match=f"{bucket}/none"):
        files.read_bytes(f"{bucket}/none")


def write_and_fail(path: str, data: bytes, error: BaseException) -> None:
    with files.open_atomic(path) as file:
        file.write(data)
        raise error


@pytest.mark.parametrize("count", [10, object_store.PART_BYTES + 10, 11 * MIB])
def test_nothing_appears_before_all_is_written(bucket: str, count: int) -> None:
    path = f"{bucket}/a"
    with pytest.raises(KeyboardInterrupt):
        write_and_fail(path, some_bytes(count), KeyboardInterrupt())
    with files.open_atomic(path) as file:
        file.write(some_bytes(count))
        assert file.tell() == count
        assert not files.exists(path)
    assert files.size(path) == count


@pytest.mark.parametrize("count", [10, object_store.PART_BYTES + 10])
@pytest.mark.parametrize("is_same", [True, False])
def test_two_writers(bucket: str, count: int, is_same: bool) -> None:
    path, data = f"{bucket}/a", some_bytes(count)
    other = data if is_same else data[::-1]
    if is_same:
        with files.open_atomic(path) as file:
            file.write(data)
            files.write_atomic(path, other)
    else:
        with pytest.raises(StoreError, match="something else created it with other"):
            race(path, data, other)
    assert files.read_bytes(path) == other


def race(path: str, data: bytes, other: bytes) -> None:
    with files.open_atomic(path) as file:
        file.write(data)
        files.write_atomic(path, other)


@pytest.mark.parametrize("count", [10, object_store.PART_BYTES + 10, 9 * MIB])
@pytest.mark.parametrize("kind", ["status", "reset", "lost"])
def test_a_write_through_faults_is_whole(
    bucket: str, store: FaultyStore, count: int, kind: str
) -> None:
    store.faults = [Fault(kind, method="POST", times=2)]  # type: ignore[arg-type]
    path, data = put(bucket, "a", count)
    assert files.read_bytes(path) == data
    assert store.faults[0].times == 0


def test_other_bytes_than_were_written_are_removed(
    bucket: str, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.forward

    def flipped(method: str, path: str, headers: dict[str, str], body: bytes):
        if method == "POST" and body == b"written":
            body = b"writteN"
        return real(method, path, headers, body)

    monkeypatch.setattr(store, "forward", flipped)
    with pytest.raises(StoreError, match="holds other bytes than were written"):
        files.write_atomic(f"{bucket}/a", b"written")
    assert not files.exists(f"{bucket}/a")


def test_no_bucket_is_told_at_once(store: FaultyStore) -> None:
    for count in (1, object_store.PART_BYTES + 1):
        begin = time.monotonic()
        with pytest.raises(UsageError, match="there is no bucket gs://none, or these"):
            files.write_atomic("gs://none/a", some_bytes(count))
        assert time.monotonic() - begin < 5
    assert files.glob("gs://none/*") == []
    assert not files.exists("gs://none/a")


def test_no_network_is_told_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    begin = time.monotonic()
    with pytest.raises(StoreError, match=f"no connection to {address}.* Check netw"):
        files.exists("gs://bucket/a")
    assert time.monotonic() - begin < 5


def test_a_lost_network_is_waited_for(bucket: str, store: FaultyStore) -> None:
    path, data = put(bucket, "a", 10)
    # Reached before: no first contact any more, so gcsfs tries for long.
    store.faults = [Fault("reset", times=5)]
    assert files.read_bytes(path) == data


def test_without_credentials_everyone_s_are_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    assert google_storage.make().credentials.credentials is None
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    monkeypatch.setattr("google.auth.default", None)
    assert google_storage.make().credentials.credentials is None


def hdf5(path: pathlib.Path) -> None:
    with h5py.File(path, "w") as file:
        for number in range(20):
            file[f"d{number}"] = np.arange(20_000) + number


def parquet(path: pathlib.Path) -> None:
    table = pa.table({"a": np.random.default_rng(0).random(200_000)})
    pq.write_table(table, path, row_group_size=50_000)


def read_hdf5(file: io.BufferedReader) -> float:
    with h5py.File(file, "r") as found:
        return float(
            sum(np.sum(np.asarray(found[f"d{number}"])) for number in range(20))
        )


def read_parquet(file: io.BufferedReader) -> float:
    return float(np.sum(pq.read_table(file)["a"].to_numpy()))


@pytest.mark.parametrize(
    ("write", "read"), [(hdf5, read_hdf5), (parquet, read_parquet)], ids=["h5", "pq"]
)
def test_libraries_read_objects_and_hide_no_failure(
    bucket: str, store: FaultyStore, tmp_path: pathlib.Path, write, read
) -> None:
    write(tmp_path / "a")
    path = f"{bucket}/a"
    files.write_atomic(path, (tmp_path / "a").read_bytes())
    with (tmp_path / "a").open("rb") as file:
        wanted = read(file)
    with files.open_read(path) as file, object_store.insist():
        assert read(file) == wanted
    store.faults = [Fault("status", status=403, times=-1, only="media", skip=1)]
    with pytest.raises(StoreError, match=f"{path}: reading bytes .* no permission"):
        read_and_swallow(path, read)


def read_and_swallow(path: str, read) -> None:
    """Reads as a reader of damaged files does: whatever is raised is damage."""
    with object_store.insist(), files.open_read(path) as file:
        try:
            read(file)
        except Exception:
            return


def test_insisting_keeps_other_errors() -> None:
    with pytest.raises(ZeroDivisionError), object_store.insist():
        raise ZeroDivisionError
    with pytest.raises(StoreError, match="gs://b/a: reading failed: odd"):
        insist_on_a_failure()


def insist_on_a_failure() -> None:
    with object_store.insist():
        try:
            raise object_store.failed("gs://b/a", "reading", "odd")
        except StoreError:
            raise ZeroDivisionError from None


def test_threads_share_a_filesystem(bucket: str) -> None:
    path, data = put(bucket, "a", 50_000)
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(files.read_bytes(path)))
        for _ in range(8)
    ]
    before = len(object_store._filesystems)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [data] * 8
    assert len(object_store._filesystems) == before

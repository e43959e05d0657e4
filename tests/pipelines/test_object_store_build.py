"""A whole build in object storage: the bytes of a local one, resumed, verified, read.

The store is a local emulator (`emulator`), behind a proxy that counts and fails.
"""

import dataclasses
import gzip
import json
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import building
import emulator
import image_sets
import killing
import pytest
import raw_inputs
import rlds_sets
from faulty_store import Fault, FaultyStore

from gato.pipelines import build, estimate, inspect, run_build, verify
from gato.schemas import files, object_store

DATASETS = [
    {"name": "walk", "format": "minari", "paths": ["raw/toy/*/*"], "num_shards": 2},
    {"name": "pairs", "format": "webdataset", "paths": ["raw/pairs/*.tar"]},
    {"name": "text", "format": "text", "paths": ["raw/text/*"]},
    {"name": "captions", "format": "coco", "paths": ["raw/coco/*.json"]},
    {"name": "asked", "format": "vqa", "paths": ["raw/vqa/*questions.json"]},
    {"name": "robot", "format": "rlds", "paths": ["raw/robot/1.0.0"]},
]
NAMES = [str(dataset["name"]) for dataset in DATASETS]


class Stored(NamedTuple):
    """A build in the store, and what it was built from there and here."""

    store: FaultyStore
    folder: str
    local: pathlib.Path
    local_output: str
    output: str


def write_raw(root: pathlib.Path) -> None:
    """Writes every format and layout whose reading differs in a store."""
    for number, layout in enumerate(("hdf5", "arrow")):
        walks = raw_inputs.random_walks(number, 6)
        name = f"toy/walk{number}/expert-v0"
        raw_inputs.write_minari(
            root / "raw", name, walks, env_id="Walk-v0", data_format=layout
        )
    samples = raw_inputs.captioned_images(6, 8)
    raw_inputs.write_webdataset(root / "raw" / "pairs" / "0.tar", samples)
    lines = raw_inputs.write_jsonl(
        root / "raw" / "text" / "0.jsonl", raw_inputs.texts(0, 12)
    )
    (root / "raw" / "text" / "1.jsonl.gz").write_bytes(
        gzip.compress(lines.read_bytes())
    )
    for folder in ("coco", "vqa"):
        (root / "raw" / folder).mkdir()
    image_sets.write_coco(root / "raw" / "coco")
    image_sets.write_vqa(root / "raw" / "vqa")
    rlds_sets.write_walks(root / "raw" / "robot" / "1.0.0", [range(3), range(3, 5)])
    (root / "vocabulary.model").write_bytes(raw_inputs.VOCABULARY.read_bytes())
    raw_inputs.write_config(
        root / "build.yaml",
        DATASETS,
        **building.SETTINGS,
        text_tokenizer="vocabulary.model",
    )


def copy_to(root: pathlib.Path, folder: str) -> None:
    """Copies a folder's files into the store."""
    for path in filter(pathlib.Path.is_file, root.rglob("*")):
        name = path.relative_to(root).as_posix()
        files.write_atomic(files.join(folder, name), path.read_bytes())


def run(folder: str, output: str, *options: str) -> int:
    """Runs gato-build on the config of a folder."""
    return build.main(
        ["--config", f"{folder}/build.yaml", "--output", output, *options]
    )


def rows_of(output: str) -> dict[str, bytes]:
    """Returns shards, their indices, demonstrations and tokenizer by name."""
    patterns = (files.join(output, name, "*.tfrecord*") for name in NAMES)
    paths = [path for pattern in patterns for path in files.glob(pattern)]
    paths.append(files.join(output, "tokenizer.model"))
    return {
        path.removeprefix(output): files.read_bytes(path)
        for path in paths
        if not path.endswith(".json")
    }


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    local = tmp_path_factory.mktemp("local")
    write_raw(local)
    local_output = str(tmp_path_factory.mktemp("built") / "out")
    assert run(str(local), local_output) == 0
    with emulator.running() as store:
        folder = f"{store.bucket()}/in put"
        copy_to(local, folder)
        store.clear()
        assert run(folder, f"{folder}/shards") == 0
        yield Stored(store, folder, local, local_output, f"{folder}/shards")


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the pauses between tries, gcsfs's own too."""
    monkeypatch.setattr(object_store, "PAUSES_SECONDS", (0.01,) * 4)
    asyncio = pytest.importorskip("asyncio")

    class Hasty:
        @staticmethod
        async def sleep(seconds: float) -> None:
            await asyncio.sleep(seconds / 100)

    monkeypatch.setattr("gcsfs.retry.asyncio", Hasty)


def test_the_rows_are_those_of_a_local_build(stored: Stored) -> None:
    assert rows_of(stored.output) == rows_of(stored.local_output)
    for name in NAMES:
        here, there = (
            json.loads(files.read_bytes(files.join(output, name, "manifest.json")))
            for output in (stored.local_output, stored.output)
        )
        # The sources' identity: their checksums there, the time of writing here.
        assert here.pop("fingerprint") != there.pop("fingerprint")
        assert here == there


def test_nothing_is_left_but_the_build(stored: Stored) -> None:
    names = files.list_folder(stored.output)
    assert names == sorted(["manifest.json", "tokenizer.model", *NAMES])


def test_verified_and_compared(stored: Stored, tmp_path: pathlib.Path, capsys) -> None:
    local = str(tmp_path / "out")
    assert run(stored.folder, local) == 0
    assert verify.main([stored.output, "--against", local]) == 0
    assert verify.main([local, "--against", stored.output]) == 0
    shard = next((tmp_path / "out" / "text").glob("train-*.tfrecord"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert verify.main([stored.output, "--against", local]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(
        r"gs://\S+ put/shards/text/train\S+ and \S+ differ, first at", said
    )


def test_inspected_and_planned(stored: Stored, capsys: Any) -> None:
    assert inspect.main([f"{stored.output}/*/train-*.tfrecord"]) == 0
    assert inspect.main([f"{stored.output}/pairs", "--row", "0"]) == 0
    capsys.readouterr()
    assert estimate.main(["--config", f"{stored.folder}/build.yaml", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert list(planned["datasets"]) == NAMES


def test_a_finished_build_is_not_done_again(stored: Stored) -> None:
    stored.store.clear()
    assert run(stored.folder, stored.output) == 0
    changing = [each for each in stored.store.requests if each.method != "GET"]
    assert [(each.method, each.status) for each in changing] == [("DELETE", 404)]
    assert changing[0].name.endswith("/_attempt")


@pytest.mark.slow
def test_a_killed_build_goes_on(stored: Stored, tmp_path: pathlib.Path) -> None:
    output = f"{stored.store.bucket()}/out"
    place = next(each for each in killing.PLACES if each.target.endswith("._write"))
    marker = tmp_path / "marker"
    command = [
        *(sys.executable, killing.__file__, str(marker)),
        *(place.target, str(place.call), place.when, "--"),
        *("--config", f"{stored.folder}/build.yaml", "--output", output),
    ]
    killing.Group(command, tmp_path / "log").kill_when(marker.exists)
    standing = {
        path.partition("/out/")[2] for path in files.glob(f"{output}/*/*-of-*.json")
    }
    fragments = files.glob(f"{output}/_fragments/*/*.footer")
    assert len(standing) == 1
    assert len(fragments) == 9
    stored.store.clear()
    assert run(stored.folder, output) == 0
    written = {each.name for each in stored.store.requests if each.method == "POST"}
    assert not [name for name in written if "_fragments" in name]
    assert not {f"out/{name}" for name in standing} & written
    assert rows_of(output) == rows_of(stored.output)
    assert not files.exists(f"{output}/_fragments")
    assert not files.exists(f"{output}/_attempt")


def outcome(
    stored: Stored, capsys: Any, faults: list[Fault], *options: str
) -> tuple[int, str, str]:
    """Builds with faults; returns exit code, what was said, and the output."""
    output = f"{stored.store.bucket()}/out"
    capsys.readouterr()
    stored.store.clear()
    stored.store.faults = [dataclasses.replace(fault) for fault in faults]
    code = run(stored.folder, output, *options)
    assert not any(fault.times > 0 for fault in stored.store.faults), "all came true"
    stored.store.faults = []
    return code, " ".join(capsys.readouterr().err.split()), output


PASSING = {
    "told to wait": [
        Fault("status", status=429, times=3),
        Fault("status", times=4, skip=40),
        Fault("status", method="POST", times=3, name="tfrecord"),
        # Half a listing is no JSON.
        Fault("short", name="^$", method="GET", times=2, skip=10),
    ],
    "connections break": [
        Fault("reset", times=3, skip=30),
        Fault("reset", method="POST", times=3, skip=5),
        Fault("lost", method="POST", times=2, name="_fragments"),
        Fault("lost", method="POST", times=2, name="train"),
        Fault("lost", method="DELETE", times=2),
    ],
    "half is sent": [
        Fault("cut", only="media", times=4, name="raw"),
        Fault("short", only="media", times=3, name="raw", skip=3),
        Fault("cut", only="media", times=3, name="_fragments"),
        Fault("short", only="media", times=3, name="_fragments", skip=4),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("faults", PASSING.values(), ids=PASSING)
def test_what_passes_changes_nothing(
    stored: Stored, capsys: Any, faults: list[Fault]
) -> None:
    code, said, output = outcome(stored, capsys, faults)
    assert code == 0, said
    assert rows_of(output) == rows_of(stored.output)


LASTING = {
    "source unavailable": (
        "walk",
        Fault("status", name="raw/toy/walk0.*hdf5", only="media", times=-1),
        r"walk0/expert-v0/data/main_data.hdf5: reading bytes 0 to \d+ failed: told to"
        r" fail, 503\. Trying again did not help; run the same command again",
    ),
    "source short": (
        "text",
        Fault("short", name="raw/text/0", only="media", times=-1),
        r"raw/text/0.jsonl: reading bytes 0 to (\d+) failed: the store sent \d+ bytes",
    ),
    "source forbidden": (
        "pairs",
        Fault("status", name="raw/pairs", only="media", status=403, times=-1),
        r"raw/pairs/0.tar: reading bytes 0 to \d+ failed: no permission: Forbidden",
    ),
    "fragment vanished": (
        "text",
        Fault("status", name="_fragments.*data$", only="media", status=404, times=-1),
        r"\.data: reading bytes \d+ to \d+ failed: there is no such object, or no",
    ),
    "writing forbidden": (
        "text",
        Fault("status", name="train", method="POST", status=403, times=-1),
        r"train-\S+: writing failed: no permission: Forbidden: .* Give these",
    ),
    "not logged in": (
        "text",
        Fault("status", status=401, times=-1, message="Anonymous caller may not"),
        r"build.yaml: asking for it failed: no permission: Anonymous caller may not",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "fault", "message"), LASTING.values(), ids=list(LASTING)
)
def test_what_lasts_ends_the_build(
    stored: Stored, capsys: Any, dataset: str, fault: Fault, message: str
) -> None:
    options = ("--datasets", dataset)
    code, said, output = outcome(stored, capsys, [fault], *options)
    assert code == 1
    assert said.splitlines()[-1].count("error: gs://") == 1
    assert re.search(message, said), said
    assert "Traceback" not in said
    assert not files.exists(f"{output}/manifest.json")
    assert not files.exists(f"{output}/{dataset}/manifest.json")
    if dataset == "pairs":
        assert run(stored.folder, output, *options) == 0
        name = f"/{dataset}/"
        wanted = {n: d for n, d in rows_of(stored.output).items() if name in n}
        found = {n: d for n, d in rows_of(output).items() if name in n}
        assert found == wanted


def test_a_source_that_is_removed_meanwhile(
    stored: Stored, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, output = f"{stored.store.bucket()}/in", f"{stored.store.bucket()}/out"
    source = f"{folder}/raw/text/0.jsonl"
    copy_to(stored.local, folder)
    removing(monkeypatch, source)
    capsys.readouterr()
    assert run(folder, output, "--datasets", "text") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"{source}: it was there when the build began and is gone" in said
    assert not files.exists(f"{output}/text/manifest.json")


def removing(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Has an object removed once the input was listed."""
    real: Callable[..., Any] = run_build._run_job

    def remove_first(*arguments: Any) -> Any:
        files.remove(path)
        return real(*arguments)

    monkeypatch.setattr(run_build, "_run_job", remove_first)


def test_another_build_on_the_same_output(
    stored: Stored, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = f"{stored.store.bucket()}/out"
    real: Callable[..., Any] = run_build._run_job

    def overtaken(prepared: Any, *rest: Any) -> Any:
        files.write_atomic(f"{output}/_attempt", b"another one's")
        return real(prepared, *rest)

    monkeypatch.setattr(run_build, "_run_job", overtaken)
    capsys.readouterr()
    assert run(stored.folder, output, "--datasets", "text") == 1
    assert "another gato-build began on this output" in " ".join(
        capsys.readouterr().err.split()
    )
    assert not files.exists(f"{output}/text/manifest.json")


def test_no_such_bucket(stored: Stored, capsys: Any) -> None:
    capsys.readouterr()
    assert run(stored.folder, "gs://no-such-bucket/x") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("error: gs://no-such-bucket/x/tokenizer.model: cannot be")
    assert "there is no bucket gs://no-such-bucket, or these credentials" in said

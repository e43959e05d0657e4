"""Recording as a Beam job: the files of local processes, resumed, refused in words."""

import pathlib
from collections.abc import Callable

import emulator
import pytest
from recordings import assert_refused, changes

from gato.pipelines import record
from gato.pipelines.recorders import babyai, chunks, sokoban
from gato.pipelines.sources.minari import MinariSource
from gato.schemas import files, object_store
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode
from gato.schemas.errors import GatoError

BABYAI = ("babyai", "--levels", "BabyAI-GoToRedBall-v0")
SOKOBAN = ("sokoban", "--rooms", "7x7", "--grid", "--data_format", "arrow")
BEAM = ("--runner", "DirectRunner")


def _command(output: object, *options: str, episodes: int = 3) -> list[str]:
    return [*options, "--output", str(output), "--episodes", str(episodes)]


def _contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for domain in (babyai.BabyAI, sokoban.Sokoban):
        monkeypatch.setattr(domain, "episodes_per_chunk", 2)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[chunks.Chunk]:
    """The chunks that were played from here on."""
    return _watch(monkeypatch, lambda number: None)


def _watch(
    monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None]
) -> list[chunks.Chunk]:
    """Calls `before` with the number of each chunk that is about to be played."""
    seen: list[chunks.Chunk] = []
    play = chunks._play

    def watched(chunk: chunks.Chunk, advance: Callable[[], None]) -> None:
        before(len(seen))
        play(chunk, advance)
        seen.append(chunk)

    monkeypatch.setattr(chunks, "_play", watched)
    return seen


@pytest.mark.parametrize("options", [BABYAI, SOKOBAN])
def test_the_bytes_are_those_of_local_processes(
    options: tuple[str, ...],
    tmp_path: pathlib.Path,
    played: list[chunks.Chunk],
) -> None:
    assert record.main(_command(tmp_path / "here", *options)) == 0
    here = len(played)
    assert record.main(_command(tmp_path / "beam", *options, *BEAM)) == 0
    assert len(played) == 2 * here > 2
    assert _contents(tmp_path / "beam") == _contents(tmp_path / "here")
    # Again: nothing is to be done.
    before = changes(tmp_path / "beam")
    assert record.main(_command(tmp_path / "beam", *options, *BEAM)) == 0
    assert changes(tmp_path / "beam") == before
    assert len(played) == 2 * here


def test_a_job_that_stopped_goes_on_where_it_was_here_or_elsewhere(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def full_after_three(number: int) -> None:
        if number == 3:
            raise GatoError("no room")

    whole, output = tmp_path / "whole", tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        every = _watch(patch, lambda number: None)
        assert record.main(_command(whole, *SOKOBAN)) == 0
    with pytest.MonkeyPatch.context() as patch:
        done = _watch(patch, full_after_three)
        assert record.main(_command(output, *SOKOBAN, *BEAM)) == 1
    assert "error: no room" in capsys.readouterr().err
    assert len(done) == 3
    assert [path.name for path in output.iterdir()] == [".recording"]
    with pytest.MonkeyPatch.context() as patch:
        rest = _watch(patch, lambda number: None)
        assert record.main(_command(output, *SOKOBAN)) == 0
    assert len(rest) == len(every) - 3
    assert not {chunk.episodes_path for chunk in rest} & {c.episodes_path for c in done}
    assert _contents(output) == _contents(whole)


def test_chunks_that_were_not_asked_for_are_removed_in_the_end(
    tmp_path: pathlib.Path,
) -> None:
    strange = tmp_path / ".recording/chunks/strange/00000000-00000002.json"
    files.write_atomic(str(strange), b"[]")
    assert record.main(_command(tmp_path, *SOKOBAN, "--policies", "random")) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["sokoban_grid"]


@pytest.mark.slow
def test_several_worker_processes(tmp_path: pathlib.Path) -> None:
    few = ("--policies", "expert", "--episodes", "2", "--max_steps", "30")
    options = ("metaworld", "--tasks", "reach-v3", *few)
    assert record.main(_command(tmp_path / "here", *options)) == 0
    several = (*BEAM, "--direct_num_workers", "2")
    assert record.main(_command(tmp_path / "beam", *options, *several)) == 0
    assert _contents(tmp_path / "beam") == _contents(tmp_path / "here")


@pytest.mark.slow
def test_an_object_store_holds_what_a_folder_does(
    tmp_path: pathlib.Path,
    played: list[chunks.Chunk],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(object_store, "PAUSES_SECONDS", (0.01,) * 4)
    few = (*SOKOBAN, "--policies", "expert,random")
    assert record.main(_command(tmp_path / "here", *few)) == 0
    with emulator.running() as store:
        output = f"{store.bucket()}/raw"
        assert record.main(_command(output, *few, *BEAM)) == 0
        stored = files.versions_below(output)
        there = {name: files.read_bytes(files.join(output, name)) for name in stored}
        assert there == _contents(tmp_path / "here")
        count = len(played)
        assert record.main(_command(output, *few)) == 0
        assert len(played) == count
        assert files.versions_below(output) == stored
        path = f"{output}/sokoban_grid/7x7/expert-v0"
        dataset = Dataset(name="sokoban", format="minari", paths=(path,))
        (partition,) = MinariSource().partition(path, "7x7/expert-v0", dataset)
        episodes = list(MinariSource().read(partition, dataset))
    assert len(episodes) == 3
    assert all(isinstance(episode, Episode) for episode in episodes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--runner", "Direct0Runner"), "--runner is DirectRunner, PrismRunner"),
        (
            (*BEAM, "--direct_num_worker", "2"),
            "--direct_num_worker is an option neither of gato-record sokoban nor of"
            " Beam; did you mean --direct_num_workers?",
        ),
        ((*BEAM, "2"), "every argument is an option or its value, got '2'"),
        ((*BEAM, "--direct_num_workers", "few"), "It is one of Beam's options"),
        ((*BEAM, "--template_location", "job"), "--template_location: a template"),
        (
            ("--runner", "DataflowRunner", "--project", "p", "--region", "r"),
            "Dataflow's workers read and write object storage",
        ),
    ],
)
def test_a_wrong_engine_starts_nothing(
    options: tuple[str, ...],
    message: str,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = _command(tmp_path / "out", *SOKOBAN, *options)
    assert_refused(command, tmp_path, capsys, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--direct_num_workers", "2"), "unrecognized arguments: --direct_num_workers"),
        ((*BEAM, "--workers", "2"), "not allowed with argument --runner"),
    ],
)
def test_options_that_do_not_go_together(
    options: tuple[str, ...],
    message: str,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        record.main(_command(tmp_path / "out", *SOKOBAN, *options))
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [(), BEAM])
def test_an_output_that_cannot_be_written_to(
    options: tuple[str, ...],
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    command = _command(tmp_path / "file" / "out", *SOKOBAN, *options)
    message = "cannot be written to: Not a directory"
    assert_refused(command, tmp_path, capsys, message)


def test_pictures_are_not_drawn_to_a_url(capsys: pytest.CaptureFixture[str]) -> None:
    assert record.main(["captions", "--output", "gs://bucket/captions"]) == 2
    assert "only episodes are written to a URL" in capsys.readouterr().err

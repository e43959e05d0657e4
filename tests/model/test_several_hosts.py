"""Several local processes that train as hosts of one mesh, with `jax.distributed`."""

import os
import pathlib
import re
import shutil
import signal
import socket

import pytest
import training

from gato.model import train

STEPS = 6
# That of six steps, also for a start that is to do four; validated after its last step.
SCHEDULE = (
    "--set=optimizer.warmup_steps=0",
    "--set=optimizer.decay_steps=6",
    "--set=validation.every=100",
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Rows with few pictures and many, so that hosts need pools of other sizes."""
    return training.write_uneven_pictures(tmp_path_factory.mktemp("shards"))


def start(
    shards: pathlib.Path, folder: pathlib.Path, cache: pathlib.Path, hosts: int, *more
) -> list[training.Training]:
    """Starts hosts with four devices in all."""
    arguments = [
        f"--shards={shards}/train-*.tfrecord",
        f"--checkpoint_dir={folder}",
        *("--batch_size=4", f"--steps={STEPS}", "--mesh=fsdp=2,tensor=1"),
        *("--set=checkpoint.every=2", "--set=model.patch_embedder=linear"),
        *training.SMALL,
        *more,
    ]
    given = training.environment(cache, devices=4 // hosts)
    folder.parent.mkdir(exist_ok=True, parents=True)
    if hosts == 1:
        return [training.Training(arguments, folder.with_suffix(".0.log"), given)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    joined = [f"--coordinator=127.0.0.1:{port}", f"--num_hosts={hosts}"]
    return [
        training.Training(
            [*arguments, *joined, f"--host={host}"],
            folder.with_suffix(f".{host}.log"),
            given,
        )
        for host in range(hosts)
    ]


def finish(hosts: list[training.Training], code: int = 0) -> None:
    for host in hosts:
        assert host.finish() == code, host.printed


def check_curve(folder: pathlib.Path, alone: pathlib.Path, steps: range) -> None:
    """Compares a run with the undisturbed one of one process."""
    found, expected = training.curve(folder), training.curve(alone)
    assert sorted(found) == list(steps)
    for step in steps:
        assert found[step]["loss"] == pytest.approx(expected[step]["loss"], rel=1e-5)
        assert found[step]["targets"] == expected[step]["targets"]
    last = steps[-1]
    for key, figure in expected[last]["validation"].items():
        if isinstance(figure, float):
            assert found[last]["validation"][key] == pytest.approx(figure, rel=1e-5)


@pytest.fixture(scope="module")
def alone(shards, training_cache, tmp_path_factory):
    """The folder of one process with the same mesh; checkpoints of 4 and 6 steps."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    finish(start(shards, folder, training_cache, 1, *SCHEDULE))
    return folder


@pytest.mark.slow
def test_two_hosts_have_the_losses_of_one_which_goes_on(
    shards, training_cache, alone, tmp_path
):
    folder = tmp_path / "run"
    hosts = start(shards, folder, training_cache, 2, *SCHEDULE, "--steps=4")
    finish(hosts)
    # One line a step: the other host writes nothing, and says nothing.
    assert len(training.lines(folder)) == 4
    assert "4 steps are done" in hosts[0].printed
    assert "steps" not in hosts[1].printed
    assert len(os.listdir(folder / "tensorboard")) == 1
    assert training.saved(folder) == 4
    hosts = start(shards, folder, training_cache, 1, *SCHEDULE)
    finish(hosts)
    assert "resumed: 4 of 6 steps are done" in hosts[0].printed
    check_curve(folder, alone, range(STEPS))


@pytest.mark.slow
def test_two_hosts_go_on_where_one_stopped(shards, training_cache, alone, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(alone / "checkpoints" / "4", folder / "checkpoints" / "4")
    hosts = start(shards, folder, training_cache, 2, *SCHEDULE)
    finish(hosts)
    assert "resumed: 4 of 6 steps are done" in hosts[0].printed
    check_curve(folder, alone, range(4, STEPS))


@pytest.mark.slow
def test_sigterm_at_one_host_makes_all_save_one_step(shards, training_cache, tmp_path):
    folder = tmp_path / "run"
    more = ("--steps=100000", "--set=checkpoint.every=100000")
    hosts = start(shards, folder, training_cache, 2, *more)
    hosts[0].wait_until(lambda: len(training.lines(folder)) >= 3)
    hosts[1].process.send_signal(signal.SIGTERM)
    finish(hosts)
    said = re.search(r"stopped by SIGTERM; saved after step (\d+)", hosts[0].printed)
    assert said, hosts[0].printed
    done = int(said[1]) + 1
    assert training.saved(folder) == done
    assert len(training.curve(folder)) == done


@pytest.mark.slow
def test_a_corrupt_record_ends_all_hosts_at_one_batch(training_cache, tmp_path):
    shards = training.write_uneven_pictures(tmp_path)
    path = shards / "train-00001-of-00002.tfrecord"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    folder = tmp_path / "run"
    hosts = start(shards, folder, training_cache, 2, "--steps=50")
    finish(hosts, code=1)
    for host in hosts:
        assert re.search(rf"gato-train: .*{path.name} at byte \d+", host.printed)
        assert "Traceback" not in host.printed
    done = len(training.curve(folder))
    assert training.saved(folder) == done or done == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host=0"], "--num_hosts and --host go with --coordinator"),
        (["--coordinator=a:1", "--num_hosts=2"], "--num_hosts N and --host I"),
        (["--coordinator=a:1", "--num_hosts=2", "--host=2"], "got 2 and 2"),
        (["--coordinator=auto", "--host=1"], "finds --num_hosts and --host by itself"),
    ],
)
def test_flags_that_do_not_fit_are_refused(arguments, said, capsys):
    assert train.main(arguments) == 2
    assert said in capsys.readouterr().err

"""Few-shot fine-tuning: which episodes are learned from, what is played and kept."""

import importlib.util
import itertools
import json
import pathlib
from typing import ClassVar

import jax
import numpy as np
import pytest
import yaml
from small_models import small_config, small_model

from gato.model import finetune
from gato.model.checkpoint import Checkpoints
from gato.model.control import ControlDataset
from gato.model.data import Batches
from gato.model.evaluation.suite import load_suite
from gato.model.finetuning import options, study, tuner
from gato.model.finetuning.demonstrations import read_demonstrations
from gato.model.policy import Policy
from gato.model.progress import Progress
from gato.model.shards import find_datasets
from gato.model.store import RowStore
from gato.model.weights import load_weights
from gato.schemas.errors import UsageError
from gato.schemas.record import PROMPT_BIT, decode_row

SUPPORT = pathlib.Path(__file__).parents[1] / "support"
BUILD = pathlib.Path(__file__).parents[1] / "testdata/sample/build"
BABYAI, METAWORLD = BUILD / "babyai", BUILD / "metaworld"
TASK = "BabyAI-GoToObj-v0"
GRID = "toy_environments:Grid-v0"
LENGTH = 512


def rows_of(dataset):
    manifest = dataset.manifest
    store = RowStore([dataset], "train")
    found = {
        stored.place: decode_row(
            bytes(stored.data),
            sequence_length=manifest.sequence_length,
            dtype=manifest.token_dtype,
        )
        for stored in store.read(np.arange(sum(store.rows_by_dataset)))
    }
    return [found[place] for place in sorted(found)]


def bodies(rows, task=TASK):
    """Returns by (episode, first step) a body's slots and provider of its prompt."""
    found = {}
    for row in rows:
        for entry in row.provenance:
            if entry["task"] != task:
                continue
            prompt = entry["prompt"]
            length = prompt["length"] if prompt else 0
            start, stop = entry["start"], entry["start"] + entry["length"]
            body = slice(start + length, stop)
            kinds, mask = row.kind[body], row.loss_mask[body].copy()
            assert not (kinds & PROMPT_BIT).any()
            assert row.kind[start : start + length].all()
            # Predicted in a prompted segment only, or in none.
            mask[0] = 0
            parts = (row.tokens[body], kinds, mask, row.local_position[body])
            key = (entry["episode"], entry["first_step"])
            assert key not in found
            found[key] = (
                tuple(part.tolist() for part in parts),
                prompt and prompt["episode"],
            )
    return found


@pytest.fixture(scope="module")
def demonstrations():
    return read_demonstrations([str(BABYAI)], TASK, seed=0, most=5)


def test_subsets_are_nested_and_follow_from_the_seed(demonstrations):
    again = read_demonstrations([str(BABYAI)], TASK, seed=0, most=3)
    assert demonstrations.ids(3) == again.ids(3)
    assert demonstrations.ids(1) == again.ids(1) == demonstrations.ids(5)[:1]
    others = [
        read_demonstrations([str(BABYAI)], TASK, seed=seed, most=3).ids(3)
        for seed in range(1, 6)
    ]
    assert len({tuple(ids) for ids in others}) > 1


@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_chosen_episodes_are_whole_and_nothing_else_is_there(
    demonstrations, tmp_path, count
):
    (source,) = find_datasets([str(BABYAI)])
    built = bodies(rows_of(source))
    dataset = demonstrations.write(count, str(tmp_path))
    found = rows_of(dataset)
    ids = demonstrations.ids(count)
    assert {entry["task"] for row in found for entry in row.provenance} == {TASK}
    wanted = {key: one for key, one in built.items() if key[0] in ids}
    taken = bodies(found)
    assert {key: one[0] for key, one in taken.items()} == {
        key: one[0] for key, one in wanted.items()
    }
    # A stranger's prompt is cut off, that of a chosen episode stays.
    for key, (_, provider) in taken.items():
        expected = wanted[key][1]
        assert provider == (expected if expected in ids else None)
    assert any(one[1] for one in wanted.values())
    again = demonstrations.write(count, str(tmp_path / "again"))
    assert again.train == dataset.train


def test_images_go_with_their_timesteps(tmp_path):
    """Pictures in the sample stand in documents only, so rows are made by hand."""
    from gato.model.finetuning.demonstrations import _part, _without_prompt
    from gato.schemas.record import Kind
    from gato.tokenizers.rows import Segment

    step = [Kind.IMAGE, Kind.IMAGE, Kind.SEPARATOR, Kind.DISCRETE_ACTION]
    kinds = np.array(step * 3, np.uint8)
    kinds[:4] |= PROMPT_BIT
    segment = Segment(
        tokens=np.arange(12),
        kind=kinds,
        step_slots=np.array([4, 4, 4]),
        images=[b"a", b"b", b"c"],
        image_info=np.array([[16, 32, 0]] * 3, np.int32),
        provenance={"prompt": {"length": 4, "episode": "x"}},
    )
    body = _without_prompt(segment)
    assert body.images == [b"b", b"c"]
    assert body.tokens.tolist() == list(range(4, 12))
    assert (body.step_slots.tolist(), len(body.image_info)) == ([4, 4], 2)
    assert body.provenance == {"prompt": None}
    assert _part(body, 0, 4).images == [b"b"]


def test_prompts_are_those_of_the_build(demonstrations):
    built = {
        row.provenance[0]["episode"]: row
        for row in ControlDataset(str(BABYAI)).task(TASK).demonstrations
    }
    rows = demonstrations.prompts(5)
    assert [row.provenance[0]["episode"] for row in rows] == demonstrations.ids(5)
    both = [row for row in rows if row.provenance[0]["episode"] in built]
    assert len(both) >= 3
    for row in both:
        other = built[row.provenance[0]["episode"]]
        for name in ("tokens", "kind", "loss_mask", "segment", "local_position"):
            np.testing.assert_array_equal(getattr(row, name), getattr(other, name))
        assert row.provenance == other.provenance


def test_the_trainer_reads_what_was_written(demonstrations, tmp_path):
    dataset = demonstrations.write(1, str(tmp_path))
    batch = Batches([dataset], batch_size=4, seed=0, groups=1, threads=1)[0]
    assert batch.tokens_BL.shape == (4, LENGTH)
    assert batch.loss_mask_BL.sum() > 0


@pytest.mark.parametrize(
    ("patterns", "task", "most", "said"),
    [
        ([str(BABYAI)], TASK, 99, "asks for 99 episodes.* hold 10 of task"),
        ([str(BABYAI)], "boxing", 1, "no task 'boxing'; its tasks are BabyAI-GoToObj"),
        ([str(BUILD)], TASK, 1, "are of one data set, got babyai, captions"),
        ([str(BABYAI / "train-00000*")], TASK, 1, "2 training shards.* matches 1"),
    ],
)
def test_demonstrations_that_are_not_there_are_named(patterns, task, most, said):
    with pytest.raises(UsageError, match=said):
        read_demonstrations(patterns, task, seed=0, most=most)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A checkpoint of a small model that saw Meta-World alone."""
    folder = tmp_path_factory.mktemp("metaworld")
    datasets = find_datasets([str(METAWORLD)])
    size = datasets[0].manifest.vocabulary.size
    model = small_model(LENGTH, vocabulary_size=size, blocks=1)
    checkpoints = Checkpoints(str(folder), small_config(blocks=1), datasets)
    state = {"params": model.initial(), "optimizer": {"m": np.zeros(2)}, "step": 3}
    checkpoints.save(3, state)
    checkpoints.close()
    return folder


@pytest.fixture
def suite(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    task = {"environment": GRID, "task": TASK}
    content = {"domains": {"grids": {"data": str(BABYAI), "tasks": [task]}}}
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def table_of(params):
    return np.asarray(params["embed"]["table_VD"]).copy()


def arguments(run_folder, suite, output, *more):
    return [
        *("--shards", str(BABYAI), "--suite", suite, "--output", str(output)),
        *("--from", f"robots={run_folder}", "--demonstrations", "1,3"),
        *("--steps", "3", "--evaluate_every", "2", "--episodes", "2"),
        *("--batch_size", "2", "--prompt_tokens", "160", "--batch", "1", *more),
    ]


@pytest.mark.slow
def test_the_protocol_end_to_end(run_folder, suite, tmp_path, capsys, monkeypatch):
    output = tmp_path / "out"
    command = arguments(run_folder, suite, output, "--scratch", "--keep_weights")
    # Torn in the third of four cells.
    run = tuner.Tuner.run
    begun = []

    def torn(self, *given):
        begun.append(1)
        for number, found in enumerate(run(self, *given)):
            if len(begun) == 3 and number == 1:
                raise KeyboardInterrupt
            yield found

    with monkeypatch.context() as patch:
        patch.setattr(tuner.Tuner, "run", torn)
        assert finetune.main(command) == 130
    assert "goes on with the first cell" in capsys.readouterr().err
    cells = sorted(path.name for path in (output / "cells").iterdir())
    assert cells == ["robots-1.json", "robots-3.json"]
    assert not (output / "results.json").exists()
    before = {name: (output / "cells" / name).read_bytes() for name in cells}

    begun.clear()

    def counted(self, *given):
        begun.append(1)
        yield from run(self, *given)

    played = []
    take_weights = Policy.take_weights

    def noted(self, params):
        played.append(table_of(params))
        take_weights(self, params)

    monkeypatch.setattr(tuner.Tuner, "run", counted)
    monkeypatch.setattr(Policy, "take_weights", noted)
    assert finetune.main(command) == 0
    assert len(begun) == 2
    # Both cells begin with the same weights, and play with those of each moment.
    assert len(played) == 6
    np.testing.assert_array_equal(played[0], played[3])
    assert all((one != other).any() for one, other in itertools.pairwise(played))
    for name, content in before.items():
        assert (output / "cells" / name).read_bytes() == content
    for name, last in (("scratch-1", played[2]), ("scratch-3", played[5])):
        kept = load_weights(str(output / "weights" / name))
        np.testing.assert_array_equal(table_of(kept.params), last)
    told = json.loads((output / "results.json").read_text())
    assert told["first_seed"] == 2**30
    assert [
        (one["initialisation"], one["demonstrations"]) for one in told["cells"]
    ] == [
        ("robots", 1),
        ("robots", 3),
        ("scratch", 1),
        ("scratch", 3),
    ]
    for cell in told["cells"]:
        assert [one["step"] for one in cell["evaluations"]] == [0, 2, 3]
        after = [one["score"]["mean"] for one in cell["evaluations"][1:]]
        assert cell["final"] == after[-1]
        assert cell["best_smoothed"] == pytest.approx(np.mean(after))
        assert cell["held_out"] is True
        assert cell["evaluations"][0]["loss"] is None
        assert cell["evaluations"][-1]["loss"] > 0
        assert len(cell["episode_ids"]) == cell["demonstrations"]
    for kind, beginning in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        drawn = (output / f"results.{kind}").read_bytes()
        assert drawn.startswith(beginning)
    assert b"expert" in drawn
    assert "expert" in capsys.readouterr().out

    # Nothing is left to do; another command is refused; a torn file is named.
    begun.clear()
    assert finetune.main(command) == 0
    assert not begun
    assert finetune.main([*command, "--steps", "4"]) == 2
    assert "steps was 3 and is 4" in capsys.readouterr().err
    path = output / "cells" / "robots-1.json"
    path.write_bytes(before["robots-1.json"][:100])
    assert finetune.main(command) == 1
    assert "Remove it" in capsys.readouterr().err
    # A cell made again is the same.
    path.unlink()
    assert finetune.main(command) == 0
    assert path.read_bytes() == before["robots-1.json"]


class QuickTuner:
    """Stands for a tuner: its weights are those given and the number of rows."""

    begun: ClassVar[list[int]] = []

    def __init__(self, trained, contest, **_options):
        self._params = trained.params
        self.weights = {}

    def close(self):
        pass

    def run(self, dataset, prompts, *_given):
        self.begun.append(len(prompts))
        for step in (0, 3):
            score = {"mean": 1.0, "low": 1.0, "high": 1.0}
            yield {"step": step, "loss": 1.0, "score": score, "success_rate": None}
        self.weights = jax.tree.map(lambda leaf: leaf + len(prompts), self._params)


def test_weights_are_kept_once_a_cell(run_folder, suite, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "Tuner", QuickTuner)
    monkeypatch.setattr(QuickTuner, "begun", [])
    output, kept = tmp_path / "out", tmp_path / "out/weights"

    def run(*more):
        given = arguments(run_folder, suite, output, "--episodes", "3", *more)
        made = study.Study(options.make_parser().parse_args(given))
        QuickTuner.begun.clear()
        made.run(Progress(made.console))
        return QuickTuner.begun

    assert run() == [1, 3]
    assert not kept.exists()
    # Torn before: what a finished cell lacks is made, and what is half there.
    (kept / "robots-1.part/checkpoints").mkdir(parents=True)
    assert run("--keep_weights", "--scratch") == [1, 3, 1, 3]
    names = ["robots-1", "robots-3", "scratch-1", "scratch-3"]
    assert sorted(path.name for path in kept.iterdir()) == names
    written = {path: path.stat().st_mtime_ns for path in kept.rglob("*")}
    assert run("--keep_weights", "--scratch") == []
    assert written == {path: path.stat().st_mtime_ns for path in kept.rglob("*")}
    # Weights without their cell are made anew.
    (output / "cells/robots-3.json").unlink()
    assert run("--keep_weights", "--scratch") == [3]

    before = table_of(load_weights(str(run_folder)).params)
    for name, added, seen in (
        ("robots-1", 1, {"metaworld", "babyai"}),
        ("robots-3", 3, {"metaworld", "babyai"}),
        ("scratch-3", None, {"babyai"}),
    ):
        trained = load_weights(str(kept / name))
        assert trained.step == 3
        assert trained.model.config.model.dropout == 0.1
        assert trained.model.config.model.attention == "auto"
        if added:
            np.testing.assert_array_equal(table_of(trained.params), before + added)
        assert set(trained.datasets) == seen
        # By now it has seen the task.
        assert [one.held_out for one in load_suite(suite, trained)] == [False]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--from", "again"], "--from takes NAME=DIR"),
        (["--from", "scratch=x"], "other than 'scratch'"),
        (["--from", "robots=x"], "got 'robots' twice"),
        (["--from", "x=nowhere"], "nowhere: no checkpoints"),
        (["--demonstrations", "1,many"], "numbers of at least 1"),
        (["--demonstrations", "0"], "numbers of at least 1"),
        (["--steps", "0"], "--steps is at least 1, got 0"),
        (["--prompt_tokens", "513"], "--prompt_tokens is 0 to 512"),
        (["--set", "model.width=32"], "shapes of the weights"),
        (["--set", "model.drop=0"], "did you mean 'dropout'"),
        (["--set", "steps"], "--set takes KEY=VALUE"),
        (["--demonstrations", "50"], "asks for 50 episodes"),
        (["--keep_weights", "--output", "gs://x"], "--keep_weights needs a local"),
    ],
)
def test_wrong_usage_is_said(run_folder, suite, tmp_path, more, said, capsys):
    assert finetune.main(arguments(run_folder, suite, tmp_path, *more)) == 2
    assert said in capsys.readouterr().err


def test_there_is_something_to_fine_tune(suite, tmp_path, capsys):
    command = ["--shards", str(BABYAI), "--suite", suite, "--output", str(tmp_path)]
    assert finetune.main([*command, "--scratch"]) == 2
    assert "there is nothing to fine-tune" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        finetune.main(["--help"])
    assert "examples:" in capsys.readouterr().out


def test_a_suite_of_two_tasks_is_refused(run_folder, suite, tmp_path, capsys):
    content = yaml.safe_load(pathlib.Path(suite).read_text())
    content["domains"]["grids"]["tasks"] *= 2
    pathlib.Path(suite).write_text(yaml.safe_dump(content))
    assert finetune.main(arguments(run_folder, suite, tmp_path)) == 2
    assert "holds one task, got 2" in capsys.readouterr().err


def test_the_optimizer_is_adam_at_a_constant_rate(run_folder, suite, tmp_path):
    from gato.model.finetuning.options import make_parser, tuning_config
    from gato.model.optimizer import learning_rate

    given = make_parser().parse_args(
        ["--shards", "x", "--suite", "y", "--output", "z", "--seed", "3"]
    )
    config = tuning_config(small_config(stochastic_depth=0.1), given)
    rate = learning_rate(config)
    found = [float(np.asarray(rate(step))) for step in (0, 1, 5_000, 20_000)]
    np.testing.assert_allclose(found, 1e-5, rtol=1e-6)
    assert (config.steps, config.data.batch_size) == (10_000, 64)
    assert (config.model.dropout, config.model.stochastic_depth) == (0.1, 0.0)
    assert config.optimizer.weight_decay == 0
    assert (config.seed, config.data.seed) == (3, 3)


def test_smoothing_takes_three_in_a_row():
    assert tuner.best_smoothed([3.0]) == 3
    assert tuner.best_smoothed([1.0, 2.0]) == 1.5
    assert tuner.best_smoothed([0.0, 60.0, 0.0, 0.0, 30.0, 60.0]) == 30


def test_a_figure_without_matplotlib_is_said_before_the_work(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    given = ["--shards", "x", "--suite", "y", "--output", "z", "--from", "a=b"]
    assert finetune.main(given) == 2
    assert "pip install matplotlib" in capsys.readouterr().err

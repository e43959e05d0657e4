"""Rollouts and their scores: what is played, what a fault costs, what is reported."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from small_models import small_config, small_model
from suites import BABYAI, SUPPORT, TASK, Stubborn, play, trained, write_suite

from gato.model import evaluate
from gato.model.checkpoint import Checkpoints
from gato.model.control import ControlDataset
from gato.model.evaluation import environments, rollouts
from gato.model.evaluation.processes import CrashedError, EnvironmentProcess
from gato.model.evaluation.report import Report
from gato.model.evaluation.scores import normalize, score
from gato.model.evaluation.suite import load_suite
from gato.model.shards import find_datasets
from gato.model.weights import load_weights
from gato.pipelines.recorders.domain import FIRST_EVALUATION_SEED
from gato.schemas.errors import GatoError, UsageError


@pytest.fixture(autouse=True)
def _toys_are_found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))


def test_every_episode_is_played_once_and_its_rewards_are_added(tmp_path):
    suite = write_suite(tmp_path / "s.yaml", {}, {"max_steps": 3})
    policy = Stubborn(rows=3)
    _, episodes = play(suite, policy, 4, prompt_tokens=256)
    found = {(one.task, one.seed - 2**30): one for one in episodes}
    assert len(episodes) == len(found) == 8
    assert {key[0] for key in found} == {0, 1}
    assert all(one.reward == one.steps == (4, 3)[one.task] for one in episodes)
    assert all(one.success and one.failure is None for one in episodes)
    # A row starts with a prompt once an episode, and never waits for another's end.
    prompts = [one for started in policy.started for one in started.values()]
    assert len(prompts) == 8
    assert all(0 < len(one) <= 256 for one in prompts)
    assert policy.acting[0] == [0, 1, 2]
    _, idle = play(suite, Stubborn(rows=2, action=1), 1)
    assert [(one.reward, one.success) for one in idle] == [(0, False)] * 2


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raise", "RuntimeError: the grid broke"),
        ("exit", "ended with code 3"),
        ("hang", "no answer in 3 s"),
        ("odd", "direction"),
    ],
)
def test_a_fault_costs_its_episode_and_not_the_run(tmp_path, fault, said):
    suite = write_suite(tmp_path / "s.yaml", {"options": {"fault": fault}})
    contests, episodes = play(suite, Stubborn(rows=1), 3, answer_seconds=3.0)
    by_seed = {one.seed % 2**30: one for one in episodes}
    assert sorted(by_seed) == [0, 1, 2]
    assert by_seed[1].reward == 4
    for seed in (0, 2):
        assert by_seed[seed].reward is None
        failure = by_seed[seed].failure
        assert failure is not None
        assert said in failure
    content = Report(contests, episodes).as_json({})
    assert content["tasks"][0]["crashed"] == 2
    assert [one["return"] for one in content["tasks"][0]["episodes"]] == [None, 4, None]


def test_a_task_that_cannot_be_played_at_all_is_named(tmp_path):
    suite = write_suite(tmp_path / "s.yaml", {"environment": "Missing-v0"})
    contests, episodes = play(suite, Stubborn(rows=2), 2)
    with pytest.raises(GatoError, match=rf"{TASK}: none of its 2 .*Missing"):
        Report(contests, episodes)


def test_a_process_that_was_never_asked_has_no_answer():
    process = EnvironmentProcess()
    with pytest.raises(CrashedError, match="gone"):
        process.answer()
    process.close()


def test_evaluations_seeds_are_never_recorded_ones():
    assert rollouts.FIRST_SEED == FIRST_EVALUATION_SEED
    assert list(rollouts.evaluation_seeds(3, 2)) == [2**30 + 3, 2**30 + 4]
    for first, episodes in ((-1, 1), (2**30, 1), (2**30 - 1, 2)):
        with pytest.raises(UsageError, match="never recorded"):
            rollouts.evaluation_seeds(first, episodes)


def test_scores_are_means_over_tasks_then_over_domains():
    by_task = [np.array([0.0, 100.0]), np.array([100.0, 100.0]), np.array([30.0] * 4)]
    found = score(by_task, ["a", "a", "b"])
    assert [one.mean for one in found.tasks] == [50, 100, 30]
    assert {name: one.mean for name, one in found.domains.items()} == {"a": 75, "b": 30}
    assert found.overall.mean == 52.5
    assert found.thresholds == {
        **dict.fromkeys((0, 10, 20, 30), 3),
        **dict.fromkeys((40, 50), 2),
        **dict.fromkeys((60, 70, 80, 90, 100), 1),
    }
    # Two episodes of 0 and 100: draws' means are 0, 50 or 100.
    assert (found.tasks[0].low, found.tasks[0].high) == (0, 100)
    assert (found.tasks[1].low, found.tasks[1].high) == (100, 100)
    assert (found.overall.low, found.overall.high) == (40, 65)
    np.testing.assert_allclose(normalize(np.array([1.0, 2.0]), 3.0, 1.0), [100, 50])


def test_intervals_cover_the_mean_as_often_as_they_say():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(40):
        (one,) = score([generator.normal(60, 25, 50)], ["a"]).tasks
        covered += one.low <= 60 <= one.high
        # 1.96 standard errors of 50 episodes to each side, roughly.
        assert 8 < one.high - one.low < 20
    assert covered >= 34


def test_a_task_is_held_out_unless_the_checkpoint_saw_its_data(tmp_path):
    suite = write_suite(tmp_path / "s.yaml", {})
    (one,) = find_datasets([f"{BABYAI}/train-*.tfrecord"])
    saw = trained(datasets={"babyai": one.identity})
    assert [c.held_out for c in load_suite(suite, saw)] == [False]
    assert [c.held_out for c in load_suite(suite, trained())] == [True]
    other = trained(datasets={"babyai": "another"})
    with pytest.raises(UsageError, match="held_out: true or false"):
        load_suite(suite, other)
    said = write_suite(tmp_path / "t.yaml", {"held_out": True})
    assert [c.held_out for c in load_suite(said, other)] == [True]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"task": "BabyAI-GoTo-v0"}, "no task 'BabyAI-GoTo-v0'"),
        ({"expert_return": 0.5, "random_return": 0.5}, "differ"),
        ({"steps": 3}, "steps"),
    ],
)
def test_a_suite_that_cannot_be_scored_is_refused(tmp_path, task, message):
    with pytest.raises(UsageError, match=message):
        load_suite(write_suite(tmp_path / "s.yaml", task), trained())


def test_a_suite_without_references_asks_for_them(tmp_path, monkeypatch):
    read = ControlDataset.task

    def without(self, name):
        task = read(self, name)
        summary = task.summary.model_copy(update={"random_return": None})
        return dataclasses.replace(task, summary=summary)

    monkeypatch.setattr(ControlDataset, "task", without)
    with pytest.raises(UsageError, match="no random_return"):
        load_suite(write_suite(tmp_path / "s.yaml", {}), trained())
    given = write_suite(tmp_path / "s.yaml", {"random_return": -1.0})
    assert [c.random_return for c in load_suite(given, trained())] == [-1]


def test_data_of_another_build_is_refused(tmp_path):
    suite = write_suite(tmp_path / "s.yaml", {})
    short = small_model(256)
    with pytest.raises(GatoError, match=r"rows of 512 slots.*trained on 256"):
        load_suite(suite, trained(model=short))
    vocabulary = trained().vocabulary.model_copy(update={"eos": 3})
    with pytest.raises(GatoError, match="another vocabulary"):
        load_suite(suite, trained(vocabulary=vocabulary))
    with pytest.raises(UsageError, match="no such suite"):
        load_suite(str(tmp_path / "none.yaml"), trained())


def test_actions_take_the_shape_of_the_space():
    from gymnasium import spaces

    space = spaces.Dict(
        {
            "arm": spaces.Tuple((spaces.Box(-1, 1, (2,)), spaces.Discrete(3))),
            "keys": spaces.MultiBinary(2),
        }
    )
    values = {
        "arm/0": np.array([0.5, -0.5]),
        "arm/1": np.int64(2),
        "keys": np.array([0, 1]),
    }
    action = environments.as_action(values, space)
    assert space.contains(action)
    assert action["arm"][1] == 2
    alone = environments.as_action({"action": np.int64(4)}, spaces.Discrete(5))
    assert alone == 4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """New weights of a small model, saved as the trainer does."""
    folder = tmp_path_factory.mktemp("run")
    config = small_config(blocks=1)
    datasets = find_datasets([f"{BABYAI}/train-*.tfrecord"])
    size = datasets[0].manifest.vocabulary.size
    model = small_model(512, vocabulary_size=size, blocks=1)
    state = {"params": model.initial(), "optimizer": {"m": np.zeros(2)}, "step": 3}
    checkpoints = Checkpoints(str(folder), config, datasets)
    checkpoints.save(3, state)
    checkpoints.close()
    return folder, state["params"]


def test_the_weights_of_a_checkpoint_come_without_its_optimizer(checkpoint):
    folder, params = checkpoint
    loaded = load_weights(str(folder))
    assert (loaded.step, list(loaded.datasets)) == (3, ["babyai"])
    assert loaded.model.config == small_config(blocks=1)
    import jax

    jax.tree.map(np.testing.assert_array_equal, loaded.params, params)
    with pytest.raises(UsageError, match="no checkpoints"):
        load_weights(str(folder / "nowhere"))


def test_a_damaged_checkpoint_is_said_to_be_one(checkpoint, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(checkpoint[0], copy)
    for path in (copy / "checkpoints/3/state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    command = ["--checkpoint", str(copy), "--suite", "suite.yaml"]
    assert evaluate.main(command) == 1
    assert "checkpoints/3: a checkpoint of this release" in capsys.readouterr().err
    shutil.rmtree(copy / "checkpoints/3")
    assert evaluate.main(command) == 2
    assert "no finished checkpoint" in capsys.readouterr().err


def test_the_command_plays_a_real_level_and_writes_what_it_found(
    checkpoint, tmp_path, capsys
):
    folder, _ = checkpoint
    suite = write_suite(tmp_path / "levels.yaml", {"environment": TASK, "max_steps": 5})
    arguments = ["--checkpoint", str(folder), "--suite", suite, "--episodes", "2"]
    assert evaluate.main([*arguments, "--batch", "2", "--prompt_tokens", "300"]) == 0
    found = json.loads((folder / "evaluation" / "levels-3.json").read_text())
    (task,) = found["tasks"]
    assert [one["steps"] for one in task["episodes"]] == [5, 5]
    assert [one["seed"] for one in task["episodes"]] == [2**30, 2**30 + 1]
    assert (task["held_out"], task["crashed"], task["return"]) == (False, 0, 0)
    random, expert = task["random_return"], task["expert_return"]
    expected = 100 * (0 - random) / (expert - random)
    assert task["score"]["mean"] == pytest.approx(expected)
    assert found["overall"]["mean"] == pytest.approx(expected)
    shown = capsys.readouterr().out
    # What is played, beside the recorded returns that it is scored against.
    for words in ("in distribution", "random", "0.0612", "expert", "0.9648"):
        assert words in shown
    first = str(folder / "evaluation" / "levels-3.json")
    plot = tmp_path / "plots" / "thresholds.png"
    ablated = [*arguments, "--ablate", "shuffle_observations", "--beside", first]
    ablated += ["--plot", str(plot), "--videos", "1", "--video_format", "gif"]
    assert evaluate.main([*ablated, "--prompt_tokens", "0"]) == 0
    assert plot.stat().st_size > 1000
    path = folder / "evaluation" / "levels-3-no_prompt-shuffle_observations.json"
    ablation = json.loads(path.read_text())
    assert ablation["ablate"] == "shuffle_observations"
    assert ablation["beside"]["levels-3"]["overall"] == found["overall"]
    assert "levels-3" in capsys.readouterr().out
    filmed, unfilmed = (one["video"] for one in ablation["tasks"][0]["episodes"])
    assert pathlib.Path(filmed).parts[-2:] == ("grids", f"{TASK}-{2**30}.gif")
    assert pathlib.Path(filmed).stat().st_size > 1000
    assert unfilmed is None
    # A prompt that stays in sight is as long as those of the build's rows.
    assert evaluate.main([*arguments, "--memory", "rows"]) == 0
    path = folder / "evaluation" / "levels-3-rows.json"
    kept = json.loads(path.read_text())
    assert (kept["memory"], kept["prompt_tokens"]) == ("rows", 256)
    assert (found["memory"], found["prompt_tokens"]) == ("band", 300)
    assert evaluate.main([*arguments, "--prompt_tokens", "513"]) == 2
    assert "0 to 512" in capsys.readouterr().err
    assert evaluate.main([*arguments, "--ablate", "exchange_prompts"]) == 2
    assert "demonstrations of another task" in capsys.readouterr().err


def test_a_suite_of_the_repository_is_one(checkpoint):
    path = pathlib.Path(__file__).parents[2] / "configs/suites/babyai.yaml"
    contests = load_suite(str(path), load_weights(str(checkpoint[0])))
    assert [one.entry.environment for one in contests] == [
        "BabyAI-GoToObj-v0",
        "BabyAI-PickupLoc-v0",
    ]


def test_a_worker_loads_no_framework_and_the_run_no_simulator():
    script = "import sys, {}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = {}
    for module in ("worker", "processes"):
        command = script.format(f"gato.model.evaluation.{module}")
        done = subprocess.run(
            [sys.executable, "-c", command], capture_output=True, text=True, check=True
        )
        loaded[module] = set(done.stdout.split())
    assert "gymnasium" in loaded["worker"]
    assert not loaded["worker"] & {"jax", "flax", "tensorflow", "orbax"}
    assert "gymnasium" not in loaded["processes"]

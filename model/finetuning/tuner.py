"""One initialisation fine-tuned and played: the same programs for every number of rows.

A cell is one initialisation with one number of demonstrations. On its way it keeps no
checkpoint: what was torn begins anew, from the same weights and in the same order.
"""

import contextlib
import copy
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from gato.model.data import Batches, Prefetcher, put
from gato.model.evaluate import make_policy
from gato.model.evaluation.progress import watch
from gato.model.evaluation.report import Report
from gato.model.evaluation.rollouts import Arena
from gato.model.evaluation.suite import Contest
from gato.model.optimizer import make_optimizer
from gato.model.progress import Progress
from gato.model.sharding import make_mesh
from gato.model.shards import Dataset
from gato.model.step import State, make_train_step, state_shardings
from gato.model.weights import Trained
from gato.schemas.errors import GatoError
from gato.schemas.record import Row

# Evaluations whose mean is one smoothed score.
SMOOTHED = 3


def best_smoothed(scores: Sequence[float]) -> float:
    """Returns the best mean of three scores that follow each other.

    The best of many noisy scores flatters; of fewer than three it is the mean of all.

    >>> best_smoothed([0.0, 90.0, 30.0, 30.0]), best_smoothed([10.0, 20.0])
    (50.0, 15.0)
    """
    width = min(SMOOTHED, len(scores))
    sums = np.convolve(scores, np.ones(width), mode="valid")
    return float(sums.max()) / width


class Tuner:
    """Fine-tunes one initialisation.

    Args:
        trained: Its weights, in a model with the config of the fine-tuning.
        contest: The task.
        seeds: Of the environment's resets.
        prompt_tokens: Longest prompt; 0 for none.
        environments: At a time.
        temperature: Of drawn actions.

    Attributes:
        weights: Those after the last step of the `run` that ended last.
    """

    def __init__(
        self,
        trained: Trained,
        contest: Contest,
        *,
        seeds: range,
        prompt_tokens: int,
        environments: int,
        temperature: float = 0.0,
    ) -> None:
        self._model = trained.model
        # On the host: the first step takes over the buffers that it is given.
        self._params: State = jax.device_get(trained.params)
        self.weights: State = {}
        self._contest = copy.copy(contest)
        self._seeds = seeds
        rows = min(environments, len(seeds))
        self._policy = make_policy(trained, [contest], rows, temperature=temperature)
        # Its simulators start once for all numbers of demonstrations.
        self._arena = Arena([self._contest], self._policy, [prompt_tokens])
        self._mesh = make_mesh({"data": 1, "fsdp": 1, "tensor": 1})
        self._shardings = state_shardings(self._model, self._mesh)
        self._step = jax.jit(
            make_train_step(self._model, 1),
            donate_argnums=0,
            out_shardings=(self._shardings, NamedSharding(self._mesh, P())),
        )

    def close(self) -> None:
        """Ends the environments' processes."""
        self._arena.close()

    def run(
        self,
        dataset: Dataset,
        prompts: tuple[Row, ...],
        evaluate_every: int,
        on_step: Callable[[int, str], None],
        progress: Progress,
    ) -> Iterator[dict[str, Any]]:
        """Yields an evaluation before, every so many steps, and after the last.

        Args:
            dataset: The demonstrations.
            prompts: What the policy is prompted with.
            evaluate_every: Steps between two evaluations.
            on_step: Called with the steps done and what the last one found.
            progress: Gets a bar while episodes are played.

        Raises:
            GatoError: If the loss is no number, or no episode could be played.
        """
        config = self._model.config
        self._contest.control = dataclasses.replace(
            self._contest.control, demonstrations=prompts
        )
        batches = Batches(
            [dataset],
            batch_size=config.data.batch_size,
            seed=config.data.seed,
            groups=config.microbatches,
            threads=config.data.threads,
        )
        ahead = Prefetcher(
            lambda t: put(batches[t], self._mesh, config.microbatches),
            0,
            config.steps,
            config.data.prefetch,
        )
        with contextlib.closing(ahead):
            state = self._initial_state()
            self.weights = {}
            yield self._evaluate(state, 0, None, progress)
            for done in range(1, config.steps + 1):
                batch, _ = ahead.take()
                with jax.set_mesh(self._mesh):
                    state, sums = self._step(state, batch)
                if done % evaluate_every and done != config.steps:
                    on_step(done, "")
                    continue
                loss = float(sums["loss"])
                if not math.isfinite(loss):
                    raise GatoError(
                        f"the loss is {loss} after {done} steps. Lower the rate, as"
                        " with --set optimizer.peak_lr=1e-6."
                    )
                on_step(done, f"loss {loss:.3f}")
                yield self._evaluate(state, done, loss, progress)
            self.weights = state["params"]

    def _initial_state(self) -> State:
        optimizer = make_optimizer(self._model.config)
        state = {
            "params": self._params,
            "optimizer": optimizer.init(self._params),
            "step": jnp.zeros((), jnp.int32),
        }
        return jax.device_put(state, self._shardings)

    def _evaluate(
        self, state: State, done: int, loss: float | None, progress: Progress
    ) -> dict[str, Any]:
        self._policy.take_weights(state["params"])
        episodes = list(watch(self._arena, self._seeds, 1, progress))
        (told,) = Report([self._contest], episodes).as_json({})["tasks"]
        found = {key: told[key] for key in ("score", "success_rate", "crashed")}
        return {"step": done, "loss": loss, **found}

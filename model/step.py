"""The training state and the pure step `(state, batch) -> (state, metrics)`.

The hot loop jits a function of plain arrays: `nnx.jit` cost twice as much a step on a
small model. Losses and weights are summed over the whole batch and divided once.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from gato.model.batch import Batch
from gato.model.config import TrainConfig
from gato.model.loss import (
    add_observation_targets,
    shift_targets,
    sums_by_dataset,
    target_weights,
    token_losses,
)
from gato.model.optimizer import learning_rate, make_optimizer
from gato.model.sharding import BATCH_AXES, constrain, tree_shardings
from gato.model.transformer import Decoder
from gato.schemas.record import Kind

State = dict[str, Any]


class Model:
    """The decoder as functions of a nested dict of parameters.

    Args:
        config: The run's.
        vocabulary_size: Ids are below it.
        sequence_length: L.
    """

    def __init__(
        self, config: TrainConfig, *, vocabulary_size: int, sequence_length: int
    ) -> None:
        self.config = config
        self.vocabulary_size = vocabulary_size
        self.sequence_length = sequence_length
        self._graph, self._abstract = nnx.split(nnx.eval_shape(self._create))

    def _create(self) -> Decoder:
        return Decoder(
            self.config.model,
            vocabulary_size=self.vocabulary_size,
            sequence_length=self.sequence_length,
            rngs=nnx.Rngs(self.config.seed),
        )

    def initial(self) -> State:
        """Returns new parameters."""
        return nnx.to_pure_dict(nnx.state(self._create()))

    def hidden(
        self, params: State, batch: Batch, key: jax.Array | None = None
    ) -> jax.Array:
        """Returns the decoder's vectors [B, L, D]; without a key, of evaluation."""
        return self.decoder(params)(batch, key)

    def decoder(self, params: State) -> Decoder:
        """Returns the module that holds the parameters."""
        state = jax.tree.map(lambda leaf: leaf, self._abstract)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(self._graph, state)

    def losses(
        self, params: State, batch: Batch, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the loss of each prediction and whether it counts, both [B, L].

        Args:
            params: Of `initial`.
            batch: On the device.
            key: Of the step; None for evaluation.
        """
        hidden_BLD = self.hidden(params, batch, key)
        targets_BL, counts_BL = shift_targets(batch)
        table_VD = params["embed"]["table_VD"]
        losses_BL = token_losses(
            hidden_BLD,
            table_VD,
            targets_BL,
            counts_BL,
            self.vocabulary_size,
            groups=batch.patches_GPC.shape[0],
        )
        return losses_BL, counts_BL


def make_train_step(
    model: Model, num_datasets: int
) -> Callable[[State, Batch], tuple[State, dict[str, jax.Array]]]:
    """Returns the pure step; its metrics are sums of this batch, before the update."""
    config = model.config
    optimizer = make_optimizer(config)
    rate = learning_rate(config)

    def train_step(state: State, batch: Batch) -> tuple[State, dict[str, jax.Array]]:
        if config.predict_observations:
            batch = add_observation_targets(batch)
        key = jax.random.fold_in(jax.random.key(config.seed), state["step"])

        def weighted_sum(params: State, part: Batch) -> tuple[jax.Array, State]:
            losses_BL, counts_BL = model.losses(params, part, key)
            weights_BL = target_weights(counts_BL, config.loss_normalization)
            total = (losses_BL * weights_BL).sum()
            return total, {
                "total": total,
                "weight": weights_BL.sum(),
                "loss_sums": sums_by_dataset(losses_BL, part.dataset_B, num_datasets),
                "targets": sums_by_dataset(counts_BL, part.dataset_B, num_datasets),
            }

        def sums_of(part: Batch) -> tuple[State, State]:
            gradient_of = jax.grad(weighted_sum, has_aux=True)
            return gradient_of(state["params"], part)

        gradients, sums = _add_up(sums_of, batch, config.microbatches)
        weight = jnp.maximum(sums["weight"], 1)
        gradients = jax.tree.map(lambda gradient: gradient / weight, gradients)
        updates, optimizer_state = optimizer.update(
            gradients, state["optimizer"], state["params"]
        )
        metrics = {
            "loss": sums["total"] / weight,
            "loss_sums": sums["loss_sums"],
            "targets": sums["targets"],
            "gradient_norm": optax.tree.norm(gradients),
            "learning_rate": rate(state["step"]),
            "patches": (batch.kind_BL == Kind.IMAGE).sum(),
        }
        new_state = {
            "params": optax.apply_updates(state["params"], updates),
            "optimizer": optimizer_state,
            "step": state["step"] + 1,
        }
        return new_state, metrics

    return train_step


def _add_up(
    sums_of: Callable[[Batch], tuple[State, State]], batch: Batch, microbatches: int
) -> tuple[State, State]:
    """Returns the sum of `sums_of` over the parts of a batch, one after the other.

    A part holds one group of rows of each device, so nothing travels.
    """
    if microbatches == 1:
        return sums_of(batch)
    groups = batch.patches_GPC.shape[0]
    devices = groups // microbatches

    def divide(array: jax.Array) -> jax.Array:
        each, *rest = array.shape[0] // groups, *array.shape[1:]
        parts = array.reshape(devices, microbatches, each, *rest).swapaxes(0, 1)
        parts = parts.reshape(microbatches, devices * each, *rest)
        return constrain(parts, None, BATCH_AXES)

    parts = jax.tree.map(divide, batch)
    first = jax.eval_shape(sums_of, jax.tree.map(lambda part: part[0], parts))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), first)

    def add(sums: Any, part: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, sums_of(part)), None

    return jax.lax.scan(add, zeros, parts)[0]


def make_initial_state(model: Model) -> Callable[[], State]:
    """Returns the function that makes the state of step 0."""
    optimizer = make_optimizer(model.config)

    def initial_state() -> State:
        params = model.initial()
        return {
            "params": params,
            "optimizer": optimizer.init(params),
            "step": jnp.zeros((), jnp.int32),
        }

    return initial_state


def state_shardings(model: Model, mesh: Mesh) -> Any:
    """Returns how each array of the state is split over the mesh."""
    return tree_shardings(jax.eval_shape(make_initial_state(model)), mesh)


def jit_train_step(model: Model, mesh: Mesh, num_datasets: int) -> Any:
    """Returns the step as training runs it: on a mesh, the state donated."""
    return jax.jit(
        make_train_step(model, num_datasets),
        donate_argnums=0,
        out_shardings=(state_shardings(model, mesh), NamedSharding(mesh, P())),
    )


def initialize(model: Model, mesh: Mesh) -> State:
    """Returns the state of step 0, made where it belongs and never on one device."""
    make = jax.jit(
        make_initial_state(model), out_shardings=state_shardings(model, mesh)
    )
    return make()

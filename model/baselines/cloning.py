"""Filtered behaviour cloning in BC-IMP's style: one small network a task.

The paper compares with BC-IMP (section 5.4), behaviour cloning on successful episodes
alone. Here: two hidden layers over one timestep's tokens, a categorical over each
action token's own values, cross-entropy, Adam; the weights that were best on held-back
episodes are kept, and the likeliest values played. Shape letters:
    B rows   F features   H hidden   A action tokens   U values of the widest
"""

import dataclasses
import functools
import itertools
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from gato.model.baselines.features import FeatureEncoder, Features
from gato.model.baselines.timesteps import Demonstrations
from gato.schemas.hashing import keyed_hash, threshold
from gato.tokenizers.vocabulary import Vocabulary

Params: TypeAlias = dict[str, jax.Array]
_HELD_BACK = 0.1
# So narrow that neighbours of the value get nothing.
_NO_SPREAD = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class CloningConfig:
    """How a network is trained.

    Attributes:
        steps: Updates.
        batch_size: Timesteps of an update.
        width: H.
        learning_rate: Constant.
        weight_decay: Of AdamW.
        check_every: Updates between looks at the held-back episodes.
        spread: Of a continuous action's target over neighbouring bins, in bins: each
            bin on its own is met too seldom in a few hundred episodes.
        seed: Of weights, batches and of what is held back.
    """

    steps: int = 2000
    batch_size: int = 256
    width: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    check_every: int = 50
    spread: float = 8.0
    seed: int = 0


def _initial(key: jax.Array, sizes: tuple[int, ...]) -> Params:
    params = {}
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        key, own = jax.random.split(key)
        scale = (2 / max(fan_in, 1)) ** 0.5
        params[f"w{layer}"] = scale * jax.random.normal(own, (fan_in, fan_out))
        params[f"b{layer}"] = jnp.zeros((1, fan_out))
    return params


def action_logits(
    params: Params, features: Features, num_values: tuple[int, ...]
) -> jax.Array:
    """Returns [B, A, U]; -inf beyond an action token's own values."""
    rows, num_numbers = features.numbers.shape
    num_hot = len(params["w0"]) - num_numbers
    hot_BF = jnp.zeros((rows, num_hot))
    at = jnp.arange(rows)[:, None]
    hot_BF = hot_BF.at[at, features.hot].set(1.0, mode="drop")
    hidden = jnp.concatenate([hot_BF, jnp.asarray(features.numbers)], axis=1)
    last = len(params) // 2 - 1
    for layer in range(last + 1):
        hidden = hidden @ params[f"w{layer}"] + params[f"b{layer}"]
        if layer < last:
            hidden = jax.nn.relu(hidden)
    widest = max(num_values)
    logits_BAU = hidden.reshape(rows, len(num_values), widest)
    allowed_AU = np.arange(widest)[None] < np.array(num_values)[:, None]
    return jnp.where(allowed_AU[None], logits_BAU, -jnp.inf)


def _loss(
    params: Params,
    features: Features,
    values_BA: jax.Array,
    num_values: tuple[int, ...],
    spread_A: NDArray[np.floating],
) -> jax.Array:
    """Returns the mean cross-entropy of an action token."""
    logits_BAU = action_logits(params, features, num_values)
    is_finite = jnp.isfinite(logits_BAU)
    log_shares = jnp.where(is_finite, jax.nn.log_softmax(logits_BAU), 0.0)
    distance_BAU = jnp.arange(max(num_values))[None, None] - values_BA[..., None]
    wanted = -0.5 * (distance_BAU / spread_A[None, :, None]) ** 2
    return -(jax.nn.softmax(wanted) * log_shares).sum(-1).mean()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cloned:
    """A trained network.

    Attributes:
        params: Its weights.
        encoder: Of its features.
        ranges: int32 [A, 2], as `ControlTask.ranges`.
        episodes: Learnt from or held back.
        timesteps: Likewise.
        losses: Of the held-back timesteps, in nats an action token, at each look; the
            first before any update.
    """

    params: Params
    encoder: FeatureEncoder
    ranges: NDArray[np.int32]
    episodes: int
    timesteps: int
    losses: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """Returns what the result's file holds."""
        return {
            "episodes": self.episodes,
            "timesteps": self.timesteps,
            "losses": self.losses,
        }


def clone(
    demonstrations: Demonstrations,
    ranges: NDArray[np.int32],
    vocabulary: Vocabulary,
    config: CloningConfig,
) -> Cloned:
    """Returns a network that does what was done.

    Args:
        demonstrations: Of one task, at least one timestep.
        ranges: Of its action tokens.
        vocabulary: The build's.
        config: How long and how fast.
    """
    encoder = FeatureEncoder(demonstrations.observations, vocabulary)
    features = encoder.encode(demonstrations.observations)
    values_NA = np.stack(demonstrations.actions) - ranges[:, 0]
    learnt, held = _split(demonstrations.episode, config.seed)
    num_values = tuple((ranges[:, 1] - ranges[:, 0]).tolist())
    outputs = len(num_values) * max(num_values)
    inputs = encoder.num_hot + features.numbers.shape[1]
    sizes = (inputs, config.width, config.width, outputs)
    key, own = jax.random.split(jax.random.key(config.seed))
    params = _initial(own, sizes)
    optimizer = optax.adamw(config.learning_rate, weight_decay=config.weight_decay)
    opened = optimizer.init(params)
    spread_A = np.where(
        ranges[:, 0] == vocabulary.first_continuous, config.spread, _NO_SPREAD
    )
    loss = functools.partial(_loss, num_values=num_values, spread_A=spread_A)
    taken = jax.tree.map(lambda one: jnp.asarray(one[learnt]), (features, values_NA))
    back = jax.tree.map(lambda one: jnp.asarray(one[held]), (features, values_NA))
    held_loss = jax.jit(loss)

    @jax.jit
    def train(params: Params, opened: Any, keys: jax.Array) -> tuple[Params, Any]:
        def update(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
            params, opened = carry
            chosen = jax.random.randint(key, (config.batch_size,), 0, len(learnt))
            batch = jax.tree.map(lambda one: one[chosen], taken)
            gradients = jax.grad(loss)(params, *batch)
            changes, opened = optimizer.update(gradients, opened, params)
            return (optax.apply_updates(params, changes), opened), None

        return jax.lax.scan(update, (params, opened), keys)[0]

    losses = [float(held_loss(params, *back))]
    best = params
    for _ in range(0, config.steps, config.check_every):
        key, own = jax.random.split(key)
        keys = jax.random.split(own, config.check_every)
        params, opened = train(params, opened, keys)
        losses.append(float(held_loss(params, *back)))
        if losses[-1] == min(losses[1:]):
            best = params
    return Cloned(
        params=best,
        encoder=encoder,
        ranges=ranges,
        episodes=demonstrations.episodes,
        timesteps=len(values_NA),
        losses=tuple(losses),
    )


def _split(episodes: list[str], seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Returns the timesteps to learn from, and those of held-back episodes.

    One episode alone is both.
    """
    limit = threshold(_HELD_BACK)
    hashes = {one: keyed_hash(seed, "held_back", one) for one in set(episodes)}
    # Of few episodes none may lie below the limit.
    lowest = min(hashes.values())
    is_held = np.array([hashes[one] <= max(lowest, limit) for one in episodes])
    if is_held.all():
        return np.arange(len(episodes)), np.arange(len(episodes))
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)

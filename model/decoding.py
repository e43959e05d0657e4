"""The policy's programs: read a block, act on it, write text, each jitted once.

Pure functions of weights and memory; shape letters as in `gato.model.cache`, and
    A action tokens of a timestep   U ids that an action token can have   X text tokens
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gato.model.cache import Cache, Slots, distance_vectors, extend
from gato.model.embeddings import PATCH_VALUES
from gato.model.step import Model, State
from gato.schemas.record import Kind
from gato.tokenizers.vocabulary import NUM_BINS, Vocabulary

# Parameters that are read in float32 whatever the dtype of the products.
_FLOAT32_NAMES = ("norm_D", "scale_2C", "shift_2C")


class Weights(NamedTuple):
    """What the programs read.

    Attributes:
        params: In the dtype of their products, which would cast them at every token.
        distance_NLHK: Of `gato.model.cache.distance_vectors`.
    """

    params: State
    distance_NLHK: jax.Array | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoding:
    """How vectors become tokens.

    Attributes:
        model: The decoder; attention reaches `sequence_length` slots.
        vocabulary: The build's.
        max_actions: A.
        temperature: 0 takes the likeliest token, else tokens are drawn.
        seed: Of the draws.
    """

    model: Model
    vocabulary: Vocabulary
    max_actions: int
    temperature: float
    seed: int

    def prepare(self, params: State) -> Weights:
        """Returns the weights to run with, of those that were trained."""
        dtype = jnp.dtype(self.model.config.model.compute_dtype)

        def cast(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
            exact = path[-1].key.endswith(_FLOAT32_NAMES)
            return jnp.asarray(leaf, leaf.dtype if exact else dtype)

        cast_params = jax.tree_util.tree_map_with_path(cast, params)
        decoder = self.model.decoder(cast_params)
        reach = self.model.sequence_length
        return Weights(cast_params, distance_vectors(decoder, reach))

    def read(
        self, weights: Weights, cache: Cache, slots: Slots, hidden_BD: jax.Array
    ) -> tuple[Cache, jax.Array]:
        """Feeds a block; rows that are fed nothing keep their last vector."""
        cache, new_BD = extend(
            self.model.decoder(weights.params),
            cache,
            slots,
            reach=self.model.sequence_length,
            distance_NLHK=weights.distance_NLHK,
        )
        is_fed_B = (slots.kind_BT != Kind.PADDING).any(1)
        return cache, jnp.where(is_fed_B[:, None], new_BD, hidden_BD)

    def act(
        self,
        weights: Weights,
        cache: Cache,
        slots: Slots,
        ranges_BA2: jax.Array,
        counts_B: jax.Array,
    ) -> tuple[Cache, jax.Array]:
        """Feeds the end of an observation with its separator, and makes the actions.

        Each action token but the last is fed before the next is chosen.

        Args:
            weights: Of `prepare`.
            cache: Of the rows; those fed nothing stand still.
            slots: The block.
            ranges_BA2: int32; [low, high) of the ids each token may have.
            counts_B: int32; action tokens of the row's task, at most A.

        Returns:
            The memory and int32 [B, A]; beyond a row's count they mean nothing.
        """
        cache, hidden_BD = self.read(weights, cache, slots, self._no_hidden(slots))
        first_B = self._choose_action(weights, cache, hidden_BD, ranges_BA2[:, 0])

        def body(carry: tuple, scanned: tuple) -> tuple[tuple, jax.Array]:
            cache, hidden_BD, token_B = carry
            number, range_B2 = scanned
            bins_B = token_B >= self.vocabulary.first_continuous
            kind_B = jnp.where(bins_B, Kind.CONTINUOUS_ACTION, Kind.DISCRETE_ACTION)
            kind_B = jnp.where(number < counts_B, kind_B, Kind.PADDING)
            slot = _single(token_B, kind_B)
            cache, hidden_BD = self.read(weights, cache, slot, hidden_BD)
            token_B = self._choose_action(weights, cache, hidden_BD, range_B2)
            return (cache, hidden_BD, token_B), token_B

        numbers = jnp.arange(1, self.max_actions)
        ranges_AB2 = ranges_BA2.swapaxes(0, 1)[1:]
        (cache, _, _), others_AB = jax.lax.scan(
            body, (cache, hidden_BD, first_B), (numbers, ranges_AB2)
        )
        return cache, jnp.concatenate([first_B[None], others_AB]).swapaxes(0, 1)

    def write(
        self,
        weights: Weights,
        cache: Cache,
        hidden_BD: jax.Array,
        going_B: jax.Array,
        max_tokens: int,
    ) -> tuple[Cache, jax.Array, jax.Array]:
        """Writes text until each row's end, or the most.

        Args:
            weights: Of `prepare`.
            cache: Of the rows.
            hidden_BD: Their last vectors.
            going_B: bool; rows that write.
            max_tokens: X.

        Returns:
            The memory, int32 [B, X] text ids, and how many each row wrote before its
            end.
        """
        rows = len(hidden_BD)
        texts_BX = jnp.zeros((rows, max_tokens), jnp.int32)

        def unfinished(carry: tuple) -> jax.Array:
            return carry[2].any() & (carry[5] < max_tokens)

        def body(carry: tuple) -> tuple:
            cache, hidden_BD, going_B, texts_BX, counts_B, number = carry
            table_UD = weights.params["embed"]["table_VD"][: self.vocabulary.text]
            token_B = self._choose(cache, _logits(hidden_BD, table_UD))
            going_B = going_B & (token_B != self.vocabulary.eos)
            texts_BX = texts_BX.at[:, number].set(jnp.where(going_B, token_B, 0))
            kind_B = jnp.where(going_B, Kind.TEXT, Kind.PADDING)
            slot = _single(token_B, kind_B)
            cache, hidden_BD = self.read(weights, cache, slot, hidden_BD)
            counts_B = counts_B + going_B
            return cache, hidden_BD, going_B, texts_BX, counts_B, number + 1

        counts_B = jnp.zeros(rows, jnp.int32)
        start = (cache, hidden_BD, going_B, texts_BX, counts_B, jnp.int32(0))
        cache, _, _, texts_BX, counts_B, _ = jax.lax.while_loop(unfinished, body, start)
        return cache, texts_BX, counts_B

    def _no_hidden(self, slots: Slots) -> jax.Array:
        config = self.model.config.model
        return jnp.zeros((len(slots.tokens_BT), config.width), config.compute_dtype)

    def _choose_action(
        self,
        weights: Weights,
        cache: Cache,
        hidden_BD: jax.Array,
        range_B2: jax.Array,
    ) -> jax.Array:
        """Returns int32 [B] ids within the ranges."""
        # Discrete values and bins only: a sixteenth of the table.
        bins = self.vocabulary.first_continuous
        table_VD = weights.params["embed"]["table_VD"]
        parts = (table_VD[:NUM_BINS], table_VD[bins : bins + NUM_BINS])
        ids_1U = jnp.arange(NUM_BINS)[None]
        ids_1U = jnp.concatenate([ids_1U, bins + ids_1U], axis=1)
        logits_BU = _logits(hidden_BD, jnp.concatenate(parts))
        allowed_BU = (ids_1U >= range_B2[:, :1]) & (ids_1U < range_B2[:, 1:])
        logits_BU = jnp.where(allowed_BU, logits_BU, -jnp.inf)
        return ids_1U[0][self._choose(cache, logits_BU)]

    def _choose(self, cache: Cache, logits_BU: jax.Array) -> jax.Array:
        """Returns int32 [B]: where the likeliest stands, or a drawn one.

        A draw follows from seed, row and the slots fed to the row in its episode: what
        other rows do has no part in it.
        """
        if not self.temperature:
            return jnp.argmax(logits_BU, axis=1).astype(jnp.int32)
        key = jax.random.key(self.seed)

        def draw(row: jax.Array, drawn: jax.Array, logits_U: jax.Array) -> jax.Array:
            own = jax.random.fold_in(jax.random.fold_in(key, row), drawn)
            return jax.random.categorical(own, logits_U / self.temperature)

        rows = jnp.arange(len(logits_BU))
        return jax.vmap(draw)(rows, cache.drawn_B, logits_BU).astype(jnp.int32)


def _logits(hidden_BD: jax.Array, table_UD: jax.Array) -> jax.Array:
    return jnp.einsum(
        "bd,ud->bu", hidden_BD, table_UD, preferred_element_type=jnp.float32
    )


def _single(token_B: jax.Array, kind_B: jax.Array) -> Slots:
    """Returns a block of one slot a row, without a local position."""
    rows = len(token_B)
    return Slots(
        token_B[:, None],
        kind_B[:, None].astype(jnp.uint8),
        jnp.full((rows, 1), -1, jnp.int16),
        jnp.zeros((rows, 0, PATCH_VALUES), jnp.uint8),
        jnp.zeros((rows, 0, 4), jnp.int32),
    )

"""The policy: environments of any tasks in one batch, a control step in one program.

The paper's section 2.5. A row of the batch is one environment (or one image to speak
about). `start` empties its memory and reads a prompt; each `act` reads an observation
and the separator, then makes the action tokens one by one, each with the logits of its
own range only; the last of them is read with the next observation. Rows that are not
named stand still, and so do rows whose task has fewer action tokens than another's.

What a row remembers of an episode longer than itself is one of `MEMORIES`:

    band  Attention reaches the last L slots, as in the paper; prompts are left behind.
    rows  A row that is full is begun anew as a window of training is: the prompt, then
          the episode's newest timesteps, whole ones, in half of what it leaves.

Everything has fixed shapes: blocks of `block` slots, `max_actions` action tokens. So a
policy compiles each of its programs once, whatever the tasks; what is longer than a
block is read block by block.
"""

from collections.abc import Collection, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from gato.model.cache import Slots, empty_cache, forget
from gato.model.decoding import Decoding
from gato.model.embeddings import PATCH_VALUES
from gato.model.prefix import Prefix, join, single
from gato.model.step import Model, State
from gato.schemas.record import Kind
from gato.tokenizers.vocabulary import Vocabulary

Memory = Literal["band", "rows"]
MEMORIES: tuple[Memory, ...] = ("band", "rows")


class Policy:
    """Acts and speaks with one set of weights.

    Args:
        model: The decoder; its `sequence_length` is how far attention reaches.
        params: Its weights.
        vocabulary: The build's.
        rows: Environments at a time.
        block: Slots read at a time; best as long as the longest observation, with
            separator and one action token.
        max_actions: Action tokens of the task that has most.
        images: Whether there are image slots.
        temperature: 0 takes the likeliest token, else tokens are drawn.
        seed: Of the draws; they depend on it, the row, and its number of slots only.
        memory: One of `MEMORIES`.
    """

    def __init__(
        self,
        model: Model,
        params: State,
        vocabulary: Vocabulary,
        *,
        rows: int,
        block: int = 64,
        max_actions: int = 1,
        images: bool = False,
        temperature: float = 0.0,
        seed: int = 0,
        memory: Memory = "band",
    ) -> None:
        self.rows = rows
        self._row_slots = model.sequence_length if memory == "rows" else None
        self._vocabulary = vocabulary
        self._block = block
        self._pool = block if images else 0
        self._max_actions = max_actions
        decoding = Decoding(
            model=model,
            vocabulary=vocabulary,
            max_actions=max_actions,
            temperature=temperature,
            seed=seed,
        )
        config = model.config.model
        self._prepare = jax.jit(decoding.prepare)
        self._weights = self._prepare(params)
        self._cache = empty_cache(config, rows, model.sequence_length, block)
        self._hidden_BD = jnp.zeros((rows, config.width), config.compute_dtype)
        # The last action token of each row, which its next observation follows.
        self._unread: list[Prefix | None] = [None] * rows
        # With `rows`: what stands in each: its prompt, and timesteps whole.
        self._prompts: list[Prefix | None] = [None] * rows
        self._timesteps: list[list[Prefix]] = [[] for _ in range(rows)]
        self._read = jax.jit(decoding.read, donate_argnums=1)
        self._act = jax.jit(decoding.act, donate_argnums=1)
        self._write = jax.jit(decoding.write, donate_argnums=1, static_argnums=4)

    def take_weights(self, params: State) -> None:
        """Acts with other weights of the model from here on; rows are to be started."""
        self._weights = self._prepare(params)

    def start(self, prefixes: Mapping[int, Prefix | None]) -> None:
        """Empties the memory of rows and reads what their sequences begin with.

        Args:
            prefixes: By row; a demonstration, an image and a question, or None.
        """
        for row, prompt in prefixes.items():
            self._unread[row] = None
            self._prompts[row] = prompt
            self._timesteps[row] = []
        self._begin(prefixes)

    def _begin(
        self, prefixes: Mapping[int, Prefix | None], *, same_episode: bool = False
    ) -> None:
        chosen = np.zeros(self.rows, bool)
        chosen[list(prefixes)] = True
        self._cache = forget(
            self._cache, jnp.asarray(chosen), same_episode=same_episode
        )
        self._feed({row: one for row, one in prefixes.items() if one is not None})

    def act(
        self, observations: Mapping[int, tuple[Prefix, NDArray[np.int32]]]
    ) -> dict[int, NDArray[np.int32]]:
        """Returns the action tokens [A] of each row's next step.

        Args:
            observations: By row: the observation's slots, and the ids that each action
                token may have, int32 [A, 2]: [low, high).

        Raises:
            ValueError: If a row has more action tokens than `max_actions`.
        """
        ranges = np.tile(np.array([0, 1], np.int32), (self.rows, self._max_actions, 1))
        counts = np.zeros(self.rows, np.int32)
        separator = single(self._vocabulary.separator, Kind.SEPARATOR)
        seen: dict[int, Prefix] = {}
        for row, (observed, allowed) in observations.items():
            counts[row] = len(allowed)
            if len(allowed) > self._max_actions:
                raise ValueError(
                    f"row {row} has {len(allowed)} action tokens, the policy was made"
                    f" for at most {self._max_actions}; make it with more max_actions."
                )
            ranges[row, : len(allowed)] = allowed
            seen[row] = join([observed, separator])
        self._begin_full_rows(seen, counts)
        reading = {
            row: one if (last := self._unread[row]) is None else join([last, one])
            for row, one in seen.items()
        }
        last = self._feed(reading, all_but_last=True)
        self._cache, tokens_BA = self._act(
            self._weights, self._cache, last, ranges, counts
        )
        chosen = np.asarray(jax.device_get(tokens_BA))
        for row, one in seen.items():
            actions = [self._action(int(token)) for token in chosen[row, : counts[row]]]
            self._unread[row] = actions[-1]
            if self._row_slots is not None:
                self._timesteps[row].append(join([one, *actions]))
        return {row: chosen[row, : counts[row]] for row in observations}

    def _begin_full_rows(
        self, seen: Mapping[int, Prefix], counts: NDArray[np.int32]
    ) -> None:
        """With `rows`: begins anew where a timestep more does not fit."""
        if self._row_slots is None:
            return
        begun: dict[int, Prefix | None] = {}
        for row, one in seen.items():
            prompt = self._prompts[row]
            left = self._row_slots - len(one) - int(counts[row])
            left -= 0 if prompt is None else len(prompt)
            stand = self._timesteps[row]
            if not stand or sum(map(len, stand)) <= left:
                continue
            kept = self._timesteps[row] = _newest(stand, left)
            parts = [*([] if prompt is None else [prompt]), *kept]
            begun[row] = join(parts) if parts else None
            self._unread[row] = None
        if begun:
            self._begin(begun, same_episode=True)

    def write(
        self, rows: Collection[int], max_tokens: int
    ) -> dict[int, NDArray[np.int32]]:
        """Returns the text ids that follow what each row was started with.

        Args:
            rows: Started with an image, a text, or both.
            max_tokens: Of each text; it stops before eos, if that comes first.
        """
        chosen = np.zeros(self.rows, bool)
        chosen[list(rows)] = True
        self._cache, tokens_BX, counts_B = self._write(
            self._weights, self._cache, self._hidden_BD, chosen, max_tokens
        )
        tokens, counts = jax.device_get((tokens_BX, counts_B))
        return {row: np.asarray(tokens[row, : counts[row]]) for row in rows}

    def _action(self, token: int) -> Prefix:
        is_bin = token >= self._vocabulary.first_continuous
        return single(token, Kind.CONTINUOUS_ACTION if is_bin else Kind.DISCRETE_ACTION)

    def _feed(
        self, prefixes: Mapping[int, Prefix], *, all_but_last: bool = False
    ) -> Slots:
        """Reads slots block by block; returns the last block, which may stay unread."""
        size = self._block
        blocks = max([-(-len(one) // size) for one in prefixes.values()], default=0)
        block = self._slots({})
        for ahead in range(blocks - 1, -1, -1):
            # Counted from the end, so that every row ends in the last block.
            parts = {
                row: one.part(
                    max(0, len(one) - (ahead + 1) * size),
                    max(0, len(one) - ahead * size),
                )
                for row, one in prefixes.items()
            }
            block = self._slots(parts)
            if ahead or not all_but_last:
                self._cache, self._hidden_BD = self._read(
                    self._weights, self._cache, block, self._hidden_BD
                )
        return block

    def _slots(self, parts: Mapping[int, Prefix]) -> Slots:
        """Returns one block on the host; rows without a part are padding."""
        shape = (self.rows, self._block)
        slots = Slots(
            np.zeros(shape, np.int32),
            np.zeros(shape, np.uint8),
            np.full(shape, -1, np.int16),
            np.zeros((self.rows, self._pool, PATCH_VALUES), np.uint8),
            np.tile(np.array([0, 0, 1, 1], np.int32), (self.rows, self._pool, 1)),
        )
        for row, part in parts.items():
            if len(part.patches) > self._pool:
                raise ValueError(
                    f"row {row} has image slots; make the policy with images=True."
                )
            values = (
                *(part.tokens, part.kind, part.local_position),
                *(part.patches, part.patch_grid),
            )
            for array, value in zip(slots, values, strict=True):
                array[row, : len(value)] = value
        return slots


def _newest(timesteps: list[Prefix], slots: int) -> list[Prefix]:
    """Returns the last timesteps that fit, no more than it takes to fill half."""
    kept = used = 0
    while kept < len(timesteps) and 2 * used < slots:
        used += len(timesteps[-1 - kept])
        if used > slots:
            break
        kept += 1
    return timesteps[len(timesteps) - kept :]

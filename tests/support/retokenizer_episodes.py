"""Reads episodes with the formats' own libraries and tokenizes them plainly.

Part of the independent re-tokenizer: imports nothing of ours. What the contracts leave
to the implementation (resizing) raises NotImplementedError here.
"""

import fnmatch
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import minari
import numpy as np
import retokenizer_values as values
from gymnasium import spaces
from numpy.typing import NDArray
from retokenizer_items import (
    Bad,
    Item,
    Tokens,
    Vocabulary,
    flatten,
    image_slots,
    matches,
)


def _flat(prefix: str, tree: Any) -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {prefix or "value": tree}
    flat = {}
    for key, subtree in tree.items():
        flat |= _flat(f"{prefix}/{key}" if prefix else key, subtree)
    return flat


def _flatten_space(prefix: str, space: Any) -> dict[str, Any]:
    if not isinstance(space, spaces.Dict):
        return {prefix or "value": space}
    flat = {}
    for key, subspace in space.spaces.items():
        flat |= _flatten_space(f"{prefix}/{key}" if prefix else key, subspace)
    return flat


def _observation_kind(column: Any, override: str | None) -> str:
    if override:
        return override
    if isinstance(column[0], (str, bytes)):
        return "text"
    array = np.asarray(column)
    is_u8 = array.dtype == np.uint8 and array.ndim == 4
    if is_u8 and array.shape[3] in (1, 3, 4) and min(array.shape[1:3]) >= 16:
        return "image"
    return "continuous" if array.dtype.kind == "f" else "discrete"


def _discrete(column: NDArray[Any]) -> NDArray[np.int64]:
    if ((column < 0) | (column >= 1024)).any():
        raise Bad("discrete_out_of_range")
    return column.astype(np.int64)


def _finite(column: NDArray[Any]) -> NDArray[np.float64]:
    column = column.astype(np.float64)
    if not np.isfinite(column).all():
        raise Bad("nonfinite")
    return column


def _bounds(space: Any, rule: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Bounds [A] that map to [-1, 1]; those of no scaling are -1 and 1."""
    if isinstance(rule, (list, tuple)):
        return np.array(rule[0], float), np.array(rule[1], float)
    low, high = (np.asarray(b, np.float64).ravel() for b in (space.low, space.high))
    is_finite = np.isfinite(low).all() and np.isfinite(high).all()
    if rule == "space" or (rule == "auto" and is_finite):
        return low, high
    return np.full(low.shape, -1.0), np.full(low.shape, 1.0)


class EpisodeTokenizer:
    """Tokenizes raw episodes of one data set."""

    def __init__(
        self, config: Mapping[str, Any], dataset: Mapping[str, Any], vocab: Vocabulary
    ) -> None:
        self.config, self.dataset, self.vocab = config, dataset, vocab
        if dataset["image"]["resize"] or dataset["image"]["max_patches"]:
            raise NotImplementedError("resized control images cannot be predicted")

    def _wanted(self, key: str) -> bool:
        rule = self.dataset["observations"]
        included = any(fnmatch.fnmatchcase(key, p) for p in rule["include"])
        return included and not any(
            fnmatch.fnmatchcase(key, p) for p in rule["exclude"]
        )

    def _observations(self, tree: Any, steps: int) -> Iterator[tuple[Any, int, list]]:
        """Yields (signature, kind, T pieces) of each item, in order."""
        for key, column in sorted(_flat("", tree).items()):
            if not self._wanted(key):
                continue
            kind = _observation_kind(
                column, self.dataset["observations"]["kinds"].get(key)
            )
            column = column[:steps]
            if kind == "text":
                yield (
                    (key, kind, ()),
                    values.TEXT,
                    [self.vocab.encode(text) for text in column],
                )
                continue
            column = np.asarray(column)
            signature = (key, kind, column.shape[1:])
            if kind == "image":
                pieces = [values.pad_image(pixels) for pixels in column]
                yield signature, values.IMAGE, pieces
            elif kind == "discrete":
                flat = _discrete(column).reshape(steps, -1)
                yield signature, values.DISCRETE, list(flat)
            else:
                bins = values.observation_bins(_finite(column)).reshape(steps, -1)
                yield signature, values.CONTINUOUS, list(self.vocab.text + bins)

    def _actions(
        self, tree: Any, space: Any, steps: int
    ) -> Iterator[tuple[Any, int, list]]:
        flat_spaces = _flatten_space("", space)
        for key, column in sorted(_flat("", tree).items()):
            column = np.asarray(column)
            flat = column.reshape(steps, -1)
            if column.dtype.kind != "f":
                signature = (key, "discrete", column.shape[1:])
                yield signature, values.DISCRETE_ACTION, list(_discrete(flat))
                continue
            rule = self.dataset["actions"]
            low, high = _bounds(flat_spaces[key], rule["scale"])
            bins = values.action_bins(_finite(flat), low, high, rule["clip"])
            if bins is None:
                raise Bad("action_out_of_range")
            signature = (key, column.shape[1:], low.tolist(), high.tolist())
            yield signature, values.CONTINUOUS_ACTION, list(self.vocab.text + bins)

    def tokenize(
        self, observations: Any, actions: Any, action_space: Any, steps: int
    ) -> tuple[Any, Tokens]:
        """Returns (signature of the spec, all slots of the episode).

        Raises:
            Bad: If it is to be quarantined.
        """
        if steps == 0:
            raise Bad("empty")
        seen = list(self._observations(observations, steps))
        done = list(self._actions(actions, action_space, steps))
        mask_text = self.config["loss"]["text_observations"]
        columns: tuple[list[int], ...] = ([], [], [], [])
        lengths, images = [], []
        for t in range(steps):
            start = len(columns[0])
            pieces = [(kind, column[t]) for _, kind, column in seen]
            images += image_slots(pieces, start)
            tokens, kinds, mask = flatten(pieces, mask_text)
            local = list(range(len(tokens)))
            acts = flatten([(kind, column[t]) for _, kind, column in done], True)
            step = (
                [*tokens, self.vocab.separator, *acts[0]],
                [*kinds, values.SEPARATOR, *acts[1]],
                [*mask, 0, *acts[2]],
                [*local, -1, *([-1] * len(acts[0]))],
            )
            for column, part in zip(columns, step, strict=True):
                column.extend(part)
            lengths.append(len(step[0]))
        if max(lengths) > self.config["sequence_length"]:
            raise Bad("too_long")
        tokens, kind, mask, local = (np.array(c, np.int64) for c in columns)
        signature = [s for s, _, _ in seen], [s for s, _, _ in done]
        return signature, Tokens(
            tokens=tokens,
            kind=kind,
            mask=mask,
            local=local,
            steps=lengths,
            images=images,
        )


def minari_episodes(
    folder: pathlib.Path,
    config: Mapping[str, Any],
    dataset: Mapping[str, Any],
    vocab: Vocabulary,
) -> Iterator[Item]:
    """Yields every episode of the data set's Minari folders."""
    tokenizer = EpisodeTokenizer(config, dataset, vocab)
    for path in matches(folder, dataset):
        if path.name == "namespace_metadata.json":  # Minari's own, beside data sets
            continue
        stored = minari.MinariDataset(path / "data")
        task = dataset["task"] or (
            stored.env_spec.id if stored.env_spec else stored.id.rsplit("/", 1)[0]
        )
        agent = dataset["agent"] or stored.id
        success_key = dataset["filter"]["success_key"] or "success"
        for number, episode in enumerate(stored):
            item = Item(
                f"{stored.id}/{number}", (agent, str(path), number), task, agent
            )
            rewards = np.asarray(episode.rewards, np.float64)
            item.total = math.fsum(rewards.tolist())
            if success_key in (episode.infos or {}):
                item.success = bool(np.any(episode.infos[success_key]))
            try:
                if not np.isfinite(rewards).all():
                    raise Bad("nonfinite")
                item.signature, item.content = tokenizer.tokenize(
                    episode.observations,
                    episode.actions,
                    stored.action_space,
                    len(rewards),
                )
            except Bad as bad:
                item.reason = str(bad)
            yield item

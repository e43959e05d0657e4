"""Validation: losses by kind, against what a model without observations could reach.

A loss that falls shows little: action tokens are few and uneven. So beside the action
loss stand the unigram entropy of the same tokens (what the best constant guess costs)
and the loss of the same weights when each timestep is shown another timestep's
observation. Below both, the model reads its observations. Where windows follow a
prompt, their action loss stands beside that of the same windows without it: what the
prompt is worth.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from numpy.typing import NDArray

from gato.model.batch import Batch
from gato.model.data import put
from gato.model.step import Model, State
from gato.schemas.record import Kind

_ACTIONS = (Kind.DISCRETE_ACTION, Kind.CONTINUOUS_ACTION)
# What `validate` sums, in this order.
_LOSSES = (
    "action_loss",
    "action_loss_permuted",
    "prompted_loss",
    "prompted_loss_hidden",
    "text_loss",
)


def permute_observations(batch: Batch, seed: int = 0) -> Batch:
    """Returns the batch with the observations of like timesteps exchanged.

    Timesteps are alike if they are of one data set and their observations have the same
    kinds slot by slot. Ids and patches move; kinds, masks, positions and actions stay.

    Args:
        batch: On the host.
        seed: Of the permutation.
    """
    tokens = batch.tokens_BL.ravel().copy()
    kinds, local = batch.kind_BL.ravel(), batch.local_position_BL.ravel()
    starts = np.flatnonzero(local == 0)
    ends_at = np.flatnonzero(np.append(local < 0, True))
    lengths = ends_at[np.searchsorted(ends_at, starts)] - starts
    dataset = np.repeat(batch.dataset_B, batch.tokens_BL.shape[1])[starts]
    alike: dict[tuple[int, bytes], list[int]] = {}
    for start, length, source in zip(
        starts.tolist(), lengths.tolist(), dataset.tolist(), strict=True
    ):
        layout = kinds[start : start + length].tobytes()
        alike.setdefault((source, layout), []).append(start)
    generator = np.random.default_rng(seed)
    patches, index = _patch_index(batch)
    new_patches = patches.copy()
    for (_, layout), members in alike.items():
        old = np.array(members)
        new = old[_derangement(len(old), generator)]
        slots = np.arange(len(layout))[None, :]
        into, out_of = old[:, None] + slots, new[:, None] + slots
        tokens[into] = batch.tokens_BL.ravel()[out_of]
        image = np.frombuffer(layout, np.uint8) == Kind.IMAGE
        if image.any():
            new_patches[index[into[:, image]]] = patches[index[out_of[:, image]]]
    return batch._replace(
        tokens_BL=tokens.reshape(batch.tokens_BL.shape),
        patches_GPC=new_patches.reshape(batch.patches_GPC.shape),
    )


def hide_prompts(batch: Batch, in_prompts_BL: NDArray[np.bool_]) -> Batch:
    """Returns the batch with prompts apart, so that what follows one does not see it.

    Args:
        batch: On the host.
        in_prompts_BL: Which slots are a prompt's.
    """
    return batch._replace(
        # Images keep their slots, as pools are in slot order.
        segment_BL=np.where(in_prompts_BL, 0, batch.segment_BL).astype(np.uint8),
        loss_mask_BL=np.where(in_prompts_BL, 0, batch.loss_mask_BL).astype(np.uint8),
    )


def after_prompts(batch: Batch, in_prompts_BL: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns the slots [B, L] of windows that follow a prompt, without the prompts."""
    rows_B1 = np.arange(len(batch.segment_BL))[:, None]
    segments_BL = rows_B1 * 256 + batch.segment_BL  # A row has at most 255.
    prompted = np.unique(segments_BL[in_prompts_BL])
    return np.isin(segments_BL, prompted) & ~in_prompts_BL


def _derangement(count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Returns a random permutation without fixed points, where count > 1."""
    cycle = generator.permutation(count)
    permutation = np.empty(count, np.int64)
    permutation[cycle] = np.roll(cycle, 1)
    return permutation


def _patch_index(batch: Batch) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Returns all pools [G * P, 768], and each slot's place in them (if an image)."""
    groups, size, values = batch.patches_GPC.shape
    is_image = (batch.kind_BL == Kind.IMAGE).reshape(groups, -1)
    within = np.cumsum(is_image, axis=1) - 1 + size * np.arange(groups)[:, None]
    return batch.patches_GPC.reshape(-1, values), within.ravel()


def unigram_entropy(counts: NDArray[np.integer]) -> float:
    """Returns the entropy, in nats, of ids that occur so often.

    >>> round(unigram_entropy(np.array([1, 1])), 4)
    0.6931
    """
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def make_evaluate(
    model: Model, mesh: Mesh
) -> Callable[[State, Batch], tuple[NDArray[np.floating], NDArray[np.bool_]]]:
    """Returns (params, host batch) -> losses and counts [B, L], at the target slots."""
    # Every host gets the figures of all rows, to sum them alike.
    losses_of = jax.jit(model.losses, out_shardings=NamedSharding(mesh, P()))

    def evaluate(
        params: State, batch: Batch
    ) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        losses, counts = jax.device_get(losses_of(params, put(batch, mesh)))
        # A prediction stands one slot before its target.
        return np.roll(losses, 1, axis=1), np.roll(counts, 1, axis=1)

    return evaluate


def validate(
    evaluate: Callable[[State, Batch], tuple[NDArray, NDArray]],
    params: State,
    batches: Iterable[tuple[Batch, NDArray[np.bool_]]],
    names: list[str],
    vocabulary_size: int,
) -> dict[str, Any]:
    """Returns the validation figures, in nats a target.

    Args:
        evaluate: Of `make_evaluate`.
        params: The weights.
        batches: On the host, each with which of its slots are a prompt's.
        names: Of the data sets.
        vocabulary_size: Ids are below it.

    Returns:
        `action_loss`, `action_loss_permuted`, `action_unigram_entropy`,
        `action_targets`, `prompted_loss`, `prompted_loss_hidden` (of the actions after
        prompts, and of the same without these), `prompted_targets`, `text_loss`,
        `text_targets` (null where there are no such targets) and under `datasets` the
        same for each data set that has any.
    """
    sums = np.zeros((len(names), len(_LOSSES)))
    targets = np.zeros((len(names), len(_LOSSES)), np.int64)
    counts = np.zeros((len(names), vocabulary_size), np.int64)
    for batch, in_prompts in batches:
        losses, is_target = evaluate(params, batch)
        action = np.isin(batch.kind_BL, _ACTIONS) & is_target
        text = (batch.kind_BL == Kind.TEXT) & is_target
        prompted = action & after_prompts(batch, in_prompts)
        permuted, hidden = np.zeros_like(losses), np.zeros_like(losses)
        if action.any():
            permuted, _ = evaluate(params, permute_observations(batch))
        if prompted.any():
            hidden, _ = evaluate(params, hide_prompts(batch, in_prompts))
        measured = (
            (losses, action),
            (permuted, action),
            (losses, prompted),
            (hidden, prompted),
            (losses, text),
        )
        for index in np.unique(batch.dataset_B[batch.dataset_B >= 0]):
            mine = (batch.dataset_B == index)[:, None]
            for column, (values, chosen) in enumerate(measured):
                sums[index, column] += values[chosen & mine].sum(dtype=np.float64)
                targets[index, column] += (chosen & mine).sum()
            counts[index] += np.bincount(
                batch.tokens_BL[action & mine], minlength=vocabulary_size
            )
    figures = _figures(sums.sum(0), targets.sum(0), counts.sum(0))
    figures["datasets"] = {
        name: _figures(sums[index], targets[index], counts[index])
        for index, name in enumerate(names)
        if targets[index].any()
    }
    return figures


def _figures(
    sums: NDArray[np.floating],
    targets: NDArray[np.integer],
    counts: NDArray[np.integer],
) -> dict[str, Any]:
    means = {
        name: float(total) / int(number) if number else None
        for name, total, number in zip(_LOSSES, sums, targets, strict=True)
    }
    actions, _, prompted, _, text = targets.tolist()
    return {
        **means,
        "action_unigram_entropy": unigram_entropy(counts) if actions else None,
        "action_targets": actions,
        "prompted_targets": prompted,
        "text_targets": text,
    }


def summary(figures: dict[str, Any]) -> list[str]:
    """Returns the lines to print of `validate`'s figures, then each data set's."""
    if not figures["action_targets"] and not figures["text_targets"]:
        return ["the validation shards hold no targets"]
    lines = [f"validation {line}" for line in _lines(figures)]
    if len(figures["datasets"]) > 1:
        for name, its_own in figures["datasets"].items():
            lines += [f"  {name}: {line}" for line in _lines(its_own)]
    return lines


def _lines(figures: dict[str, Any]) -> list[str]:
    lines = []
    if figures["action_targets"]:
        lines.append(
            f"action loss {figures['action_loss']:.4f} nats; unigram entropy"
            f" {figures['action_unigram_entropy']:.4f}; with permuted observations"
            f" {figures['action_loss_permuted']:.4f}"
        )
    if figures["prompted_targets"]:
        lines.append(
            f"action loss after prompts {figures['prompted_loss']:.4f} nats; the same"
            f" without them {figures['prompted_loss_hidden']:.4f}"
        )
    if figures["text_targets"]:
        lines.append(f"text loss {figures['text_loss']:.4f} nats")
    return lines

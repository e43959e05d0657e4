"""The decoder and its loss written slowly, slot by slot, from the specification.

Plain NumPy and loops; nothing of gato.model but the names of the parameters.
"""

import math
from typing import Any

import numpy as np


def _norm(x, scale):
    return x / math.sqrt(np.mean(x * x) + 1e-6) * scale


def _gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _turn(vector, position):
    half = len(vector) // 2
    out = np.empty_like(vector)
    for i in range(half):
        angle = position * 10_000 ** (-i / half)
        a, b = vector[i], vector[i + half]
        out[i] = a * math.cos(angle) - b * math.sin(angle)
        out[i + half] = b * math.cos(angle) + a * math.sin(angle)
    return out


def _patch_position(index, count):
    low = math.floor(128 * index / count + 0.5)
    high = max(math.floor(128 * (index + 1) / count + 0.5), low + 1)
    return min(round((low + high) / 2), 127)


def _embed(params, batch, row):
    embed = params["embed"]
    patch = int(np.count_nonzero(batch.kind_BL[:row] == 2))
    out = []
    for slot, kind in enumerate(batch.kind_BL[row]):
        if kind == 0:
            x = np.zeros_like(embed["action_D"])
        elif kind == 2:
            pixels = (batch.patches_GPC[0, patch] / 255 * 2 - 1) / 4
            i, j, rows, columns = batch.patch_grid_GP4[0, patch]
            x = pixels @ embed["patches"]["pixels"]["project_CD"]
            x = x + embed["patches"]["rows_QD"][_patch_position(i, rows)]
            x = x + embed["patches"]["columns_QD"][_patch_position(j, columns)]
            patch += 1
        else:
            x = embed["table_VD"][batch.tokens_BL[row, slot]]
        local = batch.local_position_BL[row, slot]
        if local >= 0:
            x = x + embed["local_QD"][local]
        if kind in (6, 7):
            x = x + embed["action_D"]
        out.append(x)
    return out


def _sinusoid(distance, width):
    angles = [distance * 10_000 ** (-i / (width // 2)) for i in range(width // 2)]
    return np.array([math.sin(a) for a in angles] + [math.cos(a) for a in angles])


def _score(weights, head, query, key, distance, positions):
    """A key's score for a query, before the scale."""
    if positions != "xl":
        return query @ key
    place = _sinusoid(distance, len(weights["distance_DHK"]))
    place = place @ weights["distance_DHK"][:, head]
    content = (query + weights["content_bias_HK"][head]) @ key
    return content + (query + weights["distance_bias_HK"][head]) @ place


def _attention(weights, xs, segments, places, positions, reach):
    normed = [_norm(x, weights["attention_norm_D"]) for x in xs]
    changes = []
    for slot in range(len(xs)):
        total = np.zeros_like(xs[0])
        for head in range(weights["query_DHK"].shape[1]):

            def project(name, at, head=head):
                vector = normed[at] @ weights[name][:, head]
                turned = positions == "rope" and name != "value_DHK"
                return _turn(vector, places[at]) if turned else vector

            query = project("query_DHK", slot)
            first = max(0, slot + 1 - reach)
            seen = [s for s in range(first, slot + 1) if segments[s] == segments[slot]]
            scores = np.array(
                [
                    _score(
                        *(weights, head, query, project("key_DHK", s)),
                        *(slot - s, positions),
                    )
                    for s in seen
                ]
            )
            scores = scores / len(query) ** 0.5
            exponentials = np.exp(scores - scores.max())
            shares = exponentials / exponentials.sum()
            mixed = sum(
                share * project("value_DHK", s)
                for share, s in zip(shares, seen, strict=True)
            )
            total = total + mixed @ weights["output_HKD"][head]
        changes.append(total)
    return changes


def reference_losses(params, batch, vocabulary_size, *, positions="rope", reach=None):
    """Returns [rows, slots]: the loss of each slot that is a target, else 0.

    With `reach`, every layer's attention goes no further back than so many slots, the
    own one included, and learned positions end there.
    """
    params = _as_float64(params)
    reach = batch.tokens_BL.shape[1] if reach is None else reach
    losses = np.zeros(batch.tokens_BL.shape)
    for row in range(len(losses)):
        segments = batch.segment_BL[row].tolist()
        place = [slot - segments.index(s) for slot, s in enumerate(segments)]
        xs = _embed(params, batch, row)
        if positions == "learned":
            rows = [params["positions_LD"][min(p, reach - 1)] for p in place]
            xs = [x + added for x, added in zip(xs, rows, strict=True)]
        blocks = params["blocks"]
        for layer in range(len(blocks["down_FD"])):
            weights = {name: value[layer] for name, value in blocks.items()}
            changes = _attention(weights, xs, segments, place, positions, reach)
            xs = [x + change for x, change in zip(xs, changes, strict=True)]
            for slot, x in enumerate(xs):
                normed = _norm(x, weights["feed_forward_norm_D"])
                gate = _gelu(normed @ weights["gated_D2F"][:, 0])
                linear = normed @ weights["gated_D2F"][:, 1]
                xs[slot] = x + (gate * linear) @ weights["down_FD"]
        for slot in range(1, len(xs)):
            if not batch.loss_mask_BL[row, slot]:
                continue
            if segments[slot] == 0 or segments[slot] != segments[slot - 1]:
                continue
            hidden = _norm(xs[slot - 1], params["final_norm_D"])
            logits = params["embed"]["table_VD"][:vocabulary_size] @ hidden
            peak = logits.max()
            total = peak + math.log(np.exp(logits - peak).sum())
            losses[row, slot] = total - logits[batch.tokens_BL[row, slot]]
    return losses


def _as_float64(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _as_float64(value) for name, value in tree.items()}
    return np.asarray(tree, np.float64)

"""AdamW and its schedule (the paper's section 2.3 and appendix E)."""

from typing import Any

import jax
import optax

from gato.model.config import TrainConfig

# Norm scales, shifts and single vectors, which weight decay would only pull to zero.
_UNDECAYED = ("norm_D", "action_D", "bias_HK", "scale_2C", "shift_2C")


def learning_rate(config: TrainConfig) -> optax.Schedule:
    """Returns step -> rate: linear warm-up, cosine to a share of the peak, constant."""
    optimizer = config.optimizer
    warmup, decay = config.warmup_steps, config.decay_steps
    return optax.join_schedules(
        [
            optax.linear_schedule(optimizer.first_lr, optimizer.peak_lr, warmup),
            optax.cosine_decay_schedule(
                optimizer.peak_lr, decay - warmup, alpha=optimizer.final_fraction
            ),
        ],
        [warmup],
    )


def _is_decayed(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not str(path[-1].key).endswith(_UNDECAYED), params
    )


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Returns AdamW over a nested dict of parameters."""
    optimizer = config.optimizer
    return optax.adamw(
        learning_rate(config),
        b1=optimizer.b1,
        b2=optimizer.b2,
        eps=optimizer.eps,
        weight_decay=optimizer.weight_decay,
        mask=_is_decayed,
    )

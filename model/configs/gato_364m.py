"""The middle size of "A Generalist Agent" (Reed et al. 2022), appendix C, table 5.

Paper: 364M parameters, batch 512, 1,000,000 steps.
Here: 365.3M parameters with the vocabulary of 33,025 (336.9M with `rope`), as
`--describe` prints; neither time nor score has been measured.

    gato-train --shards 'gs://bucket/build/*/train-*.tfrecord' --model 364m \
        --mesh data=256,fsdp=2,tensor=1 --checkpoint_dir runs/364m
"""

from gato.model.config import ModelConfig, OptimizerConfig, TrainConfig


def get_config() -> TrainConfig:
    """Returns the preset."""
    return TrainConfig(
        name="364m",
        model=ModelConfig(
            width=1536,
            blocks=12,
            heads=12,
            head_size=128,
            feed_forward=6144,
        ),
        optimizer=OptimizerConfig(peak_lr=2e-4),
    )

"""Gato itself of "A Generalist Agent" (Reed et al. 2022), appendix C, table 5.

Paper: 1.18B parameters, batch 512, 1,000,000 steps, about 4 days on a TPU v3
slice of 16x16.
Here: 1179.1M parameters with the vocabulary of 33,025 (1078.4M with `rope`), as
`--describe` prints; neither time nor score has been measured.

    gato-train --shards 'gs://bucket/build/*/train-*.tfrecord' --model 1.18b \
        --mesh data=32,fsdp=16,tensor=1 --checkpoint_dir runs/1.18b
"""

from gato.model.config import ModelConfig, OptimizerConfig, TrainConfig


def get_config() -> TrainConfig:
    """Returns the preset."""
    return TrainConfig(
        name="1.18b",
        model=ModelConfig(
            width=2048,
            blocks=24,
            heads=16,
            head_size=128,
            feed_forward=8192,
        ),
        optimizer=OptimizerConfig(peak_lr=1e-4),
    )

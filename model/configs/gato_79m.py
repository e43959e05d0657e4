"""The small size of "A Generalist Agent" (Reed et al. 2022), appendix C, table 5.

Paper: 79M parameters, batch 512, 1,000,000 steps.
Here: 78.8M parameters with the vocabulary of 33,025 (74.1M with `rope`), as
`--describe` prints; neither time nor score has been measured.

    gato-train --shards 'gs://bucket/build/*/train-*.tfrecord' --model 79m \
        --mesh data=512,fsdp=1,tensor=1 --checkpoint_dir runs/79m
"""

from gato.model.config import ModelConfig, OptimizerConfig, TrainConfig


def get_config() -> TrainConfig:
    """Returns the preset."""
    return TrainConfig(
        name="79m",
        model=ModelConfig(
            width=768,
            blocks=8,
            heads=24,
            head_size=32,
            feed_forward=3072,
        ),
        optimizer=OptimizerConfig(peak_lr=1e-4),
    )

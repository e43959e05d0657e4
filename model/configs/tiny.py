"""A Gato for laptops and tests: 1.2M parameters beside the token table.

Not of the paper. Two CPU cores; a few hundred steps of batch 8 in minutes. Patches are
embedded by one matrix: the paper's residual block costs more than the whole decoder at
this width.

    gato-train --shards 'build/*/train-*.tfrecord' --model tiny --steps 300 \
        --batch_size 8 --checkpoint_dir runs/tiny
"""

from gato.model.config import DataConfig, ModelConfig, OptimizerConfig, TrainConfig


def get_config() -> TrainConfig:
    """Returns the preset; its schedule follows the number of steps."""
    return TrainConfig(
        name="tiny",
        model=ModelConfig(
            width=128,
            blocks=4,
            heads=4,
            head_size=32,
            feed_forward=1024,
            positions="rope",
            patch_embedder="linear",
            stochastic_depth=0.0,
            compute_dtype="float32",
        ),
        optimizer=OptimizerConfig(peak_lr=1e-3, warmup_steps=None, decay_steps=None),
        data=DataConfig(batch_size=8, threads=2),
        steps=1000,
    )

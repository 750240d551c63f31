"""One small run for all tests that need any: what it compiles, another worker or the next file finds in the cache."""

import dataclasses
from pathlib import Path
from typing import Any

from heimdall_jax import config as configs
from heimdall_jax.config import Config, DataConfig, ModelConfig, TrackingConfig, TrainingConfig

SMALL = ModelConfig(name="receiver_set", width=16, depth=1, heads=2)
TRAINING = TrainingConfig(epochs=6, batch_size=16, learning_rate=3e-3)
QUIET = TrackingConfig(enabled=False)


def small_config(folder: Path, *, split: str = "random", **changes: Any) -> Config:
    """Of `powder_like` data in `folder`, of 160 rows unless another program will do."""
    return dataclasses.replace(
        configs.POWDER,
        data=DataConfig(source="powder", path=str(folder), split=split),
        model=SMALL,
        training=TRAINING,
        augmentation=dataclasses.replace(configs.POWDER.augmentation, simulated=0.5),
        **({"tracking": QUIET} | changes),
    )

"""A small training loop: a network, data and effects in memory, and batches that a test may spoil."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import jax
import numpy as np
from flax import nnx

from heimdall_jax.config import AugmentationConfig, ModelConfig, TrainingConfig
from heimdall_jax.models.build import build, input_names
from heimdall_jax.tracking.trackers import Log
from heimdall_jax.training.batches import evaluation_batches, iterate, training_batches
from heimdall_jax.training.checkpoints import Checkpoints
from heimdall_jax.training.dataset import HeimdallDataset, fit_domain
from heimdall_jax.training.loop import Loop
from heimdall_jax.training.spikes import Progress
from heimdall_jax.training.step import Trainer
from heimdall_jax.types import Sample
from tests.training.conftest import ORIGIN, RECEIVERS

MODEL = ModelConfig(name="receiver_set", width=16, depth=1, heads=2, dropout=0.2, identity_dropout=0.3)
TRAINING = TrainingConfig(batch_size=16, learning_rate=3e-3, patience=50, checkpoint_seconds=1e9, ema_decay=0.9)
AUGMENTATION = AugmentationConfig(receiver_dropout=0.2, noise_db=1.0)
STEPS = 24


@dataclass
class Silent:
    """Remembers what it was shown."""

    shown: list[int] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)
    back: list[tuple[int, int, str]] = field(default_factory=list)

    def update(self, step: int, total: int, metrics: dict[str, float]) -> None:
        assert total >= step
        assert metrics["train/loss"] == metrics["train/loss"]
        self.shown.append(step)

    def validated(self, step: int, metrics: dict[str, float]) -> None:
        assert metrics["loss"] == metrics["loss"]
        self.evaluated.append(step)

    def rolled_back(self, step: int, to: int, why: str) -> None:
        self.back.append((step, to, why))


def make_trainer(data: HeimdallDataset, training: TrainingConfig = TRAINING, seed: int = 3) -> Trainer:
    model = build(MODEL, fit_domain(data, ORIGIN, RECEIVERS), nnx.Rngs(0))
    return Trainer(model, training, total_steps=STEPS, seed=seed, inputs=input_names(MODEL))


def make_loop(
    trainer: Trainer,
    data: HeimdallDataset,
    checkpoints: Checkpoints,
    tracker: Log,
    *,
    progress: Progress | None = None,
    spoil: Callable[[int, Sample], Sample] = lambda step, batch: batch,
    **changes: object,
) -> Loop:
    batches = training_batches(data, batch_size=16, augmentation=AUGMENTATION, seed=1)

    def from_step(start: int) -> Iterator[Sample]:
        return map(spoil, itertools.count(start), iterate(batches, start, 2))

    loop = Loop(
        trainer=trainer,
        batches=from_step,
        validate=lambda state: trainer.evaluate(state, evaluation_batches(data, 16)),
        checkpoints=checkpoints,
        tracker=tracker,
        config=TRAINING,
        total_steps=STEPS,
        evaluate_every=8,
        record={},
        display=Silent(),
        progress=progress or Progress(),
    )
    return dataclasses.replace(loop, **changes)  # pyright: ignore[reportArgumentType]


def assert_equal(a: object, b: object) -> None:
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))

"""Does training wait for its data? Batches from an ArrayRecord set through Grain to the device, beside the step."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from heimdall_jax.benchmarks.race import OURS, Result, Timing
from heimdall_jax.config import NAMED
from heimdall_jax.datasets import load_data
from heimdall_jax.preparation import prepare_config
from heimdall_jax.run import make_model, make_trainer
from heimdall_jax.training.batches import iterate, training_batches

SESSIONS = 1024
STEPS = 32
"""A round: the waiting of each of its steps, and its whole time."""


def inputs(repeats: int) -> Iterator[Result]:
    """Every line of the section."""
    yield waiting(repeats)


def waiting(repeats: int) -> Result:
    """Of the ResNet over spectrograms (`--config spectrogram`), trained from a prepared set.

    `HeimdallDataset` reads the records once, before the first step, and keeps their features.
    """
    config = NAMED["spectrogram"]
    world = dataclasses.replace(config.world, train=SESSIONS, validation=64, test=64)
    config = dataclasses.replace(config, world=world)
    with tempfile.TemporaryDirectory() as folder:
        prepare_config(config, Path(folder) / "set")
        source = dataclasses.replace(config.data, source="prepared", path=str(Path(folder) / "set"))
        config = dataclasses.replace(config, data=source)
        data = load_data(config, cache=Path(folder))
    assert data.train is not None
    size, prefetch = config.training.batch_size, config.training.prefetch
    batches = iterate(
        training_batches(data.train, batch_size=size, augmentation=config.augmentation, seed=0), 0, prefetch
    )
    trainer = make_trainer(config, make_model(config, data.domain), STEPS)
    state = trainer.start()
    rounds = []
    for _ in range(repeats + 1):
        start, waited = time.perf_counter(), 0.0
        for _ in range(STEPS):
            asked = time.perf_counter()
            batch = trainer.place(next(batches))
            waited += time.perf_counter() - asked
            state, report = trainer.step(state, batch)
            jax.block_until_ready(report)
        rounds.append((time.perf_counter() - start, waited))
    rounds = rounds[1:]  # the first one compiles
    shares = sorted(waited / took for took, waited in rounds)
    timings = {
        OURS: Timing.of([took / STEPS for took, _ in rounds]),
        "waiting": Timing.of([waited / STEPS for _, waited in rounds]),
    }
    name, facts = "waiting, % of a step", {"batch": size, "sessions": SESSIONS}
    ratio = {name: 100 * shares[len(shares) // 2]}
    return Result("input: ArrayRecord and Grain to the device", timings, ratio, {name: "<= 3"}, facts)

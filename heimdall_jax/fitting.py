"""A config's model fitted to data: in steps from its last checkpoint on, or at once, and its regions corrected."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grain
import jax
import numpy as np

from heimdall_jax.assessment import batches_of, correction, correction_of, takes_any_order
from heimdall_jax.bad_batches import BadBatches
from heimdall_jax.config import Config, TrainingConfig
from heimdall_jax.datasets import Data, fresh_samples
from heimdall_jax.display import Display
from heimdall_jax.history import HISTORY, HistoryWriter
from heimdall_jax.hosts import Hosts
from heimdall_jax.mapping import fill_map, radio_map
from heimdall_jax.memory import trim
from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.models.recalibration import NEUTRAL
from heimdall_jax.progress import tell
from heimdall_jax.run import CHECKPOINTS, Run, make_model, make_trainer, open_run, record, save_recalibration
from heimdall_jax.stopping import Stop
from heimdall_jax.tracking.trackers import Several, Tracker
from heimdall_jax.training.batches import iterate, training_batches
from heimdall_jax.training.checkpoints import Checkpoints
from heimdall_jax.training.cost import peak_flops_per_s
from heimdall_jax.training.loop import Loop
from heimdall_jax.training.map_fit import HeldOut
from heimdall_jax.training.spikes import Progress, SpikeWatch
from heimdall_jax.training.step import DeviceBatch, Trainer, TrainState
from heimdall_jax.types import Sample


class Fit(NamedTuple):
    """What training needs beside the data, all of it checked."""

    trainer: Trainer
    batches: grain.MapDataset
    steps_per_epoch: int
    total_steps: int
    held_out: HeldOut | None
    """Fixes to recalibrate by, of a model that is not trained in steps."""


def prepare_fit(config: Config, data: Data) -> Fit:
    """The network with its initial values, and what feeds it.

    Raises:
        ConfigError: A setting does not fit the data.
    """
    train, validation = data.train, data.validation
    assert train is not None
    assert validation is not None
    steps_per_epoch = -(-len(train) // config.training.batch_size)
    planned_steps = total_steps = config.training.epochs * steps_per_epoch
    model = make_model(config, data.domain)
    held_out = None
    if isinstance(model, RadioMapNet):
        held_out, total_steps = fill_map(model, config, data), 0  # that was all
    trainer = make_trainer(config, model, total_steps)
    batches = training_batches(
        train,
        batch_size=config.training.batch_size,
        augmentation=config.augmentation,
        seed=config.seed,
        total_steps=planned_steps,
        radio_map=radio_map(config, train),
        close_ranks=takes_any_order(config),
        fresh=fresh_samples(config),
        rows=trainer.rows,
    )
    return Fit(trainer, batches, steps_per_epoch, total_steps, held_out)


def fit_model(
    config: Config,
    data: Data,
    fit: Fit,
    out: Path,
    tracker: Tracker,
    display: Display,
    stop: Stop,
    hosts: Hosts | None = None,
) -> None:
    """Train from the run's last checkpoint, or from the start, to the end; all of several processes together.

    Raises:
        NonFiniteError: A step gave NaN or Inf; the last checkpoint is good.
        StorageError: A checkpoint could not be written.
        KeyboardInterrupt: `stop` was asked for; the step is saved.
    """
    assert data.train is not None
    assert data.validation is not None
    validation, training, trainer = data.validation, config.training, fit.trainer
    anchor_every = SpikeWatch.of(training).anchor_every
    part = None if hosts is None else hosts.index
    display.epochs(fit.steps_per_epoch)
    with Checkpoints(out / CHECKPOINTS, anchor_every=anchor_every) as checkpoints:
        state, progress = _last(checkpoints, trainer)
        if int(state.step) < fit.total_steps:
            tell("compiling")
            _compile(fit, state, next(batches_of(config, validation, trainer.rows)), hosts)
        history = _history(out, int(state.step), fit, training.batch_size)
        loop = Loop(
            trainer=trainer,
            batches=lambda start: iterate(fit.batches, start, training.prefetch),
            validate=lambda state: _validated(trainer, state, batches_of(config, validation, trainer.rows)),
            checkpoints=checkpoints,
            tracker=tracker if part else Several(tracker, history),
            config=training,
            total_steps=fit.total_steps,
            evaluate_every=max(1, round(fit.steps_per_epoch / training.evaluations_per_epoch)),
            record=record(config, data.domain),
            display=display,
            measure=lambda state, batch: _measure(trainer, state, batch, training, display, history),
            keep_bad=BadBatches(out, data.train, trainer, part).keep,
            progress=progress,
            stop=stop,
        )
        loop.run(state)


def _validated(trainer: Trainer, state: TrainState, batches: Iterator[Sample]) -> dict[str, float]:
    """Metrics of a state; what it took of memory is given back."""
    metrics = trainer.evaluate(state, batches)
    trim()
    return metrics


def _history(out: Path, begun: int, fit: Fit, batch_size: int) -> HistoryWriter:
    """Of this process's part of the training."""
    return HistoryWriter(
        out / HISTORY,
        begun=begun,
        total_steps=fit.total_steps,
        steps_per_epoch=fit.steps_per_epoch,
        samples_per_step=batch_size,
    )


def _measure(
    trainer: Trainer,
    state: TrainState,
    batch: DeviceBatch,
    training: TrainingConfig,
    display: Display,
    history: HistoryWriter,
) -> None:
    """Tell what a step takes, and what the devices can do."""
    costs = trainer.cost(state, batch).flops * jax.device_count(), peak_flops_per_s(training.precision)
    display.costs(*costs)
    history.costs(*costs)


def _compile(fit: Fit, state: TrainState, evaluated: Sample, hosts: Hosts | None) -> None:
    """Before the first step; of several processes each waits for all, that they come to their first sum at once."""
    fit.trainer.compile(state, next(iterate(fit.batches, 0, 0)), evaluated)
    trim()
    if hosts is not None:
        hosts.meet("compiled")


def _last(checkpoints: Checkpoints, trainer: Trainer) -> tuple[TrainState, Progress]:
    """Where training goes on, or begins."""
    state, latest = trainer.start(), checkpoints.latest()
    if latest is None:
        return state, Progress()
    return checkpoints.state(latest, state), Progress(**checkpoints.record(latest)["progress"])


def recalibrated(out: Path, data: Data, held_out: HeldOut | None) -> Run:
    """The run's best model, its regions corrected on rows held out; made anew when a finished run is resumed."""
    assert data.validation is not None
    run = open_run(out)
    if held_out is None:
        plain = dataclasses.replace(run, state=run.trainer.recalibrated(run.state, NEUTRAL))
        found = correction(plain, data.validation)
    else:
        covariance_m2 = held_out.scale_m @ held_out.scale_m.transpose(0, 2, 1)
        given = held_out.position_m, covariance_m2.astype(np.float64), held_out.truth_m, held_out.heard, held_out.part
        found = correction_of(*given, real=data.world is None)
    save_recalibration(run, found.coefficients, found.doubt_m)
    return open_run(out)

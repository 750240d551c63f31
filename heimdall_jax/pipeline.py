"""What scripts and jobs call: train, evaluate. Joins the rooms; holds no maths."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
from rich.console import Console

from heimdall_jax.assessment import assess, batches_of, correction, correction_of, measure, takes_any_order
from heimdall_jax.compilations import remember_compilations
from heimdall_jax.conditions import measure_conditions
from heimdall_jax.config import Config
from heimdall_jax.datasets import Data, fresh_samples, load_data, load_test_data
from heimdall_jax.delivery import deliver
from heimdall_jax.detecting import measure_detection
from heimdall_jax.display import Display, Listener
from heimdall_jax.errors import ConfigError, HeimdallError, explain
from heimdall_jax.evaluation.figures import error_against_clock
from heimdall_jax.evaluation.summary import write_metrics
from heimdall_jax.evaluation.table import closing_table, conditions_table, faults_table
from heimdall_jax.export.bundle import write_atomically
from heimdall_jax.export.table import smaller_table
from heimdall_jax.faults import measure_faults
from heimdall_jax.mapping import fill_map, radio_map
from heimdall_jax.memory import give_back, trim
from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.models.recalibration import NEUTRAL
from heimdall_jax.publishing import check_publishing, in_words
from heimdall_jax.report import FIGURES, track_report, write_report
from heimdall_jax.run import (
    CHECKPOINTS,
    Run,
    begin,
    make_model,
    make_trainer,
    open_run,
    record,
    save_recalibration,
    start_tracking,
)
from heimdall_jax.run_folder import METRICS, MODEL
from heimdall_jax.run_lock import locked
from heimdall_jax.stopping import Stop
from heimdall_jax.tracking import Tracker, open_tracker
from heimdall_jax.training.batches import iterate, training_batches
from heimdall_jax.training.checkpoints import Checkpoints
from heimdall_jax.training.cost import peak_flops_per_s
from heimdall_jax.training.loop import Loop, Progress
from heimdall_jax.training.map_fit import HeldOut
from heimdall_jax.training.step import Trainer, TrainState

CONDITIONS, FAULTS = "conditions.json", "faults.json"


def train(
    config: Config,
    out: Path,
    *,
    resume: bool = False,
    console: Console | None = None,
    stop: Stop | None = None,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Train, evaluate on the test split, export and register; everything goes into the run folder `out`.

    Args:
        config: Everything the run depends on.
        out: Run folder; must not hold a run unless `resume`.
        resume: Continue the run in `out` from its last checkpoint, to the result of one that never stopped.
        console: Where progress and the closing table go; standard output if None.
        stop: Asked once a step whether to stop; without, only an interrupt stops it.
        listener: Is told the progress that a person sees.

    Returns:
        The contents of `metrics.json`.

    Raises:
        HeimdallError: One of its children, with the cure; the last good checkpoint is intact. Also a StorageError
            when the run is whole in its folder, but its tracker did not take all of it.
        KeyboardInterrupt: It was stopped, and can be resumed from the step it was in.
    """
    console = console or Console()
    check_publishing(config)
    begin(config, out, resume=resume)
    remember_compilations(out.parent)
    with locked(out), Display(console, config.training.batch_size, listener) as display:
        tracker = open_tracker(config.tracking, out)
        data = load_data(config, cache=_cache(config, out), progress=display.reading)
        _report(console, data)
        fit = _prepare_fit(config, data)  # before the folder holds a run: what is refused here can be tried again
        start_tracking(tracker, config, out)
        with _ending(tracker):
            _fit(config, data, fit, out, tracker, display, stop or Stop())
            give_back()
            run = _recalibrated(out, data, fit.held_out)
            metrics = measure(run, data, own=data)
            write_metrics(out / METRICS, metrics)
            give_back()
            delivered = deliver(
                run, data, metrics, tracker, precisions=config.export.precisions, store=config.export.publish
            )
    files: dict[str, Path | str] = {"run": out, "model": out / MODEL}
    files |= {entry.precision: out / entry.file for entry in delivered.smaller if entry.accepted}
    if delivered.version:
        files["registered"] = f"{config.tracking.registered_name} {delivered.version}"
    if delivered.published is not None:
        files["public"] = in_words(delivered.published, config.export.publish)
    if delivered.smaller:
        console.print(smaller_table(delivered.smaller))
    console.print(closing_table(metrics, files))
    if delivered.note:
        console.print(delivered.note, highlight=False, soft_wrap=True)
    if delivered.missed is not None:
        raise delivered.missed
    return metrics


def evaluate(
    folder: Path,
    *,
    data_path: str | None = None,
    objects: str | None = None,
    split: str | None = None,
    out: Path | None = None,
    conditions: int | None = None,
    faults: bool = False,
    report: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Measure the best model of a run on any data set and split of its kind; nothing is trained.

    Args:
        folder: Of the run.
        data_path: The data set, or the URL of a catalogue's database; the run's own if None.
        objects: Store of the catalogue's recordings; the run's own if None.
        split: Whose test side is measured, every row for `none`; the run's own if None.
        out: Folder for `metrics.json`; the run folder for its own data and split, else one under `evaluations`.
        conditions: Also measure a simulated run that reads times at each clock, on so many transmissions each.
        faults: Also measure what one failing receiver costs a radio map run, with and without a watch on receivers.
        report: Also draw figures and write a page of them, and store both with the tracked run.
        console: Where progress and the table go; standard output if None.

    Returns:
        The contents of `metrics.json`.

    Raises:
        HeimdallError: One of its children, with the cure.
    """
    console, run = console or Console(), open_run(folder)
    asked = _asked(run.config, path=data_path, objects=objects, split=split)
    remember_compilations(folder.parent)
    with Display(console, run.config.training.batch_size) as display:
        cache = _cache(run.config, folder)
        data = load_test_data(asked, run.domain, cache=cache, progress=display.reading)
        _report(console, data)
        own = load_data(run.config, cache=cache)
        assessment = assess(run, data, own=own)
        assessment.metrics.update(measure_detection(run, asked, data, own=own))
        rows = None
        if conditions is not None:
            rows = measure_conditions(run, own, conditions, cache=cache, progress=display.reading)
    elsewhere = "" if data_path is None and split is None else f"{Path(asked.data.path).name}-{data.split}"
    out = out or (folder / "evaluations" / elsewhere if elsewhere else folder)
    metrics, files = assessment.metrics, {"metrics": out / METRICS}
    write_metrics(out / METRICS, metrics)
    if report:
        drawn = write_report(run, assessment, out)
        files["report"] = drawn[0]
        note = track_report(run, drawn, f"report/{elsewhere}".rstrip("/"))
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    console.print(closing_table(metrics, files))
    if rows is not None:
        _tell_conditions(rows, out, console)
    if faults:
        _measure_faults(run, data, out, console)
    return metrics


def _tell_conditions(rows: list[dict[str, Any]], out: Path, console: Console) -> None:
    """Into `conditions.json`, a figure and a table."""
    write_metrics(out / CONDITIONS, {"rows": rows})
    write_atomically(out / FIGURES / "clocks.png", error_against_clock(rows))
    console.print(conditions_table(rows))


def _measure_faults(run: Run, data: Data, out: Path, console: Console) -> None:
    """Into `faults.json` and a table."""
    with Display(console, run.config.training.batch_size) as display:
        measured = measure_faults(run, data, progress=display.failing)
    write_metrics(out / FAULTS, measured)
    console.print(faults_table(measured))


def _asked(config: Config, **asked: str | None) -> Config:
    """A run's config with the data and split to measure it on."""
    changes: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
    if changes and config.data.source == "simulation":
        cure = "Leave them out; a simulated run is measured on its own world's new places."
        raise ConfigError(explain("--data, --split", got=changes, allowed="nothing for simulation", cure=cure))
    if "://" in changes.get("path", ""):
        changes["source"] = "catalogue"
    data = dataclasses.replace(config.data, **changes)
    if "objects" in changes and data.source != "catalogue":
        cure = "Give the catalogue's database as --data, too."
        raise ConfigError(explain("--objects", got=repr(data.objects), allowed="with a catalogue", cure=cure))
    return dataclasses.replace(config, data=data)


class _Fit(NamedTuple):
    """What training needs beside the data, all of it checked."""

    trainer: Trainer
    batches: grain.MapDataset
    steps_per_epoch: int
    total_steps: int
    held_out: HeldOut | None
    """Fixes to recalibrate by, of a model that is not trained in steps."""


def _prepare_fit(config: Config, data: Data) -> _Fit:
    train, validation = data.train, data.validation
    assert train is not None
    assert validation is not None
    steps_per_epoch = -(-len(train) // config.training.batch_size)
    total_steps = config.training.epochs * steps_per_epoch
    batches = training_batches(
        train,
        batch_size=config.training.batch_size,
        augmentation=config.augmentation,
        seed=config.seed,
        total_steps=total_steps,
        radio_map=radio_map(config, train),
        close_ranks=takes_any_order(config),
        fresh=fresh_samples(config),
    )
    model = make_model(config, data.domain)
    held_out = None
    if isinstance(model, RadioMapNet):
        held_out, total_steps = fill_map(model, config, data), 0  # that was all
    return _Fit(make_trainer(config, model, total_steps), batches, steps_per_epoch, total_steps, held_out)


def _fit(config: Config, data: Data, fit: _Fit, out: Path, tracker: Tracker, display: Display, stop: Stop) -> None:
    """Train from the run's last checkpoint, or from the start, to the end."""
    assert data.validation is not None
    validation, training, trainer = data.validation, config.training, fit.trainer

    def validate(state: TrainState) -> dict[str, float]:
        metrics = trainer.evaluate(state, batches_of(config, validation))
        trim()
        return metrics

    display.epochs(fit.steps_per_epoch)
    with Checkpoints(out / CHECKPOINTS) as checkpoints:
        state, progress, latest = trainer.start(), Progress(), checkpoints.latest()
        if latest is not None:
            state = checkpoints.state(latest, state)
            progress = Progress(**checkpoints.record(latest)["progress"])
        loop = Loop(
            trainer=trainer,
            batches=lambda start: iterate(fit.batches, start, training.prefetch),
            validate=validate,
            checkpoints=checkpoints,
            tracker=tracker,
            config=training,
            total_steps=fit.total_steps,
            evaluate_every=max(1, round(fit.steps_per_epoch / training.evaluations_per_epoch)),
            record=record(config, data.domain),
            display=display,
            measure=lambda state, batch: display.costs(
                trainer.cost(state, batch).flops * jax.device_count(), peak_flops_per_s(training.precision)
            ),
            progress=progress,
            stop=stop,
        )
        loop.run(state)


def _recalibrated(out: Path, data: Data, held_out: HeldOut | None) -> Run:
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


def _report(console: Console, data: Data) -> None:
    """Say what was skipped and what a reader should know, before the long work."""
    for note in data.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    for reason, count in data.skipped.items():
        if count:
            console.print(f"skipped or masked: {count} x {reason}", highlight=False, soft_wrap=True)


def _cache(config: Config, run_folder: Path) -> Path:
    return Path(config.data.cache) if config.data.cache else run_folder.parent / "cache"


@contextlib.contextmanager
def _ending(tracker: Tracker) -> Iterator[None]:
    """Tell the tracker of a run that ended before its end; of the others the delivery does."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(HeimdallError):  # a full disk fails here again; what came first is the cause
            tracker.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise

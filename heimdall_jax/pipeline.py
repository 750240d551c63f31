"""What scripts and jobs call: train, evaluate. Joins the rooms; holds no maths."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from heimdall_jax.assessment import Assessment, assess, measure
from heimdall_jax.compilations import remember_compilations
from heimdall_jax.conditions import measure_conditions
from heimdall_jax.config import Config
from heimdall_jax.datasets import Data, load_data, load_test_data
from heimdall_jax.delivery import Delivered, deliver
from heimdall_jax.detecting import measure_detection
from heimdall_jax.display import Display, Listener, beside
from heimdall_jax.doubts import with_doubts
from heimdall_jax.errors import ConfigError, HeimdallError, explain
from heimdall_jax.evaluation.figures import error_against_clock
from heimdall_jax.evaluation.fixes import Fixes
from heimdall_jax.evaluation.summary import write_metrics
from heimdall_jax.evaluation.table import closing_table, conditions_table, faults_table
from heimdall_jax.export.bundle import write_atomically
from heimdall_jax.export.table import smaller_table
from heimdall_jax.faults import measure_faults
from heimdall_jax.fitting import fit_model, prepare_fit, recalibrated
from heimdall_jax.hosts import Hosts
from heimdall_jax.memory import give_back
from heimdall_jax.progress import pause, tell
from heimdall_jax.publishing import check_publishing, in_words
from heimdall_jax.report import FIGURES, track_report, write_report
from heimdall_jax.run import (
    Run,
    begin,
    open_run,
    start_tracking,
)
from heimdall_jax.run_folder import METRICS, MODEL
from heimdall_jax.run_lock import locked
from heimdall_jax.stopping import Stop
from heimdall_jax.tracking.mlflow_tracker import open_tracker
from heimdall_jax.tracking.trackers import NoopTracker, Tracker

READ, DONE = "read", "done"
"""What the first of several processes tells the others."""
CONDITIONS, FAULTS = "conditions.json", "faults.json"


def train(
    config: Config,
    out: Path,
    *,
    resume: bool = False,
    console: Console | None = None,
    stop: Stop | None = None,
    listener: Listener | None = None,
    hosts: Hosts | None = None,
) -> dict[str, Any]:
    """Train, evaluate on the test split, export and register; everything goes into the run folder `out`.

    Of several processes, all call this alike, on one folder that they share.

    Args:
        config: Everything the run depends on.
        out: Run folder; must not hold a run unless `resume`.
        resume: Continue the run in `out` from its last checkpoint, to the result of one that never stopped.
        console: Where progress and the closing table go; if None, progress on standard error, unless standard output is
            a terminal, and the rest there.
        stop: Asked once a step whether to stop; without, only an interrupt stops it.
        listener: Is told the progress that a person sees.
        hosts: This process's place among several: all of them train, the first does the rest and writes the folder.

    Returns:
        The contents of `metrics.json`; nothing where this is not the first of several processes.

    Raises:
        HeimdallError: One of its children, with the cure; the last good checkpoint is intact. Also a StorageError
            when the run is whole in its folder, but its tracker did not take all of it.
        KeyboardInterrupt: It was stopped, and can be resumed from the step it was in.
    """
    seen, console = _consoles(console)
    if hosts is not None and hosts.index > 0:
        return _follow(config, out, stop or Stop(), hosts)
    check_publishing(config)
    begin(config, out, resume=resume)
    remember_compilations(out.parent)
    with locked(out), Display(seen, config.training.batch_size, listener) as display:
        tracker = open_tracker(config.tracking, out)
        data = with_doubts(load_data(config, cache=_cache(config, out), progress=display.reading))
        _report(console, data)
        if hosts is not None:
            hosts.tell(READ)
        fit = prepare_fit(config, data)  # before the folder holds a run: what is refused here can be tried again
        start_tracking(tracker, config, out)
        with _ending(tracker):
            fit_model(config, data, fit, out, tracker, display, stop or Stop(), hosts)
            give_back()
            run = recalibrated(out, data, fit.held_out)
            metrics = measure(run, data, own=data)
            write_metrics(out / METRICS, metrics)
            give_back()
            delivered = deliver(
                run, data, metrics, tracker, precisions=config.export.precisions, store=config.export.publish
            )
    _tell(console, config, out, metrics, delivered)
    if delivered.missed is not None:
        raise delivered.missed
    if hosts is not None:
        hosts.tell(DONE)
    return metrics


def _follow(config: Config, out: Path, stop: Stop, hosts: Hosts) -> dict[str, Any]:
    """The part in a training of a process that is not the first: it trains, and waits for the rest to be done."""
    quiet = Console(quiet=True, force_terminal=False)
    hosts.await_first(READ)  # the run is begun, and what could be kept of the data is
    remember_compilations(out.parent)
    data = load_data(config, cache=_cache(config, out))
    with Display(quiet, config.training.batch_size) as display:
        fit_model(config, data, prepare_fit(config, data), out, NoopTracker(), display, stop, hosts)
    hosts.await_first(DONE)
    return {}


def _tell(console: Console, config: Config, out: Path, metrics: dict[str, Any], delivered: Delivered) -> None:
    """The closing table, and where everything is."""
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
    keep: Callable[[Fixes], None] = lambda fixes: None,
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
        console: As for `train`.
        keep: Is given every fix, by which runs can be compared.

    Returns:
        The contents of `metrics.json`.

    Raises:
        HeimdallError: One of its children, with the cure.
    """
    (seen, console), run = _consoles(console), open_run(folder)
    asked = _asked(run.config, path=data_path, objects=objects, split=split)
    remember_compilations(folder.parent)
    with Display(seen, run.config.training.batch_size) as display:
        cache = _cache(run.config, folder)
        data = with_doubts(load_test_data(asked, run.domain, cache=cache, progress=display.reading))
        _report(console, data)
        own = load_data(run.config, cache=cache)
        assessment = assess(run, data, own=own)
        assessment.metrics.update(measure_detection(run, asked, data, own=own))
        rows = None if conditions is None else measure_conditions(run, own, conditions, cache=cache)
    elsewhere = "" if data_path is None and split is None else f"{Path(asked.data.path).name}-{data.split}"
    out = out or (folder / "evaluations" / elsewhere if elsewhere else folder)
    keep(assessment.fixes)
    metrics, files = assessment.metrics, {"metrics": out / METRICS}
    write_metrics(out / METRICS, metrics)
    if report:
        files["report"] = _page(run, data, assessment, out, f"report/{elsewhere}".rstrip("/"), console)
    console.print(closing_table(metrics, files))
    if rows is not None:
        _tell_conditions(rows, out, console)
    if faults:
        _measure_faults(run, data, out, console, seen)
    return metrics


def _page(run: Run, data: Data, assessment: Assessment, out: Path, where: str, console: Console) -> Path:
    """The run as a page, in files and with the tracked run."""
    tell("drawing the report")
    drawn = write_report(run, data, assessment, out)
    note = track_report(run, drawn, where)
    pause()
    _note(console, note)
    return drawn[0]


def _tell_conditions(rows: list[dict[str, Any]], out: Path, console: Console) -> None:
    """Into `conditions.json`, a figure and a table."""
    write_metrics(out / CONDITIONS, {"rows": rows})
    write_atomically(out / FIGURES / "clocks.png", error_against_clock(rows))
    console.print(conditions_table(rows))


def _measure_faults(run: Run, data: Data, out: Path, console: Console, seen: Console) -> None:
    """Into `faults.json` and a table."""
    with Display(seen, run.config.training.batch_size) as display:
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


def _consoles(given: Console | None) -> tuple[Console, Console]:
    """Where progress goes, and where results do."""
    console = given or Console()
    return given or beside(console), console


def _note(console: Console, note: str) -> None:
    console.print(f"note: {note}", highlight=False, soft_wrap=True)


def _report(console: Console, data: Data) -> None:
    """Say what was skipped and what a reader should know, before the long work."""
    for note in data.notes:
        _note(console, note)
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

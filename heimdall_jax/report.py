"""The report of an evaluated run: figures, one page with all of them, and both beside the tracked run."""

from __future__ import annotations

from pathlib import Path

from heimdall_jax.assessment import Assessment, measured_rows
from heimdall_jax.datasets import Data
from heimdall_jax.errors import StorageError
from heimdall_jax.evaluation.report_figures import (
    coverage_curve,
    error_against_sigma,
    error_cdf,
    risk_curve,
    skipped_rows,
)
from heimdall_jax.evaluation.report_maps import error_by_distance, error_by_receivers, fix_map
from heimdall_jax.evaluation.report_recordings import lag_examples, spectrogram_examples
from heimdall_jax.evaluation.report_training import training_panels
from heimdall_jax.examples import examples_of
from heimdall_jax.export.bundle import write_atomically
from heimdall_jax.history import HISTORY, read_history
from heimdall_jax.pages.error_map import error_map
from heimdall_jax.pages.run_page import run_page
from heimdall_jax.run import Run, tracked_id
from heimdall_jax.tracking.mlflow_tracker import DATABASE, open_tracker, tracking_address

REPORT, FIGURES = "report.html", "figures"


def write_report(run: Run, data: Data, assessment: Assessment, out: Path) -> list[Path]:
    """Write `report.html` and the figures it shows as PNG; gives the files, the page first.

    Args:
        run: The one measured.
        data: What it was measured on.
        assessment: Its results there.
        out: Folder for the files.

    Raises:
        DataError: The run's history is damaged.
        StorageError: They cannot be written.
    """
    metrics, fixes = assessment
    shown = examples_of(run.config, measured_rows(data), fixes)
    panels = [
        error_cdf(fixes, metrics),
        risk_curve(fixes),
        coverage_curve(fixes, metrics),
        error_against_sigma(fixes),
        fix_map(fixes),
        error_map(fixes),
        error_by_receivers(fixes),
        error_by_distance(fixes),
        skipped_rows(metrics),
        *training_panels(read_history(run.folder / HISTORY), run.step),
        spectrogram_examples(shown.recorded, shown.band_hz, shown.frame_s),
        lag_examples(shown.recorded, shown.lag_s),
    ]
    files = {out / REPORT: run_page(run.folder.resolve().name, metrics, panels).encode()}
    files |= {out / FIGURES / f"{panel.name}.png": panel.png for panel in panels if panel.png}
    for path, content in files.items():
        write_atomically(path, content)
    return list(files)


def track_report(run: Run, files: list[Path], where: str) -> str:
    """Store the files beside the tracked run, in a folder of that name; gives a note for the user.

    A run folder that was moved away from its tracking store keeps its report all the same: the note says so.
    """
    try:
        run_id, tracking = tracked_id(run.folder), run.config.tracking
        if not tracking.enabled or run_id is None:
            return "the run is not tracked, so its report is in files only"
        if not tracking_address(tracking) and not (run.folder.absolute().parent / DATABASE).exists():
            return f"no {DATABASE} beside the run folder, so its report is in files only"
        tracker = open_tracker(tracking, run.folder)
        tracker.attach(run_id)
        for path in files:
            tracker.log_artifact(path, where)
    except StorageError as error:
        return f"the report is in files only; {error}"
    return f"the report is with the tracked run, under {where}/"

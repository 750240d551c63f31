"""The page of an evaluated run."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from heimdall_jax.evaluation.calibration import REGION
from heimdall_jax.evaluation.panels import Panel, percent
from heimdall_jax.evaluation.table import (
    COLUMNS,
    DETECTION,
    binding,
    bound_errors,
    bound_name,
    detection_note,
    detection_rows,
    reference_note,
    spoken,
    spoken_m,
)
from heimdall_jax.pages.render import Sheet, render


def run_page(name: str, metrics: Mapping[str, Any], panels: Sequence[Panel]) -> str:
    """The page of a run's evaluation.

    Args:
        name: Of the run.
        metrics: The contents of `metrics.json`.
        panels: Its figures, in order.
    """
    return render(
        "run.html.jinja",
        title=f"Run {name}: {metrics['dataset']}, split {metrics['split']}",
        subtitle=f"{metrics['n']:,} fixes with a known truth, by the checkpoint of step {metrics['step']:,}. "
        "Errors are ground distances.",
        warnings=_warnings(metrics),
        headlines=_headlines(metrics),
        sheets=[_errors(metrics), *_regions(metrics), *_clocks(metrics), *_detection(metrics)],
        panels=[(panel, base64.b64encode(panel.png).decode("ascii")) for panel in panels],
        notes=metrics["notes"],
    )


def _warnings(metrics: Mapping[str, Any]) -> list[str]:
    """What would make a reader take the result for more than it is."""
    warnings = []
    if metrics["n_trained_on"]:
        warnings.append(f"The model was trained on {metrics['n_trained_on']:,} of these rows: this is no test.")
    if metrics["split"].startswith("random"):
        warnings.append("A random split tests among its training rows: this is interpolation, no new time or place.")
    return warnings


def _headlines(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    errors, kept = metrics["error_m"], metrics["risk_coverage"]
    return [
        ("mean error", spoken_m(errors["mean"])),
        ("median error", spoken_m(errors["median"])),
        (f"truths in the {REGION:.0%} region", percent(metrics["coverage"][f"{REGION:g}"])),
        ("mean error, surest half", spoken_m(kept["0.5"])),
        ("likelihood, nats per fix", f"{metrics['nll_nats_per_fix']:.2f}"),
    ]


def _errors(metrics: Mapping[str, Any]) -> Sheet:
    """Model, baselines, controls, bound or reference."""

    def row(name: str, errors: Mapping[str, float]) -> tuple[str, ...]:
        return (name, *(spoken_m(errors[key]) if key in errors else "" for key in COLUMNS))

    rows = [row("model", metrics["error_m"])]
    for kind, label in (("baselines", "baseline"), ("controls", "control")):
        rows += [row(f"{label}: {spoken(name)}", errors) for name, errors in metrics[kind].items()]
    bound, caption = metrics.get("bound"), "Baselines are fitted on the run's training and validation rows."
    if bound is None:
        caption += " There is no bound: it needs a simulated world, whose law is known."
    else:
        rows.append(row(bound_name(bound), bound_errors(bound)))
        caption += "" if binding(bound) else f" {reference_note(bound)}"
    if not metrics["controls"]:
        caption += " There is no control: the model takes no powers to be replaced."
    return Sheet("Errors", caption, ("", *COLUMNS.values()), tuple(rows))


def _regions(metrics: Mapping[str, Any]) -> list[Sheet]:
    """Likelihood, coverage and area of the model's regions beside those of the baselines, where these have any."""

    def row(name: str, told: Mapping[str, Any]) -> tuple[str, ...]:
        shares = [percent(share) for share in told["coverage"].values()]
        return (name, f"{told['nll_nats_per_fix']:.2f}", *shares, f"{told['region_area_m2'] / 1e6:,.3g}")

    others = metrics.get("baseline_regions", {})
    rows = [row("model", metrics), *(row(f"baseline: {spoken(name)}", told) for name, told in others.items())]
    circles = "Of each baseline: a circle, its size fitted on validation rows. " if others else ""
    caption = f"{circles}Shares of truths inside the region of that probability; area of the {REGION:.0%} one."
    header = ("", "nats per fix", *(f"in {float(p):.0%}" for p in metrics["coverage"]), "mean area, km²")
    return [Sheet("Regions", caption, header, tuple(rows))]


def _clocks(metrics: Mapping[str, Any]) -> list[Sheet]:
    """By the receivers' clocks, where times are read."""
    if "by_clock" not in metrics:
        return []
    rows = [
        (
            row["name"],
            f"{row['n']:,}",
            spoken_m(row["error_m"]["fused"]["p68"]),
            spoken_m(row["bound_p68_m"]) if row["bound_binds"] else f"({spoken_m(row['bound_p68_m'])})",
            percent(row["coverage_68"]),
        )
        for row in metrics["by_clock"]
    ]
    caption = "68 % of the errors are below. A bound in brackets does not bind: knowing the region beats it."
    header = ("", "fixes", "model", "bound", f"in {REGION:.0%}")
    return [Sheet("By the receivers' clocks", caption, header, tuple(rows))]


def _detection(metrics: Mapping[str, Any]) -> list[Sheet]:
    """Recordings of two transmitters and of none, where there are some."""
    if "detection" not in metrics:
        return []
    found = metrics["detection"]
    rows = tuple(detection_rows(found))
    return [Sheet("Is there exactly one transmitter?", detection_note(found), ("", *DETECTION[1:]), rows)]

"""The figures of a report that tell how large errors are, and whether the model knows it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from heimdall_jax.evaluation.bounds import pooled_radii_m
from heimdall_jax.evaluation.calibration import REGION, inside_region, squared_mahalanobis
from heimdall_jax.evaluation.fixes import Fixes
from heimdall_jax.evaluation.panels import (
    BLUE,
    GREY,
    ORANGE,
    Panel,
    drawn,
    grid,
    groups_of_equal_size,
    in_metres,
    in_percent,
    percent,
    table,
)
from heimdall_jax.evaluation.regions import risk, risk_of_order
from heimdall_jax.evaluation.table import binding, spoken, spoken_m

QUANTILES = (0.1, 0.25, 0.5, 0.68, 0.75, 0.9, 0.95, 0.99)
NOMINAL = (*(round(0.05 * step, 2) for step in range(1, 20)), 0.99)
SHARES = tuple(round(0.05 * step, 2) for step in range(20, 0, -1))
BINS = 10
LEAST_M = 0.1
"""On logarithmic axes: an error of zero is drawn here."""
DASHES = ("-", "--", "-.", ":")


def error_cdf(fixes: Fixes, metrics: Mapping[str, Any]) -> Panel:
    """Which share of the errors is below a distance: model, baselines, and bound or reference."""
    series = {"model": fixes.error_m_N} | {spoken(name): error for name, error in fixes.other_error_m.items()}
    bound = metrics.get("bound")
    least = "bound" if bound is None or binding(bound) else "reference"
    if fixes.bound_m2_NEE is not None:
        radius_m = pooled_radii_m(fixes.bound_m2_NEE, np.random.default_rng(0))
        series[least] = radius_m[np.isfinite(radius_m)]

    def draw(figure: Any, axes: Any) -> None:
        for number, (name, error_m) in enumerate(series.items()):
            style: dict[str, Any] = {"color": f"C{number}", "linewidth": 1.2, "linestyle": DASHES[number % len(DASHES)]}
            style |= {"model": {"color": BLUE, "linewidth": 2.5}, least: {"color": "k"}}.get(name, {})
            share = np.linspace(0, 1, 201)
            axes.plot(np.maximum(np.quantile(error_m, share), LEAST_M), share, label=name, **style)
        axes.set_xscale("log")
        axes.set_xlim(left=max(LEAST_M, 0.5 * float(np.quantile(fixes.error_m_N, 0.02))))
        in_metres(axes.xaxis, "error")
        in_percent(axes.yaxis, "fixes with a smaller error")
        grid(axes)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)

    rows = [(name, *(spoken_m(float(np.quantile(e, q))) for q in QUANTILES)) for name, e in series.items()]
    missing = "" if bound else " No bound is drawn: there is none without a simulated world, whose law is known."
    half = {name: float(np.median(error_m)) for name, error_m in series.items()}
    best = min((name for name in half if name not in ("model", least)), key=lambda name: half[name], default=None)
    beside = f"; of the best baseline, {best}, below {spoken_m(half[best])}" if best else ""
    return Panel(
        "error_cdf",
        "How large are the errors?",
        f"Share of the {len(fixes.error_m_N):,} test fixes whose error is below a distance.{missing}",
        f"Curves that rise from 0 to 100 %. Half of the model's errors are below {spoken_m(half['model'])}{beside}.",
        ("", *(f"{percent(q)} below" for q in QUANTILES)),
        tuple(rows),
        drawn(draw, (4.8, 4.8)),
    )


def coverage_curve(fixes: Fixes, metrics: Mapping[str, Any]) -> Panel:
    """Truths inside the predicted regions against what those promise."""
    squared = squared_mahalanobis(fixes.truth_m_NE - fixes.position_m_NE, fixes.covariance_m2_NEE)
    found = [float(inside_region(squared, p).mean()) for p in NOMINAL]
    at_68, interval = metrics["coverage"][f"{REGION:g}"], metrics.get("coverage_interval")

    def draw(figure: Any, axes: Any) -> None:
        axes.plot([0, 1], [0, 1], "--", color=GREY, label="honest")
        axes.plot(NOMINAL, found, "o-", color=BLUE, markersize=4, label="model")
        if interval is not None:
            sides = [[max(0.0, at_68 - interval[0])], [max(0.0, interval[1] - at_68)]]
            label = f"{REGION:.0%} region, 95 % interval"
            axes.errorbar([REGION], [at_68], yerr=sides, fmt="s", color=ORANGE, capsize=4, markersize=5, label=label)
        in_percent(axes.xaxis, "probability of the predicted region")
        in_percent(axes.yaxis, "truths inside it")
        grid(axes)
        axes.legend(fontsize=8)

    sure = f", with 95 % confidence {percent(interval[0])} to {percent(interval[1])}" if interval else ""
    return Panel(
        "coverage",
        "Do the regions hold what they promise?",
        "Below the dashed line the model is too sure of itself, above it too cautious.",
        f"Coverage against probability: {percent(at_68)} of the truths are inside the {REGION:.0%} region{sure}.",
        ("region", "truths inside"),
        table([[percent(p) for p in NOMINAL], [f"{share:.1%}" for share in found]]),
        drawn(draw),
    )


def error_against_sigma(fixes: Fixes) -> Panel:
    """Errors against the predicted sigma, in groups of equal size; where both agree the sigma is honest."""
    sigma_m = np.sqrt(np.trace(fixes.covariance_m2_NEE, axis1=1, axis2=2) / 2)
    off_m = np.linalg.norm(fixes.truth_m_NE - fixes.position_m_NE, axis=1) / np.sqrt(2)
    groups = groups_of_equal_size(sigma_m, BINS)
    predicted, found = (np.array([np.sqrt(np.mean(of[g] ** 2)) for g in groups]) for of in (sigma_m, off_m))

    def draw(figure: Any, axes: Any) -> None:
        ends = [0.8 * float(sigma_m.min()), 1.25 * float(sigma_m.max())]
        axes.loglog(sigma_m, np.maximum(off_m, LEAST_M), ".", color=GREY, alpha=0.35, markersize=3, label="one fix")
        axes.loglog(ends, ends, "k--", linewidth=1, label="honest")
        axes.loglog(predicted, found, "o-", color=BLUE, label="groups, root mean square")
        axes.set_ylim(bottom=max(LEAST_M, 0.5 * float(np.quantile(off_m, 0.02))))
        in_metres(axes.xaxis, "predicted sigma per axis")
        in_metres(axes.yaxis, "error per axis")
        grid(axes)
        axes.legend(fontsize=8)

    counts, ratio = [f"{len(g):,}" for g in groups], [f"{f / p:.2f}" for f, p in zip(found, predicted, strict=True)]
    columns = [counts, [spoken_m(float(p)) for p in predicted], [spoken_m(float(f)) for f in found], ratio]
    return Panel(
        "error_against_sigma",
        "Are errors as large as predicted?",
        "Root mean square error per axis of fixes with similar predicted sigma. On the dashed line both are equal; "
        "above it errors are larger than predicted.",
        f"Groups of fixes from the surest, predicted {columns[1][0]} and found {columns[2][0]}, to the least sure, "
        f"predicted {columns[1][-1]} and found {columns[2][-1]}.",
        ("fixes", "predicted sigma", "found", "ratio"),
        table(columns),
        drawn(draw),
    )


def risk_curve(fixes: Fixes) -> Panel:
    """Mean error of the fixes that are kept, when the least sure ones are refused."""
    kept = risk(fixes.error_m_N, fixes.covariance_m2_NEE, SHARES)
    ideal = risk_of_order(fixes.error_m_N, fixes.worst[::-1], SHARES)
    mean_m, half_m = kept["1"], kept["0.5"]

    def draw(figure: Any, axes: Any) -> None:
        axes.plot(SHARES, list(kept.values()), "o-", color=BLUE, markersize=4, label="by the model's own 68 % radius")
        axes.plot(SHARES, list(ideal.values()), "--", color=GREY, label="by the error itself")
        axes.axhline(mean_m, color="k", linewidth=0.8, linestyle=":", label="all fixes, or any drawn blindly")
        axes.set_ylim(bottom=0)
        in_percent(axes.xaxis, "fixes kept, the surest first")
        in_metres(axes.yaxis, "their mean error")
        grid(axes)
        axes.legend(fontsize=8)

    change = half_m / mean_m - 1 if mean_m else 0.0
    columns = [[percent(s) for s in SHARES], *([spoken_m(m) for m in curve.values()] for curve in (kept, ideal))]
    return Panel(
        "risk_coverage",
        "Does the model know which fixes to trust?",
        "Mean error of the fixes that stay when the others, whose predicted 68 % radius is larger, are refused.",
        f"All fixes: mean error {spoken_m(mean_m)}; the surest half: {spoken_m(half_m)} ({change:+.0%}).",
        ("fixes kept", "mean error", "at best"),
        table(columns),
        drawn(draw),
    )


def skipped_rows(metrics: Mapping[str, Any]) -> Panel:
    """What was masked or left out, by reason."""
    counts = {reason: count for reason, count in metrics["skipped"].items() if count}
    title = "What was left out?"
    if not counts:
        return Panel("skipped", title, "No figure: no row was skipped and no reading masked.")
    order = sorted(counts, key=lambda reason: counts[reason])

    def draw(figure: Any, axes: Any) -> None:
        bars = axes.barh([textwrap.fill(reason, 28) for reason in order], [counts[r] for r in order], color=BLUE)
        axes.bar_label(bars, [f"{counts[reason]:,}" for reason in order], padding=3)
        axes.margins(x=0.15)
        axes.tick_params(labelsize=8)
        axes.set_xlabel("rows or readings")

    most = order[-1]
    return Panel(
        "skipped",
        title,
        "Rows skipped and readings masked when the data were read, by reason.",
        f"Bars by reason; the longest: {counts[most]:,} x {most}.",
        ("reason", "count"),
        table([order[::-1], [f"{counts[reason]:,}" for reason in order[::-1]]]),
        drawn(draw, (4.8, 1.2 + 0.7 * len(order))),
    )

"""The figures of a report that tell where errors are: on the map, by who heard, by distance from training places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heimdall_jax.evaluation.calibration import REGION, inside_region, squared_mahalanobis
from heimdall_jax.evaluation.fixes import Fixes
from heimdall_jax.evaluation.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Panel,
    drawn,
    grid,
    groups_of_equal_size,
    in_metres,
    table,
)
from heimdall_jax.evaluation.table import spoken_m
from heimdall_jax.geodesy import error_radius_m

WORST = 5
"""Fixes named on the map."""
REGIONS_DRAWN = 150
"""More ellipses hide the map."""
ROWS_TOLD = 2000
"""Of the map's table: a longer one makes the page heavy."""
GROUPS = 8
STANDING_M = 50.0
"""A receiver whose places lie within so many metres stands still."""


def fix_map(fixes: Fixes) -> Panel:
    """Truths and fixes, regions of some, the worst by name, and the receivers."""
    worst = fixes.worst[:WORST]
    evenly = np.linspace(0, len(fixes.error_m_N) - 1, REGIONS_DRAWN).round().astype(np.int64)
    with_region = np.unique(np.concatenate([evenly, worst]))

    def draw(figure: Any, axes: Any) -> None:
        _draw_receivers(axes, fixes)
        _draw_regions(axes, fixes, with_region)
        axes.plot(*fixes.truth_m_NE.T, ".", color="k", markersize=2, label="truth")
        axes.plot(*fixes.position_m_NE.T, ".", color=BLUE, markersize=3, label="fix")
        for number, fix in enumerate(worst, 1):
            ends = np.stack([fixes.truth_m_NE[fix], fixes.position_m_NE[fix]])
            axes.plot(*ends.T, "-", color=ORANGE, linewidth=1.2)
            box = {"facecolor": "white", "edgecolor": ORANGE, "boxstyle": "round,pad=0.15"}
            axes.annotate(str(number), ends[0], fontsize=8, ha="center", va="center", bbox=box)
        axes.set_aspect("equal", adjustable="datalim")
        axes.locator_params(nbins=5)
        in_metres(axes.xaxis, "east")
        in_metres(axes.yaxis, "north")
        grid(axes)
        names = [f"{number}: {fixes.session_ids[fix]}, {_told(fixes, fix)}" for number, fix in enumerate(worst, 1)]
        axes.set_title("largest errors (orange, from truth to fix)\n" + "\n".join(names), fontsize=7, loc="left")
        figure.legend(loc="outside lower center", ncols=3, fontsize=8, markerscale=1.5)

    named = "; ".join(f"{fixes.session_ids[fix]} ({_told(fixes, fix)})" for fix in worst)
    some = "" if len(with_region) == len(fixes.error_m_N) else f" (drawn for {len(with_region)} of them)"
    cut = f" The table holds the {ROWS_TOLD:,} worst." if len(fixes.error_m_N) > ROWS_TOLD else ""
    return Panel(
        "map",
        "Where are the errors?",
        f"Test fixes with their {REGION:.0%} regions{some}, in metres about the local origin. Worst: {named}.{cut}",
        f"Map of {len(fixes.error_m_N):,} truths and fixes, regions and receivers; the worst fixes are {named}.",
        ("transmission", "error", "68 % radius", "inside 68 %", "receivers", "truth east, north", "fix east, north"),
        _rows(fixes),
        drawn(draw, (4.8, 5.8)),
    )


def error_by_receivers(fixes: Fixes) -> Panel:
    """Errors by how many receivers heard."""
    heard = fixes.heard_NR.sum(axis=1)
    counts = np.unique(heard)
    if len(counts) > GROUPS + 2:
        groups = groups_of_equal_size(heard, GROUPS)
    else:
        groups = [np.flatnonzero(heard == count) for count in counts]
    ends = [(int(heard[group].min()), int(heard[group].max())) for group in groups]
    labels = [f"{low}" if low == high else f"{low} to {high}" for low, high in ends]
    what = "receivers that heard"
    return _by_group("error_by_receivers", "Do more receivers help?", what, labels, groups, fixes.error_m_N)


def error_by_distance(fixes: Fixes) -> Panel:
    """Errors by how far the transmitter was from the nearest place that was trained on."""
    name, title = "error_by_distance", "Does it know only where it was trained?"
    away_m = fixes.from_training_m()
    if away_m is None:
        why = "No figure: training draws fresh transmissions as it goes on, so that no place is far from all of them."
        return Panel(name, title, why)
    groups = groups_of_equal_size(away_m, GROUPS)
    ends = [(float(away_m[group].min()), float(away_m[group].max())) for group in groups]
    labels = [f"{spoken_m(low)} to {spoken_m(high)}" for low, high in ends]
    what = "distance to the nearest training place"
    return _by_group(name, title, what, labels, groups, fixes.error_m_N)


def _by_group(
    name: str, title: str, what: str, labels: Sequence[str], groups: Sequence[np.ndarray], error_m: np.ndarray
) -> Panel:
    """Median, quartiles and mean of the errors in each group."""
    low, middle, high = np.array([np.quantile(error_m[group], (0.25, 0.5, 0.75)) for group in groups]).T
    mean = np.array([error_m[group].mean() for group in groups])

    def draw(figure: Any, axes: Any) -> None:
        at, sides = np.arange(len(groups)), [middle - low, high - middle]
        axes.errorbar(at, middle, yerr=sides, fmt="o", color=BLUE, capsize=4, label="median and quartiles")
        axes.plot(at, mean, "x", color=ORANGE, label="mean")
        long = max(map(len, labels)) > 5
        axes.set_xticks(at, labels, rotation=40 if long else 0, ha="right" if long else "center", fontsize=8)
        axes.set_xlabel(what)
        axes.set_ylim(bottom=0)
        in_metres(axes.yaxis, "error")
        grid(axes)
        axes.legend(fontsize=8)

    numbers = [[spoken_m(float(value)) for value in column] for column in (mean, middle, low, high)]
    columns = [labels, [f"{len(group):,}" for group in groups], *numbers]
    return Panel(
        name,
        title,
        f"Errors by {what}: median, quartiles and mean of each group of fixes.",
        f"Median error by {what}: {numbers[1][0]} at {labels[0]}, {numbers[1][-1]} at {labels[-1]}.",
        (what, "fixes", "mean", "median", "lower quartile", "upper quartile"),
        table(columns),
        drawn(draw, (4.8, 4.2)),
    )


def receiver_places_m(fixes: Fixes) -> tuple[np.ndarray, np.ndarray]:
    """Places (S, E) of the receivers that stand, and (M, E) those at which receivers that move were, metres."""
    standing, moving = [np.empty((0, 2))], [np.empty((0, 2))]
    for present_N, place_m in zip(fixes.present_NR.T, np.swapaxes(fixes.receiver_m_NRE, 0, 1), strict=True):
        seen_m = np.unique(place_m[present_N], axis=0)
        if len(seen_m):
            still = float(np.ptp(seen_m, axis=0).max()) <= STANDING_M
            (standing if still else moving).append(seen_m[:1] if still else seen_m)
    return np.concatenate(standing), np.concatenate(moving)


def _draw_receivers(axes: Any, fixes: Fixes) -> None:
    """Those that stand, and the ways of those that move."""
    standing_m, moving_m = receiver_places_m(fixes)
    if len(moving_m):
        axes.plot(*moving_m.T, ".", color=GREY, alpha=0.3, markersize=2, label="moving receiver")
    if len(standing_m):
        axes.plot(*standing_m.T, "^", color=GREEN, markersize=6, mec="white", zorder=5, label="receiver")


def _draw_regions(axes: Any, fixes: Fixes, chosen: np.ndarray) -> None:
    from matplotlib.collections import PolyCollection

    angle = np.linspace(0, 2 * np.pi, 60)
    size = np.sqrt(-2 * np.log1p(-REGION))
    circle = size * np.stack([np.cos(angle), np.sin(angle)])
    around_m = np.swapaxes(np.linalg.cholesky(fixes.covariance_m2_NEE[chosen]) @ circle, 1, 2)
    outlines = list(fixes.position_m_NE[chosen][:, None] + around_m)
    axes.add_collection(PolyCollection(outlines, facecolor="none", edgecolor=BLUE, alpha=0.25, linewidth=0.7))


def _rows(fixes: Fixes) -> tuple[tuple[str, ...], ...]:
    """Every fix, the worst first."""
    squared = squared_mahalanobis(fixes.truth_m_NE - fixes.position_m_NE, fixes.covariance_m2_NEE)
    inside, heard = inside_region(squared, REGION), fixes.heard_NR.sum(axis=1)
    radii_m = error_radius_m(fixes.covariance_m2_NEE, REGION)
    return tuple(
        (
            fixes.session_ids[fix],
            _told(fixes, fix),
            spoken_m(float(radii_m[fix])),
            "yes" if inside[fix] else "no",
            f"{heard[fix]}",
            *("{:,.0f}, {:,.0f}".format(*place_m[fix]) for place_m in (fixes.truth_m_NE, fixes.position_m_NE)),
        )
        for fix in fixes.worst[:ROWS_TOLD]
    )


def _told(fixes: Fixes, fix: int | np.integer) -> str:
    return spoken_m(float(fixes.error_m_N[fix]))

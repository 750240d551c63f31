"""The figures of a comparison: differences with their intervals, errors of each run, and differences fix by fix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from heimdall_jax.evaluation.comparison import in_words, signed_m
from heimdall_jax.evaluation.fixes import Fixes
from heimdall_jax.evaluation.panels import BLUE, ORANGE, Panel, drawn, grid, in_metres, in_percent, percent
from heimdall_jax.evaluation.report_figures import DASHES, LEAST_M, QUANTILES
from heimdall_jax.evaluation.table import spoken_m

SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


def difference_intervals(compared: Mapping[str, Any]) -> Panel:
    """Differences of the mean and the median error from those of the first run, with 95 % intervals."""
    others: Mapping[str, Any] = compared["others"]

    def draw(figure: Any, axes: Any) -> None:
        axes.axvline(0, color="k", linewidth=0.8)
        for at, (key, colour) in enumerate((("mean", BLUE), ("median", ORANGE))):
            for row, told in enumerate(others.values()):
                found = told["error_m"][key]
                low, high = found["interval"] or (found["difference"], found["difference"])
                place, label = row + 0.3 * at - 0.15, f"{key} error" if row == 0 else None
                axes.plot([low, high], [place, place], "-", color=colour, linewidth=2)
                axes.plot(found["difference"], place, "o" if at == 0 else "s", color=colour, label=label)
        axes.set_yticks(range(len(others)), others, fontsize=8)
        axes.set_ylim(len(others) - 0.5, -0.5)
        in_metres(axes.xaxis, f"error less that of {compared['first']}; to the left is better")
        axes.locator_params(axis="x", nbins=6)
        grid(axes)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)

    rows = [
        (name, *(in_words(told["error_m"][key], signed_m) for key in ("mean", "median")), told["verdict"])
        for name, told in others.items()
    ]
    verdicts = "; ".join(f"{name}: {told['verdict']}" for name, told in others.items())
    return Panel(
        "difference_intervals",
        "Is one better?",
        f"Differences of errors from those of {compared['first']} on the same transmissions, and their 95 % intervals. "
        "One that holds zero tells no difference.",
        f"Intervals of the differences by run. By the mean error, {verdicts}.",
        ("", "mean error", "median error", "by the mean error"),
        tuple(rows),
        drawn(draw, (4.8, 2.2 + 0.5 * len(others))),
    )


def errors_by_run(fixes: Mapping[str, Fixes]) -> Panel:
    """Which share of each run's errors is below a distance."""

    def draw(figure: Any, axes: Any) -> None:
        share = np.linspace(0, 1, 201)
        for number, (name, its) in enumerate(fixes.items()):
            style: dict[str, Any] = {"color": f"C{number}", "linestyle": DASHES[number % len(DASHES)]}
            axes.plot(np.maximum(np.quantile(its.error_m_N, share), LEAST_M), share, label=name, **style)
        axes.set_xscale("log")
        in_metres(axes.xaxis, "error")
        in_percent(axes.yaxis, "fixes with a smaller error")
        grid(axes)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)

    medians = "; ".join(f"{name} {spoken_m(float(np.median(its.error_m_N)))}" for name, its in fixes.items())
    rows = ((name, *(spoken_m(float(np.quantile(its.error_m_N, q))) for q in QUANTILES)) for name, its in fixes.items())
    return Panel(
        "errors_by_run",
        "How large are the errors of each?",
        "Share of the test fixes whose error is below a distance.",
        f"Curves that rise from 0 to 100 %, one for each run. Half of the errors are below: {medians}.",
        ("", *(f"{percent(q)} below" for q in QUANTILES)),
        tuple(rows),
        drawn(draw, (4.8, 4.4)),
    )


def difference_by_fix(fixes: Mapping[str, Fixes]) -> Panel:
    """Differences of the errors of single fixes from those of the first run, in order."""
    (first, its), *others = fixes.items()
    change_m = {name: np.sort(_in_order(its, other) - its.error_m_N) for name, other in others}
    linear_m = max(LEAST_M, float(np.median(its.error_m_N)) / 10)

    def draw(figure: Any, axes: Any) -> None:
        axes.axhline(0, color="k", linewidth=0.8)
        for number, (name, each_m) in enumerate(change_m.items(), 1):
            share = np.linspace(0, 1, len(each_m))
            axes.plot(share, each_m, color=f"C{number}", linestyle=DASHES[number % len(DASHES)], label=name)
        axes.set_yscale("symlog", linthresh=linear_m)
        in_percent(axes.xaxis, "fixes, the most improved first")
        in_metres(axes.yaxis, f"error less that of {first}")
        grid(axes)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)

    better = "; ".join(f"{name} {percent(float((each_m < 0).mean()))}" for name, each_m in change_m.items())
    rows = ((name, *(signed_m(float(np.quantile(each_m, q))) for q in SHARES)) for name, each_m in change_m.items())
    return Panel(
        "difference_by_fix",
        "Where does one win?",
        f"How much smaller or larger each fix's error is than that of {first}. The axis is linear within "
        f"{spoken_m(linear_m)} of zero, and logarithmic beyond.",
        f"Rising curves of the differences, one for each run. Share of fixes with a smaller error: {better}.",
        ("", *(f"{percent(q)} below" for q in SHARES)),
        tuple(rows),
        drawn(draw, (4.8, 4.4)),
    )


def _in_order(first: Fixes, other: Fixes) -> np.ndarray:
    """The other's errors in the order of the first's rows, which are the same."""
    places = {name: row for row, name in enumerate(other.session_ids)}
    return other.error_m_N[[places[name] for name in first.session_ids]]

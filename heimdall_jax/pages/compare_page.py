"""The page that compares runs on the same transmissions."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from heimdall_jax.evaluation.comparison import COLUMNS as COMPARED
from heimdall_jax.evaluation.comparison import comparison_cells
from heimdall_jax.evaluation.fixes import Fixes
from heimdall_jax.evaluation.panels import percent
from heimdall_jax.evaluation.report_comparison import difference_by_fix, difference_intervals, errors_by_run
from heimdall_jax.evaluation.spread import OF_BASELINES, in_unit
from heimdall_jax.evaluation.table import COLUMNS, spoken_m
from heimdall_jax.pages.render import Sheet, render


def compare_page(told: Mapping[str, Any], results: Sequence[Mapping[str, Any]], fixes: Mapping[str, Fixes]) -> str:
    """The page of several runs.

    Args:
        told: The contents of `seeds.json`, with `compared`.
        results: Of `metrics.json` of each run, in order.
        fixes: Of each run, by its name, in the same order.
    """
    compared, others = told["compared"], told["compared"]["others"]
    panels = [errors_by_run(fixes)]
    if others:
        panels = [difference_intervals(compared), *panels, difference_by_fix(fixes)]
    return render(
        "compare.html.jinja",
        title=f"{len(fixes)} runs compared: {told['dataset']}, split {told['split']}",
        subtitle=f"The same {told['n']:,} fixes with a known truth. Errors are ground distances.",
        warnings=_warnings(told, results),
        headlines=[(f"{name} beside {compared['first']}", found["verdict"]) for name, found in others.items()],
        sheets=[*_compared(compared, fixes[compared["first"]]), _runs(results, list(fixes)), _spread(told["metrics"])],
        panels=[(panel, base64.b64encode(panel.png).decode("ascii")) for panel in panels],
    )


def _warnings(told: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[str]:
    """What would make a reader take a difference for more than it is."""
    warnings = []
    if any(result["n_trained_on"] for result in results):
        warnings.append("Some of these rows were trained on: this is no test.")
    if told["differing"]:
        warnings.append(f"The runs differ by more than their seed: {', '.join(told['differing'])}.")
    return warnings


def _compared(compared: Mapping[str, Any], first: Fixes) -> list[Sheet]:
    """Each run beside the first."""
    if not compared["others"]:
        return []
    rows = tuple((name, *comparison_cells(found)) for name, found in compared["others"].items())
    drawn = "the fixes" if first.start_time_s_N is None else "five-minute chunks of the fixes, which are neighbours"
    caption = (
        f"Of each run less {compared['first']}, transmission by transmission; less is better. In brackets 95 % "
        f"intervals by bootstrap over {drawn}. The verdict is of the mean error. It is about these trained models, not "
        "about their methods: trainings with other seeds differ, too. Of twenty equal runs one seems different."
    )
    return [Sheet("Compared", caption, ("", *COMPARED), rows)]


def _runs(results: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Sheet:
    rows = tuple(
        (
            name,
            *(spoken_m(result["error_m"][key]) for key in COLUMNS),
            f"{result['nll_nats_per_fix']:.2f}",
            percent(result["coverage"]["0.68"]),
        )
        for name, result in zip(names, results, strict=True)
    )
    header = ("", *COLUMNS.values(), "nats per fix", "in 68 %")
    return Sheet("Runs", "Errors, likelihood, and truths inside the 68 % regions.", header, rows)


def _spread(metrics: Mapping[str, Mapping[str, Any]]) -> Sheet:
    """Mean and spread over the runs."""
    told = {name: spread for name, spread in metrics.items() if not name.startswith(OF_BASELINES)}
    keys = ("mean", "std", "min", "max")
    rows = (
        (name, *("" if spread[key] is None else in_unit(name, spread[key]) for key in keys))
        for name, spread in told.items()
    )
    caption = "Of each measure over the runs; std is the sample standard deviation."
    return Sheet("Spread", caption, ("", *keys), tuple(rows))

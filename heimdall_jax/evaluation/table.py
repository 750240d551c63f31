"""The small table a run ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from heimdall_jax.evaluation.conditions import spoken_s

COLUMNS = {"mean": "mean", "median": "median", "p68": "68 %", "p90": "90 %", "rmse": "rms"}
DETECTION = ("not exactly one", "AUROC", "95 % interval", "recordings", "single ones", "caught")


def closing_table(metrics: Mapping[str, Any], files: Mapping[str, Path | str]) -> Group:
    """Errors of the model beside baselines, controls and bound or reference, then coverage, then where the files are.

    Args:
        metrics: What `summarize` gives.
        files: What is where.
    """
    heading = f"{metrics['dataset']}, split {metrics['split']}, n = {metrics['n']}"
    table = Table("error", *COLUMNS.values(), title=heading, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("model", *_cells(metrics["error_m"]), style="bold", end_section=True)
    for kind in ("baselines", "controls"):
        for name, errors in metrics[kind].items():
            table.add_row(spoken(name), *_cells(errors))
        table.add_section()
    bound = metrics.get("bound")
    if bound is not None:
        table.add_row(bound_name(bound), *_cells(bound_errors(bound)))
    tables = [table, _clock_table(metrics["by_clock"])] if "by_clock" in metrics else [table]
    tables += [_detection_table(metrics["detection"])] if "detection" in metrics else []
    lines = [_coverage(metrics), f"likelihood: {metrics['nll_nats_per_fix']:.2f} nats per fix, lower is better"]
    lines += [doubt_note(metrics["doubt"])] if "doubt" in metrics else []
    lines += [reference_note(bound)] if bound is not None and not binding(bound) else []
    width = max((len(name) for name in files), default=0)
    lines += [f"{name:<{width}}  {path}" for name, path in files.items()]
    return Group(*tables, *(Text(line, overflow="fold") for line in lines))


def conditions_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The 68 % error of either half of the evidence and of both beside the bound, at each clock."""
    names = ("clocks", "n", "powers", "times", "fused", "bound", "ratio", "95 %", "in\n68 %", "in\n30 m", "in\nhull")
    table = Table(*names, title="68 % error at each clock", title_justify="left", box=SIMPLE, padding=0, pad_edge=False)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for row in rows:
        errors, (low, high) = row["error_m"], row["ratio_interval"]
        table.add_row(
            spoken_s(row["clock_sigma_s"]) + ("\nechoes" if row["echoes"] else ""),
            f"{row['n']:,}",
            *(_narrow(errors[name]["p68"]) for name in ("power_only", "timing_only", "fused")),
            _narrow(row["bound_p68_m"]),
            _ratio(row),
            f"{low:.2f}-{high:.2f}",
            f"{row['coverage_68']:.1%}",
            f"{row['within_30_m']:.0%}",
            "" if row["within_30_m_in_hull"] is None else f"{row['within_30_m_in_hull']:.0%}",
        )
    return table


def faults_table(faults: Mapping[str, Any]) -> Table:
    """Of each kind of fault, the receiver that moves the median error most, without and with the watch on receivers."""
    clean = faults["clean"]
    heading = f"one receiver fails; clean median {spoken_m(clean['median_m'])}, watched {spoken_m(clean['watched_m'])}"
    table = Table("fault", "worst", "median", "watched: worst", "median", "found", "also flagged", title=heading)
    for column in (2, 4, 5, 6):
        table.columns[column].justify = "right"
    for column in (1, 3):
        table.columns[column].overflow = "fold"
    for kind, row in faults["worst"].items():
        cells = []
        for which, moved in (("unwatched", "moved"), ("watched", "watched_moved")):
            cells += [row[which]["receiver"], f"{row[which][moved]:+.0%}"]
        table.add_row(kind, *cells, f"{row['found']} of {row['receivers']}", str(row["with_false_flags"]))
    return table


def _clock_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Of the test's fixes, by what their receivers' clocks were."""
    table = Table("68 % error", "n", "model", "bound", "ratio", "in the 68 % region")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        sizes = (row["error_m"]["fused"]["p68"], row["bound_p68_m"])
        shares = (_ratio(row), f"{row['coverage_68']:.0%}")
        table.add_row(row["name"], f"{row['n']:,}", *map(spoken_m, sizes), *shares)
    return table


def _detection_table(found: Mapping[str, Any]) -> Table:
    """How well recordings of two transmitters and of none are told from single ones."""
    table = Table(*DETECTION, caption=detection_note(found), caption_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in detection_rows(found):
        table.add_row(*row)
    return table


def detection_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Cells under `DETECTION` of each count of transmitters that was there."""
    rows = []
    for name, label in (("two", "two transmitters"), ("none", "no transmitter")):
        if name in found:
            told = found[name]
            sure = "" if told["interval"] is None else "{:.3f} to {:.3f}".format(*told["interval"])
            counts = f"{told['detected']:,}", f"{told['usual']:,}" + ("" if told["same_days"] else ", other days")
            rows.append((label, f"{told['auroc']:.3f}", sure, *counts, f"{told['caught']:.0%}"))
    return rows


def detection_note(found: Mapping[str, Any]) -> str:
    """What catching them costs, and what was not judged."""
    left = (
        f" {found['left_out']:,} recordings that too few receivers heard are not judged." if found["left_out"] else ""
    )
    alone = (
        f" Two are judged with their minute; each alone: {found['two']['auroc_alone']:.3f}." if "two" in found else ""
    )
    return f"Caught at a threshold that refuses {found['refused']:.1%} of the single test recordings.{alone}{left}"


def _ratio(row: Mapping[str, Any]) -> str:
    """In brackets where the bound does not bind: knowing the region, an estimator may be below it."""
    return f"{row['ratio_p68']:.2f}" if row["bound_binds"] else f"({row['ratio_p68']:.2f})"


def binding(bound: Mapping[str, Any]) -> bool:
    """Whether the `bound` of `metrics.json` is one; else a reference."""
    return bound.get("binds", True)


def bound_name(bound: Mapping[str, Any]) -> str:
    """What it is called where it stands beside the model."""
    return f"{'bound' if binding(bound) else 'reference'}: {spoken(bound['kind'])}"


def bound_errors(bound: Mapping[str, Any]) -> dict[str, float]:
    """It as errors (`summary.Errors`) that are known of it."""
    return {key.removesuffix("_m"): value for key, value in bound.items() if key.endswith("_m")}


def reference_note(bound: Mapping[str, Any]) -> str:
    """Why a reference is no bound, and which fixes it leaves out."""
    left = f"; {bound['left_out']:,} fixes that it cannot place are left out" if bound["left_out"] else ""
    return f"The reference knows a distance law alone; who knows a map of powers may be below it{left}."


def doubt_note(told: Mapping[str, Any]) -> str:
    """How many fixes are in doubt, and what that tells."""
    means = [
        f"{which} {spoken_m(told[key])}"
        for which, key in (("theirs", "doubted_m"), ("others", "kept_m"))
        if key in told
    ]
    asked = f"{told['share']:.1%} of the fixes, of a 68 % radius above {spoken_m(told['above_m'])}"
    return f"better not known: {asked}; mean error: {', '.join(means)}"


def _coverage(metrics: Mapping[str, Any]) -> str:
    """Truths inside the predicted regions, against what they promise."""
    shares = ", ".join(f"{share:.0%} in the {float(p):.0%} region" for p, share in metrics["coverage"].items())
    interval = metrics.get("coverage_interval")
    sure = f" (68 % region: {interval[0]:.0%} to {interval[1]:.0%} with 95 % confidence)" if interval else ""
    return f"coverage: {shares}{sure}"


def _cells(errors: Mapping[str, float]) -> list[str]:
    return [spoken_m(errors[key]) if key in errors else "" for key in COLUMNS]


def spoken_m(metres: float) -> str:
    """Three digits or whole metres, in m or km."""
    if metres < 10_000:
        return f"{metres:.1f} m" if metres < 100 else f"{metres:,.0f} m"
    return f"{metres / 1000:.1f} km"


def _narrow(metres: float) -> str:
    """As `spoken_m`, for tables of many columns."""
    return spoken_m(metres).replace(" ", "")


def spoken(name: str) -> str:
    """A name of `metrics.json` in words."""
    return name.replace("_", " ")

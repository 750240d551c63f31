"""The results for a person, and for other programs."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import asdict
from importlib import metadata
from typing import Any

from rich.table import Table

from heimdall_jax.benchmarks.race import Result

VERSIONS = ("jax", "jaxlib", "flax", "onnxruntime", "numpy", "torch", "librosa")


def speed_table(results: Iterable[Result]) -> Table:
    """A row for each contestant and each figure."""
    table = Table(title="medians, and from the fastest to the slowest")
    for column in ("work", "who", "milliseconds", "figure", "wanted", ""):
        table.add_column(column, justify="left" if column in ("work", "who", "") else "right")
    for line in results:
        work = line.work
        for who, timing in line.timings.items():
            took = f"{1e3 * timing.median_s:,.4g} ({1e3 * timing.least_s:,.4g} to {1e3 * timing.most_s:,.4g})"
            figure = f"{line.ratios[who]:.2f} x ours" if who in line.ratios else ""
            table.add_row(work, who, took, figure, line.targets.get(who, ""), _mark(line.met(who)))
            work = ""
        for name in (name for name in line.ratios if name not in line.timings):
            table.add_row("", name, "", f"{line.ratios[name]:.3g}", line.targets.get(name, ""), _mark(line.met(name)))
    return table


def speed_tree(results: Iterable[Result]) -> dict[str, Any]:
    """As JSON: the machine, the versions, and every result."""
    lines = [
        asdict(line)
        | {
            "timings": {who: timing._asdict() for who, timing in line.timings.items()},
            "met": {name: line.met(name) for name in line.targets},
        }
        for line in results
    ]
    return {"machine": f"{platform.machine()}, Python {platform.python_version()}", "versions": _versions()} | {
        "results": lines
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def _mark(met: bool | None) -> str:
    return "" if met is None else "met" if met else "MISSED"

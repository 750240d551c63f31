"""Several runs as one result: each metric's mean and spread over them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from heimdall_jax.errors import DataError, explain
from heimdall_jax.evaluation.table import spoken_m

APART = ("skipped", "notes", "by_clock", "step", "dataset", "split", "n", "n_trained_on")
"""Of `metrics.json`: what is no measure of the model."""
OF_BASELINES = ("baselines.", "baseline_regions.")
"""Alike in all runs, so they are in the file only."""

Spread = dict[str, Any]
"""`mean`, `std` (sample standard deviation; None for one run), `min`, `max`, and `values` by run."""


def spreads(results: Sequence[Mapping[str, Any]]) -> dict[str, Spread]:
    """Of each number that all results hold, by its dotted name.

    Args:
        results: Contents of `metrics.json`, one of each run.

    Raises:
        DataError: No results, or they are of other data: other names, splits or numbers of rows.
    """
    if not results:
        raise DataError(explain("runs", got="none", allowed="one or more", cure="Give run folders."))
    measured = [tuple(result[key] for key in ("dataset", "split", "n")) for result in results]
    if len(set(measured)) > 1:
        got = "; ".join(f"{name}, split {split}, n = {n}" for name, split, n in dict.fromkeys(measured))
        cure = "Measure all of them on the same rows: give --data and --split, or leave the others out."
        raise DataError(explain("runs", got=got, allowed="results on the same rows", cure=cure))
    flat = [_numbers({key: value for key, value in result.items() if key not in APART}) for result in results]
    shared = [name for name in flat[0] if all(name in numbers for numbers in flat)]
    return {name: _spread([numbers[name] for numbers in flat]) for name in shared}


def spread_table(heading: str, found: Mapping[str, Spread]) -> Table:
    """Mean and spread of every measure of the model."""
    runs = len(next(iter(found.values()))["values"])
    table = Table("", "mean", "std", "min", "max", title=f"{heading}, {runs} runs", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, spread in found.items():
        if not name.startswith(OF_BASELINES):
            cells = (spread[key] for key in ("mean", "std", "min", "max"))
            table.add_row(name, *("" if value is None else in_unit(name, value) for value in cells))
    return table


def _numbers(tree: Mapping[str, Any], where: str = "") -> dict[str, float]:
    """The numbers in nested mappings by dotted name; lists and texts are left out."""
    flat: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _numbers(value, f"{where}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            flat[f"{where}{key}"] = float(value)
    return flat


def _spread(values: list[float]) -> Spread:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": deviation, "min": min(values), "max": max(values)} | {
        "values": values
    }


def in_unit(name: str, value: float) -> str:
    """A number as its unit asks."""
    if name.endswith("area_m2"):
        return f"{value / 1e6:,.3g} km2"
    if name.startswith("coverage."):
        return f"{value:.1%}"
    if name.startswith(("error_m.", "controls.", "risk_coverage.")) or name.endswith("_m"):
        return spoken_m(value)
    return f"{value:.3f}"

"""Reports on exports for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from heimdall_jax.export.manifest import Smaller
from heimdall_jax.export.parity import LIMITS, Report

TITLES = {
    "position_m": "metres",
    "position_sigmas": "sigmas",
    "covariance_relative": "covariance",
    "position_deg": "degrees",
}


def parity_table(report: Report) -> Table:
    """The largest differences between ONNX Runtime and JAX, a row per batch and receiver count, limits below."""
    table = Table(title="ONNX Runtime against JAX, largest differences", show_footer=True)
    table.add_column("batch", justify="right", footer="limit")
    table.add_column("receivers", justify="right")
    table.add_column("inputs")
    for name, limit in LIMITS.items():
        table.add_column(TITLES[name], justify="right", footer=f"{limit:g}")
    everything = {name for row in report.rows for name in row.given}
    for row in report.rows:
        left_out = everything.difference(row.given)
        inputs = f"without {', '.join(sorted(left_out))}" if left_out else "all"
        table.add_row(str(row.batch), str(row.receivers), inputs, *(f"{getattr(row, name):.2g}" for name in LIMITS))
    return table


def validation_tables(report: Report, entries: Sequence[Smaller]) -> Group:
    """Both tables below; without the second where no smaller file was asked for."""
    return Group(parity_table(report), *([smaller_table(entries)] if entries else []))


def smaller_table(entries: Sequence[Smaller]) -> Group:
    """What each smaller file is worth beside the float32 one, then why one was refused."""
    table = Table("", "MB", "mean", "median", "growth", "in 68 %", "off by", "", box=SIMPLE, padding=(0, 1))
    table.title, table.title_justify = "Smaller files", "left"
    for column in table.columns[1:-1]:
        column.justify, column.no_wrap = "right", True
    told = next((entry.accuracy for entry in entries if entry.accuracy is not None), None)
    if told is not None:
        where = f"{told['dataset']}, split {told['split']} ({told['side']}), n = {told['n']}"
        table.title = f"Smaller files, metres: {where}"
        size, *errors, inside = _worth(told["float32"]["size_bytes"], told["float32"])
        table.add_row("float32", size, *errors, "", inside, end_section=True)
    for entry in entries:
        size, mean, median, inside = _worth(entry.size_bytes, entry.accuracy)
        growth = "" if entry.accuracy is None else f"{entry.accuracy['growth']:+.2%}"
        apart = "" if entry.differences is None else f"{entry.differences['position_m']:,.1f}"
        verdict = "accepted" if entry.accepted else "refused"
        table.add_row(entry.precision, size, mean, median, growth, inside, apart, verdict)
    reasons = (Text(f"refused: {entry.reason}", overflow="fold") for entry in entries if not entry.accepted)
    return Group(table, *reasons)


def _worth(size_bytes: int | None, accuracy: Mapping[str, Any] | None) -> list[str]:
    """Megabytes, mean and median error, share in the region; empty where unknown."""
    size = "" if size_bytes is None else f"{size_bytes / 1e6:,.2f}"
    if accuracy is None:
        return [size, "", "", ""]
    errors = accuracy["error_m"]
    return [size, f"{errors['mean']:,.1f}", f"{errors['median']:,.1f}", f"{accuracy['coverage_68']:.1%}"]

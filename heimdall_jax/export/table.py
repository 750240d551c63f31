"""A parity report for a person."""

from __future__ import annotations

from rich.table import Table

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

"""Figures of results, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heimdall_jax.errors import StorageError, explain

SERIES = {"power_only": "powers only", "timing_only": "times only", "fused": "fused"}


def error_against_clock(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """68 % error of either half of the evidence, of both, and the bound, against the receivers' clock sigma.

    Args:
        rows: Of `conditions.json`; those with echoes are left out.
        path: Of the PNG.

    Raises:
        StorageError: It cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    clear = sorted((row for row in rows if not row["echoes"]), key=lambda row: row["clock_sigma_s"])
    clock_s = [row["clock_sigma_s"] for row in clear]
    figure = Figure(figsize=(7, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, label in SERIES.items():
        axes.loglog(clock_s, [row["error_m"][name]["p68"] for row in clear], "o-", label=label)
    axes.loglog(clock_s, [row["bound_p68_m"] for row in clear], "k--", label="Cramér-Rao bound, fused")
    axes.set_xlabel("standard deviation of every receiver's clock, seconds")
    axes.set_ylabel("68 % of errors are below, metres")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
    except OSError as error:
        cure = "Free space, or choose another folder."
        raise StorageError(explain(f"writing {path}", got=error, allowed="a writable folder", cure=cure)) from error

"""The figure of `conditions.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heimdall_jax.evaluation.panels import drawn, in_metres

SERIES = {"power_only": "powers only", "timing_only": "times only", "fused": "fused"}


def error_against_clock(rows: Sequence[dict[str, Any]]) -> bytes:
    """PNG: 68 % error of either half of the evidence, of both, and the bound, against the receivers' clock sigma.

    Args:
        rows: Of `conditions.json`; those with echoes are left out.
    """
    clear = sorted((row for row in rows if not row["echoes"]), key=lambda row: row["clock_sigma_s"])
    clock_s = [row["clock_sigma_s"] for row in clear]

    def draw(figure: Any, axes: Any) -> None:
        for name, label in SERIES.items():
            axes.loglog(clock_s, [row["error_m"][name]["p68"] for row in clear], "o-", label=label)
        axes.loglog(clock_s, [row["bound_p68_m"] for row in clear], "k--", label="Cramér-Rao bound, fused")
        axes.set_xlabel("standard deviation of every receiver's clock, seconds")
        in_metres(axes.yaxis, "68 % of errors are below")
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend()

    return drawn(draw, (7.0, 5.0))

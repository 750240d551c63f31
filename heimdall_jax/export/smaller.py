"""May a smaller graph stand for the float32 one? How far off its answers are, and what that may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from heimdall_jax.errors import ExportError, explain
from heimdall_jax.export.parity import LIMITS, keep_receivers
from heimdall_jax.export.session import ask, open_session
from heimdall_jax.export.signature import Tensor, to_graph_dtype
from heimdall_jax.types import Sample

MAX_GROWTH = 0.02
"""A smaller graph may raise the mean error by this share at most."""
BATCHES = (1, 3)
"""Beside all samples at once."""
AGAIN = 2.0
"""Differences may be larger by this factor on another processor, which rounds otherwise."""


def file_of(precision: str) -> str:
    """Name of a smaller file."""
    return f"model_{precision}.onnx"


def differences(single: bytes, smaller: bytes, samples: Sample, inputs: Sequence[Tensor]) -> dict[str, float]:
    """The largest differences between a smaller graph's answers and the float32 one's, in ONNX Runtime.

    At batch 1, 3 and of all samples, with all receivers and, where their number is free, with 3.

    Returns:
        `position_m`: distance between the places, metres. `position_sigmas`: the same in the float32 graph's sigmas.
        `covariance_relative`: |C_ij - C'_ij| / sqrt(C_ii C_jj).

    Raises:
        ExportError: ONNX Runtime cannot run one of them, or an answer is NaN or infinite.
    """
    sessions = [open_session(model) for model in (single, smaller)]
    total, found = samples[inputs[0].name].shape[1], np.zeros(3)
    for receivers in {min(3, total), total} if inputs[0].shape[1] == "R" else {total}:
        shown = keep_receivers(samples, receivers, drop=True) if receivers < total else samples
        for batch in (*BATCHES, len(samples[inputs[0].name])):
            feed = {tensor.name: to_graph_dtype(tensor, shown[tensor.name][:batch]) for tensor in inputs}
            (ours_m, _, ours_m2), (theirs_m, _, theirs_m2) = (ask(session, feed) for session in sessions)
            offset_m = theirs_m.astype(np.float64) - ours_m
            squared = np.einsum("bi,bi->b", offset_m, np.linalg.solve(ours_m2, offset_m[..., None])[..., 0])
            variance_m2 = np.einsum("bii->bi", ours_m2)
            relative = np.abs(theirs_m2 - ours_m2) / np.sqrt(variance_m2[:, :, None] * variance_m2[:, None, :])
            here = np.linalg.norm(offset_m, axis=1).max(), np.sqrt(np.abs(squared)).max(), relative.max()
            found = np.maximum(found, here)  # NaN stays
    if not np.isfinite(found).all():
        cure = "Serve model.onnx, or another precision."
        raise ExportError(explain("smaller graph's answers", got="NaN or infinity", allowed="finite ones", cure=cure))
    return dict(zip(("position_m", "position_sigmas", "covariance_relative"), map(float, found), strict=True))


def check_size(precision: str, size_bytes: int, single_size_bytes: int) -> None:
    """Refuse a file that is no smaller than the float32 one.

    Raises:
        ExportError: It is not.
    """
    if size_bytes >= single_size_bytes:
        allowed, cure = f"fewer than model.onnx's {single_size_bytes:,}", "Serve model.onnx, or another precision."
        raise ExportError(explain(f"{precision} export", got=f"{size_bytes:,} bytes", allowed=allowed, cure=cure))


def check_growth(precision: str, mean_m: float, single_mean_m: float, *, where: str) -> None:
    """Refuse a smaller graph whose mean error exceeds the float32 graph's by more than `MAX_GROWTH`.

    Args:
        precision: Of the smaller graph.
        mean_m: Its mean error, metres.
        single_mean_m: The float32 graph's.
        where: What both were measured on, for the message.

    Raises:
        ExportError: It does, or is NaN.
    """
    growth = mean_m / single_mean_m - 1.0
    if not growth <= MAX_GROWTH:
        got = f"a mean error of {mean_m:,.1f} m on {where}, {growth:+.1%} from float32's {single_mean_m:,.1f} m"
        allowed, cure = f"at most {MAX_GROWTH:+.0%}", "Serve model.onnx, or another precision."
        raise ExportError(explain(f"{precision} export", got=got, allowed=allowed, cure=cure))


def check_again(file: str, found: Mapping[str, float], recorded: Mapping[str, float]) -> None:
    """Compare differences measured now with those that a manifest records.

    Raises:
        ExportError: One is more than `AGAIN` times as large, and larger than an export in float32 may be off.
    """
    for name, difference in found.items():
        limit = max(AGAIN * recorded[name], LIMITS[name])
        if not difference <= limit:
            what, cure = f"{name} of {file} against model.onnx", "Export the run again."
            raise ExportError(explain(what, got=f"{difference:.3g}", allowed=f"at most {limit:.3g}", cure=cure))

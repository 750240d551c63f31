"""`metrics.json`: what a set of predictions is worth, in the terms other programs rely on."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Shaped
from numpy import ndarray

from heimdall_jax.errors import DataError, StorageError, explain
from heimdall_jax.evaluation.calibration import (
    bootstrap_interval,
    chunks,
    coverage,
    inside_region,
    median_interval,
    squared_mahalanobis,
)
from heimdall_jax.evaluation.regions import area_m2, risk
from heimdall_jax.geodesy import ground_distance_m, local_to_degrees

Errors = dict[str, float]
"""`mean`, `median`, `p68`, `p90` and `rmse` of ground distances, metres."""


def ground_error_m(
    position_m: Shaped[ndarray, "N 2"], truth_m: Shaped[ndarray, "N 2"], origin_deg: tuple[float, float]
) -> Float64[ndarray, " N"]:
    """Distance (N,) in metres along the ground between places given as local east, north (N, E) in metres.

    Raises:
        DataError: No rows, counts that differ, or a place that is not finite or not on the Earth.
    """
    if len(truth_m) == 0 or position_m.shape != truth_m.shape:
        got = f"{len(position_m)} positions and {len(truth_m)} truths"
        cure = "Choose a split that leaves test rows with known truth."
        raise DataError(explain("evaluation", got=got, allowed="as many of both, at least one", cure=cure))
    with np.errstate(invalid="ignore"):  # beyond the Earth's limb there is no ground: NaN, refused below
        places = [local_to_degrees(np.asarray(x, np.float64), origin_deg) for x in (position_m, truth_m)]
        error_m = ground_distance_m(*places)
    if not np.isfinite(error_m).all():
        got = f"{int((~np.isfinite(error_m)).sum())} of {len(error_m)} that are not"
        cure = "NaN or a place thousands of km away means that training failed; look at the loss."
        raise DataError(explain("positions", got=got, allowed="finite and on the ground", cure=cure))
    return error_m


def error_summary(error_m: Float[ndarray, " N"]) -> Errors:
    """Statistics of errors (N,) in metres; `p68` and `p90` are quantiles."""
    p68, p90 = np.quantile(error_m, (0.68, 0.9))
    return {
        "mean": float(error_m.mean()),
        "median": float(np.median(error_m)),
        "p68": float(p68),
        "p90": float(p90),
        "rmse": float(np.sqrt(np.mean(error_m**2))),
    }


def bound_of_errors(kind: str, error_m: Float[ndarray, " N"]) -> dict[str, Any]:
    """A bound that is itself an estimator (the posterior mean), from its errors (N,) in metres."""
    errors = error_summary(error_m)
    return {"kind": kind, "median_m": errors["median"], "p68_m": errors["p68"], "rmse_m": errors["rmse"]}


def summarize(
    position_m: Shaped[ndarray, "N 2"],
    covariance_m2: Shaped[ndarray, "N 2 2"],
    truth_m: Shaped[ndarray, "N 2"],
    *,
    origin_deg: tuple[float, float],
    dataset: str,
    split: str,
    truth_error_m: Shaped[ndarray, " N"] | None = None,
    start_time_s: Shaped[ndarray, " N"] | None = None,
    baselines: Mapping[str, Errors] | None = None,
    controls: Mapping[str, Errors] | None = None,
    bound: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The contents of `metrics.json`.

    Args:
        position_m: Predicted east, north (N, E), metres.
        covariance_m2: Its predicted covariance (N, E, E), square metres.
        truth_m: True east, north (N, E), metres.
        origin_deg: Latitude, longitude of the local frame's origin.
        dataset: Name of the data set.
        split: Name of the split whose test rows these are.
        truth_error_m: One standard deviation of the truth per axis (N,): widens the density that the likelihood
            is of, since a recorded truth scatters so about the real one; the regions stay as predicted.
        start_time_s: Unix times (N,); with them the intervals resample five-minute chunks.
        baselines: Their errors, by name.
        controls: Likewise.
        bound: `kind`, `median_m`, `p68_m`, `rmse_m`; the ratios of the errors to it are added.

    Raises:
        DataError: No rows, or numbers that cannot be judged.
    """
    error_m = ground_error_m(position_m, truth_m, origin_deg)
    errors = error_summary(error_m)
    offset_m = np.asarray(truth_m, np.float64) - np.asarray(position_m, np.float64)
    covariance = np.asarray(covariance_m2, np.float64)
    squared = squared_mahalanobis(offset_m, covariance)
    metrics: dict[str, Any] = {
        "dataset": dataset,
        "split": split,
        "n": len(offset_m),
        "error_m": errors,
        "nll_nats_per_fix": float(nll_nats(offset_m, covariance, truth_error_m).mean()),
        "coverage": coverage(squared),
        "region_area_m2": float(area_m2(covariance).mean()),
        "risk_coverage": risk(error_m, covariance),
        "baselines": dict(baselines or {}),
        "controls": dict(controls or {}),
    }
    groups = None if start_time_s is None else chunks(np.asarray(start_time_s, np.float64))
    metrics |= _intervals(squared, error_m, groups)
    if bound is not None:
        ratios = {f"ratio_{key}": errors[key] / bound[f"{key}_m"] for key in ("median", "p68", "rmse")}
        metrics["bound"] = {**bound, **ratios}
    return metrics


def _intervals(squared: np.ndarray, error_m: np.ndarray, groups: np.ndarray | None) -> dict[str, list[float]]:
    """95 % intervals of the 68 % coverage and of the errors' mean and median; none where there is one group."""
    found = {
        "coverage_interval": bootstrap_interval(inside_region(squared, 0.68), groups),
        "error_interval_m": bootstrap_interval(error_m, groups),
        "error_median_interval_m": median_interval(error_m, groups),
    }
    return {name: list(interval) for name, interval in found.items() if interval is not None}


def rows_fingerprint(session_ids: Sequence[str], truth_m: Shaped[ndarray, "N 2"]) -> str:
    """Digest of the rows measured, in any order: equal for two results that can be compared.

    Args:
        session_ids: Of the rows (N,).
        truth_m: Their true east, north (N, E), metres.
    """
    rows = sorted(zip(session_ids, np.asarray(truth_m, "<f4"), strict=True), key=lambda row: row[0])
    digest = hashlib.sha256()
    for name, place in rows:
        digest.update(name.encode() + b"\0" + place.tobytes())
    return digest.hexdigest()[:16]


def nll_nats(
    offset_m: Float64[ndarray, "N 2"],
    covariance_m2: Float64[ndarray, "N 2 2"],
    truth_error_m: Shaped[ndarray, " N"] | None = None,
) -> Float64[ndarray, " N"]:
    """-ln N(offset; 0, C + e^2 I) (N,), a density per square metre, in nats.

    Args:
        offset_m: Truth less prediction (N, E), metres.
        covariance_m2: As predicted (N, E, E), square metres.
        truth_error_m: One standard deviation of the truth per axis (N,), metres; none if None.

    Raises:
        DataError: A covariance is not finite, symmetric and positive definite.
    """
    if truth_error_m is not None:
        covariance_m2 = covariance_m2 + np.asarray(truth_error_m, np.float64)[:, None, None] ** 2 * np.eye(2)
    squared = squared_mahalanobis(offset_m, covariance_m2)
    log_determinant = np.linalg.slogdet(covariance_m2)[1]
    return 0.5 * (squared + log_determinant) + math.log(2 * math.pi)


def write_metrics(path: Path, metrics: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all; its folder is made if absent.

    Raises:
        DataError: A number is NaN or infinite, which JSON cannot say.
        StorageError: The file cannot be written.
    """
    try:
        text = json.dumps(metrics, indent=2, allow_nan=False)
    except ValueError as error:
        cure = "Find the metric that is not a number."
        raise DataError(explain(path.name, got=error, allowed="finite numbers", cure=cure)) from error
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        cure = "Free space, or choose another folder."
        raise StorageError(explain(f"writing {path}", got=error, allowed="a writable folder", cure=cure)) from error

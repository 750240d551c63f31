"""How large predicted regions are, which fixes they say to trust, and the region that any estimator can be given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy
from jaxtyping import Float, Float64, Shaped
from numpy import ndarray

from heimdall_jax.evaluation.calibration import REGION, coverage
from heimdall_jax.geodesy import error_radius_m

SHARES_KEPT = (1.0, 0.9, 0.75, 0.5, 0.25)
"""Of the fixes, the most confident ones, whose mean error is reported."""
SURE = 0.95
"""Share of fixes that are not doubted, of those that the threshold is from."""
LEAST_SIGMA_M = 1.0
"""Of a fitted region: an estimator that knew the validation places by heart would have none."""


def area_m2(covariance_m2: Float64[ndarray, "N 2 2"]) -> Float64[ndarray, " N"]:
    """Area (N,) in square metres of each fix's 68 % ellipse: pi times -2 ln(1 - p) times the root of det C."""
    return -2 * math.pi * math.log1p(-REGION) * np.sqrt(np.linalg.det(covariance_m2))


def risk(
    error_m: Float[ndarray, " N"], covariance_m2: Float64[ndarray, "N 2 2"], shares: tuple[float, ...] = SHARES_KEPT
) -> dict[str, float]:
    """Mean error in metres of each share of the fixes, those with the smallest 68 % radius, by its name as text."""
    return risk_of_order(error_m, np.argsort(error_radius_m(covariance_m2, REGION), kind="stable"), shares)


def risk_of_order(
    error_m: Float[ndarray, " N"], order: Shaped[ndarray, " N"], shares: tuple[float, ...]
) -> dict[str, float]:
    """Mean error in metres of each share of the fixes, the first in that order; at least one fix is kept."""
    mean_m = np.cumsum(error_m[order], dtype=np.float64) / np.arange(1, len(error_m) + 1)
    return {f"{share:g}": float(mean_m[max(1, round(share * len(error_m))) - 1]) for share in shares}


def doubt_above_m(covariance_m2: Float64[ndarray, "N 2 2"]) -> float:
    """The 68 % radius in metres that all but 5 % of these fixes stay below, which were not learned.

    A larger one means "I don't know". The radius is the score of being out of distribution: of those that were tried it
    alone rose wherever errors did (`docs/accuracy.md`).
    """
    return float(np.quantile(error_radius_m(covariance_m2, REGION), SURE))


def doubt(error_m: Float[ndarray, " N"], covariance_m2: Float64[ndarray, "N 2 2"], above_m: float) -> dict[str, Any]:
    """What doubting fixes of a larger 68 % radius than `above_m` tells of errors (N,) in metres.

    Returns:
        `above_m`; `share` of the fixes that are doubted; their mean error, `doubted_m`, and that of the others,
        `kept_m`, each left out where there are none.
    """
    doubted = error_radius_m(covariance_m2, REGION) > above_m
    sides = {"doubted_m": error_m[doubted], "kept_m": error_m[~doubted]}
    means = {name: float(side_m.mean()) for name, side_m in sides.items() if len(side_m)}
    return {"above_m": above_m, "share": float(doubted.mean()), **means}


def isotropic_sigma_m(error_m: Float[ndarray, " N"], truth_error_m: Shaped[ndarray, " N"]) -> float:
    """The sigma per axis in metres, at least `LEAST_SIGMA_M`, that makes errors (N,) likeliest, in any direction alike.

    Where truths are exact it is the root of half the mean square; else each scatters by its own error (N,) besides.
    """
    found = scipy.optimize.minimize_scalar(
        lambda log_sigma: _nll(error_m, truth_error_m, math.exp(log_sigma)),
        bounds=(math.log(LEAST_SIGMA_M), math.log(max(float(error_m.max()), 2 * LEAST_SIGMA_M))),
        method="bounded",
        options={"xatol": 1e-7},
    )
    return math.exp(found.x)


def isotropic_region(
    error_m: Float[ndarray, " N"], truth_error_m: Shaped[ndarray, " N"], sigma_m: float
) -> dict[str, Any]:
    """What the same circle about every fix is worth, as `baseline_regions` of `metrics.json` tells it.

    Args:
        error_m: Of the fixes (N,), metres.
        truth_error_m: One standard deviation of the truth per axis (N,): in the likelihood, not in the region.
        sigma_m: Of the circle, per axis.
    """
    return {
        "sigma_m": sigma_m,
        "nll_nats_per_fix": _nll(error_m, truth_error_m, sigma_m),
        "coverage": coverage((error_m / sigma_m) ** 2),
        "region_area_m2": -2 * math.pi * math.log1p(-REGION) * sigma_m**2,
    }


def _nll(error_m: np.ndarray, truth_error_m: np.ndarray, sigma_m: float) -> float:
    """Mean of -ln N(error; 0, (sigma^2 + e^2) I), a density per square metre, in nats."""
    variance = sigma_m**2 + np.asarray(truth_error_m, np.float64) ** 2
    return float(np.mean(0.5 * error_m**2 / variance + np.log(2 * math.pi * variance)))

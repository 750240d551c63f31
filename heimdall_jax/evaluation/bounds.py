"""From Fisher information to the numbers that stand beside a result, and which bound applies.

Cramér-Rao binds unbiased estimators, and a prior over a region adds no Fisher information: where its 68 % radius is
large against the region an estimator that knows the region beats it, and the Bayes bound (`bayes.py`) applies.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from heimdall_jax.errors import DataError, explain

DRAWS = 64
"""Per fix: with 2,000 fixes the pooled quantile's own error is below 0.3 %."""
LARGEST_SHARE = 0.25
"""Of the region's side: a larger 68 % radius makes the Cramér-Rao bound meaningless."""


def covariance_from_information(information_N22: Float64[ndarray, "N 2 2"]) -> Float64[ndarray, "N 2 2"]:
    """Its inverse (N, 2, 2) in square metres; where singular, infinite variances and no correlation."""
    east, cross, north = information_N22[:, 0, 0], information_N22[:, 0, 1], information_N22[:, 1, 1]
    determinant = east * north - cross**2
    regular = determinant > 1e-12 * east * north
    safe = np.where(regular, determinant, 1.0)[:, None, None]
    adjugate = np.stack([north, -cross, -cross, east], axis=-1).reshape(-1, 2, 2)
    return np.where(regular[:, None, None], adjugate / safe, np.where(np.eye(2) > 0, np.inf, 0.0))


def pooled_radii_m(
    covariance_m2: Float64[ndarray, "N 2 2"], rng: np.random.Generator, *, draws: int = DRAWS
) -> Float64[ndarray, "draws N"]:
    """Lengths in metres of draws from each fix's own N(0, C); infinite where it does not bind."""
    known = _bound(covariance_m2)
    spread = np.sqrt(np.linalg.eigvalsh(np.where(known[:, None, None], covariance_m2, np.eye(2))))
    return np.where(known, np.linalg.norm(rng.normal(size=(draws, len(spread), 2)) * spread, axis=-1), np.inf)


def pooled_r68(covariance_m2: Float64[ndarray, "N 2 2"], rng: np.random.Generator, *, draws: int = DRAWS) -> float:
    """Radius in metres that holds 68 % of the pooled draws from each fix's own N(0, C); infinite if too few bind."""
    return float(np.quantile(pooled_radii_m(covariance_m2, rng, draws=draws), 0.68, method="higher"))


def binds(r68_m: float, region_m: float) -> bool:
    """Whether a Cramér-Rao 68 % radius says anything in a region of that side (root of its area), both metres."""
    return r68_m <= LARGEST_SHARE * region_m


def bound_of_covariances(
    kind: str, covariance_m2: Float64[ndarray, "N 2 2"], rng: np.random.Generator
) -> dict[str, Any]:
    """The `bound` of `metrics.json` from Cramér-Rao covariances: pooled radii, and the root of the mean trace.

    Raises:
        DataError: A fix is not bound, so that the mean is infinite.
    """
    unbound = ~_bound(covariance_m2)
    if unbound.any():
        got = f"{int(unbound.sum())} of {len(unbound)} that are singular"
        cure = "Leave such fixes out and say so, or report the Bayes bound."
        raise DataError(explain("Cramér-Rao covariances", got=got, allowed="finite ones", cure=cure))
    rmse_m = math.sqrt(np.trace(covariance_m2, axis1=1, axis2=2).mean())
    radii_m = pooled_radii_m(covariance_m2, rng)
    p68_m = float(np.quantile(radii_m, 0.68, method="higher"))
    return {"kind": kind, "median_m": float(np.median(radii_m)), "p68_m": p68_m, "rmse_m": rmse_m}


def reference_of_covariances(
    kind: str, covariance_m2: Float64[ndarray, "N 2 2"], rng: np.random.Generator
) -> dict[str, Any] | None:
    """The same as a reference: `binds` is false, for an estimator that knows more than it assumes may be below.

    Fixes that are not bound are left out and counted in `left_out`; None if no fix is bound.
    """
    known = _bound(covariance_m2)
    if not known.any():
        return None
    return bound_of_covariances(kind, covariance_m2[known], rng) | {"binds": False, "left_out": int((~known).sum())}


def _bound(covariance_m2: ndarray) -> ndarray:
    """Which fixes (N,) have finite covariances."""
    return np.isfinite(covariance_m2.sum(axis=(1, 2)))

"""Do the predicted regions hold what they promise? Coverage of elliptical regions, and how sure we are of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int, Shaped
from numpy import ndarray

from heimdall_jax.errors import DataError, explain

PROBABILITIES = (0.5, 0.68, 0.9, 0.95)
"""Of the regions whose coverage is reported."""
REGION = 0.68
"""Of the region that stands for a fix's uncertainty."""
CHUNK_S = 300.0
"""Fixes of the same five minutes are neighbours on one walk, so they are resampled together."""
DRAWS = 4000
AT_ONCE = 1 << 22
"""Copies of fixes that are counted at once: 32 MB."""
ROWS_FOR_SLOPES = 1000
"""With fewer, slopes would follow chance: at 1000 each half of the rows is held to 2 %."""
STEEPEST = -0.5
"""Of the slope by spread: a network that says it is surer stays surer."""


def squared_mahalanobis(
    error_m: Float64[ndarray, "N 2"], covariance_m2: Float64[ndarray, "N 2 2"]
) -> Float64[ndarray, " N"]:
    """e^T C^-1 e (N,) of errors (N, E) in metres and covariances (N, E, E) in square metres.

    Raises:
        DataError: A covariance is not finite, symmetric and positive definite.
    """
    finite = np.all(np.isfinite(covariance_m2), axis=(1, 2))
    checked = np.where(finite[:, None, None], covariance_m2, 0.0)
    east, cross, north = checked[:, 0, 0], checked[:, 0, 1], checked[:, 1, 1]
    determinant = east * north - cross**2
    symmetric = np.abs(cross - checked[:, 1, 0]) <= 1e-6 * np.sqrt(np.abs(east * north))
    good = finite & symmetric & (east > 0) & (determinant > 0)
    if not good.all():
        first = int(np.argmin(good))
        got = f"{int((~good).sum())} of {len(good)} that are not, first {covariance_m2[first].tolist()} at {first}"
        cure = "Give the model's own spread; a NaN means that training failed."
        raise DataError(explain("covariances", got=got, allowed="symmetric positive definite", cure=cure))
    x, y = error_m[:, 0], error_m[:, 1]
    return (north * x**2 - 2 * cross * x * y + east * y**2) / determinant


def inside_region(squared: Float64[ndarray, " N"], probability: float) -> Bool[ndarray, " N"]:
    """Which truths (N,) lie in the ellipse of that probability.

    The squared Mahalanobis distance is chi-square with 2 degrees of freedom, whose quantile is -2 ln(1 - p).
    """
    return squared <= -2.0 * np.log1p(-probability)


def coverage(squared: Float64[ndarray, " N"]) -> dict[str, float]:
    """Share of truths inside the predicted region of each of `PROBABILITIES`, by its name as text."""
    return {f"{p:g}": float(inside_region(squared, p).mean()) for p in PROBABILITIES}


def chunks(start_time_s: Float64[ndarray, " N"]) -> Int[ndarray, " N"]:
    """Number (N,) of the five-minute chunk of the clock in which each fix lies."""
    return np.floor(start_time_s / CHUNK_S).astype(np.int64)


def bootstrap_interval(
    values: Shaped[ndarray, " N"], group: Shaped[ndarray, " N"] | None = None, *, seed: int = 0
) -> tuple[float, float] | None:
    """95 % interval of a share or a mean: percentile bootstrap over whole groups.

    Davison and Hinkley 1997, sections 3.8 and 5.3.

    Args:
        values: What is counted or averaged (N,).
        group: Which fixes belong together (N,); each on its own if None.
        seed: Of the resampling.

    Returns:
        Low and high, or None with fewer than two groups, which say nothing of their spread.
    """
    number, times_drawn = _drawn(len(values), group, seed)
    if times_drawn is None:
        return None
    total, size = np.bincount(number, weights=values), np.bincount(number)
    low, high = np.quantile((times_drawn @ total) / (times_drawn @ size), (0.025, 0.975))
    return float(low), float(high)


def median_interval(
    values: Shaped[ndarray, " N"], group: Shaped[ndarray, " N"] | None = None, *, seed: int = 0
) -> tuple[float, float] | None:
    """The same of a median, from the same draws; arguments as `bootstrap_interval` has them."""
    number, times_drawn = _drawn(len(values), group, seed)
    if times_drawn is None:
        return None
    order = np.argsort(values)
    ranked, number, medians = values[order], number[order], []
    for some in np.array_split(times_drawn, -(-times_drawn.shape[0] * len(values) // AT_ONCE)):
        place = np.cumsum(some[:, number], axis=1)  # of the last of each value's copies among the drawn
        half = place[:, -1:] / 2
        lower, upper = (place >= half).argmax(axis=1), (place > half).argmax(axis=1)
        medians.append((ranked[lower] + ranked[upper]) / 2)
    low, high = np.quantile(np.concatenate(medians), (0.025, 0.975))
    return float(low), float(high)


def _drawn(
    count: int, group: Shaped[ndarray, " N"] | None, seed: int
) -> tuple[Int[ndarray, " N"], Float64[ndarray, "draws groups"] | None]:
    """The group's number of each fix (N,), and how often each draw has each group; None with fewer than two."""
    found = np.unique(np.arange(count) if group is None else group, return_inverse=True)
    groups, number = len(found[0]), found[1].reshape(-1)
    if groups < 2:
        return number, None
    even = np.full(groups, 1 / groups)
    return number, np.random.default_rng(seed).multinomial(groups, even, DRAWS).astype(np.float64)


def fit_recalibration(
    squared: Float64[ndarray, " N"],
    spread_m: Float64[ndarray, " N"],
    count: Int[ndarray, " N"],
    *,
    slopes: bool,
    part: Int[ndarray, " N"] | None = None,
) -> list[float]:
    """Coefficients of `models.recalibration` after which the 68 % regions hold 68 % of truths, by spread and count.

    Of each part: the next recordings come from one new place or day, not from the mean of those left out.

    Quantile regression (Koenker and Bassett 1978) of ln of what each truth's sigma would have to be multiplied by for
    the border of its region to pass through it; without slopes, or below `ROWS_FOR_SLOPES` rows, the quantile alone.

    Args:
        squared: Mahalanobis distances (N,) under the model's own sigma; those of rows that count.
        spread_m: Geometric mean of both sigmas (N,), metres.
        count: Receivers that each fix used (N,).
        slopes: Whether the rows are so many independent ones as they seem; neighbours on a walk are not.
        part: Which were left out together (N,); all when None.
    """
    from sklearn.linear_model import QuantileRegressor  # slow to import

    needed = 0.5 * np.log(np.maximum(squared, 1e-12) / (-2.0 * np.log1p(-REGION)))
    known = np.stack([np.log(spread_m), count], axis=1)
    ranges = np.quantile(known, (0.02, 0.98), axis=0)
    known = np.clip(known, *ranges)
    slope = np.zeros(2)
    if slopes and len(squared) >= ROWS_FOR_SLOPES:
        slope = QuantileRegressor(quantile=REGION, alpha=0.0, solver="highs").fit(known, needed).coef_
        slope[0] = max(slope[0], STEEPEST)
    left, parts = needed - known @ slope, np.zeros(len(squared)) if part is None else part
    level = max(float(np.quantile(left[parts == one], REGION)) for one in np.unique(parts))
    return [level, *slope.tolist(), *ranges.T.ravel().tolist()]


def recalibration_factor(
    coefficients: Sequence[float], spread_m: Float64[ndarray, " N"], count: Int[ndarray, " N"]
) -> Float64[ndarray, " N"]:
    """What `models.recalibration` multiplies sigmas by (N,); arguments as `fit_recalibration` has them."""
    level, by_spread, by_count, *ranges = coefficients
    spread = np.clip(np.log(spread_m), ranges[0], ranges[1])
    return np.exp(level + by_spread * spread + by_count * np.clip(count, ranges[2], ranges[3]))

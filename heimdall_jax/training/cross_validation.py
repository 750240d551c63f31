"""Each field's spread, correlation distance and noise, by leaving out whole groups of its readings.

Recordings a few seconds apart hold the same echoes and the same error of the truth, so the likelihood of all readings
together takes for lasting what is gone on another day. What is left out is therefore a group as the test is drawn, and
its readings are judged one by one given all other groups. With K the kernel matrix and noise, and b the readings of a
group, the inverse of K alone gives errors and variances of them all (Rasmussen and Williams 2006, 5.4.2):

    C_b = ((K^-1)_bb)^-1,    e_b = C_b (K^-1 y)_b,    var e_i = (C_b)_ii
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int

from heimdall_jax.progress import counted
from heimdall_jax.training.correlation import Kernels, by_distance, by_sector

CORRELATIONS_M = (30.0, 60.0, 120.0, 240.0, 480.0)
SECTOR_SHARES = (0.0, 0.4, 0.8)
NOISE_SHARES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Variances of noise over those of the field."""
START = (240.0, 0.0, 0.3)
"""Correlation distance, share of the sector and of noise, from which the search sets out."""
MOST = 900
"""Readings of a field above which whole groups are left out of the choice, for speed."""
LEAST_DB2 = 0.01
"""Variance of a field of which every reading is the same."""


def cross_validated(
    places_m: Float[Any, "N 2"],
    residual_db: Float[Any, "N C"],
    known: Bool[Any, "N C"],
    receiver_m: Float[Any, "C 2"],
    group_N: Int[Any, " N"],
) -> Kernels:
    """The kernels that give the readings of each group the highest density from those of the others.

    Args:
        places_m: Of the recordings.
        residual_db: Readings less their mean and their recording's offset; ignored where not known.
        known: Which readings count.
        receiver_m: Where the receiver of each field stands.
        group_N: Group number of each recording.
    """
    kernels = []
    columns = residual_db.shape[1]
    for column in counted(range(columns), columns, "choosing the radio map's spreads", "fields"):
        rows = _whole_groups(np.flatnonzero(known[:, column]), group_N)
        kernels.append(_kernel(places_m[rows], residual_db[rows, column], receiver_m[column], group_N[rows]))
    return Kernels(*(np.array(values, np.float64) for values in zip(*kernels, strict=True)))


def _whole_groups(rows: np.ndarray, group_N: np.ndarray) -> np.ndarray:
    """Those of `rows` in groups drawn at random until `MOST` are reached."""
    groups, sizes = np.unique(group_N[rows], return_counts=True)
    order = np.random.default_rng(0).permutation(len(groups))
    taken = 1 + int(np.searchsorted(np.cumsum(sizes[order]), MOST))
    return rows[np.isin(group_N[rows], groups[order[:taken]])]


def _kernel(
    places_m: np.ndarray, residual_db: np.ndarray, receiver_m: np.ndarray, group_N: np.ndarray
) -> tuple[float, float, float, float]:
    """Spread, correlation distance, share of the sector and noise of one field."""
    if len(np.unique(group_N)) == 1:  # no other group to judge it by
        group_N = np.arange(len(residual_db))
    groups = [np.flatnonzero(group_N == one) for one in np.unique(group_N)]
    sector, unit = by_sector(places_m, places_m, receiver_m), np.eye(len(residual_db), dtype=np.float32)

    @cache
    def judge(correlation_m: float, sector_share: float, noise_share: float) -> tuple[float, float]:
        near = by_distance(places_m, places_m, correlation_m)
        field = near + np.float32(sector_share) * (sector - near)
        error_db, scale = left_out(field + np.float32(noise_share) * unit, residual_db, groups)
        variance_db2 = max(float(np.mean(error_db**2 / scale)), LEAST_DB2)  # the likeliest
        return 0.5 * float(np.mean(np.log(scale))) + 0.5 * np.log(variance_db2), variance_db2

    best, before = START, None
    while best != before:  # one setting at a time: a third of the work of all together
        before = best
        for axis, values in enumerate((CORRELATIONS_M, SECTOR_SHARES, NOISE_SHARES)):
            best = min(((*best[:axis], value, *best[axis + 1 :]) for value in values), key=lambda which: judge(*which))
    correlation_m, sector_share, noise_share = best
    variance_db2 = judge(*best)[1]
    return np.sqrt(variance_db2), correlation_m, sector_share, np.sqrt(noise_share * variance_db2)


def left_out(covariance: np.ndarray, values: np.ndarray, groups: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Errors (N,) of `values` (N,) as predicted from the other groups, and the errors' variances (N,)."""
    factor = scipy.linalg.cholesky(covariance, lower=True, check_finite=False)
    (inverse_of,) = scipy.linalg.lapack.get_lapack_funcs(("potri",), (factor,))
    inverse = inverse_of(factor, lower=1)[0]
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    weighted = inverse @ values
    if len(groups) == len(values):
        variance = 1 / np.diagonal(inverse)
        return variance * weighted, variance
    error, variance = np.empty(len(values)), np.empty(len(values))
    for rows in groups:
        within = np.linalg.inv(inverse[np.ix_(rows, rows)].astype(np.float64))
        error[rows], variance[rows] = within @ weighted[rows], np.diagonal(within)
    return error, variance

"""Full Gaussian processes of several fields, each with its own kernel, from recordings whose common offset is unknown.

The model of `kriging.py`, with a spread, a correlation distance and a noise of each field:

    y_ir = f_r(x_i) + o_i + e_ir,    cov(f_r(x), f_r(x')) = s_r^2 exp(-|x - x'| / delta_r)

Every prediction is from all readings of the field, which counts far from them, in ground no one walked. In exchange the
fields are not solved together: offsets given fields and fields given offsets take turns (backfitting), and the
offsets' own uncertainty is left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64
from numpy import ndarray
from scipy.linalg import cho_solve, cholesky, solve_triangular

from heimdall_jax.training.kriging import Fields

ROUNDS = 3
MOST = 4000
"""Readings of a field above which a random subset is taken: time grows with the cube."""


class Kernels(NamedTuple):
    """What is assumed of C fields: their spreads s_r, correlation distances delta_r, and the noise n_r of readings."""

    shadowing_db_C: Float64[ndarray, " C"]
    correlation_m_C: Float64[ndarray, " C"]
    noise_db_C: Float64[ndarray, " C"]


class _Solved(NamedTuple):
    """One field's readings: their rows (n,), the factor of their covariance, and its kernel."""

    rows: np.ndarray
    factor: np.ndarray
    shadowing_db: float
    correlation_m: float
    noise_db: float

    def weights(self, residual_db: np.ndarray) -> np.ndarray:
        """Covariance^-1 times readings without offsets (n,)."""
        return cho_solve((self.factor, True), residual_db.astype(np.float32), check_finite=False)


def fit_fields(
    places_m: Float[Any, "N 2"],
    readings_db: Float[Any, "N C"],
    known: Bool[Any, "N C"],
    targets_m: Float[Any, "G 2"],
    kernels: Kernels,
    *,
    offset_db: float,
) -> Fields:
    """Fields at the targets, without noise, from readings less their mean; what they share is taken as 0.

    Args:
        places_m: Of the recordings.
        readings_db: Ignored where not known.
        known: Which readings count.
        targets_m: Where to predict.
        kernels: Of the fields.
        offset_db: Spread of the recordings' offsets.
    """
    shape = len(targets_m), readings_db.shape[1]
    fields = Fields(np.empty(shape), np.empty(shape), np.zeros(len(targets_m)))
    solved = [_solve(places_m, known[:, column], *kernel) for column, kernel in enumerate(zip(*kernels, strict=True))]
    offsets_db = _offsets(readings_db, solved, offset_db)
    for column, field in enumerate(solved):
        rest_db = readings_db[field.rows, column] - offsets_db[field.rows]
        cross = _covariance(places_m[field.rows], targets_m, field.shadowing_db, field.correlation_m)
        fields.mean_db_GC[:, column] = cross.T @ field.weights(rest_db)
        white = solve_triangular(field.factor, cross, lower=True, overwrite_b=True, check_finite=False)
        explained_db2 = np.einsum("ng,ng->g", white, white, dtype=np.float64)
        fields.own_db2_GC[:, column] = np.maximum(field.shadowing_db**2 - explained_db2, 0.0)
    return fields


def _solve(
    places_m: np.ndarray, known: np.ndarray, shadowing_db: float, correlation_m: float, noise_db: float
) -> _Solved:
    rows = np.flatnonzero(known)
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:MOST])
    covariance = _covariance(places_m[rows], places_m[rows], shadowing_db, correlation_m)
    covariance.flat[:: len(rows) + 1] += np.float32(noise_db**2)
    factor = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
    return _Solved(rows, factor, shadowing_db, correlation_m, noise_db)


def _offsets(readings_db: np.ndarray, solved: list[_Solved], offset_db: float) -> np.ndarray:
    """Offset (N,) of each recording: what fields leave of its readings, weighted by their noise, shrunk towards 0."""
    offsets_db = np.zeros(len(readings_db))
    for _ in range(ROUNDS):
        total, precision = np.zeros(len(readings_db)), np.full(len(readings_db), 1 / max(offset_db, 1e-3) ** 2)
        for column, field in enumerate(solved):
            rest_db = readings_db[field.rows, column] - offsets_db[field.rows]
            noise_db2 = field.noise_db**2
            left_db = noise_db2 * field.weights(rest_db)  # of the field's fit: noise times covariance^-1 times readings
            total[field.rows] += (left_db + offsets_db[field.rows]) / noise_db2
            precision[field.rows] += 1 / noise_db2
        offsets_db = total / precision
    return offsets_db


def _covariance(places_m: np.ndarray, others_m: np.ndarray, shadowing_db: float, correlation_m: float) -> np.ndarray:
    """Of a field at (n, 2) with itself at (m, 2); float32."""
    apart_m = np.hypot(*(places_m[:, None].astype(np.float32) - others_m.astype(np.float32)).transpose(2, 0, 1))
    return np.float32(shadowing_db**2) * np.exp(-apart_m / np.float32(correlation_m))

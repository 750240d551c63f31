"""Full Gaussian processes of several fields, each with its own kernel, from recordings whose common offset is unknown.

The model of `kriging.py`, with a spread s_r, a correlation c_r (`correlation.py`) and a noise n_r of each field:

    y_ir = f_r(x_i) + o_i + e_ir,    cov(f_r(x), f_r(x')) = s_r^2 c_r(x, x')

Every prediction is from all readings of the field, which counts far from them, in ground no one walked. In exchange the
fields are not solved together: offsets given fields and fields given offsets take turns (backfitting), and the
offsets' own uncertainty is left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Float

from heimdall_jax.training.correlation import Kernels, correlation
from heimdall_jax.training.kriging import Fields

ROUNDS = 3
MOST = 4000
"""Readings of a field above which a random subset is taken: time grows with the cube."""


class _Solved(NamedTuple):
    """One field's readings: their rows (n,), the factor of their covariance, and the noise in them."""

    rows: np.ndarray
    factor: np.ndarray
    noise_db: float

    def weights(self, residual_db: np.ndarray) -> np.ndarray:
        """Covariance^-1 times readings without offsets (n,)."""
        return scipy.linalg.cho_solve((self.factor, True), residual_db.astype(np.float32), check_finite=False)


def fit_fields(
    places_m: Float[Any, "N 2"],
    readings_db: Float[Any, "N C"],
    known: Bool[Any, "N C"],
    targets_m: Float[Any, "G 2"],
    receiver_m: Float[Any, "C 2"],
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
        receiver_m: Where the receiver of each field stands.
        kernels: Of the fields.
        offset_db: Spread of the recordings' offsets.
    """
    shape = len(targets_m), readings_db.shape[1]
    fields = Fields(np.empty(shape), np.empty(shape), np.zeros(len(targets_m)))
    own = list(zip(receiver_m, *kernels, strict=True))
    solved = [_solve(places_m, known[:, column], *kernel) for column, kernel in enumerate(own)]
    offsets_db = _offsets(readings_db, solved, offset_db)
    for column, (field, (stand_m, shadowing_db, *kernel, _)) in enumerate(zip(solved, own, strict=True)):
        rest_db = readings_db[field.rows, column] - offsets_db[field.rows]
        cross = np.float32(shadowing_db**2) * correlation(places_m[field.rows], targets_m, stand_m, *kernel)
        fields.mean_db_GC[:, column] = cross.T @ field.weights(rest_db)
        white = scipy.linalg.solve_triangular(field.factor, cross, lower=True, overwrite_b=True, check_finite=False)
        explained_db2 = np.einsum("ng,ng->g", white, white, dtype=np.float64)
        fields.own_db2_GC[:, column] = np.maximum(shadowing_db**2 - explained_db2, 0.0)
    return fields


def _solve(
    places_m: np.ndarray,
    known: np.ndarray,
    receiver_m: np.ndarray,
    shadowing_db: float,
    correlation_m: float,
    sector_share: float,
    noise_db: float,
) -> _Solved:
    rows = np.flatnonzero(known)
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:MOST])
    covariance = correlation(places_m[rows], places_m[rows], receiver_m, correlation_m, sector_share)
    covariance *= np.float32(shadowing_db**2)
    covariance.flat[:: len(rows) + 1] += np.float32(noise_db**2)
    factor = scipy.linalg.cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
    return _Solved(rows, factor, noise_db)


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

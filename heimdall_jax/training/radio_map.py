"""A propagation model fitted to the training rows, from which samples are drawn at places no one walked.

Received power is b_r - 10 n log10(d) + o_t + f_r(p) + e: a bias per receiver, a common exponent, an offset per
transmission, a Gaussian process over the transmitter's place with an exponential kernel (Gudmundson 1991) for each
fixed receiver, and noise. Receivers that move have no field, only a wider spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from heimdall_jax.config import RadioMapConfig
from heimdall_jax.errors import DataError, explain
from heimdall_jax.types import Sample

NEAREST_M = 20.0
"""Shorter distances count as this one: the far-field law ends, and positions are no better known."""
FEWEST = 20
"""Rows a receiver must have been heard in to have a field."""
OFFSET_PRIOR = 3.0
"""Variance of a reading over that of a transmission's offset, in the fit."""


@dataclass(frozen=True, eq=False)
class RadioMap:
    """What power to expect of a transmitter anywhere in the region; rows R as in the data set.

    Attributes:
        config: Spreads and spacing.
        places_m: Grid points (G, E), east, north.
        mean_db_GR: Expected power at each grid point; meaningless where the receiver has no field.
        std_db_GR: Its standard deviation, field and noise.
        has_field_R: The receiver is fixed and was heard often enough.
        bias_db_R: b_r, 0 dB from 1 m; the mean bias for receivers never heard.
        exponent: n.
    """

    config: RadioMapConfig
    places_m: np.ndarray
    mean_db_GR: np.ndarray
    std_db_GR: np.ndarray
    has_field_R: np.ndarray
    bias_db_R: np.ndarray
    exponent: float

    def draw(self, batch: Sample, rng: np.random.Generator) -> Sample:
        """Samples as `batch` (B, ...) has them, same receivers at the same places, of transmitters placed anew.

        Returns:
            The keys that change: `position_m` (B, E) and `rss_db` (B, R); `position_error_m` (B,) is 0.
        """
        count, config = len(batch["index"]), self.config
        cell = rng.integers(len(self.places_m), size=count)
        half = config.spacing_m / 2
        position_m = self.places_m[cell] + rng.uniform(-half, half, (count, 2))
        far_db = self.bias_db_R - self._loss_db(position_m[:, None], batch["receiver_m"])
        mean_db = np.where(self.has_field_R, self.mean_db_GR[cell], far_db)
        std_db = np.where(self.has_field_R, self.std_db_GR[cell], config.moving_std_db) * config.inflation
        offset_db = config.offset_db * rng.standard_normal((count, 1))
        rss_db = mean_db + offset_db + std_db * rng.standard_normal(mean_db.shape)
        return {
            "position_m": position_m.astype(np.float32),
            "rss_db": rss_db.astype(np.float32),
            "position_error_m": np.zeros(count, np.float32),
        }

    def _loss_db(self, transmitter_m: np.ndarray, receiver_m: np.ndarray) -> np.ndarray:
        return 10 * self.exponent * _decades(transmitter_m, receiver_m)


def fit_radio_map(train: Sample, config: RadioMapConfig) -> RadioMap:
    """Fit to stacked training samples (N, ...); nothing else is seen. The grid is their box and a margin around it.

    Raises:
        DataError: Too few readings to fit a propagation law.
    """
    heard, truth_m = train["heard"] & (train["weight"] > 0)[:, None], train["position_m"].astype(np.float64)
    if heard.sum() < FEWEST:
        cure = "Give more data, or set --augmentation.simulated 0."
        raise DataError(explain("radio map", got=f"{heard.sum()} readings", allowed=f"{FEWEST} or more", cure=cure))
    decades = _decades(truth_m[:, None], train["receiver_m"].astype(np.float64))
    exponent, bias_db_R, offset_db_N = _law(train["rss_db"].astype(np.float64), decades, heard)
    residual_db = train["rss_db"] - bias_db_R + 10 * exponent * decades - offset_db_N[:, None]
    places_m = _grid(truth_m, config)
    has_field = _fixed(train) & (heard.sum(axis=0) >= FEWEST)
    mean_db = np.zeros((len(places_m), heard.shape[1]), np.float32)
    std_db = np.zeros_like(mean_db)
    columns = np.flatnonzero(has_field)
    patterns, group = np.unique(heard[:, columns], axis=1, return_inverse=True)
    for number, rows in enumerate(patterns.T):  # receivers heard in the same rows share one factorisation
        members = columns[group.ravel() == number]
        field_db, spread_db = _field(truth_m[rows], residual_db[np.ix_(rows, members)], places_m, config)
        stand_m = train["receiver_m"][np.flatnonzero(rows)[0], members].astype(np.float64)
        law_db = bias_db_R[members] - 10 * exponent * _decades(places_m[:, None], stand_m)
        mean_db[:, members], std_db[:, members] = law_db + field_db, spread_db
    return RadioMap(config, places_m, mean_db, std_db, has_field, bias_db_R, exponent)


def _law(rss_db: np.ndarray, decades: np.ndarray, heard: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Exponent, bias (R,) and offset (N,) by alternating least squares; offsets are shrunk towards 0."""
    heard_by, heard_in = heard.sum(axis=0), heard.sum(axis=1)
    centred = np.where(heard, decades - (decades * heard).sum(axis=0) / np.maximum(heard_by, 1), 0.0)
    exponent, offset_db = 2.5, np.zeros(len(rss_db))
    bias_db = np.zeros(rss_db.shape[1])
    for _ in range(30):
        level_db = np.where(heard, rss_db - offset_db[:, None], 0.0)
        exponent = -float((centred * level_db).sum() / (10 * (centred**2).sum()))
        bias_db = np.where(heard, level_db + 10 * exponent * decades, 0.0).sum(axis=0) / np.maximum(heard_by, 1)
        rest_db = np.where(heard, rss_db - bias_db + 10 * exponent * decades, 0.0)
        offset_db = rest_db.sum(axis=1) / (heard_in + OFFSET_PRIOR)
    bias_db[heard_by == 0] = bias_db[heard_by > 0].mean()
    return exponent, bias_db, offset_db


def _field(
    truth_m: np.ndarray, residual_db: np.ndarray, places_m: np.ndarray, config: RadioMapConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and standard deviation (G, n) in dB of the fields and noise of n receivers at the grid points."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    shadowing = ConstantKernel(config.shadowing_db**2) * Matern(config.correlation_m, nu=0.5)
    kernel = shadowing + WhiteKernel(config.noise_db**2)
    regressor: Any = GaussianProcessRegressor  # its own annotations deny that optimizer may be None
    process = regressor(kernel, optimizer=None)
    mean_db, std_db = process.fit(truth_m, residual_db).predict(places_m, return_std=True)
    shape = (len(places_m), residual_db.shape[1])
    return mean_db.reshape(shape), std_db.reshape(shape)


def _fixed(train: Sample) -> np.ndarray:
    """Which receivers (R,) stayed where they were in every row in which they were present."""
    present, place_m = train["present"][..., None], train["receiver_m"]
    low = np.where(present, place_m, np.inf).min(axis=0)
    high = np.where(present, place_m, -np.inf).max(axis=0)
    return train["present"].any(axis=0) & (high - low < 1.0).all(axis=-1)


def _grid(truth_m: np.ndarray, config: RadioMapConfig) -> np.ndarray:
    low, high = truth_m.min(axis=0) - config.margin_m, truth_m.max(axis=0) + config.margin_m
    east, north = (np.arange(a, b + config.spacing_m, config.spacing_m) for a, b in zip(low, high, strict=True))
    return np.stack(np.meshgrid(east, north), axis=-1).reshape(-1, 2)


def _decades(a_m: np.ndarray, b_m: np.ndarray) -> np.ndarray:
    """log10 of the distance in metres between places (..., E)."""
    return np.log10(np.maximum(np.linalg.norm(a_m - b_m, axis=-1), NEAREST_M))

"""A propagation model fitted to the training rows: what power to expect of a transmitter anywhere in the region.

Received power is b_r - 10 n log10(d) + o_t + f_r(p) + e: a bias per receiver, a common exponent, an offset per
transmission, a Gaussian process over the transmitter's place for each fixed receiver (`kriging.py`), and noise.
Receivers that move have no field, only a wider spread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heimdall_jax.config import RadioMapConfig
from heimdall_jax.errors import DataError, explain
from heimdall_jax.geodesy import bounding_box_m
from heimdall_jax.models.radio_map import decades, grid
from heimdall_jax.training.kriging import krige
from heimdall_jax.types import Sample

FEWEST = 20
"""Rows a receiver must have been heard in to have a field."""
OFFSET_PRIOR = 3.0
"""Variance of a reading over that of a transmission's offset, in the fit of the law."""


@dataclass(frozen=True, eq=False)
class RadioMap:
    """The fitted model on a grid; rows R as in the data set.

    Attributes:
        config: Spreads and spacing.
        places_m: Grid points (G, E), east, north.
        mean_db_GR: Expected power at each grid point; meaningless where the receiver has no field.
        own_db2_GR: Variance of a reading there that it shares with no other: field and noise.
        shared_db2_G: Variance that all receivers' fields share there.
        has_field_R: The receiver is fixed and was heard often enough.
        bias_db_R: b_r, 0 dB from 1 m; the mean bias for receivers never heard.
        exponent: n.
        least_db_R: The weakest reading; the weakest of all for receivers never heard.
    """

    config: RadioMapConfig
    places_m: np.ndarray
    mean_db_GR: np.ndarray
    own_db2_GR: np.ndarray
    shared_db2_G: np.ndarray
    has_field_R: np.ndarray
    bias_db_R: np.ndarray
    exponent: float
    least_db_R: np.ndarray

    def draw(self, batch: Sample, rng: np.random.Generator) -> Sample:
        """Samples as `batch` (B, ...) has them, same receivers at the same places, of transmitters placed anew.

        Returns:
            The keys that change: `position_m` (B, E) and `rss_db` (B, R); `position_error_m` (B,) is 0.
        """
        count, config = len(batch["index"]), self.config
        cell = rng.integers(len(self.places_m), size=count)
        half = config.spacing_m / 2
        position_m = self.places_m[cell] + rng.uniform(-half, half, (count, 2))
        far_db = self.bias_db_R - 10 * self.exponent * decades(position_m[:, None] - batch["receiver_m"], np)
        mean_db = np.where(self.has_field_R, self.mean_db_GR[cell], far_db)
        own_db = np.where(self.has_field_R, np.sqrt(self.own_db2_GR[cell]), config.moving_std_db) * config.inflation
        offset_db = np.hypot(config.offset_db, np.sqrt(self.shared_db2_G[cell, None])) * rng.standard_normal((count, 1))
        rss_db = mean_db + offset_db + own_db * rng.standard_normal(mean_db.shape)
        return {
            "position_m": position_m.astype(np.float32),
            "rss_db": rss_db.astype(np.float32),
            "position_error_m": np.zeros(count, np.float32),
        }


def fit_radio_map(train: Sample, config: RadioMapConfig) -> RadioMap:
    """Fit to stacked training samples (N, ...); nothing else is seen. The grid is their box and a margin around it.

    Raises:
        DataError: Too few readings to fit a propagation law.
    """
    usable = train["weight"] > 0
    heard, truth_m = train["heard"] & usable[:, None], train["position_m"].astype(np.float64)
    if heard.sum() < FEWEST:
        cure = "Give more data, or do without a map: --augmentation.simulated 0, another --model.name."
        raise DataError(explain("radio map", got=f"{heard.sum()} readings", allowed=f"{FEWEST} or more", cure=cure))
    rss_db = train["rss_db"].astype(np.float64)
    reach = decades(truth_m[:, None] - train["receiver_m"].astype(np.float64), np)
    exponent, bias_db_R = _law(rss_db, reach, heard)
    has_field = _fixed(train) & (heard.sum(axis=0) >= FEWEST)
    places_m = grid(bounding_box_m(truth_m[usable]), config)
    mean_db = np.zeros((len(places_m), heard.shape[1]), np.float32)
    own_db2, shared_db2 = np.full_like(mean_db, config.noise_db**2), np.zeros(len(places_m), np.float32)
    columns = np.flatnonzero(has_field)
    rows = np.flatnonzero(heard[:, columns].any(axis=1))
    if rows.size:
        known, residual_db = heard[np.ix_(rows, columns)], rss_db - bias_db_R + 10 * exponent * reach
        fields = krige(truth_m[rows], residual_db[np.ix_(rows, columns)], known, places_m, config)
        stand_m = _stands(train, columns)
        law_db = bias_db_R[columns] - 10 * exponent * decades(places_m[:, None] - stand_m, np)
        mean_db[:, columns] = law_db + fields.mean_db_GC
        own_db2[:, columns] += fields.own_db2_GC.astype(np.float32)
        shared_db2 = fields.shared_db2_G.astype(np.float32)
    least_db = np.where(heard, rss_db, np.inf).min(axis=0)
    least_db = np.where(np.isfinite(least_db), least_db, least_db.min())
    return RadioMap(config, places_m, mean_db, own_db2, shared_db2, has_field, bias_db_R, exponent, least_db)


def _law(rss_db: np.ndarray, reach: np.ndarray, heard: np.ndarray) -> tuple[float, np.ndarray]:
    """Exponent and bias (R,) by alternating least squares; offsets of transmissions are shrunk towards 0."""
    heard_by, heard_in = heard.sum(axis=0), heard.sum(axis=1)
    centred = np.where(heard, reach - (reach * heard).sum(axis=0) / np.maximum(heard_by, 1), 0.0)
    exponent, offset_db = 2.5, np.zeros(len(rss_db))
    bias_db = np.zeros(rss_db.shape[1])
    for _ in range(30):
        level_db = np.where(heard, rss_db - offset_db[:, None], 0.0)
        exponent = -float((centred * level_db).sum() / (10 * (centred**2).sum()))
        bias_db = np.where(heard, level_db + 10 * exponent * reach, 0.0).sum(axis=0) / np.maximum(heard_by, 1)
        rest_db = np.where(heard, rss_db - bias_db + 10 * exponent * reach, 0.0)
        offset_db = rest_db.sum(axis=1) / (heard_in + OFFSET_PRIOR)
    bias_db[heard_by == 0] = bias_db[heard_by > 0].mean()
    return exponent, bias_db


def _fixed(train: Sample) -> np.ndarray:
    """Which receivers (R,) stayed where they were in every row in which they were present."""
    present, place_m = train["present"][..., None], train["receiver_m"]
    low = np.where(present, place_m, np.inf).min(axis=0)
    high = np.where(present, place_m, -np.inf).max(axis=0)
    return train["present"].any(axis=0) & (high - low < 1.0).all(axis=-1)


def _stands(train: Sample, columns: np.ndarray) -> np.ndarray:
    """Where fixed receivers (n, E) stand."""
    first = train["present"][:, columns].argmax(axis=0)
    return train["receiver_m"][first, columns].astype(np.float64)

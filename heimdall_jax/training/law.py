"""The distance law of received power, fitted to all readings at once: those of signals, and those of noise alone.

Where receivers read their noise (`propagation.py`), a reading at the floor says only that the signal is below
what noise hides. It stands for the mean of the signals below that, given the law (Tobit; Tobin 1958, by expectation and
maximisation): a law fitted to what exceeds the floor alone would fall too slowly, for far places count by their loudest
readings.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy

from heimdall_jax.errors import DataError, explain
from heimdall_jax.models.radio_map import decades
from heimdall_jax.propagation import BELIEVED_DB, MARGIN_DB, NO_FLOOR_DB, least_signal_db, signal_db
from heimdall_jax.types import Sample

FEWEST = 20
"""Rows a receiver must have been heard in to have a field."""
FLOOR_QUANTILE, ABOVE_QUANTILE_DB = 0.05, 0.5
"""Of a receiver's readings, and how far above it their floor is taken to be."""
PILED_DB = 4.0
"""Closer together than this lie a hundredth and a tenth of the readings of a receiver with a floor."""
ALWAYS = 0.99
"""Share of its recordings that such a receiver hears: it tells a power whether there is a signal or not."""
OFFSET_PRIOR = 3.0
"""Variance of a reading over that of a transmission's offset."""
SPREADS_DB = (3.0, 15.0)
"""Least and most about the law, while readings at the floor are made up for."""
ROUNDS = 20
"""Of expectation and maximisation; 120 give the same exponent on POWDER to 0.01."""


class Law(NamedTuple):
    """The distance law of training samples (N, R), and what it leaves of their signals.

    Attributes:
        truth_m_NE: Where the transmitters were.
        heard_NR: Signals that were read.
        filled_NR: These, and those below the noise, which have the mean of what they can be.
        exponent: Common to all receivers.
        bias_db_R: At 1 m.
        offset_db_N: An estimate of each transmission's offset.
        residual_db_NR: Signals less the law; they hold the offsets.
        has_field_R: The receiver is fixed and was heard often enough.
        floor_db_R: Of the receivers' noise, `NO_FLOOR_DB` for those that have none.
        least_db_R: The weakest signal that each tells from noise; the weakest of all for receivers never heard.
    """

    truth_m_NE: np.ndarray
    heard_NR: np.ndarray
    filled_NR: np.ndarray
    exponent: float
    bias_db_R: np.ndarray
    offset_db_N: np.ndarray
    residual_db_NR: np.ndarray
    has_field_R: np.ndarray
    floor_db_R: np.ndarray
    least_db_R: np.ndarray

    @property
    def rest_db_NR(self) -> np.ndarray:
        """What law and offsets leave."""
        return self.residual_db_NR - self.offset_db_N[:, None]


def fit_law(train: Sample, *, floors: bool) -> Law:
    """Fit to stacked training samples (N, ...).

    Args:
        train: The samples.
        floors: Whether receivers that always hear are asked for their noise floor; else every reading is a signal.

    Raises:
        DataError: Too few readings.
    """
    labelled, truth_m = (train["weight"] > 0)[:, None], train["position_m"].astype(np.float64)
    read, rss_db = train["heard"] & labelled, train["rss_db"].astype(np.float64)
    floor_db = np.full(rss_db.shape[1], NO_FLOOR_DB)
    if floors:
        floor_db = noise_floors_db(rss_db, read, train["present"] & labelled)
    heard = read & (rss_db > floor_db + MARGIN_DB)
    if heard.sum() < FEWEST:
        cure = "Give more data, or do without a map: --augmentation.simulated 0, another --model.name."
        got = f"{heard.sum()} readings of a signal"
        raise DataError(explain("radio map", got=got, allowed=f"{FEWEST} or more", cure=cure))
    below = read & ~heard & (rss_db > floor_db - BELIEVED_DB)
    signals_db = np.where(heard, signal_db(rss_db, floor_db, np), 0.0)
    least_db = np.where(heard, signals_db, np.inf).min(axis=0)
    least_db = np.where(floor_db > NO_FLOOR_DB, least_signal_db(floor_db), least_db)
    least_db = np.where(np.isfinite(least_db), least_db, least_db.min())
    reach = decades(truth_m[:, None] - train["receiver_m"].astype(np.float64), np)
    exponent, bias_db, offset_db, filled_db = _censored_law(signals_db, reach, heard, below, least_db)
    residual_db = filled_db - bias_db + 10 * exponent * reach
    has_field = _fixed(train) & (heard.sum(axis=0) >= FEWEST)
    fitted = exponent, bias_db, offset_db, residual_db, has_field, floor_db, least_db
    return Law(truth_m, heard, heard | below, *fitted)


def noise_floors_db(rss_db: np.ndarray, read: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Noise floors (R,) by readings (N, R); `NO_FLOOR_DB` where few, missing, or not piled up."""
    floor_db = np.full(rss_db.shape[1], NO_FLOOR_DB)
    for receiver in np.flatnonzero(read.sum(axis=0) >= FEWEST):
        low_db, quantile_db, high_db = np.quantile(rss_db[read[:, receiver], receiver], (0.01, FLOOR_QUANTILE, 0.1))
        if read[:, receiver].sum() >= ALWAYS * present[:, receiver].sum() and high_db - low_db < PILED_DB:
            floor_db[receiver] = quantile_db + ABOVE_QUANTILE_DB
    return floor_db


def _censored_law(
    signals_db: np.ndarray, reach: np.ndarray, heard: np.ndarray, below: np.ndarray, least_db: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Exponent, bias (R,), offsets (N,), and signals (N, R) with those below the noise filled in."""
    filled = heard | below
    full_db, unknown_db2 = np.where(below, least_db - SPREADS_DB[0], signals_db), np.zeros_like(signals_db)
    fitted = _law(full_db, reach, filled)
    for _ in range(ROUNDS if below.any() else 0):
        exponent, bias_db, offset_db = fitted
        mean_db = bias_db - 10 * exponent * reach + offset_db[:, None]
        squared = np.where(filled, (full_db - mean_db) ** 2 + unknown_db2, 0.0).sum(axis=0)
        spread_db = np.clip(np.sqrt(squared / np.maximum(filled.sum(axis=0), 1)), *SPREADS_DB)
        beyond = (least_db - mean_db) / spread_db
        hazard = np.exp(scipy.stats.norm.logpdf(beyond) - scipy.stats.norm.logcdf(beyond))
        full_db = np.where(below, mean_db - spread_db * hazard, signals_db)
        unknown_db2 = np.where(below, spread_db**2 * (1 - beyond * hazard - hazard**2), 0.0)
        fitted = _law(full_db, reach, filled)
    return *fitted, full_db


def _law(rss_db: np.ndarray, reach: np.ndarray, heard: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Exponent, bias (R,) and offsets (N,), which are shrunk towards 0, by alternating least squares."""
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
    return exponent, bias_db, offset_db


def _fixed(train: Sample) -> np.ndarray:
    """Which receivers (R,) stayed where they were in every row in which they were present."""
    present, place_m = train["present"][..., None], train["receiver_m"]
    low = np.where(present, place_m, np.inf).min(axis=0)
    high = np.where(present, place_m, -np.inf).max(axis=0)
    return train["present"].any(axis=0) & (high - low < 1.0).all(axis=-1)

"""A propagation model fitted to the training rows: what power to expect of a transmitter anywhere in the region.

Received power is b_r - 10 n log10(d) + o_t + f_r(p) + e: a bias per receiver, a common exponent, an offset per
transmission, a Gaussian process over the transmitter's place for each fixed receiver (`kriging.py`), and noise.
Receivers that move have no field, only a wider spread. What spreads, correlation distances and noise there are is the
config's to say, or is chosen for each receiver by cross-validation (`cross_validation.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heimdall_jax.config import RadioMapConfig
from heimdall_jax.errors import DataError, explain
from heimdall_jax.geodesy import bounding_box_m
from heimdall_jax.models.radio_map import decades, grid
from heimdall_jax.training.correlation import Kernels
from heimdall_jax.training.cross_validation import cross_validated
from heimdall_jax.training.kriging import krige
from heimdall_jax.training.processes import fit_fields
from heimdall_jax.types import Sample

FEWEST = 20
"""Rows a receiver must have been heard in to have a field."""
OFFSET_PRIOR = 3.0
"""Variance of a reading over that of a transmission's offset, in the fit of the law."""
LEAST_SPREAD_DB = 1.5
"""Of a moving receiver about the law, whatever its few readings say."""


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
        about_law_db_R: Spread about the distance law of a reading of a receiver without a field.
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
    about_law_db_R: np.ndarray
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
        own_db = np.where(self.has_field_R, np.sqrt(self.own_db2_GR[cell]), self.about_law_db_R) * config.inflation
        offset_db = np.hypot(config.offset_db, np.sqrt(self.shared_db2_G[cell, None])) * rng.standard_normal((count, 1))
        rss_db = mean_db + offset_db + own_db * rng.standard_normal(mean_db.shape)
        return {
            "position_m": position_m.astype(np.float32),
            "rss_db": rss_db.astype(np.float32),
            "position_error_m": np.zeros(count, np.float32),
        }


def fit_radio_map(train: Sample, config: RadioMapConfig, group_N: np.ndarray | None = None) -> RadioMap:
    """Fit to stacked training samples (N, ...); nothing else is seen. The grid is their box and a margin around it.

    Args:
        train: The samples.
        config: Spreads, and the grid.
        group_N: Group number of each sample: each receiver's spreads are those that predict a group best from the
            others. None: they are as the config says.

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
    exponent, bias_db_R, offset_db = _law(rss_db, reach, heard)
    residual_db = rss_db - bias_db_R + 10 * exponent * reach
    has_field = _fixed(train) & (heard.sum(axis=0) >= FEWEST)
    about_law_db = np.full(heard.shape[1], config.moving_std_db)
    columns = np.flatnonzero(has_field)
    stand_m, kernels = _stands(train, columns), None
    if group_N is not None:
        rest_db = residual_db - offset_db[:, None]
        about_law_db = np.where(heard.sum(axis=0) >= FEWEST, _spread(rest_db, heard), about_law_db)
        kernels = cross_validated(truth_m, rest_db[:, columns], heard[:, columns], stand_m, group_N)
    places_m = grid(bounding_box_m(truth_m[usable]), config)
    mean_db, own_db2, shared_db2 = _fields(truth_m, residual_db, heard, columns, stand_m, places_m, config, kernels)
    mean_db[:, columns] += bias_db_R[columns] - 10 * exponent * decades(places_m[:, None] - stand_m, np)
    least_db = np.where(heard, rss_db, np.inf).min(axis=0)
    least_db = np.where(np.isfinite(least_db), least_db, least_db.min())
    levels = about_law_db, bias_db_R, exponent, least_db
    return RadioMap(config, places_m, mean_db, own_db2, shared_db2, has_field, *levels)


def _fields(
    truth_m: np.ndarray,
    residual_db: np.ndarray,
    heard: np.ndarray,
    columns: np.ndarray,
    stand_m: np.ndarray,
    places_m: np.ndarray,
    config: RadioMapConfig,
    kernels: Kernels | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the law leaves of receivers that stand still: mean and own variance (G, R), shared variance (G,)."""
    shape = len(places_m), heard.shape[1]
    mean_db, own_db2 = np.zeros(shape, np.float32), np.full(shape, config.noise_db**2, np.float32)
    rows = np.flatnonzero(heard[:, columns].any(axis=1))
    if not rows.size:
        return mean_db, own_db2, np.zeros(len(places_m), np.float32)
    here = np.ix_(rows, columns)
    given = truth_m[rows], residual_db[here], heard[here], places_m
    if kernels is None:
        fields, noise_db = krige(*given, config), np.full(len(columns), config.noise_db)
    else:
        fields, noise_db = fit_fields(*given, stand_m, kernels, offset_db=config.offset_db), kernels.noise_db_C
    mean_db[:, columns] = fields.mean_db_GC
    own_db2[:, columns] = (noise_db**2).astype(np.float32) + fields.own_db2_GC.astype(np.float32)
    return mean_db, own_db2, fields.shared_db2_G.astype(np.float32)


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


def _spread(rest_db: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """Root mean square (R,) of what law and offsets leave (N, R) of each receiver's readings."""
    squared = np.where(heard, rest_db, 0.0) ** 2
    return np.maximum(np.sqrt(squared.sum(axis=0) / np.maximum(heard.sum(axis=0), 1)), LEAST_SPREAD_DB)


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

"""A propagation model fitted to the training rows: what power to expect of a transmitter anywhere in the region.

Received power is b_r - 10 n log10(d) + o_t + f_r(p) + e: a bias per receiver, a common exponent, an offset per
transmission, a Gaussian process over the transmitter's place for each fixed receiver (`kriging.py`), and noise.
Receivers that move have no field, only a wider spread. What spreads, correlation distances and noise there are is the
config's to say, or is chosen for each receiver by cross-validation (`cross_validation.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

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


class _Law(NamedTuple):
    """The distance law of training samples (N, R), and what it leaves of their readings.

    `residual_db_NR` holds each transmission's offset, which `offset_db_N` estimates.
    """

    truth_m_NE: np.ndarray
    heard_NR: np.ndarray
    exponent: float
    bias_db_R: np.ndarray
    offset_db_N: np.ndarray
    residual_db_NR: np.ndarray
    has_field_R: np.ndarray

    @property
    def rest_db_NR(self) -> np.ndarray:
        """What law and offsets leave."""
        return self.residual_db_NR - self.offset_db_N[:, None]


def choose_kernels(train: Sample, group_N: np.ndarray) -> Kernels:
    """Each receiver's own (R,), which predict a group best from the others; NaN for those without a field.

    Args:
        train: Stacked training samples (N, ...).
        group_N: Group number of each sample.

    Raises:
        DataError: Too few readings to fit a propagation law.
    """
    law = _fit_law(train)
    columns = np.flatnonzero(law.has_field_R)
    given = law.truth_m_NE, law.rest_db_NR[:, columns], law.heard_NR[:, columns], _stands(train, columns), group_N
    found = [np.full(len(law.has_field_R), np.nan) for _ in Kernels._fields]
    for values, chosen in zip(found, cross_validated(*given), strict=True):
        values[columns] = chosen
    return Kernels(*found)


def fit_radio_map(
    train: Sample, config: RadioMapConfig, kernels: Kernels | None = None, places_m: np.ndarray | None = None
) -> RadioMap:
    """Fit to stacked training samples (N, ...); nothing else is seen.

    Args:
        train: The samples.
        config: Spreads, and the grid.
        kernels: Each receiver's own; None: as the config says.
        places_m: The grid (G, E); None: over the box of the samples and a margin around it.

    Raises:
        DataError: Too few readings to fit a propagation law.
    """
    law = _fit_law(train)
    heard, about_law_db = law.heard_NR, np.full(len(law.has_field_R), config.moving_std_db)
    if kernels is not None:
        about_law_db = np.where(heard.sum(axis=0) >= FEWEST, _spread(law.rest_db_NR, heard), about_law_db)
    columns = np.flatnonzero(law.has_field_R)
    stand_m = _stands(train, columns)
    if places_m is None:
        places_m = grid(bounding_box_m(law.truth_m_NE[train["weight"] > 0]), config)
    mean_db, own_db2, shared_db2 = _fields(law, columns, stand_m, places_m, config, kernels)
    reach = decades(places_m[:, None] - stand_m, np)
    mean_db[:, columns] += law.bias_db_R[columns] - 10 * law.exponent * reach
    least_db = np.where(heard, train["rss_db"].astype(np.float64), np.inf).min(axis=0)
    least_db = np.where(np.isfinite(least_db), least_db, least_db.min())
    levels = about_law_db, law.bias_db_R, law.exponent, least_db
    return RadioMap(config, places_m, mean_db, own_db2, shared_db2, law.has_field_R, *levels)


def _fit_law(train: Sample) -> _Law:
    """Raise DataError where there are too few readings."""
    heard, truth_m = train["heard"] & (train["weight"] > 0)[:, None], train["position_m"].astype(np.float64)
    if heard.sum() < FEWEST:
        cure = "Give more data, or do without a map: --augmentation.simulated 0, another --model.name."
        raise DataError(explain("radio map", got=f"{heard.sum()} readings", allowed=f"{FEWEST} or more", cure=cure))
    rss_db = train["rss_db"].astype(np.float64)
    reach = decades(truth_m[:, None] - train["receiver_m"].astype(np.float64), np)
    exponent, bias_db, offset_db = _law(rss_db, reach, heard)
    residual_db = rss_db - bias_db + 10 * exponent * reach
    has_field = _fixed(train) & (heard.sum(axis=0) >= FEWEST)
    return _Law(truth_m, heard, exponent, bias_db, offset_db, residual_db, has_field)


def _fields(
    law: _Law,
    columns: np.ndarray,
    stand_m: np.ndarray,
    places_m: np.ndarray,
    config: RadioMapConfig,
    kernels: Kernels | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the law leaves of receivers that stand still: mean and own variance (G, R), shared variance (G,)."""
    heard = law.heard_NR
    shape = len(places_m), heard.shape[1]
    mean_db, own_db2 = np.zeros(shape, np.float32), np.full(shape, config.noise_db**2, np.float32)
    rows = np.flatnonzero(heard[:, columns].any(axis=1))
    if not rows.size:
        return mean_db, own_db2, np.zeros(len(places_m), np.float32)
    here = np.ix_(rows, columns)
    given = law.truth_m_NE[rows], law.residual_db_NR[here], heard[here], places_m
    if kernels is None:
        fields, noise_db = krige(*given, config), np.full(len(columns), config.noise_db)
    else:
        own = Kernels(*(values[columns] for values in kernels))
        fields, noise_db = fit_fields(*given, stand_m, own, offset_db=config.offset_db), own.noise_db_C
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

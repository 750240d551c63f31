"""A propagation model fitted to the training rows: what power to expect of a transmitter anywhere in the region.

Received power is b_r - 10 n log10(d) + o_t + f_r(p) + e: a bias per receiver, a common exponent, an offset per
transmission, a Gaussian process over the transmitter's place for each fixed receiver (`kriging.py`), and noise.
Receivers that move have no field, only a wider spread. What spreads, correlation distances and noise there are is the
config's to say, or is chosen for each receiver by cross-validation (`cross_validation.py`). In the second case signals
are modelled, and receivers may read noise beside them (`propagation.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heimdall_jax.config import RadioMapConfig
from heimdall_jax.geodesy import bounding_box_m
from heimdall_jax.models.radio_map import decades, grid
from heimdall_jax.propagation import reading_db
from heimdall_jax.training.correlation import Kernels
from heimdall_jax.training.cross_validation import cross_validated
from heimdall_jax.training.kriging import krige
from heimdall_jax.training.law import FEWEST, Law, fit_law
from heimdall_jax.training.processes import fit_fields
from heimdall_jax.types import Sample

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
        least_db_R: The weakest signal that was read, or that is told from noise; the weakest of all for receivers never
            heard.
        floor_db_R: Of the noise that a receiver reads, `NO_FLOOR_DB` where it reads signals only.
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
    floor_db_R: np.ndarray

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
        signal_db = mean_db + offset_db + own_db * rng.standard_normal(mean_db.shape)
        rss_db = reading_db(signal_db, self.floor_db_R, np)
        return {
            "position_m": position_m.astype(np.float32),
            "rss_db": rss_db.astype(np.float32),
            "position_error_m": np.zeros(count, np.float32),
        }


def choose_kernels(train: Sample, group_N: np.ndarray) -> Kernels:
    """Each receiver's own (R,), which predict a group best from the others; NaN for those without a field.

    Args:
        train: Stacked training samples (N, ...).
        group_N: Group number of each sample.

    Raises:
        DataError: Too few readings to fit a propagation law.
    """
    law = fit_law(train, floors=True)
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
    law = fit_law(train, floors=kernels is not None)
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
    levels = about_law_db, law.bias_db_R, law.exponent, law.least_db_R, law.floor_db_R
    return RadioMap(config, places_m, mean_db, own_db2, shared_db2, law.has_field_R, *levels)


def _fields(
    law: Law,
    columns: np.ndarray,
    stand_m: np.ndarray,
    places_m: np.ndarray,
    config: RadioMapConfig,
    kernels: Kernels | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the law leaves of receivers that stand still: mean and own variance (G, R), shared variance (G,)."""
    filled = law.filled_NR
    shape = len(places_m), filled.shape[1]
    mean_db, own_db2 = np.zeros(shape, np.float32), np.full(shape, config.noise_db**2, np.float32)
    rows = np.flatnonzero(filled[:, columns].any(axis=1))
    if not rows.size:
        return mean_db, own_db2, np.zeros(len(places_m), np.float32)
    here = np.ix_(rows, columns)
    given = law.truth_m_NE[rows], law.residual_db_NR[here], filled[here], places_m
    if kernels is None:
        fields, noise_db = krige(*given, config), np.full(len(columns), config.noise_db)
    else:
        own = Kernels(*(values[columns] for values in kernels))
        fields, noise_db = fit_fields(*given, stand_m, own, offset_db=config.offset_db), own.noise_db_C
    mean_db[:, columns] = fields.mean_db_GC
    own_db2[:, columns] = (noise_db**2).astype(np.float32) + fields.own_db2_GC.astype(np.float32)
    return mean_db, own_db2, fields.shared_db2_G.astype(np.float32)


def _spread(rest_db: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """Root mean square (R,) of what law and offsets leave (N, R) of each receiver's readings."""
    squared = np.where(heard, rest_db, 0.0) ** 2
    return np.maximum(np.sqrt(squared.sum(axis=0) / np.maximum(heard.sum(axis=0), 1)), LEAST_SPREAD_DB)


def _stands(train: Sample, columns: np.ndarray) -> np.ndarray:
    """Where fixed receivers (n, E) stand."""
    first = train["present"][:, columns].argmax(axis=0)
    return train["receiver_m"][first, columns].astype(np.float64)

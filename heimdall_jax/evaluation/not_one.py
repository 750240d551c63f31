"""Does a recording hold exactly one transmitter? Log odds of two, and of none, from maps of what receivers read.

With reading y_r, mean m_rg and variance v_rg of a transmitter at place g, and a level p ~ N(0, s^2) common to all, the
log-likelihood of a place is that of `models.radio_map`. A receiver's floor N_r is what it reads without any signal.

Two: the powers of places g and h add in watts over the floor, 10 log10(10^(m_rg / 10) + 10^(m_rh / 10) - N_r), at the
variance of the stronger. `gain` is the log-likelihood of the best pair less that of the best place, where s is 1 dB;
`level` is the mean of p at the best place where s is 3 dB, since two transmitters are stronger than one. Pairs are
searched by turns: each place given the other.

None: the third largest of y_r - N_r over the receivers that heard is small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from heimdall_jax.errors import DataError, explain

FLOOR_PERCENTILE, FEWEST_READINGS = 3.0, 20
"""The floor is that percentile of a receiver's readings of single transmitters, if there are so many."""
FEWEST_RECEIVERS = 3
"""That heard, for a recording to be judged."""
PAIR_SPREAD_DB, LEVEL_SPREAD_DB = 1.0, 3.0
"""s of the gain, and of the level."""
ROUNDS = 3
"""Of the search for a pair: how often a place is sought to go with the last one found."""
FAINTEST = 1e-12
"""Least power of a transmitter over the floor, linear, where 1 is 0 dB."""
TWO = (0.316, 0.319, -1.194)
"""Log odds of two: weights of gain and level, and a constant. Logistic regression on sums of the powers of pairs of
POWDER's single recordings against single ones, all of training and validation rows of its time split, by maps fitted
without them."""
NONE = (1.826, 7.006)
"""Log odds of none: weight and constant, likewise, with each reading drawn from its receiver's lowest twentieth."""
VALUES_AT_ONCE = 1_000_000
"""Recordings times receivers times places: bounds the memory."""

Readings = Float64[ndarray, "N F"]
Heard = Bool[ndarray, "N F"]


@dataclass(frozen=True, eq=False)
class PowerMaps:
    """What each of F receivers that stand still reads of a transmitter at each of G places.

    Attributes:
        mean_db_FG: Its mean.
        variance_db2_FG: Its variance.
        floor_db_F: What it reads of none.
    """

    mean_db_FG: Float64[ndarray, "F G"]
    variance_db2_FG: Float64[ndarray, "F G"]
    floor_db_F: Float64[ndarray, " F"]


class NotOne(NamedTuple):
    """Log odds (N,) that a recording holds two transmitters and not one, and that it holds none."""

    two_N: Float64[ndarray, " N"]
    none_N: Float64[ndarray, " N"]

    @property
    def either_N(self) -> Float64[ndarray, " N"]:
        """Log of the sum of both odds."""
        return np.logaddexp(self.two_N, self.none_N)


def floors_db(rss_db_NF: Readings, heard_NF: Heard) -> Float64[ndarray, " F"]:
    """The floor (F,) of each receiver in dB, from recordings of single transmitters; NaN where it heard too few."""
    floor_db = np.full(rss_db_NF.shape[1], np.nan)
    for receiver in np.flatnonzero(heard_NF.sum(axis=0) >= FEWEST_READINGS):
        floor_db[receiver] = np.percentile(rss_db_NF[heard_NF[:, receiver], receiver], FLOOR_PERCENTILE)
    return floor_db


def not_one(rss_db_NF: Readings, heard_NF: Heard, maps: PowerMaps) -> NotOne:
    """Judge recordings by their powers in dB (N, F) at the receivers of `maps`, and which of them heard (N, F).

    Raises:
        DataError: A recording has too few receivers that heard.
    """
    few = heard_NF.sum(axis=1) < FEWEST_RECEIVERS
    if few.any():
        got, cure = f"{int(few.sum())} of {len(few)} heard by fewer", "Leave them out, and count them."
        raise DataError(explain("recordings", got=got, allowed=f"{FEWEST_RECEIVERS} receivers or more", cure=cure))
    size = max(1, VALUES_AT_ONCE // maps.mean_db_FG.size)
    parts = [slice(start, start + size) for start in range(0, max(1, len(rss_db_NF)), size)]
    found = [gain_and_level(rss_db_NF[part], heard_NF[part], maps) for part in parts]
    gain, level_db = (np.concatenate(each) for each in zip(*found, strict=True))
    faint_db = -third_excess_db(rss_db_NF, heard_NF, maps)
    return NotOne(TWO[0] * gain + TWO[1] * level_db + TWO[2], NONE[0] * faint_db + NONE[1])


def third_excess_db(rss_db_NF: Readings, heard_NF: Heard, maps: PowerMaps) -> Float64[ndarray, " N"]:
    """Third largest power over the floor (N,) in dB of the receivers that heard, which are three or more."""
    return np.sort(np.where(heard_NF, rss_db_NF - maps.floor_db_F, -np.inf), axis=1)[:, -3]


def gain_and_level(
    rss_db_BF: Float64[ndarray, "B F"], heard_BF: Bool[ndarray, "B F"], maps: PowerMaps
) -> tuple[Float64[ndarray, " B"], Float64[ndarray, " B"]]:
    """Nats (B,) that the best pair of places gains over the best place, and that place's level (B,) in dB."""
    floor = 10 ** (maps.floor_db_F / 10)[:, None]
    sent = np.maximum(10 ** (maps.mean_db_FG / 10) - floor, FAINTEST)
    readings, variance = (rss_db_BF[..., None], heard_BF[..., None]), maps.variance_db2_FG[None]
    place, _, level_db = _best_place(*readings, maps.mean_db_FG[None], variance, LEVEL_SPREAD_DB)
    _, alone, _ = _best_place(*readings, 10 * np.log10(sent + floor)[None], variance, PAIR_SPREAD_DB)
    together = np.full(len(rss_db_BF), -np.inf)
    for _ in range(ROUNDS):
        first, first_db2 = sent[:, place].T[..., None], maps.variance_db2_FG[:, place].T[..., None]
        mean_db = 10 * np.log10(first + sent + floor)
        place, log_fit, _ = _best_place(*readings, mean_db, np.where(first > sent, first_db2, variance), PAIR_SPREAD_DB)
        together = np.maximum(together, log_fit)
    return together - alone, level_db


def _best_place(
    rss_db: np.ndarray, heard: np.ndarray, mean_db: np.ndarray, variance_db2: np.ndarray, spread_db: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index, log-likelihood and mean level (B,) of the best of G places.

    Readings are (B, F, 1), maps (B or 1, F, G).
    """
    precision = heard / variance_db2
    left_db = rss_db - mean_db
    pull = precision * left_db
    total, pulled, scatter = precision.sum(axis=1), pull.sum(axis=1), (pull * left_db).sum(axis=1)
    spreads = np.where(heard, np.log(variance_db2), 0.0).sum(axis=1)
    widened = 1 + spread_db**2 * total
    log_fit = -0.5 * (spreads + np.log(widened) + scatter - spread_db**2 * pulled**2 / widened)
    best, rows = log_fit.argmax(axis=1), np.arange(len(log_fit))
    return best, log_fit[rows, best], (spread_db**2 * pulled / widened)[rows, best]

"""Does a recording hold exactly one transmitter? Log odds of two, and of none, from what receivers that stand read.

Two: boosted trees learn to tell single recordings from sums of two. A sum has the powers of two recordings of one day
and different chunks that the same receivers heard, added in watts over each receiver's floor, so that neither the day
nor who heard tells it from them. The trees see each receiver's power over its floor, the largest ones in order, how far
these are below the largest, and the differences of receivers. Transmissions last, so that recordings that follow each
other are judged `together`.

None: the third largest power over the floor is small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from heimdall_jax.errors import DataError, explain
from heimdall_jax.evaluation.calibration import chunks

FLOOR_PERCENTILE, FEWEST_READINGS = 3.0, 20
"""The floor is that percentile of a receiver's readings of single transmitters, if there are so many."""
FEWEST_RECEIVERS = 3
"""That heard, for a recording to be judged."""
SIGNAL_DB = 3.0
"""Over the floor, for a reading to be of a signal that adds to another."""
SUMS = 6
"""Sums for each single recording, as many as its day has others for."""
LARGEST = 9
"""Powers that are also given in order."""
WITHIN_S = 60.0
"""Recordings that far apart or nearer are judged together: set by hand, as made-up sums never change with time."""
ABSENT_DB = -50.0
"""Stands for the power over its floor of a receiver that did not hear."""
TREES = {"max_iter": 200, "learning_rate": 0.05, "min_samples_leaf": 60, "l2_regularization": 10.0, "max_features": 0.1}
"""Leaves, their penalty and shares of inputs are of several tried on left-out chunks of POWDER (`docs/accuracy.md`)."""
SUREST = 0.002
"""Added to both probabilities, so that no log odds are infinite."""
NONE = (1.826, 7.006)
"""Log odds of none: weight of the third largest power over the floor and constant. Logistic regression on single
recordings of those rows against ones with each reading drawn from its receiver's lowest twentieth."""
DAY_S = 86_400.0


@dataclass(frozen=True, eq=False)
class Powers:
    """What F receivers read in N recordings.

    Attributes:
        rss_db_NF: Powers.
        heard_NF: Which of them there are.
        start_time_s_N: When, Unix time.
    """

    rss_db_NF: Float64[ndarray, "N F"]
    heard_NF: Bool[ndarray, "N F"]
    start_time_s_N: Float64[ndarray, " N"]

    def __getitem__(self, rows: ndarray | slice) -> Powers:
        return Powers(self.rss_db_NF[rows], self.heard_NF[rows], self.start_time_s_N[rows])

    @classmethod
    def joined(cls, parts: Sequence[Powers]) -> Powers:
        """Recordings by the same receivers, one part after the other."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def of(self, receivers: Bool[ndarray, " F"]) -> Powers:
        """What some of the receivers read."""
        return Powers(self.rss_db_NF[:, receivers], self.heard_NF[:, receivers], self.start_time_s_N)

    @property
    def day_N(self) -> Float64[ndarray, " N"]:
        """Number of each one's day."""
        return day_of(self.start_time_s_N)

    @property
    def enough_N(self) -> Bool[ndarray, " N"]:
        """Whether enough receivers heard for it to be judged."""
        return self.heard_NF.sum(axis=1) >= FEWEST_RECEIVERS


def day_of(start_time_s_N: Float64[ndarray, " N"]) -> Float64[ndarray, " N"]:
    """Number (N,) of the day of each Unix time."""
    return np.floor(start_time_s_N / DAY_S)


class NotOne(NamedTuple):
    """Log odds (N,) that a recording holds two transmitters and not one, and that it holds none."""

    two_N: Float64[ndarray, " N"]
    none_N: Float64[ndarray, " N"]

    @property
    def either_N(self) -> Float64[ndarray, " N"]:
        """Log of the sum of both odds."""
        return np.logaddexp(self.two_N, self.none_N)


def floors_db(singles: Powers) -> Float64[ndarray, " F"]:
    """The floor (F,) of each receiver in dB, from recordings of single transmitters; NaN where it heard too few."""
    floor_db = np.full(singles.rss_db_NF.shape[1], np.nan)
    for receiver in np.flatnonzero(singles.heard_NF.sum(axis=0) >= FEWEST_READINGS):
        heard = singles.heard_NF[:, receiver]
        floor_db[receiver] = np.percentile(singles.rss_db_NF[heard, receiver], FLOOR_PERCENTILE)
    return floor_db


def learn_not_one(singles: Powers, floor_db_F: Float64[ndarray, " F"]) -> Callable[[Powers], NotOne]:
    """A judge of recordings by the same receivers.

    The log odds of two that it gives are each recording's own: `together` makes them those of its minute.

    Args:
        singles: Recordings of single transmitters.
        floor_db_F: Of each receiver.

    Raises:
        DataError: No two of them can be summed; of the judge, a recording has too few receivers that heard.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # slow to import
    from threadpoolctl import threadpool_limits

    singles, sums = singles[singles.enough_N], summed(singles, floor_db_F)
    if not len(sums.day_N):
        cure = "Give more recordings, five minutes or more apart, heard by the same receivers."
        raise DataError(explain("single recordings to sum", got="no two of a day", allowed="pairs", cure=cure))
    inputs = np.concatenate([features(each, floor_db_F) for each in (singles, sums)])
    is_two = np.repeat([False, True], [len(singles.day_N), len(sums.day_N)])
    log_prior = np.log(len(sums.day_N) / len(singles.day_N))
    trees = HistGradientBoostingClassifier(**TREES, random_state=0)
    with threadpool_limits(1, "openmp"):  # on busy cores its threads would wait for each other for minutes
        trees.fit(inputs, is_two)

    def judge(powers: Powers) -> NotOne:
        few = ~powers.enough_N
        if few.any():
            got, cure = f"{int(few.sum())} of {len(few)} heard by fewer", "Leave them out, and count them."
            raise DataError(explain("recordings", got=got, allowed=f"{FEWEST_RECEIVERS} receivers or more", cure=cure))
        if not len(few):
            return NotOne(np.zeros(0), np.zeros(0))
        with threadpool_limits(1, "openmp"):
            one_N, two_N = trees.predict_proba(features(powers, floor_db_F)).T
        third_db = sorted_over_floor_db(powers, floor_db_F)[:, -3]
        log_odds = np.log(two_N + SUREST) - np.log(one_N + SUREST)
        return NotOne(log_odds - log_prior, NONE[1] - NONE[0] * third_db)

    return judge


def summed(singles: Powers, floor_db_F: Float64[ndarray, " F"], *, seed: int = 0) -> Powers:
    """Recordings of two: `SUMS` for each that can be judged, whose time they have, less pairs of one chunk."""
    singles = singles[singles.enough_N]
    kind = np.concatenate([singles.heard_NF, singles.day_N[:, None]], axis=1)
    kind_N, chunk_N = np.unique(kind, axis=0, return_inverse=True)[1].reshape(-1), chunks(singles.start_time_s_N)
    rng, firsts, seconds = np.random.default_rng(seed), [], []
    for number in range(kind_N.max(initial=-1) + 1):
        first = np.repeat(np.flatnonzero(kind_N == number), SUMS)
        second = rng.choice(first, len(first))
        apart = chunk_N[first] != chunk_N[second]
        firsts.append(first[apart])
        seconds.append(second[apart])
    first, second = (np.concatenate([np.zeros(0, np.int64), *rows]) for rows in (firsts, seconds))
    both = singles[first]
    rss_db = _added(both.rss_db_NF, singles.rss_db_NF[second], floor_db_F)
    return Powers(np.where(both.heard_NF, rss_db, 0.0), both.heard_NF, both.start_time_s_N)


def _added(one_db: np.ndarray, other_db: np.ndarray, floor_db: np.ndarray) -> np.ndarray:
    """Readings of two transmitters from those of each; where only one is a signal its own, where none is the first."""
    power = 10 ** (one_db / 10) + 10 ** (other_db / 10) - 10 ** (floor_db / 10)
    signal, other_signal = one_db > floor_db + SIGNAL_DB, other_db > floor_db + SIGNAL_DB
    summed_db = 10 * np.log10(np.where(signal & other_signal, power, 1.0))
    return np.select([signal & other_signal, other_signal], [summed_db, other_db], one_db)


def sorted_over_floor_db(powers: Powers, floor_db_F: Float64[ndarray, " F"]) -> Float64[ndarray, "N F"]:
    """Powers over the floors (N, F) in dB, the largest last."""
    return np.sort(np.where(powers.heard_NF, powers.rss_db_NF - floor_db_F, ABSENT_DB), axis=1)


def features(powers: Powers, floor_db_F: Float64[ndarray, " F"]) -> Float64[ndarray, "N I"]:
    """What the trees see: powers over floors, the largest in order and how far below the first, all differences."""
    over_db = np.where(powers.heard_NF, powers.rss_db_NF - floor_db_F, ABSENT_DB)
    largest_db = sorted_over_floor_db(powers, floor_db_F)[:, ::-1][:, :LARGEST]
    one, other = np.triu_indices(len(floor_db_F), 1)
    both = powers.heard_NF[:, one] & powers.heard_NF[:, other]
    differences_db = np.where(both, over_db[:, one] - over_db[:, other], ABSENT_DB)
    return np.concatenate([over_db, largest_db, largest_db - largest_db[:, :1], differences_db], axis=1)


def together(log_odds_N: Float64[ndarray, " N"], start_time_s_N: Float64[ndarray, " N"]) -> Float64[ndarray, " N"]:
    """Means (N,) of log odds over the recordings within `WITHIN_S` of each."""
    order = np.argsort(start_time_s_N)
    time_s, total = start_time_s_N[order], np.concatenate([[0.0], np.cumsum(log_odds_N[order])])
    first = np.searchsorted(time_s, start_time_s_N - WITHIN_S, "left")
    last = np.searchsorted(time_s, start_time_s_N + WITHIN_S, "right")
    return (total[last] - total[first]) / (last - first)

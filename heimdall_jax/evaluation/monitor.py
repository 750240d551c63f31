"""A watch on receivers over many recordings, without known truths: each reading against what the others make of it.

The posterior of the place given all other readings, and the radio map, predict each reading: a mixture of normals over
the grid, whose mean and variance are kept. With a_r, A and z_r as in `models/radio_map.py`, B = sum a_r z_r and S the
variance of what all readings share, the readings of all but r make it log L = -1/2 [ sum log v + log(1 + S A) +
sum a z^2 - S B^2 / (1 + S A) ] and predict r's as N(m_rg + S B / (1 + S A), v_rg + S / (1 + S A)), the sums without r.

Over a window of recordings a receiver is suspected to be frozen if its readings hardly vary while its predictions do,
shifted if the median of reading less prediction is far from 0, and swapped with another if each fits the other's
predictions better. A failing receiver spoils the predictions of sound ones. So each suspicion is tried: the shift is
taken back, the readings are changed over, and what makes all readings of the window likeliest together is acted upon,
until nothing helps. Readings that were swapped are changed back, a shifted or frozen receiver is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from heimdall_jax.evaluation.faults import exchanged, without
from heimdall_jax.propagation import NOISE_DB, reading_db, reading_slope
from heimdall_jax.types import Sample

FROZEN_SHARE = 0.05
"""Of the predictions' spread; readings that spread less are frozen."""
SHIFTED_DB = 10.0
"""Largest median of reading less prediction of a receiver that is not shifted."""
LEAST_NATS = 0.5
"""Gain in log density of all readings, for each recording that a receiver (a pair) heard, that a finding must bring."""
TRIED = 4
"""Suspicions tried at a time, those first that explain the receiver's, or the pair's, own readings best."""
FEWEST = 10
"""Recordings that a receiver, or a pair, must have heard in the window to be judged."""
TAILS = 4.0
"""Degrees of freedom of the Student law that residuals are judged by: maps err by more than they claim."""
CHUNK = 32
"""Recordings at once: 33 receivers on 4,000 points take 20 MB a table."""
NEAREST_M = 20.0
"""As in `models/radio_map.py`: shorter distances count as this one."""


class MapTables(NamedTuple):
    """A radio map in NumPy: what each of K identities reads from G places; row 0 is any unknown receiver.

    Attributes:
        places_m: Grid points, east, north.
        mean_db: Expected power of the signal at a receiver with a map.
        own_db2: Its variance.
        mapped: Which have a map; the others expect `bias_db - 10 exponent log10(distance)`.
        about_law_db: Their spread about that.
        bias_db: At 1 m.
        floor_db: Of the noise in its readings, `NO_FLOOR_DB` where there is none.
        exponent: Of that law.
        shared_db2: Variance of what all readings of a transmission share: transmit power and map.
        temperature: Divides the log-likelihood.
    """

    places_m: Float[ndarray, "G 2"]
    mean_db: Float[ndarray, "K G"]
    own_db2: Float[ndarray, "K G"]
    mapped: Bool[ndarray, " K"]
    about_law_db: Float[ndarray, " K"]
    bias_db: Float[ndarray, " K"]
    floor_db: Float[ndarray, " K"]
    exponent: float
    shared_db2: Float[ndarray, " G"]
    temperature: float

    def expect(self, samples: Sample) -> tuple[Float[ndarray, "B R G"], Float[ndarray, "B R G"]]:
        """Mean and own variance of each receiver's reading from every place; near its noise both by the slope there."""
        identity = np.where(samples["present"], samples["identity"], 0)
        mean_db, own_db2 = self.mean_db[identity], self.own_db2[identity]
        for row, receiver in zip(*np.nonzero(samples["heard"] & ~self.mapped[identity]), strict=True):
            who = identity[row, receiver]
            offset_m = self.places_m - samples["receiver_m"][row, receiver]
            decades = 0.5 * np.log10(np.maximum(np.sum(offset_m**2, axis=1), NEAREST_M**2))
            mean_db[row, receiver] = self.bias_db[who] - 10.0 * self.exponent * decades
            own_db2[row, receiver] = self.about_law_db[who] ** 2
        floor_db = self.floor_db[identity][..., None]
        slope = reading_slope(mean_db, floor_db, np)
        noise_db2 = (NOISE_DB * (1.0 - slope)) ** 2
        return reading_db(mean_db, floor_db, np), slope**2 * own_db2 + noise_db2


class Prediction(NamedTuple):
    """Of each reading from all others; meaningless where the receiver did not hear or is not trusted."""

    mean_db_NR: Float[ndarray, "N R"]
    variance_db2_NR: Float[ndarray, "N R"]


class Finding(NamedTuple):
    """What is wrong with a receiver.

    Attributes:
        kind: frozen, shifted or swapped.
        receiver: Its column.
        partner: The column it is swapped with; otherwise its own.
        level_db: By how much its readings are shifted, 0 where they are not.
        nats: How much likelier its own readings, or the pair's, are if it is so; infinite for frozen ones.
    """

    kind: str
    receiver: int
    partner: int
    level_db: float
    nats: float


class Window(NamedTuple):
    """Recordings under watch.

    Attributes:
        samples: Stacked (N, R, ...).
        trusted_R: Receivers not left out.
        prediction: Of each reading.
        nats: Log density of all trusted receivers' readings.
    """

    samples: Sample
    trusted_R: Bool[ndarray, " R"]
    prediction: Prediction
    nats: float

    @classmethod
    def of(cls, samples: Sample, trusted_R: Bool[ndarray, " R"], tables: MapTables) -> Window:
        """With what the map makes of it."""
        prediction, counted = leave_one_out(samples, tables, trusted_R), samples["heard"] & trusted_R
        nats = _log_density(samples["rss_db"][counted], *(values[counted] for values in prediction)).sum()
        return cls(samples, trusted_R, prediction, float(nats))


def watch(samples: Sample, tables: MapTables) -> list[Finding]:
    """Everything found in a window of stacked samples (N, R, ...), the most telling first."""
    window, found = Window.of(samples, np.ones(samples["heard"].shape[1], bool), tables), []
    while (finding := _foremost(window, found, tables)) is not None:
        found.append(finding)
        if finding.kind == "swapped":
            window = Window.of(exchanged(window.samples, finding.receiver, finding.partner), window.trusted_R, tables)
        else:
            others = np.arange(len(window.trusted_R)) != finding.receiver
            window = Window.of(window.samples, window.trusted_R & others, tables)
    return found


def cured(samples: Sample, findings: list[Finding]) -> Sample:
    """Stacked samples (N, R, ...) with swapped readings changed back, and without shifted and frozen receivers."""
    distrusted = np.zeros(samples["heard"].shape[1], bool)
    for finding in findings:
        if finding.kind == "swapped":
            samples = exchanged(samples, finding.receiver, finding.partner)
        else:
            distrusted[finding.receiver] = True
    return without(samples, distrusted)


def _foremost(window: Window, found: list[Finding], tables: MapTables) -> Finding | None:
    """The finding to act upon, if any; never one that was acted upon."""
    before = {(each.receiver, each.partner) for each in found}
    suspected = [each for each in suspicions(window) if (each.receiver, each.partner) not in before]
    suspected.sort(key=lambda each: -each.nats)
    if suspected and suspected[0].kind == "frozen":
        return suspected[0]
    heard, best = window.samples["heard"], (window.nats, None)
    for each in suspected[:TRIED]:
        nats = Window.of(_repaired(window.samples, each), window.trusted_R, tables).nats
        recordings = np.sum(heard[:, each.receiver] & heard[:, each.partner])
        if nats > best[0] and nats > window.nats + LEAST_NATS * recordings:
            best = nats, each
    return best[1]


def _repaired(samples: Sample, suspicion: Finding) -> Sample:
    """As they would be if it were so, and the fault undone."""
    if suspicion.kind == "swapped":
        return exchanged(samples, suspicion.receiver, suspicion.partner)
    rss_db = samples["rss_db"].copy()
    rss_db[:, suspicion.receiver] -= suspicion.level_db
    return samples | {"rss_db": rss_db}


def leave_one_out(samples: Sample, tables: MapTables, trusted_R: Bool[ndarray, " R"]) -> Prediction:
    """Predict each reading of stacked samples (N, R, ...) from those of all other trusted receivers."""
    mean_db, variance_db2 = (np.zeros(samples["heard"].shape) for _ in range(2))
    for start in range(0, len(mean_db), CHUNK):
        rows = slice(start, start + CHUNK)
        part = {key: samples[key][rows] for key in ("rss_db", "receiver_m", "heard", "present", "identity")}
        mean_db[rows], variance_db2[rows] = _predicted(part, tables, trusted_R)
    return Prediction(mean_db, variance_db2)


def _predicted(samples: Sample, tables: MapTables, trusted_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances (B, R) of a chunk."""
    heard, shared_db2 = samples["heard"], tables.shared_db2
    expected_db, own_db2 = tables.expect(samples)
    used = (heard & trusted_R)[..., None]
    left_db = np.where(heard, samples["rss_db"], 0.0)[..., None] - expected_db
    precision = np.where(used, 1.0 / own_db2, 0.0).astype(own_db2.dtype)
    terms = precision, precision * left_db, np.where(used, np.log(own_db2), 0.0) + precision * left_db**2
    totals = [term.sum(axis=1) for term in terms]
    mean_db, variance_db2 = (np.zeros(heard.shape) for _ in range(2))
    for receiver in np.flatnonzero(used.any(axis=(0, 2))):
        rows = np.flatnonzero(heard[:, receiver])
        a, b, c = (total[rows] - term[rows, receiver] for total, term in zip(totals, terms, strict=True))
        widened = 1.0 + shared_db2 * a
        log_fit = -0.5 * (np.log(widened) + c - shared_db2 * b**2 / widened) / tables.temperature
        weight = np.exp(log_fit - log_fit.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        at_db = expected_db[rows, receiver] + shared_db2 * b / widened
        mean = np.sum(weight * at_db, axis=1)
        spread_db2 = own_db2[rows, receiver] + shared_db2 / widened + (at_db - mean[:, None]) ** 2
        mean_db[rows, receiver], variance_db2[rows, receiver] = mean, np.sum(weight * spread_db2, axis=1)
    return mean_db, variance_db2


def suspicions(window: Window) -> list[Finding]:
    """Every finding about trusted receivers that their own readings support, each as if it were the only one."""
    samples, suspected = window.samples, []
    judgeable = np.flatnonzero(window.trusted_R & (samples["heard"].sum(axis=0) >= FEWEST))
    for receiver in map(int, judgeable):
        heard = samples["heard"][:, receiver]
        read_db = samples["rss_db"][heard, receiver].astype(np.float64)
        predicted = [values[heard, receiver] for values in window.prediction]
        level_db = float(np.median(read_db - predicted[0]))
        if read_db.std() < FROZEN_SHARE * predicted[0].std():
            suspected.append(Finding("frozen", receiver, receiver, 0.0, np.inf))
        elif abs(level_db) > SHIFTED_DB:
            gain = np.sum(_log_density(read_db - level_db, *predicted) - _log_density(read_db, *predicted))
            suspected.append(Finding("shifted", receiver, receiver, level_db, float(gain)))
    return suspected + _swaps(window, judgeable)


def _swaps(window: Window, receivers: np.ndarray) -> list[Finding]:
    """Pairs among these receivers whose readings fit better when changed over."""
    suspected, heard, rss_db = [], window.samples["heard"], window.samples["rss_db"].astype(np.float64)
    for place, one in enumerate(map(int, receivers)):
        for other in map(int, receivers[place + 1 :]):
            both = heard[:, one] & heard[:, other]
            if both.sum() < FEWEST:
                continue
            read_db, *predicted = (values[both][:, [one, other]] for values in (rss_db, *window.prediction))
            gain = np.sum(_log_density(read_db[:, ::-1], *predicted) - _log_density(read_db, *predicted))
            if gain > 0:
                suspected.append(Finding("swapped", one, other, 0.0, float(gain)))
    return suspected


def _log_density(read_db: np.ndarray, mean_db: np.ndarray, variance_db2: np.ndarray) -> np.ndarray:
    """Nats of readings under Student laws about predictions, up to a constant."""
    squared = (read_db - mean_db) ** 2 / variance_db2
    return -0.5 * ((TAILS + 1.0) * np.log1p(squared / TAILS) + np.log(variance_db2))

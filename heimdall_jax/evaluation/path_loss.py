"""The log-distance path-loss law with censoring: fitted on training samples, and the place that it makes likeliest.

    P_r = level_r + p - 10 n log10(d_r / 1 km) + e_r,    p ~ N(0, spread^2),  e_r ~ N(0, sigma^2)

p is the transmission's own power over the mean, level_r the receiver's calibration. A receiver that is present and did
not hear contributes log Phi((threshold - mean_r) / sigma). p is integrated out in the fit and profiled in the search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float64
from numpy import ndarray

from heimdall_jax.types import Sample

NODES = np.linspace(-4.0, 4.0, 17)
"""Powers, in spreads, over which p is summed: closer together than the narrowest likelihood of p is wide."""
FIT_ROWS = 400
"""Training samples used, evenly spaced: enough for a handful of parameters."""
LEVEL_STD_DB = 20.0
"""Of levels about their mean: holds those of receivers that were never heard."""
EXPONENTS, SPREADS_DB = (1.0, 6.0), (0.1, 30.0)
"""Bounds of the fit."""
NEAREST_M = 10.0
"""Added in quadrature to every distance: an antenna's height, and no logarithm of zero."""
CELLS_PER_SIDE = 32
NEWTON_STEPS = 4
ZOOMS = 9
"""Times that the search halves its step around the best cell."""
CELL_CHUNK = 1_000_000
"""Values computed at once: fixes times cells times receivers."""


@dataclass(frozen=True, eq=False)
class PathLoss:
    """A fitted law.

    Attributes:
        exponent: n.
        level_db_K: Power at 1 km of the mean transmission, by identity; the first is the mean, for unknown receivers.
        sigma_db: Of what the law leaves.
        spread_db: Of transmissions' powers.
        threshold_db: The least power that was heard in training.
        low_m, high_m: East, north of the corners of the training truths' bounding box: where to search.
    """

    exponent: float
    level_db_K: Float64[ndarray, " K"]
    sigma_db: float
    spread_db: float
    threshold_db: float
    low_m: Float64[ndarray, " 2"]
    high_m: Float64[ndarray, " 2"]

    def expected_db(self, samples: Sample, place_m: Float64[ndarray, "N S 2"]) -> Float64[ndarray, "N S R"]:
        """Powers (N, S, R) of the mean transmission at places."""
        return self._level_db(samples)[:, None] - self.exponent * _decades_db(samples, place_m)

    def _level_db(self, samples: Sample) -> np.ndarray:
        return self.level_db_K[np.where(samples["identity"] < len(self.level_db_K), samples["identity"], 0)]


def fit_path_loss(train: Sample) -> PathLoss:
    """The law that makes the training samples' powers likeliest, given where they were sent."""
    rows = np.unique(np.linspace(0, len(train["weight"]) - 1, FIT_ROWS).astype(np.int64))
    some = {key: value[rows] for key, value in train.items()}
    position_m = train["position_m"].astype(np.float64)
    decades = _decades_db(some, some["position_m"].astype(np.float64)[:, None])[:, 0]
    heard, known = some["heard"], int(train["identity"].max(initial=0))
    threshold = float(train["rss_db"][train["heard"]].min(initial=np.inf))
    at_1_km = np.where(heard, some["rss_db"].astype(np.float64) + 3.0 * decades, 0.0)
    mean = at_1_km.sum() / max(heard.sum(), 1)
    # One pseudo-reading of the mean each: receivers never heard start there.
    times = 1 + np.bincount(some["identity"].ravel(), heard.ravel(), minlength=known + 1)
    level = mean + np.bincount(some["identity"].ravel(), (at_1_km - mean * heard).ravel(), minlength=known + 1) / times
    start = np.array([3.0, math.log(6.0), math.log(3.0), *level])
    bounds = [EXPONENTS, *[tuple(np.log(SPREADS_DB))] * 2, *[(None, None)] * (known + 1)]
    fitted = scipy.optimize.minimize(
        _cost, start, args=(some, decades, threshold), jac=True, method="L-BFGS-B", bounds=bounds
    ).x
    sigma, spread = np.exp(fitted[1:3])
    if known and not np.any(heard & (some["identity"] == 0)):
        fitted[3] = fitted[4:].mean()
    low_m, high_m = position_m.min(axis=0), position_m.max(axis=0)
    return PathLoss(float(fitted[0]), fitted[3:], float(sigma), float(spread), threshold, low_m, high_m)


def likeliest_place(law: PathLoss, samples: Sample) -> Float64[ndarray, "N 2"]:
    """East, north (N, 2) in metres: the best cell of a grid over the region, refined by halving steps around it."""
    unit = (np.arange(CELLS_PER_SIDE) + 0.5) / CELLS_PER_SIDE
    grid = np.stack(np.meshgrid(unit, unit), axis=-1).reshape(-1, 2)
    around = np.stack(np.meshgrid(*2 * [np.arange(-2.0, 3.0)]), axis=-1).reshape(-1, 2)
    count, receivers = samples["heard"].shape
    chunk = max(1, CELL_CHUNK // (len(grid) * receivers))
    places = np.empty((count, 2))
    for start in range(0, count, chunk):
        some = {key: value[start : start + chunk] for key, value in samples.items()}
        candidates = np.tile(law.low_m + (law.high_m - law.low_m) * grid, (len(some["weight"]), 1, 1))
        step_m = (law.high_m - law.low_m) / CELLS_PER_SIDE
        for _ in range(ZOOMS + 1):
            best = np.argmax(log_likelihood(law, some, candidates), axis=1)
            at_m = candidates[np.arange(len(best)), best]
            step_m = step_m / 2
            candidates = np.clip(at_m[:, None] + step_m * around, law.low_m, law.high_m)
        places[start : start + chunk] = at_m
    return places


def _decades_db(samples: Sample, place_m: np.ndarray) -> np.ndarray:
    """10 log10(d / 1 km) (N, S, R) of places (N, S, 2)."""
    away_m = place_m[:, :, None] - samples["receiver_m"].astype(np.float64)[:, None]
    return 5 * np.log10((np.sum(away_m**2, axis=-1) + NEAREST_M**2) / 1e6)


def _cost(values: np.ndarray, samples: Sample, decades: np.ndarray, threshold: float) -> tuple[float, np.ndarray]:
    """Minus the log likelihood of a law, and its gradient by (n, log sigma, log spread, levels)."""
    exponent, sigma, spread, level = values[0], math.exp(values[1]), math.exp(values[2]), values[3:]
    identity, heard = samples["identity"], samples["heard"][..., None]
    silent = (samples["present"] & ~samples["heard"])[..., None]
    mean = (level[identity] - exponent * decades)[..., None] + spread * NODES
    off = (np.where(heard, samples["rss_db"][..., None], threshold) - mean) / sigma
    log_silent, pull_silent = _silence(off)
    log_each = np.where(heard, -0.5 * off**2 - math.log(sigma), np.where(silent, log_silent, 0.0))
    by_off = np.where(heard, -off, np.where(silent, pull_silent, 0.0))
    log_node = log_each.sum(axis=1) - 0.5 * NODES**2
    share = scipy.special.softmax(log_node, axis=1)[:, None]
    highest = log_node.max(axis=1)
    total = np.sum(highest + np.log(np.exp(log_node - highest[:, None]).sum(axis=1)))
    by_mean = -by_off * share / sigma
    by_receiver = by_mean.sum(axis=2)
    by_level = np.bincount(identity.ravel(), by_receiver.ravel(), minlength=len(level))
    by_log_sigma = -np.sum((by_off * off + heard) * share)
    by_log_spread = np.sum(by_mean * NODES) * spread
    apart = level - level.mean()
    gradient = [-np.sum(by_receiver * decades), by_log_sigma, by_log_spread, *(by_level - apart / LEVEL_STD_DB**2)]
    return -(total - 0.5 * np.sum(apart**2) / LEVEL_STD_DB**2), -np.array(gradient)


def _silence(off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log Phi(x), and its derivative."""
    log_share = scipy.special.log_ndtr(off)
    return log_share, np.exp(-0.5 * off**2 - 0.5 * math.log(2 * math.pi) - log_share)


def log_likelihood(law: PathLoss, samples: Sample, place_m: np.ndarray) -> np.ndarray:
    """Log likelihood (N, S) of places (N, S, 2), at the transmitted power that makes it highest.

    Where all heard that power is flat between, its integral is the same times a constant.
    """
    heard, silent = samples["heard"][:, None], (samples["present"] & ~samples["heard"])[:, None]
    limit = np.where(heard, samples["rss_db"].astype(np.float64)[:, None], law.threshold_db)
    off = (limit - law.expected_db(samples, place_m)) / law.sigma_db
    prior = (law.sigma_db / law.spread_db) ** 2
    stiffness = heard.sum(axis=-1) + prior
    # Powers in sigmas. Newton's method on a concave function, from the answer of the receivers that heard.
    sent = np.sum(np.where(heard, off, 0.0), axis=-1) / stiffness
    for _ in range(NEWTON_STEPS if silent.any() else 0):
        rest = off - sent[..., None]
        _, pull = _silence(rest)
        by_each = np.where(heard, rest, np.where(silent, -pull, 0.0))
        slope = by_each.sum(axis=-1) - sent * prior
        bend = stiffness + np.sum(np.where(silent, pull * (pull + rest), 0.0), axis=-1)
        sent = sent + slope / bend
    rest = off - sent[..., None]
    log_each = np.where(heard, -0.5 * rest**2, 0.0)
    if silent.any():
        log_each = log_each + np.where(silent, scipy.special.log_ndtr(rest), 0.0)
    return log_each.sum(axis=-1) - 0.5 * prior * sent**2

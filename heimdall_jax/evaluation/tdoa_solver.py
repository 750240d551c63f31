"""Robust Gauss-Newton on arrival times with the time of sending as a nuisance, N fixes at once. float64.

    minimise over p, t0:   sum_i rho((t_i - t0 - d_i(p) / c) / sigma_i) + |p - centre|^2 / reach^2

rho is Huber's loss: an arrival more than `HUBER` sigmas off pulls as if it were that far. The last term is all that is
taken for known beforehand: the transmitter is somewhere about the stations that heard it. It costs at most 2 within the
region that is searched; it chooses between two places that fit equally well (three stations leave two), and bounds the
covariance where times say nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy

from heimdall_jax.evaluation.ranges import Path, distance_and_slope, distance_m
from heimdall_jax.geodesy import SPEED_OF_LIGHT_M_PER_S

HUBER = 2.0
"""Sigmas: 99 % efficient on Gaussian errors (Huber, Annals of Mathematical Statistics 35, 1964)."""
CELLS_PER_SIDE = 41
STARTS = 6
"""Places from which Gauss-Newton starts."""
RING, RING_RADIUS = 8, 0.25
"""Places on a ring about every station, and its radius in cells: times bend most there, within one cell."""
FIX_CHUNK = 64
LONGEST_STEP = 0.1
"""A step is cut to this share of the reach: two cells."""
RECENTRINGS = 6
"""Reweighted means that find the time of sending at a place."""
TEMPERS = (0.5, 0.5, 0.2, 0.2, 0.05, 0.05, 0.01, 0.01, *(0.0,) * 12)
"""Cells, as time, added to every arrival's spread at each step: far from the minimum the cost is then smooth."""


class Problem(NamedTuple):
    """What a fix is made of, seconds and metres; rows of zero weight are not used.

    Attributes:
        arrival_s_NR: Arrival times about a common zero.
        variance_s2_NR: Of each, clocks and propagation included; infinite where unused.
        receiver_m_NRX: East, north, up.
        centre_m_NE: Of the region.
        reach_m_N: From the centre to each side of the region.
    """

    arrival_s_NR: np.ndarray
    variance_s2_NR: np.ndarray
    receiver_m_NRX: np.ndarray
    centre_m_NE: np.ndarray
    reach_m_N: np.ndarray


class Fixes(NamedTuple):
    """N fixes.

    Attributes:
        position_m_NE: East, north.
        covariance_m2_NEE: Inverse of the Gauss-Newton information, robust weights and prior included, inflated by the
            reduced chi-square where there is one and it is above 1.
        residual_s_NR: Arrival less what the fix explains; 0 where unused.
        weight_NR: Huber's, 1 for an arrival within `HUBER` sigmas; 0 where unused.
        chi_square_N: Reduced, over receivers less three; NaN with three or fewer.
        ambiguous_N: Another place, more than three sigmas away, fits within 2 units of twice the log likelihood.
    """

    position_m_NE: np.ndarray
    covariance_m2_NEE: np.ndarray
    residual_s_NR: np.ndarray
    weight_NR: np.ndarray
    chi_square_N: np.ndarray
    ambiguous_N: np.ndarray


def solve(problem: Problem, *, origin_deg: tuple[float, float], path: Path = "space") -> Fixes:
    """The best place of each problem: the lowest cells of a grid, then Gauss-Newton from each."""
    cell_s = problem.reach_m_N * 2 / (CELLS_PER_SIDE - 1) / SPEED_OF_LIGHT_M_PER_S
    place_m = _starts(problem, cell_s, origin_deg, path)
    for temper in TEMPERS:
        place_m = _step(problem, place_m, temper * cell_s, origin_deg, path)
    cost, *_ = _judge(problem, place_m, 0.0 * cell_s, origin_deg, path)
    fix, best = np.arange(len(cost)), np.argmin(cost, axis=1)
    at_m = place_m[fix, best]
    residual_s, weight, information = (part[:, 0] for part in _linearise(problem, at_m[:, None], origin_deg, path))
    freedom = np.isfinite(problem.variance_s2_NR).sum(axis=1) - 3
    excess = np.sum(_huber(residual_s / np.sqrt(problem.variance_s2_NR)), axis=1)
    chi_square = np.divide(excess, freedom, out=np.full(len(fix), np.nan), where=freedom > 0)
    covariance = np.linalg.inv(information) * np.fmax(chi_square, 1.0)[:, None, None]
    away_m = place_m - at_m[:, None]
    apart = np.einsum("nse,nef,nsf->ns", away_m, np.linalg.inv(covariance), away_m)
    rival = (cost < cost[fix, best][:, None] + 2.0) & (apart > 9.0)
    return Fixes(at_m, covariance, residual_s, weight, chi_square, rival.any(axis=1))


def cost(problem: Problem, place_m_NSE: np.ndarray, *, origin_deg: tuple[float, float], path: Path) -> np.ndarray:
    """What is minimised, (N, S), at places (N, S, 2): minus twice the log of their density, up to a constant."""
    return _judge(problem, place_m_NSE, np.zeros(len(place_m_NSE)), origin_deg, path)[0]


def _huber(z: np.ndarray) -> np.ndarray:
    """Twice Huber's loss: z^2, and beyond `HUBER` its tangent."""
    size = np.abs(z)
    return np.where(size <= HUBER, z**2, HUBER * (2 * size - HUBER))


def _starts(problem: Problem, cell_s: np.ndarray, origin_deg: tuple[float, float], path: Path) -> np.ndarray:
    """Places (N, S, 2): the lowest local minima of the grid, and the lowest on rings about two stations."""
    grid = np.stack(np.meshgrid(*2 * [np.linspace(-1, 1, CELLS_PER_SIDE)]), axis=-1).reshape(-1, 2)
    turn = np.arange(RING) * (2 * np.pi / RING)
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=-1) * RING_RADIUS
    chosen = []
    for start in range(0, len(cell_s), FIX_CHUNK):
        part = Problem(*(field[start : start + FIX_CHUNK] for field in problem))
        temper_s = TEMPERS[0] * cell_s[start : start + FIX_CHUNK]
        fix, cell_m = np.arange(len(temper_s))[:, None], part.reach_m_N * 2 / (CELLS_PER_SIDE - 1)
        grid_m = part.centre_m_NE[:, None] + part.reach_m_N[:, None, None] * grid
        cost = _local_minima(_judge(part, grid_m, temper_s, origin_deg, path)[0])
        lowest = grid_m[fix, np.argsort(cost, axis=1)[:, : STARTS - 2]]
        ring_m = part.receiver_m_NRX[:, :, None, :2] + cell_m[:, None, None, None] * ring
        cost = _judge(part, ring_m.reshape(len(fix), -1, 2), temper_s, origin_deg, path)[0]
        cost = cost.reshape(ring_m.shape[:3])
        stations = np.argsort(cost.min(axis=2), axis=1)[:, :2]
        near = ring_m[fix, stations, np.argmin(cost, axis=2)[fix, stations]]
        chosen.append(np.concatenate([lowest, near], axis=1))
    return np.concatenate(chosen)


def _local_minima(cost: np.ndarray) -> np.ndarray:
    """Costs (N, G) on the square grid, infinite where one of the eight neighbours is lower."""
    square = cost.reshape(-1, CELLS_PER_SIDE, CELLS_PER_SIDE)
    lowest_about = scipy.ndimage.minimum_filter(square, size=(1, 3, 3), mode="nearest")
    return np.where(square <= lowest_about, square, np.inf).reshape(cost.shape)


def _step(
    problem: Problem, place_m: np.ndarray, temper_s: np.ndarray, origin_deg: tuple[float, float], path: Path
) -> np.ndarray:
    """Places (N, S, 2) after one step from places; a step that climbs is quartered, and then not taken."""
    cost, late_s, weight = _judge(problem, place_m, temper_s, origin_deg, path)
    slope, information = _information(problem, place_m, weight, origin_deg, path)
    off_m = problem.centre_m_NE[:, None] - place_m
    downhill = np.einsum("nsr,nsr,nsre->nse", weight, late_s, slope) + off_m / problem.reach_m_N[:, None, None] ** 2
    step_m = np.linalg.solve(information, downhill[..., None])[..., 0]
    length_m = np.linalg.norm(step_m, axis=-1)
    longest_m = LONGEST_STEP * problem.reach_m_N[:, None]
    step_m *= (longest_m / np.maximum(length_m, longest_m))[..., None]
    for share in (1.0, 0.25):
        there_m = place_m + share * step_m
        better = _judge(problem, there_m, temper_s, origin_deg, path)[0] < cost
        place_m = np.where(better[..., None], there_m, place_m)
        step_m = np.where(better[..., None], 0.0, step_m)
    return place_m


def _linearise(
    problem: Problem, place_m: np.ndarray, origin_deg: tuple[float, float], path: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Residuals (N, S, R) in seconds, Huber's weights (N, S, R), and the information (N, S, 2, 2) at places."""
    _, late_s, weight = _judge(problem, place_m, np.zeros(len(place_m)), origin_deg, path)
    _, information = _information(problem, place_m, weight, origin_deg, path)
    used = np.isfinite(problem.variance_s2_NR)[:, None]
    share = np.where(used, weight * np.where(used, problem.variance_s2_NR[:, None], 0.0), 0.0)
    return np.where(used, late_s, 0.0), share, information


def _judge(
    problem: Problem, place_m: np.ndarray, temper_s: np.ndarray, origin_deg: tuple[float, float], path: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The cost (N, S) of places (N, S, 2), how late each arrival is (N, S, R), and its weight in 1 / s^2."""
    ranges_m = distance_m(place_m, problem.receiver_m_NRX[:, None], origin_deg, path)
    late_s = problem.arrival_s_NR[:, None] - ranges_m / SPEED_OF_LIGHT_M_PER_S
    precision = np.broadcast_to(1 / (problem.variance_s2_NR + temper_s[:, None] ** 2)[:, None], late_s.shape)
    weight = precision
    for _ in range(RECENTRINGS):
        total = np.maximum(weight.sum(axis=-1, keepdims=True), np.finfo(np.float64).tiny)
        late_s = late_s - np.sum(weight * late_s, axis=-1, keepdims=True) / total
        sigmas = np.abs(late_s) * np.sqrt(precision)
        weight = precision * np.minimum(1.0, HUBER / np.maximum(sigmas, HUBER))
    off = (place_m - problem.centre_m_NE[:, None]) / problem.reach_m_N[:, None, None]
    cost = np.sum(_huber(late_s * np.sqrt(precision)), axis=-1) + np.sum(off**2, axis=-1)
    return cost, late_s, weight


def _information(
    problem: Problem, place_m: np.ndarray, weight: np.ndarray, origin_deg: tuple[float, float], path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Change of the times (N, S, R, 2) by metre, the common time removed, and the information (N, S, 2, 2)."""
    _, slope = distance_and_slope(place_m, problem.receiver_m_NRX[:, None], origin_deg, path)
    slope = slope / SPEED_OF_LIGHT_M_PER_S
    total = np.maximum(weight.sum(axis=-1), np.finfo(np.float64).tiny)
    slope = slope - (np.einsum("nsr,nsre->nse", weight, slope) / total[..., None])[..., None, :]
    prior = np.eye(2) / problem.reach_m_N[:, None, None, None] ** 2
    return slope, np.einsum("nsr,nsre,nsrf->nsef", weight, slope, slope) + prior

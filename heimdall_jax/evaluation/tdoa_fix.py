"""Place of a transmitter from the delays between pairs of receivers, their clocks, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from heimdall_jax.errors import DataError, explain
from heimdall_jax.evaluation.arrivals import arrival_times_s, largest_connected, noise_variance_s2
from heimdall_jax.evaluation.ranges import Path
from heimdall_jax.evaluation.tdoa_solver import Problem, solve

REACH_FACTOR = 2.0
"""The region reaches this many half diagonals of the stations' bounding box from its centre, on each side."""


@dataclass(frozen=True, eq=False)
class FixDetails:
    """How a fix came about.

    Attributes:
        used_R: Receivers whose times were compared.
        sigma_s_R: Standard deviation that each arrival was given; infinite where unused.
        residual_s_R: Arrival less what the fix explains.
        weight_R: Huber's, 0 to 1.
        chi_square: Reduced; NaN with three receivers.
        ambiguous: Another place fits as well.
        centre_m: East, north of the region's centre.
        reach_m: From there to each side.
        problem: What was solved, as one of N = 1.
    """

    used_R: Bool[ndarray, " R"]
    sigma_s_R: Float64[ndarray, " R"]
    residual_s_R: Float64[ndarray, " R"]
    weight_R: Float64[ndarray, " R"]
    chi_square: float
    ambiguous: bool
    centre_m: tuple[float, float]
    reach_m: float
    problem: Problem

    @property
    def arrival_s_R(self) -> Float64[ndarray, " R"]:
        """Arrival times about a common zero; meaningless where unused."""
        return self.problem.arrival_s_NR[0]


def locate_by_times(
    tdoa_s_RR: Float64[ndarray, "R R"],
    precision_per_s2_RR: Float64[ndarray, "R R"],
    *,
    clock_sigma_s_R: Float64[ndarray, " R"],
    extra_sigma_s: float,
    receiver_m_RX: Float64[ndarray, "R 3"],
    origin_deg: tuple[float, float],
    path: Path = "space",
) -> tuple[Float64[ndarray, " 2"], Float64[ndarray, "2 2"], FixDetails]:
    """East, north (2,) in metres, covariance (2, 2) in square metres, and details of one transmission.

    Args:
        tdoa_s_RR: Arrival at i less arrival at j; ignored where the precision is 0.
        precision_per_s2_RR: 1 / variance of each pair's delay from noise alone; symmetric, 0 where there is none.
        clock_sigma_s_R: Of each receiver's time; infinite where it cannot be used.
        extra_sigma_s: Of all else that moves each arrival: propagation, receiver delay.
        receiver_m_RX: East, north, up; for `ground`, of the ground below.
        origin_deg: Latitude, longitude of the local frame's origin.
        path: The straight line in `space`, or along the `ground`.

    Raises:
        DataError: Fewer than three receivers' times can be compared.
    """
    problem = pose(
        tdoa_s_RR[None],
        precision_per_s2_RR[None],
        clock_sigma_s_NR=clock_sigma_s_R[None],
        extra_sigma_s=extra_sigma_s,
        receiver_m_NRX=receiver_m_RX[None],
    )
    used = np.isfinite(problem.variance_s2_NR[0])
    if used.sum() < 3:
        cure = "Two unknowns and the time of sending need three; see why the others were refused."
        raise DataError(explain("place by times", got=f"{used.sum()} usable receivers", allowed="3 or more", cure=cure))
    fixes = solve(problem, origin_deg=origin_deg, path=path)
    details = FixDetails(
        used_R=used,
        sigma_s_R=np.sqrt(problem.variance_s2_NR[0]),
        residual_s_R=fixes.residual_s_NR[0],
        weight_R=fixes.weight_NR[0],
        chi_square=float(fixes.chi_square_N[0]),
        ambiguous=bool(fixes.ambiguous_N[0]),
        centre_m=(float(problem.centre_m_NE[0, 0]), float(problem.centre_m_NE[0, 1])),
        reach_m=float(problem.reach_m_N[0]),
        problem=problem,
    )
    return fixes.position_m_NE[0], fixes.covariance_m2_NEE[0], details


def pose(
    tdoa_s_NRR: Float64[ndarray, "N R R"],
    precision_per_s2_NRR: Float64[ndarray, "N R R"],
    *,
    clock_sigma_s_NR: Float64[ndarray, "N R"],
    extra_sigma_s: float,
    receiver_m_NRX: Float64[ndarray, "N R 3"],
) -> Problem:
    """Pair delays as arrival times with independent errors, and the region that the stations in use suggest.

    The region is a square about the middle of their bounding box, `REACH_FACTOR` half diagonals to each side.
    """
    usable = np.isfinite(clock_sigma_s_NR)
    precision = np.where(usable[:, :, None] & usable[:, None, :], precision_per_s2_NRR, 0.0)
    used = largest_connected(precision)
    precision = np.where(used[:, :, None] & used[:, None, :], precision, 0.0)
    clock = np.where(used, clock_sigma_s_NR, np.inf)
    variance = noise_variance_s2(precision) + clock**2 + extra_sigma_s**2
    place_m = receiver_m_NRX[..., :2]
    # Fixes without any pair keep the box of all their stations.
    shown = (used | ~used.any(axis=1, keepdims=True))[..., None]
    low, high = np.where(shown, place_m, np.inf).min(axis=1), np.where(shown, place_m, -np.inf).max(axis=1)
    reach_m = REACH_FACTOR * np.maximum(np.linalg.norm(high - low, axis=1) / 2, 1.0)
    return Problem(arrival_times_s(tdoa_s_NRR, precision), variance, receiver_m_NRX, (low + high) / 2, reach_m)

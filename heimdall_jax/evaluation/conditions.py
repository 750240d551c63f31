"""What fused fixes are worth under one condition (clocks, echoes), beside the bound and either half of the evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Float64, Shaped
from numpy import ndarray

from heimdall_jax.evaluation.bounds import binds, pooled_r68
from heimdall_jax.evaluation.calibration import bootstrap_interval, inside_region, squared_mahalanobis
from heimdall_jax.evaluation.summary import Errors, error_summary, ground_error_m
from heimdall_jax.types import Sample

STRONG_DB, STRONG_RECEIVERS = 15.0, 4
"""A fix counts where so many receivers heard with at least this SNR in the sampled band."""
NEAR_M = 30.0
RESAMPLES, DRAWS = 400, 16
"""Of the bootstrap of a ratio, and of each fix's own normal distribution in it."""


class Condition(NamedTuple):
    """The fixes made under one condition, N of them.

    Attributes:
        error_m_N: Distance of the answer from the truth.
        offset_m_NE: Truth less answer.
        covariance_m2_NEE: The answer's.
        bound_m2_NEE: The bound's covariance.
        others: Errors (N,) of other answers, by name.
        truth_m_NE: Where the transmitters were.
        station_m_RE: Where the receivers are.
    """

    error_m_N: Float64[ndarray, " N"]
    offset_m_NE: Float64[ndarray, "N 2"]
    covariance_m2_NEE: Float64[ndarray, "N 2 2"]
    bound_m2_NEE: Float64[ndarray, "N 2 2"]
    others: Mapping[str, Float64[ndarray, " N"]]
    truth_m_NE: Float64[ndarray, "N 2"]
    station_m_RE: Float64[ndarray, "R 2"]

    @classmethod
    def of(
        cls,
        samples: Sample,
        answer: tuple[Float64[ndarray, "N 2"], Float64[ndarray, "N 2 2"]],
        bound_m2: Float64[ndarray, "N 2 2"],
        origin_deg: tuple[float, float],
        others: Mapping[str, Float64[ndarray, "N 2"]] = MappingProxyType({}),
    ) -> Condition:
        """From samples with truth, positions and covariances answered, and other positions by name."""
        truth_m, (position_m, covariance_m2) = samples["position_m"], answer
        return cls(
            error_m_N=ground_error_m(position_m, truth_m, origin_deg),
            offset_m_NE=truth_m - position_m,
            covariance_m2_NEE=covariance_m2,
            bound_m2_NEE=bound_m2,
            others={name: ground_error_m(place_m, truth_m, origin_deg) for name, place_m in others.items()},
            truth_m_NE=truth_m.astype(np.float64),
            station_m_RE=samples["receiver_m"][0].astype(np.float64),
        )

    def at(self, chosen: Bool[ndarray, " N"]) -> Condition:
        """The chosen fixes."""
        return self._replace(
            error_m_N=self.error_m_N[chosen],
            offset_m_NE=self.offset_m_NE[chosen],
            covariance_m2_NEE=self.covariance_m2_NEE[chosen],
            bound_m2_NEE=self.bound_m2_NEE[chosen],
            others={name: errors[chosen] for name, errors in self.others.items()},
            truth_m_NE=self.truth_m_NE[chosen],
        )


def by_clock(
    condition: Condition, clock_sigma_s_NR: Shaped[ndarray, "N R"], usable_N: Bool[ndarray, " N"]
) -> list[dict[str, Any]]:
    """A row for each clock that all receivers of a fix share, for mixed ones, and for fixes without usable times."""
    first = clock_sigma_s_NR[:, 0]
    alike = (clock_sigma_s_NR == first[:, None]).all(axis=1)
    groups = {f"clocks {spoken_s(float(clock))}": alike & usable_N & (first == clock) for clock in np.unique(first)}
    groups |= {"clocks mixed": ~alike & usable_N, "times unusable": ~usable_N}
    return [{"name": name} | judge(condition.at(chosen)) for name, chosen in groups.items() if chosen.sum() > 1]


def spoken_s(seconds: float) -> str:
    """A time with three digits and its unit: 50 ns, 1 us, 1 ms."""
    for unit, size in (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def strong(snr_db_NR: Float64[ndarray, "N R"], heard_NR: Bool[ndarray, "N R"]) -> Bool[ndarray, " N"]:
    """Which transmissions (N,) enough receivers heard well."""
    return np.sum(heard_NR & (snr_db_NR >= STRONG_DB), axis=1) >= STRONG_RECEIVERS


def judge(condition: Condition) -> dict[str, Any]:
    """One row: errors, bound, the ratio of their 68 % radii with its 95 % bootstrap interval, and coverage.

    `bound_binds` is false where the bound's radius is so large that knowing the region beats it.
    """
    squared = squared_mahalanobis(condition.offset_m_NE, condition.covariance_m2_NEE)
    inside = inside_region(squared, 0.68)
    hull = scipy.spatial.Delaunay(condition.station_m_RE).find_simplex(condition.truth_m_NE) >= 0
    near = condition.error_m_N <= NEAR_M
    bound_m = pooled_r68(condition.bound_m2_NEE, np.random.default_rng(0))
    region_m = math.sqrt(float(np.prod(np.ptp(condition.truth_m_NE, axis=0))))
    errors: dict[str, Errors] = {"fused": error_summary(condition.error_m_N)}
    errors |= {name: error_summary(other) for name, other in condition.others.items()}
    return {
        "n": len(inside),
        "error_m": errors,
        "bound_p68_m": bound_m,
        "bound_binds": binds(bound_m, region_m),
        "ratio_p68": errors["fused"]["p68"] / bound_m,
        "ratio_interval": ratio_interval(condition.error_m_N, condition.bound_m2_NEE),
        "coverage_68": float(inside.mean()),
        "coverage_interval": bootstrap_interval(inside),
        "within_30_m": float(near.mean()),
        "n_in_hull": int(hull.sum()),
        "within_30_m_in_hull": float(near[hull].mean()) if hull.any() else None,
    }


def ratio_interval(
    error_m: Float64[ndarray, " N"], bound_m2: Float64[ndarray, "N 2 2"], *, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap over fixes of the 68 % radius of errors over that of draws from their bounds."""
    rng = np.random.default_rng(seed)
    spread = np.sqrt(np.linalg.eigvalsh(bound_m2))
    radius = np.linalg.norm(rng.normal(size=(len(error_m), DRAWS, 2)) * spread[:, None], axis=-1)
    ratios = np.empty(RESAMPLES)
    for resample in range(RESAMPLES):
        rows = rng.integers(0, len(error_m), len(error_m))
        ratios[resample] = np.quantile(error_m[rows], 0.68) / np.quantile(radius[rows], 0.68)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(low), float(high)
